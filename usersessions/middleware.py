"""The middleware that gives every request its sessions and takes them back with the response."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any, cast

from asgiref.sync import sync_to_async
from django.contrib.sessions.backends.base import UpdateError
from django.contrib.sessions.middleware import SessionMiddleware
from django.core.handlers.exception import response_for_exception
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils.cache import patch_vary_headers
from django.utils.deprecation import MiddlewareMixin
from django.utils.functional import SimpleLazyObject

from .adoption import adopt_old_session, get_old_engine, presents_old_cookie
from .auth.switch_user import aget_original_user, get_original_user
from .backends.session_manager import SessionManager
from .conf import get_adopting_types, get_login_type_for, get_login_types
from .lifecycle.current_request import serving
from .lifecycle.limit import TooManySessions
from .request.by_login_type import UserSessions
from .request.cookies import send_cookie
from .request.error_reports import hide_sessions_in_reports
from .request.old_cookie import delete_old_cookie
from .store import SessionStore

logger = logging.getLogger("usersessions.middleware")


class UserSessionMiddleware(SessionMiddleware):
    """Takes the place of Django's ``SessionMiddleware``; see section "Login types" of the README.

    Sets ``request.session`` (the store of the login type that serves the path),
    ``request.user_sessions`` (the store of any type, by name) and ``request.original_user`` (who
    is behind a switched session; falsy for nobody). Async code awaits ``request.aoriginal_user()``.
    Under ASGI a coroutine; ``process_response()`` runs only where the storage must be told
    something, in a thread.

    :raises ImproperlyConfigured: at start-up, for wrong settings
    """

    def __init__(self, get_response: Any) -> None:
        # Not SessionMiddleware's: that one imports an engine of a single session.
        MiddlewareMixin.__init__(self, get_response)
        self.SessionStore = SessionStore
        for name in get_login_types():
            SessionManager.get_session_backend(name)
        for login_type in get_adopting_types():
            get_old_engine(str(login_type.adopt_from))

    def __call__(self, request: HttpRequest) -> Any:
        if self.async_mode:
            return self.__acall__(request)
        with serving(request):
            self.process_request(request)
            if presents_old_cookie(request):
                adopt_old_session(request)
            response = cast("Any", self.get_response(request))
            stores = _stores(request)
            if _unfinished(stores):
                return self.process_response(request, response)
            return _send_cookies(request, response, stores)

    async def __acall__(self, request: HttpRequest) -> HttpResponseBase:
        with serving(request):
            self.process_request(request)
            if presents_old_cookie(request):
                await sync_to_async(adopt_old_session)(request)
            response = await cast("Any", self.get_response(request))
            stores = _stores(request)
            if _unfinished(stores):
                return await sync_to_async(self.process_response)(request, response)
            return _send_cookies(request, response, stores)

    def process_request(self, request: HttpRequest) -> None:
        hide_sessions_in_reports(request)
        stores = UserSessions(request)
        request.user_sessions = stores  # type: ignore[attr-defined]
        request.session = stores.open(get_login_type_for(request))
        request.original_user = SimpleLazyObject(  # type: ignore[attr-defined]
            partial(get_original_user, request)
        )
        request.aoriginal_user = partial(  # type: ignore[attr-defined]
            aget_original_user, request
        )

    def process_response(  # type: ignore[override]
        self, request: HttpRequest, response: HttpResponseBase
    ) -> HttpResponseBase:
        _delete_old_cookie(request, response)
        failure: Exception | None = None
        finished = []
        for store in _stores(request):
            if not store.is_in_use:
                continue
            try:
                if _finish(request, response, store):
                    finished.append(store)
            except TooManySessions as exc:
                failure = failure or exc
                finished.append(store)
            except Exception as exc:  # the other sessions must be finished all the same
                if failure is not None:
                    logger.error("Another session of the request failed.", exc_info=failure)
                failure = exc
        if failure is None:
            return response
        is_refusal = isinstance(failure, TooManySessions)
        if not is_refusal and not any(store.cookie_is_due for store in finished):
            raise failure
        # Their new identifiers are stored: without their cookies people would be logged out.
        answer = _answer_to_failure(request, failure)
        for store in finished:
            _send_cookie(request, answer, store)
        return answer


def _answer_to_failure(request: HttpRequest, failure: Exception) -> HttpResponse:
    try:
        raise failure  # Django, and whoever it tells, asks for the exception that is being handled
    except Exception as exc:
        answer: HttpResponse = response_for_exception(request, exc)
        return answer


def _stores(request: HttpRequest) -> list[SessionStore]:
    stores: list[SessionStore] = request.user_sessions.opened  # type: ignore[attr-defined]
    session = getattr(request, "session", None)
    # A test or a decorator may have put a session of its own in the place of ours.
    if isinstance(session, SessionStore) and session not in stores:
        stores.append(session)
    return stores


def _unfinished(stores: list[SessionStore]) -> list[SessionStore]:
    return [store for store in stores if store.has_work_to_finish]


def _finish(request: HttpRequest, response: HttpResponseBase, store: SessionStore) -> bool:
    """Store the session and its cookie; return False if another request has ended it meanwhile."""
    may_store = response.status_code < 500
    if may_store and store.modified:
        # A host that Django does not allow gets its 400 before anything is stored for it.
        store.cookie_scope(request)
    try:
        store.finish(may_store=may_store)
    except UpdateError:
        logger.info("A %s session ended while a request used it.", store.login_type.name)
        _vary_on_cookie(response)
        return False
    _send_cookie(request, response, store)
    backend = store.manager.backend
    if store.was_saved and not backend.transaction_depth and not backend.drops_expired:
        _collect_some_garbage(store)
    return True


def _send_cookies(
    request: HttpRequest, response: HttpResponseBase, stores: list[SessionStore]
) -> HttpResponseBase:
    """Do what the response needs when the storage needs nothing."""
    _delete_old_cookie(request, response)
    for store in stores:
        if store.accessed:
            _send_cookie(request, response, store)
    return response


def _delete_old_cookie(request: HttpRequest, response: HttpResponseBase) -> None:
    if request.user_sessions.has_spent_old_cookie:  # type: ignore[attr-defined]
        delete_old_cookie(response)


def _send_cookie(request: HttpRequest, response: HttpResponseBase, store: SessionStore) -> None:
    _vary_on_cookie(response)
    send_cookie(request, response, store)


def _vary_on_cookie(response: HttpResponseBase) -> None:
    # Most responses have no Vary yet: nothing to take apart and put together.
    if "Vary" in response.headers:
        patch_vary_headers(response, ("Cookie",))
    else:
        response.headers["Vary"] = "Cookie"


def _collect_some_garbage(store: SessionStore) -> None:
    try:
        store.manager.collect_garbage(store.login_type.gc_probability, max_batches=1)
    except Exception:
        # The visitor's session is stored: the answer with its cookie must go out.
        logger.exception("Collecting expired %s sessions failed.", store.login_type.name)
