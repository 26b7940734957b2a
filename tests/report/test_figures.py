"""Figures show the stored numbers, and their SVG can be embedded in a page next to others."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from recbole_drex.analysis.friedman import rank_test
from recbole_drex.analysis.groups import group_quality
from recbole_drex.analysis.significance import compare_models
from recbole_drex.errors import ConfigError, DataError
from recbole_drex.report.figures import comparison_figures
from recbole_drex.report.figures.style import DARK, LIGHT, line_styles
from recbole_drex.results.comparison import Comparison, Run, Variant

KS = [1, 2, 3, 4, 5, 10, 15, 20]


def texts(figure: Figure) -> set[str]:
    """All texts of an SVG, which are all visible texts."""
    root = ElementTree.fromstring(comparison_figures.svg(figure))
    return {element.text for element in root.iter("{http://www.w3.org/2000/svg}text") if element.text}


def legend_of(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def invented(
    variants: list[Variant], values: dict[str, float], vary: dict[str, list], dataset: str = "d"
) -> Comparison:
    """A comparison of two seeds whose scores are ``values`` by label, 0.01 more with the second seed."""
    runs = [
        Run(
            Path("nowhere"),
            {
                "label": label,
                "dataset": dataset,
                "seed": seed,
                "fold": None,
                "test": {"own_test": {"ndcg@5": value + 0.01 * seed, "mae": value + 0.01 * seed}, "full": None},
                "valid": {"ndcg@5_10": value / 2},
            },
        )
        for label, value in values.items()
        for seed in (0, 1)
    ]
    return Comparison(Path("nowhere"), "", tuple(variants), (dataset,), tuple(runs), (), vary)


def varied(name: str, values: list, scores: list[float], **more: float) -> Comparison:
    variants = [Variant(f"DReX+{name}={value}", "DReX", {name: value}) for value in values]
    variants += [Variant(label, label, reference=True) for label in more]
    by_label = dict(zip((variant.label for variant in variants), scores, strict=False)) | more
    return invented(variants, by_label, {name: values})


def test_every_figure_of_a_real_comparison(comparison, tmp_path):
    runs = comparison.of(dataset="small")
    made = {
        "curves": comparison_figures.learning_curves(comparison.runs),
        "f1": comparison_figures.metric_at_k(comparison, "small"),
        "full": comparison_figures.metric_at_k(comparison, "tiny", "ndcg", "full"),
        "differences": comparison_figures.differences(compare_models(runs, "mae", comparison.reference), "mae"),
        "ranks": comparison_figures.critical_difference(
            rank_test(comparison, "mae"), rank_test(comparison, "ndcg@5", "full")
        ),
        "groups": comparison_figures.group_quality(group_quality(runs), "mae"),
    }
    for name, figure in made.items():
        for suffix, start in ((".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")):
            path = comparison_figures.save(figure, tmp_path / f"{name}{suffix}")
            content = path.read_bytes()
            assert content.startswith(start) and len(content) > 2000
            if name == "f1":
                assert comparison_figures.save(figure, path).read_bytes() == content, "same figure, same bytes"
        assert len(comparison_figures.svg(figure)) < 60_000
        corners = imread(tmp_path / f"{name}.png")[[0, 0, -1, -1], [0, -1, 0, -1]]
        assert (corners == 1).all(), "white ground, nothing cut at the edges"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        f"{n}.{s}" for n in made for s in ("pdf", "png", "svg")
    )


def test_metric_at_k_draws_means_over_replicates(comparison):
    figure = comparison_figures.metric_at_k(comparison, "small", "ndcg")
    lines = {line.get_color() + str(line.get_marker()): line for line in figure.axes[0].get_lines()}
    look = line_styles([v.label for v in comparison.variants])["DReX+modalities=[rating]"]
    drawn = lines[look["color"] + look["marker"]]
    runs = comparison.of("DReX+modalities=[rating]", "small")
    expected = [sum(run.result["test"]["own_test"][f"ndcg@{k}"] for run in runs) / len(runs) for k in KS]
    assert drawn.get_xdata().tolist() == KS
    np.testing.assert_allclose(drawn.get_ydata(), expected, rtol=1e-12)
    assert {"DReX", "BPR", "BiasedMF", "Random", "Oracle"} <= set(legend_of(figure))
    assert "Random" not in legend_of(comparison_figures.metric_at_k(comparison, "small", "ndcg", "full"))


def test_learning_curves_omit_models_without_epochs(comparison):
    figure = comparison_figures.learning_curves(comparison.of(dataset="small"))
    assert "DReX" in legend_of(figure) and "GlobalMean" not in legend_of(figure)
    run = comparison.of("DReX", "small")[0]
    alone = comparison_figures.learning_curves([run]).axes[0].get_lines()
    assert alone[0].get_ydata().tolist() == [entry["valid_score"] for entry in run.history()]
    with pytest.raises(DataError, match="no run has a learning curve"):
        comparison_figures.learning_curves(comparison.of("GlobalMean"))


def test_misspelt_names_get_the_nearest(comparison):
    with pytest.raises(ConfigError, match="did you mean 'small'"):
        comparison_figures.metric_at_k(comparison, "smal")
    with pytest.raises(ConfigError, match="did you mean 'ndcg'"):
        comparison_figures.metric_at_k(comparison, "small", "ndgc")
    with pytest.raises(ConfigError, match="did you mean 'rmse'"):
        comparison_figures.group_quality(group_quality(comparison.of(dataset="small")), "rmsee")
    with pytest.raises(DataError, match="sampled"):
        comparison_figures.metric_at_k(comparison, "small", "ndcg", "sampled")
    with pytest.raises(ConfigError, match=r"must end with \.png, \.svg, \.pdf"):
        comparison_figures.save(comparison_figures.metric_at_k(comparison, "small"), Path("figure.jpg"))


def test_svg_follows_the_page_and_changes_nothing_else(comparison):
    first = comparison_figures.svg(comparison_figures.metric_at_k(comparison, "small"))
    second = comparison_figures.svg(comparison_figures.metric_at_k(comparison, "tiny"))
    for text in (first, second):
        ElementTree.fromstring(text)
        assert text.startswith("<svg ") and 'role="img"' in text and 'aria-label="F1@k among own test items' in text
        assert "currentColor" in text and "var(--series-1, #144ad1)" in text
        assert "<style" not in text and "font-family" not in text and "#ffffff" not in text and "<!--" not in text
        assert set(re.findall(r"url\(#([^)]+)\)|href=\"#([^\"]+)", text))
        ids = set(re.findall(r' id="([^"]+)"', text))
        assert {a or b for a, b in re.findall(r"url\(#([^)]+)\)|href=\"#([^\"]+)", text)} == ids
    assert not set(re.findall(r' id="([^"]+)"', first)) & set(re.findall(r' id="([^"]+)"', second))
    assert first == comparison_figures.svg(comparison_figures.metric_at_k(comparison, "small"))


def test_settings_and_state_of_the_user_are_unchanged(comparison):
    import matplotlib

    with matplotlib.rc_context({"lines.linewidth": 9, "axes.grid": False, "text.color": "red", "svg.fonttype": "path"}):
        changed = comparison_figures.svg(comparison_figures.metric_at_k(comparison, "small"))
        assert matplotlib.rcParams["lines.linewidth"] == 9
    assert changed == comparison_figures.svg(comparison_figures.metric_at_k(comparison, "small"))


def test_text_from_data_is_not_interpreted():
    labels = ["<script>alert(1)</script>", "a $x_1$ & b", "DReX"]
    tests = pd.DataFrame(
        {
            "mean": [0.1, 0.2, 0.3],
            "difference": [0.0, 0.1, 0.2],
            "ci_low": [np.nan, -0.1, 0.1],
            "ci_high": [np.nan, 0.3, 0.3],
            "p": [np.nan, 0.2, 1e-9],
            "p_holm": [np.nan, 0.2, 1e-9],
        },
        index=labels,
    )
    figure = comparison_figures.differences(tests, "mae")
    assert set(labels) <= texts(figure) and "<script>" not in comparison_figures.svg(figure)
    assert {"p = .200", "p < .001"} <= texts(figure)
    assert any("worse to the right" in text for text in texts(figure))
    assert any("worse to the left" in text for text in texts(comparison_figures.differences(tests, "ndcg@5")))


def test_one_varied_parameter_gives_a_line():
    comparison = varied("learning_rate", [0.0001, 0.01, 0.1], [0.5, 0.7, 0.6], Bias=0.4)
    figure = comparison_figures.sensitivity(comparison, "ndcg@5")
    axes = figure.axes[0]
    assert axes.get_xscale() == "log" and legend_of(figure) == ["DReX", "Bias"]
    line = axes.get_lines()[0]
    np.testing.assert_allclose(line.get_xdata(), [0.0001, 0.01, 0.1])
    np.testing.assert_allclose(line.get_ydata(), [0.505, 0.705, 0.605])
    assert {"0.0001", "0.01", "0.1"} <= texts(figure)


def test_a_varied_reference_is_drawn_once():
    comparison = varied("learning_rate", [0.0001, 0.01, 0.1], [0.5, 0.7, 0.6], DReX=0.5, Bias=0.4)
    figure = comparison_figures.sensitivity(comparison, "ndcg@5")
    assert legend_of(figure) == ["DReX", "Bias"]
    assert figure.axes[0].get_lines()[0].get_color() == LIGHT[0], "the colour of a model, not of a reference"


@pytest.mark.parametrize(
    "values, positions, scale",
    [
        ([0, 0.25, 0.5, 0.75, 1], [0, 0.25, 0.5, 0.75, 1], "linear"),
        ([0, 0.0001, 0.01], [0, 1, 2], "linear"),
        (["zero", "random", "mlp"], [0, 1, 2], "linear"),
        ([True, False], [0, 1], "linear"),
        ([64], [64], "linear"),
    ],
)
def test_positions_of_varied_values(values, positions, scale):
    axes = comparison_figures.sensitivity(varied("name", values, [0.5] * len(values)), "mae").axes[0]
    assert axes.get_xscale() == scale and axes.get_xticks().tolist() == positions


def two_varied(weights: list[float]) -> Comparison:
    rates = [0.01, 1e5]
    variants = [
        Variant(f"DReX+start=mlp+learning_rate={a:g}+reg_weight={b}", "DReX", {"learning_rate": a, "reg_weight": b})
        for a in rates
        for b in weights
    ]
    scores = dict(zip((variant.label for variant in variants), (0.2, 0.4, 0.9, 0.6, 0.5, 0.8), strict=False))
    return invented(variants, scores, {"learning_rate": rates, "reg_weight": weights})


def test_two_varied_parameters_give_a_heat_map():
    figure = comparison_figures.sensitivity(two_varied([0.0, 0.1, 0.2]), "ndcg@5_10", "valid")
    cells = {text.get_text(): text.get_position() for text in figure.axes[0].texts}
    wanted = {".100": (0, 0), ".200": (1, 0), ".450": (2, 0), ".300": (0, 1), ".250": (1, 1), ".400": (2, 1)}
    assert cells == wanted
    frames = [patch for patch in figure.axes[0].patches if not patch.get_fill()]
    assert [(frame.get_x() + 0.5, frame.get_y() + 0.5) for frame in frames] == [(2, 0)], "the best cell"
    assert figure.axes[0].get_title(loc="left") == "DReX+start=mlp, d"


def test_two_values_of_two_parameters_give_lines():
    figure = comparison_figures.sensitivity(two_varied([0.0, 0.1]), "ndcg@5_10", "valid")
    lines = [box.lines[0].get_ydata() for box in figure.axes[0].containers]
    np.testing.assert_allclose(lines, [[0.1, 0.2], [0.45, 0.3]], atol=1e-9)
    assert figure.axes[0].get_xlabel() == "reg_weight"
    assert legend_of(figure) == ["DReX+start=mlp+learning_rate=0.01", "DReX+start=mlp+learning_rate=100000"]


def test_sensitivity_refuses_comparisons_without_varied_parameters(comparison):
    with pytest.raises(DataError, match="has no varied parameters"):
        comparison_figures.sensitivity(comparison, "mae")
    with pytest.raises(ConfigError, match="did you mean 'mae'"):
        comparison_figures.sensitivity(varied("d", [1, 2], [0.1, 0.2]), "mea")


def test_keyword_overlap_emphasises_shared_words(comparison):
    explanation = next(e for e in comparison.of("DReX", "small")[0].explanations() if e["recommendations"])
    shared = {keyword["lemma"] for item in explanation["recommendations"][:3] for keyword in item["keywords"]}
    figure = comparison_figures.keyword_overlap(explanation)
    own = [text.get_text() for text in figure.axes[0].texts]
    assert [word.removeprefix("● ") for word in own] == [keyword["word"] for keyword in explanation["profile"]]
    shared = {keyword["word"] for keyword in explanation["profile"] if keyword["lemma"] in shared}
    assert {word.removeprefix("● ") for word in own if word.startswith("● ")} == shared
    assert figure.get_size_inches()[0] == 8
    # Another written form of a shared lemma is the same word.
    plural = [{**keyword, "word": keyword["word"] + "s"} for keyword in explanation["profile"]]
    figure = comparison_figures.keyword_overlap({**explanation, "profile": plural})
    written = [text.get_text() for text in figure.axes[0].texts]
    assert {word for word in written if word.startswith("● ")} == {f"● {word}s" for word in shared}
    assert all(f"{word}s" in figure.get_label() for word in shared)
    odd = {**explanation, "user": "$\x00<b>", "recommendations": []}
    assert "$ <b>" in comparison_figures.keyword_overlap(odd).axes[0].get_title(loc="left")
    with pytest.raises(DataError, match="no keyword profile"):
        comparison_figures.keyword_overlap({**explanation, "profile": []})


def test_critical_difference_joins_groups(comparison):
    ranks = pd.Series({"a": 1.0, "b": 1.5, "c": 4.0, "d": 5.0})
    test = dataclasses.replace(
        rank_test(comparison, "mae"), mean_ranks=ranks, cd=1.2, groups=(("a", "b"), ("c", "d")), F=9.0, critical=3.0
    )
    axes = comparison_figures.critical_difference(test).axes[0]
    bars = sorted(line.get_xdata().tolist() for line in axes.get_lines() if line.get_color() == LIGHT[1])
    np.testing.assert_allclose(bars, [[0.94, 1.56], [3.94, 5.06]])
    assert {"a (1.00)", "d (5.00)", "CD = 1.200"} <= {text.get_text() for text in axes.texts}
    without_difference = comparison_figures.critical_difference(dataclasses.replace(test, F=1.0))
    assert "finds no difference" in without_difference.axes[0].get_title(loc="left")


def contrast(first: str, second: str) -> float:
    """Contrast ratio of two colours by WCAG 2."""

    def luminance(colour: str) -> float:
        channels = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
        linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


def test_series_are_visible_and_distinguishable():
    assert min(contrast(colour, "#ffffff") for colour in LIGHT) >= 3
    assert min(contrast(colour, "#16181d") for colour in DARK) >= 3
    many = line_styles([f"model {index}" for index in range(20)])
    assert len({tuple(map(str, look.values())) for look in many.values()}) == 20
