"""TYPO3's session handling for Django: separate sessions for the backend and the frontend."""

from __future__ import annotations

from importlib import import_module
from typing import Any

#: The module of each public name. Imported on first use, since Django loads this package before
#: settings and models are ready. Type checkers read ``__init__.pyi`` instead.
_MODULES = {
    "CachedDatabaseSessionBackend": "backends.cached_database",
    "CookieScope": "session.tokens",
    "DatabaseSessionBackend": "backends.database",
    "IpLocker": "session.ip_locker",
    "RedisSessionBackend": "backends.redis",
    "SessionBackend": "backends.base",
    "SessionBackendError": "backends.errors",
    "SessionBusy": "backends.errors",
    "SessionChanged": "backends.errors",
    "SessionDataTooLarge": "lifecycle.saving",
    "SessionManager": "backends.session_manager",
    "SessionNotCreated": "backends.errors",
    "SessionNotFound": "backends.errors",
    "SessionNotUpdated": "backends.errors",
    "SessionRecord": "session.record",
    "TooManySessions": "lifecycle.limit",
    "UserSession": "session.user_session",
    "UserSessionManager": "lifecycle.user_session_manager",
}

__all__ = list(_MODULES)


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
