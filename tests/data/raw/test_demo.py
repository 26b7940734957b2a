"""The generated data set: reproducible, of the documented shape, and its tastes and qualities can be recovered."""

from __future__ import annotations

import gzip
import json
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from recbole_drex.data.raw.demo import _BLAME, _FILLERS, _OWN, _PRAISE, ASPECTS, generate_demo
from recbole_drex.data.text.tokenizer import TextProcessor
from recbole_drex.errors import ConfigError

PROCESSOR = TextProcessor()
ASPECT_OF = {word: aspect for aspect, words in ASPECTS.items() for word in words}


def read(path: Path) -> list[dict]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return generate_demo(tmp_path_factory.mktemp("demo"))


@pytest.fixture(scope="module")
def rows(demo: dict[str, Path]) -> pd.DataFrame:
    return pd.DataFrame(read(demo["reviews"]))


@pytest.fixture(scope="module")
def truth(demo: dict[str, Path]) -> dict:
    return json.loads(demo["truth"].read_text())


def test_equal_arguments_give_equal_bytes(demo: dict[str, Path], tmp_path: Path) -> None:
    again = generate_demo(tmp_path / "new" / "folder")
    assert {key: path.read_bytes() for key, path in again.items()} == {k: p.read_bytes() for k, p in demo.items()}
    other = generate_demo(tmp_path, seed=1)
    assert other["reviews"].read_bytes() != demo["reviews"].read_bytes()
    assert {path.name for path in demo.values()} == {"demo.jsonl.gz", "meta_demo.jsonl.gz", "truth_demo.json"}


def test_shape(rows: pd.DataFrame) -> None:
    assert len(rows) == 4500
    assert rows["user_id"].nunique() == 150
    assert rows["parent_asin"].nunique() == 100
    no_rating, no_review = rows["rating"].isna(), rows["text"] == ""
    assert 0.045 < no_rating.mean() < 0.075
    assert 0.065 < no_review.mean() < 0.095
    assert not (no_rating & no_review).any()
    assert (rows["title"].eq("") == no_review).all()
    assert 0.01 < rows.duplicated(["user_id", "parent_asin"]).mean() < 0.04
    assert rows["text"].str.contains("&amp;|<br />|&#39;").mean() > 0.01
    assert set(rows["rating"].dropna()) == {1.0, 2.0, 3.0, 4.0, 5.0}
    assert 3.6 < rows["rating"].mean() < 4.0
    sentences = rows.loc[~no_review, "text"].str.count(r"[.!](?: |<|$)")
    assert (sentences.min(), sentences.max()) == (1, 5)
    days = pd.to_datetime(rows["timestamp"], unit="ms")
    assert days.min() >= pd.Timestamp("2021-01-01")
    assert days.max() < pd.Timestamp("2024-01-01")
    assert (days.max() - days.min()).days > 1000


def test_enough_is_left_after_the_usual_filter(rows: pd.DataFrame) -> None:
    rated = rows[rows["rating"].notna()].drop_duplicates(["user_id", "parent_asin"])
    assert (rated.groupby("user_id").size() >= 20).sum() >= 140
    popularity = rated.groupby("parent_asin").size().sort_values()
    assert popularity.iloc[0] >= 5
    assert popularity.iloc[-10:].sum() > 3 * popularity.iloc[:10].sum()


def test_meta_and_truth(demo: dict[str, Path], rows: pd.DataFrame, truth: dict) -> None:
    meta = read(demo["meta"])
    assert len({item["title"] for item in meta}) == len(meta) == 100
    assert {item["parent_asin"] for item in meta} == set(rows["parent_asin"]) == set(truth["items"])
    assert set(rows["user_id"]) == set(truth["users"])
    assert truth["aspects"] == {name: list(words) for name, words in ASPECTS.items()}
    for taste in truth["users"].values():
        assert len(taste) in (4, 5)
        assert sum(taste.values()) == pytest.approx(1, abs=1e-3)
    assert all(-1 <= quality <= 1 for item in truth["items"].values() for quality in item.values())


@pytest.mark.parametrize("word", ASPECT_OF)
def test_aspect_words_are_their_own_lemmas(word: str) -> None:
    assert PROCESSOR(f"The {word}.").lemmas == [word]


