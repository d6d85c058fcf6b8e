"""Where a site of the tests keeps its frontend sessions."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.core.cache import caches

from usersessions import SessionManager

TABLE = {"model": "django_usersessions.FrontendSession"}


@contextmanager
def place_of(name: str, request: pytest.FixtureRequest, settings: Any) -> Iterator[dict[str, Any]]:
    """Yield what ``USERSESSIONS`` says of a login type with this storage; empty it afterwards.

    :param name: "database", "cached", "redis" or "cluster"
    """
    if name == "database":
        yield {"OPTIONS": TABLE}
    elif name == "cached":
        locmem = {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}
        settings.CACHES = {"default": {**locmem, "LOCATION": secrets.token_hex(8)}}
        yield {"BACKEND": "usersessions.CachedDatabaseSessionBackend", "OPTIONS": TABLE}
        caches["default"].clear()
    else:
        storage = redis_storage(name, request)
        storage.use(settings)
        yield settings.USERSESSIONS["FE"]
        SessionManager.get_session_backend("FE").close()  # type: ignore[attr-defined]
        storage.close()


def redis_storage(name: str, request: pytest.FixtureRequest) -> Any:
    """Return the servers of a storage named "redis" or "cluster"."""
    from tests.redis_servers import Storage  # its package may be missing

    if name == "redis":
        server = request.getfixturevalue("redis_server")
        return Storage([server], {"url": server.url})
    cluster = request.getfixturevalue("redis_cluster")
    return Storage(cluster.nodes, {"cluster": True, "nodes": cluster.addresses})
