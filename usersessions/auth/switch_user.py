"""Seeing the site as another user, and coming back.

The original user's id is in the session's data under ``backuserid``, as in TYPO3. What the
session held before is put aside, out of reach of the target, and comes back on exit.
"""

from __future__ import annotations

import logging
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib import auth
from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest
from django.middleware.csrf import rotate_token
from django.utils.translation import gettext as _

from ..conf import get_default_login_type
from ..original_user import BACK_HASH_KEY, BACK_USER_KEY, matches_auth_hash
from ..signals import user_switched, user_switched_back
from ..store import SessionStore
from ..user_ids import as_data, find_user
from .login_types import AnyUser, get_store
from .permissions import has_more_rights

logger = logging.getLogger("usersessions.auth")


def switch_user(request: HttpRequest, user: Any, *, login_type: str | None = None) -> None:
    """Go on as another user; ``request.user`` remains behind it as ``request.original_user``.

    :param user: the target
    :param login_type: the session to switch; None: the one that serves the path. From the admin,
        ``"FE"`` shows the frontend as a customer while the backend session stays as it is.
    :raises PermissionDenied: says which rule forbids it (see ``usersessions.auth.permissions``)

    Sends ``user_switched``. ``last_login`` is not touched, ``user_logged_in`` not sent. Stored with
    the response.
    """
    store = get_store(request, login_type)
    original_user: Any = request.user
    _refuse_forbidden(store, original_user, user)
    if store is not request.session:
        _refuse_forbidden_way(get_store(request), store)
    session = store.user_session
    aside = {
        "data": dict(session.data),
        "user_id": as_data(session.user_id),
        "is_permanent": session.is_permanent,
        "meta": dict(session.meta),
    }
    store.rebind(
        user.pk,
        {**_auth_data(user, original_user), BACK_USER_KEY: as_data(original_user.pk)},
        {
            "aside": aside,
            BACK_HASH_KEY: original_user.get_session_auth_hash(),
            "login_at": session.meta.get("login_at", int(store.clock())),
            **store.manager.describe_browser(),
        },
    )
    rotate_token(request)
    if store is request.session:
        _go_on_as(request, user, original_user)
    _announce(user_switched, request, store, original_user, user)


def exit_switch_user(request: HttpRequest, *, login_type: str | None = None) -> AnyUser:
    """Go back to the original user and their data; return who the session belongs to now.

    :raises PermissionDenied: the session is not switched

    When the original user is not active any more, or may not switch any more, or has a new
    password, the session ends and an ``AnonymousUser`` is returned. Sends ``user_switched_back``.
    """
    store = get_store(request, login_type)
    original_user = _find_original_user(store)
    target_user = find_user(store.user_session.user_id)
    if BACK_USER_KEY not in store:
        raise PermissionDenied(_("You have not switched user."))
    aside = store.user_session.meta.get("aside") or {}
    user_now: AnyUser = AnonymousUser()
    if _may_come_back(store, original_user, target_user):
        user_now = _restore(store, aside)
    else:
        store.flush()
    rotate_token(request)
    if store is request.session:
        _go_on_as(request, user_now, None)
    _announce(user_switched_back, request, store, original_user, target_user)
    return user_now


def get_original_user(request: HttpRequest) -> Any:
    """Return the user behind the switched session that serves the path, None if it is not one."""
    return _find_original_user(get_store(request))


async def aget_original_user(request: HttpRequest) -> Any:
    """See ``get_original_user()``. Needs a thread only where there is a session to read."""
    user_id = await get_store(request).aget(BACK_USER_KEY)
    return await sync_to_async(find_user)(user_id) if user_id else None


def note_logout(request: HttpRequest, user: Any) -> None:
    """Tell of the end of a switch whose session is logged out instead of exited."""
    session = getattr(request, "session", None)
    if isinstance(session, SessionStore) and session.get(BACK_USER_KEY):
        _announce(user_switched_back, request, session, _find_original_user(session), user)


def _refuse_forbidden(store: SessionStore, original_user: Any, target_user: Any) -> None:
    if not original_user.is_authenticated or not original_user.is_active:
        raise PermissionDenied(_("Log in before you switch user."))
    if store.get(BACK_USER_KEY):
        raise PermissionDenied(_("You have switched user already; exit first."))
    if original_user.pk == target_user.pk:
        raise PermissionDenied(_("You cannot switch to yourself."))
    if not target_user.is_active:
        raise PermissionDenied(_("You cannot switch to a user who is not active."))
    users = {"original_user": original_user, "target_user": target_user}
    if not store.login_type.may_switch(**users):
        raise PermissionDenied(_("You may not switch user."))
    if has_more_rights(**users):
        raise PermissionDenied(_("You cannot switch to a user with more rights than yours."))


def _refuse_forbidden_way(source: SessionStore, target: SessionStore) -> None:
    if source.get(BACK_USER_KEY):
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


def _may_come_back(store: SessionStore, original_user: Any, target_user: Any) -> bool:
    return (
        original_user is not None
        and original_user.is_active
        and store.login_type.may_switch(original_user=original_user, target_user=target_user)
    )


def _restore(store: SessionStore, aside: dict[str, Any]) -> AnyUser:
    """Bring back what was put aside; an empty session where nothing was."""
    data = aside.get("data", {})
    owner = find_user(aside.get("user_id"))
    if owner is None and not data:
        store.flush()
        return AnonymousUser()
    if owner is None:
        store.rebind(None, data, {})
        return AnonymousUser()
    if not owner.is_active or not matches_auth_hash(owner, data.get(auth.HASH_SESSION_KEY, "")):
        store.flush()
        return AnonymousUser()
    store.rebind(
        owner.pk, data, aside.get("meta", {}), is_permanent=aside.get("is_permanent", False)
    )
    restored: AnyUser = owner
    return restored


def _auth_data(user: Any, original_user: Any) -> dict[str, Any]:
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


def _find_original_user(store: SessionStore) -> Any:
    return find_user(store.get(BACK_USER_KEY))


def _announce(
    signal: Any, request: HttpRequest, store: SessionStore, original_user: Any, target_user: Any
) -> None:
    logger.info(
        "%s: user %s behind user %s in a %s session.",
        "Switched" if signal is user_switched else "Switched back",
        getattr(original_user, "pk", None),
        getattr(target_user, "pk", None),
        store.login_type.name,
    )
    signal.send(
        sender=auth.get_user_model(),
        request=request,
        original_user=original_user,
        target_user=target_user,
        login_type=store.login_type.name,
    )
