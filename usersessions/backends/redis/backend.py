"""Sessions in Redis or Valkey: a key a session, which the server itself drops when it is over."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import islice
from typing import Any, cast

from django.core.exceptions import ImproperlyConfigured

from ...conf import get_login_type
from ...session.expiry import retention_seconds
from ...session.record import SessionRecord
from ...session.user_keys import UserId, stored_user_id
from ..base import BATCH_SIZE, SessionBackend
from ..selection import Expired, Selection

try:
    from . import scripts
    from .connection import RedisConnection
    from .options import find_faults
except ImportError as exc:
    raise ImproperlyConfigured(
        "RedisSessionBackend needs redis-py: install django-usersession-manager[redis]."
    ) from exc

#: What a record holds where nothing else is said.
BLANK: SessionRecord = {
    "ses_iplock": "",
    "ses_userid": 0,
    "ses_tstamp": 0,
    "ses_data": b"",
    "ses_permanent": False,
}

#: How many seconds a key outlives its session: whether that has expired is for the site to say.
GRACE = 60

#: How many steps a page of records takes at the most, on a server with many keys of others.
SCANS_A_PAGE = 100

#: How often a renewal on Cluster begins again when the session changes meanwhile.
MOVE_ATTEMPTS = 10


class RedisSessionBackend(SessionBackend):
    """Keeps each session under one key, with a time to live.

    Options: where the server is (``url``; or ``host``, ``port``, ``database`` ...; ``sentinels``;
    or ``cluster``) and ``key_prefix``; README.rst, section "Redis", lists them.

    A key lives until a minute after the moment at which the login type's settings end the session,
    so collection only tidies the lists of each user's sessions. Every operation is one script, all
    or nothing, but on Redis Cluster: there a session and its user's list are on different servers.
    The list is written before the session appears and after it is gone, so that ending a user's
    sessions misses none.
    """

    drops_expired = True

    #: Returns Unix seconds; tests put another clock here.
    clock: Callable[[], float] = staticmethod(time.time)

    def validate_configuration(self) -> None:
        setting = f'USERSESSIONS["{self.login_type}"]["OPTIONS"]'
        faults = [setting + fault for fault in find_faults(self.options)]
        if faults:
            raise ImproperlyConfigured("\n".join(faults))

    @cached_property
    def _redis(self) -> RedisConnection:
        return RedisConnection(self.options)

    def close(self) -> None:
        """Close the connections of all threads; the next command opens one again."""
        self._redis.close()

    # Reading

    def get_all(self) -> Iterator[SessionRecord]:
        """Yield every stored record; one that is written meanwhile may come twice."""
        for records, _ in self._scan(BATCH_SIZE):
            yield from records

    def get_page(self, start: str = "", limit: int = 100) -> tuple[list[SessionRecord], str]:
        """See ``SessionBackend.get_page()``; a page may be short, or empty, before the last."""
        records: list[SessionRecord] = []
        where = ""
        for found, where in islice(self._scan(limit, start), SCANS_A_PAGE):  # noqa: B007 - the last
            records += found
            if len(records) >= limit:
                break
        return records, where

    def get_by_user(self, user_id: UserId, *, current: bool = False) -> Iterator[SessionRecord]:
        found = [
            record
            for record in self._records_of(user_id)
            if str(record["ses_userid"]) == str(user_id)
        ]
        return iter(sorted(found, key=lambda record: record["ses_tstamp"], reverse=True))

    def _records_of(self, user_id: UserId) -> list[SessionRecord]:
        """Return what is stored of a user's list.

        What is not there may have been renewed between the two steps: looked at again, until all
        of it is there, or the same is missing as before.
        """
        before: set[str] = set()
        while True:
            ses_ids = self._listed(user_id)
            records = [record for batch in _batches(ses_ids) for record in self._records(batch)]
            missing = {*ses_ids} - {record["ses_id"] for record in records}
            if missing == before or not missing:
                return records
            before = missing

    def _read(self, ses_ids: Sequence[str], *, current: bool = False) -> SessionRecord | None:
        found = self._find(ses_ids)
        return None if found is None else _record(*found)

    def _find(self, ses_ids: Sequence[str]) -> tuple[str, bytes] | None:
        """Return where a session is, and what is stored there."""
        found = self._stored(ses_ids)
        if not found and len(ses_ids) > 1 and self._redis.is_cluster:
            # It may have moved from one place to the other while those were looked at.
            found = self._stored(ses_ids)
        return found[0] if found else None

    def _stored(self, ses_ids: Sequence[str]) -> list[tuple[str, bytes]]:
        texts = self._redis.get([self._session_key(ses_id) for ses_id in ses_ids])
        pairs = zip(ses_ids, texts, strict=True)
        return [(ses_id, text) for ses_id, text in pairs if text is not None]

    def _records(self, ses_ids: Sequence[str]) -> list[SessionRecord]:
        return [_record(*found) for found in self._stored(ses_ids)]

    def _scan(self, limit: int, start: str = "") -> Iterator[tuple[list[SessionRecord], str]]:
        """Yield records, about ``limit`` at a time, each time with where to go on."""
        for keys, where in self._redis.scan(self._session_key("*"), limit, start):
            yield self._records([key.rpartition(":")[2] for key in keys]), where

    # Writing

    def _insert(self, ses_id: str, record: SessionRecord) -> bool:
        record = {**BLANK, **record}
        if self._redis.is_cluster:
            self._list({**record, "ses_id": ses_id})
        args = [ses_id, _text(record)]
        return bool(self._script(scripts.INSERT, [self._session_key(ses_id)], args))

    def _update(
        self, ses_ids: Sequence[str], values: SessionRecord, expected: SessionRecord
    ) -> bool:
        if self._redis.is_cluster:
            return self._update_on_cluster(ses_ids, values, expected)
        return self._update_one(values["ses_id"], ses_ids, values, expected)

    def _update_one(
        self,
        ses_id: str,
        ses_ids: Sequence[str],
        values: SessionRecord,
        expected: SessionRecord,
    ) -> bool:
        keys = [self._session_key(each) for each in (ses_id, *ses_ids)]
        args = [*_as_arguments(values), *_as_arguments(expected), ses_id, *ses_ids]
        return bool(self._script(scripts.UPDATE, keys, args))

    def _delete(self, ses_ids: Sequence[str], expected: SessionRecord) -> int:
        if self._redis.is_cluster:
            return self._delete_on_cluster(ses_ids, expected)
        keys = [self._session_key(ses_id) for ses_id in ses_ids]
        return int(self._script(scripts.DELETE, keys, [*_as_arguments(expected), *ses_ids]))

    def _delete_by_user(self, user_id: UserId, kept: Sequence[str]) -> int:
        if self._redis.is_cluster:
            return self._delete_by_user_on_cluster(user_id, kept)
        removed, taken = 0, BATCH_SIZE
        args = [self._session_key(""), str(user_id), BATCH_SIZE, *kept]
        while taken >= BATCH_SIZE:
            batch, taken = self._redis.script(
                scripts.DELETE_BY_USER, [self._list_key(user_id)], args
            )
            removed += batch
        return removed

    # Collection

    def remove_all(self, selection: Selection, batch_size: int = BATCH_SIZE) -> Iterator[int]:
        """See ``SessionBackend.remove_all()``.

        Expired sessions are gone: this takes their entries off the lists of their users.
        """
        if isinstance(selection, Expired):
            return self._over_lists("ZREMRANGEBYSCORE", batch_size)
        return super().remove_all(selection, batch_size)

    def count_all(self, selection: Selection | None = None) -> int:
        if isinstance(selection, Expired):
            return sum(self._over_lists("ZCOUNT", BATCH_SIZE))
        return super().count_all(selection)

    def _over_lists(self, command: str, batch_size: int) -> Iterator[int]:
        now = self._redis.server_time()
        for keys, _ in self._redis.scan(self._list_key("*"), batch_size):
            yield sum(self._redis.pipeline([(command, key, "-inf", f"({now}") for key in keys]))

    # Redis Cluster: a session, its next key and its user's list are on different servers. A list
    # knows a session before it is there and until it is gone.

    def _update_on_cluster(
        self, ses_ids: Sequence[str], values: SessionRecord, expected: SessionRecord
    ) -> bool:
        for _ in range(MOVE_ATTEMPTS):
            found = self._find(ses_ids)
            old = found and _parse(*found)
            if not found or not old or not _is_as(old, expected):
                return False
            new: SessionRecord = {**old, **values}
            self._list(new)
            if new["ses_id"] == old["ses_id"]:
                return self._update_one(new["ses_id"], [old["ses_id"]], values, expected)
            if self._move_on_cluster(*found, new):
                self._unlist([old])
                return True
        return False

    def _move_on_cluster(self, ses_id: str, text: bytes, new: SessionRecord) -> bool:
        """Store the record under its new key, then delete the old one; not if that has changed."""
        new_key = self._session_key(new["ses_id"])
        if not self._script(scripts.INSERT, [new_key], [new["ses_id"], _text(new)]):
            return False  # another request moves it there
        if self._redis.script(scripts.DELETE_AS_READ, [self._session_key(ses_id)], [text]):
            return True
        self._redis.pipeline([("DEL", new_key)])
        self._unlist([new])
        return False

    def _delete_on_cluster(self, ses_ids: Sequence[str], expected: SessionRecord) -> int:
        # Two hashes may be one session's, which moves from the one to the other meanwhile.
        return sum(self._delete_found(ses_ids, expected) for _ in ses_ids[:2])

    def _delete_by_user_on_cluster(self, user_id: UserId, kept: Sequence[str]) -> int:
        """Delete until nothing is left, and nothing can be that is on its way to a new key.

        That one is on the list before it is stored: as long as lists grow, there may be one.
        """
        removed, seen = 0, list[list[str]]()
        while True:
            ses_ids = [ses_id for ses_id in self._listed(user_id) if ses_id not in kept]
            if not ses_ids or seen[-2:] == [ses_ids, ses_ids]:
                return removed
            count = sum(
                self._delete_found(batch, {"ses_userid": user_id}) for batch in _batches(ses_ids)
            )
            removed += count
            seen = [] if count else [*seen, ses_ids]

    def _delete_found(self, ses_ids: Sequence[str], expected: SessionRecord) -> int:
        # One by one: of a script in a pipeline, redis-py asks a node first which keys it has.
        gone = [
            record
            for record in self._records(ses_ids)
            if self._script(
                scripts.DELETE,
                [self._session_key(record["ses_id"])],
                [*_as_arguments(expected), record["ses_id"]],
            )
        ]
        self._unlist(gone)
        return len(gone)

    def _list(self, record: SessionRecord) -> None:
        user_id = stored_user_id(record["ses_userid"])
        if user_id is not None:
            lifetime, _ = self._lifetimes
            seconds = max(record["ses_tstamp"] + lifetime - int(self.clock()), 0) + GRACE
            self._redis.script(
                scripts.ENTER, [self._list_key(user_id)], [record["ses_id"], seconds]
            )

    def _unlist(self, records: Sequence[SessionRecord]) -> None:
        owners = [(stored_user_id(record["ses_userid"]), record["ses_id"]) for record in records]
        self._redis.pipeline(
            [("ZREM", self._list_key(owner), ses_id) for owner, ses_id in owners if owner]
        )

    # Keys and scripts

    def _session_key(self, ses_id: str) -> str:
        return f"{self._prefix}:session:{ses_id}"

    def _list_key(self, user_id: UserId | str) -> str:
        return f"{self._prefix}:user:{user_id}"

    @cached_property
    def _prefix(self) -> str:
        return f"{self.options.get('key_prefix', 'usersessions')}:{self.login_type}"

    def _listed(self, user_id: UserId) -> list[str]:
        found = self._redis.script(scripts.LIST, [self._list_key(user_id)], [])
        return [ses_id.decode() for ses_id in found]

    def _script(self, script: scripts.Script, keys: Sequence[str], args: Sequence[Any]) -> Any:
        lists = "" if self._redis.is_cluster else self._list_key("")
        told = [int(self.clock()), *self._lifetimes, GRACE, lists]
        return self._redis.script(script, keys, [*told, *args])

    @property
    def _lifetimes(self) -> tuple[int, int]:
        login_type = get_login_type(self.login_type)
        lifetimes = login_type.user_lifetime, login_type.anonymous_lifetime
        users, visitors = map(retention_seconds, lifetimes)
        return users, visitors


def _text(record: SessionRecord) -> bytes:
    """Return a record as it is stored."""
    return f"{_as_json(record)}\n".encode() + record["ses_data"]


def _as_arguments(fields: SessionRecord) -> tuple[str, bytes]:
    """Return fields for a script: their JSON, and the data behind "=" if it is among them."""
    return _as_json(fields), b"=" + fields["ses_data"] if "ses_data" in fields else b""


def _as_json(fields: SessionRecord) -> str:
    written: dict[str, Any] = {**fields}
    written.pop("ses_id", None)
    written.pop("ses_data", None)
    if "ses_userid" in fields:
        user_id = stored_user_id(fields["ses_userid"])
        # A number in Lua has 53 bits, and nobody's is one that is not too large.
        written["ses_userid"] = (fields["ses_userid"] or 0) if user_id is None else str(user_id)
    return json.dumps(written, ensure_ascii=False, separators=(",", ":"))


def _record(ses_id: str, text: bytes) -> SessionRecord:
    # What somebody else has written is left for inspection, as data that does not decode.
    return _parse(ses_id, text) or {**BLANK, "ses_id": ses_id, "ses_data": b"\0" + text}


def _parse(ses_id: str, text: bytes) -> SessionRecord | None:
    """Return a record from what is stored; None if that is no record."""
    line, ending, data = text.partition(b"\n")
    if not ending:
        return None
    try:
        record = {**json.loads(line.decode()), "ses_id": ses_id, "ses_data": data}
        if isinstance(record["ses_userid"], str):
            record["ses_userid"] = stored_user_id(record["ses_userid"]) or 0
        elif type(record["ses_userid"]) is not int:
            return None
        is_record = all(
            type(record[name]) is type(value)
            for name, value in BLANK.items()
            if name != "ses_userid"
        )
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return cast("SessionRecord", record) if is_record else None


def _is_as(record: Mapping[str, Any], expected: Mapping[str, Any]) -> bool:
    return all(record[field] == value for field, value in expected.items())


def _batches(ses_ids: Sequence[str]) -> Iterator[Sequence[str]]:
    return (ses_ids[at : at + BATCH_SIZE] for at in range(0, len(ses_ids), BATCH_SIZE))
