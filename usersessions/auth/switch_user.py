"""Acting as another user, and switching back.

The original user's id is in the session's data under ``backuserid``, as in TYPO3. The data that the
session held before is put aside, out of the target's reach, and restored on exit.
"""

from __future__ import annotations

from typing import Any, cast

from django.conf import settings
from django.contrib import auth
from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest
from django.middleware.csrf import rotate_token
from django.utils.translation import gettext as _

from ..conf import get_default_login_type
from ..lifecycle.login import user_agent_meta
from ..lifecycle.successors import new_login_id
from ..session.data import BACK_USER_KEY
from ..session.meta import (
    ASIDE,
    BACK_HASH,
    BACK_USER,
    LOGIN_AT,
    LOGIN_ID,
    SWITCHED_AT,
    SessionMeta,
)
from ..session.user_keys import as_data, find_user
from ..signals import user_switched, user_switched_back
from ..store import SessionStore, switch
from ..store.login import rebind
from ..switching.audit import announce
from ..switching.check import source_meta
from ..switching.rules import find_refusal
from ..switching.state import SwitchUsers, matches_auth_hash, put_aside
from .login import AnyUser, get_store


def switch_user(request: HttpRequest, user: Any, *, login_type: str | None = None) -> None:
    """Switch to another user; the previous ``request.user`` becomes ``request.original_user``.

    :param user: the target
    :param login_type: the session to switch; None: the one that serves the path. From the admin,
        ``"FE"`` shows the frontend as a customer. The backend session stays as it is; when it
        ends, the switched session ends, too.
    :raises PermissionDenied: says which rule forbids it (see ``usersessions.auth.permissions``)

    The rules are checked again on each request of the switched session, which ends with the first
    refusal, or after ``SWITCH_MAX_SECONDS``. Sends ``user_switched``. ``last_login`` is not
    touched, ``user_logged_in`` not sent. Stored with the response.
    """
    store = get_store(request, login_type)
    source = get_store(request)
    original_user: Any = request.user
    _refuse_forbidden(source, store, original_user, user)
    rebind(
        store,
        user.pk,
        {**_auth_data(user), BACK_USER_KEY: as_data(original_user.pk)},
        {
            ASIDE: put_aside(store.user_session),
            BACK_USER: as_data(original_user.pk),
            BACK_HASH: original_user.get_session_auth_hash(),
            SWITCHED_AT: int(store.clock()),
            LOGIN_AT: store.user_session.meta.get(LOGIN_AT, int(store.clock())),
            LOGIN_ID: new_login_id(),
            **_source_meta(source, store, original_user),
            **user_agent_meta(request),
        },
    )
    users = SwitchUsers(original_user, user)
    store.switch_users = users
    rotate_token(request)
    if store is request.session:
        _set_user(request, user, original_user)
    announce(user_switched, request, users, store.login_type.name)


def exit_switch_user(request: HttpRequest, *, login_type: str | None = None) -> AnyUser:
    """Switch back to the original user and their data; return the session's user.

    :raises PermissionDenied: the session is not switched

    If the switch is no longer allowed, or the original user may not log in any more, the session
    ends and an ``AnonymousUser`` is returned. Sends ``user_switched_back``.
    """
    store = get_store(request, login_type)
    is_there = store.user_session.is_switched
    if not is_there and not switch.end_refused(store):
        raise PermissionDenied(_("You have not switched user."))
    users = switch.take_users(store)
    user_now = _restore(store) if is_there else AnonymousUser()
    rotate_token(request)
    if store is request.session:
        _set_user(request, user_now, None)
    if users is not None:
        announce(user_switched_back, request, users, store.login_type.name)
    return user_now


def get_original_user(request: HttpRequest) -> Any:
    """Return the original user of the session that serves the path; None if it is not switched."""
    store = get_store(request)
    store.keys()  # reads it, and both users with it
    return store.switch_users.original_user if store.switch_users else None


async def aget_original_user(request: HttpRequest) -> Any:
    """See ``get_original_user()``. Needs a thread only if there is a session to read."""
    await get_store(request)._aget_session()
    return get_original_user(request)


def _refuse_forbidden(
    source: SessionStore, store: SessionStore, original_user: Any, target_user: Any
) -> None:
    already_switched = _("You have already switched user. Switch back first.")
    refusal = (
        already_switched
        if store.user_session.is_switched
        else find_refusal(
            original_user=original_user,
            target_user=target_user,
            may_switch=store.login_type.may_switch,
        )
    )
    if refusal is None and source is not store:
        if source.user_session.is_switched:
            refusal = already_switched
        elif store.login_type != get_default_login_type():
            # Otherwise a stolen customer's cookie could become a backend session.
            refusal = _("Log in to {} itself to switch user there.").format(store.login_type.name)
    if refusal is not None:
        raise PermissionDenied(refusal)


def _set_user(request: HttpRequest, user: Any, original_user: Any) -> None:
    async def auser() -> Any:
        return user

    request.user = user
    request.auser = auser
    request.original_user = original_user  # type: ignore[attr-defined]


def _source_meta(source: SessionStore, store: SessionStore, original_user: Any) -> SessionMeta:
    """Return what names the original user's session, with which the switched one ends.

    Empty if both are the same session, or if the user is logged in by other means, such as an API
    token.
    """
    if source is store or source.user_session.user_id != original_user.pk:
        return {}
    return source_meta(source.user_session, source.login_type.name)


def _restore(store: SessionStore) -> AnyUser:
    """Restore what was put aside; end the session if that was empty, or its user may not return."""
    aside = store.user_session.meta[ASIDE]
    data, meta = aside["data"], cast("SessionMeta", aside["meta"])
    owner: Any = find_user(aside["user_id"])
    if owner is None and data:
        rebind(store, None, data, {})
    elif (
        owner is not None
        and owner.is_active
        and matches_auth_hash(owner, data.get(auth.HASH_SESSION_KEY, ""))
    ):
        rebind(store, owner.pk, data, meta, is_permanent=aside["is_permanent"])
        return cast("AnyUser", owner)
    else:
        store.flush()
    return AnonymousUser()


def _auth_data(user: Any) -> dict[str, Any]:
    """Return what ``django.contrib.auth.login()`` writes into a session."""
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
