"""Ending a session that another request has renewed since this one read it.

A logout deletes the row under the identifier that it has read. If another tab has renewed the
session since, that row has moved, and the user would stay logged in. A random id that every login
gets stays the same through renewals and finds the row again. A switch to another user and a login
as another user are logins of their own.
"""

from __future__ import annotations

import secrets

from ..backends.base import SessionBackend
from ..backends.sessions_of_user import sessions_of_user
from ..session.data import Serializer, decode
from ..session.meta import LOGIN_ID
from ..session.record import Stored
from .retries import ATTEMPTS


def new_login_id() -> str:
    """Return an id that is compared among the sessions of one user only; it opens nothing."""
    return secrets.token_hex(6)


def remove_with_successors(
    identifier: str, stored: Stored | None, backend: SessionBackend, serializer: Serializer
) -> bool:
    """End a session, also under an identifier that another request has given it since.

    :param stored: what was read under the identifier; None: nothing was
    :return: whether there was a session to end

    Costs one query. When nothing is there and the session was a user's, another one for the user's
    sessions, and one to end what the session has become.
    """
    if backend.remove(identifier):
        return True
    if stored is None or stored.user_id is None:
        return False
    login_id = decode(stored.data, serializer).meta.get(LOGIN_ID)
    if login_id is None:
        return False
    for _ in range(ATTEMPTS):
        successors = [
            found.ses_id
            for found in sessions_of_user(backend, stored.user_id, serializer)
            if found.session.meta.get(LOGIN_ID) == login_id
        ]
        if not successors:
            break
        if backend.remove_by_ses_id(successors):
            return True
    return False
