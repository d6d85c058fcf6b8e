"""Which database the tests use: SQLite, or the one that ``USERSESSIONS_TEST_DATABASE`` names."""

from __future__ import annotations

import os
from typing import Any

import dj_database_url


def named_by_environment(purpose: str) -> dict[str, Any] | None:
    """Return the settings of the database whose URL is in the environment, None if none is.

    :param purpose: ends the name of the database that is made for the tests, so that those which
        run at the same time have one each
    """
    url = os.environ.get("USERSESSIONS_TEST_DATABASE")
    if not url:
        return None
    database: dict[str, Any] = {**dj_database_url.parse(url)}
    return {**database, "TEST": {"NAME": f"test_{database['NAME']}_{purpose}"}}
