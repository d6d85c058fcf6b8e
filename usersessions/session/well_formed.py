"""Whether stored data has what the app itself reads in the types in which it was written.

Bytes may decode and be wrong all the same: half written by other software, or edited by hand.
Whoever reads them would otherwise meet the wrong value somewhere on the way, as a 500.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

#: The latest moment, in Unix seconds: in the year 9892, which leaves room to the last that a date
#: can name, since browsers and time zones count on from there.
LATEST = 250_000_000_000


def is_well_formed(data: Mapping[str, Any], meta: Mapping[str, Any]) -> bool:
    """Return whether a visitor's data, and what the app itself remembers, can be worked with.

    Of the visitor's data only what the app reads is looked at.
    """
    expiry = data.get("_session_expiry")
    if expiry is not None and not _is_expiry(expiry):
        return False
    for key, value in meta.items():
        is_right = _REMEMBERED.get(key)
        if is_right is not None and not is_right(value):
            return False
    return meta.keys() >= _OF_A_SWITCH or meta.keys().isdisjoint(_OF_A_SWITCH)


def _is_moment(value: Any) -> bool:
    # No check for bool: true is a moment as good as 1.
    return isinstance(value, int) and 0 <= value <= LATEST


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_time(value: Any) -> bool:
    return isinstance(value, (int, float)) and 0 <= value <= LATEST


def _is_expiry(value: Any) -> bool:
    """Return whether Django's ``set_expiry()`` may have written this: seconds, or a date."""
    if isinstance(value, str):
        try:
            datetime.fromisoformat(value)
        except ValueError:
            return False
        return True
    return isinstance(value, (int, float)) and value == value  # noqa: PLR0124 - not NaN


def _is_aside(value: Any) -> bool:
    """Return whether this is what a switch has put aside."""
    if not isinstance(value, dict):
        return False
    data, meta = value.get("data"), value.get("meta")
    return (
        isinstance(data, dict)
        and isinstance(meta, dict)
        and _is_key_of_user(value.get("user_id"))
        and isinstance(value.get("is_permanent"), bool)
        and is_well_formed(data, meta)
    )


def _is_source(value: Any) -> bool:
    """Return whether this names a session that another one was switched from."""
    return (
        isinstance(value, dict)
        and _is_text(value.get("login_type"))
        and (value.get("login_at") is None or _is_moment(value["login_at"]))
        and "login_at" in value
    )


def _is_key_of_user(value: Any) -> bool:
    return value is None or isinstance(value, (int, str))


#: What a switched session has, all of it, and no other session any.
_OF_A_SWITCH = {"aside", "back_user", "back_hash"}

_REMEMBERED: dict[str, Callable[[Any], bool]] = {
    "login_at": _is_moment,
    "login_id": _is_text,
    "login_from": _is_text,
    "login_sent_at": _is_time,
    "expires_at": _is_moment,
    "keep_until": _is_moment,
    "saved_at": _is_moment,
    "adopted": _is_moment,
    "user_agent": _is_text,
    "confirmed_at": _is_moment,
    "switched_at": _is_moment,
    "switched_from": _is_source,
    "back_user": _is_key_of_user,
    "back_hash": _is_text,
    "aside": _is_aside,
}
