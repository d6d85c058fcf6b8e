"""How long ago the user of a session logged in or confirmed the login."""

from __future__ import annotations

from ..session.meta import ADOPTED_AT, CONFIRMED_AT, LOGIN_AT
from ..session.user_session import UserSession

#: By how many seconds the clocks of a site's servers may differ.
CLOCK_SKEW = 10


def logged_in_at(session: UserSession) -> int | None:
    """Return when the user of a session logged in, in Unix seconds; None if unknown.

    It is unknown for an adopted session, which only knows when it moved.
    """
    if session.is_anonymous or ADOPTED_AT in session.meta:
        return None
    return session.meta.get(LOGIN_AT)


def was_confirmed_within(max_age: float, session: UserSession, *, now: float) -> bool:
    """Return whether the last login or confirmation is at most ``max_age`` seconds ago.

    :param max_age: 0: at any time
    :param now: Unix seconds

    False for an anonymous session, and for a switched one, whose user is another person. A time in
    the future does not count: a clock that was wrong once would confirm the login for ever.
    """
    if session.is_anonymous or session.is_switched:
        return False
    times = (logged_in_at(session), session.meta.get(CONFIRMED_AT))
    return not max_age or any(
        time is not None and -CLOCK_SKEW <= now - time <= max_age for time in times
    )
