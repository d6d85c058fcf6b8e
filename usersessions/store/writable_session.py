"""Changing a session, storing it, and whose it is: the half of Django's contract that writes."""

from __future__ import annotations

from functools import partial
from typing import Any

from asgiref.sync import sync_to_async
from django.contrib.auth import SESSION_KEY as AUTH_USER_KEY
from django.contrib.auth import aget_user, get_user
from django.contrib.sessions.backends.base import CreateError, UpdateError
from django.utils.functional import SimpleLazyObject

from ..backends.base import SessionNotCreated, SessionNotUpdated
from ..conf import get_login_types
from ..lifecycle.duplicate_login import forget_origin
from ..lifecycle.limit import TooManySessions
from ..lifecycle.login_age import CONFIRMED_KEY
from ..lifecycle.user_session_manager import UserSessionManager
from ..session.data import LOGIN_KEYS
from ..session.tokens import new_identifier
from ..session.user_keys import UserId, to_user_id
from ..session.user_session import Stored, UserSession
from ..signals import user_switched_back
from ..switching.audit import announce
from ..switching.state import (
    BACK_ID_KEY,
    BACK_USER_KEY,
    SwitchUsers,
    find_switch_users,
    is_switched,
)
from .lazy_session import LazySession


class WritableSession(LazySession):
    """The lazy session of one login type, and what a view does to it.

    Renewing (``cycle_key()``, a login) only changes memory; storage changes once, in ``save()``,
    so that an exception in the view leaves the visitor's session as it was. Ending (``flush()``,
    ``delete()``) happens at once. Takes ``LazySession``'s arguments.
    """

    def __init__(self, session_key: str | None = None, **options: Any) -> None:
        super().__init__(session_key, **options)
        #: What the login asked for: True or False, None: nothing, LIFETIME's policy decides.
        self.asked_permanent: bool | None = None
        #: Whether this request ended the session that its cookie named.
        self.has_ended_cookie = False
        #: Whether this request stored the session's data.
        self.was_saved = False
        self._opened_at = self.clock()
        self._is_created = False
        self._is_confirmed = False

    # Django's contract: changing and storing

    def clear(self) -> None:
        """Empty the session, without reading it: async code calls this, too."""
        if self._loaded is None:
            self._is_cleared_unread = True
        else:
            self._loaded.data.clear()
        self.accessed = self.modified = True

    async def aclear(self) -> None:
        self.clear()

    def create(self) -> None:
        """Store the data as a new session at once, even if there is none.

        A session that was created like this stays although it is empty.
        """
        self._claim_key_to_create(new_identifier())
        self._is_claimed = True
        self.save(must_create=True)
        self.modified = True

    def save(self, must_create: bool = False) -> None:
        """Store the session; under its new identifier if it was renewed.

        :raises CreateError: ``must_create``, and the key is taken
        :raises UpdateError: another request has ended the session meanwhile; it stays ended
        :raises SessionDataTooLarge: the data is over ``MAX_DATA_SIZE``; nothing was written
        :raises TooManySessions: it is a login, and was refused; the session is as it is stored
        :raises SessionBusy: others changed the session before each attempt; nothing was written

        Costs one query; others' changes to other keys, stored meanwhile, cost two more and stay.
        """
        if self._loaded is not None:
            self._changes.restore(self._loaded)
        if not must_create:
            self._get_session()
        if self.session_key is None:
            return self.create()
        before = self._loaded
        if must_create:
            self._claim_key_to_create(self.session_key)
        stored_before = self.user_session.stored
        try:
            self._write()
        except CreateError:
            self._loaded = before
            raise
        self._changes.note_save(
            self.user_session.identifier, _written_onto(self.user_session, stored_before)
        )
        self._is_created = self._is_created or must_create
        return None

    def _write(self) -> None:
        try:
            self._bind_user()
            self._loaded = self.manager.store(self.user_session)
        except TooManySessions:
            self._forget_changes()
            raise
        except SessionNotCreated as exc:
            raise CreateError from exc
        except SessionNotUpdated as exc:
            raise UpdateError from exc
        self.was_saved = self._is_confirmed = True

    def adopt(self, session: UserSession) -> None:
        """Go on with a stored session that somebody else has renewed, and send its cookie.

        For what ``SessionManager.invalidate_all_sessions_by_user_id()`` returns.
        """
        stored_before = self.user_session.stored
        self._use(session)
        self._changes.note_save(session.identifier, stored_before)

    def _claim_key_to_create(self, key: str) -> None:
        self._get_session(no_load=True)
        session = self.user_session
        self._loaded = session.renewed(key, user_id=session.user_id)
        if session.stored is not None:
            forget_origin(self._loaded)  # a copy is no second login
        self._loaded.stored = None

    def _get_new_session_key(self) -> str:
        return new_identifier()

    def _get_or_create_session_key(self) -> str:
        """Return the key under which ``save()`` will store the session; packages ask for it."""
        self._get_session()
        self._is_claimed = True
        return self.user_session.identifier

    async def _aget_or_create_session_key(self) -> str:
        await self._aget_session()
        return self._get_or_create_session_key()

    def cycle_key(self) -> None:
        """Take a new identifier at once, keep the data; ``save()`` tells the storage."""
        session = self.user_session
        if session.stored is not None:
            self._loaded = session.renewed(new_identifier(), user_id=session.user_id)
        if self._has_ended:
            self.user_session.stored = None  # a session of its own, with the data of the old one
        self._is_claimed = True
        self.modified = True

    async def acreate(self) -> None:
        await sync_to_async(self.create)()

    async def asave(self, must_create: bool = False) -> None:
        await sync_to_async(self.save)(must_create)

    async def adelete(self, session_key: str | None = None) -> None:
        await sync_to_async(self.delete)(session_key)

    async def acycle_key(self) -> None:
        await self._aget_session()
        self.cycle_key()

    def flush(self) -> None:
        """End the session at once and go on with an empty, anonymous one."""
        self.delete()
        # A cookie that names no session of this site is of no use either.
        self.has_ended_cookie = self.has_ended_cookie or self._presented_key is None
        self._start_anew()
        self.accessed = self.modified = True

    async def aflush(self) -> None:
        if self._session_key is None:
            self.flush()
        else:
            await sync_to_async(self.flush)()

    def delete(self, session_key: str | None = None) -> None:
        """End the session with this key, or this one, at once.

        This one also if another request has renewed it since it was read, where it is a user's.
        One that is not stored yet, as after a login, is forgotten. Of a switched one, the end is
        told, but not if the request has not read it: nobody knows yet that it is one. Costs up to
        two queries more when nothing is stored under the key.
        """
        identifier = None if session_key is None else self._identifier_in(session_key)
        is_own = session_key is None or identifier == self._session_key
        if is_own:
            self.end_spent_switch()
            identifier = self._stored_key()
            if identifier is None and self._is_claimed:
                self._start_anew()
        if identifier is not None:
            self._remove(identifier)
        if is_own:
            self._tell_of_switch_end()

    def _remove(self, identifier: str) -> None:
        stored = self._loaded.stored if self._loaded else None
        if stored is None or stored.user_id is None or stored.identifier != identifier:
            stored = None  # not a session in which a user was seen
        if self.manager.remove_as_read(identifier, stored):
            self._note_removal(identifier, stored)
        elif stored is not None and self.manager.backend.transaction_depth:
            # It may see the storage as it was; once it has ended, we look again.
            self._changes.note_removal(identifier, stored)

    def _start_anew(self) -> None:
        self._use(None)
        self._is_claimed = self._is_created = False

    def _note_removal(self, identifier: str, stored: Stored | None = None) -> None:
        self.accessed = True
        self._changes.note_removal(identifier, stored)
        if identifier in (self._stored_key(), self._presented_key):
            self.has_ended_cookie = True

    @property
    def _has_ended(self) -> bool:
        """Whether this request ended the very session that it has in hand."""
        return self._changes.has_removed(self._stored_key())

    @classmethod
    def clear_expired(cls) -> None:
        """Collect the expired sessions of every login type."""
        for login_type in get_login_types().values():
            UserSessionManager(login_type).collect_garbage(100)

    # Login

    def bind_login(self, user_id: UserId) -> None:
        """Bind the session to a user who has just logged in, under a new identifier.

        A login of the user who is logged in already renews the identifier too (OWASP ASVS 5.0,
        7.2.4). Stored by ``save()``.

        :raises TooManySessions: nothing of the login is left in the session or the request
        """
        session = self.user_session
        elevated = self.manager.begin_login(
            session,
            user_id,
            is_permanent=self.login_type.allows_permanent(self.asked_permanent),
            came_with=self._unstored_key if session.stored is None else None,
            sent_at=self._opened_at,
        )
        try:
            self.manager.check_limit(elevated)
        except TooManySessions:
            self._forget_login(session)
            raise
        self._loaded = elevated
        self._named_at_read = session.get(AUTH_USER_KEY)
        self._is_claimed = True
        self.modified = True
        self._tell_of_switch_end()

    def confirm_login(self) -> None:
        """Note that the user has just shown who they are, under a new identifier.

        Whoever knew the old one gains nothing (OWASP ASVS 5.0, 7.2.4). Whether the session has a
        user is for the caller to know: see ``usersessions.auth.confirm_login()``. Stored by
        ``save()``.
        """
        self.cycle_key()
        session = self.user_session
        session.meta = {**session.meta, CONFIRMED_KEY: int(self.clock())}

    def _forget_login(self, session: UserSession) -> None:
        """Take a refused login out of the session, but keep what the view has put in before."""
        before = session.read_stored().data
        for key in LOGIN_KEYS:
            if key in before:
                session.data[key] = before[key]
            else:
                session.data.pop(key, None)
        if session.stored is not None:
            session = session.renewed(session.stored_identifier, user_id=session.stored.user_id)
            session.is_new = False
        self._loaded = session
        self._is_claimed = False
        self.modified = bool(session.data) if session.stored is None else not session.is_as_stored
        self._forget_user()

    def _forget_changes(self) -> None:
        """Go back to what is stored: what was set after a login is not for who was there before."""
        stored_key = self._stored_key()
        self._session_key = stored_key or self._presented_key
        self._is_claimed = self._is_cleared_unread = self.modified = False
        self._forget_user()

    def _forget_user(self) -> None:
        """Have the request say again who the session belongs to."""
        request: Any = self._request
        if getattr(request, "session", None) is self and hasattr(request, "user"):
            request.user = SimpleLazyObject(lambda: get_user(request))
            request.auser = partial(aget_user, request)

    def rebind(
        self,
        user_id: UserId | None,
        data: dict[str, Any],
        meta: dict[str, Any],
        *,
        is_permanent: bool = False,
    ) -> None:
        """Hand the session to another user, with other data and under a new identifier.

        None of the data that it had stays. Stored by ``save()``.
        """
        self.cycle_key()
        session = self.user_session
        session.user_id = user_id
        session.meta = meta
        session.is_permanent = is_permanent
        session.override_data(data)
        self._named_at_read = session.get(AUTH_USER_KEY)

    @property
    def _unstored_key(self) -> str | None:
        """The identifier that the browser sent, unless this request has ended its session."""
        key = self._presented_key
        return None if self._changes.has_removed(key) else key

    @property
    def identifiers(self) -> list[str]:
        """Under which identifiers the session is stored now, or will be when it is saved."""
        keys = (self._stored_key(), self.session_key)
        return [key for key in keys if key is not None]

    def _bind_user(self) -> None:
        """Follow the data where it names another user than the session is bound to.

        Whoever writes ``_auth_user_id`` without ``login()`` gets a new identifier all the same.
        """
        session = self.user_session
        named = session.get(AUTH_USER_KEY)
        if named is not None:
            user_id = to_user_id(named)
            if user_id != session.user_id:
                self.bind_login(user_id)
        elif self._named_at_read is not None and session.user_id is not None:
            data = {key: value for key, value in session.data.items() if key not in LOGIN_KEYS}
            self.rebind(None, data, {})
            self._tell_of_switch_end()
        session = self.user_session
        if is_switched(session):
            # Whatever the view has written there: templates show who it is, and may trust it.
            session.data[BACK_USER_KEY] = session.meta[BACK_ID_KEY]
        self._named_at_read = named

    # Switching user

    def begin_switch(self, users: SwitchUsers) -> None:
        """Remember who is behind the session, after ``rebind()`` has bound it to the target."""
        self._switch = users

    def end_switch(self) -> SwitchUsers | None:
        """Forget who is behind the session, which goes back; return who it was."""
        users, self._switch = self._switch, None
        return users

    def end_spent_switch(self) -> bool:
        """End the switched session that was found when reading, and may not go on.

        Return whether there was one. Whoever removes it tells of the end: that is one request.
        """
        session, self._spent_switch = self._spent_switch, None
        if session is None:
            return False
        if self.manager.remove_session(session):
            self._note_removal(session.identifier)
            users = find_switch_users(session)
            announce(user_switched_back, self._request, users, self.login_type.name)
        return True

    def _tell_of_switch_end(self) -> None:
        users = self.end_switch()
        if users is None:
            return
        request: Any = self._request
        if getattr(request, "session", None) is self:
            request.original_user = None
        announce(user_switched_back, request, users, self.login_type.name)


def _written_onto(session: UserSession, read: Stored | None) -> Stored | None:
    """Return what a rollback of the save brings back: what was read, or others made of it.

    Not another session, such as that of a login which was sent twice.
    """
    replaced = session.replaced
    is_same = read is not None and replaced is not None and read[:2] == replaced[:2]
    return replaced if is_same else read
