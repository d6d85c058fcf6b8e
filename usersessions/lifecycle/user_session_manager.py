"""The one place that creates, fetches, changes and ends sessions."""

from __future__ import annotations

import logging
import random
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cached_property
from typing import Any

from django.core.exceptions import DisallowedHost
from django.http import HttpRequest

from ..backends.base import SessionBackend, SessionNotFound, SessionNotUpdated
from ..backends.session_manager import SessionManager
from ..conf import LoginType, get_login_type
from ..session.data import LOGIN_KEYS, CorruptSessionData, Serializer, decode, encode
from ..session.expiry import ADOPTED_KEY, EXPIRY_KEY, kept_for
from ..session.ip_locker import DISABLED_LOCK, IpLocker
from ..session.tokens import CookieScope, is_identifier, new_identifier
from ..session.user_keys import UserId, names_nobody_possible, to_user_id
from ..session.user_session import UPDATE_GRACE, SessionRecord, Stored, UserSession
from ..switching.check import check_switch
from ..switching.state import BACK_USER_KEY, is_switched
from .current_request import get_current_request
from .duplicate_login import note_origin
from .saving import SessionWriter
from .successors import LOGIN_ID_KEY, new_login_id, remove_as_read

security_logger = logging.getLogger("django.security.SuspiciousSession")


