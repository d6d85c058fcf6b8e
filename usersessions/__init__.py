"""TYPO3's session handling for Django: separate backend and frontend sessions, well kept.

PYTEST_DONT_REWRITE, or pytest warns whoever starts it from Python after Django is set up.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .backends.base import (
        SessionBackend,
        SessionBackendError,
        SessionBusy,
        SessionChanged,
        SessionNotCreated,
        SessionNotFound,
        SessionNotUpdated,
    )
    from .backends.cached_database import CachedDatabaseSessionBackend
    from .backends.database import DatabaseSessionBackend
    from .backends.redis import RedisSessionBackend
    from .backends.redis_cache import RedisCache
    from .backends.session_manager import SessionManager
    from .lifecycle.limit import TooManySessions
    from .lifecycle.saving import SessionDataTooLarge
    from .lifecycle.user_session_manager import UserSessionManager
    from .session.ip_locker import IpLocker
    from .session.tokens import CookieScope
    from .session.user_session import SessionRecord, UserSession
else:  # out of a type checker's sight, which would take any name for one of ours

    def __getattr__(name: str) -> Any:
        if name in _HOMES:
            return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


#: Where each public name lives; imported when asked for, since Django loads this package before
#: its settings and models are ready.
_HOMES = {
    "CachedDatabaseSessionBackend": "backends.cached_database",
    "CookieScope": "session.tokens",
    "DatabaseSessionBackend": "backends.database",
    "IpLocker": "session.ip_locker",
    "RedisCache": "backends.redis_cache",
    "RedisSessionBackend": "backends.redis",
    "SessionBackend": "backends.base",
    "SessionBackendError": "backends.base",
    "SessionBusy": "backends.base",
    "SessionChanged": "backends.base",
    "SessionDataTooLarge": "lifecycle.saving",
    "SessionManager": "backends.session_manager",
    "SessionNotCreated": "backends.base",
    "SessionNotFound": "backends.base",
    "SessionNotUpdated": "backends.base",
    "SessionRecord": "session.user_session",
    "TooManySessions": "lifecycle.limit",
    "UserSession": "session.user_session",
    "UserSessionManager": "lifecycle.user_session_manager",
}

__all__ = [
    "CachedDatabaseSessionBackend",
    "CookieScope",
    "DatabaseSessionBackend",
    "IpLocker",
    "RedisCache",
    "RedisSessionBackend",
    "SessionBackend",
    "SessionBackendError",
    "SessionBusy",
    "SessionChanged",
    "SessionDataTooLarge",
    "SessionManager",
    "SessionNotCreated",
    "SessionNotFound",
    "SessionNotUpdated",
    "SessionRecord",
    "TooManySessions",
    "UserSession",
    "UserSessionManager",
]
