"""The demo site, for users whose primary keys are UUIDs."""

from __future__ import annotations

from tests.settings import *  # noqa: F403
from tests.settings import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "tests.user_models.uuid_users"]
AUTH_USER_MODEL = "uuid_users.Person"
USERSESSIONS = {
    "BE": {"OPTIONS": {"model": "uuid_users.BackendSession"}},
    "FE": {"OPTIONS": {"model": "uuid_users.FrontendSession"}},
}
