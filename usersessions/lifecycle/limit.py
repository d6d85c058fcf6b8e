"""How many sessions a user may have at once, and what happens when a login would be one too many.

Those count that let the user in: unexpired ones of the login type. Not those in which another user
has switched to this one, and not the one that the login replaces.
"""

from __future__ import annotations

from django.core.exceptions import PermissionDenied
from django.utils.translation import ngettext

from ..backends.base import SessionBackend
from ..backends.sessions_of_user import FoundSession, sessions_of_user
from ..conf import LoginType
from ..session.data import Serializer
from ..session.expiry import ExpiryRules
from ..session.meta import LOGIN_AT
from ..session.user_session import UserSession
from ..switching.state import user_aside
from .duplicate_login import is_duplicate
from .retries import ATTEMPTS


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


class SessionLimit:
    """Keeps the users of one login type to ``MAX_SESSIONS_PER_USER``, also in concurrent logins.

    Asked before a session is stored, and told after it was.
    """

    def __init__(
        self,
        login_type: LoginType,
        backend: SessionBackend,
        expiry: ExpiryRules,
        serializer: Serializer,
    ) -> None:
        self.login_type = login_type
        self.backend = backend
        self.expiry = expiry
        self.serializer = serializer

    def concerns(self, session: UserSession) -> bool:
        """Return whether storing the session gives its user one more that counts."""
        if not self.login_type.max_sessions_per_user or session.is_anonymous or session.is_switched:
            return False
        if session.stored is None or session.stored.user_id != session.user_id:
            return True
        return session.is_renewed and session.read_stored().is_switched

    def check(self, session: UserSession) -> None:
        """Refuse a login early that would be refused when it is stored.

        :raises TooManySessions: only where ``MAX_SESSIONS_REACHED`` is "refuse-login"

        Costs one query there, none elsewhere.
        """
        if self.concerns(session) and self.refuses(session):
            self.refuse_if_full(session, for_update=False)

    def refuses(self, session: UserSession) -> bool:
        """Return whether a login that is one too many is refused, instead of older ones ended."""
        return self.login_type.max_sessions_reached == "refuse-login" and not _is_switch_return(
            session
        )

    def refuse_if_full(self, session: UserSession, *, for_update: bool) -> None:
        """Refuse a login if the user has as many sessions as are allowed. Costs one query.

        :param for_update: see ``sessions_of_user()``
        :raises TooManySessions: and nothing was written
        """
        others = self._others(session, for_update=for_update)
        limit = self.login_type.max_sessions_per_user
        if sum(not is_duplicate(session, other.session) for other in others) >= limit:
            raise TooManySessions(self.login_type.name, limit)

    def end_surplus(self, login: UserSession, *, for_update: bool) -> None:
        """End the sessions that are too many after a login: those longest unused, never this one.

        Costs one query for the user's sessions, and one for each 500 that end.
        """
        for _ in range(ATTEMPTS):
            others = self._others(login, for_update=for_update)
            others.sort(key=self._last_used, reverse=True)
            surplus = [
                other.ses_id for other in others[self.login_type.max_sessions_per_user - 1 :]
            ]
            if self.backend.remove_by_ses_id(surplus) == len(surplus):
                return
            # A concurrent request has ended one of them, or has renewed it.
            for_update = True

    def _last_used(self, other: FoundSession) -> tuple[int, int, str]:
        session = other.session
        return self.expiry.last_used(session), session.meta.get(LOGIN_AT, 0), other.ses_id

    def _others(self, session: UserSession, *, for_update: bool) -> list[FoundSession]:
        """Return the sessions of the same user that count, but for this one."""
        assert session.user_id is not None
        own = self.backend.keys.ses_ids(session.identifier)
        found = sessions_of_user(
            self.backend,
            session.user_id,
            self.serializer,
            expiry=self.expiry,
            for_update=for_update,
        )
        return [
            other for other in found if not other.session.is_switched and other.ses_id not in own
        ]


def _is_switch_return(session: UserSession) -> bool:
    """Return whether a switched session goes back to the user whose session was put aside.

    That user is not refused: if all places are taken by now, the oldest session ends.
    """
    return session.stored is not None and user_aside(session.read_stored()) == session.user_id
