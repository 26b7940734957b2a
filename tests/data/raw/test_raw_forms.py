"""Raw files in common forms give the right values, or an error that names the parameter."""

from __future__ import annotations

import bz2
import csv
import datetime
import gzip
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from recbole_drex.cli.main import main
from recbole_drex.data.prepare.sources import find_sources
from recbole_drex.data.raw.readers import read_items, read_reviews
from recbole_drex.errors import ConfigError, DataError
from recbole_drex.experiments.run import load_experiment
from recbole_drex.explain.recommender import Recommender

HEADER = "user_id\titem_id\trating\ttext\n"
NAN = float("nan")


def put(path: Path, content: str | bytes | pd.DataFrame) -> Path:
    if isinstance(content, pd.DataFrame):
        content.to_parquet(path)
    else:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def read(path: Path, **options):
    """(user, item, rating, time, text) of every row, and how many rows were malformed."""
    raw = read_reviews(path, path.with_name("spill.parquet"), **options)
    frame = raw.frame
    columns = [frame[name].tolist() for name in ("user_id", "item_id", "rating", "timestamp")]
    assert raw.sources[0]["lines"] == len(frame) + raw.sources[0]["bad_lines"]
    return list(zip(*columns, raw.texts(frame["row"].to_numpy()), strict=True)), raw.sources[0]["bad_lines"]


# Quotation marks -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "lines, texts, malformed",
    [
        (['a\tx\t5\t"Best so far', "b\ty\t4\tgood", 'c\tz\t3\t27"', "d\tx\t1\tbad"],
         ['"Best so far', "good", '27"', "bad"], 0),
        (['a\tx\t5\t"It ""works""', 'and well."', "b\ty\t4\tgood"], ['It "works"\nand well.', "good"], 0),
        (['a\tx\t5\t"never closed', "", "lost", "b\ty\t4\tgood", "", "lost"], ['"never closed', "good"], 2),
        (['"a"\tx\t5\t"all ""quoted"""', 'b\t"y"\t4\t6" by 8"'], ['all "quoted"', '6" by 8"'], 0),
        (['a\tx\t5\t"two', 'fields"\tmore', "b\ty\t4\tgood"], ['"two', "good"], 1),
        (['a\tx\t5\t"', 'b\ty\t4\t"', "c\tz\t3\t"], ['"', '"', ""], 0),
    ],
)  # fmt: skip
def test_every_line_of_a_tsv_file_is_read_or_counted(tmp_path, lines, texts, malformed):
    path = put(tmp_path / "r.tsv", HEADER + "".join(line + "\n" for line in lines))
    rows, bad = read(path, bad_line_share=1.0)
    assert ([row[4] for row in rows], bad) == (texts, malformed)
    assert [row[:2] for row in rows] == [("a", "x"), ("b", "y"), ("c", "z"), ("d", "x")][: len(rows)]


def test_lines_that_a_quotation_mark_swallowed_in_csv_are_counted(tmp_path):
    path = put(tmp_path / "r.csv", 'user_id,item_id,text\na,x,"one\nb,y,two\nc,z,"three\nd,x,four\n')
    rows, bad = read(path, bad_line_share=1.0)
    assert ([row[0] for row in rows], bad) == (["d"], 3)


def _atomic(folder: Path, name: str) -> Path:
    """Users rate items; ids and titles begin with quotation marks that nothing closes."""
    (folder / name).mkdir(parents=True)
    quote = ("", '"')
    rows = [
        f"{quote[user % 2]}u{user}\ti{(user + index) % 16}\t{1 + (user * index) % 5}"
        for user in range(16)
        for index in range(12)
    ]
    put(folder / name / f"{name}.inter", "user_id:token\titem_id:token\trating:float\n" + "\n".join(rows) + "\n")
    items = [f'i{item}\t"Tale {item}' for item in range(16)]
    put(folder / name / f"{name}.item", "item_id:token\ttitle:token_seq\n" + "\n".join(items) + "\n")
    return folder


