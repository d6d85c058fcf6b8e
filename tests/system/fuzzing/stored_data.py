"""What may stand in ``ses_data``, and what a site must do with it."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random
from typing import Any

from django.core.handlers.wsgi import WSGIRequest
from django.http import HttpResponse
from django.test import override_settings

from tests.system.fuzzing.corpus import STORED
from tests.system.fuzzing.site import HOST, IDENTIFIER, SCOPES, SETTINGS
from usersessions import SessionManager
from usersessions.middleware import UserSessionMiddleware
from usersessions.session.data import RESERVED_KEY

MEMORY = "tests.contract.test_base.MemoryBackend"
ODD_TEXTS = [b"", b"{}", b"[]", b"null", b"NaN", b"1e999", b'"', b"\\", b"\\ud800", b"\0", b"\xff"]


class Broken(AssertionError):
    """The site has done what it must not do; the message shows what was stored."""

    def __init__(self, what: str, stored: bytes) -> None:
        super().__init__(f"{what}. Keep it in tests/system/fuzzing/corpus/stored: {stored!r}")


class StoredSite:
    """A site that finds anything under the identifier of one visitor."""

    def __init__(self) -> None:
        self.backend = SessionManager.get_session_backend("FE")

    def use(self, stored: bytes) -> bool:
        """Read such a session, then write to it; return whether what was stored could be read.

        :raises Broken: there was an error, bad data was changed, or good data lost
        """
        self.backend.remove(IDENTIFIER)
        self.backend.set(
            IDENTIFIER,
            {
                "ses_data": stored,
                "ses_iplock": "[DISABLED]",
                "ses_userid": 0,
                "ses_tstamp": int(time.time()) - 100,  # long enough ago to be touched
            },
        )
        seen: dict[str, Any] = {}
        try:
            cookies = self._request(seen.update)
            read = self._stored()  # bad data is left for inspection, too
            new_cookies = self._request(lambda session: session.update({"written": 1}))
        except Exception as exc:
            raise Broken(f"{type(exc).__name__}: {exc}", stored) from exc
        # A custom expiry has the cookie sent again; another session has another identifier.
        token = new_cookies["fe_sessionid"].value if new_cookies else ""
        is_readable = not token or SCOPES["fe_sessionid"].resolve(token) == IDENTIFIER
        data = _plainly_read(stored) if is_readable else {}
        after = json.dumps(_plainly_read(self._stored())) if is_readable else self._stored()
        seen_and_done = (json.dumps(seen), cookies, read, after)
        right = json.dumps({**data, "written": 1}) if is_readable else stored
        if seen_and_done != (json.dumps(data), {}, stored, right):
            raise Broken(f"It became {seen_and_done}", stored)
        return is_readable

    def _request(self, view: Callable[[Any], None]) -> Any:
        def respond(request: Any) -> HttpResponse:
            view(request.session)
            return HttpResponse()

        environ = {
            "REQUEST_METHOD": "GET",
            "PATH_INFO": "/",
            "SERVER_NAME": HOST,
            "SERVER_PORT": "80",
            "HTTP_COOKIE": f"fe_sessionid={SCOPES['fe_sessionid'].sign(IDENTIFIER, 0)}",
            "wsgi.input": io.BytesIO(),
        }
        answer: Any = UserSessionMiddleware(respond)(WSGIRequest(environ))
        return answer.cookies

    def _stored(self) -> bytes:
        return bytes(self.backend.get(IDENTIFIER)["ses_data"])


@contextmanager
def open_stored_site(backend: str = MEMORY) -> Iterator[StoredSite]:
    options = {"BACKEND": backend, "GC_PROBABILITY": 0}
    with override_settings(**{**SETTINGS, "USERSESSIONS": {"FE": options}}):
        yield StoredSite()


def stored_bytes(random: Random) -> bytes:
    """Return noise, or something that was stored after a few small changes."""
    if random.random() < 0.1:
        return random.randbytes(random.randrange(100))
    text = random.choice(STORED)
    for _ in range(random.randint(1, 4)):
        start = random.randrange(len(text) + 1)
        end = min(len(text), start + random.choice([0, 1, 1, 2, 8, 40]))
        middle = random.choice(
            [b"", random.randbytes(end - start), text[start:end] * 2, random.choice(ODD_TEXTS)]
        )
        text = text[:start] + middle + text[end:]
    return text


def _plainly_read(stored: bytes) -> Any:
    """Return the visitor's data as any reader of JSON finds it."""
    found = json.loads(stored.decode("latin-1") or "{}")
    found.pop(RESERVED_KEY, None)
    return found
