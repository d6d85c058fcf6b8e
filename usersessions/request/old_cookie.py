"""The cookie of the engine that the site had before, which names a session to take over."""

from __future__ import annotations

import re

from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from ..conf import get_engine_login_type, get_login_types
from ..session.tokens import is_identifier

_KEY = re.compile(r"[a-z0-9]{8,40}")


def get_old_key(request: HttpRequest) -> str | None:
    """Return the key in the cookie of the engine that the site had, None if there is none."""
    key = request.COOKIES.get(settings.SESSION_COOKIE_NAME, "")
    return key if _KEY.fullmatch(key) and not _is_identifier_of_ours(key) else None


def _is_identifier_of_ours(key: str) -> bool:
    owner = get_engine_login_type()
    has_its_name = owner.cookie_name == settings.SESSION_COOKIE_NAME
    return has_its_name and owner.cookie_format == "identifier" and is_identifier(key)


def delete_old_cookie(response: HttpResponseBase) -> None:
    """Delete the cookie of the engine that the site had, unless a login type has its name now."""
    name = settings.SESSION_COOKIE_NAME
    if all(login_type.cookie_name != name for login_type in get_login_types().values()):
        response.delete_cookie(
            name,
            path=settings.SESSION_COOKIE_PATH,
            domain=settings.SESSION_COOKIE_DOMAIN,
            samesite=settings.SESSION_COOKIE_SAMESITE,
        )
