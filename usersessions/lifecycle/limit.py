"""How many sessions a user may have at once, and what happens when a login would be one too many.

Those count that let the user in: unexpired ones of the login type. Not those in which somebody
else has switched to the user, and not the one that the login replaces.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from django.core.exceptions import PermissionDenied
from django.utils.translation import ngettext

from ..backends.base import SessionBackend
from ..conf import LoginType
from ..session.data import CorruptSessionData
from ..session.expiry import ExpiryRules
from ..session.user_keys import stored_user_id
from ..session.user_session import UserSession
from ..switching.state import is_switched
from .duplicate_login import is_twin
from .user_lock import while_user_is_locked

#: How often to look again for what is too many while others renew or end it.
ATTEMPTS = 20

Write = Callable[[UserSession], UserSession]


class TooManySessions(PermissionDenied):
    """The login is refused: the user has as many sessions as ``MAX_SESSIONS_PER_USER`` allows.

    Its text is for the visitor, in the visitor's language. Django answers 403 and hands it to the
    template ``403.html`` as ``exception``.

    :ivar login_type: name of the login type
    :ivar limit: how many sessions are allowed
    """

    def __init__(self, login_type: str, limit: int) -> None:
        self.login_type = login_type
        self.limit = limit
        super().__init__(
            ngettext(
                "You have %(limit)d session already, which is as many as are allowed. "
                "End it first: log out there, then log in here.",
                "You have %(limit)d sessions already, which is as many as are allowed. "
                "End one of them first: log out there, then log in here.",
                limit,
            )
            % {"limit": limit}
        )


class Other(NamedTuple):
    """A session of the same user, and the hash by which it can be ended."""

    session: UserSession
    ses_id: str


class SessionLimit:
    """Keeps the users of one login type to ``MAX_SESSIONS_PER_USER``, also when logins meet."""

    def __init__(self, login_type: LoginType, backend: SessionBackend, expiry: ExpiryRules) -> None:
        self.login_type = login_type
        self.backend = backend
        self.expiry = expiry

    def check(self, session: UserSession) -> None:
        """Refuse a login early that ``store()`` would refuse, unless others are faster.

        :raises TooManySessions: only where ``MAX_SESSIONS_REACHED`` is "refuse-login"

        Costs one query there, none elsewhere.
        """
        if self._adds_one(session) and self._may_refuse(session):
            self._refuse_if_full(session, is_in_transaction=False)

    def store(self, session: UserSession, write: Write) -> UserSession:
        """Store a session by ``write``; if it is a login, make room for it or refuse it.

        Logins of one user wait for each other: the limit holds exactly.

        :raises TooManySessions: only where ``MAX_SESSIONS_REACHED`` is "refuse-login"; nothing was
            written

        Costs nothing more where no limit is set, and for what is no login. Else a transaction of
        the users' database, a query for the lock, one for the user's sessions, and one for each 500
        that end.
        """
        if not self._adds_one(session):
            return write(session)
        return self._store_login(session, write)

    def _adds_one(self, session: UserSession) -> bool:
        """Whether its user has one session more that counts when this one is stored."""
        if not self.login_type.max_sessions_per_user or session.is_anonymous:
            return False
        if is_switched(session):
            return False
        if session.stored is None or session.stored.user_id != session.user_id:
            return True
        return session.is_renewed and is_switched(session.read_stored())

    def _may_refuse(self, session: UserSession) -> bool:
        return self.login_type.max_sessions_reached == "refuse-login" and not _comes_back(session)

    def _store_login(self, session: UserSession, write: Write) -> UserSession:
        is_in_transaction = self.backend.transaction_depth > 0
        assert session.user_id is not None
        return while_user_is_locked(
            session.user_id, self._store_locked, session, write, is_in_transaction
        )

    def _store_locked(
        self, session: UserSession, write: Write, is_in_transaction: bool
    ) -> UserSession:
        if self._may_refuse(session):
            # Before it is stored: not every storage can take that back.
            self._refuse_if_full(session, is_in_transaction=is_in_transaction)
            return write(session)
        # Afterwards: whatever fails in between, nobody is left without a session.
        written = write(session)
        self._end_oldest(written, is_in_transaction=is_in_transaction)
        return written

    def _refuse_if_full(self, session: UserSession, *, is_in_transaction: bool) -> None:
        others = self._others(session, is_in_transaction=is_in_transaction)
        limit = self.login_type.max_sessions_per_user
        if sum(not is_twin(session, other) for other, _ in others) >= limit:
            raise TooManySessions(self.login_type.name, limit)

    def _end_oldest(self, login: UserSession, *, is_in_transaction: bool) -> None:
        """End the sessions that are too many now: those longest unused, never this one."""
        for _ in range(ATTEMPTS):
            others = self._others(login, is_in_transaction=is_in_transaction)
            others.sort(key=self._last_used, reverse=True)
            surplus = [ses_id for _, ses_id in others[self.login_type.max_sessions_per_user - 1 :]]
            if self.backend.remove_by_ses_id(surplus) == len(surplus):
                return
            # One of them has ended meanwhile, or goes on under a new identifier.
            is_in_transaction = True

    def _last_used(self, other: Other) -> tuple[int, int, str]:
        session, ses_id = other
        return self.expiry.last_used(session), session.meta.get("login_at", 0), ses_id

    def _others(self, session: UserSession, *, is_in_transaction: bool) -> list[Other]:
        """Return the sessions of the same user that count, but for this one."""
        assert session.user_id is not None
        read = self.backend.get_current_by_user if is_in_transaction else self.backend.get_by_user
        own = self.backend.keys.ses_ids(session.identifier)
        found = []
        for record in read(session.user_id):
            if record["ses_id"] in own:
                continue
            try:
                other = session.read_beside(record)
            except CorruptSessionData:
                continue  # it lets nobody in
            if not is_switched(other) and not self.expiry.has_expired(other):
                found.append(Other(other, record["ses_id"]))
        return found


def _comes_back(session: UserSession) -> bool:
    """Whether somebody who had switched user goes back to the session that was put aside.

    Nobody is refused what was theirs: if all places were taken meanwhile, the oldest session goes.
    """
    if session.stored is None:
        return False
    aside = session.read_stored().meta.get("aside") or {}
    return stored_user_id(aside.get("user_id")) == session.user_id
