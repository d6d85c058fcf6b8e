"""Binding a session to a user in memory, for ``UserSessionManager.store()`` to write."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.http import HttpRequest

from ..session.data import BACK_USER_KEY, LOGIN_KEYS
from ..session.meta import LOGIN_AT, LOGIN_ID, USER_AGENT, SessionMeta
from ..session.tokens import new_identifier
from ..session.user_keys import UserId, to_user_id
from ..session.user_session import UserSession
from .current_request import get_current_request
from .duplicate_login import note_origin
from .successors import new_login_id

if TYPE_CHECKING:
    from .user_session_manager import UserSessionManager


def begin_login(
    manager: UserSessionManager,
    session: UserSession,
    user_id: UserId,
    *,
    is_permanent: bool = False,
    came_with: str | None = None,
    sent_at: float | None = None,
    request: HttpRequest | None = None,
) -> UserSession:
    """Return the session bound to a user under a new identifier; nothing is stored yet.

    A session that this request has renewed or made already keeps its identifier.

    :param came_with: the identifier that the browser sent, when nothing is stored under it
    :param sent_at: when the login's request arrived, in Unix seconds; None: now
    :param request: whose address and browser count; None: those of the current request
    :raises ValueError: not the id of a user
    """
    user_id = to_user_id(user_id)
    needs_new = session.stored is not None and not session.is_renewed
    identifier = new_identifier() if needs_new else session.identifier
    elevated = session.renewed(identifier, user_id=user_id)
    if session.is_switched:
        # What was done in a user's place is not for that user's own login.
        elevated.data = {key: elevated.data[key] for key in LOGIN_KEYS & elevated.data.keys()}
    elevated.data.pop(BACK_USER_KEY, None)  # a login of one's own ends a switch
    elevated.is_permanent = is_permanent
    elevated.ip_lock = manager.make_ip_lock(request)
    now = manager.clock()
    login_id = session.meta.get(LOGIN_ID)
    is_relogin = session.user_id == user_id and not session.is_switched
    elevated.meta = {
        LOGIN_AT: int(now),
        LOGIN_ID: login_id if login_id and is_relogin else new_login_id(),
        **user_agent_meta(request),
    }
    if session.user_id is None and session.stored is not None:
        came_with = session.stored.identifier
    if came_with is not None:
        note_origin(elevated, manager.backend.hash(came_with), sent_at or now)
    return elevated


def user_agent_meta(request: HttpRequest | None = None) -> SessionMeta:
    """Return what a session keeps of a request's browser; None: of the current request's."""
    request = request or get_current_request()
    agent = request.META.get("HTTP_USER_AGENT", "") if request else ""
    return {USER_AGENT: agent[:200]} if agent else {}
