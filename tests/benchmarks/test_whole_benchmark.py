"""The benchmark of the whole way: what the plain scripts read and predict, what is watched, and what is said of it."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import plain_data
import plain_narre
import watch
import whole
import whole_arms
from recbole_drex.data.raw.readers import read_reviews
from recbole_drex.data.text.contextual_encoder import encoder_folder
from recbole_drex.errors import DrexError
from recbole_drex.utils.files import read_json
from whole_arms import OURS, PLAIN, Data, Way


def _raw(path: Path, rows: list[tuple]) -> Path:
    names = ("user_id", "parent_asin", "rating", "timestamp", "title", "text")
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in rows)
    return path


ROWS = [
    ("ann", "x", 4.0, 3, "Fine", "Good plot."),
    ("ann", "y", 2.0, 2, "", "Dull."),
    ("bob", "x", 5.0, 4, "Wow", ""),
    ("bob", "y", 1.0, 1, "", "An earlier word."),
    ("bob", "y", 3.0, 5, "", "The latest word."),
    ("cat", "x", 5.0, 6, "", "Wrote once."),  # too few ratings
    ("ann", "z", None, 7, "", "No rating."),  # too few ratings of the item
    ("bob", "z", 9.0, 8, "", "Not legal."),
    ("cat", "y", 5.0, -8, "", "Not legal either."),
]


def test_pandas_reads_the_rows_of_the_split(tmp_path):
    raw = _raw(tmp_path / "r.jsonl.gz", ROWS)
    parts = [("ann", "x", "train"), ("bob", "x", "test"), ("ann", "y", "train"), ("bob", "y", "valid")]
    split = pd.DataFrame(parts, columns=["user_id", "item_id", "split"]).assign(rating=0.0)
    plain_data.write_split(tmp_path / "split.csv", split)
    rows = plain_data.rated_rows(raw, tmp_path / "split.csv", 2, 2)
    # The oldest first: (ann, y), (ann, x), (bob, x) and the later of the two of (bob, y).
    assert rows["review"].tolist() == ["Dull.", "Fine. Good plot.", "Wow", "The latest word."]
    assert rows["rating"].tolist() == [2.0, 4.0, 5.0, 3.0]
    assert rows["split"].tolist() == ["train", "train", "test", "valid"]
    assert rows["user"].tolist() == [0, 0, 1, 1] and rows["item"].tolist() == [0, 1, 1, 0]
    plain_data.write_split(tmp_path / "split.csv", split.iloc[:3])
    with pytest.raises(ValueError, match=r"4 rated rows .* 3, which are not the same"):
        plain_data.rated_rows(raw, tmp_path / "split.csv", 2, 2)


def test_errors_are_those_of_clipped_predictions():
    # Predicted, after clipping to 1 to 4: 1, 3 and 4; errors 0, 1 and -1.
    assert json.dumps(plain_data.errors([1.0], np.ones(1, np.float32), [1])) == '{"mae": 0.0, "rmse": 0.0}'
    assert plain_data.errors([1, 2, 5], [0.5, 3, 8], [1, 4]) == pytest.approx({"mae": 2 / 3, "rmse": (2 / 3) ** 0.5})


@pytest.fixture
def few_threads():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def narre():
    """NARRE on five training rows of two users and three items; the last row has no review."""
    train = pd.DataFrame(
        {
            "user": [0, 0, 1, 1, 0],
            "item": [0, 1, 0, 2, 2],
            "rating": [4.0, 2.0, 5.0, 3.0, 1.0],
            "review": ["a", "b", "c", "d", ""],
        }
    )
    torch.manual_seed(1)
    vectors = torch.randn(4, plain_narre.WORDS, 8).half()
    model = plain_narre.Narre(train, 2, 3, vectors, torch.tensor([0, 1, 2, 3, 0]))
    return model.eval()


def _predicted(model, pairs: list[tuple[int, int, int]]) -> torch.Tensor:
    with torch.no_grad():
        return model(*torch.tensor(pairs).T)


def test_narre_reads_all_reviews_of_both_sides_but_the_pairs_own(narre):
    pairs = [(0, 0, 0), (0, 2, -1), (1, 2, 3)]
    before, changed = _predicted(narre, pairs), []
    for review in range(4):
        kept = narre.vectors[review].clone()
        narre.vectors[review] = 1.0
        changed.append((_predicted(narre, pairs) != before).tolist())
        narre.vectors[review] = kept
    # Rows (0, 0), (0, 1), (1, 0), (1, 2): row 0 reads the other of user 0 and the other of item 0.
    assert np.transpose(changed).tolist() == [
        [False, True, True, False],
        [True, True, False, True],
        [False, False, True, False],
    ]


def test_narre_follows_its_equations(narre):
    user, item = narre.readers

    def answer(reader, review: int) -> torch.Tensor:
        weight, words = reader.convolution.weight, narre.vectors[review].float()
        windows = words.unfold(0, plain_narre.WINDOW, 1)  # (positions, width, window)
        return torch.relu(torch.einsum("pwk,fwk->pf", windows, weight) + reader.convolution.bias).amax(0)

    def state(reader, reviews: list[tuple[int, int]], owner: int) -> torch.Tensor:
        answers = torch.stack([answer(reader, review) for review, _ in reviews])
        who = reader.counterpart.weight[[other for _, other in reviews]]
        useful = reader.usefulness(torch.relu(reader.hidden(torch.cat([answers, who], 1))))
        return reader.free.weight[owner] + reader.dense((torch.softmax(useful, 0) * answers).sum(0))

    with torch.no_grad():  # user 1 on item 1: reviews 2 and 3 of items 0 and 2; review 1 by user 0
        product = state(user, [(2, 0), (3, 2)], 1) * state(item, [(1, 0)], 1)
        biases = narre.biases[0].weight[1] + narre.biases[1].weight[1]
        expected = narre.output(product) + biases + narre.mean
    torch.testing.assert_close(_predicted(narre, [(1, 1, -1)]), expected)


def test_only_the_latest_reviews_are_read():
    train = pd.DataFrame({"user": [0] * 20 + [1], "item": range(21), "review": ["text"] * 19 + ["", "text"]})
    table = plain_narre.latest(train, "user", 2)
    assert table[0].tolist() == list(range(18, 18 - plain_narre.REVIEWS - 1, -1))
    assert table[1].tolist() == [20] + [-1] * plain_narre.REVIEWS


def test_the_plain_script_trains_to_the_end_on_all_reviews(tmp_path, few_threads):
    rng = np.random.default_rng(1)
    pairs = [(user, item) for user in range(6) for item in range(5)]
    texts = ["Good plot.", "Dull and slow.", "Great fun."]
    rows = [
        (f"u{user}", f"i{item}", float(rng.integers(1, 6)), number, "", texts[number % 3])
        for number, (user, item) in enumerate(pairs)
    ]
    raw, split, made = _raw(tmp_path / "r.jsonl.gz", rows), tmp_path / "split.csv", tmp_path / "made.json"
    parts = pd.DataFrame([(row[0], row[1]) for row in rows], columns=["user_id", "item_id"])
    plain_data.write_split(split, parts.assign(split=["valid", "test", "train", "train", "train"] * 6))
    files = [
        "--raw",
        str(raw),
        "--split",
        str(split),
        "--output",
        str(made),
        "--encoder",
        str(encoder_folder("minilm")),
    ]
    numbers = {"user_min": 1, "item_min": 1, "epochs": 3, "patience": 10, "seed": 1}
    assert plain_narre.main([*files, *(word for name, n in numbers.items() for word in (f"--{name}", str(n)))]) == 0
    result = read_json(made)
    assert result["epochs"] == 3 and result["best"] in range(3) and result["reviews"] == 18
    assert 0 < result["mae"] <= result["rmse"] < 4
    assert sum(result["seconds"].values()) == pytest.approx(result["took"], rel=0.1)


def test_memory_of_all_processes_is_watched(tmp_path):
    hold = "import time; held = bytearray(120 << 20); time.sleep(1)"
    both = f"import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', {hold!r}]); {hold}; p.wait()"
    usage = watch.run([sys.executable, "-c", both], tmp_path / "log")
    assert 240 < usage.memory / 2**20 < 400
    assert 1 < usage.seconds < 20


def test_a_failed_command_is_reported_with_its_error(tmp_path):
    with pytest.raises(DrexError, match=r"exit code 3: no such luck; see .*log"):
        watch.run([sys.executable, "-c", "import sys; print('no such luck\\n'); sys.exit(3)"], tmp_path / "log")


def test_generated_texts_are_all_different(tmp_path):
    data = whole_arms.find_data("generated-3000", tmp_path, 50)
    assert (data.reviews, data.user_min, data.item_min, data.meta) == (3000, 20, 5, None)
    read = read_reviews(data.raw, tmp_path / "s.parquet")
    assert len(read.frame) == 3000 and read.frame["item_id"].nunique() == 50
    texts = [text for text in read.texts(read.frame["row"].to_numpy()) if text]
    assert len(texts) > 2500 and len(set(texts)) > 0.99 * len(texts)  # few have a title alone
    before = data.raw.stat().st_mtime_ns
    assert whole_arms.find_data("generated-3000", tmp_path, 50).raw.stat().st_mtime_ns == before


def _way(name: str, by: str, seconds: dict[str, float], reviews: int | None = None, **others) -> Way:
    return Way(Data(name, Path("raw"), None, reviews=reviews), by, seconds, **others)


def test_findings_of_the_aimed_data():
    static = _way("Movie_Reviews", OURS["static"], {"read": 20.0, "train": 80.0}, memory=2**30, features=28_000_000)
    contextual = Way(static.data, OURS["contextual"], {"read": 20.0, "encode": 330.0}, note="encoding extrapolated ...")
    plain = Way(static.data, PLAIN, {"read": 20.0, "train": 2480.0})
    failed = Way(static.data, "cornac", {}, note="not installed: no network")
    found = whole.findings([static, contextual, plain, failed])
    values = [(one.value, one.aim, one.reached) for one in found]
    assert values == [
        (100.0, 120.0, True), (3.5, 4.0, False), (25.0, 20.0, True), (28.0, 30.0, True), (1.0, None, None),
    ]  # fmt: skip
    assert found[1].against == "recbole_drex, contextual vectors: 350 s (extrapolated)"
    assert found[2].against == "plain script, NARRE: 2,500 s"
    row = failed.row()
    assert row["total s"] is None and row["note"] == "not installed: no network"


def test_stages_grow_with_the_data_and_epochs_are_compared_one_by_one():
    small, large = (
        _way(
            f"generated-{n}", OURS["static"],
            {"read": n / 1000, "train": epochs * kept**1.2 / 1000, "load": n / 1e6, "validate": 0.0},
            reviews=n, epochs=epochs, memory=n * 2**20, features=n, kept=kept,
        )
        for n, epochs, kept in ((1000, 10, 100), (16_000, 20, 2000))
    )  # fmt: skip
    found = {one.what.removeprefix("growth of stage "): one for one in whole.slopes([large, small])}
    assert {what: one.value for what, one in found.items() if one.aim} == pytest.approx(
        {"'read'": 1.0, "'train', an epoch": 1.2}
    )
    assert [one.reached for one in found.values()] == [True, False, None]
    assert whole.slopes([small]) == []
    memory = whole.findings([_way("generated-5000000", OURS["static"], {"read": 1.0}, whole.LARGE, features=1)])[-1]
    assert memory.aim == 6.0 and memory.unit == "GiB"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--arms", "static,plane"], "did you mean 'plain'?"),
        (["--arms", "plain"], "static must be among them"),
        (["--share", "0"], "above 0 and at most 1, not 0"),
        (["--datasets", ""], "at least one"),
        (["--datasets", "Movie_Revues"], "RECBOLE_DREX_RAW"),
    ],
)
def test_bad_arguments_are_refused_in_one_line(arguments, said, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("RECBOLE_DREX_RAW", raising=False)
    assert whole.main([*arguments, "--output", str(tmp_path / "whole.json")]) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("error: ") and printed.count("\n") == 1 and said in printed
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_whole_way_of_the_demo(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    arguments = ["--datasets", "demo", "--arms", "static,contextual,plain", "--share", "0.02", "--epochs", "2"]
    output = tmp_path / "whole.json"
    assert whole.main([*arguments, "--work", str(tmp_path / "work"), "--output", str(output)]) == 0
    static, contextual, plain = read_json(output)["ways"]
    stages = [f"{stage} s" for stage in whole_arms.STAGES]
    assert all(static[stage] > 0 for stage in stages) and static["note"] == "" and static["epochs"] == 2
    assert sum(static[stage] for stage in stages) == pytest.approx(static["total s"], abs=0.2)
    assert 0.5 < static["RMSE"] < 1.2 and 100 < static["memory MiB"] < 4000
    assert contextual["features MB"] > 10 * static["features MB"]
    assert contextual["encode s"] > static["encode s"] and contextual["train s"] == static["train s"]
    assert "extrapolated" in contextual["note"] and "extrapolated" in plain["note"]
    assert plain["RMSE"] is None and plain["train s"] > 0 and plain["explain s"] is None
