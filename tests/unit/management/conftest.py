"""A terminal, and a site in a directory of its own."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.contract.session_backend import second_database
from tests.factories import FrontendSessionFactory
from usersessions.models import FrontendSession

SITE = """
SECRET_KEY = "a site of its own"
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "usersessions"]
MIDDLEWARE = ["usersessions.middleware.UserSessionMiddleware"]
SESSION_ENGINE = "usersessions.store"
DATABASES = {{"default": {{"ENGINE": "django.db.backends.sqlite3", "NAME": {path!r}}}}}
"""


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def commands_of_a_site(tmp_path: Path) -> Callable[..., list[str]]:
    """Returns what to run for a command on a site that has three expired sessions."""
    database = tmp_path / "site.sqlite3"
    with second_database(database) as alias:
        FrontendSession.objects.using(alias).bulk_create(
            FrontendSessionFactory.build_batch(3, ses_tstamp=0)
        )
    (tmp_path / "site_settings.py").write_text(SITE.format(path=str(database)))
    settings = ["--settings", "site_settings", "--pythonpath", str(tmp_path)]
    return lambda *command: [sys.executable, "-m", "django", *command, *settings]
