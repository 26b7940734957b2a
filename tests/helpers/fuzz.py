"""A mutation fuzzer: whole inputs are spoilt in many ways, and whoever reads them must use or refuse what comes of it.

The same seed gives the same inputs, so a failure names the number of the input that is to be tried again.
"""

from __future__ import annotations

import random
import signal
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from recbole_drex.errors import DrexError

TOKENS = (
    *b"0 -1 1e400 -1e400 NaN nan -inf Infinity 1e-999 0x_ 0.1e 1_0 2147483648 -9223372036854775809".split(),
    *b'18446744073709551616 true null None NA " \' "" \\ \\u0000 \\ud800 , : # [ ] { } [] {} &a *a <<: ?'.split(),
    *b"!!python/name:os.system 2020-13-45 [PAD] ../../x /dev/null %s%n".split(),
    *b"\x1f\x8b \x28\xb5\x2f\xfd PK\x03\x04 PAR1 \xff \xc3 \xed\xa0\x80 \xef\xbb\xbf \xff\xfe".split(),
    *(
        b"\xe2\x80\xa8",
        b"\xd9\xa0",
        b"",
        b" ",
        b"\t",
        b"\n",
        b"\r",
        b"\r\n",
        b"\0",
        b"&a [*a]",
        b": ",
        b"9" * 25,
        b"9" * 5000,
        b"x" * 5000,
    ),
)
"""What has confused readers of text before, and the first bytes of some formats."""
NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, (1 << 63) - 1, (1 << 64) - 1)
"""Lengths and offsets of binary formats."""
DEEP = 3000
"""Brackets in one another: more than Python lets a function call itself."""


def spoilt(corpus: Sequence[bytes], n: int, seed: int = 2026) -> Iterator[bytes]:
    """``n`` inputs, each made of one of ``corpus`` by one to four changes."""
    rng = random.Random(seed)
    for _ in range(n):
        data = rng.choice(corpus)
        for _ in range(rng.choice((1, 1, 1, 2, 3, 4))):
            data = rng.choice(_CHANGES)(rng, data, corpus)
        yield data


def _span(rng: random.Random, data: bytes) -> tuple[int, int]:
    """Beginning and end of a part of ``data``: mostly a few bytes, now and then any number of them."""
    start = rng.randrange(len(data) + 1)
    length = rng.choice((1, 2, 4, 8, rng.randrange(1, 64), rng.randrange(len(data) + 1)))
    return start, min(start + length, len(data))


def _flip(rng: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8))):
        if changed:
            changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _number(rng: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    width = rng.choice((1, 2, 4, 8))
    start = rng.choice((rng.randrange(len(data) + 1), rng.randrange(min(64, len(data) + 1))))
    number = rng.choice(NUMBERS) & ((1 << 8 * width) - 1)
    return data[:start] + number.to_bytes(width, "little") + data[start + width :]


def _token(rng: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    start, end = _span(rng, data)
    return data[:start] + rng.choice(TOKENS) + data[rng.choice((start, end)) :]


def _word(rng: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    """Put a token in the place of a whole word or number."""
    marks = b" \t\n,:;[]{}\"'"
    start = end = rng.randrange(len(data) + 1)
    while start and data[start - 1] not in marks:
        start -= 1
    while end < len(data) and data[end] not in marks:
        end += 1
    return data[:start] + rng.choice(TOKENS) + data[end:]


def _delete(rng: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    start, end = _span(rng, data)
    return data[:start] + data[end:]


def _repeat(rng: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    start, end = _span(rng, data)
    return data[:end] + data[start:end] * rng.choice((1, 1, 2, 50)) + data[end:]


def _truncate(rng: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def _splice(rng: random.Random, data: bytes, corpus: Sequence[bytes]) -> bytes:
    other = rng.choice(corpus)
    return data[: rng.randrange(len(data) + 1)] + other[rng.randrange(len(other) + 1) :]


def _nest(rng: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    start, end = _span(rng, data)
    first, last = rng.choice(((b"[", b"]"), (b'{"a":', b"}"), (b"(", b")"), (b"- ", b"")))
    return data[:start] + first * DEEP + data[start:end] + last * DEEP + data[end:]


_CHANGES = (_flip, _flip, _number, _token, _word, _word, _delete, _repeat, _truncate, _splice, _nest)


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Fail if this process takes more processor time; other processes do not count."""

    def late(*_: Any) -> None:
        raise AssertionError(f"took longer than {seconds:g} seconds")

    before = signal.signal(signal.SIGPROF, late)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def fuzzed(inputs: Iterable[Any], use: Callable[[Any], Any], seconds: float = 10.0) -> Counter[str]:
    """Give every input to ``use``, which must use it, or refuse it by an error of one line.

    Args:
        inputs: bytes, or whatever ``use`` takes.
        use: the entry point that reads what a user has written.
        seconds: the longest that one input may take.

    Returns:
        How many were ``used`` and ``refused``.

    Raises:
        AssertionError: an input raised something else, took too long, or was refused by more or less than a line; names
            its number and what it holds.
    """
    counts: Counter[str] = Counter()
    for number, given in enumerate(inputs):
        try:
            with within(seconds):
                use(given)
            counts["used"] += 1
        except DrexError as error:
            output = str(error)
            assert output.strip() and len(output.splitlines()) == 1, f"input {number}: {output!r}"
            counts["refused"] += 1
        except Exception as error:
            raise AssertionError(f"input {number}, {given!r:.300}: {type(error).__name__}: {error}"[:1000]) from error
    return counts


def content(folder: Path) -> dict[str, bytes]:
    """All files below a folder, to see whether anything has changed; locks do not count."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != ".lock"
    }
