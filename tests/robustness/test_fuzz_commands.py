"""Fuzzing of what people type and post: command lines through ``main``, parameters, rows, bodies of requests."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fuzz import TOKENS, content, fuzzed, spoilt
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recbole_drex.cli.main import main
from recbole_drex.config.recbole_config import Config
from recbole_drex.data.prepare.pipeline import prepare
from recbole_drex.data.prepare.sources import Sources
from recbole_drex.data.raw.demo import generate_demo
from recbole_drex.data.raw.readers import read_items, read_reviews
from recbole_drex.errors import ConfigError, DrexError
from recbole_drex.evaluation.protocol import Protocol
from recbole_drex.experiments.run import load_experiment

slow = pytest.mark.slow


def legs(few: int, many: int) -> Any:
    """A test of ``inputs`` inputs: few in the fast leg, many in the slow one."""
    return pytest.mark.parametrize("inputs", [few, pytest.param(many, marks=slow)])


def tried(inputs: int) -> Callable[[Any], Any]:
    """Settings of hypothesis for a number of inputs; the fuzzer limits the time."""
    checks = (HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large)
    return settings(max_examples=inputs, deadline=None, suppress_health_check=checks, database=None)


tokens = [token.decode("utf-8", "replace") for token in TOKENS if len(token) < 99]
texts = st.text(max_size=12) | st.sampled_from(tokens)
leaves = st.none() | st.booleans() | st.integers() | st.floats() | texts
values = st.recursive(leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3))


# Rows -----------------------------------------------------------------------------------------------------------

names = st.sampled_from(["u", "v", " u ", "NA", ""]) | values
rows = st.lists(
    st.fixed_dictionaries(
        {"user_id": names, "parent_asin": names},
        optional=dict.fromkeys(("rating", "timestamp", "title", "text", "description", "categories"), values),
    ),
    min_size=1,
    max_size=6,
)


@legs(10, 400)
def test_rows_of_any_values(inputs: int, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"

    @tried(inputs)
    @given(rows)
    def check(drawn: list[dict[str, Any]]) -> None:
        path.write_text("".join(json.dumps(row) + "\n" for row in drawn), encoding="utf-8")
        fuzzed([path], lambda one: read_reviews(one, tmp_path / "spill.parquet", bad_line_share=1.0))
        fuzzed([path], read_items)

    check()


# Parameters -----------------------------------------------------------------------------------------------------


@legs(10, 600)
def test_parameters_of_any_values(inputs: int) -> None:
    legal = sorted(Config("DReX", "x").legal)

    @tried(inputs)
    @given(st.dictionaries(st.sampled_from(legal) | texts, values, max_size=3))
    def check(drawn: dict[str, Any]) -> None:
        def use(parameters: dict[str, Any]) -> None:
            Protocol.from_config(Config("DReX", "x", config_dict=parameters))

        fuzzed([drawn], use)

    check()


# Command lines --------------------------------------------------------------------------------------------------

NAME = "tiny"
SETTINGS = ["--user_min", "3", "--item_min", "2", "--threads", "1"]
_WORDS = (
    "0 -1 1 2 nan inf .nan 1e400 [] {} [1] [[1]] {a:1} true ~ x ../.. a/b /dev/null empty bad.yaml raw data . -- "
    "- = --x \u00e9 \udc80 %s *a !!python/object:os.system 2020-13-45 0.5 demo cuda:7 zzz://a a,b , 1,2 2026,2026 "
    "a=b rating=1,2 seed=1"
)
WORDS = (*_WORDS.split(), "", "\u2028", "&a [1]", "[a, b", "x" * 300, "9" * 30, "[" * 400)
_PARAMETERS = (
    "epochs learning_rate metrics topk eval_args valid_metric rating_range columns encoder bad_line_share "
    "item_features images lemmatizer max_length precision load_col unload_col train_batch_size stopping_step "
    "clip_grad_norm state seed weight_decay learner train_neg_sample_args val_interval user_inter_num_interval "
    "rm_dup_inter threshold encoding normalize_field field_separator USER_ID_FIELD RATING_FIELD NEG_PREFIX "
    "hide_reviews keep_unrated relevance gain candidates mask empty_user explained_users benchmark_filename "
    "alias_of_user_id nosuch"
)
PARAMETERS = _PARAMETERS.split()


def command_lines(n: int, seed: int = 2026) -> Iterator[list[str]]:
    """Commands that are right but for a few words; none of them starts a server, a cluster or a download."""
    rng = random.Random(seed)

    def word() -> str:
        return rng.choice(WORDS)

    def either(right: str) -> str:
        return rng.choice((right, right, right, word()))

    for _ in range(n):
        data = [*SETTINGS, "--data_path", "data"]
        common = [*data, "--epochs", "1", "--output_dir", "out", "--no_references"]
        arguments = rng.choice(
            (
                ["run", "--model", either("Bias"), "--dataset", either(NAME), *common],
                ["compare", "--models", either("Bias"), "--datasets", either(NAME), "--seeds", either("1"), *common],
                ["prepare", "--dataset", either("new"), "--raw", either("raw/demo.jsonl.gz"), *data],
                ["explain", "--run", word(), "--user", word()],
                ["report", word()],
                ["paper", either("table-4"), word()],
                ["serve", "--run", word(), "--port", word()],
                ["tune", "--models", either("Bias"), "--dataset", NAME, "--space", word(), "--algo", "none", *data],
                [word(), word()],
            )
        )
        if arguments[0] in ("run", "compare", "prepare"):
            for _ in range(rng.choice((1, 1, 2))):
                name, value = rng.choice(PARAMETERS), word()
                arguments += rng.choice(([f"--{name}={value}"], [f"--{name}", value]))
        if rng.random() < 0.1:
            arguments.insert(rng.randrange(len(arguments) + 1), word())
        yield arguments


@legs(12, 300)
def test_command_lines(inputs: int, tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    """They do what they say or end with status 2 and an error; what was prepared before stays as it was."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RECBOLE_DREX_RAW", raising=False)
    generate_demo(tmp_path / "raw", users=10, items=20, reviews=120)
    assert main(["prepare", "--dataset", NAME, "--raw", "raw/demo.jsonl.gz", "--data_path", "data", *SETTINGS]) == 0
    (tmp_path / "bad.yaml").write_text("epochs: [")
    (tmp_path / "empty").touch()
    before = content(tmp_path / "data" / NAME)

    def use(arguments: list[str]) -> None:
        capsys.readouterr()
        try:
            status = main(arguments)
        except SystemExit as error:  # argparse has said what is wrong
            status = error.code
        said = capsys.readouterr().err
        assert "Traceback" not in said
        assert content(tmp_path / "data" / NAME) == before
        assert not list(tmp_path.rglob("*.tmp"))
        if (tmp_path / "data" / "new" / "new.json").exists():
            settings = Config("Bias", "new", config_dict={"data_path": "data"}).preparation()
            made = json.loads((tmp_path / "data" / "new" / "new.json").read_text())["settings"]
            assert prepare("new", tmp_path / "data", settings | made, Sources())["files"]
        for folder in ("out", "data/new"):
            shutil.rmtree(tmp_path / folder, ignore_errors=True)
        if status == 2:
            assert "error: " in said.splitlines()[-1]
            raise ConfigError(said.splitlines()[-1])
        # A comparison whose runs have failed says so by 1.
        assert status == 0 or (status == 1 and arguments[0] == "compare")

    counts = fuzzed(command_lines(inputs), use, seconds=30)
    assert counts.total() == inputs and counts["refused"]


