"""Django's tests of session engines, for ours."""

from __future__ import annotations

from django.test import TestCase
from sessions_tests.tests import SessionTestsMixin

from usersessions.store import SessionStore


class SessionStoreTests(SessionTestsMixin, TestCase):  # type: ignore[misc]
    backend = SessionStore
