"""What a test needs and the machine lacks: a skip, or a failure where nothing may be missing."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def report_missing(reason: str) -> NoReturn:
    """Skip the test or the module; with ``USERSESSIONS_REQUIRE_ALL`` in the environment, fail."""
    if os.environ.get("USERSESSIONS_REQUIRE_ALL"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason, allow_module_level=True)
