"""Seeing the site as another user, and coming back.

The original user's id is in the session's data under ``backuserid``, as in TYPO3. What the
session held before is put aside, out of reach of the target, and comes back on exit.
"""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib import auth
from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest
from django.middleware.csrf import rotate_token
from django.utils.translation import gettext as _

from ..conf import get_default_login_type
from ..lifecycle.successors import LOGIN_ID_KEY, new_login_id
from ..session.expiry import SWITCHED_AT_KEY
from ..session.user_keys import as_data, find_user
from ..session.user_session import UserSession
from ..signals import user_switched, user_switched_back
from ..store import SessionStore
from ..switching.audit import announce
from ..switching.check import describe_source
from ..switching.rules import find_refusal
from ..switching.state import (
    BACK_HASH_KEY,
    BACK_ID_KEY,
    BACK_USER_KEY,
    SwitchUsers,
    is_switched,
    matches_auth_hash,
)
from .login import AnyUser, get_store


def switch_user(request: HttpRequest, user: Any, *, login_type: str | None = None) -> None:
    """Go on as another user; ``request.user`` remains behind it as ``request.original_user``.

    :param user: the target
    :param login_type: the session to switch; None: the one that serves the path. From the admin,
        ``"FE"`` shows the frontend as a customer while the backend session stays as it is, and
        ends together with that one.
    :raises PermissionDenied: says which rule forbids it (see ``usersessions.auth.permissions``)

    The rules are asked again on each request of the switched session, which is worth nothing from
    the first refusal on, and after ``SWITCH_MAX_SECONDS``. Sends ``user_switched``. ``last_login``
    is not touched, ``user_logged_in`` not sent. Stored with the response.
    """
    store = get_store(request, login_type)
    source = get_store(request)
    original_user: Any = request.user
    _refuse_forbidden(store, original_user, user)
    if store is not request.session:
        _refuse_forbidden_way(source, store)
    store.rebind(
        user.pk,
        {**_auth_data(user), BACK_USER_KEY: as_data(original_user.pk)},
        {
            **_put_aside(store.user_session),
            BACK_ID_KEY: as_data(original_user.pk),
            BACK_HASH_KEY: original_user.get_session_auth_hash(),
            SWITCHED_AT_KEY: int(store.clock()),
            "login_at": store.user_session.meta.get("login_at", int(store.clock())),
            **_describe_source(source, store, original_user),
            LOGIN_ID_KEY: new_login_id(),
            **store.manager.describe_browser(),
        },
    )
    users = SwitchUsers(original_user, user)
    store.begin_switch(users)
    rotate_token(request)
    if store is request.session:
        _go_on_as(request, user, original_user)
    announce(user_switched, request, users, store.login_type.name)


def exit_switch_user(request: HttpRequest, *, login_type: str | None = None) -> AnyUser:
    """Go back to the original user and their data; return who the session belongs to now.

    :raises PermissionDenied: the session is not switched

    When the switch may not go on any more, or whoever was put aside may not come back, the session
    ends and an ``AnonymousUser`` is returned. Sends ``user_switched_back``.
    """
    store = get_store(request, login_type)
    is_there = is_switched(store.user_session)
    if not is_there and not store.end_spent_switch():
        raise PermissionDenied(_("You have not switched user."))
    users = store.end_switch()
    user_now = _restore(store) if is_there else AnonymousUser()
    rotate_token(request)
    if store is request.session:
        _go_on_as(request, user_now, None)
    if users is not None:
        announce(user_switched_back, request, users, store.login_type.name)
    return user_now


def get_original_user(request: HttpRequest) -> Any:
    """Return the user behind the switched session that serves the path, None if it is not one."""
    return get_store(request).original_user


async def aget_original_user(request: HttpRequest) -> Any:
    """See ``get_original_user()``. Needs a thread only where there is a session to read."""
    await get_store(request)._aget_session()
    return get_original_user(request)


def _refuse_forbidden(store: SessionStore, original_user: Any, target_user: Any) -> None:
    if is_switched(store.user_session):
        raise PermissionDenied(_("You have switched user already; exit first."))
    refusal = find_refusal(
        original_user=original_user,
        target_user=target_user,
        may_switch=store.login_type.may_switch,
    )
    if refusal is not None:
        raise PermissionDenied(refusal)


def _refuse_forbidden_way(source: SessionStore, target: SessionStore) -> None:
    if is_switched(source.user_session):
        raise PermissionDenied(_("You have switched user already; exit first."))
    if target.login_type != get_default_login_type():
        # Else whoever has stolen a customer's cookie could make a backend session of it.
        raise PermissionDenied(
            _("Log in to {} itself to switch user there.").format(target.login_type.name)
        )


def _go_on_as(request: HttpRequest, user: Any, original_user: Any) -> None:
    async def auser() -> Any:
        return user

    request.user = user
    request.auser = auser
    request.original_user = original_user  # type: ignore[attr-defined]


def _put_aside(session: UserSession) -> dict[str, Any]:
    aside = {
        "data": dict(session.data),
        "user_id": as_data(session.user_id),
        "is_permanent": session.is_permanent,
        "meta": dict(session.meta),
    }
    return {"aside": aside}


def _describe_source(
    source: SessionStore, store: SessionStore, original_user: Any
) -> dict[str, Any]:
    """Return with which other session this one is to end: the one that the original user is in.

    None if it is this very one, or if the user came by another way, as with an API's token.
    """
    if source is store or source.user_session.user_id != original_user.pk:
        return {}
    return describe_source(source.user_session, source.login_type.name)


def _restore(store: SessionStore) -> AnyUser:
    """Bring back what was put aside; an empty session where nothing was."""
    aside = store.user_session.meta["aside"]
    data = aside["data"]
    owner = find_user(aside["user_id"])
    if owner is None and not data:
        store.flush()
        return AnonymousUser()
    if owner is None:
        store.rebind(None, data, {})
        return AnonymousUser()
    if not owner.is_active or not matches_auth_hash(owner, data.get(auth.HASH_SESSION_KEY, "")):
        store.flush()
        return AnonymousUser()
    store.rebind(owner.pk, data, aside["meta"], is_permanent=aside["is_permanent"])
    restored: AnyUser = owner
    return restored


def _auth_data(user: Any) -> dict[str, Any]:
    """Return what ``django.contrib.auth.login()`` writes into the session for a user."""
    return {
        auth.SESSION_KEY: user._meta.pk.value_to_string(user),
        auth.BACKEND_SESSION_KEY: _backend_of(user),
        auth.HASH_SESSION_KEY: user.get_session_auth_hash(),
    }


def _backend_of(user: Any) -> str:
    for path in settings.AUTHENTICATION_BACKENDS:
        backend = auth.load_backend(path)
        if hasattr(backend, "get_user") and backend.get_user(user.pk) is not None:
            return str(path)
    raise PermissionDenied(_("No authentication backend knows this user."))