def test_atomic_files_of_others_have_no_quoting(tmp_path):
    arguments = ["--dataset", "plain", "--data_path", str(_atomic(tmp_path / "data", "plain")), "--model", "Bias"]
    arguments += ["--output", str(tmp_path / "out"), "--no_references", "--threads", "1"]
    assert main(["run", *arguments]) == 0
    result = json.loads((tmp_path / "out" / "plain" / "Bias" / "seed-2026" / "result.json").read_text())
    assert (result["data"]["users"], result["data"]["interactions"]) == (16, 192)
    recommender = Recommender(load_experiment(tmp_path / "out" / "plain" / "Bias" / "seed-2026"))
    assert {recommender.title(item) for item in range(1, 17)} == {f'"Tale {item}' for item in range(16)}


def test_atomic_files_of_this_project_are_read_as_they_were_written(tmp_path):
    names = ['"', 'a"b', '"c"', "Ann Lee"]
    rows = [
        (user, f"item {item} (i{item:02d})", 1 + (item + index) % 5)
        for index, user in enumerate(names)
        for item in range(12)
        if item != index
    ]
    raw = put(
        tmp_path / "r.jsonl",
        "".join(json.dumps(dict(zip(("user_id", "item_id", "rating"), row, strict=True))) + "\n" for row in rows),
    )
    common = ["--dataset", "own", "--data_path", str(tmp_path / "data")]
    assert main(["prepare", *common, "--raw", str(raw), "--user_min", "1", "--item_min", "1"]) == 0
    assert main(["run", *common, "--model", "Bias", "--no_references", "--output", str(tmp_path / "out")]) == 0
    kept = pd.read_parquet(tmp_path / "out" / "own" / "Bias" / "seed-2026" / "interactions.parquet")
    key = ["user_id", "item_id", "rating"]
    assert sorted(map(tuple, kept[key].astype({"rating": int}).to_numpy())) == sorted(rows)


# The first alias that holds a value ------------------------------------------------------------------------------

ALIASES = [
    {"user_id": "u", "parent_asin": "", "asin": "i", "rating": 5.0, "text": " ", "reviewText": "good"},
    {"user_id": "u", "parent_asin": "p", "asin": "j", "rating": 4.0, "text": "first", "reviewText": "second"},
    {"user_id": "u", "parent_asin": None, "asin": "k", "rating": None, "text": None, "reviewText": None},
]


@pytest.mark.parametrize("name", ["r.jsonl", "r.json", "r.csv", "r.tsv", "r.parquet", "mixed.jsonl"])
def test_the_first_alias_that_holds_a_value_counts(tmp_path, name):
    frame = pd.DataFrame(ALIASES)
    if name == "r.json":
        content = json.dumps(ALIASES)
    elif name.endswith("jsonl"):  # a number among the ids is read otherwise
        rows = [{**row, "note": NAN} if name == "mixed.jsonl" else row for row in ALIASES]
        content = "".join(json.dumps(row) + "\n" for row in rows)
    else:
        content = frame if name == "r.parquet" else frame.to_csv(index=False, sep="\t" if name == "r.tsv" else ",")
    rows, bad = read(put(tmp_path / name, content))
    assert [(row[1], row[4]) for row in rows] == [("i", "good"), ("p", "first"), ("k", "")]
    np.testing.assert_array_equal([row[2] for row in rows], [5, 4, NAN])
    assert not bad


def test_an_empty_list_is_no_value(tmp_path):
    path = put(tmp_path / "m.jsonl", '{"asin": "i", "categories": [], "category": ["Toys", "Board Games"]}\n')
    assert read_items(path)["categories"].tolist() == ["Toys Board_Games"]


# Times -----------------------------------------------------------------------------------------------------------

NOON = 1_393_668_672  # 2014-03-01 10:11:12 UTC
DAY = 1_393_632_000
TIMES = {
    "2014-03-01 10:11:12": NOON, "2014-03-01T10:11:12Z": NOON, "2014-03-01T12:11:12+02:00": NOON,
    "2014-03-01 10:11:12.5": NOON + 0.5, "2014-03-01": DAY, " 03 1, 2014 ": DAY, "03 01, 2014": DAY,
    "Mar 1, 2014": DAY, "March 1, 2014": DAY, "Sat Mar 01 02:11:12 -0800 2014": NOON,
    NOON: NOON, NOON * 10**3: NOON, NOON * 10**6: NOON, NOON * 10**9: NOON, str(NOON * 1000): NOON, "": NAN,
}  # fmt: skip


