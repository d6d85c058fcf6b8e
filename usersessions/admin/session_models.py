"""Which login type uses a model's table, and which model's permissions apply to a login type."""

from __future__ import annotations

from typing import Any

from django.apps import apps

from ..backends.database.backend import DatabaseSessionBackend
from ..backends.database.user_column import UserColumn
from ..backends.session_manager import SessionManager
from ..conf import get_login_types
from ..defaults import BUILT_IN
from ..lifecycle.user_session_manager import UserSessionManager


def manager_of(model: type[Any]) -> UserSessionManager | None:
    """Return the manager of the login type that uses a model's table; None: no type does."""
    for name in get_login_types():
        if _table_of(name) is model:
            return UserSessionManager.create(name)
    return None


def model_of(login_type: str) -> type[Any] | None:
    """Return the model whose permissions apply to a login type's sessions; None: no model.

    That is the model of its table. For a built-in type that uses another storage, it is the model
    of the type's default table, unless another login type uses that.
    """
    table = _table_of(login_type)
    if table is not None or login_type not in BUILT_IN:
        return table
    model = apps.get_model(BUILT_IN[login_type]["OPTIONS"]["model"])
    return model if manager_of(model) is None else None


def find_type_in_other_storage(model: type[Any]) -> str | None:
    """Return the login type that a model stands for although another storage has its sessions."""
    for name in get_login_types():
        if model_of(name) is model and _table_of(name) is None:
            return name
    return None


def user_column_of(model: type[Any]) -> UserColumn:
    """Return the column that tells whose a session is."""
    return UserColumn(model._meta.get_field("ses_userid"))


def _table_of(login_type: str) -> type[Any] | None:
    backend = SessionManager.get_session_backend(login_type)
    return backend.model if isinstance(backend, DatabaseSessionBackend) else None
