"""The demo site beside the engines that sites come from."""

from __future__ import annotations

from tests.settings import *  # noqa: F403
from tests.settings import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "django.contrib.sessions", "user_sessions", "qsessions"]
SILENCED_SYSTEM_CHECKS = ["models.W042"]
