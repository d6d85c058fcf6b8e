"""Where a site's sessions were before: in the table or the cache of another engine."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
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
from .new_session import NewSession

#: What engines keep in the data for themselves, and what only our own sessions may say.
FOREIGN_KEYS = frozenset({"_qsessions_ip", "_qsessions_user_agent", RESERVED_KEY, BACK_USER_KEY})

#: For how long a cache may keep a session that was seen to have moved already, in seconds.
LEFT_FOR = 60


@dataclass(frozen=True)
class OldSession:
    """A session that another engine keeps."""

    key: str = field(repr=False)  # a secret as long as the session can be adopted
    data: dict[str, Any] = field(repr=False)
    ends_at: int  #: Unix seconds
    user_agent: str  #: of its browser; "" if the engine does not know


class Batch(NamedTuple):
    """What became of some old sessions."""

    moved: int
    left: int


class OldEngine(ABC):
    """The engine that ``ADOPT_FROM`` names, as a source of sessions."""

    def __init__(self, store_class: Any) -> None:
        self.store_class = store_class

    @abstractmethod
    def read(self, key: str) -> OldSession | None:
        """Return an unexpired session that has data, None if there is none. Costs one query."""

    @abstractmethod
    def exchange(self, key: str, new: NewSession) -> None:
        """Put what a session becomes in its place, unless another request has done that.

        If that fails, the old one stays. Costs one query, and those of storing.
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

    def exchange(self, key: str, new: NewSession) -> None:
        with transaction.atomic(using=self.database):
            # Others wait here, and then find nothing to delete.
            _, deleted = self._rows.filter(pk=key).delete()
            if deleted.get(self.model._meta.label):  # not rows of tables that refer to it
                new.store()
        self._forget([key])

    def move(self, take: Callable[[OldSession], bool], batch_size: int) -> Iterator[Batch]:
        """Hand every unexpired session to ``take`` and delete those that it took.

        Each batch is a transaction; those that are not taken stay where they are. Costs two
        queries a batch, besides those of ``take``.
        """
        # An embedded SQLite takes 999 parameters a statement.
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
        """Return how many sessions have not expired yet, and how many have."""
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
        """Take the copies out of the cache as well, where there are some."""
        prefix = getattr(self.store_class, "cache_key_prefix", None)
        if prefix is not None:
            caches[settings.SESSION_CACHE_ALIAS].delete_many([prefix + key for key in keys])


class CacheEngine(OldEngine):
    """Sessions in Django's cache alone, which cannot tell when they end."""

    def read(self, key: str) -> OldSession | None:
        # Not by the engine's load(), which takes a cache that is down for one that is empty.
        data = self._cache.get(self._name(key))
        if data is None:
            return None
        store = self.store_class()
        store.update(data)
        return _old_session(key, data, as_timestamp(store.get_expiry_date()), None)

    def exchange(self, key: str, new: NewSession) -> None:
        # Whoever stores it is the one to delete it. Whoever finds nothing to delete then came so
        # late that the session had moved, and ended, before.
        if not new.store():
            # Unless they were killed before that; they may also be about to.
            self._cache.touch(self._name(key), LEFT_FOR)
        elif not self._cache.delete(self._name(key)):
            new.remove()

    @property
    def _cache(self) -> Any:
        return caches[settings.SESSION_CACHE_ALIAS]

    def _name(self, key: str) -> str:
        return f"{self.store_class.cache_key_prefix}{key}"


def _old_session(
    key: str, data: dict[str, Any], ends_at: int, user_agent: str | None
) -> OldSession | None:
    kept = {name: value for name, value in data.items() if name not in FOREIGN_KEYS}
    return OldSession(key, kept, ends_at, user_agent or "") if kept else None


@lru_cache
def get_old_engine(path: str) -> OldEngine:
    """Return the engine behind a dotted path such as ``"django.contrib.sessions.backends.db"``.

    :raises ImproperlyConfigured: there is none, or its sessions cannot be taken over
    """
    try:
        module = import_module(path)
        store_class = module.SessionStore
        get_model = getattr(
            store_class, "get_model_class", lambda: getattr(module, "Session", None)
        )
        model = get_model()
    except (ImportError, AttributeError, TypeError) as exc:  # TypeError: it starts with a dot
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
        "cannot be taken over."
    )
