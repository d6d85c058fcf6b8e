"""People whose handle is their key, and sessions that can be theirs."""

from __future__ import annotations

from django.contrib.auth.models import AbstractUser
from django.db import models

from usersessions.models import AbstractUserSession


class Person(AbstractUser):
    # Numbers as text, so that nobody can take them for integers unnoticed.
    handle = models.CharField(primary_key=True, max_length=40)

    def save(self, *args: object, **kwargs: object) -> None:
        if not self.handle:
            self.handle = f"00{Person.objects.count() + 1}"
        super().save(*args, **kwargs)  # type: ignore[arg-type]


class BackendSession(AbstractUserSession):
    ses_userid = models.CharField("user", max_length=40, default="")  # type: ignore[assignment]

    class Meta(AbstractUserSession.Meta):
        db_table = "text_be_sessions"


class FrontendSession(AbstractUserSession):
    ses_userid = models.CharField("user", max_length=40, default="")  # type: ignore[assignment]
    ses_permanent = models.BooleanField(default=False)

    class Meta(AbstractUserSession.Meta):
        db_table = "text_fe_sessions"