def test_word_lists_do_not_collide() -> None:
    praise, blame, fillers = (
        set(PROCESSOR(" ".join(words)).lemmas)
        for words in (
            [*_PRAISE, *(own[1] for own in _OWN.values())],
            [*_BLAME, *(own[0] for own in _OWN.values())],
            _FILLERS.values(),
        )
    )
    assert not praise & blame
    assert not (praise | blame | fillers) & set(ASPECT_OF)
    assert len(set(_PRAISE)) >= 40
    assert len(set(_BLAME)) >= 40
    assert set(_OWN) == set(ASPECTS)
    assert len(ASPECT_OF) == sum(map(len, ASPECTS.values()))


def counts_per_user(rows: pd.DataFrame) -> dict[str, Counter[str]]:
    texts = (rows["title"] + ". " + rows["text"]).groupby(rows["user_id"])
    return {user: Counter(lemma for text in group for lemma in PROCESSOR(text).lemmas) for user, group in texts}


def test_what_users_write_of_is_what_they_care_for(rows: pd.DataFrame, truth: dict) -> None:
    of_aspects, of_all = [], []
    for user, counts in counts_per_user(rows).items():
        taste = truth["users"][user]
        ranked = [word for word, _ in counts.most_common()]
        of_aspects += [ASPECT_OF[word] in taste for word in ranked if word in ASPECT_OF][:5]
        of_all += [ASPECT_OF.get(word) in taste for word in ranked[:5]]
    assert np.mean(of_aspects) >= 0.9
    assert np.mean(of_all) >= 0.85


def test_praise_and_blame_follow_quality(rows: pd.DataFrame, truth: dict) -> None:
    praised = []
    for row in rows[rows["title"].str.contains(" ")].itertuples():
        words = PROCESSOR(row.title).lemmas
        sides = [side for side, own in ((1, _PRAISE), (-1, _BLAME)) if set(row.title.lower().split()) & set(own)]
        named = [ASPECT_OF[word] for word in words if word in ASPECT_OF]
        if len(sides) == len(named) == 1:
            praised.append(truth["items"][row.parent_asin].get(named[0], 0) * sides[0] > 0)
    assert len(praised) > 1000
    assert np.mean(praised) > 0.85


def ridge(features: np.ndarray, target: np.ndarray, train: np.ndarray) -> float:
    """Test RMSE of a ridge regression."""
    x, mean = features[train], target[train].mean()
    weights = np.linalg.solve(x.T @ x + 3 * np.eye(x.shape[1]), x.T @ (target[train] - mean))
    return float(np.sqrt(np.mean((features[~train] @ weights + mean - target[~train]) ** 2)))


def test_knowing_the_tastes_predicts_ratings_better_than_biases(rows: pd.DataFrame, truth: dict) -> None:
    rated = rows[rows["rating"].notna()]
    tastes, qualities = (
        pd.DataFrame(truth[key]).T.reindex(columns=list(ASPECTS)).fillna(0) for key in ("users", "items")
    )
    utility = (tastes.loc[rated["user_id"]].to_numpy() * qualities.loc[rated["parent_asin"]].to_numpy()).sum(axis=1)
    rating = rated["rating"].to_numpy()
    assert np.corrcoef(utility, rating)[0, 1] > 0.6
    bias = pd.get_dummies(rated[["user_id", "parent_asin"]]).to_numpy(dtype=float)
    train = np.random.default_rng(0).random(len(rated)) < 0.8
    oracle = ridge(np.column_stack([bias, 3 * utility]), rating, train)
    assert oracle < 0.8 * ridge(bias, rating, train)


def test_grows_to_many_rows(tmp_path: Path) -> None:
    start = time.perf_counter()
    made = generate_demo(tmp_path, users=1300, items=400, reviews=40_000)
    assert time.perf_counter() - start < 20  # a million in some minutes, even on a busy machine
    rows = read(made["reviews"])
    assert len(rows) == 40_000
    assert len({row["user_id"] for row in rows}) == 1300


@pytest.mark.parametrize("sizes", [{"users": 0}, {"items": 0}, {"reviews": 100}, {"items": 20}])
def test_numbers_that_do_not_go_together(tmp_path: Path, sizes: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="demo"):
        generate_demo(tmp_path, **sizes)
    assert not list(tmp_path.iterdir())
