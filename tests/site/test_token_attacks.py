"""Cookies that somebody has made, edited, moved or kept, sent to a site through the middleware."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from django.contrib import auth as django_auth
from django.contrib.auth.models import User
from django.db import connection

from tests.unit.session.test_tokens import HEADER, forge
from tests.urls import visit
from usersessions import SessionManager, UserSessionManager, auth
from usersessions.session.tokens import CookieScope, Keys
from usersessions.test import Client

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.urls")]

IDENTIFIER = "5" * 32
SCOPE = CookieScope(Keys("FE"), "testserver", host_only=True)
CLAIM = {"domain": "testserver", "hostOnly": True, "path": "/"}
PAYLOAD = {"identifier": IDENTIFIER, "time": "2025-01-01T00:00:00+00:00", "scope": CLAIM}


def who(request: Any) -> Any:
    return request.user.get_username(), request.session.get("secret")


@pytest.fixture(autouse=True)
def victim(alice: Any) -> None:
    """Alice's session, which every cookie below would open if it were taken for hers."""
    manager = UserSessionManager.create("FE")
    session = manager.create_anonymous_session().renewed(IDENTIFIER, user_id=alice.pk)
    session.override_data({"secret": "hers"})
    manager.store(session)


@pytest.fixture
def token() -> str:
    """Alice's own cookie."""
    return SCOPE.sign(IDENTIFIER, 0)


@contextmanager
def no_query() -> Iterator[None]:
    """Fail at the first statement of any kind."""

    def refuse(execute: Any, sql: str, *args: Any) -> None:
        raise AssertionError(f"A statement: {sql[:60]}")

    with connection.execute_wrapper(refuse):
        yield


def send(header: str, view: Any = who, **extra: Any) -> Any:
    """Send a Cookie header as it is; text beyond ASCII goes as UTF-8, as servers hand it over."""
    octets = header.encode(errors="surrogatepass").decode("latin-1")
    return visit(Client(), view, HTTP_COOKIE=octets, **extra)


def assert_is_nobody(header: str, **extra: Any) -> None:
    """The visitor is anonymous, without a query, and the browser's cookies stay as they are."""
    with no_query():
        response = send(header, **extra)
    assert (response.status_code, response.content) == (200, b"('', None)")
    assert not response.cookies


def test_what_is_attacked_can_be_opened(token: str) -> None:
    """The tests below would fail if what they send were genuine."""
    assert send(f"fe_sessionid={token}").content == b"('', 'hers')"
    with pytest.raises(AssertionError, match="A statement: SELECT"):
        assert_is_nobody(f"fe_sessionid={token}")


# Made by somebody else


@pytest.mark.parametrize(
    "header",
    [
        *({**HEADER, "alg": name} for name in ("none", "None", "NONE", "nOnE", "", " HS256")),
        *({**HEADER, "alg": name} for name in ("HS384", "HS512", "RS256", "ES256", "PS256", "dir")),
        *({**HEADER, "alg": value} for value in (["HS256"], {"HS256": 1}, 256, None, True, 1e400)),
        {"typ": "JWT"},
        {**HEADER, "crit": ["exp"]},
        {**HEADER, "b64": False},
        {**HEADER, "b64": False, "crit": ["b64"]},
        {**HEADER, "kid": "../../dev/null"},
        {**HEADER, "jku": "https://evil.example/keys.json"},
        {**HEADER, "jwk": {"kty": "oct", "k": "AAAA"}},
        {**HEADER, "x5u": "https://evil.example/certificate.pem"},
        {**HEADER, "zip": "DEF"},
        [HEADER],
        "[" * 900,
        '{"a":' * 400,
        json.dumps({str(number): [] for number in range(200)}),
        '{"alg":"none","alg":"HS256","typ":"JWT"}',
        "\0",
        "",
    ],
    ids=str,
)
@pytest.mark.parametrize("signed_with", ["right-key", "other-key", "no-key"])
def test_token_that_says_how_it_wants_to_be_verified_is_refused(
    header: Any, signed_with: str
) -> None:
    """Attack: ``alg: none``, another algorithm, a key of the sender's choice (RFC 8725, 2.1, 3.1,
    3.10). ``alg`` as a list is an uncaught TypeError in TYPO3."""
    key = None if signed_with == "right-key" else b"k" * 32
    signed = forge(header, PAYLOAD, key)
    unsigned = signed[: signed.rindex(".") + 1]
    assert_is_nobody(f"fe_sessionid={unsigned if signed_with == 'no-key' else signed}")


