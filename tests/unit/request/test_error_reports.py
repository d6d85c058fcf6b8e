"""What Django's error pages and mails tell of a session: nothing that opens it."""

from __future__ import annotations

import json
import pickle
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from html import unescape
from http.cookies import SimpleCookie
from pathlib import Path
from pprint import pformat
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.core.cache import cache
from django.db import OperationalError
from django.test import RequestFactory
from django.views.debug import ExceptionReporter

from tests.old_engines import DB
from usersessions import DatabaseSessionBackend
from usersessions.middleware import UserSessionMiddleware
from usersessions.request.error_reports import SessionReporterFilter, get_reporter_filter
from usersessions.session.tokens import CookieScope, Keys
from usersessions.store import SessionStore

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("debug", [True, False])
def test_report_on_a_failing_request_has_neither_identifier_nor_token(
    settings: Any, debug: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attack: read the error mails, or the page of a site that was left in DEBUG."""
    settings.DEBUG = debug
    store = SessionStore()
    store["x"] = 1
    store.save()
    request = RequestFactory().get("/")
    token = store.user_session.get_jwt(store.login_type.cookie_scope(request))
    request.COOKIES["fe_sessionid"] = token
    UserSessionMiddleware(lambda request: None).process_request(request)

    def fail(backend: DatabaseSessionBackend, ses_ids: Any, **options: Any) -> Any:
        raise OperationalError("the database is down")

    monkeypatch.setattr(DatabaseSessionBackend, "_read", fail)
    try:
        mine = (token, {"cookie": token}, [store.session_key])
        request.session.get("x")
    except OperationalError:
        reporter = ExceptionReporter(request, *sys.exc_info())
    for report in (reporter.get_traceback_text(), reporter.get_traceback_html()):
        assert "the database is down" in report
        assert "fe_sessionid" in report
        assert token not in report
        assert store.session_key not in report
    assert len(mine) == 3


def test_filter_can_be_the_sites_own(settings: Any) -> None:
    """Packages ask the site's filter, not the request's: django-debug-toolbar for its pages."""
    settings.DEFAULT_EXCEPTION_REPORTER_FILTER = (
        "usersessions.request.error_reports.SessionReporterFilter"
    )
    request = RequestFactory().get("/")
    path = django_settings.DEFAULT_EXCEPTION_REPORTER_FILTER
    request.exception_reporter_filter = get_reporter_filter(path)
    for found in (SessionReporterFilter(), request.exception_reporter_filter):
        assert found.cleanse_setting("be_sessionid", "eyJ") == "*" * 20
        assert found.cleanse_setting("LANGUAGE_CODE", "en") == "en"


IDENTIFIER = "0123456789abcdef0123456789abcdef"
TOKEN = CookieScope(Keys("FE"), "testserver", host_only=True).sign(IDENTIFIER, 0)
SES_ID = Keys("FE").ses_ids(IDENTIFIER)[0]
OLD_KEY = "k" * 32
STARS = "*" * 20


@dataclass
class Holder:
    """An object that shows what it holds, as many do."""

    held: Any


HOLDERS: dict[str, Callable[[str], Any]] = {
    "text": lambda secret: secret,
    "bytes": lambda secret: secret.encode(),
    "many-bytes": lambda secret: [b"x" * 70, b"y" * 60 + b" " + secret.encode()],
    "in-a-text": lambda secret: f"Got {secret} from the browser",
    "after-a-line-feed": lambda secret: f"Got:\n{secret}\nfrom the browser",
    "in-a-url": lambda secret: f"https://example.com/?session={secret}&x=1",
    "cookie": lambda secret: SimpleCookie({"fe_sessionid": secret}),
    "cookies": lambda secret: {"fe_sessionid": secret},
    "header": lambda secret: [("Cookie", f"a=b; fe_sessionid={secret}")],
    "key-of-a-mapping": lambda secret: {secret: 1},
    "set": lambda secret: {secret},
    "object": Holder,
    "objects-far-inside": lambda secret: {"x": [Holder((Holder({secret: [secret]}),))]},
    "exception": ValueError,
    "partial": lambda secret: partial(print, secret),
    "json": lambda secret: json.dumps({"identifier": secret}),
    "pickle": pickle.dumps,
}


def report_on(request: Any, held: Any) -> str:
    """Return the page on an error in whose frame a variable holds this."""

    def fail(variable: Any) -> None:
        raise LookupError(f"The page fails with a {type(variable).__name__}.")

    try:
        fail(held)
    except LookupError:
        reporter = ExceptionReporter(request, *sys.exc_info())
    report = unescape(reporter.get_traceback_html())
    # Long bytes are printed on several lines; whoever reads them puts them together.
    return re.sub(r"['\"]\s+b?['\"]", "", report)


@pytest.fixture
def request_with_filter(settings: Any) -> Any:
    settings.DEBUG = True
    settings.USERSESSIONS = {"FE": {"ADOPT_FROM": DB}}
    request = RequestFactory().get("/")
    request.COOKIES["sessionid"] = OLD_KEY
    path = django_settings.DEFAULT_EXCEPTION_REPORTER_FILTER
    request.exception_reporter_filter = get_reporter_filter(path)
    return request


@pytest.mark.parametrize("secret", [IDENTIFIER, TOKEN, OLD_KEY], ids=["id", "token", "old-key"])
@pytest.mark.parametrize("hold", HOLDERS.values(), ids=HOLDERS)
def test_secret_is_masked_whatever_holds_it(
    request_with_filter: Any, hold: Callable[[str], Any], secret: str
) -> None:
    """Attack: read an error page, where code of others holds our secrets in its own ways."""
    report = report_on(request_with_filter, hold(secret))
    assert "The page fails with a" in report
    assert "variable" in report
    assert STARS in report
    for part in (secret, secret.partition(".")[2], secret[:40]):
        assert not part or part not in report


def test_part_of_a_token_is_masked(request_with_filter: Any) -> None:
    """Attack: sign the payload again; it has the identifier in it."""
    report = report_on(request_with_filter, [part.encode() for part in TOKEN.split(".")])
    header, payload, _ = TOKEN.split(".")
    assert header not in report
    assert payload not in report


@pytest.mark.parametrize(
    "harmless",
    [SES_ID, "d41d8cd98f00b204e9800998ecf8427", "a text", ["x" * 100] * 3, {"eyJ": 1}],
    ids=["hash", "31-digits", "text", "long-list", "mapping"],
)
def test_what_is_no_secret_is_shown_as_ever(request_with_filter: Any, harmless: Any) -> None:
    shown = re.sub(r"'\s+'", "", pformat(harmless))
    assert shown in report_on(request_with_filter, harmless)


@pytest.mark.parametrize("name", ["SECRET_KEY", "fallback", "hash-key", "token-key"])
def test_keys_are_masked_in_variables(request_with_filter: Any, settings: Any, name: str) -> None:
    """Attack: sign a cookie with a key from an error page."""
    settings.SECRET_KEY_FALLBACKS = ["an older key of the site, as bytes: \xff"]
    keys = Keys("BE")
    secret: Any = {
        "SECRET_KEY": settings.SECRET_KEY,
        "fallback": settings.SECRET_KEY_FALLBACKS[0],
        "hash-key": keys.all_keys()[0],
        "token-key": keys.token_keys()[1],
    }[name]
    report = report_on(request_with_filter, Holder(secret))
    assert repr(secret)[3:-3] not in report
    assert STARS in report


PASSWORD, QUOTED = "pass-of-the-site", "pass%2Dof-the-site"


@pytest.mark.parametrize(
    "options",
    [
        {"url": f"redis://default:{PASSWORD}@127.0.0.1:1/0"},
        {"url": f"redis://:{QUOTED}@127.0.0.1:1/0"},
        {"host": "127.0.0.1", "port": 1, "password": PASSWORD},
    ],
    ids=["url", "quoted-url", "password"],
)
@pytest.mark.parametrize("debug", [True, False])
def test_password_of_a_storage_is_masked(
    settings: Any, options: dict[str, Any], debug: bool
) -> None:
    """Attack: read the page on an outage of Redis, and ask Redis itself."""
    from tests.redis_servers import redis  # its package may be missing

    settings.DEBUG = debug
    engine = {"BACKEND": "usersessions.RedisSessionBackend", "OPTIONS": options}
    settings.USERSESSIONS = {"FE": engine}
    request = RequestFactory().get("/")
    UserSessionMiddleware(lambda request: None).process_request(request)
    try:
        request.session.create()
    except redis.ConnectionError:
        reporter = ExceptionReporter(request, *sys.exc_info())
    for report in (reporter.get_traceback_text(), reporter.get_traceback_html()):
        assert "ConnectionError" in report
        assert PASSWORD not in report
        assert QUOTED not in report


@pytest.mark.parametrize(
    "entry",
    [
        {"LOCATION": f"redis://default:{QUOTED}@127.0.0.1:1/0"},
        {"LOCATION": f"redis://127.0.0.1:1/0,redis://:{QUOTED}@127.0.0.1:1/1"},
        {"LOCATION": ["redis://127.0.0.1:1/0", f"redis://:{QUOTED}@127.0.0.1:1/1"]},
        {"LOCATION": "redis://127.0.0.1:1/0", "OPTIONS": {"password": PASSWORD}},
    ],
    ids=["url", "urls", "list", "password"],
)
def test_password_of_a_cache_is_masked(
    request_with_filter: Any, settings: Any, entry: dict[str, Any]
) -> None:
    """Attack: read the page on an outage of the cache, and ask Redis itself."""
    from tests.redis_servers import redis  # its package may be missing

    redis_cache = "django.core.cache.backends.redis.RedisCache"
    settings.CACHES = {"default": {"BACKEND": redis_cache, **entry}}
    try:
        cache.set("key", 1)
    except redis.ConnectionError:
        reporter = ExceptionReporter(request_with_filter, *sys.exc_info())
    for report in (reporter.get_traceback_text(), reporter.get_traceback_html()):
        assert "ConnectionError" in report
        assert PASSWORD not in report
        assert QUOTED not in report
    assert PASSWORD not in report_on(request_with_filter, Holder(PASSWORD))


def test_address_that_is_none_does_not_spoil_the_report(
    request_with_filter: Any, settings: Any
) -> None:
    """Of a storage of somebody else's, which may call anything a URL."""
    settings.USERSESSIONS = {"FE": {"OPTIONS": {"url": "redis://[bad", "user": 1}}}
    settings.CACHES = {"default": {"LOCATION": Path("redis://[bad")}, "dummy": {"BACKEND": "x"}}
    assert "The page fails" in report_on(request_with_filter, "x")


def test_settings_and_headers_are_masked() -> None:
    mask = SessionReporterFilter().cleanse_setting
    assert mask("LOCATION", "redis://u:word@cache:6379/1") == f"redis://u:{STARS}@cache:6379/1"
    assert mask("QUERY_STRING", f"token={TOKEN}&x=1") == f"token={STARS}&x=1"
    assert mask("HTTP_REFERER", f"/reset/{IDENTIFIER}/") == f"/reset/{STARS}/"
    assert mask("DATABASES", {"default": {"NAME": SES_ID}}) == {"default": {"NAME": SES_ID}}
    assert mask("TIMEOUT", 5) == 5
