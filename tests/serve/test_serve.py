"""Responses of the server for a trained run."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path

import hostile
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import recbole_drex.compat  # noqa: F401  (first: RecBole needs it)
from recbole.data.interaction import Interaction

from recbole_drex.experiments.run import load_experiment
from recbole_drex.explain.recommender import Recommended
from recbole_drex.serve.name_search import NameIndex, fold
from recbole_drex.serve.recommendation_cache import RecommendationCache
from recbole_drex.training.run_record import Experiment

pytest.importorskip("fastapi", reason="needs the extra serve")

from fastapi.testclient import TestClient
from serving import checked, get, post

from recbole_drex.serve.app import create_app
from recbole_drex.serve.service import Service

USER = "user_05"


@pytest.fixture(scope="module")
def experiment(hostile_run: Path) -> Experiment:
    return load_experiment(hostile_run)


@pytest.fixture(scope="module")
def service(experiment: Experiment) -> Service:
    return Service(experiment)


@pytest.fixture(scope="module")
def client(service: Service) -> TestClient:
    return TestClient(create_app(service), base_url="http://127.0.0.1", raise_server_exceptions=False)


@pytest.fixture(scope="module")
def table(hostile_run: Path) -> pd.DataFrame:
    """All interactions of the prepared file."""
    path = hostile_run.parents[3] / "atomic_data" / hostile.NAME / f"{hostile.NAME}.inter"
    frame = pd.read_csv(path, sep="\t")
    return frame.rename(columns=lambda name: name.split(":")[0])


# What is asked about ---------------------------------------------------------------------------------------------


def test_health(client: TestClient, hostile_run: Path, table: pd.DataFrame) -> None:
    health = get(client, "/health")
    described = json.loads((hostile_run / "run.json").read_text())
    assert (health["status"], health["model"], health["dataset"]) == ("ok", "DReX", hostile.NAME)
    assert health["fingerprint"] == described["fingerprint"]
    assert health["version"] == described["version"]
    assert (health["users"], health["items"]) == (table["user_id"].nunique(), table["item_id"].nunique())
    assert health["rating_range"] == [1.0, 5.0]
    assert 50 < health["memory_mb"] < 20_000


def test_recommends_the_best_items_that_are_new_to_the_user(
    client: TestClient, experiment: Experiment, table: pd.DataFrame
) -> None:
    dataset = experiment.dataset
    items = dataset.field2id_token[dataset.iid_field][1:].tolist()
    pairs = Interaction(
        {
            dataset.uid_field: torch.full((len(items),), dataset.token2id(dataset.uid_field, USER)),
            dataset.iid_field: torch.arange(1, len(items) + 1),
        }
    )
    with torch.no_grad():
        predicted = dict(zip(items, experiment.model.predict(pairs).tolist(), strict=True))
    known = set(table.loc[table["user_id"] == USER, "item_id"])
    best = sorted((item for item in items if item not in known), key=lambda item: -predicted[item])
    for top in (1, 3, 100):
        result = get(client, "/recommend", user=USER, top=top)
        assert result["user"] == USER
        assert [one["item"] for one in result["recommendations"]] == best[:top]
        for one in result["recommendations"]:
            assert one["predicted"] == pytest.approx(min(max(predicted[one["item"]], 1), 5), abs=1e-4)
    assert post(client, {"user": USER, "top": 3}) == get(client, "/recommend", user=USER, top=3)


def test_several_users_in_one_request_equal_single_requests(client: TestClient) -> None:
    users = ["user_05", "user_00", hostile.SILENT]
    result = post(client, {"users": users, "top": 2})
    assert result == {"users": [get(client, "/recommend", user=user, top=2) for user in users]}


def test_cached_items_equal_computed_items(experiment: Experiment, service: Service) -> None:
    uncached = Service(experiment, cached_users=0)
    assert uncached.users_to_cache() == []
    assert uncached.recommend(USER, 1).recommendations
    assert uncached.cached(USER, 1) is None
    to_cache = service.users_to_cache()
    assert sorted(to_cache) == list(range(1, experiment.dataset.user_num))
    for user in to_cache:
        service.cache_best(user)
        name = service.recommender.user_name(user)
        assert service.cached(name, 7) == service.recommend(name, 7) == uncached.recommend(name, 7)


@given(st.integers(0, 3), st.lists(st.tuples(st.integers(1, 5), st.booleans()), max_size=20))
def test_the_cache_keeps_the_last_used_users(max_users: int, steps: list[tuple[int, bool]]) -> None:
    cached, order = RecommendationCache(max_users), []
    for user, ask in steps:
        if ask:
            result = cached.get(user, 2)
            assert result == ([Recommended(user, None), Recommended(9, 4.5)] if user in order else None)
        else:
            cached.put(user, [Recommended(user, None), Recommended(9, 4.5), Recommended(8, 1.0)])
        if user in order or not ask:
            order = [*(one for one in order if one != user), user][-max_users:] if max_users else []


@pytest.mark.parametrize("model", ["Bias", "BPR", "EMF", "DReX-implicit"])
def test_other_models(model: str, make_experiment: Callable[..., Experiment]) -> None:
    """Requests that a model supports are answered; others are refused with a reason."""
    experiment = make_experiment(model)
    client = TestClient(create_app(Service(experiment)), base_url="http://127.0.0.1")
    health = get(client, "/health")
    result = get(client, "/recommend", user=USER)["recommendations"]
    assert len(result) == 10
    assert all((one["predicted"] is not None) == health["predicts_ratings"] for one in result)
    assert health["predicts_ratings"] == (model in ("Bias", "EMF"))
    assert bool(get(client, "/profile", user=USER)["keywords"]) == (model == "DReX-implicit")
    if health["explains"]:
        assert get(client, "/explain", user=USER, top=1)["recommendations"]
    else:
        assert "offers no explanations" in get(client, "/explain", 501, user=USER)
    if not health["new_users"]:
        post(client, {"interactions": [{"item": "game_00", "rating": 4}]}, 501)


def test_the_server_starts_and_stops(service: Service) -> None:
    with TestClient(create_app(service), base_url="http://127.0.0.1") as running:
        assert get(running, "/recommend", user=USER, top=1)["recommendations"]


def test_explains(client: TestClient) -> None:
    result = get(client, "/explain", user=USER, top=2)
    assert result["user"] == USER
    assert [one["item"] for one in result["recommendations"]] == [
        one["item"] for one in get(client, "/recommend", user=USER, top=2)["recommendations"]
    ]
    profile = get(client, "/profile", user=USER)["keywords"]
    assert any(keyword["quotes"] for keyword in profile)
    assert result["profile"] == [{**keyword, "quotes": []} for keyword in profile]
    assert result == get(client, "/recommend", user=USER, top=2, explain="true")
    assert result == post(client, {"user": USER, "top": 2, "explain": True})
    (one,) = get(client, "/explain", user=USER, item="game_00")["recommendations"]
    assert one["item"] == "game_00"


def test_profiles(client: TestClient, experiment: Experiment) -> None:
    train = experiment.parts.train_dataset
    for side, field, name in (("user", train.uid_field, USER), ("item", train.iid_field, "game_00")):
        profile = get(client, "/profile", **{side: name})
        rating = train.inter_feat[train.rating_field][train.inter_feat[field] == train.token2id(field, name)].numpy()
        assert (profile["side"], profile["id"], profile["ratings"]) == (side, name, len(rating))
        assert profile["mean_rating"] == pytest.approx(float(np.mean(rating)))
        scores = [keyword["score"] for keyword in profile["keywords"]]
        assert scores and scores == sorted(scores, reverse=True)
        assert {"word", "lemma", "score", "reviews", "mean_rating", "side", "quotes"} <= set(profile["keywords"][0])


def test_user_without_reviews(client: TestClient) -> None:
    profile = get(client, "/profile", user=hostile.SILENT)
    assert profile["keywords"] == [] and profile["ratings"] > 0
    assert len(get(client, "/recommend", user=hostile.SILENT, top=3, explain="true")["recommendations"]) == 3


def test_markup_stays_text(client: TestClient) -> None:
    title = get(client, "/profile", item=hostile.TITLED)["title"]
    assert title == f"{hostile.EVIL} Pok\u00e9 & Co"
    response = client.get("/profile", params={"item": hostile.TITLED})
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-content-type-options"] == "nosniff"


# Search ----------------------------------------------------------------------------------------------------------


def test_searches(client: TestClient) -> None:
    result = get(client, "/items/search", query="POKE")
    assert [one["item"] for one in result["items"]] == [hostile.TITLED]
    assert get(client, "/items/search", query="<ScRiPt>")["total"] == 1
    assert get(client, "/users", query="USER_05")["users"][0]["user"] == "user_05"
    everyone = get(client, "/users", limit=100)
    assert everyone["total"] == len(everyone["users"]) == get(client, "/health")["users"]
    ratings = [one["ratings"] for one in everyone["users"]]
    assert ratings == sorted(ratings, reverse=True)
    assert get(client, "/users", query="\U0001f600 nobody") == {"users": [], "total": 0}


def test_search_ranks_sensibly() -> None:
    titles = ["Redemption", "The Red Planet", "Red", "Sacred", "Red Planet", "\u00c9t\u00e9"]
    names = NameIndex([f"b{index}" for index in range(6)], titles, [9, 8, 1, 99, 3, 0])
    assert names.search("red", 10) == ([2, 0, 4, 1, 3], 5)
    assert names.search("red", 2) == ([2, 0], 5)
    assert names.search("planet red", 10)[0] == [1, 4]
    assert names.search("ETE", 10)[0] == [5]
    assert names.search("B3", 10)[0] == [3]
    assert names.search(" ", 3) == ([3, 0, 1], 6)
    assert fold("Stra\u00dfe\t\u2460") == "strasse 1"


# New users -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "review", ["", "Superb story", *hostile.TEXTS, "\u4f60\u597d", "story " * 16_000, "\U0001f600"]
)
def test_a_new_user(client: TestClient, review: str) -> None:
    body = {"interactions": [{"item": "game_00", "rating": 5, "review": review}, {"item": "game_01", "rating": 1}]}
    result = post(client, body)
    assert len(result["recommendations"]) == 10
    assert not {one["item"] for one in result["recommendations"]} & {"game_00", "game_01"}
    assert all(1 <= one["predicted"] <= 5 for one in result["recommendations"])


def test_a_new_user_gets_explanations(client: TestClient) -> None:
    body = {"interactions": [{"item": "game_00", "rating": 5, "review": "I love the story"}], "top": 2, "explain": True}
    assert len(post(client, body)["recommendations"]) == 2


def test_ratings_of_a_new_user_change_predictions(client: TestClient) -> None:
    def predicted(rating: float) -> dict[str, float]:
        body = {"interactions": [{"item": f"game_{n:02}", "rating": rating} for n in range(5)], "top": 100}
        return {one["item"]: one["predicted"] for one in post(client, body)["recommendations"]}

    low, high = predicted(1), predicted(5)
    assert set(low) == set(high)
    assert math.fsum(high.values()) > math.fsum(low.values())


def test_a_new_item_is_predicted_from_posted_reviews(client: TestClient) -> None:
    def predicted(*reviews: dict) -> list[float]:
        body = {"users": [USER, "user_00"], "reviews": list(reviews)}
        result = checked(client.post("/items/predict", json=body), 200)["predictions"]
        assert [one["user"] for one in result] == body["users"]
        return [one["predicted"] for one in result]

    assert get(client, "/health")["new_items"] is True
    good, bad = (predicted({"rating": rating, "review": "The story.", "user": "user_03"}) for rating in (5, 1))
    assert all(1 <= low < high <= 5 for low, high in zip(bad, good, strict=True))
    assert all(low <= one <= high for low, one, high in zip(bad, predicted(), good, strict=True))


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        ({"users": ["nobody"], "reviews": []}, 404, "unknown user 'nobody'"),
        ({"users": [USER], "reviews": [{"rating": 9}]}, 422, r"reviews\[0\].rating: ratings are from 1 to 5, not 9"),
        ({"users": [USER], "reviews": [{"user": "user_00"}]}, 422, "give a rating, a review or both"),
        ({"users": [USER], "reviews": [{"rating": 5, "user": "user_00"}] * 2}, 422, "posted twice"),
        ({"users": [USER]}, 422, "reviews"),
        ({"users": [], "reviews": []}, 422, "users"),
    ],
)
def test_a_new_item_is_refused_in_one_line(client: TestClient, body: dict, status: int, reason: str) -> None:
    assert re.search(reason, checked(client.post("/items/predict", json=body), status))
