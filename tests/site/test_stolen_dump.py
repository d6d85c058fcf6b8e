"""Whoever has read all that is stored has no cookie: every stored value is tried as one."""

from __future__ import annotations

import json
import re
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

import jwt
import pytest
from django.contrib import auth
from django.core.management import call_command
from django.db import connection

from tests.old_engines import DB, OldSite
from tests.urls import visit
from usersessions import auth as usersessions_auth
from usersessions.backends.session_manager import SessionManager
from usersessions.models import BackendSession, FrontendSession
from usersessions.test import Client

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.urls")]

COOKIES = {"/": "fe_sessionid", "/admin/": "be_sessionid"}


def fill(old_site: OldSite, alice: Any, superuser: Any) -> None:
    """Have sessions of every kind, of both login types."""
    for path in COOKIES:
        visitor, customer, admin, moved = (Client() for _ in range(4))
        visit(visitor, lambda request: request.session.update({"basket": [1]}), path)
        visit(
            customer,
            lambda request: usersessions_auth.login(request, alice, is_permanent=True),
            path,
        )
        visit(customer, lambda request: request.session.set_expiry(3600), path)
        visit(admin, lambda request: auth.login(request, superuser), path)
        visit(admin, lambda request: usersessions_auth.switch_user(request, alice), path)
        moved.cookies["sessionid"] = old_site.store_session(alice, basket=[1])
        visit(moved, lambda request: request.user.pk, path)
    old_site.store_session(alice)
    call_command("adopt_sessions", verbosity=0)


def strings_in(value: Any) -> Iterator[str]:
    """Yield every text in decoded data, keys too, and numbers as text."""
    if isinstance(value, dict):
        yield from strings_in(list(value))
        yield from strings_in(list(value.values()))
    elif isinstance(value, list):
        for inner in value:
            yield from strings_in(inner)
    else:
        yield str(value)


def guesses_from(values: Iterable[Any]) -> set[str]:
    """Return whatever might be a cookie, an identifier or half of one."""
    texts: set[str] = set()
    for value in values:
        text = bytes(value).decode("latin-1") if isinstance(value, (bytes, memoryview)) else value
        texts.add(str(text))
        with suppress(ValueError):
            texts.update(strings_in(json.loads(str(text))))
    for text in list(texts):
        for digits in re.findall("[0-9a-f]{32,}", text):
            texts.update((digits[:32], digits[-32:]))
    return texts


def as_cookies(guess: str) -> Iterator[str]:
    """Yield what somebody without keys can make of a guess."""
    yield guess
    payload = {
        "identifier": guess,
        "time": "2025-01-01T00:00:00+00:00",
        "scope": {"domain": "testserver", "hostOnly": True, "path": "/"},
    }
    # With each stored value as the key, too.
    yield jwt.encode(payload, guess.encode("utf-8", "surrogatepass").ljust(32), algorithm="HS256")
    head, body = (
        urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()
        for part in ({"alg": "none", "typ": "JWT"}, payload)
    )
    yield f"{head}.{body}."


def assert_opens_nothing(guesses: set[str]) -> None:
    """Try each of them for each login type, and as the cookie of the engine that the site had."""
    assert len(guesses) > 50
    browser = Client()

    def is_accepted(name: str, cookie: str) -> bool:
        browser.cookies.clear()
        browser.cookies[name] = cookie
        return bool(visit(browser, who).content != b"[None, None]")

    def who(request: Any) -> Any:
        return [store.user_session.stored for store in request.user_sessions.values()]

    tried = [
        (name, cookie)
        for guess in guesses
        for cookie in as_cookies(guess)
        for name in (*COOKIES.values(), "sessionid")
    ]
    assert [each for each in tried if is_accepted(*each)] == []


def settings_with(cookie_format: str, **more: Any) -> dict[str, Any]:
    policy = {"COOKIE_FORMAT": cookie_format, "PERMANENT_LOGIN": "opt-in", **more}
    return {"FE": {**policy, "ADOPT_FROM": DB}, "BE": {**policy, "ADOPT_FROM": DB}}


@pytest.mark.parametrize("cookie_format", ["token", "identifier"])
def test_nothing_in_the_database_is_a_cookie(
    old_site: OldSite, settings: Any, alice: Any, superuser: Any, cookie_format: str
) -> None:
    """Attack: read a backup of the database."""
    settings.USERSESSIONS = settings_with(cookie_format)
    fill(old_site, alice, superuser)
    stored: list[Any] = []
    for model in (FrontendSession, BackendSession):
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT * FROM {model._meta.db_table}")
            stored += [value for row in cursor.fetchall() for value in row]
    assert (FrontendSession.objects.count(), BackendSession.objects.count()) == (6, 3)
    assert_opens_nothing(guesses_from(stored))


def test_nothing_in_redis_is_a_cookie(
    old_site: OldSite, settings: Any, alice: Any, superuser: Any, redis_server: Any
) -> None:
    """Attack: read the dump of a Redis, or what it answers to whoever gets at its port."""
    settings.USERSESSIONS = settings_with(
        "identifier",
        BACKEND="usersessions.RedisSessionBackend",
        OPTIONS={"url": redis_server.url},
    )
    fill(old_site, alice, superuser)
    client = redis_server.client
    stored: list[Any] = []
    for key in client.scan_iter():
        stored += [*key.split(b":"), key]
        kind = client.type(key)
        stored += [client.get(key)] if kind == b"string" else client.zrange(key, 0, -1)
    assert len(stored) > 20
    assert_opens_nothing(guesses_from(stored))
    for name in ("FE", "BE"):
        SessionManager.get_session_backend(name).close()  # type: ignore[attr-defined]
    client.flushall()
