"""The table of docs/performance.md."""

from __future__ import annotations

import bench


def test_the_page_has_the_stored_results():
    text = bench.PAGE.read_text(encoding="utf-8")
    assert bench.with_table(text) == text, "write the table again: make bench, or benchmarks/bench.py NAME"
    assert text.count("| yes") > 20 and "**no**" in text
