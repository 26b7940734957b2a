"""JSON files."""

from __future__ import annotations

import dataclasses
import json

import pytest

from recbole_drex.utils.files import json_text


@dataclasses.dataclass(frozen=True)
class Pair:
    name: str
    values: tuple[float, ...]


def test_json_has_the_values_of_the_standard_library():
    value = {"a": [0.1, 1e-5, 1e22, -0.0, 3], 2: None, 'ü\n"': {"x": True}, "empty": {}}
    text = json_text(value)
    assert json.loads(text) == json.loads(json.dumps(value))
    assert text.startswith('{\n  "a": [\n    0.1,\n') and text.endswith("}\n") and "ü" in text


def test_a_dataclass_becomes_an_object():
    assert json.loads(json_text([Pair("a", (1.0, 2.5))])) == [{"name": "a", "values": [1.0, 2.5]}]


@pytest.mark.parametrize("value", (float("nan"), float("inf"), Pair("a", (float("nan"),))))
def test_numbers_that_json_lacks_are_refused(value):
    with pytest.raises(ValueError, match="JSON compliant"):
        json_text({"deep": [value]})


@pytest.mark.parametrize("value", (2**70, {1, 2}, object()))
def test_values_that_json_lacks_are_refused(value):
    with pytest.raises(TypeError):
        json_text([value])
