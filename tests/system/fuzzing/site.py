"""A site that is asked by one visitor after the other, and cries out when it believes a cookie."""

from __future__ import annotations

import hmac
import io
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.core.handlers.wsgi import WSGIRequest
from django.db import connection
from django.http import HttpResponse, parse_cookie
from django.test import override_settings

from usersessions.middleware import UserSessionMiddleware
from usersessions.session.tokens import CookieScope, Keys, is_identifier

HOST = "shop.example"
CLAIM = {"domain": HOST, "hostOnly": True, "path": "/"}
SETTINGS: dict[str, Any] = {
    "ALLOWED_HOSTS": [HOST],
    "SECRET_KEY": "the site's key",
    "SECRET_KEY_FALLBACKS": ["the site's old key"],
    "USERSESSIONS": {},
}
SCOPES = {
    "fe_sessionid": CookieScope(Keys("FE"), HOST, host_only=True),
    "be_sessionid": CookieScope(Keys("BE"), HOST, host_only=True),
}
#: TYPO3's is the second one.
HEADERS = (b'{"alg":"HS256","typ":"JWT"}', b'{"typ":"JWT","alg":"HS256"}')
IDENTIFIER = "0123456789abcdef" * 2


class Broken(AssertionError):
    """The site has done what it must not do; the message shows the Cookie header."""

    def __init__(self, what: str, header: bytes) -> None:
        super().__init__(f"{what}. Keep it in tests/system/fuzzing/corpus/cookies: {header!r}")


def _refuse_query(*args: Any) -> None:
    raise AssertionError("A query")


def _look_into_sessions(request: Any) -> HttpResponse:
    for name in request.user_sessions:
        session = request.user_sessions[name]
        seen = (dict(session), session.session_key, session.user_session.user_id)
        if seen != ({}, None, None) or request.original_user:
            return HttpResponse(status=418)
    return HttpResponse()


class Site:
    """The middleware around a view that reads the sessions of all login types.

    No statement may reach the database while it answers.
    """

    def __init__(self) -> None:
        self._answer = UserSessionMiddleware(_look_into_sessions)

    def visit(self, header: bytes) -> bool:
        """Send a Cookie header; return whether the site had signed nothing in it for this place.

        :raises Broken: it had not, and the visitor got a session, a query, an error or a cookie
        """
        sent = header.decode("latin-1")
        if any(is_genuine(name, parse_cookie(_as_django(sent)).get(name, "")) for name in SCOPES):
            return False
        environ = {
            "REQUEST_METHOD": "GET",
            "PATH_INFO": "/",
            "SERVER_NAME": HOST,
            "SERVER_PORT": "80",
            "HTTP_COOKIE": sent,
            "wsgi.input": io.BytesIO(),
        }
        try:
            response: Any = self._answer(WSGIRequest(environ))
        except Exception as exc:
            raise Broken(f"{type(exc).__name__}: {exc}", header) from exc
        if response.status_code != 200 or response.cookies:
            raise Broken(f"The answer is {response.status_code}, {response.cookies}", header)
        return True


@contextmanager
def open_site() -> Iterator[Site]:
    with override_settings(**SETTINGS), connection.execute_wrapper(_refuse_query):
        yield Site()


def _as_django(header: str) -> str:
    return header.encode("latin-1").decode(errors="replace")


def is_genuine(name: str, token: str) -> bool:
    """Return whether the site, or a part of it that has its key, has signed this for here.

    Told without the package's and PyJWT's ways of doing so.
    """
    signed, _, signature = token.rpartition(".")
    header, _, payload = signed.partition(".")
    macs = [hmac.digest(key, signed.encode(), "sha256") for key in SCOPES[name].keys.token_keys()]
    if signature.encode() not in [urlsafe_b64encode(mac).rstrip(b"=") for mac in macs]:
        return False
    try:
        claims = json.loads(_decode(payload))
        return (
            _decode(header) in HEADERS
            and claims["scope"] == CLAIM
            and is_identifier(claims["identifier"])
        )
    except (ValueError, LookupError, TypeError, RecursionError):
        return False


def _decode(part: str) -> bytes:
    return urlsafe_b64decode(part + "=" * (-len(part) % 4))
