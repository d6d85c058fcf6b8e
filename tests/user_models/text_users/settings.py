"""The demo site, for users whose primary keys are text."""

from __future__ import annotations

from tests.settings import *  # noqa: F403
from tests.settings import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "tests.user_models.text_users"]
AUTH_USER_MODEL = "text_users.Person"
USERSESSIONS = {
    "BE": {"OPTIONS": {"model": "text_users.BackendSession"}},
    "FE": {"OPTIONS": {"model": "text_users.FrontendSession"}},
}
