"""A site's previous engine as a source of sessions: its table or its cache."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import import_module
from typing import Any, NamedTuple

from django.conf import settings
from django.core.cache import caches
from django.core.exceptions import ImproperlyConfigured
from django.db import connections, router, transaction
from django.utils import timezone

from ..session.data import BACK_USER_KEY, RESERVED_KEY
from ..session.expiry import as_timestamp
from .new_session import NewSession, store_missing

#: Keys that are not adopted: the old engines' own, and those that only this app may set.
EXCLUDED_KEYS = frozenset({"_qsessions_ip", "_qsessions_user_agent", RESERVED_KEY, BACK_USER_KEY})

#: How long a cache keeps a session that has already moved, in seconds.
MOVED_TTL = 60


@dataclass(frozen=True)
class OldSession:
    """A session in another engine."""

    key: str = field(repr=False)  # secret while the session can be adopted
    data: dict[str, Any] = field(repr=False)
    ends_at: int  #: Unix seconds
    user_agent: str  #: of its browser; "" if the engine has none


class Batch(NamedTuple):
    """How many sessions of a batch were moved, and how many were left."""

    moved: int
    left: int


class OldEngine(ABC):
    """The engine that ``ADOPT_FROM`` names, as a source of sessions."""

    def __init__(self, store_class: Any) -> None:
        self.store_class = store_class

    @abstractmethod
    def read(self, key: str) -> OldSession | None:
        """Return an unexpired session that has data, or None. Costs one query."""

    @abstractmethod
    def exchange(self, key: str, new: Sequence[NewSession]) -> None:
        """Replace the old session by the new ones, unless another request has done so.

        If that fails, the old session stays. Costs one query, and those of storing.
        """


class TableEngine(OldEngine):
    """Sessions in a table: Django's ``db`` and ``cached_db``, user_sessions, qsessions."""

    def __init__(self, store_class: Any, model: Any) -> None:
        super().__init__(store_class)
        self.model = model

    @property
    def database(self) -> str:
        return router.db_for_write(self.model)

    def read(self, key: str) -> OldSession | None:
        row = self._unexpired.filter(pk=key).first()
        return None if row is None else self._session(row)

    def exchange(self, key: str, new: Sequence[NewSession]) -> None:
        with transaction.atomic(using=self.database):
            # Concurrent requests wait here, and then find nothing to delete.
            _, deleted = self._rows.filter(pk=key).delete()
            if deleted.get(self.model._meta.label):  # counts rows that cascade, too
                store_missing(new)
        self._forget([key])

    def move(self, take: Callable[[OldSession], bool], batch_size: int) -> Iterator[Batch]:
        """Pass each unexpired session to ``take``, and delete it if that returns True.

        Each batch is one transaction. Costs two queries a batch, besides those of ``take``.
        """
        # SQLite may be limited to 999 parameters a statement.
        most = connections[self.database].features.max_query_params or batch_size
        last = ""
        while True:
            with transaction.atomic(using=self.database):
                later = self._unexpired.filter(pk__gt=last).order_by("pk")
                rows = list(later.select_for_update()[: min(batch_size, most)])
                if not rows:
                    return
                last = rows[-1].pk
                read = [(row.pk, self._session(row)) for row in rows]
                taken = [key for key, session in read if session is not None and take(session)]
                self._rows.filter(pk__in=taken).delete()
            self._forget(taken)
            yield Batch(moved=len(taken), left=len(rows) - len(taken))

    def count(self) -> tuple[int, int]:
        """Return how many sessions have not expired, and how many have."""
        unexpired = self._unexpired.count()
        return unexpired, self._rows.count() - unexpired

    @property
    def _rows(self) -> Any:
        return self.model._default_manager.using(self.database)

    @property
    def _unexpired(self) -> Any:
        return self._rows.filter(expire_date__gt=timezone.now())

    def _session(self, row: Any) -> OldSession | None:
        data = self.store_class().decode(row.session_data)
        return _old_session(
            row.pk, data, as_timestamp(row.expire_date), getattr(row, "user_agent", None)
        )

    def _forget(self, keys: list[str]) -> None:
        """Delete the copies in the cache, if the engine has one."""
        prefix = getattr(self.store_class, "cache_key_prefix", None)
        if prefix is not None:
            caches[settings.SESSION_CACHE_ALIAS].delete_many([prefix + key for key in keys])


class CacheEngine(OldEngine):
    """Sessions in Django's cache alone. They cannot be listed."""

    def read(self, key: str) -> OldSession | None:
        # Not by the engine's load(), to which a failing cache looks like an empty one.
        data = self._cache.get(self._name(key))
        if data is None:
            return None
        store = self.store_class()
        store.update(data)
        return _old_session(key, data, as_timestamp(store.get_expiry_date()), None)

    def exchange(self, key: str, new: Sequence[NewSession]) -> None:
        # The request that stores the new session deletes the old one. If the old one is gone by
        # then, it had moved and ended before: the new one must not bring it back.
        stored = store_missing(new)
        if new[0] not in stored:
            # The request that stored it may have been killed, or may be about to delete.
            self._cache.touch(self._name(key), MOVED_TTL)
        elif not self._cache.delete(self._name(key)):
            for session in stored:
                session.backend.remove(session.identifier)

    @property
    def _cache(self) -> Any:
        return caches[settings.SESSION_CACHE_ALIAS]

    def _name(self, key: str) -> str:
        return f"{self.store_class.cache_key_prefix}{key}"


def _old_session(
    key: str, data: dict[str, Any], ends_at: int, user_agent: str | None
) -> OldSession | None:
    kept = {name: value for name, value in data.items() if name not in EXCLUDED_KEYS}
    return OldSession(key, kept, ends_at, user_agent or "") if kept else None


@lru_cache
def get_old_engine(path: str) -> OldEngine:
    """Return the engine behind a dotted path such as ``"django.contrib.sessions.backends.db"``.

    :raises ImproperlyConfigured: there is none, or its sessions cannot be adopted
    """
    try:
        module = import_module(path)
        store_class = module.SessionStore
        get_model = getattr(
            store_class, "get_model_class", lambda: getattr(module, "Session", None)
        )
        model = get_model()
    except (ImportError, AttributeError, TypeError) as exc:  # TypeError: a relative path
        raise ImproperlyConfigured(f"There is no session engine {path!r}: {exc}.") from exc
    except RuntimeError as exc:  # its model cannot be imported
        raise ImproperlyConfigured(
            f"The app of the session engine {path!r} is not in INSTALLED_APPS; leave it there "
            "until its sessions have moved."
        ) from exc
    if model is not None:
        return TableEngine(store_class, model)
    if hasattr(store_class, "cache_key_prefix"):
        return CacheEngine(store_class)
    raise ImproperlyConfigured(
        f"The session engine {path!r} keeps its sessions neither in a table nor in the cache; they "
        "cannot be adopted."
    )
