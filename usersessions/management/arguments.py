"""What the commands of the app ask of their arguments."""

from __future__ import annotations

from argparse import ArgumentTypeError
from math import isfinite
from typing import Any

from django.core.management.base import CommandError, CommandParser

from ..backends.base import BATCH_SIZE
from ..conf import get_login_types


def add_login_types(parser: CommandParser) -> None:
    """Let people say ``--login-type``; ``login_types`` is for ``choose_login_types()``."""
    parser.add_argument(
        "--login-type",
        action="append",
        dest="login_types",
        metavar="NAME",
        help="Only this login type, for example FE; may be repeated. Default: all.",
    )


def choose_login_types(chosen: Any) -> list[str]:
    """Return the names of the login types to go through, each once; all if none was chosen.

    :raises CommandError: there is no such login type
    """
    known = get_login_types()
    names = as_list(chosen)
    for name in names:
        if name not in known:
            raise CommandError(f"There is no login type {name!r}; choose from: {', '.join(known)}.")
    return list(dict.fromkeys(names or known))


def as_list(value: Any) -> list[Any]:
    """Return what a repeatable argument was given; code may pass one value instead of a list."""
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple, set, frozenset)) else [value]


def add_batch_size(parser: CommandParser, what: str) -> None:
    """Let people say ``--batch-size``.

    :param what: what takes so many sessions, for the help text
    """
    parser.add_argument(
        "--batch-size",
        type=_batch_size,
        default=BATCH_SIZE,
        metavar="N",
        help=f"How many sessions {what} at the most. Default: %(default)s.",
    )


def check_batch_size(size: int) -> None:
    """Check what code has passed, which no parser has seen.

    :raises CommandError: it is less than 1
    """
    if size < 1:
        raise CommandError(f"batch_size must be at least 1, not {size!r}.")


def seconds(text: str) -> float:
    """Return a duration in seconds; ``check_max_seconds()`` and ``check_pause()`` say which."""
    try:
        return float(text)
    except ValueError:
        raise ArgumentTypeError(f"must be a number of seconds, not {text!r}") from None


def check_max_seconds(duration: float | None) -> None:
    """Check how long a command may go on; None: until it is done.

    :raises CommandError: it is not above 0, or no end at all
    """
    if duration is not None and not (_is_finite(duration) and duration > 0):
        raise CommandError(f"max_seconds must be a number of seconds above 0, not {duration!r}.")


def check_pause(duration: float) -> None:
    """Check how long a command waits between two steps.

    :raises CommandError: it is less than 0, or no end at all
    """
    if not (_is_finite(duration) and duration >= 0):
        raise CommandError(f"pause must be a number of seconds, 0 or more, not {duration!r}.")


def _is_finite(value: object) -> bool:
    return isinstance(value, (int, float)) and isfinite(value)


def _batch_size(text: str) -> int:
    try:
        size = int(text)
    except ValueError:
        size = 0
    if size < 1:
        raise ArgumentTypeError(f"must be a whole number of at least 1, not {text!r}")
    return size