@pytest.mark.parametrize("name", ["r.jsonl", "r.csv"])
def test_times_as_texts_and_numbers_of_any_unit(tmp_path, name):
    frame = pd.DataFrame({"user_id": "u", "item_id": [f"i{n}" for n in range(len(TIMES))], "timestamp": list(TIMES)})
    lines = "".join(json.dumps(row) + "\n" for row in frame.to_dict("records"))
    rows, bad = read(put(tmp_path / name, lines if "json" in name else frame.to_csv(index=False)))
    np.testing.assert_array_equal([row[3] for row in rows], list(TIMES.values()))
    assert not bad


@pytest.mark.parametrize("time", ["01/03/2014", "now", "2014-13-01", "1969-12-31", "2101-01-01"])
def test_invalid_times_are_refused(tmp_path, time):
    path = put(tmp_path / "r.csv", f"user_id,item_id,timestamp\nu,i,{time}\n")
    with pytest.raises(DataError, match=rf"r\.csv:2: timestamp is '{time}', in {{'user_id': 'u'.*") as caught:
        read(path)
    assert "dates such as 2014-03-01 10:11:12" in str(caught.value)


@pytest.mark.parametrize("kind", ["timestamp[s]", "timestamp[ms]", "timestamp[us]", "timestamp[ns]", "zone", "date32"])
def test_times_of_parquet(tmp_path, kind):
    moment = datetime.datetime(2014, 3, 1, 10, 11, 12, tzinfo=datetime.timezone.utc)
    if kind == "date32":
        times, expected = pa.array([moment.date(), None], pa.date32()), DAY
    elif kind == "zone":
        times, expected = pa.array([moment, None], pa.timestamp("us", "Europe/Berlin")), NOON
    else:
        times, expected = pa.array([moment.replace(tzinfo=None), None], pa.timestamp(kind[10:-1])), NOON
    pa.parquet.write_table(
        pa.table({"user_id": ["u", "v"], "item_id": ["i", "i"], "timestamp": times}), tmp_path / "r.parquet"
    )
    np.testing.assert_array_equal([row[3] for row in read(tmp_path / "r.parquet")[0]], [expected, NAN])


def test_nanoseconds_that_no_microsecond_holds(tmp_path):
    times = pa.array([NOON * 10**9 + 1], pa.timestamp("ns"))
    pa.parquet.write_table(pa.table({"user_id": ["u"], "item_id": ["i"], "timestamp": times}), tmp_path / "r.parquet")
    assert read(tmp_path / "r.parquet")[0][0][3] == pytest.approx(NOON, abs=1e-6)


# JSON ------------------------------------------------------------------------------------------------------------

OBJECTS = [
    {"user_id": "u", "asin": "i", "rating": 4, "text": "a NaN, too"},
    {"user_id": "v", "asin": "j", "rating": NAN, "text": "é\U0001f600"},
]
FOUND = [("u", "i", 4.0, "a NaN, too"), ("v", "j", NAN, "é\U0001f600")]


@pytest.mark.parametrize(
    "content",
    [
        "".join(json.dumps(row) + "\n" for row in OBJECTS),
        json.dumps(OBJECTS),
        json.dumps(OBJECTS, indent=2, ensure_ascii=False),
        "\ufeff [\n" + ",\n".join(map(json.dumps, OBJECTS)) + "\n]\n",
        "".join(f"{row!r}\n" for row in [OBJECTS[0], {**OBJECTS[1], "rating": None}]),
    ],
    ids=["lines", "array", "indented", "array of lines", "Python"],
)
def test_json_of_any_form(tmp_path, content, monkeypatch):
    monkeypatch.setattr("recbole_drex.data.raw.json_lines._READ", 7)
    monkeypatch.setattr("recbole_drex.data.raw.formats._HEAD", 24)
    rows, bad = read(put(tmp_path / "r.json", content))
    assert [(row[0], row[1], row[4]) for row in rows] == [(row[0], row[1], row[3]) for row in FOUND]
    np.testing.assert_array_equal([row[2] for row in rows], [row[2] for row in FOUND])
    assert not bad


