"""What the app itself keeps in a session, beside the visitor's data: each key, kind and meaning.

``SessionMeta`` is the one list of these keys; the validator is made from its annotations. Stored
bytes may decode and be wrong all the same, written by other software or edited by hand: without
the validator the wrong value would be an error page somewhere on the way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from types import NoneType
from typing import Annotated, Any, Final, NamedTuple, TypedDict, get_type_hints

#: The latest moment, in Unix seconds: in the year 9892. Browsers and time zones count on from
#: there, and the calendar of Python ends in 9999.
LATEST = 250_000_000_000

#: Where Django's ``set_expiry()`` keeps its value, in the visitor's data.
EXPIRY_KEY: Final = "_session_expiry"

LOGIN_AT: Final = "login_at"
LOGIN_ID: Final = "login_id"
LOGIN_FROM: Final = "login_from"
LOGIN_SENT_AT: Final = "login_sent_at"
CONFIRMED_AT: Final = "confirmed_at"
USER_AGENT: Final = "user_agent"
EXPIRES_AT: Final = "expires_at"
KEEP_UNTIL: Final = "keep_until"
SAVED_AT: Final = "saved_at"
ADOPTED_AT: Final = "adopted"
SWITCHED_AT: Final = "switched_at"
SWITCHED_FROM: Final = "switched_from"
BACK_USER: Final = "back_user"
BACK_HASH: Final = "back_hash"
ASIDE: Final = "aside"


class Kind(NamedTuple):
    """Which values of a key are right."""

    types: tuple[Any, ...]
    is_time: bool = False  #: Unix seconds, up to ``LATEST``; bool passes: True is the moment 1
    check: Callable[[Any], bool] | None = None


def _is_source(value: dict[str, Any]) -> bool:
    if not isinstance(value.get("login_type"), str) or "login_at" not in value:
        return False
    login_at = value["login_at"]
    return login_at is None or (isinstance(login_at, int) and 0 <= login_at <= LATEST)


def _is_aside(value: dict[str, Any]) -> bool:
    data, meta = value.get("data"), value.get("meta")
    return (
        isinstance(data, dict)
        and isinstance(meta, dict)
        and isinstance(value.get("user_id"), (int, str, NoneType))
        and isinstance(value.get("is_permanent"), bool)
        and is_well_formed(data, meta)
    )


#: Unix seconds.
Moment = Annotated[int, Kind((int,), is_time=True)]
#: Unix seconds with a fraction.
Time = Annotated[float, Kind((int, float), is_time=True)]
Text = Annotated[str, Kind((str,))]
#: The primary key of a user, in a type that every serializer takes.
UserKey = Annotated[int | str | None, Kind((int, str, NoneType))]


class Source(TypedDict):
    """The session of another login type that a session was switched from."""

    login_type: str
    login_at: int | None


class Aside(TypedDict):
    """A session as it was before a switch, which brings it back on exit."""

    data: dict[str, Any]
    meta: dict[str, Any]
    user_id: int | str | None
    is_permanent: bool


class SessionMeta(TypedDict, total=False):
    """Everything that the app may keep in one session; no key is in all of them."""

    login_at: Moment  #: when the user logged in; of an adopted session, when it moved
    login_id: Text  #: stays the same through renewals, differs for every login
    login_from: Text  #: start of the ``ses_id`` of the anonymous session before the login
    login_sent_at: Time  #: when the request of the login arrived
    confirmed_at: Moment  #: when the user last confirmed the login
    user_agent: Text  #: of the browser that logged in
    expires_at: Moment  #: the end that ``set_expiry()`` asked for
    keep_until: Moment  #: the end that an adopted session had before; it ends no earlier
    saved_at: Moment  #: the last use, where ``ses_tstamp`` is moved by a custom expiry
    adopted: Moment  #: when the browser first sent the cookie of an adopted session; 0: not yet
    switched_at: Moment  #: when the user was switched
    switched_from: Annotated[Source, Kind((dict,), check=_is_source)]
    back_user: UserKey  #: the original user of a switched session
    back_hash: Text  #: the original user's session auth hash; only a switched session has one
    aside: Annotated[Aside, Kind((dict,), check=_is_aside)]


_KINDS: dict[str, Kind] = {
    key: hint.__metadata__[0]
    for key, hint in get_type_hints(SessionMeta, include_extras=True).items()
}

#: A switched session has all of these, and no other session has any.
_OF_A_SWITCH = {ASIDE, BACK_USER, BACK_HASH}


def is_well_formed(data: Mapping[str, Any], meta: Mapping[str, Any]) -> bool:
    """Return whether the app can work with a visitor's data and with what it keeps itself.

    Of the visitor's data only Django's custom expiry is checked. Unknown keys of ``meta`` are
    allowed: a later version may have written them.
    """
    if EXPIRY_KEY in data and not _is_expiry(data[EXPIRY_KEY]):
        return False
    for key, value in meta.items():
        kind = _KINDS.get(key)
        if kind is None:
            continue
        if not isinstance(value, kind.types):
            return False
        if kind.is_time and not 0 <= value <= LATEST:
            return False
        if kind.check is not None and not kind.check(value):
            return False
    return meta.keys() >= _OF_A_SWITCH or meta.keys().isdisjoint(_OF_A_SWITCH)


def _is_expiry(value: Any) -> bool:
    """Return whether Django's ``set_expiry()`` may have written this: seconds, a date or None."""
    if isinstance(value, str):
        try:
            datetime.fromisoformat(value)
        except ValueError:
            return False
        return True
    if value is None:
        return True
    return isinstance(value, (int, float)) and value == value  # noqa: PLR0124 - not NaN
