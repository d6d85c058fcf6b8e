"""Reading a session when it is asked for: the half of Django's contract that never writes."""

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

from ..backends.base import SessionNotFound
from ..conf import LoginType, get_engine_login_type
from ..lifecycle.current_request import get_current_request
from ..lifecycle.rollbacks import RequestChanges
from ..lifecycle.user_session_manager import UserSessionManager, shared_manager
from ..session.expiry import EXPIRY_KEY
from ..session.tokens import CookieScope, is_identifier, looks_like_token, resolve_unscoped
from ..session.user_session import UserSession
from ..switching.check import check_switch
from ..switching.state import SwitchUsers, is_switched

#: How many characters Django demands of a session key.
SHORTEST_KEY = 8


class LazySession(SessionBase):
    """The session of one login type, not read before it is asked for.

    :param session_key: an identifier, or the value of a cookie of any site (Channels hands it over)
    :param login_type: default: the one that serves the current request; outside of a request, the
        one that owns ``SESSION_COOKIE_NAME``, else the default type
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
        self.accessed = False
        self._request = request
        self._given_key = session_key
        self._modified = False
        self._scope: CookieScope | None = None
        self._loaded: UserSession | None = None
        self._is_claimed = False
        self._is_cleared_unread = False
        self._expiry_read: Any = None
        self._named_at_read: Any = None
        self._switch: SwitchUsers | None = None
        self._spent_switch: UserSession | None = None

    @cached_property
    def serializer(self) -> Any:
        return import_string(settings.SESSION_SERIALIZER)

    @cached_property
    def manager(self) -> UserSessionManager:
        return shared_manager(self.login_type, self.clock)

    @cached_property
    def _changes(self) -> RequestChanges:
        return RequestChanges(self.manager)

    def cookie_scope(self, request: HttpRequest) -> CookieScope:
        """Return what ties the session's token to the site that its one request is for.

        :raises DisallowedHost: see ``LoginType.cookie_scope()``
        """
        if self._scope is None:
            self._scope = self.login_type.cookie_scope(request)
        return self._scope

    # What is behind it

    @property
    def user_session(self) -> UserSession:
        """The ``UserSession`` behind this store. Costs one query if nothing was read yet."""
        self._get_session()
        assert self._loaded is not None
        return self._loaded

    @property
    def original_user(self) -> Any:
        """The user behind the session, None if it is not switched.

        Costs no query but the one that reads the session: the user was asked for with it.
        """
        self._get_session()
        return self._switch.original_user if self._switch else None

    @cached_property
    def _presented_key(self) -> str | None:
        """The identifier that the caller or the cookie named, genuine but not looked up."""
        if self._request is not None:
            return self.manager.get_identifier(self._request, find_scope=self.cookie_scope)
        return self._identifier_in(self._given_key)

    def _identifier_in(self, key_or_token: str | None) -> str | None:
        if not key_or_token or is_identifier(key_or_token):
            return key_or_token or None
        if looks_like_token(key_or_token):
            return resolve_unscoped(key_or_token, self.login_type.keys)
        # Django takes any other text of this length for a key, under which nothing may be stored.
        return key_or_token if len(key_or_token) >= SHORTEST_KEY else None

    def _get_session_key(self) -> str | None:
        if self._loaded is None:
            return self._presented_key
        if self._loaded.stored is None and not self._is_claimed:
            return None
        return self._loaded.identifier

    def _set_session_key(self, value: str | None) -> None:
        self._presented_key = self._identifier_in(value)
        self._loaded = None

    @property
    def session_key(self) -> str | None:
        """The identifier; None for a visitor who has no session yet."""
        return self._get_session_key()

    _session_key = property(_get_session_key, _set_session_key)

    @property
    def modified(self) -> bool:
        return self._modified or (self._loaded is not None and self._loaded.data_was_updated)

    @modified.setter
    def modified(self, value: bool) -> None:
        self._modified = value

    def _get_session(self, no_load: bool = False) -> dict[str, Any]:
        self.accessed = True
        if self._loaded is None:
            self._use(None if no_load else self._read())
        assert self._loaded is not None
        return self._loaded.data

    async def _aget_session(self, no_load: bool = False) -> dict[str, Any]:
        if self._loaded is None and not no_load and self._presented_key is not None:
            return await sync_to_async(self._get_session)()
        return self._get_session(no_load)

    async def aload(self) -> dict[str, Any]:
        return await sync_to_async(self.load)()

    async def aexists(self, session_key: str) -> bool:
        return await sync_to_async(self.exists)(session_key)

    _session = property(_get_session)

    def _read(self) -> UserSession | None:
        if self._presented_key is None:
            return None
        return self._find(self._presented_key)

    def _find(self, identifier: str) -> UserSession | None:
        session = self.manager.find_session(identifier, self._request)
        if session is None or not is_switched(session):
            return None if session is None or self.manager.has_expired(session) else session
        has_expired = self.manager.has_expired(session)
        self._switch = None if has_expired else check_switch(session, self.login_type, self.clock)
        if self._switch is not None:
            return session
        # Reading never writes: the end of the request ends it, for good, and tells of it.
        self._spent_switch = session
        return None

    def _use(self, session: UserSession | None) -> None:
        self._loaded = session or self.manager.create_anonymous_session()
        data = self._loaded.data
        self._expiry_read, self._named_at_read = data.get(EXPIRY_KEY), data.get(AUTH_USER_KEY)
        if self._is_cleared_unread:
            self._is_cleared_unread = False
            data.clear()

    @property
    def _session_cache(self) -> dict[str, Any]:
        if self._loaded is None:
            raise AttributeError("The session has not been read.")
        return self._loaded.data

    @_session_cache.setter
    def _session_cache(self, data: Mapping[str, Any]) -> None:
        self.user_session.override_data(data)

    @_session_cache.deleter
    def _session_cache(self) -> None:
        self._session_key = self._stored_key()

    # Django's contract, where it says more than a dict does

    def is_empty(self) -> bool:
        return not self._session_key and not (self._loaded and self._loaded.data)

    def load(self) -> dict[str, Any]:
        """Return the data as stored now; what this session has in hand stays as it is."""
        identifier = self._stored_key()
        stored = None if identifier is None else self._find(identifier)
        data = {} if stored is None else dict(stored.data)
        if self._loaded is None:
            self._use(stored)
        return data

    def exists(self, session_key: str) -> bool:
        """Return whether a session is stored under the key and will be after this request."""
        identifier = self._identifier_in(session_key)
        if identifier is None or self._is_about_to_replace(identifier):
            return False
        try:
            self.manager.backend.get(identifier)
        except SessionNotFound:
            return False
        return True

    def _is_about_to_replace(self, identifier: str) -> bool:
        session = self._loaded
        return (
            session is not None
            and session.is_renewed
            and session.stored is not None
            and session.stored.identifier == identifier
        )

    def _stored_key(self) -> str | None:
        if self._loaded is None:
            return self._presented_key
        self._changes.restore(self._loaded)
        return self._loaded.stored.identifier if self._loaded.stored else None

    def get_session_cookie_age(self) -> int:
        """Return the seconds that the session lives unused, if it has no expiry of its own."""
        if self._loaded is None:
            return self.manager.expiry.lifetime
        return self.manager.expiry.lifetime_of(self._loaded)

    def get_expire_at_browser_close(self) -> bool:
        expiry = self.get(EXPIRY_KEY)
        if expiry is not None:
            return bool(expiry == 0)
        session = self.user_session
        if session.meta.get("keep_until", 0) > self.clock():
            return settings.SESSION_EXPIRE_AT_BROWSER_CLOSE
        return not session.is_permanent

    async def aget_expire_at_browser_close(self) -> bool:
        await self._aget_session()
        return self.get_expire_at_browser_close()


def _login_type_in_use() -> LoginType:
    session = getattr(get_current_request(), "session", None)
    return session.login_type if isinstance(session, LazySession) else get_engine_login_type()
