"""What happens to sessions when users log in, change, or are deleted."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

from django.apps import apps
from django.contrib.auth import SESSION_KEY as AUTH_USER_KEY
from django.contrib.contenttypes.models import ContentType
from django.db import transaction
from django.http import HttpRequest
from django.utils.translation import gettext as _

from .backends.session_manager import SessionManager
from .conf import get_login_types
from .lifecycle.current_request import get_current_request
from .session.user_keys import UserId, stored_user_id
from .signals import user_switched
from .store import SessionStore
from .store.login import bind_login

logger = logging.getLogger("usersessions.receivers")

ADMIN = "django.contrib.admin"


def elevate_on_login(sender: Any, request: HttpRequest, user: Any, **kwargs: Any) -> None:
    """Bind the session to the user who has just logged in to it, under a new identifier.

    Not every ``user_logged_in`` is a login to the session: packages for API tokens send it too.
    """
    session = getattr(request, "session", None)
    if isinstance(session, SessionStore) and session.get(AUTH_USER_KEY) == str(user.pk):
        bind_login(session, user.pk)


def log_switch(
    sender: Any, signal: Any, original_user: Any, target_user: Any, login_type: str, **kwargs: Any
) -> None:
    """Write the beginning and the end of a switch to the admin's log, if the site has the admin."""
    if original_user is None or target_user is None or not apps.is_installed(ADMIN):
        return
    # Only now: its models cannot be imported without the app.
    from django.contrib.admin.models import CHANGE, LogEntry  # noqa: PLC0415

    text = (
        _("Switched to this user ({}).")
        if signal is user_switched
        else _("Switched back from this user ({}).")
    )
    LogEntry.objects.create(
        user_id=original_user.pk,
        content_type=ContentType.objects.get_for_model(target_user),
        object_id=str(target_user.pk),
        object_repr=str(target_user)[:200],
        action_flag=CHANGE,
        change_message=text.format(login_type),
    )


def end_sessions_on_change(
    sender: Any,
    instance: Any,
    *,
    created: bool,
    raw: bool,
    using: str,
    update_fields: frozenset[str] | None,
    **kwargs: Any,
) -> None:
    """End a user's sessions once a new password or the deactivation is committed.

    The session that changed its own user's password stays: ``update_session_auth_hash()`` gives it
    a new identifier. If a view does not call that, Django's hash check ends the session. A save
    that writes neither, such as that of ``last_login`` at each login, costs nothing.
    """
    if created or raw:
        return
    if not getattr(instance, "is_active", True) and _writes(update_fields, "is_active"):
        user_id = stored_user_id(instance.pk)
        transaction.on_commit(partial(_end_sessions, user_id), using=using)
    # Django keeps the new password there for a real change only, not when it upgrades the hash.
    elif getattr(instance, "_password", None) is not None and _writes(update_fields, "password"):
        user_id = stored_user_id(instance.pk)
        session = getattr(get_current_request(), "session", None)
        transaction.on_commit(partial(_end_sessions, user_id, session), using=using)


def end_sessions_on_deletion(sender: Any, instance: Any, using: str, **kwargs: Any) -> None:
    transaction.on_commit(partial(_end_sessions, stored_user_id(instance.pk)), using=using)


def _writes(update_fields: frozenset[str] | None, field: str) -> bool:
    return update_fields is None or field in update_fields


def _end_sessions(user_id: UserId | None, kept: Any = None) -> None:
    """End a user's sessions of every type, also where the storage of another type fails.

    :param kept: the request's session, which stays if it is the user's
    """
    if user_id is None:
        return  # a package's placeholder user: its sessions are anonymous
    failure: Exception | None = None
    for name in get_login_types():
        try:
            # Asked for only now: it may have been renewed between the change and its commit.
            except_ = _identifiers_of(kept, user_id, name)
            SessionManager.get_session_backend(name).remove_by_user(user_id, except_=except_)
        except Exception as exc:
            logger.error("The %s sessions of user %s were not ended.", name, user_id)
            failure = failure or exc
    if failure is not None:
        raise failure


def _identifiers_of(session: Any, user_id: UserId, login_type: str) -> list[str]:
    is_of_type = isinstance(session, SessionStore) and session.login_type.name == login_type
    return session.identifiers if is_of_type and session.user_session.user_id == user_id else []
