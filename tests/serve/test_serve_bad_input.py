"""Requests that the server cannot answer get a status of 400 or above, and a reason on one line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import hostile
import pytest

from recbole_drex.experiments.run import load_experiment
from recbole_drex.serve import limits

pytest.importorskip("fastapi", reason="needs the extra serve")

from fastapi.testclient import TestClient
from serving import get, post

from recbole_drex.serve.app import create_app
from recbole_drex.serve.service import Service

USER = "user_05"


@pytest.fixture(scope="module")
def service(hostile_run: Path) -> Service:
    return Service(load_experiment(hostile_run))


@pytest.fixture(scope="module")
def client(service: Service) -> TestClient:
    return TestClient(create_app(service), base_url="http://127.0.0.1", raise_server_exceptions=False)


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
        ("/profile", {}, 422, "either user or item"),
        ("/profile", {"user": USER, "item": "game_00"}, 422, "either user or item"),
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
        ({}, 422, "give exactly one of user .* users .* or interactions .* not none"),
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
        ({"interactions": [ITEM, ITEM]}, 422, "'game_00' is given 2 times"),
        ({"interactions": [{"item": f"i{n}", "rating": 4} for n in range(201)]}, 422, "at most 200"),
        ({"interactions": [{"item": "game_00", "rating": "4"}]}, 422, r"^interactions\[0\].rating: .*number"),
        ({"interactions": [{"item": "game_00", "rating": True}]}, 422, r"^interactions\[0\].rating: .*number"),
    ],
)
def test_bad_bodies(client: TestClient, body: Any, status: int, reason: str) -> None:
    assert re.search(reason, post(client, body, status))


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