# Requests -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def client(hostile_run: Path) -> Any:
    pytest.importorskip("fastapi", reason="needs the extra serve")
    from fastapi.testclient import TestClient

    from recbole_drex.serve.app import create_app
    from recbole_drex.serve.service import Service

    app = create_app(Service(load_experiment(hostile_run)))
    return TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False)


def _answered(response: Any) -> None:
    """Answered, or refused in one line."""
    assert response.status_code < 500 or response.status_code == 501, response.text
    answer = response.json()
    if response.status_code >= 400:
        raise DrexError(answer["detail"])
    assert "NaN" not in response.text and "Infinity" not in response.text


wishes = st.fixed_dictionaries(
    {},
    optional={
        "user": st.sampled_from(["user_05", "nobody"]) | values,
        "users": st.lists(st.sampled_from(["user_05", "user_06"]), max_size=2) | values,
        "top": st.integers(-1, 101) | values,
        "explain": st.booleans() | values,
        "interactions": values
        | st.lists(
            st.fixed_dictionaries(
                {"item": st.sampled_from(["game_00", "game_01"]) | values},
                optional={"rating": st.integers(0, 6) | values, "review": texts | values},
            ),
            max_size=3,
        ),
    },
)


@legs(10, 400)
def test_bodies_of_any_values(inputs: int, client: Any) -> None:
    @tried(inputs)
    @given(wishes | values)
    def check(body: Any) -> None:
        headers = {"content-type": "application/json"}
        fuzzed([json.dumps(body)], lambda text: _answered(client.post("/recommend", content=text, headers=headers)))

    check()


@legs(10, 600)
def test_spoilt_bodies(inputs: int, client: Any) -> None:
    interactions = [{"item": "game_00", "rating": 4.5, "review": "Superb."}, {"item": "game_01", "rating": 2}]
    bodies = (
        {"user": "user_05", "top": 3},
        {"users": ["user_05", "user_06"]},
        {"interactions": interactions, "top": 2},
    )
    corpus = [json.dumps(body).encode() for body in bodies]
    headers = {"content-type": "application/json"}
    counts = fuzzed(
        spoilt(corpus, inputs), lambda data: _answered(client.post("/recommend", content=data, headers=headers))
    )
    assert counts.total() == inputs and counts["refused"]


@legs(10, 300)
def test_questions_of_any_text(inputs: int, client: Any) -> None:
    @tried(inputs)
    @given(
        st.sampled_from(["/recommend", "/explain", "/profile", "/users", "/items/search"]),
        st.dictionaries(
            st.sampled_from(["user", "item", "top", "explain", "query", "limit"]),
            st.sampled_from(["user_05", "game_00", "3", "true"]) | texts,
            max_size=4,
        ),
    )
    def check(path: str, parameters: dict[str, str]) -> None:
        fuzzed([parameters], lambda one: _answered(client.get(path, params=one)))

    check()
