"""Errors that a user can fix, with a message that helps to do so.

Everything that goes wrong because of an input (a file, a line, a key, a name) raises a subclass of
:class:`DrexError`; the command line prints its message without a traceback. Anything else that escapes is a bug.
"""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable


def printable(text: str) -> str:
    """``text`` on one line, without terminal control characters: controls, escapes, direction marks.

    Example:
        >>> printable("Alien\\x1b[2J\\n3")
        'Alien[2J 3'
    """
    return " ".join(without_controls(text).split())


def without_controls(text: str) -> str:
    """A part of a text without terminal control characters; each blank is kept as a space."""
    return "".join(" " if char.isspace() else char for char in text if char.isspace() or _harmless(char))


def _harmless(char: str) -> bool:
    return unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Zl", "Zp")


class DrexError(Exception):
    """Base of all errors caused by an input. The message is one line and names the file, line or key."""

    def __str__(self) -> str:
        # Quoted messages of libraries and inputs may have several lines or control characters.
        return printable(super().__str__())


class DataError(DrexError):
    """Raw files, atomic files or the feature store cannot be used."""


class StorageError(DataError):
    """A file or folder cannot be written, for lack of space or permission; its content is valid."""


class BusyError(DataError):
    """Another process uses a file or folder."""


class ConfigError(DrexError):
    """A parameter, model or data set is unknown or has an illegal value."""


class CheckpointError(DrexError):
    """A run folder or checkpoint is damaged, not ours or of another version."""


class DownloadError(DrexError):
    """A file could not be downloaded; the message says where to put it by hand."""


class ProcessError(DrexError):
    """Processes that train together cannot connect, or one of them has ended."""


class UnknownNameError(ConfigError):
    """A parameter that does not exist.

    Args:
        kind, name, legal: as for :func:`unknown_name`.
    """

    def __init__(self, kind: str, name: str, legal: Iterable[str]):
        super().__init__(unknown_name(kind, name, legal))
        self.kind, self.name, self.legal = kind, name, list(legal)

    def among(self, options: Iterable[str]) -> str:
        """The message, with the most similar command line option, if there is one."""
        meant = nearest(self.name, options)
        return f"unknown option '--{self.name}'; did you mean '--{meant}'?" if meant else str(self)


def nearest(name: str, legal: Iterable[str], cutoff: float = 0.75) -> str | None:
    """The legal name with the most similar spelling, if there is one; case does not matter.

    Example:
        >>> nearest("modle", ["data_path", "model"]), nearest("gain", ["model"])
        ('model', None)
    """
    folded = {candidate.lower(): candidate for candidate in legal}
    near = difflib.get_close_matches(str(name).lower(), folded, n=1, cutoff=cutoff)
    return folded[near[0]] if near else None


def unknown_name(kind: str, name: str, legal: Iterable[str], hint: str = "") -> str:
    """Build the message for a misspelt name.

    Args:
        kind: what the name stands for, e.g. ``"model"``.
        name: what the user wrote.
        legal: all names that would have been accepted.
        hint: a sentence to append.

    Returns:
        A message with the most similar spelling, if there is one, and the legal names.

    Example:
        >>> unknown_name("model", "Draex", ["DReX", "Bias"])
        "unknown model 'Draex'; did you mean 'DReX'? Legal values: Bias, DReX"
    """
    legal = sorted(set(legal), key=str.lower)
    near = nearest(name, legal, cutoff=0.6)
    question = f"; did you mean '{near}'?" if near else "."
    text = f"unknown {kind} '{name}'{question} Legal values: {', '.join(legal)}"
    return f"{text}. {hint}" if hint else text
