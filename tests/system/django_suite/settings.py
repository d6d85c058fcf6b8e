"""The settings of Django's test suite, and ours: one login type has the name of Django's cookie."""

from __future__ import annotations

import os
from typing import Any

from tests.databases import named_by_environment

SQLITE = {"ENGINE": "django.db.backends.sqlite3"}
DATABASES = {alias: named_by_environment(alias) or SQLITE for alias in ("default", "other")}
SECRET_KEY = "django_tests_secret_key"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
USE_TZ = False

TEST_RUNNER = "tests.system.django_suite.runner.Runner"

SESSION_ENGINE = "usersessions.store"
USERSESSIONS: dict[str, dict[str, Any]] = {
    "BE": {
        "OPTIONS": {"model": "django_suite.BackendSession"},
        "URL_PREFIXES": ["/another/"],
        "COOKIE_SAMESITE": "Lax",
    },
    "FE": {
        "OPTIONS": {"model": "django_suite.FrontendSession"},
        "URL_PREFIXES": ["/another/"],
    },
}
USERSESSIONS[os.environ["DJANGO_SUITE_LOGIN_TYPE"]] |= {
    "URL_PREFIXES": [],
    # What Django's test client needs: it writes the session's key into its cookie.
    "COOKIE_NAME": "sessionid",
    "COOKIE_FORMAT": "identifier",
}
for login_type in USERSESSIONS.values():
    login_type["GC_PROBABILITY"] = 0  # Django counts queries
