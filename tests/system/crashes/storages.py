"""Where the sessions are that a killed process leaves behind, as seen by everybody else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.contrib.sessions.models import Session
from django.db import connections

from tests.system.crashes.killing import Sender
from usersessions import SessionManager
from usersessions.models import BackendSession, FrontendSession


class DatabaseStorage:
    """The database that all tests have."""

    senders: Sequence[Sender] = ()
    #: Whether a crash in the middle of a renewal may leave the session under both identifiers.
    may_leave_both = False
    #: Whether it cannot change together with the database, where old sessions are.
    is_apart = False

    def use(self, settings: Any, **options: Any) -> None:
        """Keep the sessions of FE and BE here."""
        # No request collects by chance.
        login_type = {**self._settings, "GC_PROBABILITY": 0, **options}
        names = ("FE", "BE")
        settings.USERSESSIONS = {
            name: {**settings.USERSESSIONS.get(name, {}), **login_type} for name in names
        }

    @property
    def _settings(self) -> dict[str, Any]:
        return {}

    def disconnect(self) -> None:
        connections.close_all()

    def settle(self) -> None:
        """Wait until what a dead process has sent has been done."""

    def empty(self) -> None:
        for model in (FrontendSession, BackendSession, Session):
            model.objects.all().delete()

    def close(self) -> None:
        """Close connections to where the sessions are."""

    def assert_listed(self, owned: dict[Any, set[str]]) -> None:
        """The sessions of each user are found as those of that user, and no others."""
        backend = SessionManager.get_session_backend("FE")
        for user_id, ses_ids in owned.items():
            assert {record["ses_id"] for record in backend.get_by_user(user_id)} == ses_ids

    def assert_tidy(self) -> None:
        """Nothing is left that would stay forever."""