@pytest.mark.parametrize(
    "content, said",
    [
        ('[\n{"user_id": "u", "asin": "i"},\n{"user_id": "u",', r"r\.json:3: damaged or cut off JSON array"),
        ('[{"user_id": "u", "asin": "i"},\n\n{"user_id" "u"}]', r"r\.json:3: damaged or cut off JSON array"),
        ('[{"user_id": "u", "asin": "i"},\n[3]]', r"1 of 2 rows .* r\.json:2: not a JSON object"),
        ('[{"user_id": "u", "asin": "i"},\n{"user_id": "u", "asin": "\\ud800"}]', r"r\.json:2: not a JSON object"),
        ("[]", "has no rows"),
        (
            '[{"user_id": "u", "asin": "i", "rating": 9}, {"user_id": "v", "asin": "i", "rating": 8}]',
            r"First: r\.json:1: rating is 9, in {'user_id': 'u'",
        ),
        ('{"user_id": "u", "asin": "i"}\n{"user_id": "u", "asin"', r"r\.json:2: not JSON: .*, in '{\"user_id\": \"u\""),
        ("{'user_id': __import__('os')}", r"r\.json:1: not JSON"),
    ],
)
def test_damaged_json_is_named_by_its_line(tmp_path, content, said):
    with pytest.raises(DataError, match=said):
        read(put(tmp_path / "r.json", content))


def test_item_lines_of_2014(tmp_path):
    rows = [
        {
            "asin": "0001",
            "title": "Girls' Ballet",
            "categories": [["Sports & Outdoors", "Boats"], ["Sports & Outdoors"]],
        },
        {"asin": "0002", "related": {"also_bought": ["x"]}, "brand": "Ravens", "description": "For two."},
    ]
    items = read_items(put(tmp_path / "meta.json", "".join(f"{row!r}\n" for row in rows)))
    assert items.to_numpy().tolist() == [
        ["0001", "Girls' Ballet", "Sports_&_Outdoors Boats", "", "", ""],
        ["0002", "", "", "For two.", "Ravens", ""],
    ]
    pd.DataFrame(rows)[["asin", "categories"]].to_parquet(tmp_path / "meta.parquet")
    assert read_items(tmp_path / "meta.parquet")["categories"].tolist() == ["Sports_&_Outdoors Boats", ""]


# CSV -------------------------------------------------------------------------------------------------------------

POSITIONS = {"user_id": 0, "item_id": 1, "rating": 2, "text": 3}


@pytest.mark.parametrize(
    "name, content, columns",
    [
        ("r.csv", 'u,i,4,"a; b, c"\nv,j,5,x\n', POSITIONS),
        ("r.csv", '0,1,2,3\nu,i,4,"a; b, c"\nv,j,5,x\n', POSITIONS),
        ("r.tsv", "u\ti\t4\ta; b, c\nv\tj\t5\tx\n", POSITIONS),
        ("r.csv", 'u;i;4;"a; b, c"\nv;j;5;x\n', POSITIONS),
        ("r.csv", 'user_id;item_id;rating;text\nu;i;4;"a; b, c"\nv;j;5;x\n', None),
        ("r.csv", '"user_id";"item_id";"rating";"a, text"\nu;i;4;"a; b, c"\nv;j;5;x\n', {"text": "a, text"}),
        ("r.csv", "user_id\titem_id\trating\ttext\nu\ti\t4\ta; b, c\nv\tj\t5\tx\n", None),
        ("r.csv", 'user_id,item_id,rating,text\nu,i,4,"a; b, c"\nv,j,5,x\n', None),
        ("r.parquet", pd.DataFrame({"0": ["u", "v"], "1": ["i", "j"], "2": [4, 5], "3": ["a; b, c", "x"]}), POSITIONS),
    ],
)  # fmt: skip
def test_separators_and_files_without_a_header(tmp_path, name, content, columns):
    rows, bad = read(put(tmp_path / name, content), columns=columns)
    assert [(*row[:3], row[4]) for row in rows] == [("u", "i", 4.0, "a; b, c"), ("v", "j", 5.0, "x")]
    assert not bad


