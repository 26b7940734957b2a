"""The command line: ``recbole-drex prepare``, ``run``, ``evaluate``, ``compare``, ``tune``, ``report`` and others.

Each command is a thin call. Heavy imports are local to the commands, so that ``--help`` is fast.
"""

from __future__ import annotations

import argparse
import errno
import io
import os
import shlex
import sys
from collections.abc import Sequence
from typing import Any

from recbole_drex.cli.options import make_parser, option_names
from recbole_drex.errors import ConfigError, DrexError, UnknownNameError, nearest, unknown_name
from recbole_drex.utils.progress import never_silent

# File errors that the user can fix: no space, no permission, a broken disk or a name that is too long. Libraries such
# as TensorBoard raise them for their own files.
_REFUSED = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO, errno.ENAMETOOLONG)
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; errors that the user can fix are printed on one line, with exit status 2."""
    # Threads that spin for long take the cores from other processes: with two of them busy, explaining took seven times
    # as long. OpenMP reads this when torch is imported; so short a spin costs nothing on an idle machine.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "3000")
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    parser, commands = make_parser()
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a character shows "?".
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="replace")
    try:
        for argument in arguments:
            if not argument.isascii() and any("\ud800" <= char <= "\udfff" for char in argument):
                raise ConfigError(f"argument {argument!r} is not in UTF-8")
        if arguments and not arguments[0].startswith("-") and arguments[0] not in commands:
            raise ConfigError(unknown_name("command", arguments[0], commands))
        if arguments and not arguments[0].startswith("-"):
            _check_options(commands[arguments[0]], arguments)
        if not arguments:
            parser.print_help()
            return 0
        options, rest = parser.parse_known_args(arguments)
        if rest and not options.takes_parameters:
            raise ConfigError(f"unknown argument {rest[0]!r}; see recbole-drex {arguments[0]} --help")
        options.parameters = parse_parameters(rest)
        if output := getattr(options, "model_output", None):
            options.parameters["output"] = output
        with never_silent(arguments[0]):
            return options.command(options, shlex.join(["recbole-drex", *arguments]))
    except UnknownNameError as error:
        names = option_names(commands[arguments[0]])
        is_option = error.name in options.parameters and error.name not in names  # from the command line
        print(f"error: {error.among(names) if is_option else error}", file=sys.stderr)
        return 2
    except (DrexError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # The reader of the output (head, less) has closed it; buffered output must not be written at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        if error.errno not in _REFUSED:
            raise
        print(f"error: {error.filename or 'a file'}: {error.strerror}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        hints = {
            "run": "; run the same command with --resume to continue from the last finished epoch",
            "compare": "; run the same command to continue from the last finished epoch",
            "tune": "; run recbole-drex tune --resume DIR to continue the search in that folder",
        }
        hint = hints.get(arguments[0], "")
        print(f"\nstopped{hint}", file=sys.stderr)
        return 130


def _check_options(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> None:
    """Check the names of the options of a command that takes no parameters.

    Raises:
        ConfigError: unknown option.
    """
    legal = option_names(parser)
    for argument in arguments[1:]:
        name = argument.partition("=")[0].lstrip("-")
        if argument.startswith("--") and name not in legal and not parser.get_default("takes_parameters"):
            meant = nearest(name, legal)
            hint = f"did you mean '--{meant}'?" if meant else f"see recbole-drex {arguments[0]} --help"
            raise ConfigError(f"unknown argument {argument!r}; {hint}")


_SWITCHES = ("fetch_images",)  # parameters that may be given without a value


def parse_parameters(arguments: Sequence[str]) -> dict[str, Any]:
    """Read ``--name value`` and ``--name=value`` pairs; values are read as YAML. A switch needs no value.

    Raises:
        ConfigError: a name without a value, a value without a name, or a name given twice.

    Example:
        >>> parse_parameters(["--epochs", "2", "--learning_rate=1e-3", "--keep_unrated", "false"])
        {'epochs': 2, 'learning_rate': 0.001, 'keep_unrated': False}
        >>> parse_parameters(["--fetch_images", "--epochs", "2"])
        {'fetch_images': True, 'epochs': 2}
    """
    from recbole_drex.config.yaml_values import parse_value

    parameters: dict[str, Any] = {}
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        if not argument.startswith("--") or len(argument) < 3:
            raise ConfigError(f"expected --name value, found {argument!r}")
        name, equals, value = argument[2:].partition("=")
        if not equals:
            if rest and not (rest[0].startswith("--") and len(rest[0]) > 2):
                value = rest.pop(0)
            elif name in _SWITCHES:
                value = "true"
            else:
                raise ConfigError(f"parameter --{name} lacks a value: write --{name} VALUE")
        if name in parameters:
            raise ConfigError(f"parameter --{name} is given twice")
        parameters[name] = parse_value(value)
    return parameters
