"""Rows for tests."""

from __future__ import annotations

import factory
from django.contrib.auth import get_user_model
from django.contrib.auth.hashers import make_password

from usersessions.models import BackendSession, FrontendSession

NOW = 1_735_689_600  # 2025-01-01 00:00 UTC, the moment of the clock fixture


class UserFactory(factory.django.DjangoModelFactory):
    """A user whose password is the name."""

    class Meta:
        model = get_user_model()
        skip_postgeneration_save = True

    username = factory.Sequence(lambda number: f"user{number}")
    password = factory.LazyAttribute(lambda user: make_password(user.username))


class FrontendSessionFactory(factory.django.DjangoModelFactory):
    """A stored session that nobody has the identifier of."""

    class Meta:
        model = FrontendSession

    ses_id = factory.Sequence(lambda number: f"{number:064x}")
    ses_iplock = "[DISABLED]"
    ses_userid = 0
    ses_tstamp = NOW
    ses_data = b"{}"


class BackendSessionFactory(FrontendSessionFactory):
    class Meta:
        model = BackendSession
