"""Readers: every format gives the same table, and bad input is counted or refused by file and line."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recbole_drex.data.raw.columns import ids
from recbole_drex.data.raw.readers import read_items, read_reviews
from recbole_drex.errors import ConfigError, DataError

# user, item, rating, seconds, title, text
ROWS = [
    ("A1", "B1", 5.0, 1_541_808_000, "Great", "It works,\nand well."),
    ("A2", "B1", None, 1_541_808_001, "", 'Said "no" é niemals.'),
    ("A1", "B2", 0.5, None, "Bad", None),
    ("A3", "B3", 3.5, 0, None, "  "),
]
TEXTS = ["Great. It works,\nand well.", 'Said "no" é niemals.', "Bad", ""]


def line(user="U", item="I", **others):
    return {
        "user_id": user,
        "parent_asin": item,
        "rating": 4.0,
        "timestamp": 1_541_808_000_000,
        "text": "fine",
    } | others


def write(path, lines):
    """Write strings or objects as lines."""
    path.write_text(
        "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in lines), encoding="utf-8"
    )
    return path


def amazon(rows, year):
    for user, item, rating, time, title, text in rows:
        if year == 2023:
            time = None if time is None else 1000 * time
            yield {"rating": rating, "title": title, "text": text, "images": [], "asin": "x", "parent_asin": item} | {
                "user_id": user,
                "timestamp": time,
            }
        else:
            row = {"reviewerID": user, "asin": item, "overall": rating, "summary": title, "reviewText": text}
            yield {key: value for key, value in (row | {"unixReviewTime": time}).items() if value is not None}


@pytest.fixture(
    params=[
        "2023.jsonl",
        "2018.json",
        "2018.json.gz",
        "r.csv",
        "r.csv.gz",
        "r.tsv",
        "r.parquet",
        "zip.jsonl",
        "2023.jsonl.zst",
    ]
)
def reviews(request, tmp_path):
    """The four rows in every format."""
    path = tmp_path / request.param
    frame = pd.DataFrame(ROWS, columns=["user_id", "item_id", "rating", "timestamp", "title", "text"])
    frame["timestamp"] = frame["timestamp"].astype("Int64")
    if "json" in request.param:
        content = "".join(json.dumps(row) + "\n" for row in amazon(ROWS, 2018 if "2018" in request.param else 2023))
        packed = request.param.startswith("zip") or request.param.endswith("gz")
        zstd = request.param.endswith("zst")
        pack = gzip.compress if packed else lambda data: pa.compress(data, "zstd", asbytes=True) if zstd else data
        path.write_bytes(pack(content.encode()))
    elif request.param.endswith("parquet"):
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False, sep="\t" if "tsv" in request.param else ",")
    return path


def test_every_format_gives_the_same(reviews, tmp_path):
    raw = read_reviews(reviews, tmp_path / "new" / "spill.parquet")
    frame = raw.frame
    assert frame["user_id"].astype(str).tolist() == ["A1", "A2", "A1", "A3"]
    assert frame["item_id"].astype(str).tolist() == ["B1", "B1", "B2", "B3"]
    np.testing.assert_array_equal(frame["rating"], [5, np.nan, 0.5, 3.5])
    np.testing.assert_array_equal(frame["timestamp"], [1_541_808_000, 1_541_808_001, np.nan, 0])
    assert frame["has_review"].tolist() == [True, True, True, False]
    assert frame["row"].tolist() == [0, 1, 2, 3]
    assert all(isinstance(name, str) for name in frame["user_id"].cat.categories)
    assert frame[["rating", "timestamp", "row"]].dtypes.astype(str).tolist() == ["float64", "float64", "int64"]
    assert raw.texts(np.array([3, 0, 1, 2, 0])) == [TEXTS[row] for row in (3, 0, 1, 2, 0)]
    content = reviews.read_bytes()
    assert raw.sources == [
        {
            "name": reviews.name,
            "bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
            "lines": 4,
            "bad_lines": 0,
            "reasons": [],
        }
    ]
    without = read_reviews(reviews, tmp_path / "spill2.parquet", use_title=False)
    assert without.frame["has_review"].tolist() == [True, True, False, False]
    assert without.texts(np.arange(4))[0] == "It works,\nand well."


def test_several_files_share_ids_and_spill(tmp_path):
    one = write(tmp_path / "a.jsonl", [line("u", "i", text="one"), line("v", "i", text="two")])
    two = write(tmp_path / "b.jsonl", [line("v", "j", text="three")])
    raw = read_reviews([one, str(two)], tmp_path / "s.parquet")
    assert raw.frame["user_id"].tolist() == ["u", "v", "v"]
    assert raw.texts(np.array([2, 1, 0])) == ["three", "two", "one"]
    assert [source["lines"] for source in raw.sources] == [2, 1]


def test_column_mapping(tmp_path):
    path = tmp_path / "r.csv"
    path.write_text("who,what,stars,when\n7,9,4,2018-11-10\n", encoding="utf-8")
    mapping = {"user_id": "who", "item_id": "what", "rating": "stars"}
    raw = read_reviews(path, tmp_path / "s.parquet", columns=mapping)
    assert raw.frame[["user_id", "item_id", "rating"]].iloc[0].tolist() == ["7", "9", 4.0]
    with pytest.raises(
        DataError, match=r"r\.csv: no column 'text' \(looked for words\).*found: who, what, stars, when"
    ):
        read_reviews(path, tmp_path / "s.parquet", columns=mapping | {"text": "words"})
    with pytest.raises(ConfigError, match="did you mean 'rating'"):
        read_reviews(path, tmp_path / "s.parquet", columns={"ratings": "stars"})


def test_parquet_moments_and_whole_number_ids(tmp_path):
    moments = pd.to_datetime(["2018-11-10", None, "1971-01-01"])
    frame = pd.DataFrame({"user_id": [1, 2, 3], "item_id": [4, 4, 4], "rating": [1, 2, 3], "timestamp": moments})
    frame.to_parquet(tmp_path / "r.parquet")
    raw = read_reviews(tmp_path / "r.parquet", tmp_path / "s.parquet")
    np.testing.assert_array_equal(raw.frame["timestamp"], [1_541_808_000, np.nan, 31_536_000])
    assert raw.frame["user_id"].tolist() == ["1", "2", "3"]


BAD = {
    "cut off": ('{"user_id": "U", "pare', "not JSON"),
    "no object": ("[1, 2]", "not a JSON object"),
    "infinite": ('{"user_id": "U", "parent_asin": "I", "rating": Infinity}', "rating is 'Infinity'"),
    "no user": (line(user=None), "user_id is None"),
    "blank item": (line(item=" "), "item_id is ' '"),
    "item is a list": (line(item=["I"]), r"item_id is \['I'\]"),
    "tab in the user": (line(user="a\tb"), "user_id is"),
    "line break in the user": (line(user="a\nb"), "user_id is"),
    "NUL in the item": (line(item="a\0b"), "item_id is"),
    "nobody": (line(user="[PAD]"), r"user_id is '\[PAD\]'"),
    "true as user": (line(user=True), "user_id is True"),
    "rating too high": (line(rating=5.5), r"rating is 5\.5"),
    "rating too low": (line(rating=0), "rating is 0"),
    "rating a word": (line(rating="four"), "rating is 'four'"),
    "rating infinite": (line(rating="inf"), "rating is 'inf'"),
    "rating nan": (line(rating="nan"), "rating is 'nan'"),
    "rating true": (line(rating=True), "rating is True"),
    "rating a list": (line(rating=[4]), "rating is"),
    "time negative": (line(timestamp=-1), "timestamp is -1"),
    "time far": (line(timestamp=4_102_444_801_000), "timestamp is"),
    "time a word": (line(timestamp="monday"), "timestamp is 'monday'"),
    "text a number": (line(text=3), "text is 3"),
    "too long": ('{"text": "' + "x" * (1 << 24) + '"}', "longer than 16 MiB"),
}


@pytest.mark.parametrize("case", BAD)
def test_malformed_rows_are_counted_or_refused(tmp_path, case):
    bad, reason = BAD[case]
    path = write(tmp_path / "r.jsonl", [line("u1"), "", bad, line("u2")])
    raw = read_reviews(path, tmp_path / "s.parquet", bad_line_share=0.34)
    assert raw.frame["user_id"].tolist() == list(raw.frame["user_id"].cat.categories) == ["u1", "u2"]
    assert raw.texts(np.array([0, 1])) == ["fine", "fine"]
    assert (raw.sources[0]["lines"], raw.sources[0]["bad_lines"]) == (3, 1)
    assert raw.sources[0]["reasons"][0].startswith("r.jsonl:3: ")
    with pytest.raises(
        DataError,
        match=rf"1 of 3 rows \(33\.333%\) are malformed, more than bad_line_share = 0\.100% .*r\.jsonl:3: {reason}",
    ):
        read_reviews(path, tmp_path / "s2.parquet")
    assert not (tmp_path / "s2.parquet").exists()


@pytest.mark.parametrize("value", [None, "", "  "])
def test_missing_is_not_malformed(tmp_path, value):
    rows = [line(rating=value, timestamp=value, text=value), {"user_id": "u", "parent_asin": "i"}]
    frame = read_reviews(write(tmp_path / "r.jsonl", rows), tmp_path / "s.parquet").frame
    assert frame[["rating", "timestamp"]].isna().all(axis=None)
    assert not frame["has_review"].any()


def test_details_of_json_lines(tmp_path):
    rows = [line(" u ", "i", rating="4.5", timestamp="1541808000000"), {"user_id": "u", "asin": "j", "rating": 4}]
    path = write(tmp_path / "r.jsonl", rows)
    path.write_bytes(b"\xef\xbb\xbf\n" + path.read_bytes().replace(b"\n", b"\r\n") + b"{")
    raw = read_reviews(path, tmp_path / "s.parquet", bad_line_share=0.5)
    frame = raw.frame
    assert raw.sources[0]["reasons"][0].startswith("r.jsonl:4: ")
    assert frame["user_id"].tolist() == ["u", "u"]
    assert frame["item_id"].tolist() == ["i", "j"]
    assert frame["rating"].tolist() == [4.5, 4.0]
    assert frame["timestamp"].tolist()[0] == 1_541_808_000


def refuse(path, tmp_path, match):
    with pytest.raises(DataError, match=match) as caught:
        read_reviews(path, tmp_path / "s.parquet")
    assert path.name in str(caught.value)
    assert not list(tmp_path.glob("*s.parquet*"))


def test_unusable_files(tmp_path):
    good = "".join(json.dumps(row) + "\n" for row in amazon(ROWS, 2023)).encode() * 500
    packed = gzip.compress(good)
    files = {
        "empty.jsonl": (b"", "is empty"),
        "blank.jsonl": (b"\n\n", "has no rows"),
        "header.csv": (b"user_id,item_id\n", "has no rows"),
        "cut.jsonl.gz": (packed[: len(packed) // 2], "truncated"),
        "damaged.jsonl.gz": (packed[:100] + bytes(50) + packed[150:], "damaged|truncated"),
        "noise.jsonl.gz": (b"PK" + packed, "not JSON"),
        "cut.jsonl.bz2": (bz2.compress(good)[:-9], "truncated bzip2"),
        "cut.jsonl.zst": (pa.compress(good, "zstd", asbytes=True)[:-9], "truncated Zstandard"),
        "wide.jsonl": (good.decode().encode("utf-16"), "UTF-16"),
        "latin.jsonl": (
            json.dumps(line(text="na\xefve"), ensure_ascii=False).encode("latin-1"),
            r"latin\.jsonl:1: not JSON",
        ),
        "latin.csv": ("user_id,item_id,text\nu,i,na\xefve\n".encode("latin-1"), r"latin\.csv:2: not UTF-8"),
        "r.xml": (good, "unknown extension '.xml'. Legal values: .jsonl"),
        "r.parquet": (b"PAR1 no", "not a readable Parquet"),
        "keys.jsonl": (b'{"user": "u", "asin": "i"}\n', "no column 'user_id'.*found: user, asin"),
        "names.csv": (
            b"user_id:item_id\nu:i\n",
            r"no column 'user_id'.*in the header; found: user_id:item_id\. If that is a row of data.*--columns",
        ),
        "fields.tsv": (b"user_id\titem_id\nu\ti\nu\n", r"fields\.tsv:3: 1 fields where the header has 2"),
        "open.csv": (
            b'user_id,item_id,text\nu,i,fine\nu,j,"never closed\nu,k,lost\n',
            r"open\.csv:3: a quotation mark",
        ),
        "array.json": (b'[\n{"user_id": "u"}\n]\n', r"no column 'item_id'"),
    }
    for name, (content, match) in files.items():
        (tmp_path / name).write_bytes(content)
        refuse(tmp_path / name, tmp_path, match)
    pd.DataFrame({"user_id": ["u"]}).to_parquet(tmp_path / "one.parquet")
    refuse(tmp_path / "one.parquet", tmp_path, "no column 'item_id'.*found: user_id")
    refuse(tmp_path / "nowhere.jsonl", tmp_path, "does not exist")
    (tmp_path / "folder.jsonl").mkdir()
    refuse(tmp_path / "folder.jsonl", tmp_path, "is a folder")
    with pytest.raises(DataError, match="no review file"):
        read_reviews([], tmp_path / "s.parquet")


def test_rows_after_a_malformed_csv_row_are_read(tmp_path):
    path = tmp_path / "r.csv"
    path.write_text('user_id,item_id,text\nu,i,"a" b\nv,j,"two\nlines"\nw,k,x\n', encoding="utf-8")
    raw = read_reviews(path, tmp_path / "s.parquet", bad_line_share=0.5)
    assert raw.frame["user_id"].tolist() == ["v", "w"]
    assert raw.texts(np.arange(2)) == ["two\nlines", "x"]
    assert raw.sources[0]["reasons"][0].startswith("r.csv:2: ")


def test_texts_over_many_blocks(tmp_path):
    texts = [f"{number} " + "word " * (number % 50) for number in range(30_000)]
    path = tmp_path / "r.jsonl.gz"
    rows = [line(f"u{number % 99}", f"i{number}", text=text) for number, text in enumerate(texts)]
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    raw = read_reviews(path, tmp_path / "s.parquet")
    chosen = np.random.default_rng(3).integers(0, len(texts), 500)
    assert raw.texts(chosen) == [texts[row].strip() for row in chosen]
    assert raw.texts(np.array([], int)) == []
    assert raw.frame["item_id"].tolist() == [f"i{number}" for number in range(30_000)]
    for outside in (-1, 30_000):
        with pytest.raises(IndexError):
            raw.texts(np.array([0, outside]))
    raw.spills[0].write_bytes(raw.spills[0].read_bytes()[:5000])
    with pytest.raises(DataError, match="review texts"):
        raw.texts(chosen)


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30)
IDS = st.text("abcXYZ019_-é", min_size=1, max_size=6)
SETTINGS = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@SETTINGS
@given(st.lists(st.tuples(IDS, IDS, st.none() | st.floats(0.5, 5), TEXT, TEXT), min_size=1, max_size=20))
def test_json_and_csv_agree_on_any_text(tmp_path, rows):
    frame = pd.DataFrame(rows, columns=["user_id", "item_id", "rating", "title", "text"])
    write(tmp_path / "r.jsonl", [dict(zip(frame.columns, row, strict=True)) for row in rows])
    frame.to_csv(tmp_path / "r.csv", index=False, lineterminator="\n")
    results = [read_reviews(tmp_path / name, tmp_path / f"{name}.s") for name in ("r.jsonl", "r.csv")]
    expected = []
    for *_, title, text in rows:
        expected.append(". ".join(part for part in (title.strip(), text.strip()) if part))
    for raw in results:
        assert raw.frame["user_id"].tolist() == [row[0] for row in rows]
        np.testing.assert_array_equal(raw.frame["rating"], [np.nan if row[2] is None else row[2] for row in rows])
        assert raw.frame["has_review"].tolist() == [bool(text) for text in expected]
    assert results[0].texts(np.arange(len(rows))) == expected
    # A carriage return cannot be distinguished from a line end in CSV.
    assert [text.split() for text in results[1].texts(np.arange(len(rows)))] == [text.split() for text in expected]


@SETTINGS
@given(st.lists(st.binary(max_size=40), max_size=20))
def test_any_bytes_are_read_or_refused(tmp_path, lines):
    """No input raises anything but a DataError, and every line is accounted for."""
    valid = json.dumps(line()).encode()
    path = tmp_path / "r.jsonl"
    path.write_bytes(b"\n".join([valid, *lines, valid]))
    raw = read_reviews(path, tmp_path / "s.parquet", bad_line_share=1.0)
    assert raw.sources[0]["lines"] - raw.sources[0]["bad_lines"] == len(raw.frame) >= 2
    for suffix in ("csv", "tsv", "parquet", "json.gz"):
        other = tmp_path / f"r.{suffix}"
        other.write_bytes(b"user_id,item_id\nu,i\n" + b"\n".join(lines))
        try:
            read_reviews(other, tmp_path / "s.parquet", bad_line_share=1.0)
        except DataError as error:
            assert str(other) in str(error)


def test_items(tmp_path):
    rows = [
        {
            "parent_asin": "I1",
            "title": "A  game\t",
            "description": ["One.", "Two."],
            "categories": ["Video Games", "PC"],
            "features": ["For two.", "Ages 8 and up"],
            "store": "Ravens",
        },
        {"parent_asin": "I2", "title": None, "description": [], "categories": []},
        {"parent_asin": "I1", "title": "again"},
        {"asin": "I3", "description": "plain", "feature": ["of 2018"], "brand": 3},
    ]
    (tmp_path / "m.jsonl.gz").write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    items = read_items(tmp_path / "m.jsonl.gz")
    assert items.columns.tolist() == ["item_id", "title", "categories", "description", "brand", "features"]
    assert items.to_numpy().tolist() == [
        ["I1", "A game", "Video_Games PC", "One. Two.", "Ravens", "For two. Ages 8 and up"],
        ["I2", "", "", "", "", ""],
        ["I3", "", "", "plain", "", "of 2018"],
    ]
    items.to_csv(tmp_path / "m.tsv", sep="\t", index=False)
    items.to_parquet(tmp_path / "m.parquet")
    for name in ("m.tsv", "m.parquet"):
        pd.testing.assert_frame_equal(read_items(tmp_path / name), items)


def test_items_of_no_use(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        read_items(tmp_path / "meta.jsonl")
    with pytest.raises(DataError, match="no column 'item_id'"):
        read_items(write(tmp_path / "m.jsonl", [{"title": "x"}]))
    with pytest.raises(DataError, match="title is 3"):
        read_items(write(tmp_path / "m.jsonl", [{"asin": "I", "title": 3}]))


@given(st.lists(st.none() | st.text(st.sampled_from("aZ[PAD]~! \t\x7f\x00é\u2003"), max_size=6) | st.just("[PAD]")))
def test_an_id_does_not_depend_on_its_neighbours(texts):
    """Columns of visible characters alone are judged otherwise than others."""
    together = ids(pa.array(texts, pa.string())).to_pylist()
    assert together == [ids(pa.array([text], pa.string()))[0].as_py() for text in texts]
    assert together == ids(pa.array([*texts, "é"], pa.string())).to_pylist()[:-1]
