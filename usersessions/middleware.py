"""The middleware that gives every request its sessions and takes them back with the response."""

from __future__ import annotations

from functools import partial
from typing import Any, cast

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.sessions.middleware import SessionMiddleware
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.deprecation import MiddlewareMixin
from django.utils.functional import SimpleLazyObject

from .adoption import adopt_old_session, get_old_engine, presents_old_cookie
from .auth.switch_user import aget_original_user, get_original_user
from .backends.session_manager import SessionManager
from .conf import get_configuration
from .lifecycle.current_request import current_request
from .request.by_login_type import UserSessions
from .request.error_reports import get_reporter_filter
from .request.finish import finish_sessions, needs_storage
from .store import SessionStore


class UserSessionMiddleware(SessionMiddleware):
    """Takes the place of Django's ``SessionMiddleware``; see section "Login types" of the README.

    Sets ``request.session`` (the store of the login type that serves the path),
    ``request.user_sessions`` (the store of any type, by name) and ``request.original_user`` (the
    user behind a switched session; falsy if it is not switched). Async code awaits
    ``request.aoriginal_user()``. Under ASGI a coroutine; ``process_response()`` runs in a thread,
    only where the storage must be told something.

    :raises ImproperlyConfigured: at start-up, for wrong settings
    """

    def __init__(self, get_response: Any) -> None:
        # Not SessionMiddleware's: that one imports an engine of a single session.
        MiddlewareMixin.__init__(self, get_response)
        self.SessionStore = SessionStore
        configuration = get_configuration()
        for name in configuration.login_types:
            SessionManager.get_session_backend(name)
        for login_type in configuration.adopting:
            get_old_engine(str(login_type.adopt_from))

    def __call__(self, request: HttpRequest) -> Any:
        if self.async_mode:
            return self.__acall__(request)
        token = current_request.set(request)
        try:
            self.process_request(request)
            if get_configuration().adopting and presents_old_cookie(request):
                adopt_old_session(request)
            response = cast("Any", self.get_response(request))
            return finish_sessions(request, response)
        finally:
            current_request.reset(token)

    async def __acall__(self, request: HttpRequest) -> HttpResponseBase:
        token = current_request.set(request)
        try:
            self.process_request(request)
            if get_configuration().adopting and presents_old_cookie(request):
                await sync_to_async(adopt_old_session)(request)
            response = await cast("Any", self.get_response(request))
            if needs_storage(request, response):
                return await sync_to_async(finish_sessions)(request, response)
            return finish_sessions(request, response)
        finally:
            current_request.reset(token)

    def process_request(self, request: HttpRequest) -> None:
        any_request: Any = request
        any_request.exception_reporter_filter = get_reporter_filter(
            settings.DEFAULT_EXCEPTION_REPORTER_FILTER
        )
        any_request.user_sessions = sessions = UserSessions(request)
        any_request.session = sessions.open_serving()
        any_request.original_user = SimpleLazyObject(partial(get_original_user, request))
        any_request.aoriginal_user = partial(aget_original_user, request)

    def process_response(  # type: ignore[override]
        self, request: HttpRequest, response: HttpResponseBase
    ) -> HttpResponseBase:
        return finish_sessions(request, response)
