"""One visitor's session: it knows everything about itself, and stores nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from django.core.signing import JSONSerializer

from .data import (
    Serializer,
    decode,
    encode,
    merge,
    refuse_reserved,
)
from .meta import BACK_HASH, SessionMeta
from .record import SessionRecord, Stored
from .tokens import CookieScope
from .user_keys import UserId, stored_user_id

#: A session's timestamp may be this old, in seconds, before a request renews it.
UPDATE_GRACE = 61


class UserSession:
    """A visitor's session between reading and storing; see ``UserSessionManager`` for its life.

    Data is reached as in a mapping (``session["basket"]``). One object keeps one identifier for
    ever: renewing gives a new object.

    Source: TYPO3 ``TYPO3\\CMS\\Core\\Session\\UserSession``; its methods are here in Python's
    spelling, getters as attributes: ``getUserId()`` is ``user_id``.
    """

    __slots__ = (
        "_clock",
        "_serializer",
        "data",
        "data_was_updated",
        "identifier",
        "ip_lock",
        "is_new",
        "is_permanent",
        "last_updated",
        "meta",
        "replaced",
        "stored",
        "user_id",
    )

    #: The secret that the cookie's token carries: 32 lowercase hex digits.
    identifier: str
    #: Primary key of the user, None for an anonymous session.
    user_id: UserId | None
    #: Unix seconds (``ses_tstamp``); see ``UserSessionManager`` for sessions with a custom expiry.
    last_updated: int
    #: The address lock, for example ``"192.168.0.0"``, ``"[DISABLED]"``, or ``""`` before storing.
    ip_lock: str
    #: Made or renewed by this request, so that its cookie must still be sent.
    is_new: bool
    #: The cookie outlives the browser.
    is_permanent: bool
    #: The visitor's data, live: changes in place need ``set()`` or Django's ``modified = True``.
    data: dict[str, Any]
    #: Whether ``set()``, ``del`` or ``override_data()`` changed data since the last storing.
    data_was_updated: bool
    #: What the app itself remembers about the session; never part of ``data``.
    meta: SessionMeta
    #: The state of the storage that this object started from; None while nothing is stored.
    stored: Stored | None
    #: The one that the last storing has replaced: what others had made of the session until then.
    replaced: Stored | None

    def __init__(
        self,
        identifier: str,
        *,
        user_id: UserId | None = None,
        last_updated: int = 0,
        data: dict[str, Any] | None = None,
        meta: SessionMeta | None = None,
        ip_lock: str = "",
        is_new: bool = False,
        is_permanent: bool = False,
        stored: Stored | None = None,
        serializer: Serializer | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.identifier = identifier
        self.user_id = user_id
        self.last_updated = last_updated
        self.data = {} if data is None else data
        self.meta = {} if meta is None else meta
        self.ip_lock = ip_lock
        self.is_new = is_new
        self.is_permanent = is_permanent
        self.stored = stored
        self.replaced = None
        self._serializer = serializer or JSONSerializer()
        self._clock = clock
        self.data_was_updated = False

    @classmethod
    def from_record(
        cls,
        identifier: str,
        record: Mapping[str, Any],
        *,
        mark_as_new: bool = False,
        serializer: Serializer | None = None,
        clock: Callable[[], float] = time.time,
    ) -> UserSession:
        """Return the session that a stored record describes; missing fields count as empty.

        :raises CorruptSessionData: ``ses_data`` is not what the serializer writes
        """
        serializer = serializer or JSONSerializer()
        stored = _stored(identifier, record)
        data, meta = decode(stored.data, serializer)
        return cls(
            identifier,
            user_id=stored.user_id,
            last_updated=stored.timestamp,
            data=data,
            meta=meta,
            ip_lock=record.get("ses_iplock") or "",
            is_new=mark_as_new,
            is_permanent=bool(record.get("ses_permanent")),
            stored=stored,
            serializer=serializer,
            clock=clock,
        )

    @classmethod
    def non_fixated(
        cls,
        identifier: str,
        *,
        serializer: Serializer | None = None,
        clock: Callable[[], float] = time.time,
    ) -> UserSession:
        """Return a new, empty, anonymous session that is stored nowhere."""
        now = int(clock())
        return cls(identifier, last_updated=now, is_new=True, serializer=serializer, clock=clock)

    def __repr__(self) -> str:
        # The identifier is a secret: it stays out of logs and debug pages.
        keys = sorted(map(str, self.data))
        return f"<UserSession user_id={self.user_id} keys={keys} is_new={self.is_new}>"

    def get(self, key: str, default: Any = None) -> Any:
        return self.data.get(key, default)

    def __getitem__(self, key: str) -> Any:
        return self.data[key]

    def __contains__(self, key: str) -> bool:
        return key in self.data

    def set(self, key: str, value: Any) -> None:
        """Put a value under a key; ``None`` removes the key, present or not.

        :raises ValueError: the key is empty or the one that the app keeps for itself
        """
        if not key:
            raise ValueError("A session key must not be empty.")
        refuse_reserved([key])
        if value is None:
            self.data.pop(key, None)
        else:
            self.data[key] = value
        self.data_was_updated = True

    __setitem__ = set  # noqa: A003 - TYPO3's name

    def __delitem__(self, key: str) -> None:
        del self.data[key]
        self.data_was_updated = True

    def override_data(self, data: Mapping[str, Any]) -> None:
        """Replace all data; counts as an update only if the stored form would differ."""
        if self._serializer.dumps(dict(data)) != self._serializer.dumps(self.data):
            self.data_was_updated = True
        # In place: request.session holds the dict and must go on seeing this session.
        new = dict(data)
        self.data.clear()
        self.data.update(new)

    @property
    def has_data(self) -> bool:
        return bool(self.data)

    @property
    def is_anonymous(self) -> bool:
        return self.user_id is None

    @property
    def is_switched(self) -> bool:
        """Whether another user is behind the session than the one that it is bound to."""
        return BACK_HASH in self.meta

    @property
    def is_renewed(self) -> bool:
        """Whether the storage still knows the session under an identifier that it has given up."""
        return self.stored is not None and self.stored.identifier != self.identifier

    @property
    def stored_identifier(self) -> str:
        """The identifier that the storage knows the session under, until a renewal is stored."""
        return self.stored.identifier if self.stored else self.identifier

    @property
    def is_as_stored(self) -> bool:
        """Whether storing it now would change nothing but its time."""
        return (
            self.stored is not None
            and not self.is_renewed
            and encode(self.data, self.meta, self._serializer) == self.stored.data
        )

    @property
    def needs_update(self) -> bool:
        """Whether the last update is more than 61 seconds ago."""
        return self._clock() > self.last_updated + UPDATE_GRACE

    def to_record(self) -> SessionRecord:
        """Return the fields to store, without ``ses_id``: only the backend makes that hash.

        :raises TypeError: the serializer cannot take a value; the message names its key

        Source: TYPO3 ``UserSession::toArray()``, which has the identifier in ``ses_id``.
        """
        record: SessionRecord = {
            "ses_iplock": self.ip_lock,
            "ses_userid": self.user_id or 0,
            "ses_tstamp": self.last_updated,
            "ses_data": encode(self.data, self.meta, self._serializer),
        }
        if self.is_permanent:
            record["ses_permanent"] = True
        return record

    def get_jwt(self, scope: CookieScope) -> str:
        """Return the cookie token: the signed identifier, bound to the scope."""
        return scope.sign(self.identifier, int(self._clock()))

    @staticmethod
    def resolve_identifier_from_jwt(token: str, scope: CookieScope) -> str | None:
        """Return the identifier that a cookie token carries, or None.

        None means: empty, malformed, signed with another key (or for another login type), without
        identifier, or made for another scope. Costs no query and never raises.
        """
        return scope.resolve(token)

    def renewed(self, identifier: str, *, user_id: UserId | None) -> UserSession:
        """Return this session under a new identifier, sharing the data; nothing is stored yet."""
        session = UserSession(
            identifier,
            user_id=user_id,
            last_updated=self.last_updated,
            data=self.data,
            meta=self.meta,
            ip_lock=self.ip_lock,
            is_new=True,
            is_permanent=self.is_permanent,
            stored=self.stored,
            serializer=self._serializer,
            clock=self._clock,
        )
        session.data_was_updated = self.data_was_updated
        return session

    def read_beside(self, record: SessionRecord) -> UserSession:
        """Return another stored session for comparing; its identifier is not known."""
        return UserSession.from_record("", record, serializer=self._serializer, clock=self._clock)

    def read_stored(self) -> UserSession:
        """Return what the storage held when this session was read or written last."""
        if self.stored is None:
            return self.read_beside({})
        _, user_id, timestamp, data = self.stored
        record: SessionRecord = {"ses_userid": user_id or 0, "ses_tstamp": timestamp}
        return self.read_beside({**record, "ses_data": data})

    def as_stored(self, record: SessionRecord) -> UserSession:
        """Return this session as it is after ``record`` was stored under its identifier."""
        session = self.renewed(self.identifier, user_id=self.user_id)
        session.is_new = self.is_new
        session.replaced = self.stored
        before = self.stored or Stored(self.identifier, None, 0, b"")
        session.stored = Stored(
            self.identifier,
            self.user_id if "ses_userid" in record else before.user_id,
            record.get("ses_tstamp", before.timestamp),
            record.get("ses_data", before.data),
        )
        session.last_updated = session.stored.timestamp
        session.ip_lock = record.get("ses_iplock", self.ip_lock)
        session.data_was_updated = self.data_was_updated and "ses_data" not in record
        # For callers who go on with this object: they must not overwrite what others store.
        self.stored = session.stored
        return session

    def merge(self, record: SessionRecord) -> None:
        """Take over what another request has stored in this session since it was read.

        Three ways, by top-level key: what this request has not changed comes from ``record``, what
        it has changed or deleted stays as it is here. Keys of the login come whole from the side
        that renewed the session.

        :raises CorruptSessionData: ``record`` does not decode; the session stays as it is
        """
        is_login_mine = self.is_renewed
        meta = self.merge_into(self.data, record, is_login_mine=is_login_mine)
        if not is_login_mine:
            self.meta = meta

    def merge_into(
        self, data: dict[str, Any], record: SessionRecord, *, is_login_mine: bool
    ) -> SessionMeta:
        """Bring into ``data`` what ``record`` has that was not in the session when it was read.

        The session counts as read from ``record`` afterwards. Return what the app itself keeps
        there.
        """
        base = decode(self.stored.data if self.stored else b"", self._serializer)
        stored = _stored(self.stored_identifier, record)
        theirs = decode(stored.data, self._serializer)
        self.stored = stored
        merge(data, base.data, theirs.data, self._serializer, is_login_mine=is_login_mine)
        return theirs.meta


def _stored(identifier: str, record: Mapping[str, Any]) -> Stored:
    user_id = record.get("ses_userid")
    if type(user_id) is int:  # most users', on every request
        user_id = user_id if user_id > 0 else None
    else:
        user_id = stored_user_id(user_id)
    return Stored(
        identifier,
        user_id,
        int(record.get("ses_tstamp") or 0),
        bytes(record.get("ses_data") or b""),
    )
