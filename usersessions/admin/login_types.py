"""Which login type keeps its sessions in a table."""

from __future__ import annotations

from typing import Any

from ..backends.database import DatabaseSessionBackend
from ..backends.user_column import UserColumn
from ..conf import get_login_types
from ..session_manager import SessionManager
from ..user_session_manager import UserSessionManager


def manager_of(model: type[Any]) -> UserSessionManager | None:
    """Return the manager of the login type that keeps its sessions in a model's table."""
    for name in get_login_types():
        backend = SessionManager.get_session_backend(name)
        if isinstance(backend, DatabaseSessionBackend) and backend.model is model:
            return UserSessionManager.create(name)
    return None


def user_column_of(model: type[Any]) -> UserColumn:
    """Return how a model's table tells whose a session is."""
    return UserColumn(model._meta.get_field("ses_userid"))
