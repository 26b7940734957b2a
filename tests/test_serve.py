"""The server's answers about a really trained run, and what it says to requests that it cannot answer."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import hostile
import numpy as np
import pandas as pd
import pytest
import torch

import recbole_drex.compat  # noqa: F401  (first: RecBole needs it)
from recbole.data.interaction import Interaction

from recbole_drex import load
from recbole_drex.record import Experiment
from recbole_drex.serve import limits
from recbole_drex.serve.search import Names, fold

pytest.importorskip("fastapi", reason="needs the extra serve")

from fastapi.testclient import TestClient

from recbole_drex.serve.app import create_app
from recbole_drex.serve.service import Service

USER = "user_05"


@pytest.fixture(scope="module")
def experiment(hostile_run: Path) -> Experiment:
    return load(hostile_run)


@pytest.fixture(scope="module")
def service(experiment: Experiment) -> Service:
    return Service(experiment)


@pytest.fixture(scope="module")
def client(service: Service) -> TestClient:
    return TestClient(create_app(service), base_url="http://127.0.0.1", raise_server_exceptions=False)


@pytest.fixture(scope="module")
def table(hostile_run: Path) -> pd.DataFrame:
    """All interactions as the prepared file has them."""
    path = hostile_run.parents[3] / "atomic_data" / hostile.NAME / f"{hostile.NAME}.inter"
    frame = pd.read_csv(path, sep="\t")
    return frame.rename(columns=lambda name: name.split(":")[0])


@pytest.fixture
def takes_new_users(service: Service) -> None:
    if not hasattr(service.recommender, "best_for"):
        pytest.skip("this version knows only the users of the data")


def get(client: TestClient, path: str, status: int = 200, **parameters: Any) -> Any:
    return checked(client.get(path, params=parameters), status)


def post(client: TestClient, body: Any, status: int = 200) -> Any:
    return checked(client.post("/recommend", json=body), status)


def checked(response: Any, status: int) -> Any:
    """The JSON of an answer with this status; of a failure, its reason, which is one line without a traceback."""
    assert response.status_code == status, response.text
    content = response.json()
    if status < 400:
        return content
    assert set(content) == {"detail"}
    reason = content["detail"]
    assert isinstance(reason, str) and reason and "\n" not in reason and "Traceback" not in reason
    return reason


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


def test_recommends_the_best_of_what_is_new_to_the_user(
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
        found = get(client, "/recommend", user=USER, top=top)
        assert found["user"] == USER
        assert [one["item"] for one in found["recommendations"]] == best[:top]
        for one in found["recommendations"]:
            assert one["predicted"] == pytest.approx(min(max(predicted[one["item"]], 1), 5), abs=1e-4)
    assert post(client, {"user": USER, "top": 3}) == get(client, "/recommend", user=USER, top=3)


def test_several_users_at_once_are_what_each_is_alone(client: TestClient) -> None:
    users = ["user_05", "user_00", hostile.SILENT]
    found = post(client, {"users": users, "top": 2})
    assert found == {"users": [get(client, "/recommend", user=user, top=2) for user in users]}


def test_what_is_remembered_is_what_was_computed(experiment: Experiment, service: Service) -> None:
    forgetful = Service(experiment, remember=0)
    assert forgetful.ahead() == []
    ahead = service.ahead()
    assert sorted(ahead) == list(range(1, experiment.dataset.user_num))
    for user in ahead:
        service.remember(user)
        name = service.recommender.user_name(user)
        assert service.recommend(name, 7) == forgetful.recommend(name, 7)


def test_life_of_the_server(service: Service) -> None:
    with TestClient(create_app(service), base_url="http://127.0.0.1") as living:
        assert get(living, "/recommend", user=USER, top=1)["recommendations"]


def test_explains(client: TestClient, service: Service) -> None:
    found = get(client, "/explain", user=USER, top=2)
    assert found["user"] == USER
    assert [one["item"] for one in found["recommendations"]] == [
        one["item"] for one in get(client, "/recommend", user=USER, top=2)["recommendations"]
    ]
    assert found["profile"] == get(client, "/profile", user=USER)["keywords"]
    assert found == get(client, "/recommend", user=USER, top=2, explain="true")
    assert found == post(client, {"user": USER, "top": 2, "explain": True})
    pair = client.get("/explain", params={"user": USER, "item": "game_00"})
    if hasattr(service.explainer, "explain_pair"):
        (one,) = checked(pair, 200)["recommendations"]
        assert one["item"] == "game_00"
    else:
        checked(pair, 501)


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
    found = get(client, "/items/search", query="POKE")
    assert [one["item"] for one in found["items"]] == [hostile.TITLED]
    assert get(client, "/items/search", query="<ScRiPt>")["total"] == 1
    assert get(client, "/users", query="USER_05")["users"][0]["user"] == "user_05"
    everyone = get(client, "/users", limit=100)
    assert everyone["total"] == len(everyone["users"]) == get(client, "/health")["users"]
    ratings = [one["ratings"] for one in everyone["users"]]
    assert ratings == sorted(ratings, reverse=True)
    assert get(client, "/users", query="\U0001f600 nobody") == {"users": [], "total": 0}


def test_search_ranks_sensibly() -> None:
    titles = ["Redemption", "The Red Planet", "Red", "Sacred", "Red Planet", "\u00c9t\u00e9"]
    names = Names([f"b{place}" for place in range(6)], titles, [9, 8, 1, 99, 3, 0])
    assert names.search("red", 10) == ([2, 0, 4, 1, 3], 5)
    assert names.search("red", 2) == ([2, 0], 5)
    assert names.search("planet red", 10)[0] == [1, 4]
    assert names.search("ETE", 10)[0] == [5]
    assert names.search("B3", 10)[0] == [3]
    assert names.search(" ", 3) == ([3, 0, 1], 6)
    assert fold("Stra\u00dfe\t\u2460") == "strasse 1"


# New users -------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("takes_new_users")
@pytest.mark.parametrize(
    "review", ["", "Superb story", *hostile.TEXTS, "\u4f60\u597d", "story " * 16_000, "\U0001f600"]
)
def test_somebody_new(client: TestClient, review: str) -> None:
    body = {"interactions": [{"item": "game_00", "rating": 5, "review": review}, {"item": "game_01", "rating": 1}]}
    found = post(client, body)
    assert len(found["recommendations"]) == 10
    assert not {one["item"] for one in found["recommendations"]} & {"game_00", "game_01"}
    assert all(1 <= one["predicted"] <= 5 for one in found["recommendations"])


@pytest.mark.usefixtures("takes_new_users")
def test_somebody_new_gets_reasons(client: TestClient, service: Service) -> None:
    if not hasattr(service.explainer, "explain_new"):
        pytest.skip("this version explains only for the users of the data")
    body = {"interactions": [{"item": "game_00", "rating": 5, "review": "I love the story"}], "top": 2, "explain": True}
    assert len(post(client, body)["recommendations"]) == 2


@pytest.mark.usefixtures("takes_new_users")
def test_ratings_of_somebody_new_count(client: TestClient) -> None:
    def predicted(rating: float) -> dict[str, float]:
        body = {"interactions": [{"item": f"game_{n:02}", "rating": rating} for n in range(5)], "top": 100}
        return {one["item"]: one["predicted"] for one in post(client, body)["recommendations"]}

    low, high = predicted(1), predicted(5)
    assert set(low) == set(high)
    assert math.fsum(high.values()) > math.fsum(low.values())


def test_new_users_are_refused_with_a_reason_where_they_are_not_known(client: TestClient, service: Service) -> None:
    if service.takes_new_users:
        pytest.skip("this version takes new users")
    assert "users of the data" in post(client, {"interactions": [{"item": "game_00", "rating": 4}]}, 501)


# Bad input -------------------------------------------------------------------------------------------------------

ITEM = {"item": "game_00", "rating": 4}


@pytest.mark.parametrize(
    ("path", "parameters", "status", "reason"),
    [
        ("/recommend", {"user": "user_5"}, 404, "unknown user 'user_5'; did you mean 'user_.5'"),
        ("/recommend", {"user": "[PAD]"}, 404, "unknown user"),
        ("/recommend", {"user": "zzzzzz"}, 404, "30 users, for example user_"),
        ("/recommend", {"user": hostile.EVIL}, 404, "unknown user '<script>"),
        ("/recommend", {}, 422, "^user: field required"),
        ("/recommend", {"user": ""}, 422, "^user: .*at least 1 character"),
        ("/recommend", {"user": USER, "top": 0}, 422, "^top: .*greater than or equal to 1"),
        ("/recommend", {"user": USER, "top": 101}, 422, "^top: .*less than or equal to 100"),
        ("/recommend", {"user": USER, "top": "many"}, 422, "^top: .*integer"),
        ("/recommend", {"user": USER, "explain": "perhaps"}, 422, "^explain: .*boolean"),
        ("/recommend", {"user": USER, "top": 21, "explain": "true"}, 422, "at most 20 .*explained"),
        ("/explain", {"user": USER, "top": 21}, 422, "at most 20 .*explained"),
        ("/explain", {"user": "nobody"}, 404, "unknown user"),
        ("/explain", {"user": USER, "item": "game_99"}, 404, "unknown item 'game_99'; did you mean"),
        ("/profile", {}, 422, "user or item"),
        ("/profile", {"user": USER, "item": "game_00"}, 422, "one of the two"),
        ("/profile", {"item": "x" * 200}, 404, "unknown item"),
        ("/profile", {"item": "x" * 201}, 422, "^item: .*200 characters"),
        ("/users", {"limit": 101}, 422, "^limit"),
        ("/users", {"query": "x" * 201}, 422, "^query"),
        ("/nowhere", {}, 404, "there is no /nowhere"),
    ],
)
def test_bad_questions(client: TestClient, path: str, parameters: dict[str, Any], status: int, reason: str) -> None:
    assert re.search(reason, get(client, path, status, **parameters))


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        ({}, 422, "give user .* users .* or interactions .* not none of them"),
        ([], 422, "the body must be a JSON object"),
        (None, 422, "send a JSON object"),
        ({"user": USER, "users": [USER]}, 422, "not user and users"),
        ({"users": []}, 422, "^users: .*at least 1"),
        ({"users": [USER, USER]}, 422, "named twice"),
        ({"users": [USER] * (limits.MAX_USERS + 1)}, 422, "^users: .*at most 50"),
        ({"users": [USER, "nobody"]}, 404, "unknown user 'nobody'"),
        ({"users": [USER, "user_00", "user_01"], "explain": True}, 422, "at most 20 .*explained.* not 30"),
        ({"user": 5}, 422, "^user: .*string"),
        ({"user": USER, "topp": 3}, 422, "^topp: unknown name"),
        ({"user": USER, "top": "3"}, 422, "^top: .*integer"),
        ({"interactions": []}, 422, "^interactions: .*at least 1"),
        ({"interactions": [{"rating": 4}]}, 422, r"^interactions\[0\].item: field required"),
        ({"interactions": [{"item": "game_00"}]}, 422, r"^interactions\[0\]: give a rating, a review or both"),
        ({"interactions": [{"item": "game_00", "review": " \n"}]}, 422, "a rating, a review or both"),
        ({"interactions": [ITEM, ITEM]}, 422, "'game_00' is there 2 times"),
        ({"interactions": [{"item": f"i{n}", "rating": 4} for n in range(201)]}, 422, "at most 200"),
        ({"interactions": [{"item": "game_00", "rating": "4"}]}, 422, r"^interactions\[0\].rating: .*number"),
        ({"interactions": [{"item": "game_00", "rating": True}]}, 422, r"^interactions\[0\].rating: .*number"),
    ],
)
def test_bad_bodies(client: TestClient, body: Any, status: int, reason: str) -> None:
    assert re.search(reason, post(client, body, status))


@pytest.mark.usefixtures("takes_new_users")
@pytest.mark.parametrize(
    ("interaction", "status", "reason"),
    [
        ({"item": "game_00", "rating": 9}, 422, r"^interactions\[0\].rating: ratings are from 1 to 5, not 9"),
        ({"item": "game_00", "rating": -1}, 422, "from 1 to 5"),
        ({"item": "game_99", "rating": 4}, 404, "unknown item 'game_99'; did you mean"),
        ({"item": "game_00", "review": "x" * (limits.MAX_REVIEW + 1)}, 413, "at most 100000"),
    ],
)
def test_bad_interactions(client: TestClient, interaction: Any, status: int, reason: str) -> None:
    assert re.search(reason, post(client, {"interactions": [interaction]}, status))
