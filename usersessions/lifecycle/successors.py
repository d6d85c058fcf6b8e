"""Ending a session that another request has renewed since this one has read it.

A logout deletes the row under the identifier that it has read. If another tab has renewed the
session since, that row has moved, and whoever has logged out would be logged in all the same. What
stays the same through renewals is a random id that every login gets; a switch to another user and
a login as another user are logins of their own.
"""

from __future__ import annotations

import secrets

from ..backends.base import SessionBackend
from ..session.data import CorruptSessionData, Serializer, decode
from ..session.user_session import SessionRecord, Stored

#: Where a user's session keeps the id of its login, in what the app itself remembers.
LOGIN_ID_KEY = "login_id"

#: How often to look again when the session is renewed once more while it is being ended.
ATTEMPTS = 5


def new_login_id() -> str:
    """Return an id that is compared among the sessions of one user only; it opens nothing."""
    return secrets.token_hex(6)


def remove_as_read(
    identifier: str, stored: Stored | None, backend: SessionBackend, serializer: Serializer
) -> bool:
    """End a session, also under the identifier that another request has given it since.

    :param stored: what was read under the identifier; None: nothing was
    :return: whether there was a session to end

    Costs one query. When nothing is there and the session was a user's, another one for the user's
    sessions, and one to end what the session has become.
    """
    if backend.remove(identifier):
        return True
    login_id = stored and _login_id_in(stored.data, serializer)
    if stored is None or stored.user_id is None or login_id is None:
        return False
    for _ in range(ATTEMPTS):
        successors = [
            record["ses_id"]
            for record in backend.get_by_user(stored.user_id)
            if _has_login_id(record, login_id, serializer)
        ]
        if not successors:
            break
        if backend.remove_by_ses_id(successors):
            return True
    return False


def _has_login_id(record: SessionRecord, login_id: str, serializer: Serializer) -> bool:
    return _login_id_in(record["ses_data"], serializer) == login_id


def _login_id_in(data: bytes, serializer: Serializer) -> str | None:
    try:
        return decode(data, serializer).meta.get(LOGIN_ID_KEY)
    except CorruptSessionData:
        return None
