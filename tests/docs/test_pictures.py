"""`make pictures` takes pictures of a run in both themes, and says what is missing."""

from __future__ import annotations

import struct
import sys

import pytest
from conftest import FEW_EPOCHS, SETTINGS

import pictures
from recbole_drex.experiments.quick_start import run
from recbole_drex.utils.files import read_json


def size(png: bytes) -> tuple[int, int]:
    """Width and height of a picture."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", png[16:24])


@pytest.mark.usefixtures("browser")  # skips without Chromium
def test_pictures_of_a_run(small, tmp_path, tmp_path_factory, monkeypatch, capsys):
    results = tmp_path_factory.mktemp("results")
    parameters = {**SETTINGS, **FEW_EPOCHS, "explained_users": 20}
    run(["DReX"], small.name, data_path=small.root, output=results, parameters=parameters, references=False)
    folder = results / small.name / "DReX" / "seed-2026"
    explained = {entry["user"]: entry["recommendations"] for entry in read_json(folder / "explanations.json")}
    user = next(user for user, items in explained.items() if items)
    command = ["pictures.py", "--run", str(folder), "--output", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", [*command, "--user", user])
    assert pictures.main() == 0
    taken = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert sorted(taken) == ["explanation-dark.png", "explanation-light.png", "report-dark.png", "report-light.png"]
    assert size(taken["report-dark.png"]) == size(taken["report-light.png"]) == (2560, 2720)
    assert size(taken["explanation-light.png"])[0] == pytest.approx(1580, abs=60)
    assert taken["explanation-light.png"] != taken["explanation-dark.png"]
    for wrong, message in (
        (["--user", "user_99"], "unknown explained user 'user_99'"),
        (["--user", user, "--rank", "9"], "--rank 9: 3 recommendations of this user are explained"),
        (["--run", str(tmp_path)], "holds no"),
    ):
        monkeypatch.setattr(sys, "argv", [*command, *wrong])
        assert pictures.main() == 2
        assert message in capsys.readouterr().err
