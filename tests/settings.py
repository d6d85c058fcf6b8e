"""The demo site's settings with the app's defaults instead of the demo's, and fast passwords."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from testproject.settings import *  # noqa: F403
from testproject.settings import DATABASES, INSTALLED_APPS, MIDDLEWARE
from tests import old_engines
from tests.databases import named_by_environment

old_engines.import_packages()
INSTALLED_APPS = [*INSTALLED_APPS, "django.contrib.sessions", *old_engines.PACKAGES]
SILENCED_SYSTEM_CHECKS = ["fields.E304"]  # no site has two packages with a user's ``session_set``
USERSESSIONS: dict[str, dict[str, Any]] = {}
MIDDLEWARE = [path for path in MIDDLEWARE if not path.endswith("LocaleMiddleware")]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

# The sites under tests/user_models run while this one does.
if named := named_by_environment(os.environ.get("SITE_UNDER_TEST", "default")):
    DATABASES = {"default": named}
else:
    # A file: threads cannot share a database in memory without waiting for each other's locks.
    DIRECTORY = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, DIRECTORY, ignore_errors=True)
    DATABASES["default"]["TEST"] = {"NAME": DIRECTORY / "test.sqlite3"}

# Django 6.1 warns where nobody has said how to send mail; older ones do not know the setting.
MAILERS = {"default": {"BACKEND": "django.core.mail.backends.locmem.EmailBackend"}}
