"""Cookies and stored data that nobody would think of.

``python -m tests.system.fuzzing`` runs many.
"""

from __future__ import annotations

import logging
import os

import django


def set_up() -> None:
    """Make Django ready outside of pytest; no database is made, nothing here may need one."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
    django.setup()
    logging.disable(logging.WARNING)  # of each stored session that does not decode
