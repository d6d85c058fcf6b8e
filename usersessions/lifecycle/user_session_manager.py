"""The one place that creates, fetches, changes and ends sessions."""

from __future__ import annotations

import logging
import random
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from django.contrib.auth import SESSION_KEY as AUTH_USER_KEY
from django.core.exceptions import DisallowedHost
from django.http import HttpRequest

from ..backends.base import SessionBackend
from ..backends.errors import SessionNotFound
from ..backends.session_manager import SessionManager
from ..conf import LoginType, get_login_type
from ..session.data import LOGIN_KEYS, CorruptSessionData, Serializer
from ..session.ip_locker import DISABLED_LOCK, IpLocker
from ..session.tokens import CookieScope, is_identifier, new_identifier
from ..session.user_keys import UserId, has_invalid_user_key
from ..session.user_session import UserSession
from ..switching.check import check_switch
from .current_request import get_current_request
from .login import begin_login
from .saving import SessionSaver
from .successors import remove_with_successors

security_logger = logging.getLogger("django.security.SuspiciousSession")


class UserSessionManager:
    """Owns the life of the sessions of one login type.

    Source: TYPO3 ``TYPO3\\CMS\\Core\\Session\\UserSessionManager``, whose methods are here in
    Python's spelling: ``updateSession()`` is ``update_session()``.

    :param login_type: the settings to follow
    :param backend: where sessions are stored; default: the login type's
    :param lifetime: seconds of inactivity after which a session has expired, users' and anonymous
        ones alike; default: ``TIMEOUT`` and ``ANONYMOUS_LIFETIME``
    :param ip_locker: default: by ``LOCK_IP`` and ``LOCK_IPV6``
    :param clock: returns Unix seconds
    """

    def __init__(
        self,
        login_type: LoginType,
        *,
        backend: SessionBackend | None = None,
        lifetime: int | None = None,
        ip_locker: IpLocker | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.login_type = login_type
        self.backend = backend or SessionManager.get_session_backend(login_type.name)
        self.expiry = login_type.expiry_rules(clock, lifetime)
        self.ip_locker = ip_locker or login_type.ip_locker
        self.clock = clock
        self.serializer: Serializer = login_type.make_serializer()
        self.saver = SessionSaver(login_type, self.backend, self.expiry, self.serializer)

    @classmethod
    def create(
        cls,
        login_type: str,
        *,
        backend: SessionBackend | None = None,
        lifetime: int | None = None,
        ip_locker: IpLocker | None = None,
        clock: Callable[[], float] = time.time,
    ) -> UserSessionManager:
        """Return a manager for a login type, by its name; raises UnknownLoginType, a KeyError."""
        return cls(
            get_login_type(login_type),
            backend=backend,
            lifetime=lifetime,
            ip_locker=ip_locker,
            clock=clock,
        )

    def create_from_request_or_anonymous(
        self, request: HttpRequest, cookie_name: str | None = None
    ) -> UserSession:
        """Return the session that the request's cookie names, else a new anonymous one.

        Anonymous is what a visitor gets without cookie, with a cookie that this site has not
        signed, and with one whose session has ended, has expired or is locked to another network.

        :param cookie_name: default: the login type's ``COOKIE_NAME``

        Costs one query with a genuine cookie, none without.
        """
        identifier = self.get_identifier(request, cookie_name)
        if identifier is None:
            return self.create_anonymous_session()
        return self.get_usable_session(identifier, request) or self.create_anonymous_session()

    def create_from_global_cookie_or_anonymous(self, cookie_name: str) -> UserSession:
        """Return the session of the request that is being served now. Deprecated.

        Source: TYPO3 ``UserSessionManager::createFromGlobalCookieOrAnonymous()``, gone in 13.
        """
        warnings.warn(
            "create_from_global_cookie_or_anonymous() is deprecated; "
            "use create_from_request_or_anonymous(request).",
            DeprecationWarning,
            stacklevel=2,
        )
        request = get_current_request()
        if request is not None:
            return self.create_from_request_or_anonymous(request, cookie_name)
        return self.create_anonymous_session()

    def create_anonymous_session(self) -> UserSession:
        """Return a new session without user; it is not stored."""
        return UserSession.non_fixated(
            new_identifier(), serializer=self.serializer, clock=self.clock
        )

    def create_session_from_storage(self, identifier: str) -> UserSession:
        """Return a stored session, expired or not.

        :raises SessionNotFound: nothing is stored under the identifier
        :raises CorruptSessionData: what is stored does not decode

        Costs one query.
        """
        return UserSession.from_record(
            identifier, self.backend.get(identifier), serializer=self.serializer, clock=self.clock
        )

    def get_identifier(
        self,
        request: HttpRequest,
        cookie_name: str | None = None,
        *,
        find_scope: Callable[[HttpRequest], CookieScope] | None = None,
    ) -> str | None:
        """Return the identifier in the request's cookie if this site signed it, without a query.

        :param cookie_name: default: the login type's ``COOKIE_NAME``
        :param find_scope: default: the login type's ``cookie_scope()``; asked only with a token
        """
        value = request.COOKIES.get(cookie_name or self.login_type.cookie_name)
        if not value:
            return None
        if self.login_type.cookie_format == "identifier":
            return value if is_identifier(value) else None
        try:
            scope = (find_scope or self.login_type.cookie_scope)(request)
        except DisallowedHost:
            return None  # Django answers 400, and its error page asks for the session again
        return scope.resolve(value)

    def get_usable_session(
        self, identifier: str, request: HttpRequest | None = None
    ) -> UserSession | None:
        """Return a stored session that may be used now and from here, else None.

        :param request: its address must fit the session's IP lock; None: not checked

        Costs one query, for a switched session also those of ``check_switch()``; never writes. A
        failing storage raises its own error.
        """
        session = self.find_session(identifier, request)
        if session is None or self.has_expired(session):
            return None
        if session.is_switched and check_switch(session, self.login_type, self.clock) is None:
            return None
        return session

    def find_session(
        self, identifier: str, request: HttpRequest | None = None
    ) -> UserSession | None:
        """Return a stored session that can be read from here, expired or not. Costs one query."""
        try:
            session: UserSession | None = self.create_session_from_storage(identifier)
        except SessionNotFound:
            return None
        except CorruptSessionData:
            session = None
        if session is None or (
            AUTH_USER_KEY in session.data
            and session.data[AUTH_USER_KEY] != str(session.user_id)
            and has_invalid_user_key(session.data)
        ):
            security_logger.warning(
                "The data of the %s session %s does not decode.",
                self.login_type.name,
                self.backend.hash(identifier)[:8],
            )
            return None
        if request is not None and session.ip_lock != DISABLED_LOCK:
            address = self.login_type.get_client_ip(request)
            locker = self.ip_locker
            if not locker.validate_remote_address_against_session_ip_lock(address, session.ip_lock):
                return None
        return session

    def has_expired(self, session: UserSession) -> bool:
        """Return whether the session has ended by itself; always when its timeout is 0."""
        return self.expiry.has_expired(session)

    def will_expire(self, session: UserSession, grace_period: int) -> bool:
        """Return whether the session ends within ``grace_period`` seconds."""
        return self.clock() >= self.expiry.expires_at(session) - grace_period

    def fixate_anonymous_session(
        self, session: UserSession, is_permanent: bool = False
    ) -> UserSession:
        """Store an anonymous session, locked to the address of the current request.

        :return: the session as stored
        :raises SessionNotCreated: it is stored already

        Costs one query.
        """
        session.is_permanent = is_permanent
        session.ip_lock = self.make_ip_lock()
        return self.saver.insert(session)

    def elevate_to_fixated_user_session(
        self, session: UserSession, user_id: UserId, is_permanent: bool = False
    ) -> UserSession:
        """Bind a session to a user, under a new identifier and with its data.

        The old entry is replaced in one statement. An attacker who planted the old identifier in
        a browser (session fixation) has nothing.

        :return: the new session, whose cookie is now due
        :raises SessionNotUpdated: the session was a user's already and has ended
        :raises TooManySessions: ``MAX_SESSIONS_PER_USER`` is reached, and logins are refused then
        :raises ValueError: not the id of a user

        Costs one query, and three more where ``MAX_SESSIONS_PER_USER`` is set.
        """
        return self.store(begin_login(self, session, user_id, is_permanent=is_permanent))

    def regenerate_session(
        self, identifier: str, record: Mapping[str, Any] | None = None, anonymous: bool = False
    ) -> UserSession:
        """Move a stored session to a new identifier, in one statement.

        :param record: what is stored now, if the caller knows; None: it is read
        :param anonymous: take the user off
        :raises SessionNotFound: nothing is stored under the identifier
        :raises SessionNotUpdated: it went away after ``record`` was read

        Costs one query, and one more without ``record``.
        """
        record = record or self.backend.get(identifier)
        session = UserSession.from_record(
            identifier, record, serializer=self.serializer, clock=self.clock
        )
        if not anonymous:
            return self.store(session.renewed(new_identifier(), user_id=session.user_id))
        for key in LOGIN_KEYS & session.data.keys():
            del session.data[key]
        session.meta = {}
        return self.store(session.renewed(new_identifier(), user_id=None))

    def update_session(self, session: UserSession) -> UserSession:
        """Store the data and the time of a session, merged with what other requests stored.

        :return: the session as stored
        :raises SessionNotUpdated: the session has ended, and stays ended
        :raises SessionDataTooLarge: nothing was written
        :raises SessionBusy: others changed it before each attempt; nothing was written

        Costs one query, two more whenever another request stored data in between.

        """
        return self.saver.update(session)

    def update_session_timestamp(self, session: UserSession) -> UserSession:
        """Note that the session is in use, at most every 61 seconds; never writes data.

        :return: the session as touched; the very same object if it was not: it is too early, or it
            has an expiry of its own, was touched by another request, or has ended

        Costs one query or none.
        """
        if not self.expiry.is_touch_due(session):
            return session
        timestamp = self.expiry.timestamp(session)
        if not self.backend.touch(session.identifier, timestamp, seen=session.last_updated):
            return session
        return session.as_stored({"ses_tstamp": timestamp})

    def store(self, session: UserSession, request: HttpRequest | None = None) -> UserSession:
        """Store a session in the way that it needs: as a new one, renewed, or changed.

        :param request: to whose address a new one is locked; None: that of the current request
        :return: the session as stored
        :raises SessionNotUpdated: it has ended
        :raises TooManySessions: it is a login, and was refused; nothing was written
        """
        if session.stored is None:
            session.ip_lock = self.make_ip_lock(request)
        return self.saver.save(session)

    def is_session_persisted(self, session: UserSession) -> bool:
        """Return whether the session is stored now. Costs one query."""
        try:
            self.backend.get(session.identifier)
        except SessionNotFound:
            return False
        return True

    def remove_session(self, session: UserSession) -> bool:
        """End a session at once; return whether there was one.

        Also if another request has renewed it since it was read, where it is a user's. Costs one
        query, up to two more when nothing is there.
        """
        return remove_with_successors(
            session.stored_identifier, session.stored, self.backend, self.serializer
        )

    def collect_garbage(self, probability: float = 1, *, max_batches: int | None = None) -> int:
        """Delete expired sessions with a chance of ``probability`` percent; return how many went.

        :param max_batches: how many batches at most; None: all there are
        """
        if random.random() * 100 >= probability:  # noqa: S311 - guessing it gains nothing
            return 0
        return self.backend.collect_garbage(
            *self.expiry.retention, now=int(self.clock()), max_batches=max_batches
        )

    def make_ip_lock(self, request: HttpRequest | None = None) -> str:
        """Return the lock to a request's address; None: to that of the current request."""
        request = request or get_current_request()
        if request is None or self.ip_locker.is_disabled:  # None: a shell, a worker or a test
            return DISABLED_LOCK
        return self.ip_locker.get_session_ip_lock(self.login_type.get_client_ip(request))


_shared: dict[str, UserSessionManager] = {}


def shared_manager(login_type: LoginType, clock: Callable[[], float]) -> UserSessionManager:
    """Return the manager that all requests use; it keeps nothing of them."""
    found = _shared.get(login_type.name)
    if found is None or found.login_type is not login_type or found.clock is not clock:
        found = _shared[login_type.name] = UserSessionManager(login_type, clock=clock)
    return found
