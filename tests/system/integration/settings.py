"""The tests' settings, and those of every package that is installed."""

from __future__ import annotations

from typing import Any

from tests.settings import *  # noqa: F403
from tests.settings import INSTALLED_APPS, MIDDLEWARE
from tests.system.integration.packages import APPS, is_installed

ROOT_URLCONF = "tests.system.integration.urls"
INSTALLED_APPS = [
    *INSTALLED_APPS,
    *(app for package, apps in APPS.items() if is_installed(package) for app in apps),
]
if is_installed("debug_toolbar"):
    MIDDLEWARE = ["debug_toolbar.middleware.DebugToolbarMiddleware", *MIDDLEWARE]
AUTHENTICATION_BACKENDS = ["django.contrib.auth.backends.ModelBackend"]
if is_installed("allauth"):
    MIDDLEWARE = [
        *MIDDLEWARE,
        "allauth.account.middleware.AccountMiddleware",
        "allauth.usersessions.middleware.UserSessionsMiddleware",
    ]
    AUTHENTICATION_BACKENDS += ["allauth.account.auth_backends.AuthenticationBackend"]
if is_installed("hijack"):
    MIDDLEWARE = [*MIDDLEWARE, "hijack.middleware.HijackUserMiddleware"]
if is_installed("axes"):
    MIDDLEWARE = [*MIDDLEWARE, "axes.middleware.AxesMiddleware"]
    AUTHENTICATION_BACKENDS = ["axes.backends.AxesStandaloneBackend", *AUTHENTICATION_BACKENDS]

ACCOUNT_EMAIL_VERIFICATION = "none"
ACCOUNT_RATE_LIMITS = False
AXES_ENABLED = False
AXES_FAILURE_LIMIT = 3
# The toolbar asks it which cookies to hide.
DEFAULT_EXCEPTION_REPORTER_FILTER = "usersessions.request.error_reports.SessionReporterFilter"
DEBUG_TOOLBAR_CONFIG: dict[str, Any] = {"IS_RUNNING_TESTS": False}
INTERNAL_IPS = ["127.0.0.1"]
LOGIN_URL = "/account/login/"
