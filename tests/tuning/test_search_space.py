"""Search spaces: reading, checking, and the points that are tried."""

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_drex.config.recbole_config import Config
from recbole_drex.errors import ConfigError
from recbole_drex.tuning.space import Range, check_space, domains, drawn, grid, read_space, size_of, spaces_of
from recbole_drex.utils.files import properties_dir

BUILT_IN = sorted(path.stem for path in (properties_dir() / "tune").glob("*.yaml"))


def written(tmp_path, text, name="space.yaml"):
    path = tmp_path / name
    path.write_text(text)
    return path


@pytest.mark.parametrize("model", BUILT_IN)
def test_built_in_spaces_are_legal(model):
    space = spaces_of([model], None, {})[model]
    check_space(model, space, "demo", {})
    assert Config(model, "demo").model == model
    assert 5 <= size_of(space) <= 10_000 and len(grid(space)) == size_of(space)


def test_every_line_of_a_built_in_space_or_its_head_names_its_source():
    for model in BUILT_IN:
        text = (properties_dir() / "tune" / f"{model}.yaml").read_text()
        assert text.startswith("# ") and len(text.splitlines()[0]) > 20


def test_a_grid_is_every_combination(tmp_path):
    space = read_space(written(tmp_path, "learning_rate: [0.1, 1e-3]\nmodalities: [[rating], [review, rating]]\n"))
    assert grid(space) == [
        {"learning_rate": rate, "modalities": modalities}
        for rate, modalities in itertools.product([0.1, 0.001], [["rating"], ["review", "rating"]])
    ]
    assert size_of(space) == 4


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    n=st.integers(1, 60),
    seed=st.integers(0, 5),
)
def test_points_at_random_are_distinct_and_of_the_grid(sizes, n, seed):
    space = {f"p{k}": list(range(size)) for k, size in enumerate(sizes)}
    points = drawn(space, n, seed)
    every = [tuple(point.values()) for point in grid(space)]
    result = [tuple(point.values()) for point in points]
    assert len(set(result)) == len(result) == min(n, len(every)) and set(result) <= set(every)
    assert drawn(space, n, seed) == points


def test_ranges(tmp_path):
    text = (
        "learning_rate: {min: 1e-4, max: 1e-1, log: true}\nembedding_size: {min: 8, max: 128, step: 8}\n"
        "dropout: {min: 0, max: 0.5}\nn_layers: {min: 1, max: 3}\nreg_weight: {min: 0.1, max: 0.9, step: 0.2}\n"
    )
    space = read_space(written(tmp_path, text))
    assert space["embedding_size"] == list(range(8, 129, 8)) and space["n_layers"] == Range(1, 3)
    assert space["reg_weight"] == pytest.approx([0.1, 0.3, 0.5, 0.7, 0.9]) and size_of(space) == math.inf
    points = drawn(space, 300, seed=1)
    assert len(points) == 300 and points == drawn(space, 300, seed=1) != drawn(space, 300, seed=2)
    rates = [point["learning_rate"] for point in points]
    assert min(rates) >= 1e-4 and max(rates) <= 1e-1
    assert 0.3 < sum(rate < 10**-2.5 for rate in rates) / 300 < 0.7  # half of the orders of magnitude
    assert {point["embedding_size"] for point in points} <= set(range(8, 129, 8))
    assert {point["n_layers"] for point in points} == {1, 2, 3}
    assert all(type(point["n_layers"]) is int and type(point["dropout"]) is float for point in points)
    assert set(domains(space)) == set(space)
    with pytest.raises(ConfigError, match="grid needs a list of values, but 'learning_rate' has a range"):
        grid(space)


def test_a_small_space_of_ranges_gives_all_that_it_has():
    space = {"n_layers": Range(1, 3), "use_bias": [True, False]}
    assert size_of(space) == 6 and len(drawn(space, 50, seed=0)) == 6


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "names no parameter"),
        ("learning_rate: []", "'learning_rate' is empty"),
        ("learning_rate: 0.1", "must be a list of values"),
        ("learning_rate: [0.1, 0.1]", "has a value twice"),
        ("learning_rate: {min: 0.1, maxx: 1}", "unknown key 'maxx'; did you mean 'max'"),
        ("learning_rate: {min: 0.1}", "must be numbers"),
        ("learning_rate: {min: a, max: b}", "must be numbers"),
        ("learning_rate: {min: 1, max: 0.1}", "min must be below max"),
        ("learning_rate: {min: 0, max: 1, log: true}", "min must be above 0"),
        ("learning_rate: {min: 0, max: 1, step: 2}", "step must be above 0"),
        ("learning_rate: {min: 0, max: 1, step: 1e-9}", "10,000th"),
        ("learning_rate: {min: .nan, max: 1}", "both finite"),
        ("- learning_rate", "must have"),
        ("learning_rate: [", "cannot read"),
    ],
)
def test_bad_spaces(tmp_path, text, message):
    path = written(tmp_path, text)
    with pytest.raises(ConfigError, match=message) as caught:
        read_space(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"lerning_rate": [0.1]}, "parameter of DReX: 'lerning_rate'; did you mean 'learning_rate'.*weight_decay"),
        ({"embedding_size": [16, "many"]}, "'embedding_size' must be int"),
        ({"embedding_size": [16, 0]}, "embedding_size"),
        ({"embedding_size": Range(-8, 8)}, "embedding_size"),
        ({"seed": [1, 2]}, "'seed' is the same for all trials of a search: give it by --seeds"),
        ({"valid_metric": ["rmse", "mae"]}, "'valid_metric' is the same"),
        ({"eval_args": [{"order": "TO"}]}, "'eval_args' is the same"),
    ],
)  # fmt: skip
def test_bad_parameters_are_reported_before_any_trial(space, message):
    with pytest.raises(ConfigError, match=message):
        check_space("DReX", space, "demo", {})


def test_where_spaces_come_from(tmp_path):
    file = written(tmp_path, "learning_rate: [0.1]\nembedding_size: [8, 16]\n")
    assert spaces_of(["BPR"], file, {"learning_rate": 0.5}) == {"BPR": {"embedding_size": [8, 16]}}
    with pytest.raises(ConfigError, match="every parameter of the space is given a value"):
        spaces_of(["BPR"], file, {"learning_rate": 0.5, "embedding_size": 8})
    with pytest.raises(ConfigError, match="must be a folder"):
        spaces_of(["BPR", "DReX"], file, {})
    written(tmp_path, "dropout: [0.1]\n", "DReX.yaml")
    written(tmp_path, "embedding_size: [8]\n", "BPR.yaml")
    assert spaces_of(["BPR", "DReX"], tmp_path, {}) == {"BPR": {"embedding_size": [8]}, "DReX": {"dropout": [0.1]}}
    with pytest.raises(ConfigError, match=r"no search space for NGCF.*have: BPR, DReX"):
        spaces_of(["NGCF"], tmp_path, {})
    with pytest.raises(ConfigError, match="cannot read"):
        spaces_of(["BPR"], tmp_path / "none.yaml", {})
