"""What the app itself keeps in a session, beside the visitor's data: each key, kind and meaning.

``SessionMeta`` is the one list of these keys; the validator is made from its annotations. Stored
bytes may decode and be wrong all the same, written by other software or edited by hand: without
the validator the wrong value would be an error page somewhere on the way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Annotated, Any, Final, TypedDict, get_type_hints

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


def _is_moment(value: Any) -> bool:
    # bool passes: True is the moment 1.
    return isinstance(value, int) and 0 <= value <= LATEST


def _is_time(value: Any) -> bool:
    return isinstance(value, (int, float)) and 0 <= value <= LATEST


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_user_key(value: Any) -> bool:
    return value is None or isinstance(value, (int, str))


def _is_source(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and _is_text(value.get("login_type"))
        and "login_at" in value
        and (value["login_at"] is None or _is_moment(value["login_at"]))
    )


def _is_aside(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    data, meta = value.get("data"), value.get("meta")
    return (
        isinstance(data, dict)
        and isinstance(meta, dict)
        and _is_user_key(value.get("user_id"))
        and isinstance(value.get("is_permanent"), bool)
        and is_well_formed(data, meta)
    )


#: Unix seconds.
Moment = Annotated[int, _is_moment]
#: Unix seconds with a fraction.
Time = Annotated[float, _is_time]
Text = Annotated[str, _is_text]
#: The primary key of a user, in a type that every serializer takes.
UserKey = Annotated[int | str | None, _is_user_key]


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
    switched_from: Annotated[Source, _is_source]
    back_user: UserKey  #: the original user of a switched session
    back_hash: Text  #: the original user's session auth hash; only a switched session has one
    aside: Annotated[Aside, _is_aside]


_CHECKS: dict[str, Callable[[Any], bool]] = {
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
    if not _is_expiry(data.get(EXPIRY_KEY)):
        return False
    for key, value in meta.items():
        if key in _CHECKS and not _CHECKS[key](value):
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
