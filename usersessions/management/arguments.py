"""What the commands of the app ask of their arguments."""

from __future__ import annotations

from argparse import ArgumentTypeError


def batch_size(text: str) -> int:
    """Return how many sessions one step takes at the most."""
    try:
        size = int(text)
    except ValueError:
        size = 0
    if size < 1:
        raise ArgumentTypeError(f"must be a whole number of at least 1, not {text!r}")
    return size
