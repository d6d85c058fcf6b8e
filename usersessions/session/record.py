"""What a storage holds of one session."""

from __future__ import annotations

from typing import NamedTuple, TypedDict

from .user_keys import UserId


class SesId(str):
    """The hash of an identifier that is not known, as of a session that was found in a list.

    A storage's ``get()`` and ``renew()`` take it in place of an identifier.
    """

    __slots__ = ()


class SessionRecord(TypedDict, total=False):
    """One stored session, field by field as in the table."""

    ses_id: str  #: the keyed hash of the identifier; only records that were read have it
    ses_iplock: str
    ses_userid: UserId  #: 0 or less, or empty: anonymous
    ses_tstamp: int  #: Unix seconds
    ses_data: bytes  #: what the serializer wrote
    ses_permanent: bool  #: missing means False; backend tables have no such column


class Stored(NamedTuple):
    """What the storage held when the session was read or written last."""

    identifier: str
    user_id: UserId | None
    timestamp: int
    data: bytes

    def __repr__(self) -> str:
        # The identifier is a secret, and the data may hold some.
        return f"<Stored user_id={self.user_id} timestamp={self.timestamp}>"
