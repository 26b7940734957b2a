"""Every declared parameter refuses wrong values, before any data are read, in one line."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from typing import Any

import pytest

from recbole_drex.config.general_parameters import RECBOLE, RECBOLE_MODELS, declared, own_parameters
from recbole_drex.config.parameters import Parameter, with_defaults
from recbole_drex.config.recbole_config import Config
from recbole_drex.config.yaml_values import read_yaml
from recbole_drex.errors import ConfigError
from recbole_drex.registry import get_model, own_models, recbole_models
from recbole_drex.utils.files import properties_dir

MODELS = own_models()
# Declared by class or by all; of those that several models share, each model's.
DECLARED = [
    *(("GlobalMean", parameter) for parameter in declared(get_model("GlobalMean")).values()),
    *(("LightGCN", parameter) for parameter in RECBOLE_MODELS if parameter.name != "dropout"),
    *(
        (model, parameter)
        for model in (
            "Bias",
            "BiasedMF",
            "DAML",
            "DMF-paper",
            "DReX",
            "DeepCoNN",
            "EMF",
            "HFT",
            "HRDR",
            "LIRDRec",
            "NARRE",
            "PEPLER",
            "PESI",
            "PETER",
            "VBPR",
        )
        for parameter in own_parameters(get_model(model))
    ),
]


def wrong_values(parameter: Parameter) -> list[Any]:
    """A value of another type, values just outside the range, and a misspelt choice."""
    wrong: list[Any] = [{1: 2}] if dict not in parameter.types else ["text"]
    if not parameter.optional and parameter.default is not None:
        wrong.append(None)
    if {int, float} & {*parameter.types} and list not in parameter.types:
        wrong.append(True)
    if parameter.types == (int,):
        wrong.append(0.5 + max(parameter.least or 0, 0))
    if parameter.least is not None:
        wrong.append(parameter.least - 1)
    if parameter.most is not None:
        wrong.append(parameter.most + 1)
    if parameter.choices:
        misspelt = parameter.choices[0] + "x"
        wrong += [[misspelt], [parameter.choices[0]] * 2] if list in parameter.types else [misspelt]
    return wrong


# What several models declare alike is tried with one of them.
_ALIKE = {repr((one.name, one.type, one.values, one.optional)): (model, one) for model, one in DECLARED}
CASES = [(model, one, value) for model, one in _ALIKE.values() for value in wrong_values(one)]


@pytest.mark.parametrize(
    ("model", "parameter", "value"), CASES, ids=[f"{model}-{one.name}-{value}" for model, one, value in CASES]
)
def test_wrong_values_are_refused_in_one_line(model, parameter, value):
    with pytest.raises(ConfigError) as caught:
        Config(model, "never-read", config_dict={parameter.name: value})
    output = str(caught.value)
    assert f"'{parameter.name}'" in output and "\n" not in output
    if parameter.choices and value == parameter.choices[0] + "x":
        assert f"did you mean '{parameter.choices[0]}'" in output
        assert all(choice in output for choice in parameter.choices)


ODD = [
    ("DReX", {"columns": {"user_id": 1.5}}, "'columns' must be {user_id: name in the file, ...}"),
    ("DReX", {"item_columns": {"item_id": ["x"]}}, "'item_columns' must be {item_id: name in the file, ...}"),
    ("DReX", {"rating_range": [5, 1]}, r"'rating_range' must be auto or [lowest, highest], such as [1, 5], not [5, 1]"),
    ("DReX", {"rating_range": "all"}, "'rating_range' must be auto or"),
    ("DReX", {"topk": [0]}, "'topk' must be whole numbers of 1 or more, such as [5, 10], not [0]"),
    ("DReX", {"topk": []}, "'topk' must be"),
    ("DReX", {"metrics": []}, "'metrics' must be the names of at least one metric, not []"),
    ("DReX", {"metrics": [5]}, "'metrics' must be the names of at least one metric, not [5]"),
    ("DReX", {"world_size": 0}, "'world_size' must be -1 (as many as nproc) or 1 or more, not 0"),
    ("DReX", {"modalities": []}, "'modalities' must be a list of one name or more, each once, not []"),
    ("DReX", {"modalities": ["rating", "rating"]}, "each once"),
    ("DReX", {"ablations": [{"no_parameter": 1}, 5]}, "'ablations' must be a list of {name: value}"),
    ("DReX", {"missing_rating": "none"}, "'missing_rating' must be float but is 'none'"),
    ("DMF-paper", {"user_hidden_size_list": [8]}, "'user_hidden_size_list' must be two or more widths"),
    ("LIRDRec", {"modality_weights": [0.5, 0.2]}, "'modality_weights' must be numbers of 0 or more that sum to 1"),
    ("BPR", {"embedding_size": 0}, "'embedding_size' must be 1 or more, not 0"),
    ("BPR", {"learner": "adma"}, "did you mean 'adam'"),
    ("LightGCN", {"require_pow": 3}, "'require_pow' must be bool, like False, but is 3"),
]


@pytest.mark.parametrize(("model", "parameters", "message"), ODD, ids=[f"{model}-{given}" for model, given, _ in ODD])
def test_values_of_a_wrong_shape_are_refused(model, parameters, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        Config(model, "x", config_dict=parameters)


@pytest.mark.parametrize("name", [*MODELS, *recbole_models()])
def test_every_default_is_legal(name):
    assert Config(name, "x").model == name


@pytest.mark.parametrize("name", MODELS)
def test_every_parameter_of_a_file_is_declared(name):
    assert {*read_yaml(properties_dir() / "model" / f"{name}.yaml")} <= {*declared(get_model(name))}


def test_every_parameter_has_a_meaning():
    undocumented = {parameter.name for parameter in (*RECBOLE, *RECBOLE_MODELS)}
    assert [one.name for _, one in DECLARED if not one.help and one.name not in undocumented] == []


def test_an_edited_default_is_checked_too(tmp_path, monkeypatch):
    from recbole_drex.config import recbole_config

    folder = shutil.copytree(properties_dir(), tmp_path / "properties")
    monkeypatch.setattr(recbole_config, "properties_dir", lambda: folder)
    with (folder / "model" / "Bias.yaml").open("a") as file:
        file.write("als_steps: 0\n")
    with pytest.raises(ConfigError, match="'als_steps' must be 1 or more, not 0"):
        Config("Bias", "x")


def test_other_defaults_of_a_base_class():
    size = Parameter("size", int, 64, "Width.", least=1)
    assert with_defaults([size], size=8)[0] == Parameter("size", int, 8, "Width.", least=1)
    with pytest.raises(ConfigError, match="unknown parameter 'sise'; did you mean 'size'"):
        with_defaults([size], sise=8)


def test_declarations_are_read_without_torch():
    modules = "recbole_drex.config.general_parameters, recbole_drex.model.drex.drex_parameters"
    code = f"import sys, {modules}; assert not {{'torch', 'recbole'}} & {{*sys.modules}}"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
