"""Data sets that come as CSV, as a user's own atomic files, or inside RecBole."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from recbole_drex.cli.main import main
from recbole_drex.data.raw.demo import generate_demo
from recbole_drex.results.run_result import read_result


def _inter(root: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(root / name / f"{name}.inter", sep="\t", dtype={"user_id:token": str, "item_id:token": str})


def test_csv_with_columns_named_in_a_configuration_file(small, tmp_path):
    table = _inter(small.root, small.name).head(150).sample(frac=1, random_state=1)
    names = {"user_id:token": "who", "item_id:token": "what", "rating:float": "stars", "review:token_seq": "words"}
    table.rename(columns=names)[list(names.values())].to_csv(tmp_path / "own.csv", index=False)
    settings = tmp_path / "own.yaml"
    settings.write_text(
        "columns: {user_id: who, item_id: what, rating: stars, text: words}\nuser_min: 1\nitem_min: 1\n"
    )
    arguments = ["--dataset", "own", "--raw", str(tmp_path / "own.csv"), "--data_path", str(tmp_path / "data")]
    assert main(["prepare", *arguments, "--config_files", str(settings)]) == 0
    made = _inter(tmp_path / "data", "own")
    key = ["user_id:token", "item_id:token"]
    rated = [
        frame.dropna(subset=["rating:float"]).set_index(key)["rating:float"].sort_index() for frame in (made, table)
    ]
    pd.testing.assert_series_equal(*rated)
    # The same mapping on the command line asks for the same data set.
    before = (tmp_path / "data" / "own" / "own.json").stat().st_mtime_ns
    given = ["--columns", "{user_id: who, item_id: what, rating: stars, text: words}"]
    assert main(["prepare", *arguments, *given, "--user_min", "1", "--item_min", "1"]) == 0
    assert (tmp_path / "data" / "own" / "own.json").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    "given, said",
    [
        ("{reviews.csv: 00ff}", "raw file reviews.csv differs from 'raw_sha256'"),
        ("{review.csv: 00ff}", "did you mean 'reviews.csv'"),
    ],
)
def test_raw_files_of_another_hash_are_refused(given, said, tmp_path, capsys):
    (tmp_path / "reviews.csv").write_text("user_id,item_id,rating\na,x,5\n")
    arguments = ["--dataset", "own", "--raw", str(tmp_path / "reviews.csv"), "--data_path", str(tmp_path / "data")]
    assert main(["prepare", *arguments, "--raw_sha256", given]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "data" / "own").exists()


def _write_plain(folder: Path, name: str) -> None:
    rng = np.random.default_rng(3)
    pairs = [(user, item) for user in range(15) for item in rng.choice(25, 12, replace=False)]
    table = pd.DataFrame(pairs, columns=["user_id:token", "item_id:token"])
    table["rating:float"] = rng.integers(1, 6, len(table)).astype(float)
    (folder / name).mkdir(parents=True)
    table.to_csv(folder / name / f"{name}.inter", sep="\t", index=False)


def test_atomic_files_of_other_origin_are_used_as_they_are_and_never_overwritten(tmp_path, capsys):
    raw = generate_demo(tmp_path / "raw", users=10, items=20, reviews=120)
    _write_plain(tmp_path / "data", "plain")
    inter = tmp_path / "data" / "plain" / "plain.inter"
    content = inter.read_bytes()
    common = ["--dataset", "plain", "--data_path", str(tmp_path / "data")]
    assert main(["prepare", *common]) == 0
    assert "used as they are" in capsys.readouterr().out
    output = ["--output_dir", str(tmp_path / "results"), "--epochs", "1"]
    assert main(["run", "--model", "BPR", *common, *output]) == 0
    result = read_result(tmp_path / "results" / "plain" / "Bias" / "seed-2026")
    assert result["data"]["users"] == 15 and result["data"]["interactions"] == 180
    assert result["data"]["fingerprint"] == hashlib.sha256(content).hexdigest()[:16]
    capsys.readouterr()
    assert main(["run", "--model", "DReX", *common, *output]) == 0
    assert "DReX reads ratings only" in "".join(capsys.readouterr())
    assert main(["prepare", *common, "--raw", str(raw["reviews"])]) == 2
    assert str(inter) in capsys.readouterr().err
    assert inter.read_bytes() == content
    assert [path.name for path in inter.parent.iterdir()] == ["plain.inter"]


def test_the_data_set_inside_recbole(small, tmp_path, capsys, monkeypatch):
    import recbole

    monkeypatch.chdir(tmp_path)
    folder = Path(recbole.__file__).parent / "dataset_example"
    before = sorted(folder.rglob("*"))
    assert main(["run", "--dataset", "ml-100k", "--model", "Bias", "--no_references"]) == 0
    result = read_result(tmp_path / "results" / "ml-100k" / "Bias" / "seed-2026")
    assert (result["data"]["users"], result["data"]["items"], result["data"]["interactions"]) == (943, 1682, 100_000)
    assert 0.7 < result["test"]["own_test"]["mae"] < 0.8, "in stars, as published results are"
    assert main(["prepare", "--dataset", "ml-100k", "--raw", str(small.raw["reviews"])]) == 2
    assert "ml-100k" in capsys.readouterr().err
    assert sorted(folder.rglob("*")) == before
