"""When sessions end.

``ses_tstamp`` plus the lifetime is always the moment at which a session ends. A custom expiry
(Django's ``set_expiry()``), ``MAX_LIFETIME`` and ``SWITCH_MAX_SECONDS`` are stored as a
``ses_tstamp`` that is moved so far, so that expiry checks and collection know one rule. Whoever
lowers a lifetime has sessions with a custom expiry collected earlier by the difference.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone

from django.utils.timezone import get_default_timezone, is_naive, make_aware

from .user_session import UserSession
from .well_formed import LATEST

#: Where Django's ``set_expiry()`` keeps its value, in the session's data.
EXPIRY_KEY = "_session_expiry"

#: Where an adopted session remembers when its browser first came with the new cookie, in Unix
#: seconds; 0: not yet.
ADOPTED_KEY = "adopted"

#: Where a switched session remembers when it was switched, in Unix seconds.
SWITCHED_AT_KEY = "switched_at"

#: How long sessions are kept for collection where the lifetime is 0, in seconds.
KEPT_WITHOUT_LIFETIME = 86400


@dataclass(frozen=True)
class ExpiryRules:
    """The lifetimes of one login type, all in seconds, and what follows from them."""

    lifetime: int  #: of users' sessions that are not used; 0: they end at once
    anonymous_lifetime: int
    max_lifetime: int  #: of users' sessions, from the login; 0: no limit
    clock: Callable[[], float]  #: returns Unix seconds
    switch_max_seconds: int = 0  #: of switched sessions, from the switch; 0: no limit

    def lifetime_of(self, session: UserSession) -> int:
        """Return how many seconds of inactivity the session survives."""
        return self.anonymous_lifetime if session.user_id is None else self.lifetime

    def expires_at(self, session: UserSession) -> int:
        """Return the moment at which the session ends if it is not used again, in Unix seconds."""
        expires_at = session.last_updated + self.lifetime_of(session)
        if session.data.get(EXPIRY_KEY):
            # Decided when it was set: a TIMEOUT that was changed since does not move it.
            expires_at = session.meta.get("expires_at", expires_at)
        return min(expires_at, self._latest_end(session, expires_at))

    def has_expired(self, session: UserSession) -> bool:
        """Return whether the session has ended by itself; always when its timeout is 0."""
        return self.lifetime_of(session) == 0 or self.clock() > self.expires_at(session)

    def note_custom_expiry(self, session: UserSession) -> None:
        """Remember the moment that ``set_expiry()`` means, as of now."""
        expiry = session.get(EXPIRY_KEY)
        session.meta.pop("expires_at", None)
        session.meta.pop("saved_at", None)
        if not expiry and "keep_until" not in session.meta and not self._is_switch_limited(session):
            return
        # Else the time of the last use would be lost: ``ses_tstamp`` tells the expiry.
        session.meta["saved_at"] = int(self.clock())
        if isinstance(expiry, str):
            session.meta["expires_at"] = _in_calendar(as_timestamp(datetime.fromisoformat(expiry)))
        elif expiry:
            seconds = max(-LATEST, min(expiry, LATEST))
            session.meta["expires_at"] = _in_calendar(int(self.clock() + seconds))

    def note_end(self, session: UserSession, ends_at: int) -> None:
        """Remember when a session of another engine would end there: it ends no earlier here."""
        session.meta["saved_at"] = int(self.clock())
        session.meta["expires_at" if session.get(EXPIRY_KEY) else "keep_until"] = ends_at

    def timestamp(self, session: UserSession) -> int:
        """Return the ``ses_tstamp`` with which a session that is used now ends when it should."""
        lifetime = self.lifetime_of(session)
        unused_end = max(int(self.clock()) + lifetime, session.meta.get("keep_until", 0))
        ends_at: int = session.meta.get("expires_at", unused_end)
        return max(0, min(ends_at, self._latest_end(session, ends_at)) - lifetime)

    def last_used(self, session: UserSession) -> int:
        """Return when the session was used last, in Unix seconds, whatever its expiry."""
        is_touched = session.last_updated + self.lifetime_of(session) > session.meta.get(
            "keep_until", float("inf")
        )
        used_at: int = session.meta.get("saved_at", session.last_updated)
        return session.last_updated if is_touched else used_at

    def _latest_end(self, session: UserSession, otherwise: int) -> int:
        ends: list[int] = []
        if self.max_lifetime and not session.is_anonymous:
            ends.append(session.meta.get("login_at", session.last_updated) + self.max_lifetime)
        if self._is_switch_limited(session):
            ends.append(session.meta[SWITCHED_AT_KEY] + self.switch_max_seconds)
        return min(ends, default=otherwise)

    def _is_switch_limited(self, session: UserSession) -> bool:
        return bool(self.switch_max_seconds) and SWITCHED_AT_KEY in session.meta


def _in_calendar(timestamp: int) -> int:
    return max(0, min(timestamp, LATEST))


def kept_for(lifetime: int) -> int:
    """Return for how many seconds a session stays stored that lives this long unused."""
    return lifetime or KEPT_WITHOUT_LIFETIME


def as_moment(timestamp: int) -> datetime:
    """Return what Unix seconds mean, in UTC; the last moment of the calendar for what is later."""
    return datetime.fromtimestamp(_in_calendar(timestamp), timezone.utc)


def as_timestamp(moment: datetime) -> int:
    """Return a moment in Unix seconds; a naive one is in the site's time zone."""
    aware = make_aware(moment, get_default_timezone()) if is_naive(moment) else moment
    return int(aware.timestamp())