def test_the_error_for_a_file_without_a_header_names_columns(tmp_path):
    with pytest.raises(DataError, match=r"no column 'user_id'.*found: u, i, 4\. If that .*--columns \"{user_id: 0,"):
        read(put(tmp_path / "r.csv", "u,i,4\n"))
    with pytest.raises(DataError, match=r"no column 'text' \(looked for 7\)"):
        read(put(tmp_path / "r.csv", "u,i,4\n"), columns={"user_id": 0, "item_id": 1, "text": 7})


def test_item_files_have_columns_and_a_share_of_their_own(tmp_path):
    path = put(tmp_path / "m.csv", "id;name;kind\n1;Toy Tale (i01);Film\n;lost;\n")
    columns = {"item_id": "id", "title": "name", "categories": "kind"}
    assert read_items(path, columns=columns, bad_line_share=0.5).to_numpy().tolist() == [
        ["1", "Toy Tale (i01)", "Film", "", "", ""]
    ]
    with pytest.raises(DataError, match=r"more than bad_line_share.*--item_columns.*m\.csv:3: item_id is ''"):
        read_items(path, columns=columns)
    with pytest.raises(ConfigError, match="did you mean 'title'"):
        read_items(path, columns={"titel": "name"})


# Ids and ratings -------------------------------------------------------------------------------------------------


def test_ids_are_texts_with_spaces_or_whole_numbers(tmp_path):
    frame = pd.DataFrame({"user_id": [100.0, 2.0], "item_id": ["Toy Tale (i01)", " Ann & Lee, 2/3 "]})
    assert [row[:2] for row in read(put(tmp_path / "r.parquet", frame))[0]] == [
        ("100", "Toy Tale (i01)"),
        ("2", "Ann & Lee, 2/3"),
    ]
    with pytest.raises(DataError, match=r"r\.parquet:2: user_id is 2\.5"):
        read(put(tmp_path / "r.parquet", frame.assign(user_id=[100.0, 2.5])))


@pytest.mark.parametrize("ratings", [[1, 5, 10], [0, 50, 100], [-10, 0.5, 10]])
def test_other_scales_name_what_was_seen(tmp_path, ratings):
    lines = "".join(f"u,i{number},{rating}\n" for number, rating in enumerate(ratings))
    path = put(tmp_path / "r.csv", "user_id,item_id,rating\n" + lines)
    low, high = f"{min(ratings):g}", f"{max(ratings):g}"
    with pytest.raises(DataError, match=rf"Ratings are between {low} and {high},") as caught:
        read(path)
    assert f'--rating_range "[{low}, {high}]" or --rating_range auto' in str(caught.value)
    assert ("--missing_rating 0" in str(caught.value)) == (min(ratings) == 0)
    for legal in ("auto", [min(ratings), max(ratings)]):
        assert [row[2] for row in read(path, rating_range=legal)[0]] == ratings
    put(path, "user_id,item_id,rating\nu,i,inf\n")
    with pytest.raises(DataError, match="rating is 'inf'"):
        read(path, rating_range="auto")


@pytest.mark.parametrize("name", ["r.jsonl", "r.csv"])
def test_a_rating_of_zero_may_be_none(tmp_path, name):
    frame = pd.DataFrame({"user_id": ["u", "v"], "item_id": "i", "rating": [0, 4]})
    lines = "".join(json.dumps(row) + "\n" for row in frame.to_dict("records"))
    path = put(tmp_path / name, lines if "json" in name else frame.to_csv(index=False))
    np.testing.assert_array_equal([row[2] for row in read(path, missing_rating=0)[0]], [NAN, 4])
    np.testing.assert_array_equal([row[2] for row in read(path, missing_rating=0, rating_range="auto")[0]], [NAN, 4])


