"""Sessions for the many user models of Django's tests, whose keys are integers and UUIDs."""

from __future__ import annotations

from django.db import models

from usersessions.models import AbstractUserSession


class BackendSession(AbstractUserSession):
    ses_userid = models.CharField("user", max_length=255, default="")  # type: ignore[assignment]


class FrontendSession(AbstractUserSession):
    ses_userid = models.CharField("user", max_length=255, default="")  # type: ignore[assignment]
    ses_permanent = models.BooleanField(default=False)
