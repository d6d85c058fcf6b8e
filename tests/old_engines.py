"""Sessions of the engines that sites come from, as those engines themselves store them."""

from __future__ import annotations

import importlib.metadata
import os
import sys
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import pytest
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY

PACKAGES = [name for name in ("user_sessions", "qsessions") if find_spec(name)]

DJANGO = "django.contrib.sessions.backends"
DB, CACHED_DB, CACHE = f"{DJANGO}.db", f"{DJANGO}.cached_db", f"{DJANGO}.cache"


def import_packages() -> None:
    """Import the packages; django-user-sessions asks setuptools for its version, if there is one.

    From Python 3.12 on nobody brings it, and where it is it warns of being asked.
    """
    stand_in: Any = ModuleType("pkg_resources")
    stand_in.get_distribution = importlib.metadata.distribution
    stand_in.DistributionNotFound = importlib.metadata.PackageNotFoundError
    sys.modules["pkg_resources"] = stand_in
    for name in PACKAGES:
        import_module(name)
    del sys.modules["pkg_resources"]


def _engine(path: str) -> Any:
    package = path.split(".", maxsplit=1)[0]
    is_missing = package not in ("django", *PACKAGES)
    return pytest.param(
        path,
        marks=pytest.mark.skipif(
            is_missing and not os.environ.get("USERSESSIONS_REQUIRE_ALL"),
            reason=f"needs {package}: install the extra [test]",
        ),
        id=path.replace(".contrib.sessions", "").replace(".backends", ""),
    )


TABLES = [
    _engine(path)
    for path in (
        DB,
        CACHED_DB,
        "user_sessions.backends.db",
        "qsessions.backends.db",
        "qsessions.backends.cached_db",
    )
]
ENGINES = [*TABLES, _engine(CACHE)]


@dataclass
class OldSite:
    """The site as it was, with another ``SESSION_ENGINE``."""

    engine: str

    @property
    def store_class(self) -> Any:
        return import_module(self.engine).SessionStore

    def store_session(self, user: Any = None, *, expiry: Any = None, **data: Any) -> str:
        """Store a session, of a user who has logged in or of a visitor; return its key."""
        store = self.store_class()
        if hasattr(store, "user_agent"):
            store.user_agent, store.ip = "Old browser", "192.0.2.7"
        if user is not None:
            store[SESSION_KEY] = user._meta.pk.value_to_string(user)
            store[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
            store[HASH_SESSION_KEY] = user.get_session_auth_hash()
        for key, value in data.items():
            store[key] = value
        if expiry is not None:
            store.set_expiry(expiry)
        store.save()
        return str(store.session_key)

    def has(self, key: str) -> bool:
        return bool(self.store_class().exists(key))

    @property
    def rows(self) -> Any:
        """The rows of the engine's table."""
        module = import_module(self.engine)
        get_model = getattr(module.SessionStore, "get_model_class", lambda: module.Session)
        return get_model()._default_manager.all()
