"""Arguments that several commands have in common. Django's ``call_command()`` parses text only."""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections.abc import Callable
from typing import TypeVar

from django.core.management.base import CommandParser

from ..backends.base import BATCH_SIZE
from ..conf import get_login_types

Number = TypeVar("Number", int, float)


def add_login_types(parser: CommandParser) -> None:
    """Add ``--login-type``, stored as ``login_types``: a list of names, or None for all."""
    parser.add_argument(
        "--login-type",
        action="append",
        dest="login_types",
        type=_login_type,
        metavar="NAME",
        help="Only this login type, for example FE; may be repeated. Default: all.",
    )


def add_batch_size(parser: CommandParser, step: str) -> None:
    """Add ``--batch-size``.

    :param step: what handles that many sessions, for the help text
    """
    parser.add_argument(
        "--batch-size",
        type=number(int, lambda size: size >= 1, "a whole number of at least 1"),
        default=BATCH_SIZE,
        metavar="N",
        help=f"How many sessions {step} at most. Default: %(default)s.",
    )


def number(
    convert: Callable[[str], Number], is_valid: Callable[[Number], bool], must_be: str
) -> Callable[[str], Number]:
    """Return a ``type`` for argparse that accepts valid numbers; errors say what they must be."""

    def parse(text: str) -> Number:
        try:
            value = convert(text)
        except ValueError:
            pass
        else:
            if is_valid(value):
                return value
        raise ArgumentTypeError(f"must be {must_be}, not {text!r}")

    return parse


def _login_type(name: str) -> str:
    if name not in get_login_types():
        raise ArgumentTypeError(f"must be one of {', '.join(get_login_types())}, not {name!r}")
    return name
