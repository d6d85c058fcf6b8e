"""The progress bar of the commands."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from django.core.management.base import BaseCommand
from tqdm import tqdm


def progress_bar(
    command: BaseCommand, verbosity: int, count: Callable[[], int], title: str = ""
) -> Any:
    """Return a tqdm bar of sessions, which shows nothing unless the output is a terminal.

    :param count: returns the total; called only if the bar is shown. 0 hides the bar
    """
    is_shown = verbosity > 0 and command.stdout.isatty() and sys.stderr.isatty()
    total = count() if is_shown else 0
    return tqdm(total=total, desc=title or None, unit=" sessions", disable=not total)