@pytest.mark.parametrize(
    "key",
    [
        pytest.param(lambda: b"k" * 32, id="any"),
        pytest.param(lambda: b"", id="empty"),
        pytest.param(lambda: Keys("BE").token_keys()[0], id="other-login-type"),
        pytest.param(lambda: b"FE", id="name-of-the-login-type"),
    ],
)
def test_token_signed_with_another_key_is_refused(key: Any) -> None:
    """Attack: a forged cookie, or the staff's own cookie under the name of the customers'."""
    assert_is_nobody(f"fe_sessionid={forge(HEADER, PAYLOAD, key())}")


@pytest.mark.parametrize(
    "payload",
    [
        *(
            {**PAYLOAD, "identifier": value}
            for value in ([IDENTIFIER], 5, None, "A" * 32, "5" * 31, "5" * 33, IDENTIFIER + "\n")
        ),
        *(
            {**PAYLOAD, "scope": value}
            for value in ("/", [CLAIM], None, {}, {**CLAIM, "port": 1}, {**CLAIM, "hostOnly": 1.5})
        ),
        {"identifier": IDENTIFIER},
        {"scope": CLAIM},
        [PAYLOAD],
        "[" * 2000,
        "{",
        "",
        "\0",
    ],
    ids=lambda payload: str(payload)[:60],
)
def test_signed_token_that_is_no_cookie_of_ours_is_refused(payload: Any) -> None:
    """Attack: another part of the site signs what people give it, with the same key."""
    assert_is_nobody(f"fe_sessionid={forge(HEADER, payload)}")


# Edited


def test_cut_off_token_is_refused_wherever_it_is_cut(token: str) -> None:
    """Attack: a signature that is too short to be compared whole."""
    for length in range(len(token)):
        assert_is_nobody(f"fe_sessionid={token[:length]}")


def test_token_with_a_flipped_bit_is_refused_wherever_it_is(token: str) -> None:
    """Attack: an edited cookie."""
    for place, letter in enumerate(token):
        other = chr(ord(letter) ^ (1 << place % 7))
        # A semicolon ends the cookie: what is left is cut off.
        assert_is_nobody(f"fe_sessionid={token[:place]}{other}{token[place + 1 :]}")


@pytest.mark.parametrize(
    "spell",
    [
        pytest.param(lambda token: token.replace(".", "%2E"), id="percent-encoded"),
        pytest.param(lambda token: token + "%00", id="percent-encoded-nul"),
        pytest.param(lambda token: token + "\0", id="nul"),
        pytest.param(lambda token: "\0" + token, id="nul-in-front"),
        pytest.param(lambda token: token.replace(".", " ."), id="spaces"),
        pytest.param(lambda token: token.replace(".", "\t."), id="tabs"),
        pytest.param(lambda token: f"'{token}'", id="single-quotes"),
        pytest.param(lambda token: f'"{token}', id="one-quote"),
        pytest.param(lambda token: f'""{token}""', id="two-quotes"),
        pytest.param(lambda token: token + "=", id="padded"),
        pytest.param(lambda token: token[:-1] + chr(ord(token[-1]) + 1), id="unused-bits"),
        pytest.param(lambda token: token.replace(".", "\uff0e"), id="full-width-dots"),
        pytest.param(lambda token: token + "é", id="latin"),
        pytest.param(lambda token: token + "\udcff", id="half-a-character"),
        pytest.param(lambda token: token + "\u200b", id="zero-width-space"),
        pytest.param(lambda token: token.swapcase(), id="other-case"),
        pytest.param(lambda token: token[::-1], id="backwards"),
        pytest.param(lambda token: token + token, id="twice"),
        pytest.param(lambda token: token + "." + token, id="twice-with-a-dot"),
        pytest.param(lambda token: f"Bearer {token}", id="as-in-other-headers"),
        pytest.param(lambda token: json.dumps({"token": token}), id="json"),
        pytest.param(lambda token: forge(HEADER, {"nested": token}), id="token-in-a-token"),
        pytest.param(lambda token: IDENTIFIER, id="identifier"),
        pytest.param(lambda token: "a" * 100_000, id="100-kilobytes"),
        pytest.param(lambda token: token + "a" * 100_000, id="100-kilobytes-more"),
        pytest.param(lambda token: "; fe_sessionid=".join("abc" * 9999), id="30000-cookies"),
    ],
)
def test_token_in_another_spelling_is_refused(token: str, spell: Callable[[str], str]) -> None:
    """Attack: a cookie that two programs read in two ways, or that costs much to read."""
    assert_is_nobody(f"fe_sessionid={spell(token)}")