class UserSessionManager:
    """Owns the life of the sessions of one login type.

    Source: TYPO3 ``TYPO3\\CMS\\Core\\Session\\UserSessionManager``.

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
        """Return a manager for a login type, by its name; the rest is as for the class.

        :raises UnknownLoginType: no login type has this name

        Source: TYPO3 ``UserSessionManager::create()``.
        """
        return cls(
            get_login_type(login_type),
            backend=backend,
            lifetime=lifetime,
            ip_locker=ip_locker,
            clock=clock,
        )

    @cached_property
    def _writer(self) -> SessionWriter:
        return SessionWriter(self.login_type, self.backend, self.expiry)

    # Fetching

    def create_from_request_or_anonymous(
        self, request: HttpRequest, cookie_name: str | None = None
    ) -> UserSession:
        """Return the session that the request's cookie names, else a new anonymous one.

        Anonymous is what a visitor gets without cookie, with a cookie that this site has not
        signed, and with one whose session has ended, has expired or is locked to another network.

        :param cookie_name: default: the login type's ``COOKIE_NAME``

        Costs one query with a genuine cookie, none without. Source: TYPO3
        ``UserSessionManager::createFromRequestOrAnonymous()``.
        """
        identifier = self.get_identifier(request, cookie_name)
        if identifier is None:
            return self.create_anonymous_session()
        return self.get_usable_session(identifier, request) or self.create_anonymous_session()

    def create_from_global_cookie_or_anonymous(self, cookie_name: str) -> UserSession:
        """Return the session of the request that the middleware is serving now.

        Deprecated: hand the request to ``create_from_request_or_anonymous()``. Source: TYPO3
        ``UserSessionManager::createFromGlobalCookieOrAnonymous()``, gone in version 13.
        """
        warnings.warn(
            "create_from_global_cookie_or_anonymous() is deprecated; "
            "use create_from_request_or_anonymous(request).",
            DeprecationWarning,
            stacklevel=2,
        )
        request = get_current_request()
        if request is None:
            return self.create_anonymous_session()
        return self.create_from_request_or_anonymous(request, cookie_name)

    def create_anonymous_session(self) -> UserSession:
        """Return a new session without user; it is not stored.

        Source: TYPO3 ``UserSessionManager::createAnonymousSession()``.
        """
        return UserSession.non_fixated(
            new_identifier(), serializer=self.serializer, clock=self.clock
        )

    def create_session_from_storage(self, identifier: str) -> UserSession:
        """Return a stored session, expired or not.

        :raises SessionNotFound: nothing is stored under the identifier
        :raises CorruptSessionData: what is stored does not decode

        Costs one query. Source: TYPO3 ``UserSessionManager::createSessionFromStorage()``.
        """
        return UserSession.from_record(
            identifier,
            self.backend.get(identifier),
            serializer=self.serializer,
            clock=self.clock,
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
            # Django answers 400, and the page that says so must not stumble over the host again.
            return None
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
        if is_switched(session) and check_switch(session, self.login_type, self.clock) is None:
            return None
        return session

    def find_session(
        self, identifier: str, request: HttpRequest | None = None
    ) -> UserSession | None:
        """Return a stored session that can be read from here, even if it has expired, else None.

        See ``get_usable_session()``. Costs one query.
        """
        try:
            session: UserSession | None = self.create_session_from_storage(identifier)
        except SessionNotFound:
            return None
        except CorruptSessionData:
            session = None
        if session is None or names_nobody_possible(session.data):
            security_logger.warning(
                "The data of the %s session %s does not decode.",
                self.login_type.name,
                self.backend.hash(identifier)[:8],
            )
            return None
        if request is not None and not self._fits_ip_lock(session, request):
            return None
        return session

    # Expiry

    def has_expired(self, session: UserSession) -> bool:
        """Return whether the session has ended by itself; always when its timeout is 0.

        Source: TYPO3 ``UserSessionManager::hasExpired()``.
        """
        return self.expiry.has_expired(session)

    def will_expire(self, session: UserSession, grace_period: int) -> bool:
        """Return whether the session ends within ``grace_period`` seconds.

        Source: TYPO3 ``UserSessionManager::willExpire()``.
        """
        return self.clock() >= self.expiry.expires_at(session) - grace_period

    # Storing

    def fixate_anonymous_session(
        self, session: UserSession, is_permanent: bool = False
    ) -> UserSession:
        """Store an anonymous session, locked to the address of the current request.

        :return: the session as stored
        :raises SessionNotCreated: it is stored already

        Costs one query. Source: TYPO3 ``UserSessionManager::fixateAnonymousSession()``.
        """
        session.is_permanent = is_permanent
        session.ip_lock = self._current_ip_lock()
        return self._writer.insert(session)

    def elevate_to_fixated_user_session(
        self, session: UserSession, user_id: UserId, is_permanent: bool = False
    ) -> UserSession:
        """Bind a session to a user, under a new identifier and with its data.

        The old entry is replaced in one statement: whoever planted the old identifier in a
        browser (session fixation) is left with nothing.

        :return: the new session, whose cookie is now due
        :raises SessionNotUpdated: the session was a user's already and has ended meanwhile
        :raises TooManySessions: ``MAX_SESSIONS_PER_USER`` is reached, and logins are refused then
        :raises ValueError: not the id of a user

        Costs one query, and three more where ``MAX_SESSIONS_PER_USER`` is set. Source: TYPO3
        ``UserSessionManager::elevateToFixatedUserSession()``.
        """
        return self.store(self.begin_login(session, user_id, is_permanent=is_permanent))

    def regenerate_session(
        self,
        identifier: str,
        record: Mapping[str, Any] | None = None,
        anonymous: bool = False,
    ) -> UserSession:
        """Move a stored session to a new identifier, in one statement.

        :param record: what is stored now, if the caller knows; None: it is read
        :param anonymous: take the user off
        :raises SessionNotFound: nothing is stored under the identifier
        :raises SessionNotUpdated: it went away after ``record`` was read

        Costs one query, and one more without ``record``. Source: TYPO3
        ``UserSessionManager::regenerateSession()``.
        """
        session = UserSession.from_record(
            identifier,
            record or self.backend.get(identifier),
            serializer=self.serializer,
            clock=self.clock,
        )
        if not anonymous:
            return self.store(session.renewed(new_identifier(), user_id=session.user_id))
        for key in LOGIN_KEYS & session.data.keys():
            del session.data[key]
        session.meta = {}
        return self.store(session.renewed(new_identifier(), user_id=None))

    def update_session(self, session: UserSession) -> UserSession:
        """Store the data and the time of a session, together with what others stored meanwhile.

        :return: the session as stored
        :raises SessionNotUpdated: the session has ended meanwhile, and stays ended
        :raises SessionDataTooLarge: nothing was written
        :raises SessionBusy: others changed it before each attempt; nothing was written

        Costs one query, two more if another request stored data in between; where that happens
        again, see ``SessionBackend.turn_after()``. Source: TYPO3
        ``UserSessionManager::updateSession()``.
        """
        return self._writer.update(session)

    def update_session_timestamp(self, session: UserSession) -> UserSession:
        """Note that the session is in use, at most every 61 seconds; never writes data.

        :return: the session as touched; the very same object if it was not, since it is too early,
            has an expiry of its own, was touched by another request, or has ended

        Costs one query or none. Source: TYPO3 ``UserSessionManager::updateSessionTimestamp()``.
        """
        if not self.is_touch_due(session):
            return session
        timestamp = self.expiry.timestamp(session)
        if not self.backend.touch(session.identifier, timestamp, seen=session.last_updated):
            return session
        return session.as_stored({"ses_tstamp": timestamp})

    def move_to_current_key(self, session: UserSession) -> bool:
        """Store a session, unchanged, under the hash that ``SECRET_KEY`` gives its identifier.

        Return whether it is there; False when another request has touched or ended it. Costs one
        query.
        """
        return self.backend.touch(
            session.identifier, session.last_updated, seen=session.last_updated
        )

    def is_touch_due(self, session: UserSession) -> bool:
        """Return whether using the session now would move its end by more than 61 seconds."""
        if session.data.get(EXPIRY_KEY):
            return False
        return self.expiry.timestamp(session) > session.last_updated + UPDATE_GRACE

    def store(self, session: UserSession) -> UserSession:
        """Store a session in whichever way it needs: as a new one, renewed, or changed.

        :return: the session as stored
        :raises SessionNotUpdated: it has ended meanwhile
        :raises TooManySessions: it is a login, and was refused; nothing was written
        """
        if session.stored is None:
            session.ip_lock = self._current_ip_lock()
        return self._writer.write(session)

    def make_adopted_record(self, session: UserSession, ends_at: int) -> SessionRecord:
        """Return what to store for a session that another engine has kept until now.

        :param ends_at: when it would end there, in Unix seconds
        :raises TypeError: the serializer cannot take a value; the message names its key
        :raises SessionDataTooLarge: the data is over ``MAX_DATA_SIZE``
        """
        session.ip_lock = self._current_ip_lock()
        return self._writer.adopted_record(session, ends_at)

    def note_arrival(self, session: UserSession) -> None:
        """Remember that the browser has the cookie of an adopted session; nothing else changes.

        Costs one query.
        """
        assert session.stored is not None
        data, meta = decode(session.stored.data, self.serializer)
        meta[ADOPTED_KEY] = int(self.clock())
        with suppress(SessionNotUpdated):  # has ended; or has changed, the next request notes it
            self.backend.update(
                session.identifier,
                {"ses_data": encode(data, meta, self.serializer)},
                expected_data=session.stored.data,
            )

    def lock_to_request(self, session: UserSession) -> None:
        """Lock a session that was stored outside a request to the address of the current one.

        Costs one query; none if it has its lock, or needs none.
        """
        lock = self._current_ip_lock()
        if session.ip_lock != lock:
            session.ip_lock = lock
            with suppress(SessionNotUpdated):  # it has ended meanwhile
                self.backend.update(session.identifier, {"ses_iplock": lock})

    def remove_emptied_session(self, session: UserSession) -> bool:
        """End a stored session whose data has become empty; return whether it is gone.

        It stays when another request has put data in meanwhile, and holds that data then.

        :raises SessionNotUpdated: another request has ended or renewed it

        Costs one query, two more if another request interferes.
        """
        return self._writer.remove_emptied(session)

    def is_session_persisted(self, session: UserSession) -> bool:
        """Return whether the session is stored now. Costs one query.

        Source: TYPO3 ``UserSessionManager::isSessionPersisted()``.
        """
        try:
            self.backend.get(session.identifier)
        except SessionNotFound:
            return False
        return True

    def remove_session(self, session: UserSession) -> bool:
        """End a session at once; return whether there was one.

        Also if another request has renewed it since it was read, where it is a user's. Costs one
        query, up to two more when nothing is there. Source: TYPO3
        ``UserSessionManager::removeSession()``.
        """
        return self.remove_as_read(session.stored_identifier, session.stored)

    def remove_as_read(self, identifier: str, stored: Stored | None) -> bool:
        """End what is stored under an identifier, or what that has become since it was read."""
        return remove_as_read(identifier, stored, self.backend, self.serializer)

    def collect_garbage(self, probability: float = 1, *, max_batches: int | None = None) -> int:
        """Delete expired sessions with a chance of ``probability`` percent; return how many went.

        :param probability: 100 always, 0 never
        :param max_batches: how many batches at the most; None: all there are

        Source: TYPO3 ``UserSessionManager::collectGarbage()``.
        """
        if random.random() * 100 >= probability:  # noqa: S311 - nobody gains by guessing it
            return 0
        return self.backend.collect_garbage(
            *self.garbage_limits, now=int(self.clock()), max_batches=max_batches
        )

    @property
    def garbage_limits(self) -> tuple[int, int]:
        """For how many seconds collection leaves users' and anonymous sessions alone."""
        return kept_for(self.expiry.lifetime), kept_for(self.expiry.anonymous_lifetime)

    # Renewing in memory, for ``store()`` to write

    def begin_login(
        self,
        session: UserSession,
        user_id: UserId,
        *,
        is_permanent: bool = False,
        came_with: str | None = None,
        sent_at: float | None = None,
    ) -> UserSession:
        """Return the session bound to a user under a new identifier; nothing is stored yet.

        A session that this request has renewed or made already keeps its identifier.

        :param came_with: the identifier that the browser sent, when nothing is stored under it
        :param sent_at: when the login's request arrived, in Unix seconds; None: now
        """
        user_id = to_user_id(user_id)
        needs_new = session.stored is not None and not session.is_renewed
        identifier = new_identifier() if needs_new else session.identifier
        elevated = session.renewed(identifier, user_id=user_id)
        was_switched = is_switched(session)
        if was_switched:
            # What was done in a user's place is not for that user's own login.
            elevated.data = {key: elevated.data[key] for key in LOGIN_KEYS & elevated.data.keys()}
        elevated.data.pop(BACK_USER_KEY, None)  # a login of one's own ends a switch
        elevated.is_permanent = is_permanent
        elevated.ip_lock = self._current_ip_lock()
        now = self.clock()
        is_relogin = (
            session.user_id == user_id and LOGIN_ID_KEY in session.meta and not was_switched
        )
        elevated.meta = {
            "login_at": int(now),
            LOGIN_ID_KEY: session.meta[LOGIN_ID_KEY] if is_relogin else new_login_id(),
            **self.describe_browser(),
        }
        if session.is_anonymous and session.stored is not None:
            came_with = session.stored.identifier
        if came_with is not None:
            note_origin(elevated, self.backend.hash(came_with), sent_at or now)
        return elevated

    def check_limit(self, session: UserSession) -> None:
        """Refuse a login that ``begin_login()`` has returned if ``store()`` would refuse it now.

        :raises TooManySessions: the user has as many sessions as are allowed

        Costs one query where logins may be refused.
        """
        self._writer.limit.check(session)

    # The request's part

    def _fits_ip_lock(self, session: UserSession, request: HttpRequest) -> bool:
        return session.ip_lock == DISABLED_LOCK or (
            self.ip_locker.validate_remote_address_against_session_ip_lock(
                self.login_type.get_client_ip(request), session.ip_lock
            )
        )

    def _current_ip_lock(self) -> str:
        request = get_current_request()
        if request is None:
            # Made by a shell, a worker or a test: there is no address to lock to.
            return DISABLED_LOCK
        return self.ip_locker.get_session_ip_lock(self.login_type.get_client_ip(request))

    @staticmethod
    def describe_browser() -> dict[str, str]:
        """Return what a session of the current request remembers of the browser."""
        request = get_current_request()
        agent = request.META.get("HTTP_USER_AGENT", "") if request else ""
        return {"user_agent": agent[:200]} if agent else {}


#: Of each login type the manager that was asked for last; other settings make other login types.
_shared: dict[str, UserSessionManager] = {}


def shared_manager(login_type: LoginType, clock: Callable[[], float]) -> UserSessionManager:
    """Return the manager that all requests use; it remembers nothing of them."""
    found = _shared.get(login_type.name)
    if found is None or found.login_type is not login_type or found.clock is not clock:
        found = _shared[login_type.name] = UserSessionManager(login_type, clock=clock)
    return found
