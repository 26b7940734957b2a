"""JSON lines: blocks that are parsed together give the rows that single lines give."""

from __future__ import annotations

import json

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recbole_drex.data.raw import formats, readers
from recbole_drex.data.raw.json_lines import LONGEST, judged, typed_reader
from recbole_drex.data.raw.readers import read_reviews

NAMES = {"id": ("id", "other"), "number": ("number",)}
TYPES = {"id": pa.string(), "number": pa.float64()}
GOOD = b'{"id": "a", "number": 4.5, "unused": [{"x": null}]}'

NOT_PLAIN = {
    "a blank line": b"\n",
    "a line of blanks": b"  ",
    "carriage return": GOOD + b"\r",
    "blanks before": b" " + GOOD,
    "two objects": GOOD + GOOD,
    "two objects and a blank line": GOOD + GOOD + b"\n",
    "over two lines": b'{"id": "a",\n"number": 1}',
    "two objects, then one over two lines": GOOD + GOOD + b'\n{"id":\n"a"}',
    "cut off": b'{"id": "a"',
    "no object": b"[1]",
    "a word as number": b'{"number": "4.5"}',
    "a number as id": b'{"id": 4}',
    "true as id": b'{"id": true}',
    "a key twice": b'{"id": "a", "id": "b"}',
    "NaN": b'{"number": NaN}',
    "NaN that nobody asked for": b'{"unused": [NaN ]}',
    "infinity that nobody asked for": b'{"unused": -Infinity}',
    "a number beyond all floats": b'{"unused": 1e400}',
    "half a pair of surrogates": b'{"unused": "\\udc00"}',
    "no UTF-8": b'{"id": "na\xefve"}',
    "no UTF-8 where nobody asked": b'{"unused": "na\xefve"}',
    "raw tab": b'{"unused": "a\tb"}',
    "NUL": b'{"unused": "a\0b"}',
    "NUL after the object": GOOD + b"\0",
}


@pytest.mark.parametrize("case", NOT_PLAIN)
def test_blocks_with_a_doubtful_line_are_left_to_the_exact_reader(case):
    block = b"\n".join([GOOD, NOT_PLAIN[case], GOOD])
    assert typed_reader(NAMES, TYPES)(block, block.count(b"\n") + 1) is None


def test_plain_blocks_are_parsed_together():
    lines = [GOOD, b"{}", b'{"other": "b", "number": 12}', '{"id": null, "other": "é\\ud83d\\ude00\\u0000"}'.encode()]
    columns = typed_reader(NAMES, TYPES)(b"\n".join(lines), 4)
    assert columns["id"].to_pylist() == ["a", None, "b", "é😀\0"]
    assert columns["number"].to_pylist() == [4.5, None, 12.0, None]
    assert {name: column.type for name, column in columns.items()} == TYPES
    clash = {"id": ("id",), "number": ("id",)}
    assert typed_reader(clash, TYPES)(b'{"id": "a"}', 1) is None
    assert typed_reader(NAMES, TYPES)(b'{"id": "' + b"x" * LONGEST + b'"}', 1) is None


def test_lines_are_judged_one_by_one():
    lines, rows, bad = judged(b'{"a": 1}\n\n[2]\n{"a": 3}\n{', 7)
    assert (lines, rows) == ([7, 10], [{"a": 1}, {"a": 3}])
    assert [number for number, _ in bad] == [9, 11]


def review(**values):
    row = {"rating": 4, "title": "A", "text": "b c", "parent_asin": "I", "user_id": "U", "timestamp": 1_541_808_000_000}
    return json.dumps(row | values).encode()


HARD = [
    *(NOT_PLAIN.values()),
    review(rating=0),
    review(rating=5.5),
    review(rating=None, overall=2),
    review(rating="3"),
    review(timestamp=-1),
    review(timestamp=10**400 // 10**95),
    review(user_id=" \u2003U\x1f"),
    review(user_id="a\u00a0b"),
    review(parent_asin="", asin="J"),
    review(parent_asin=None, asin="J"),
    review(title="\x85 ", text=""),
    review(title=None, text="\u3000x\u200b"),
    review(text=3),
    review(unused=[1] * 50),
]
LINES = st.lists(st.just(review()) | st.sampled_from(HARD) | st.binary(max_size=20), min_size=1, max_size=30)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(LINES)
def test_files_are_judged_as_line_by_line(tmp_path, lines):
    path = tmp_path / "r.jsonl"
    path.write_bytes(b"\n".join([review(), *lines]))
    result = []
    for types in (readers._TYPES, None):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(readers, "_TYPES", types)
            patch.setattr(formats, "_BLOCK", 500)
            raw = read_reviews(path, tmp_path / "s.parquet", bad_line_share=1.0)
        result.append((raw.sources, raw.texts(raw.frame["row"].to_numpy()), raw.frame))
    assert result[0][:2] == result[1][:2]
    pd.testing.assert_frame_equal(result[0][2], result[1][2])
