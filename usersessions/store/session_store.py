"""``request.session``: Django's session contract on top of one ``UserSession``."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from django.conf import settings
from django.contrib.sessions.backends.base import UpdateError

from ..backends.base import SessionNotUpdated
from ..session.expiry import ADOPTED_KEY, EXPIRY_KEY
from ..session.user_session import UserSession
from .writable_session import WritableSession

logger = logging.getLogger("usersessions.store")


class SessionStore(WritableSession):
    """The session of one login type in one request, to the end: what is stored, which cookie goes.

    Takes ``LazySession``'s arguments.
    """

    # The cookie

    @property
    def cookie_is_due(self) -> bool:
        """Whether the response must carry the cookie: it is new, permanent, or expires anew.

        A permanent one, or one that is signed with a fallback of ``SECRET_KEY``, is sent again when
        this request has written to the session: an answer that comes late must not bring the
        cookie of a session back that another tab has renewed.
        """
        session = self._loaded
        if session is None or session.stored is None or session.is_renewed:
            return False
        expiry = session.data.get(EXPIRY_KEY)
        is_due = (
            session.is_new
            or (self._is_confirmed and self._is_cookie_renewed)
            or (self._is_confirmed and expiry != self._expiry_read)
            or bool(expiry and self.was_saved)
        )
        return is_due and not self._has_ended

    @property
    def _is_cookie_renewed(self) -> bool:
        return (
            self.user_session.is_permanent
            or settings.SESSION_SAVE_EVERY_REQUEST
            or self._has_old_signature
        )

    @property
    def _has_old_signature(self) -> bool:
        if self._request is None or self.login_type.cookie_format != "token":
            return False
        token = self._request.COOKIES.get(self.login_type.cookie_name, "")
        return bool(token and settings.SECRET_KEY_FALLBACKS) and not (
            self.cookie_scope(self._request).is_current(token)
        )

    @property
    def cookie_max_age(self) -> int | None:
        """Seconds that the browser keeps the cookie; None: until it closes."""
        if self.get_expire_at_browser_close():
            return None
        if self.get(EXPIRY_KEY) or not self.user_session.is_permanent:
            return max(0, self.manager.expiry.expires_at(self.user_session) - int(self.clock()))
        return self.login_type.lifetime

    # The end of the request

    @property
    def is_in_use(self) -> bool:
        """Whether the request has used the session, or must save it unused."""
        return self.accessed or self._is_saved_unread

    @property
    def _is_saved_unread(self) -> bool:
        return (
            (self.modified or settings.SESSION_SAVE_EVERY_REQUEST)
            and self._loaded is None
            and self._presented_key is not None
        )

    @property
    def has_work_to_finish(self) -> bool:
        """Whether ``finish()`` needs the storage; async code goes to a thread only then."""
        session = self._loaded
        # What is not made yet has noted nothing. What the view saved may leave garbage to collect.
        if self._spent_switch is not None or self.was_saved or self.__dict__.get("_changes"):
            return True
        if session is None:
            return self._is_saved_unread
        if session.stored is None and not session.data and not self._is_created:
            return False
        return (
            self._has_changes(session)
            or (session.stored is not None and self._is_touch_due(session))
            or self._is_first_with_new_cookie(session)
        )

    def finish(self, *, may_store: bool) -> None:
        """Do what the storage must know at the end of a request.

        :param may_store: False after a failure: changes are forgotten, what was ended stays ended
        :raises UpdateError: as ``save()``
        :raises TooManySessions: as ``save()``

        Costs one query if the data changed or the last update is more than 61 s ago, else none.
        Where the storage refuses to note that a session was used, and nothing else changed, that
        is logged: a storage that can only be read goes on showing pages.
        """
        self._changes.repeat_removals()
        if may_store and self._is_saved_unread:
            self._get_session()
        if self._spent_switch is not None:
            with self._unasked():
                self.end_spent_switch()
        session = self._loaded
        if session is not None and (may_store or session.is_new):
            self._changes.restore(session)
        if session is None or not may_store or self._has_ended:
            return
        if self._has_changes(session):
            if session.data or self._is_created or not self.modified:
                self._write()
            elif session.stored is not None:
                self._end_emptied(session)
        elif session.stored is not None:
            with self._unasked():
                self._loaded = self.manager.update_session_timestamp(session)
                self._is_confirmed = (
                    self._is_confirmed
                    or self._loaded is not session
                    or (self._has_old_signature and self.manager.move_to_current_key(session))
                )
        if self._is_first_with_new_cookie(self.user_session):
            with self._unasked():
                self.manager.note_arrival(self.user_session)

    @contextmanager
    def _unasked(self) -> Iterator[None]:
        """Write what no visitor asked for: where that fails, the page goes out all the same."""
        try:
            yield
        except Exception:
            if self.manager.backend.transaction_depth:
                raise  # it is broken, and not ours to end
            logger.exception("The use of a %s session was not noted.", self.login_type.name)

    def _is_touch_due(self, session: UserSession) -> bool:
        return self.manager.is_touch_due(session) or self._has_old_signature

    def _has_changes(self, session: UserSession) -> bool:
        if self.was_saved:
            # By the view itself: what it changed afterwards, in place too, is not saved yet.
            return not session.is_as_stored
        saves_always = settings.SESSION_SAVE_EVERY_REQUEST and session.stored is not None
        return self.modified or saves_always

    def _is_first_with_new_cookie(self, session: UserSession) -> bool:
        """Whether the browser has just shown that it received the cookie of an adopted session."""
        return session.meta.get(ADOPTED_KEY) == 0 and session.identifier == self._presented_key

    def _end_emptied(self, session: UserSession) -> None:
        identifier = session.stored_identifier
        try:
            is_gone = self.manager.remove_emptied_session(session)
        except SessionNotUpdated as exc:
            raise UpdateError from exc
        if is_gone:
            self._note_removal(identifier)
            self._use(None)
        else:
            self._write()
