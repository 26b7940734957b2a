"""Official splits of Amazon Reviews 2023, with reviews joined from the raw file."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from file_server import serving

from recbole_drex.cli.main import main
from recbole_drex.data.raw.amazon import MIRROR
from recbole_drex.results.run_result import read_result
from recbole_drex.utils.files import sha256

NAME = "All_Beauty"
LAST_OUT = "official:5core/last_out"
PARTS = ("train", "valid", "test")
UCSD = "mcauleylab.ucsd.edu/public_datasets/data/amazon_2023/"
HUGGING_FACE = "huggingface.co/datasets/McAuley-Lab/Amazon-Reviews-2023/resolve/main/"
COLUMNS = ["user_id", "parent_asin", "rating", "timestamp"]


@pytest.fixture(autouse=True)
def vectors(tmp_path, monkeypatch) -> list[str]:
    """Arguments for word vectors of a small file, since loading an encoder takes seconds."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    (tmp_path / "words.txt").write_text("cream 1 0\nlater 0 1\n")
    return ["--static_vectors", str(tmp_path / "words.txt")]


def _reviews() -> pd.DataFrame:
    """12 users review 8 items at times of their own; one reviews an item a second time, and two rows have no text.

    The last word of a review is its own.
    """
    rng = np.random.default_rng(5)
    rows = [
        {
            "user_id": f"U{user:02}",
            "parent_asin": f"P{item}",
            "rating": float(rng.integers(1, 6)),
            "timestamp": 1_600_000_000_123 + 1000 * int(time),
            "title": "",
            "text": f"cream zq{chr(97 + user)}{chr(97 + item)}",
        }
        for user in range(12)
        for item, time in zip(rng.permutation(8)[:6], rng.permutation(1000)[:6], strict=True)
    ]
    rows.append({**rows[0], "timestamp": rows[0]["timestamp"] + 10_000_000, "rating": 1.0, "text": "later"})
    rows[7]["text"] = rows[8]["text"] = ""
    return pd.DataFrame(rows)


