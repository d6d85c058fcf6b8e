"""Sessions for websockets with Django Channels."""

from __future__ import annotations

from io import BytesIO
from typing import Any

from django.core.handlers.asgi import ASGIRequest

from .request.by_login_type import UserSessions, get_login_type_for


class SessionMiddleware:
    """Puts the session of a login type into ``scope["session"]``, by the rules for a request.

    Replaces Channels' ``CookieMiddleware`` and ``SessionMiddleware``, which know a single cookie
    and neither host nor address: ``SessionMiddleware(AuthMiddleware(URLRouter(...)))``.

    :param inner: the wrapped application
    :param login_type: None: the one that serves the path
    :raises UnknownLoginType: on a connection, if there is no such login type
    """

    def __init__(self, inner: Any, login_type: str | None = None) -> None:
        self.inner = inner
        self.login_type = login_type

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> Any:
        request = ASGIRequest({**scope, "method": "GET"}, BytesIO())
        session = UserSessions(request)[self.login_type or get_login_type_for(request).name]
        return await self.inner({**scope, "session": session}, receive, send)
