"""What ``ses_data`` holds: a visitor's data, and beside it what the app itself remembers."""

from __future__ import annotations

from typing import Any, Final, NamedTuple, Protocol

from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY

from .meta import EXPIRY_KEY, SessionMeta, is_well_formed

#: The one key of the stored data that belongs to the app itself. It is taken out on reading and put
#: back on writing, so that views never see it.
RESERVED_KEY = "_usersessions"

#: Where a switched session's data shows the original user's id, as in TYPO3. Any code of the site
#: can write there, so nothing is decided by it.
BACK_USER_KEY: Final = "backuserid"

#: Keys that belong to the login, not to the visitor: a merge takes all of them from one side.
LOGIN_KEYS = frozenset({SESSION_KEY, BACKEND_SESSION_KEY, HASH_SESSION_KEY, BACK_USER_KEY})


class Serializer(Protocol):
    """Django's serializer interface (``SESSION_SERIALIZER``)."""

    def dumps(self, obj: Any) -> bytes: ...

    def loads(self, data: bytes) -> Any: ...


class CorruptSessionData(ValueError):
    """Stored bytes are not what the configured serializer writes."""


class Decoded(NamedTuple):
    """The stored data, taken apart."""

    data: dict[str, Any]
    meta: SessionMeta


def encode(data: dict[str, Any], meta: SessionMeta, serializer: Serializer) -> bytes:
    """Return the bytes to store.

    :raises TypeError: the serializer cannot take a value; the message names its key
    :raises ValueError: the data uses the key that the app keeps for itself
    """
    if RESERVED_KEY in data:
        refuse_reserved(data)
    try:
        return serializer.dumps({**data, RESERVED_KEY: meta} if meta else data)
    except (TypeError, ValueError, RecursionError) as exc:
        raise TypeError(_name_bad_value(data, serializer, exc)) from exc


def decode(stored: bytes, serializer: Serializer) -> Decoded:
    """Take stored bytes apart; nothing stored is empty data.

    :raises CorruptSessionData: they are not what the serializer writes
    """
    if not stored:
        return Decoded({}, {})
    try:
        data = serializer.loads(stored)
    except Exception as exc:  # a serializer may raise anything on bytes that it did not write
        raise CorruptSessionData("The stored session data does not decode.") from exc
    if not isinstance(data, dict) or not isinstance(data.get(RESERVED_KEY, {}), dict):
        raise CorruptSessionData("The stored session data is not a mapping.")
    decoded = Decoded(data, data.pop(RESERVED_KEY, {}))
    if (decoded.meta or EXPIRY_KEY in data) and not is_well_formed(*decoded):
        raise CorruptSessionData("The stored session data has reserved values of a wrong kind.")
    return decoded


def refuse_reserved(keys: Any) -> None:
    """Raise ValueError if the key that the app keeps for itself is among the keys."""
    if RESERVED_KEY in keys:
        raise ValueError(f"The session key {RESERVED_KEY!r} is reserved for usersessions.")


def merge(
    mine: dict[str, Any],
    base: dict[str, Any],
    theirs: dict[str, Any],
    serializer: Serializer,
    *,
    is_login_mine: bool,
) -> None:
    """Bring into ``mine`` what others have stored since ``base`` was read.

    A three-way merge by top-level key: what is as in ``base`` comes from ``theirs``; what was set
    or deleted here stays. The keys of the login all come from one side.
    """
    for key in base.keys() | theirs.keys() | mine.keys():
        is_mine = is_login_mine if key in LOGIN_KEYS else not _same(key, mine, base, serializer)
        if is_mine:
            continue
        if key in theirs:
            mine[key] = theirs[key]
        else:
            mine.pop(key, None)


def _same(key: str, one: dict[str, Any], other: dict[str, Any], serializer: Serializer) -> bool:
    # Compared as stored: to Python 1 == True == 1.0.
    if key not in one or key not in other:
        return key not in one and key not in other
    return serializer.dumps(one[key]) == serializer.dumps(other[key])


def _name_bad_value(data: dict[str, Any], serializer: Serializer, error: Exception) -> str:
    for key, value in data.items():
        try:
            serializer.dumps({key: value})
        except (TypeError, ValueError, RecursionError) as exc:
            return f"The session value under {key!r} cannot be stored: {exc}"
    return f"The session data cannot be stored: {error}"