@pytest.mark.parametrize(
    "content, said",
    [
        (
            "u,i,4,x,y\n",
            r"--bad_line_share 1.*r\.csv:2: 5 fields where the header has 4, in \['u', 'i', '4', 'x', 'y'\]",
        ),
        (",i,4,x\n", r"--columns.*user_id is '', in {'item_id': 'i', 'rating': '4', 'text': 'x'}"),
        ("u,i,four,x\n", r"--bad_line_share 1.*rating is 'four', in {'user_id': 'u'"),
        ("u,i,9," + "long " * 99 + "\n", r"rating is '9', in {'user_id': .{100,150}\.\.\.$"),
    ],
)
def test_messages_show_a_row_and_name_what_helps(tmp_path, content, said):
    with pytest.raises(DataError, match=said):
        read(put(tmp_path / "r.csv", "user_id,item_id,rating,text\n" + content))


# Files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, pack",
    [
        ("r.jsonl.gz", bytes), ("r.ndjson", bytes), ("r.ndjson.gz", gzip.compress), ("r.jsonl.bz2", bz2.compress),
        ("r.jsonl.bz2", bytes), ("r.JSON.GZ", gzip.compress), ("r.jsonl.zst", bytes),
        ("r.jsonl.zst", lambda data: pa.compress(data, "zstd", asbytes=True)),
        ("r.jsonl.gz", lambda data: gzip.compress(data[:30]) + gzip.compress(data[30:])),
        ("r.jsonl.bz2", lambda data: bz2.compress(data[:30]) + bz2.compress(data[30:])),
    ],
)  # fmt: skip
def test_packed_and_plain_under_any_name(tmp_path, name, pack):
    lines = b'{"user_id": "u", "asin": "i", "rating": 4}\n{"user_id": "v", "asin": "i"}\n'
    assert [row[0] for row in read(put(tmp_path / name, pack(lines)))[0]] == ["u", "v"]


def test_a_folder_of_parts(tmp_path):
    parts = tmp_path / "reviews.parquet"
    parts.mkdir()
    for number, user in enumerate("uvw"):
        put(parts / f"part-{number:05d}-c000.snappy.parquet", pd.DataFrame({"user_id": [user], "item_id": "i"}))
    for name in ("_SUCCESS", "._part.parquet", "_metadata.parquet", ".part-0.crc"):
        put(parts / name, b"x")
    sources = find_sources("mine", tmp_path, [parts])
    assert read_reviews(sources.reviews, tmp_path / "s.parquet").frame["user_id"].tolist() == ["u", "v", "w"]
    for path in parts.iterdir():
        path.unlink()
    assert find_sources("mine", tmp_path, [parts]).mmrec == parts, "which says what a folder must hold"


# Prepared data sets ----------------------------------------------------------------------------------------------


