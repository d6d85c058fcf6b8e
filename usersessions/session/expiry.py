"""When sessions end.

``ses_tstamp`` plus the lifetime is always the moment at which a session ends. A custom expiry
(Django's ``set_expiry()``), ``MAX_LIFETIME`` and ``SWITCH_MAX_SECONDS`` are stored as a
``ses_tstamp`` that is moved by the difference, so that expiry checks and collection know one rule.
Lowering a lifetime has sessions with a custom expiry collected earlier by the difference.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone

from django.utils.timezone import get_default_timezone, is_naive, make_aware

from .meta import (
    EXPIRES_AT,
    EXPIRY_KEY,
    KEEP_UNTIL,
    LATEST,
    LOGIN_AT,
    SAVED_AT,
    SWITCHED_AT,
)
from .user_session import UPDATE_GRACE, UserSession

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
        expires_at = session.last_updated + (
            self.anonymous_lifetime if session.user_id is None else self.lifetime
        )
        if session.data.get(EXPIRY_KEY):
            # Decided when it was set: a later change of TIMEOUT does not move it.
            expires_at = session.meta.get(EXPIRES_AT, expires_at)
        if self.max_lifetime or self.switch_max_seconds:
            return self._limited(session, expires_at)
        return expires_at

    def has_expired(self, session: UserSession) -> bool:
        """Return whether the session has ended by itself; always when its timeout is 0."""
        lifetime = self.anonymous_lifetime if session.user_id is None else self.lifetime
        return lifetime == 0 or self.clock() > self.expires_at(session)

    def timestamp(self, session: UserSession) -> int:
        """Return the ``ses_tstamp`` with which a session that is used now ends when it should."""
        lifetime = self.anonymous_lifetime if session.user_id is None else self.lifetime
        now = int(self.clock())
        if not session.meta and not self.max_lifetime:
            return now
        ends_at = session.meta.get(EXPIRES_AT, max(now + lifetime, session.meta.get(KEEP_UNTIL, 0)))
        if self.max_lifetime or self.switch_max_seconds:
            ends_at = self._limited(session, ends_at)
        return max(0, ends_at - lifetime)

    def is_touch_due(self, session: UserSession) -> bool:
        """Return whether using the session now would move its end by more than 61 seconds."""
        if session.data.get(EXPIRY_KEY):
            return False
        return self.timestamp(session) > session.last_updated + UPDATE_GRACE

    def last_used(self, session: UserSession) -> int:
        """Return when the session was last used, in Unix seconds; also with a custom expiry."""
        keep_until = session.meta.get(KEEP_UNTIL)
        end = session.last_updated + self.lifetime_of(session)
        if keep_until is not None and end > keep_until:
            return session.last_updated
        return session.meta.get(SAVED_AT, session.last_updated)

    def note_custom_expiry(self, session: UserSession) -> None:
        """Store in ``meta`` the moment that ``set_expiry()`` means, as of now."""
        expiry, meta = session.data.get(EXPIRY_KEY), session.meta
        meta.pop(EXPIRES_AT, None)
        meta.pop(SAVED_AT, None)
        is_limited = self.switch_max_seconds and SWITCHED_AT in meta
        if not expiry and KEEP_UNTIL not in meta and not is_limited:
            return
        # ``ses_tstamp`` tells the expiry then, so the time of the last use is kept here.
        meta[SAVED_AT] = int(self.clock())
        if isinstance(expiry, str):
            meta[EXPIRES_AT] = _in_calendar(as_timestamp(datetime.fromisoformat(expiry)))
        elif expiry:
            seconds = max(-LATEST, min(expiry, LATEST))
            meta[EXPIRES_AT] = _in_calendar(int(self.clock() + seconds))

    def note_adopted_end(self, session: UserSession, ends_at: int) -> None:
        """Store in ``meta`` when the session would end in its old engine: not earlier here."""
        session.meta[SAVED_AT] = int(self.clock())
        session.meta[EXPIRES_AT if session.data.get(EXPIRY_KEY) else KEEP_UNTIL] = ends_at

    @property
    def retention(self) -> tuple[int, int]:
        """How many seconds users' and anonymous sessions stay stored after their last use."""
        return retention_seconds(self.lifetime), retention_seconds(self.anonymous_lifetime)

    def _limited(self, session: UserSession, ends_at: int) -> int:
        """Return ``ends_at``, or the moment at which an absolute limit ends the session."""
        ends = [ends_at]
        if self.max_lifetime and session.user_id is not None:
            ends.append(session.meta.get(LOGIN_AT, session.last_updated) + self.max_lifetime)
        if self.switch_max_seconds and SWITCHED_AT in session.meta:
            ends.append(session.meta[SWITCHED_AT] + self.switch_max_seconds)
        return min(ends)


def _in_calendar(timestamp: int) -> int:
    return max(0, min(timestamp, LATEST))


def retention_seconds(lifetime: int) -> int:
    """Return for how many seconds a session stays stored that lives this long unused."""
    return lifetime or KEPT_WITHOUT_LIFETIME


def as_moment(timestamp: int) -> datetime:
    """Return Unix seconds as a datetime in UTC; what is later than ``LATEST`` counts as that."""
    return datetime.fromtimestamp(_in_calendar(timestamp), timezone.utc)


def as_timestamp(moment: datetime) -> int:
    """Return a moment in Unix seconds; a naive one is in the site's time zone."""
    aware = make_aware(moment, get_default_timezone()) if is_naive(moment) else moment
    return int(aware.timestamp())