def test_token_in_double_quotes_is_the_token(token: str) -> None:
    """Django's parser takes them off, as RFC 2109 had them; they are no way around anything."""
    assert send(f'fe_sessionid="{token}"').content == b"('', 'hers')"
    assert_is_nobody(f'fe_sessionid="{token[:-1]}"')


# Moved


@pytest.mark.parametrize(
    "scope",
    [
        pytest.param(replace(SCOPE, domain="evil.example"), id="other-host"),
        pytest.param(replace(SCOPE, domain="www.testserver"), id="subdomain"),
        pytest.param(replace(SCOPE, domain="server"), id="parent-domain"),
        pytest.param(replace(SCOPE, domain="TESTSERVER"), id="other-case"),
        pytest.param(replace(SCOPE, domain="testserver:80"), id="port"),
        pytest.param(replace(SCOPE, domain="testserver."), id="root-dot"),
        pytest.param(replace(SCOPE, host_only=False), id="with-subdomains"),
        pytest.param(replace(SCOPE, path="/shop/"), id="other-path"),
        pytest.param(replace(SCOPE, path="//"), id="path-spelt-otherwise"),
        pytest.param(replace(SCOPE, keys=Keys("BE")), id="other-login-type"),
        pytest.param(replace(SCOPE, keys=Keys("fe")), id="login-type-in-other-case"),
    ],
)
def test_token_of_another_place_is_refused(scope: CookieScope) -> None:
    """Attack: a genuine cookie of one's own, from another site or path that has the same key."""
    assert_is_nobody(f"fe_sessionid={scope.sign(IDENTIFIER, 0)}")


@pytest.mark.parametrize("host", ["testserver:8080", "TestServer"])
def test_port_and_case_of_the_host_are_no_other_place(settings: Any, token: str, host: str) -> None:
    """Cookies know no ports (RFC 6265, 8.5), and host names no case."""
    settings.ALLOWED_HOSTS = ["testserver"]
    assert send(f"fe_sessionid={token}", HTTP_HOST=host).content == b"('', 'hers')"


@pytest.mark.parametrize("host", ["www.testserver", "evil.example"])
def test_token_is_refused_at_another_host_of_the_site(settings: Any, token: str, host: str) -> None:
    """Attack: a customer's cookie of one shop, sent to another shop of the same process."""
    settings.ALLOWED_HOSTS = ["*"]
    assert_is_nobody(f"fe_sessionid={token}", HTTP_HOST=host)


def test_cookie_under_another_login_types_name_is_refused(token: str) -> None:
    """Attack: a customer who renames the cookie, to be staff."""
    backend = UserSessionManager.create("BE")
    backend.store(backend.create_anonymous_session().renewed(IDENTIFIER, user_id=1))
    with no_query():
        response = visit(Client(), who, "/admin/", HTTP_COOKIE=f"be_sessionid={token}")
    assert response.content == b"('', None)"


# Two at once


FORGED = forge(HEADER, PAYLOAD, b"k" * 32)


def test_last_of_two_cookies_is_the_one_that_is_verified(token: str) -> None:
    """Attack: a second cookie of the same name, from a sister domain or another path; one is not
    verified and the other one used. Django's parser knows the last one, and nothing else is."""
    assert_is_nobody(f"fe_sessionid={token}; fe_sessionid={FORGED}")
    assert send(f"fe_sessionid={FORGED}; fe_sessionid={token}").content == b"('', 'hers')"