@pytest.fixture
def mine(tmp_path):
    """A CSV file with names and a scale of its own, and the arguments that prepare it."""
    rows = [
        (f"Ann {user}", item, 1 + (user + item) % 10, "Good plot.")
        for user in range(12)
        for item in range(12)
        if user != item
    ]
    with (tmp_path / "mine.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("who", "what", "stars", "words"), *rows])
    columns = "{user_id: who, item_id: what, rating: stars, text: words}"
    given = ["--columns", columns, "--rating_range", "auto", "--user_min", "2", "--item_min", "2"]
    return ["--raw", str(tmp_path / "mine.csv"), *given]


def test_a_prepared_data_set_is_reused_without_repeating_its_settings(tmp_path, mine, capsys, caplog):
    common = ["--dataset", "mine", "--data_path", str(tmp_path / "data")]
    manifest = tmp_path / "data" / "mine" / "mine.json"
    assert main(["prepare", *common, *mine]) == 0
    before = manifest.read_bytes()
    run = ["run", *common, "--model", "Bias", "--no_references", "--output", str(tmp_path / "out")]
    for given in ([], ["--user_min", "2"], ["--rating_range", "auto", "--resume"]):
        assert main([*run, *given]) == 0
    result = json.loads((tmp_path / "out" / "mine" / "Bias" / "seed-2026" / "result.json").read_text())
    kept = {key: result["config"][key] for key in ("user_min", "rating_range", "columns")}
    assert kept == {"user_min": 2, "rating_range": "auto", "columns": json.loads(before)["settings"]["columns"]}
    assert load_experiment(tmp_path / "out" / "mine" / "Bias" / "seed-2026").manifest == json.loads(before)
    compare = ["compare", "--models", "Bias", "--datasets", "mine", "--seeds", "2026", "--no_references"]
    assert main([*compare, "--data_path", str(tmp_path / "data"), "--output", str(tmp_path / "out")]) == 0
    assert "1 are finished" in capsys.readouterr().out
    assert main([*run, "--user_min", "3", "--language", "de"]) == 2
    output = capsys.readouterr().err
    assert "user_min was 2 and is 3" in output and "language was 'en' and is 'de'" in output and "--raw FILE" in output
    assert manifest.read_bytes() == before
    assert main(["prepare", *common, *mine[:-1], "3"]) == 0
    assert "prepared again: item_min was 2 and is 3" in caplog.text


LANGUAGES = {
    "en": "The story is exciting and the music was very good.",
    "de": "Die Handlung ist spannend und die Musik war sehr schön.",
    "zh": "这 部 电影 非常 好看 , 我 很 喜欢 音乐",
    "zh unspaced": "这部电影非常好看而且音乐也很好听,我很喜欢这部电影",
    "th": "หนังเรื่องนี้สนุกมากและเพลงก็เพราะมาก",
}


@pytest.mark.parametrize(
    "text, options, said",
    [
        ("en", [], None),
        ("de", ["--language", "de"], None),
        ("de", [], r"\d\d% of the words in the reviews do not belong to language 'en': set it with --language"),
        ("zh", ["--language", "zh", "--lemmatizer", "none"], None),
        (
            "zh unspaced",
            ["--language", "zh", "--lemmatizer", "none"],
            "do not belong to language 'zh'.*put spaces between",
        ),
        ("zh unspaced", [], r"100% of the words.*Chinese, Japanese, Thai\) are not segmented"),
        ("th", ["--lemmatizer", "none"], r"100% of the words"),
        ("th", ["--language", "th", "--lemmatizer", "none"], r"100% of the words .* to language 'th'"),
        ("th", ["--language", "th"], "error: language 'th' is written without spaces.*--lemmatizer none"),
        ("en", ["--language", "tlh"], "error: unknown language 'tlh'"),
    ],
)
def test_reviews_of_another_language_are_noticed(tmp_path, capsys, caplog, text, options, said):
    rows = [{"user_id": f"u{n % 2}", "item_id": f"i{n // 2}", "rating": 4, "text": LANGUAGES[text]} for n in range(4)]
    raw = put(tmp_path / "r.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    words = ["music", "musik", "电影", *re.split("[ ,]", LANGUAGES["zh unspaced"]), LANGUAGES["th"]]
    vectors = put(tmp_path / "vectors.txt", "".join(f"{word} 1 2\n" for word in words))
    common = ["--dataset", "r", "--data_path", str(tmp_path / "data"), "--static_vectors", str(vectors)]
    code = main(["prepare", *common, "--raw", str(raw), "--user_min", "1", "--item_min", "1", *options])
    result = caplog.text + capsys.readouterr().err
    assert code == (2 if said and said.startswith("error") else 0), result
    assert re.search(said, result) if said else "no words of" not in result
    if text == "zh":
        assert "\t这 部 电影 非常 好看 我 很 喜欢 音乐\t" in (tmp_path / "data" / "r" / "r.inter").read_text()


def test_an_item_file_of_other_items_is_noticed(tmp_path, mine, caplog):
    meta = put(tmp_path / "meta.csv", "id,title,code\n7,Chess,x7\n")
    common = ["prepare", "--dataset", "mine", "--data_path", str(tmp_path / "data"), *mine, "--meta", str(meta)]
    assert main([*common, "--item_columns", "{item_id: code}"]) == 0
    assert "describes none of the 12 items of the reviews: its ids look like 'x7'" in caplog.text
    caplog.clear()
    assert main([*common, "--item_columns", "{item_id: id}"]) == 0
    assert "describes none" not in caplog.text
    items = (tmp_path / "data" / "mine" / "mine.item").read_text()
    assert items.splitlines()[1] == "7\tChess\t\t"
