"""``request.session``: Django's session contract on top of one ``UserSession``."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth import SESSION_KEY as AUTH_USER_KEY
from django.contrib.sessions.backends.base import SessionBase
from django.http import HttpRequest
from django.utils.module_loading import import_string

from ..backends.errors import SessionNotFound
from ..conf import LoginType, get_engine_login_type, get_login_types
from ..lifecycle.current_request import get_current_request
from ..lifecycle.rollbacks import RequestChanges
from ..lifecycle.user_session_manager import UserSessionManager, shared_manager
from ..session.meta import EXPIRY_KEY, KEEP_UNTIL
from ..session.tokens import CookieScope, new_identifier, resolve_key
from ..session.user_session import UserSession
from ..switching.state import SwitchUsers
from . import ending, rollbacks, saving, switch
from .state import KeyUse, Written


class SessionStore(SessionBase):
    """The session of one login type in one request; not read before it is asked for.

    Renewing (``cycle_key()``, a login) only changes memory; storage changes once, in ``save()``,
    so that an exception in the view leaves the visitor's session as it was. Ending (``flush()``,
    ``delete()``) happens at once.

    :param session_key: an identifier, or the value of a cookie of any site (Channels hands it over)
    :param login_type: default: that of the current request; without one, the owner of
        ``SESSION_COOKIE_NAME``, else the default type
    :param request: whose cookie names the session, instead of ``session_key``
    """

    #: Returns Unix seconds; tests put another clock here.
    clock: Callable[[], float] = staticmethod(time.time)

    def __init__(
        self,
        session_key: str | None = None,
        *,
        login_type: LoginType | None = None,
        request: HttpRequest | None = None,
    ) -> None:
        # Not calling the base: it would import the serializer again for every request.
        self.login_type = login_type or _login_type_in_use()
        self.request = request
        self.accessed = False
        #: The session in hand; None: nothing has been read yet.
        self.loaded: UserSession | None = None
        self.key_use = KeyUse.FREE
        self.written = Written.NOTHING
        self.has_ended_cookie = False  #: whether this request ended the session of its cookie
        self.asked_permanent: bool | None = None  #: by the login; None: it asked for nothing
        self.switch_users: SwitchUsers | None = None  #: both users of a switched session
        self.refused_switch: UserSession | None = None  #: a switched one that may not go on
        self.changes: RequestChanges | None = None  #: in transactions, which may be rolled back
        self.opened_at = self.clock()
        self._given_key = session_key
        self._modified = False
        self._is_cleared_unread = False
        self._scope: CookieScope | None = None

    @cached_property
    def serializer(self) -> Any:
        return import_string(settings.SESSION_SERIALIZER)

    @cached_property
    def manager(self) -> UserSessionManager:
        return shared_manager(self.login_type, self.clock)

    def cookie_scope(self, request: HttpRequest) -> CookieScope:
        """Return what ties the session's token to the site that its one request is for.

        :raises DisallowedHost: see ``LoginType.cookie_scope()``
        """
        if self._scope is None:
            self._scope = self.login_type.cookie_scope(request)
        return self._scope

    @property
    def user_session(self) -> UserSession:
        """The ``UserSession`` behind this store. Costs one query if nothing was read yet."""
        if self.loaded is None:
            self._get_session()
        assert self.loaded is not None
        self.accessed = True
        return self.loaded

    @cached_property
    def presented_key(self) -> str | None:
        """The identifier that the caller or the cookie named, genuine but not looked up."""
        if self.request is not None:
            if self.login_type.cookie_name not in self.request.COOKIES:
                return None
            return self.manager.get_identifier(self.request, find_scope=self.cookie_scope)
        return resolve_key(self._given_key, self.login_type.keys)

    def _get_session(self, no_load: bool = False) -> dict[str, Any]:
        self.accessed = True
        if self.loaded is None:
            key = None if no_load else self.presented_key
            self.use(None if key is None else self._find(key))
        assert self.loaded is not None
        return self.loaded.data

    async def _aget_session(self, no_load: bool = False) -> dict[str, Any]:
        if self.loaded is None and not no_load and self.presented_key is not None:
            return await sync_to_async(self._get_session)()
        return self._get_session(no_load)

    _session = property(_get_session)

    def _find(self, identifier: str) -> UserSession | None:
        """Return the stored session if it may be used now and from here."""
        session = self.manager.find_session(identifier, self.request)
        if session is None:
            return None
        has_expired = self.manager.expiry.has_expired(session)
        if session.is_switched:
            return switch.admit(self, session, has_expired=has_expired)
        return None if has_expired else session

    def use(self, session: UserSession | None) -> None:
        """Go on with a session as it is stored; None: with a new anonymous one."""
        self.loaded = session or self.manager.create_anonymous_session()
        data = self.loaded.data
        #: Django's custom expiry, and the user that the data names, as they were read.
        self.expiry_read, self.named_read = data.get(EXPIRY_KEY), data.get(AUTH_USER_KEY)
        if self._is_cleared_unread:
            self._is_cleared_unread = False
            data.clear()

    @property
    def session_key(self) -> str | None:
        """The identifier; None for a visitor who has no session yet."""
        return self._get_session_key()

    def _get_session_key(self) -> str | None:
        if self.loaded is None:
            return self.presented_key
        if self.loaded.stored is None and self.key_use is KeyUse.FREE:
            return None
        return self.loaded.identifier

    def _set_session_key(self, value: str | None) -> None:
        self.presented_key = resolve_key(value, self.login_type.keys)
        self.loaded = None

    _session_key = property(_get_session_key, _set_session_key)

    @property
    def identifiers(self) -> list[str]:
        """Under which identifiers the session is stored now, or will be when it is saved."""
        return [key for key in (self.stored_key, self.session_key) if key is not None]

    @property
    def stored_key(self) -> str | None:
        """The identifier under which the session is stored now; None: it is not."""
        if self.loaded is None:
            return self.presented_key
        if self.changes is not None:
            self.changes.restore(self.loaded)
        return self.loaded.stored.identifier if self.loaded.stored else None

    def notice_rollback(self) -> None:
        """Go back to what is stored if a transaction took saves of this request back."""
        if self.changes is not None and self.loaded is not None:
            self.changes.restore(self.loaded)

    @property
    def has_ended(self) -> bool:
        """Whether this request ended the very session that it has in hand."""
        return self.changes is not None and self.changes.has_removed(self.stored_key)

    def _get_new_session_key(self) -> str:
        return new_identifier()

    def _get_or_create_session_key(self) -> str:
        """Return the key under which ``save()`` will store the session; packages ask for it."""
        self._get_session()
        self.claim_key()
        return self.user_session.identifier

    async def _aget_or_create_session_key(self) -> str:
        await self._aget_session()
        return self._get_or_create_session_key()

    def claim_key(self) -> None:
        """Have ``save()`` store the session under the identifier that it has."""
        if self.key_use is KeyUse.FREE:
            self.key_use = KeyUse.CLAIMED

    @property
    def modified(self) -> bool:
        return self._modified or (self.loaded is not None and self.loaded.data_was_updated)

    @modified.setter
    def modified(self, value: bool) -> None:
        self._modified = value

    @property
    def is_saved_unread(self) -> bool:
        """Whether the request must save a session that it has not read."""
        return (
            self.loaded is None
            and (self._modified or settings.SESSION_SAVE_EVERY_REQUEST)
            and self.presented_key is not None
        )

    @property
    def _session_cache(self) -> dict[str, Any]:
        if self.loaded is None:
            raise AttributeError("The session has not been read.")
        return self.loaded.data

    @_session_cache.setter
    def _session_cache(self, data: Mapping[str, Any]) -> None:
        self.user_session.override_data(data)

    @_session_cache.deleter
    def _session_cache(self) -> None:
        self._session_key = self.stored_key

    def is_empty(self) -> bool:
        return not self._session_key and not (self.loaded and self.loaded.data)

    def load(self) -> dict[str, Any]:
        """Return the data as stored now; the session in hand stays as it is."""
        identifier = self.stored_key
        stored = None if identifier is None else self._find(identifier)
        data = {} if stored is None else dict(stored.data)
        if self.loaded is None:
            self.use(stored)
        return data

    def exists(self, session_key: str) -> bool:
        """Return whether a session is stored under the key and will be after this request."""
        identifier, session = resolve_key(session_key, self.login_type.keys), self.loaded
        if identifier is None:
            return False
        if session is not None and session.is_renewed and session.stored_identifier == identifier:
            return False
        try:
            self.manager.backend.get(identifier)
        except SessionNotFound:
            return False
        return True

    def clear(self) -> None:
        """Empty the session, without reading it: async code calls this, too."""
        if self.loaded is None:
            self._is_cleared_unread = True
        else:
            self.loaded.data.clear()
        self.accessed = self.modified = True

    def create(self) -> None:
        """Store the data as a new session at once; it stays although it is empty."""
        saving.create(self)

    def save(self, must_create: bool = False) -> None:
        """Store the session, under its new identifier if it was renewed; see ``saving.save()``."""
        saving.save(self, must_create=must_create)

    def continue_with(self, session: UserSession) -> None:
        """Go on with a stored session that other code has renewed, and send its cookie.

        For what ``SessionManager.invalidate_all_sessions_by_user_id()`` returns.
        """
        stored_before = self.user_session.stored
        self.use(session)
        rollbacks.note_save(self, stored_before)

    def cycle_key(self) -> None:
        """Take a new identifier at once, keep the data; ``save()`` tells the storage."""
        session = self.user_session
        if session.stored is not None:
            self.loaded = session.renewed(new_identifier(), user_id=session.user_id)
        if self.has_ended:
            self.user_session.stored = None  # a session of its own, with the data of the old one
        self.claim_key()
        self.modified = True

    def flush(self) -> None:
        """End the session at once and go on with an empty, anonymous one."""
        self.delete()
        # A cookie that names no session of this site is of no use either.
        self.has_ended_cookie = self.has_ended_cookie or self.presented_key is None
        self.start_anew()
        self.accessed = self.modified = True

    def delete(self, session_key: str | None = None) -> None:
        """End the session with this key, or this one, at once; see ``ending.end()``."""
        ending.end(self, session_key)

    def start_anew(self) -> None:
        """Forget the session in hand, and go on with an anonymous one."""
        self.use(None)
        self.key_use = KeyUse.FREE

    @classmethod
    def clear_expired(cls) -> None:
        """Collect the expired sessions of every login type."""
        for login_type in get_login_types().values():
            UserSessionManager(login_type).collect_garbage(100)

    def get_session_cookie_age(self) -> int:
        """Return the seconds that the session lives unused, if it has no expiry of its own."""
        expiry = self.manager.expiry
        return expiry.lifetime if self.loaded is None else expiry.lifetime_of(self.loaded)

    def get_expire_at_browser_close(self) -> bool:
        session = self.user_session
        expiry = session.data.get(EXPIRY_KEY)
        if expiry is not None:
            return bool(expiry == 0)
        if session.meta.get(KEEP_UNTIL, 0) > self.clock():
            return settings.SESSION_EXPIRE_AT_BROWSER_CLOSE
        return not session.is_permanent

    async def aclear(self) -> None:
        self.clear()

    async def acycle_key(self) -> None:
        await self._aget_session()
        self.cycle_key()

    async def aflush(self) -> None:
        if self._session_key is None:
            self.flush()
        else:
            await sync_to_async(self.flush)()

    async def aget_expire_at_browser_close(self) -> bool:
        await self._aget_session()
        return self.get_expire_at_browser_close()


def _login_type_in_use() -> LoginType:
    session = getattr(get_current_request(), "session", None)
    return session.login_type if isinstance(session, SessionStore) else get_engine_login_type()