def _split(reviews: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Leave the last two rows of every user out; of a pair, the earliest row counts."""
    frame = reviews.sort_values("timestamp").drop_duplicates(["user_id", "parent_asin"])[COLUMNS]
    turn = frame.groupby("user_id").cumcount(ascending=False)
    return {"train": frame[turn > 1], "valid": frame[turn == 1], "test": frame[turn == 0]}


def _write(root: Path, reviews: pd.DataFrame, parts: dict[str, pd.DataFrame], kind: str = "5core/last_out") -> Path:
    """A folder of raw files with an official split."""
    lines = "\n".join(json.dumps(row) for row in reviews.to_dict("records"))
    folder = root / "benchmark" / kind
    folder.mkdir(parents=True)
    (root / f"{NAME}.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    for part, frame in parts.items():
        name = f"{NAME}.{part}" if part else NAME
        frame.to_csv(folder / f"{name}.csv.gz", index=False)
    return root


def _prepare(folder: Path, *arguments: str) -> int:
    common = ["--dataset", NAME, "--data_path", str(folder), "--static_vectors", str(folder.parent / "words.txt")]
    return main(["prepare", *common, *arguments])


def _inter(folder: Path, part: str) -> pd.DataFrame:
    path = folder / NAME / (f"{NAME}.{part}.inter" if part else f"{NAME}.inter")
    return pd.read_csv(path, sep="\t", keep_default_na=False, dtype={"review_row:float": str})


def _manifest(folder: Path) -> dict[str, Any]:
    return json.loads((folder / NAME / f"{NAME}.json").read_text())


def _check_parts(folder: Path, reviews: pd.DataFrame, parts: dict[str, pd.DataFrame]) -> None:
    """The prepared parts have the rows of the split in their order, each with its own review."""
    texts = reviews.set_index([*COLUMNS[:2], "timestamp"])["text"]
    n = 0
    for part, frame in parts.items():
        made = _inter(folder, part)
        assert made["user_id:token"].tolist() == frame["user_id"].tolist()
        assert made["item_id:token"].tolist() == frame["parent_asin"].tolist()
        assert made["rating:float"].tolist() == frame["rating"].tolist()
        assert made["timestamp:float"].tolist() == (frame["timestamp"] / 1000).tolist()
        wanted = [texts[tuple(key)] for key in frame[[*COLUMNS[:2], "timestamp"]].itertuples(index=False)]
        for text, lemmas, row in zip(wanted, made["review:token_seq"], made["review_row:float"], strict=True):
            assert lemmas == text
            assert row == (f"{n}.0" if text else "")
            n += bool(text)


@pytest.fixture
def raw(tmp_path, monkeypatch) -> Path:
    reviews = _reviews()
    folder = _write(tmp_path / "raw", reviews, _split(reviews))
    monkeypatch.setenv("RECBOLE_DREX_RAW", str(folder))
    return folder


def test_rows_and_parts_are_those_of_the_split(raw, tmp_path, vectors, monkeypatch, capsys):
    reviews, data = _reviews(), tmp_path / "data"
    parts = _split(reviews)
    assert _prepare(data, "--split", LAST_OUT) == 0
    _check_parts(data, reviews, parts)
    manifest = _manifest(data)
    assert manifest["benchmark"] == list(PARTS)
    assert manifest["settings"]["split"] == LAST_OUT
    assert [(count["step"], count["interactions"]) for count in manifest["counts"]] == [
        ("read", 73),
        ("train", 48),
        ("valid", 12),
        ("test", 12),
    ]
    files = [raw / "benchmark/5core/last_out" / f"{NAME}.{part}.csv.gz" for part in PARTS]
    assert manifest["sources"][1:4] == [
        {
            "name": file.name,
            "bytes": file.stat().st_size,
            "sha256": sha256(file),
            "address": f"https://{UCSD}benchmark/5core/last_out/{file.name}",
        }
        for file in files
    ]
    assert manifest["statistics"]["missing_review"] == pytest.approx(2 / 72)
    # It is found again, with and without the option and the raw files, and a run uses its parts.
    before = (data / NAME / f"{NAME}.json").stat().st_mtime_ns
    assert _prepare(data, "--split", LAST_OUT) == 0
    assert (data / NAME / f"{NAME}.json").stat().st_mtime_ns == before
    run = ["run", "--model", "Bias", "--dataset", NAME, "--data_path", str(data), "--no_references", *vectors]
    assert main([*run, "--output_dir", str(tmp_path / "results"), "--split", LAST_OUT]) == 0
    result = read_result(tmp_path / "results" / NAME / "Bias" / "seed-2026")
    assert result["split"] == "given with the data (train, valid, test)"
    assert (result["data"]["users"], result["data"]["items"], result["data"]["interactions"]) == (12, 8, 72)
    with monkeypatch.context() as without:
        without.delenv("RECBOLE_DREX_RAW")
        run[run.index("Bias")] = "ItemMean"
        assert main([*run, "--output_dir", str(tmp_path / "results")]) == 0
        again = read_result(tmp_path / "results" / NAME / "ItemMean" / "seed-2026")
        assert (again["split"], again["data"]) == (result["split"], result["data"])
        assert (data / NAME / f"{NAME}.json").stat().st_mtime_ns == before
        capsys.readouterr()
        assert _prepare(data, "--split", "official:5core/timestamp") == 2
        said = "split was 'official:5core/last_out' and is 'official:5core/timestamp'"
        assert said in capsys.readouterr().err
        assert main([*run, "--eval_args", "{split: {RS: [8, 1, 1]}}"]) == 2
        assert "so leave out eval_args" in capsys.readouterr().err
    # A changed file of the split makes the data set stale.
    parts["test"].iloc[:-1].to_csv(files[2], index=False)
    assert _prepare(data, "--split", LAST_OUT) == 0
    assert len(_inter(data, "test")) == 11
    # Without the split, the same data set is prepared by the filter.
    assert _prepare(data, "--user_min", "1", "--item_min", "1") == 0
    assert len(_inter(data, "")) == 72 and not (data / NAME / f"{NAME}.test.inter").exists()


@pytest.mark.parametrize("kind", ["5core/last_out_w_his", "0core/timestamp_w_his"])
def test_files_with_histories(kind, tmp_path, monkeypatch):
    reviews = _reviews()
    parts = {part: frame.assign(history="P1 P2") for part, frame in _split(reviews).items()}
    folder = _write(tmp_path / "raw", reviews, parts, kind)
    monkeypatch.setenv("RECBOLE_DREX_RAW", str(folder))
    assert _prepare(tmp_path / "data", "--split", f"official:{kind}") == 0
    _check_parts(tmp_path / "data", reviews, parts)


def test_rows_without_a_split(tmp_path, monkeypatch, vectors):
    reviews = _reviews()
    rows = pd.concat(_split(reviews).values())
    folder = _write(tmp_path / "raw", reviews, {"": rows}, "5core/rating_only")
    monkeypatch.setenv("RECBOLE_DREX_RAW", str(folder))
    data = tmp_path / "data"
    assert _prepare(data, "--split", "official:5core/rating_only") == 0
    _check_parts(data, reviews, {"": rows})
    assert "benchmark" not in _manifest(data)
    run = ["run", "--model", "Bias", "--dataset", NAME, "--data_path", str(data), "--no_references", *vectors]
    eval_args = ["--eval_args", "{split: {LS: valid_and_test}, order: TO, group_by: user}"]
    assert (
        main([*run, "--output_dir", str(tmp_path / "results"), *eval_args, "--split", "official:5core/rating_only"])
        == 0
    )
    assert "LS" in read_result(tmp_path / "results" / NAME / "Bias" / "seed-2026")["split"]


def test_rows_without_a_review_keep_their_rating(tmp_path, monkeypatch, caplog):
    reviews = _reviews()
    parts = _split(reviews)
    first = parts["train"].iloc[0]
    lost = (reviews["user_id"] == first["user_id"]) & (reviews["parent_asin"] == first["parent_asin"])
    folder = _write(tmp_path / "raw", reviews[~lost], parts)
    monkeypatch.setenv("RECBOLE_DREX_RAW", str(folder))
    assert _prepare(tmp_path / "data", "--split", LAST_OUT) == 0
    made = _inter(tmp_path / "data", "train").iloc[0]
    assert (made["rating:float"], made["review:token_seq"], made["review_row:float"]) == (first["rating"], "", "")
    assert "3 of 72 rows of the official split have no review in All_Beauty.jsonl.gz" in caplog.text


def test_download_with_a_second_address_that_has_plain_text(tmp_path, monkeypatch):
    monkeypatch.delenv("RECBOLE_DREX_RAW", raising=False)
    reviews = _reviews()
    parts = _split(reviews)
    raw = _write(tmp_path / "served", reviews, parts)
    packed = (raw / f"{NAME}.jsonl.gz").read_bytes()
    item = json.dumps({"parent_asin": "P1", "title": "Cream", "store": "Ravens", "features": ["Gentle."]}).encode()
    with serving() as server:
        monkeypatch.setenv(MIRROR, server.url)
        server.remote.files = {
            f"/{UCSD}raw/review_categories/{NAME}.jsonl.gz": packed,
            f"/{UCSD}raw/meta_categories/meta_{NAME}.jsonl.gz": gzip.compress(item),
            f"/{UCSD}benchmark/5core/last_out/{NAME}.train.csv.gz": (
                raw / f"benchmark/5core/last_out/{NAME}.train.csv.gz"
            ).read_bytes(),
            **{
                f"/{HUGGING_FACE}benchmark/5core/last_out/{NAME}.{part}.csv": parts[part].to_csv(index=False).encode()
                for part in ("valid", "test")
            },
        }
        server.remote.break_after = [len(packed) // 2]
        assert _prepare(tmp_path / "data", "--split", LAST_OUT) == 0
    assert server.remote.requests[1] == (
        f"/{UCSD}raw/review_categories/{NAME}.jsonl.gz",
        f"bytes={len(packed) // 2}-",
    )
    _check_parts(tmp_path / "data", reviews, parts)
    folder = tmp_path / "data" / "raw" / "benchmark" / "5core" / "last_out"
    assert (folder / f"{NAME}.test.csv.gz").read_text().startswith("user_id,parent_asin,rating,timestamp")
    assert _manifest(tmp_path / "data")["items"]["text"]["missing"] == 7


# Bad input ---------------------------------------------------------------------------------------------------------


def _refused(capsys, *arguments: str) -> str:
    """The one line that a command prints when it refuses its input."""
    capsys.readouterr()
    assert main(["prepare", *arguments]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "rror" in line]
    return line


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--split", "official:5core/lastout"], "did you mean 'official:5core/last_out'? Legal values: official:0core"),
        (["--split", "5core"], "Legal values: official:0core/last_out, official:0core/last_out_w_his"),
        (
            ["--dataset", "Appliances", "--split", LAST_OUT],
            "'Appliances' has no official 5-core; write split: official",
        ),
        (["--dataset", "Video_Games_2018", "--split", LAST_OUT], "did you mean 'Video_Games'?"),
        (["--dataset", "demo", "--split", LAST_OUT], "unknown data set of Amazon Reviews 2023 with an official split"),
        (["--split", LAST_OUT, "--user_min", "5"], "says which rows are in which part, so leave out user_min"),
        (["--split", LAST_OUT, "--eval_args", "{split: {RS: [8, 1, 1]}}"], "so leave out eval_args"),
    ],
)
def test_impossible_splits(raw, tmp_path, capsys, arguments, said):
    if "--dataset" not in arguments:
        arguments = ["--dataset", NAME, *arguments]
    assert said in _refused(capsys, *arguments, "--data_path", str(tmp_path / "data"))
    assert not (tmp_path / "data").exists()


def _change(raw: Path, part: str, change) -> Path:
    path = raw / "benchmark/5core/last_out" / f"{NAME}.{part}.csv.gz"
    change(pd.read_csv(path)).to_csv(path, index=False)
    return path


@pytest.mark.parametrize(
    "part, change, said",
    [
        (
            "valid",
            lambda frame: frame.assign(user_id="X" + frame["user_id"]),
            "user 'XU{n}' has no review in All_Beauty.jsonl.gz (such rows: 12 of 72); give the reviews of the",
        ),
        ("train", lambda frame: frame.drop(columns="timestamp"), "no column 'timestamp' (looked for timestamp) in the"),
        (
            "test",
            lambda frame: frame.drop(columns=["rating", "parent_asin"]),
            "no column 'item_id' (looked for parent_",
        ),
        ("test", lambda frame: pd.concat([frame, frame.iloc[:1]]), "is there twice; a pair may occur once in a split"),
        ("test", lambda frame: frame.iloc[:0], "has no rows"),
        ("test", lambda frame: frame.assign(rating=np.nan), "has no rating"),
    ],
)
def test_files_of_no_use(raw, tmp_path, capsys, part, change, said):
    path = _change(raw, part, change)
    line = _refused(capsys, "--dataset", NAME, "--split", LAST_OUT, "--data_path", str(tmp_path / "data"))
    first = _split(_reviews())["valid"]["user_id"].iloc[0].removeprefix("U")
    assert said.replace("{n}", first) in line and str(path) in line
    assert not (tmp_path / "data" / NAME).exists()


def test_reviews_of_another_time(raw, tmp_path, capsys):
    for part in PARTS:
        _change(raw, part, lambda frame: frame.assign(timestamp=frame["timestamp"] + 1))
    line = _refused(capsys, "--dataset", NAME, "--split", LAST_OUT, "--data_path", str(tmp_path / "data"))
    assert "has a review in All_Beauty.jsonl.gz: user, item and timestamp are never the same" in line


def test_data_that_have_their_own_split(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("RECBOLE_DREX_RAW", raising=False)
    folder = tmp_path / "data" / NAME
    folder.mkdir(parents=True)
    (folder / f"{NAME}.inter").write_text("user_id:token\titem_id:token\trating:float\nu\ti\t4\n")
    common = ["--dataset", NAME, "--split", LAST_OUT, "--data_path", str(tmp_path / "data")]
    assert "are used unchanged; name raw reviews with --raw FILE" in _refused(capsys, *common)
    (tmp_path / "mmrec").mkdir()
    assert "an MMRec folder has its own split" in _refused(capsys, *common, "--raw", str(tmp_path / "mmrec"))


def test_earliest_of_repeated_pairs_as_in_the_official_data(raw, tmp_path, capsys, monkeypatch):
    data, limits = tmp_path / "data", ["--user_min", "1", "--item_min", "1"]
    twice = _reviews().iloc[[0, -1]]
    assert twice["user_id"].nunique() == twice["parent_asin"].nunique() == 1
    for keep, rating in (("first", twice["rating"].iloc[0]), ("last", twice["rating"].iloc[1])):
        assert _prepare(data, *limits, "--rm_dup_inter", keep) == 0
        made = _inter(data, "").set_index(["user_id:token", "item_id:token"])["rating:float"]
        assert len(made) == 72 and made[tuple(twice[["user_id", "parent_asin"]].iloc[0])] == rating
    assert _prepare(data, *limits, "--rm_dup_inter", "first") == 0
    monkeypatch.delenv("RECBOLE_DREX_RAW")
    # Empty, as in RecBole, is no wish: no pair of the prepared data set is there twice.
    assert _prepare(data, "--rm_dup_inter", "~") == 0
    assert _prepare(data, "--rm_dup_inter", "last") == 2
    assert "rm_dup_inter was 'first' and is 'last'" in capsys.readouterr().err
