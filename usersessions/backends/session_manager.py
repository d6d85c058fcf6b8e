"""The storage of each login type, and ending all sessions of a user."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from django.core.signals import setting_changed
from django.utils.module_loading import import_string

from ..conf import get_login_type
from ..session.record import SessionRecord
from ..session.tokens import new_identifier
from ..session.user_keys import UserId, to_user_id
from ..session.user_session import UserSession
from .base import SessionBackend

_backends: dict[str, SessionBackend] = {}


class SessionManager:
    """Finds the storage of a login type.

    Source: TYPO3 ``TYPO3\\CMS\\Core\\Session\\SessionManager``.
    """

    @staticmethod
    @lru_cache
    def get_session_backend(login_type: str) -> SessionBackend:
        """Return the one storage of a login type, its configuration validated on first use.

        :raises UnknownLoginType: no login type has this name
        :raises ImproperlyConfigured: its ``OPTIONS`` are wrong
        """
        try:
            return _backends[login_type]
        except KeyError:
            found = get_login_type(login_type)
            backend: SessionBackend = import_string(found.backend)(found.name, found.options)
            backend.validate_configuration()
            return _backends.setdefault(login_type, backend)

    @classmethod
    def invalidate_all_sessions_by_user_id(
        cls, login_type: str, user_id: UserId, keep: UserSession | None = None
    ) -> UserSession | None:
        """End every session that a user has of one login type.

        :param keep: a stored session of the user that survives, under a new identifier
        :return: the kept session, whose cookie is now due; None when nothing was kept
        :raises ValueError: ``keep`` is not stored, or not bound to the user in the storage
        :raises SessionNotUpdated: ``keep`` has ended; the others have been ended

        Sessions in which the user has switched to another user stay: they are bound to that one.
        Those that were switched from a session of another login type that ends here end with it.

        Costs one indexed delete, and one update for ``keep``. Source: TYPO3
        ``SessionManager::invalidateAllSessionsByUserId()``, which walks all sessions.
        """
        backend = cls.get_session_backend(login_type)
        user_id = to_user_id(user_id)
        if keep is not None and (keep.stored is None or keep.stored.user_id != user_id):
            raise ValueError(f"keep must be a stored session of user {user_id}: save it first.")
        if keep is None:
            backend.remove_by_user(user_id)
            return None
        backend.remove_by_user(user_id, except_=[keep.stored_identifier])
        kept = keep.renewed(new_identifier(), user_id=keep.user_id)
        # The key alone: what other requests have stored since ``keep`` was read stays.
        moved: SessionRecord = {"ses_permanent": keep.is_permanent}
        backend.renew(keep.stored_identifier, kept.identifier, moved)
        return kept.as_stored(moved)


def _reset(*, setting: str, **_: Any) -> None:
    if setting == "USERSESSIONS":
        _backends.clear()
        SessionManager.get_session_backend.cache_clear()


setting_changed.connect(_reset, dispatch_uid="usersessions.backends.session_manager")
