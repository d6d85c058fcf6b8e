"""A Django cache in Redis that spends little more than a round trip on each operation."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Mapping
from typing import Any

from django.core.cache.backends.base import DEFAULT_TIMEOUT, BaseCache
from django.core.exceptions import ImproperlyConfigured

try:
    from .redis.connection import RedisConnection
    from .redis.options import find_faults
    from .redis.scripts import INCREASE
except ImportError as exc:
    raise ImproperlyConfigured(
        "RedisCache needs redis-py: install django-usersession-manager[redis]."
    ) from exc

#: One for all caches with the same options, each of which a thread or a task has for itself.
_connections: dict[str, RedisConnection] = {}


class RedisCache(BaseCache):
    """Keeps entries where ``RedisSessionBackend`` keeps sessions: one server, Sentinel or Cluster.

    For ``CACHES``. ``LOCATION`` is a URL; ``OPTIONS`` are those of ``RedisSessionBackend``, without
    ``key_prefix``: a cache has ``KEY_PREFIX``. Values are pickled, as in Django's own cache for
    Redis. That one makes a client for every operation, and a transaction of ``set_many()``; here,
    an operation is a command or a pipeline on a connection that is there.

    :raises ImproperlyConfigured: the options are wrong; names all that is
    """

    def __init__(self, location: str, params: dict[str, Any]) -> None:
        super().__init__(params)
        options = params.get("OPTIONS", {})
        faults = [f'["OPTIONS"]{fault}' for fault in find_faults(options)]
        for name, wanted in (("key_prefix", "KEY_PREFIX"), ("url", "LOCATION")):
            if name in options:
                faults.append(f'["OPTIONS"] has "{name}"; a cache has {wanted} for that.')
        if location:
            located = find_faults({"url": location})
            faults += [fault.replace('["url"]', '["LOCATION"]') for fault in located]
            options = {**options, "url": location}
        if faults or (faults := [f'["OPTIONS"]{fault}' for fault in find_faults(options)]):
            raise ImproperlyConfigured("\n".join(f"CACHES[...]{fault}" for fault in faults))
        self._redis = _connections.setdefault(
            repr(sorted(options.items())), RedisConnection(options)
        )

    def add(
        self, key: str, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None
    ) -> bool:
        return bool(self._redis.command(*self._set(key, value, timeout, version), "NX"))

    def get(self, key: str, default: Any = None, version: int | None = None) -> Any:
        return self.get_many([key], version).get(key, default)

    def set(
        self, key: str, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None
    ) -> None:
        self._redis.command(*self._set(key, value, timeout, version))

    def touch(self, key: str, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        key, seconds = self.make_and_validate_key(key, version), self._seconds(timeout)
        if seconds is not None:
            return bool(self._redis.command("EXPIRE", key, seconds))
        # PERSIST answers 0 also for an entry that has no end.
        _, exists = self._redis.pipeline([("PERSIST", key), ("EXISTS", key)])
        return bool(exists)

    def delete(self, key: str, version: int | None = None) -> bool:
        return bool(self._redis.command("DEL", self.make_and_validate_key(key, version)))

    def get_many(self, keys: Iterable[str], version: int | None = None) -> dict[str, Any]:
        keys = list(keys)
        names = [self.make_and_validate_key(key, version) for key in keys]
        found = zip(keys, self._redis.get(names), strict=True)
        return {key: _loads(text) for key, text in found if text is not None}

    def set_many(
        self,
        data: Mapping[str, Any],
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
    ) -> list[str]:
        commands = [self._set(key, value, timeout, version) for key, value in data.items()]
        if len(commands) == 1:
            self._redis.command(*commands[0])
        else:
            self._redis.pipeline(commands)
        return []

    def delete_many(self, keys: Iterable[str], version: int | None = None) -> None:
        names = [self.make_and_validate_key(key, version) for key in keys]
        if self._redis.is_cluster or not names:
            self._redis.pipeline([("DEL", name) for name in names])
        else:
            self._redis.command("DEL", *names)

    def incr(self, key: str, delta: int = 1, version: int | None = None) -> int:
        """Add to a number, in one step.

        :raises ValueError: there is no such entry
        """
        name = self.make_and_validate_key(key, version)
        number = self._redis.script(INCREASE, [name], [delta])
        if number is None:
            raise ValueError(f"There is no entry {key!r}.")
        return int(number)

    def validate_key(self, key: str) -> None:
        """Take any key, as Redis does; Django looks at each of its letters for Memcached's sake."""

    def clear(self) -> None:
        """Empty the database that the cache is in, whatever else is there."""
        self._redis.flush()

    def _set(
        self, key: str, value: Any, timeout: Any, version: int | None
    ) -> tuple[str | bytes | int, ...]:
        name, seconds = self.make_and_validate_key(key, version), self._seconds(timeout)
        if seconds is None:
            return "SET", name, _dumps(value)
        # An entry that lives no time at all goes at once, with whatever was there.
        end = ("EX", seconds) if seconds else ("PXAT", 1)
        return "SET", name, _dumps(value), *end

    def _seconds(self, timeout: Any) -> int | None:
        """Return how long an entry is to live; None: for ever."""
        seconds = self.default_timeout if timeout is DEFAULT_TIMEOUT else timeout
        return None if seconds is None else max(0, int(seconds))


def _dumps(value: Any) -> bytes:
    # Redis counts in plain numbers. A pickle begins with another byte than any of them.
    return b"%d" % value if type(value) is int else pickle.dumps(value, pickle.HIGHEST_PROTOCOL)


def _loads(text: bytes) -> Any:
    is_pickle = text.startswith(pickle.PROTO)
    return pickle.loads(text) if is_pickle else int(text)  # noqa: S301 - as Django's caches
