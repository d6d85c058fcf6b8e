"""People with UUIDs, and sessions that can be theirs."""

from __future__ import annotations

import uuid

from django.contrib.auth.models import AbstractUser
from django.db import models

from usersessions.models import AbstractUserSession


class Person(AbstractUser):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)


class BackendSession(AbstractUserSession):
    ses_userid = models.UUIDField("user", null=True)  # type: ignore[assignment]

    class Meta(AbstractUserSession.Meta):
        db_table = "uuid_be_sessions"


class FrontendSession(AbstractUserSession):
    ses_userid = models.UUIDField("user", null=True)  # type: ignore[assignment]
    ses_permanent = models.BooleanField(default=False)

    class Meta(AbstractUserSession.Meta):
        db_table = "uuid_fe_sessions"
