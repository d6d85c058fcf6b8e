"""What the commands of the app ask of their arguments."""

from __future__ import annotations

from argparse import ArgumentTypeError

from django.core.management.base import CommandError


def batch_size(text: str) -> int:
    """Return how many sessions one step takes at the most."""
    try:
        size = int(text)
    except ValueError:
        size = 0
    if size < 1:
        raise ArgumentTypeError(f"must be a whole number of at least 1, not {text!r}")
    return size


def check_batch_size(size: int) -> None:
    """Check what code has passed, which no parser has seen.

    :raises CommandError: it is less than 1
    """
    if size < 1:
        raise CommandError(f"batch_size must be at least 1, not {size!r}.")
