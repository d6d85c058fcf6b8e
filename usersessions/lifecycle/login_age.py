"""How long ago a session's user has shown who they are, by logging in or by confirming it."""

from __future__ import annotations

from ..session.meta import ADOPTED_AT, CONFIRMED_AT, LOGIN_AT
from ..session.user_session import UserSession

#: By how many seconds the clocks of a site's servers may differ.
CLOCK_SKEW = 10


def logged_in_at(session: UserSession) -> int | None:
    """Return when the user of a session logged in, in Unix seconds; None: nobody knows.

    An adopted session remembers when it moved: its login was before that.
    """
    if session.is_anonymous or ADOPTED_AT in session.meta:
        return None
    return session.meta.get(LOGIN_AT)


def is_login_recent(session: UserSession, max_age: float, *, now: float) -> bool:
    """Return whether the last login or confirmation is at most ``max_age`` seconds ago.

    :param max_age: 0: whatever its age
    :param now: Unix seconds

    Never for an anonymous session, nor for a switched one: whoever sits there is not its user. A
    time in the future says nothing, or a clock that was wrong once would confirm for ever.
    """
    if session.is_anonymous or session.is_switched:
        return False
    times = (logged_in_at(session), session.meta.get(CONFIRMED_AT))
    return not max_age or any(
        time is not None and -CLOCK_SKEW <= now - time <= max_age for time in times
    )