def test_two_genuine_cookies_are_not_mixed(token: str, bob: Any) -> None:
    """Attack: one's own genuine cookie beside the victim's."""
    mine = SCOPE.sign("7" * 32, 0)
    manager = UserSessionManager.create("FE")
    session = manager.create_anonymous_session().renewed("7" * 32, user_id=bob.pk)
    session.override_data({"secret": "his"})
    manager.store(session)
    assert send(f"fe_sessionid={token}; fe_sessionid={mine}").content == b"('', 'his')"
    assert send(f"fe_sessionid={mine}; fe_sessionid={token}").content == b"('', 'hers')"


def test_cookie_of_a_deeper_path_is_not_taken_for_that_of_the_site(token: str) -> None:
    """Attack: a page below /evil/ sets a cookie for its own path, which browsers send first."""
    deeper = replace(SCOPE, path="/evil/").sign("7" * 32, 0)
    assert send(f"fe_sessionid={deeper}; fe_sessionid={token}").content == b"('', 'hers')"
    assert_is_nobody(f"fe_sessionid={token}; fe_sessionid={deeper}")


# Kept


@pytest.fixture
def browser(superuser: Any) -> Client:
    """Where the superuser is logged in to the frontend."""
    client = Client()
    client.force_login(superuser)
    return client


def log_out(browser: Client, user: Any) -> None:
    visit(browser, django_auth.logout)


def renew(browser: Client, user: Any) -> None:
    visit(browser, lambda request: request.session.cycle_key())


def log_in_again(browser: Client, user: Any) -> None:
    visit(browser, lambda request: django_auth.login(request, user))


def log_in_as_another(browser: Client, user: Any) -> None:
    other = User.objects.get(username="alice")
    visit(browser, lambda request: django_auth.login(request, other))


def switch(browser: Client, user: Any) -> None:
    other = User.objects.get(username="alice")
    visit(browser, lambda request: auth.switch_user(request, other))


def switch_and_come_back(browser: Client, user: Any) -> None:
    switch(browser, user)
    visit(browser, auth.exit_switch_user)


def change_password(browser: Client, user: Any) -> None:
    user.set_password("new")
    user.save()


def change_password_here(browser: Client, user: Any) -> None:
    def view(request: Any) -> None:
        request.user.set_password("new")
        request.user.save()
        django_auth.update_session_auth_hash(request, request.user)

    visit(browser, view)


def deactivate(browser: Client, user: Any) -> None:
    user.is_active = False
    user.save()


def delete(browser: Client, user: Any) -> None:
    user.delete()


def revoke(browser: Client, user: Any) -> None:
    SessionManager.invalidate_all_sessions_by_user_id("FE", user.pk)


@pytest.mark.parametrize(
    "event",
    [
        log_out,
        renew,
        log_in_again,
        log_in_as_another,
        switch,
        switch_and_come_back,
        change_password,
        change_password_here,
        deactivate,
        delete,
        revoke,
    ],
    ids=lambda event: str(event.__name__),
)
def test_cookie_from_before_is_worth_nothing_afterwards(
    browser: Client,
    superuser: Any,
    django_capture_on_commit_callbacks: Any,
    event: Callable[[Client, Any], None],
) -> None:
    """Attack: replay, a stolen cookie is kept until its owner has gone, changed or renewed it."""
    kept = browser.cookies["fe_sessionid"].value
    with django_capture_on_commit_callbacks(execute=True):
        event(browser, superuser)
    response = send(f"fe_sessionid={kept}")
    assert response.content == b"('', None)"
    assert not response.cookies


def test_cookie_kept_from_before_a_logout_does_not_bring_its_data_back(browser: Client) -> None:
    """Attack: replay, and a view that writes: what it stores is a new session of the attacker's."""
    visit(browser, lambda request: request.session.update({"secret": "admin's"}))
    kept = browser.cookies["fe_sessionid"].value
    visit(browser, django_auth.logout)
    response = send(f"fe_sessionid={kept}", lambda request: request.session.update({"mine": 1}))
    new = response.cookies["fe_sessionid"].value
    assert SCOPE.resolve(new) not in (None, SCOPE.resolve(kept))
    assert send(f"fe_sessionid={new}").content == b"('', None)"
