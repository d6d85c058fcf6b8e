"""A request's way through the middleware: which session, which cookie, which statements."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from contextvars import Context
from http.cookies import Morsel
from itertools import count
from typing import Any

import jwt
import pytest
from django.contrib import auth
from django.core.exceptions import ImproperlyConfigured
from django.db import OperationalError, connection, transaction
from django.http import HttpResponse
from django.test import RequestFactory
from django.test.utils import CaptureQueriesContext

from tests.conftest import Clock, SessionQueries
from tests.urls import visit
from usersessions import DatabaseSessionBackend, SessionManager, UserSessionManager
from usersessions.backends.base import SessionBackend
from usersessions.conf import get_login_type
from usersessions.middleware import UserSessionMiddleware
from usersessions.models import BackendSession, FrontendSession
from usersessions.store import SessionStore
from usersessions.test import Client

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.urls")]

BASKET = {"apple": 3}


def put_basket(request: Any) -> None:
    request.session["basket"] = dict(BASKET)


def read_basket(request: Any) -> Any:
    return request.session.get("basket")


def log_in(user: Any) -> Any:
    return lambda request: auth.login(request, user)


def fe_rows() -> list[FrontendSession]:
    return list(FrontendSession.objects.all())


def session_cookies(response: Any) -> list[str]:
    return [name for name in response.cookies if name != "csrftoken"]


def the_cookie(response: Any, name: str = "fe_sessionid") -> Morsel[str]:
    assert session_cookies(response) == [name]
    return response.cookies[name]


def identifier_in(token: str) -> str:
    return str(jwt.decode(token, options={"verify_signature": False})["identifier"])


# Anonymous visitors


def test_first_visit_sets_no_cookie_and_stores_nothing(
    client: Client, session_queries: SessionQueries
) -> None:
    with session_queries:
        response = visit(client, read_basket)
    assert response.content == b"None"
    assert not response.cookies
    assert session_queries.kinds == []


def test_untouched_session_does_not_vary_the_response(client: Client) -> None:
    assert "Vary" not in visit(client, lambda request: "page").headers


def test_read_session_varies_the_response(client: Client) -> None:
    assert visit(client, read_basket).headers["Vary"] == "Cookie"


def test_setting_data_stores_one_row_and_sets_one_cookie(
    client: Client, session_queries: SessionQueries
) -> None:
    with session_queries:
        response = visit(client, put_basket)
    cookie = the_cookie(response)
    assert {key: value for key, value in cookie.items() if value} == {
        "path": "/",
        "httponly": True,
        "samesite": "Lax",
    }
    assert session_queries.kinds == ["INSERT"]
    (row,) = fe_rows()
    assert row.ses_userid == 0
    assert bytes(row.ses_data) == b'{"basket":{"apple":3}}'
    assert row.ses_id not in (cookie.value, identifier_in(cookie.value))


def test_reading_costs_one_query(client: Client, session_queries: SessionQueries) -> None:
    visit(client, put_basket)
    with session_queries:
        assert visit(client, read_basket).content == b"{'apple': 3}"
    assert session_queries.kinds == ["SELECT"]


def test_changing_costs_two_queries_and_sends_no_cookie(
    client: Client, session_queries: SessionQueries
) -> None:
    visit(client, put_basket)
    with session_queries:
        response = visit(client, lambda request: request.session.update({"coupon": "X"}))
    assert session_queries.kinds == ["SELECT", "UPDATE"]
    assert not response.cookies


def test_emptied_anonymous_session_loses_row_and_cookie(client: Client) -> None:
    visit(client, put_basket)
    response = visit(client, lambda request: request.session.pop("basket"))
    assert the_cookie(response)["max-age"] == 0
    assert fe_rows() == []


def test_session_that_was_created_on_purpose_stays_although_empty(client: Client) -> None:
    response = visit(client, lambda request: request.session.create())
    assert identifier_in(the_cookie(response).value)
    assert len(fe_rows()) == 1


def test_data_set_on_the_user_session_is_saved_too(client: Client) -> None:
    visit(client, lambda request: request.session.user_session.set("basket", BASKET))
    assert visit(client, read_basket).content == b"{'apple': 3}"


def test_nothing_is_saved_after_a_server_error(client: Client) -> None:
    def fail(request: Any) -> HttpResponse:
        put_basket(request)
        return HttpResponse(status=500)

    assert not visit(client, fail).cookies
    assert fe_rows() == []


def test_save_every_request_writes_an_unchanged_session(
    client: Client, session_queries: SessionQueries, settings: Any
) -> None:
    visit(client, put_basket)
    settings.SESSION_SAVE_EVERY_REQUEST = True
    with session_queries:
        visit(client, read_basket)
    assert session_queries.kinds == ["SELECT", "UPDATE"]


def test_save_every_request_writes_a_session_that_the_view_does_not_read_and_sends_its_cookie(
    client: Client, session_queries: SessionQueries, settings: Any
) -> None:
    visit(client, put_basket)
    settings.SESSION_SAVE_EVERY_REQUEST = True
    with session_queries:
        response = visit(client, lambda request: None)
    assert session_queries.kinds == ["SELECT", "UPDATE"]
    assert identifier_in(the_cookie(response).value)
    assert response["Vary"] == "Cookie"


def test_save_every_request_writes_nothing_after_a_server_error(
    client: Client, session_queries: SessionQueries, settings: Any
) -> None:
    visit(client, put_basket)
    settings.SESSION_SAVE_EVERY_REQUEST = True
    with session_queries:
        response = visit(client, lambda request: HttpResponse(status=500))
    assert (session_queries.kinds, session_cookies(response)) == ([], [])


def test_save_every_request_costs_a_visitor_without_session_nothing(
    client: Client, session_queries: SessionQueries, settings: Any
) -> None:
    settings.SESSION_SAVE_EVERY_REQUEST = True
    with session_queries:
        response = visit(client, lambda request: None)
    assert (session_queries.kinds, session_cookies(response)) == ([], [])
    assert not response.has_header("Vary")


# The 61 second touch


@pytest.mark.parametrize(
    ("seconds", "kinds"),
    [(61, ["SELECT"]), (62, ["SELECT", "UPDATE"])],
    ids=["within-grace", "after-grace"],
)
def test_unchanged_session_is_touched_at_most_every_61_seconds(
    client: Client, clock: Clock, session_queries: SessionQueries, seconds: int, kinds: list[str]
) -> None:
    visit(client, put_basket)
    clock.forward(seconds)
    with session_queries:
        visit(client, read_basket)
    assert session_queries.kinds == kinds


def test_custom_expiry_is_not_moved_by_a_touch(
    client: Client, clock: Clock, session_queries: SessionQueries
) -> None:
    visit(client, lambda request: request.session.set_expiry(300))
    clock.forward(120)
    with session_queries:
        visit(client, read_basket)
    assert session_queries.kinds == ["SELECT"]
    clock.forward(181)
    assert visit(client, lambda request: dict(request.session)).content == b"{}"


def test_session_that_is_only_said_to_be_modified_lives_longer(
    client: Client, clock: Clock, session_queries: SessionQueries
) -> None:
    def keep_alive(request: Any) -> None:
        request.session.modified = True

    visit(client, lambda request: request.session.set_expiry(300))
    clock.forward(200)
    with session_queries:
        visit(client, keep_alive)
    assert session_queries.kinds == ["SELECT", "UPDATE"]
    clock.forward(200)
    assert (
        visit(client, lambda request: dict(request.session)).content == b"{'_session_expiry': 300}"
    )


def test_session_that_a_visitor_does_not_have_is_not_made_by_modified(
    client: Client, session_queries: SessionQueries
) -> None:
    def keep_alive(request: Any) -> None:
        request.session.modified = True

    with session_queries:
        assert not visit(client, keep_alive).cookies
    assert session_queries.kinds == []


# Which login type


def test_stores_of_all_login_types_are_at_hand(client: Client) -> None:
    def view(request: Any) -> Any:
        return sorted(request.user_sessions), len(request.user_sessions)

    assert visit(client, view).content == b"(['BE', 'FE'], 2)"


def test_opening_another_store_costs_nothing(
    client: Client, session_queries: SessionQueries
) -> None:
    with session_queries:
        visit(client, lambda request: request.user_sessions["BE"])
    assert session_queries.kinds == []


def test_another_types_store_is_saved_with_its_own_cookie(client: Client) -> None:
    def view(request: Any) -> None:
        request.user_sessions["BE"]["x"] = 1

    cookie = the_cookie(visit(client, view), "be_sessionid")
    assert cookie["samesite"] == "Strict"
    assert BackendSession.objects.count() == 1
    assert fe_rows() == []


def test_wrong_settings_stop_the_site_at_start_up(settings: Any) -> None:
    settings.USERSESSIONS = {"FE": {"LOCK_IP": 5}}
    with pytest.raises(ImproperlyConfigured, match=r'\["LOCK_IP"\] must be an integer from 0 to 4'):
        UserSessionMiddleware(lambda request: HttpResponse())


def test_session_that_a_view_puts_in_place_of_ours_is_left_alone(client: Client) -> None:
    def view(request: Any) -> None:
        request.session = {"not": "ours"}

    assert not visit(client, view).cookies


def test_store_that_a_view_puts_in_place_of_ours_is_saved(client: Client) -> None:
    def view(request: Any) -> None:
        request.session = SessionStore(login_type=get_login_type("FE"))
        request.session["x"] = 1

    assert identifier_in(the_cookie(visit(client, view)).value)


# Cookies that are not good


def _token(key: bytes | str, algorithm: str = "HS256", **payload: Any) -> str:
    return jwt.encode(payload, key, algorithm=algorithm)


def _unsigned(header: dict[str, Any], payload: dict[str, Any]) -> str:
    parts = [json.dumps(part).encode() for part in (header, payload)]
    return ".".join(urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts) + "."


def _signed_for(login_type: str, **scope: Any) -> str:
    found = get_login_type(login_type)
    payload = {
        "identifier": "0" * 32,
        "scope": {"domain": "testserver", "hostOnly": True, "path": "/"} | scope,
    }
    return _token(found.keys.token_keys()[0], **payload)


FORGED = {
    "garbage": lambda: "garbage",
    "empty": lambda: "",
    "raw-identifier": lambda: "0" * 32,
    "three-dots": lambda: "...",
    "not-ascii": lambda: "\u00e4.\u00f6.\u00fc",
    "oversized": lambda: "a" * 100_000,
    "alg-none": lambda: _unsigned({"alg": "none"}, {"identifier": "0" * 32}),
    "alg-list": lambda: _unsigned({"alg": ["HS256"]}, {"identifier": "0" * 32}) + "AAAA",
    "nested-header": lambda: "W1tb" * 1000 + ".e30.AAAA",
    "other-key": lambda: _token("k" * 32, identifier="0" * 32),
    "other-login-type": lambda: _signed_for("BE"),
    "other-host": lambda: _signed_for("FE", domain="evil.example"),
    "other-path": lambda: _signed_for("FE", path="/other/"),
    "subdomains": lambda: _signed_for("FE", hostOnly=False),
}


@pytest.mark.parametrize("name", FORGED)
def test_forged_cookie_is_anonymous_costs_no_query_and_is_left_alone(
    client: Client, session_queries: SessionQueries, name: str
) -> None:
    """Attack: a cookie that this site has not signed, or not for this place."""
    UserSessionManager.create("FE").backend.set("0" * 32, {"ses_userid": 7, "ses_data": b"{}"})
    client.cookies["fe_sessionid"] = FORGED[name]()
    with session_queries:
        response = visit(client, lambda request: request.session.user_session.user_id)
    assert (response.status_code, response.content) == (200, b"None")
    assert session_queries.kinds == []
    assert not response.cookies


def test_well_signed_cookie_without_session_is_left_alone(client: Client) -> None:
    """A tab may hold the cookie from before a login: the browser's newer one must survive."""
    client.cookies["fe_sessionid"] = _signed_for("FE")
    response = visit(client, lambda request: dict(request.session))
    assert response.content == b"{}"
    assert not response.cookies


def test_cookie_that_this_site_never_signed_is_deleted_by_logout(client: Client) -> None:
    """As in Django: who logs out does not keep a useless cookie."""
    client.cookies["fe_sessionid"] = "abc"
    assert the_cookie(visit(client, auth.logout))["max-age"] == 0


def test_well_signed_cookie_without_session_is_not_deleted_by_logout(client: Client) -> None:
    client.cookies["fe_sessionid"] = _signed_for("FE")
    assert not visit(client, auth.logout).cookies


@pytest.mark.parametrize("host", ["evil.example", "under_score"])
def test_host_that_django_refuses_is_a_400(client: Client, host: str, settings: Any) -> None:
    """Attack: a Host header of the attacker's, to get a token for another domain."""
    settings.ALLOWED_HOSTS = ["testserver"]
    settings.MIDDLEWARE = ["usersessions.middleware.UserSessionMiddleware"]
    response = visit(client, put_basket, HTTP_HOST=host)
    assert response.status_code == 400
    assert fe_rows() == []


def test_error_page_of_a_refused_host_sees_an_anonymous_session(
    client: Client, settings: Any
) -> None:
    settings.ALLOWED_HOSTS = ["testserver"]
    settings.MIDDLEWARE = ["usersessions.middleware.UserSessionMiddleware"]
    visit(client, put_basket)
    assert visit(client, read_basket, HTTP_HOST="evil.example").content == b"None"


# Expiry and IP lock


def test_expired_row_is_left_to_collection(
    client: Client, clock: Clock, session_queries: SessionQueries
) -> None:
    visit(client, put_basket)
    clock.forward(86_401)
    with session_queries:
        response = visit(client, read_basket)
    assert (response.content, len(response.cookies)) == (b"None", 0)
    assert session_queries.kinds == ["SELECT"]
    assert len(fe_rows()) == 1


def test_session_locked_to_another_network_is_anonymous(client: Client, settings: Any) -> None:
    """Attack: a stolen cookie used from elsewhere."""
    settings.USERSESSIONS = {"FE": {"LOCK_IP": 2}}
    visit(client, put_basket, REMOTE_ADDR="198.51.100.7")
    assert fe_rows()[0].ses_iplock == "198.51.0.0"
    assert visit(client, read_basket, REMOTE_ADDR="198.51.9.9").content == b"{'apple': 3}"
    assert visit(client, read_basket, REMOTE_ADDR="203.0.113.1").content == b"None"


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("X-Forwarded-For", "198.51.100.7"),
        ("X-Forwarded-For", "198.51.100.7, 10.0.0.1"),
        ("X-Real-IP", "198.51.100.7"),
        ("X-Client-IP", "198.51.100.7"),
        ("X-Cluster-Client-IP", "198.51.100.7"),
        ("Client-IP", "198.51.100.7"),
        ("True-Client-IP", "198.51.100.7"),
        ("CF-Connecting-IP", "198.51.100.7"),
        ("Forwarded", "for=198.51.100.7"),
        ("Remote-Addr", "198.51.100.7"),
    ],
)
def test_spoofed_forwarded_header_does_not_pass_the_ip_lock(
    client: Client, settings: Any, header: str, value: str
) -> None:
    """Attack: a stolen cookie, and a header with the victim's address."""
    settings.USERSESSIONS = {"FE": {"LOCK_IP": 4}}
    visit(client, put_basket, REMOTE_ADDR="198.51.100.7")
    thief = {"REMOTE_ADDR": "203.0.113.1", "headers": {header: value}}
    assert visit(client, read_basket, **thief).content == b"None"
    victim = {"REMOTE_ADDR": "198.51.100.7", "headers": {header: "203.0.113.1"}}
    assert visit(client, read_basket, **victim).content == b"{'apple': 3}"


# Login


def test_login_gives_a_new_identifier_keeps_the_basket_and_leaves_one_row(
    client: Client, alice: Any
) -> None:
    before = identifier_in(the_cookie(visit(client, put_basket)).value)
    after = identifier_in(the_cookie(visit(client, log_in(alice))).value)
    assert before != after
    assert [row.ses_userid for row in fe_rows()] == [alice.pk]
    assert visit(client, read_basket).content == b"{'apple': 3}"


def test_login_of_an_anonymous_visitor_with_data_costs_one_read_and_one_update(
    client: Client, alice: Any, session_queries: SessionQueries
) -> None:
    visit(client, put_basket)
    with session_queries:
        visit(client, log_in(alice))
    assert session_queries.kinds == ["SELECT", "UPDATE"]


def test_login_without_session_costs_one_insert(
    client: Client, alice: Any, session_queries: SessionQueries
) -> None:
    with session_queries:
        visit(client, log_in(alice))
    assert session_queries.kinds == ["INSERT"]


def test_session_key_is_the_new_identifier_right_after_login(client: Client, alice: Any) -> None:
    visit(client, put_basket)

    def view(request: Any) -> Any:
        old = request.session.session_key
        auth.login(request, alice)
        new = request.session.session_key
        return old != new, request.session.exists(old), request.session.user_session.user_id

    assert visit(client, view).content == f"(True, False, {alice.pk})".encode()


def test_login_of_the_user_who_is_logged_in_renews_the_identifier(
    client: Client, alice: Any
) -> None:
    first = the_cookie(visit(client, log_in(alice))).value
    second = the_cookie(visit(client, log_in(alice))).value
    assert identifier_in(first) != identifier_in(second)
    assert len(fe_rows()) == 1


def test_another_users_data_does_not_survive_a_login(client: Client, alice: Any, bob: Any) -> None:
    visit(client, log_in(alice))
    visit(client, put_basket)
    visit(client, log_in(bob))
    assert visit(client, read_basket).content == b"None"
    assert [row.ses_userid for row in fe_rows()] == [bob.pk]


def test_exception_after_login_leaves_the_anonymous_session_and_basket(
    client: Client, alice: Any
) -> None:
    cookie = the_cookie(visit(client, put_basket)).value

    def fail(request: Any) -> None:
        auth.login(request, alice)
        raise RuntimeError

    client.raise_request_exception = False
    response = visit(client, fail)
    assert (response.status_code, session_cookies(response)) == (500, [])
    assert client.cookies["fe_sessionid"].value == cookie
    assert visit(client, read_basket).content == b"{'apple': 3}"
    assert [row.ses_userid for row in fe_rows()] == [0]


def test_user_id_taken_out_by_hand_makes_the_session_anonymous(client: Client, alice: Any) -> None:
    before = identifier_in(the_cookie(visit(client, log_in(alice))).value)
    visit(client, put_basket)
    after = identifier_in(
        the_cookie(visit(client, lambda request: request.session.pop(auth.SESSION_KEY))).value
    )
    assert before != after
    assert [row.ses_userid for row in fe_rows()] == [0]


def test_backend_and_frontend_logins_do_not_touch_each_other(
    client: Client, alice: Any, editor: Any
) -> None:
    visit(client, log_in(alice))
    visit(client, log_in(editor), "/admin/")

    def who(request: Any) -> Any:
        return request.user.username

    assert visit(client, who).content == b"'alice'"
    assert visit(client, who, "/admin/").content == b"'editor'"
    visit(client, auth.logout, "/admin/")
    assert visit(client, who).content == b"'alice'"
    assert visit(client, who, "/admin/").content == b"''"


# Logout


def test_logout_leaves_no_row_deletes_the_cookie_and_costs_one_delete(
    client: Client, alice: Any, session_queries: SessionQueries
) -> None:
    visit(client, log_in(alice))
    with session_queries:
        response = visit(client, auth.logout)
    cookie = the_cookie(response)
    assert (cookie.value, cookie["max-age"], cookie["path"], cookie["samesite"]) == (
        "",
        0,
        "/",
        "Lax",
    )
    assert session_queries.kinds == ["SELECT", "DELETE"]
    assert fe_rows() == []


def test_flush_of_a_session_that_nobody_read_costs_one_delete(
    client: Client, session_queries: SessionQueries
) -> None:
    visit(client, put_basket)
    with session_queries:
        response = visit(client, lambda request: request.session.flush())
    assert session_queries.kinds == ["DELETE"]
    assert the_cookie(response)["max-age"] == 0


def test_logout_holds_although_the_view_fails_afterwards(client: Client, alice: Any) -> None:
    visit(client, log_in(alice))

    def fail(request: Any) -> None:
        auth.logout(request)
        raise RuntimeError

    client.raise_request_exception = False
    response = visit(client, fail)
    assert response.status_code == 500
    assert the_cookie(response)["max-age"] == 0
    assert fe_rows() == []


@pytest.mark.django_db(transaction=True)
def test_logout_holds_under_atomic_requests(
    client: Client, alice: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attack: the same, with Django's own setting."""
    visit(client, log_in(alice))
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)

    def fail(request: Any) -> None:
        auth.logout(request)
        raise RuntimeError

    client.raise_request_exception = False
    assert the_cookie(visit(client, fail))["max-age"] == 0
    assert fe_rows() == []


@pytest.mark.django_db(transaction=True)
def test_logout_outside_of_a_transaction_is_not_repeated(
    client: Client, alice: Any, session_queries: SessionQueries
) -> None:
    visit(client, log_in(alice))
    with session_queries:
        visit(client, auth.logout)
    assert session_queries.kinds == ["SELECT", "DELETE"]


@pytest.mark.django_db(transaction=True)
def test_login_saved_in_a_committed_transaction_sends_its_cookie_on_failure_too(
    client: Client, alice: Any
) -> None:
    visit(client, put_basket)

    def fail(request: Any) -> None:
        with transaction.atomic():
            auth.login(request, alice)
            request.session.save()
        raise RuntimeError

    client.raise_request_exception = False
    assert identifier_in(the_cookie(visit(client, fail)).value)
    assert visit(client, read_basket).content == b"{'apple': 3}"


# Two tabs


def test_answer_to_a_cookie_from_before_the_login_neither_sets_nor_deletes_one(
    client: Client, other_client: Client, alice: Any
) -> None:
    client.cookies["fe_sessionid"] = the_cookie(visit(other_client, put_basket)).value
    visit(client, log_in(alice))
    assert not visit(other_client, read_basket).cookies


# Cookie attributes


def test_secure_can_be_forced_and_domain_and_path_set(client: Client, settings: Any) -> None:
    settings.USERSESSIONS = {
        "FE": {"COOKIE_SECURE": True, "COOKIE_DOMAIN": "testserver", "COOKIE_PATH": "/shop/"}
    }
    cookie = the_cookie(visit(client, put_basket, "/shop/"))
    assert (cookie["secure"], cookie["domain"], cookie["path"]) == (True, "testserver", "/shop/")
    assert jwt.decode(cookie.value, options={"verify_signature": False})["scope"] == {
        "domain": "testserver",
        "hostOnly": False,
        "path": "/shop/",
    }


SET_AND_DELETED = [
    pytest.param(
        {},
        False,
        "fe_sessionid={value}{expires}; HttpOnly{max_age}; Path=/; SameSite=Lax",
        id="plain",
    ),
    pytest.param(
        {},
        True,
        "fe_sessionid={value}{expires}; HttpOnly{max_age}; Path=/; SameSite=Lax; Secure",
        id="https",
    ),
    pytest.param(
        {"COOKIE_DOMAIN": "testserver", "COOKIE_PATH": "/shop/", "COOKIE_SAMESITE": "Strict"},
        False,
        "fe_sessionid={value}; Domain=testserver{expires}; HttpOnly{max_age}; Path=/shop/; "
        "SameSite=Strict",
        id="domain-and-path",
    ),
    *(
        pytest.param(
            {"COOKIE_NAME": name, "COOKIE_SECURE": True},
            is_https,
            name + "={value}{expires}; HttpOnly{max_age}; Path=/; SameSite=Lax; Secure",
            id=f"{name}{'https' if is_https else 'behind-a-proxy'}",
        )
        for name in ("__Host-", "__Secure-", "__Http-", "__Host-Http-", "__hOsT-", "__SECURE-")
        for is_https in (True, False)
    ),
]


@pytest.mark.parametrize(("cookie", "is_https", "header"), SET_AND_DELETED)
def test_cookie_is_deleted_as_browsers_demand(
    client: Client, settings: Any, cookie: dict[str, Any], is_https: bool, header: str
) -> None:
    """Browsers hold a deletion to the rules of the prefix, too: one without ``Secure`` leaves the
    cookie of a logged-out session where it is."""
    settings.USERSESSIONS = {"FE": cookie}
    name = cookie.get("COOKIE_NAME", "fe_sessionid")
    set_cookie = the_cookie(visit(client, put_basket, "/shop/", secure=is_https), name)
    assert set_cookie.OutputString() == header.format(
        value=set_cookie.value, expires="", max_age=""
    )
    deletion = the_cookie(visit(client, auth.logout, "/shop/", secure=is_https), name)
    expires = "; expires=Thu, 01 Jan 1970 00:00:00 GMT"
    if "http-" not in name.lower():  # where no browser asks for it, as in Django
        header = header.replace(" HttpOnly", "").replace(";{", "{")
    assert deletion.OutputString() == header.format(
        value='""', expires=expires, max_age="; Max-Age=0"
    )


@pytest.mark.parametrize(
    "cookie",
    [
        pytest.param(
            {"COOKIE_DOMAIN": ".".join(["d" * 63] * 3 + ["d" * 61]), "COOKIE_PATH": "/p" * 512},
            id="domain-and-path",
        ),
        pytest.param({"COOKIE_PATH": "/" + '"' * 1023}, id="escapes"),
    ],
)
def test_cookie_stays_below_4096_bytes_whatever_is_set(
    client: Client, settings: Any, cookie: dict[str, Any]
) -> None:
    """OWASP ASVS 5.0, 3.3.5: browsers drop a longer one."""
    name = "n" * 256
    settings.ALLOWED_HOSTS = ["*"]
    settings.USERSESSIONS = {"FE": {"COOKIE_NAME": name, **cookie}}
    host = ".".join(["h" * 63] * 3 + ["h" * 61])
    assert len(host) == 253  # no name in the DNS is longer
    value = the_cookie(visit(client, put_basket, HTTP_HOST=host), name).value
    assert len(name) + len(value) < 4096
    answer = visit(Client(), read_basket, HTTP_HOST=host, HTTP_COOKIE=f"{name}={value}")
    assert answer.content == b"{'apple': 3}"


def test_identifier_format_puts_the_identifier_itself_into_the_cookie(
    client: Client, settings: Any
) -> None:
    settings.USERSESSIONS = {"FE": {"COOKIE_FORMAT": "identifier"}}
    cookie = the_cookie(visit(client, put_basket))
    assert len(cookie.value) == 32
    assert visit(client, read_basket).content == b"{'apple': 3}"


def test_identifier_format_takes_nothing_but_identifiers(
    client: Client, settings: Any, session_queries: SessionQueries
) -> None:
    settings.USERSESSIONS = {"FE": {"COOKIE_FORMAT": "identifier"}}
    client.cookies["fe_sessionid"] = "0" * 31
    with session_queries:
        assert visit(client, read_basket).content == b"None"
    assert session_queries.kinds == []


@pytest.fixture
def remembered(client: Client, alice: Any, settings: Any, clock: Clock) -> Client:
    settings.USERSESSIONS = {"FE": {"LIFETIME": 604_800, "PERMANENT_LOGIN": "always"}}
    assert the_cookie(visit(client, log_in(alice)))["max-age"] == 604_800
    assert fe_rows()[0].ses_permanent
    return client


def test_permanent_cookie_is_sent_again_with_every_touch(remembered: Client, clock: Clock) -> None:
    assert not visit(remembered, read_basket).cookies
    clock.forward(62)
    assert the_cookie(visit(remembered, read_basket))["max-age"] == 604_800
    assert the_cookie(visit(remembered, put_basket))["max-age"] == 604_800


def test_late_answer_does_not_bring_a_renewed_permanent_cookie_back(
    remembered: Client, clock: Clock
) -> None:
    """Two tabs: one gets a new identifier while the other is still reading."""
    clock.forward(62)

    def slow_view(request: Any) -> None:
        read_basket(request)
        other_tab = SessionStore(request.COOKIES["fe_sessionid"])
        other_tab.cycle_key()
        other_tab.save()

    assert not visit(remembered, slow_view).cookies


def test_expiry_of_its_own_is_the_cookies_max_age(client: Client, clock: Clock) -> None:
    response = visit(client, lambda request: request.session.set_expiry(300))
    assert the_cookie(response)["max-age"] == 300


def test_expiry_at_browser_close_gives_a_cookie_without_max_age(client: Client) -> None:
    visit(client, lambda request: request.session.set_expiry(300))
    response = visit(client, lambda request: request.session.set_expiry(0))
    assert the_cookie(response)["max-age"] == ""


def test_custom_expiry_taken_off_sends_the_cookie_again(client: Client) -> None:
    def first(request: Any) -> None:
        put_basket(request)
        request.session.set_expiry(300)

    visit(client, first)
    response = visit(client, lambda request: request.session.set_expiry(None))
    assert the_cookie(response)["max-age"] == ""


# Collection along the way


@pytest.mark.django_db(transaction=True)
def test_storing_request_collects_one_batch_with_the_set_probability(
    client: Client, settings: Any, session_queries: SessionQueries
) -> None:
    settings.USERSESSIONS = {"FE": {"GC_PROBABILITY": 100}}
    UserSessionManager.create("FE").backend.set("0" * 32, {"ses_tstamp": 1, "ses_data": b"{}"})
    visit(client, put_basket)
    assert len(fe_rows()) == 1
    with session_queries:
        visit(client, read_basket)
    assert session_queries.kinds == ["SELECT"]


def test_nothing_is_collected_inside_a_transaction(client: Client, settings: Any) -> None:
    settings.USERSESSIONS = {"FE": {"GC_PROBABILITY": 100}}
    UserSessionManager.create("FE").backend.set("0" * 32, {"ses_tstamp": 1, "ses_data": b"{}"})
    visit(client, put_basket)
    assert len(fe_rows()) == 2


# By hand


def test_process_request_and_process_response_work_on_their_own(alice: Any) -> None:
    """As django.utils.decorators.decorator_from_middleware calls them."""
    middleware = UserSessionMiddleware(lambda request: HttpResponse())
    request = RequestFactory().get("/")
    middleware.process_request(request)
    put_basket(request)
    response = middleware.process_response(request, HttpResponse())
    assert identifier_in(the_cookie(response).value)


def test_no_session_statement_hides_from_query_capturing(client: Client) -> None:
    with CaptureQueriesContext(connection) as queries:
        visit(client, put_basket)
    assert len(queries) == 1


def test_emptied_session_that_another_request_filled_meanwhile_stays(client: Client) -> None:
    visit(client, put_basket)

    def slow_view(request: Any) -> None:
        del request.session["basket"]
        theirs = SessionStore(request.COOKIES["fe_sessionid"])
        theirs["theirs"] = 2
        theirs.save()

    assert not visit(client, slow_view).cookies
    response = visit(client, lambda request: dict(request.session))
    assert response.content == b"{'theirs': 2}"


def test_emptied_session_that_another_request_changed_but_did_not_fill_goes(
    client: Client,
) -> None:
    visit(client, put_basket)

    def slow_view(request: Any) -> None:
        del request.session["basket"]
        theirs = SessionStore(request.COOKIES["fe_sessionid"])
        theirs["basket"] = {"pear": 1}
        theirs.save()

    assert the_cookie(visit(client, slow_view))["max-age"] == 0
    assert fe_rows() == []


def test_emptied_session_that_others_keep_changing_is_stored_empty(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    visit(client, put_basket)
    remove, changes = SessionBackend.remove, count()

    def change_it_first(backend: SessionBackend, identifier: str, **expected: Any) -> bool:
        backend.update(identifier, {"ses_data": b'{"basket":%d}' % next(changes)})
        return remove(backend, identifier, **expected)

    monkeypatch.setattr(SessionBackend, "remove", change_it_first)
    visit(client, lambda request: request.session.pop("basket"))
    assert [bytes(row.ses_data) for row in fe_rows()] == [b"{}"]


def test_emptied_session_that_another_tab_has_renewed_leaves_the_cookie_alone(
    client: Client,
) -> None:
    """Two tabs: one takes the last thing out of the basket while the other logs in."""
    visit(client, put_basket)

    def slow_view(request: Any) -> None:
        del request.session["basket"]
        other_tab = SessionStore(request.COOKIES["fe_sessionid"])
        other_tab.cycle_key()
        other_tab.save()

    assert not visit(client, slow_view).cookies
    assert len(fe_rows()) == 1


# What the view does to the session by itself


def test_deleted_session_loses_its_cookie_though_nobody_read_it(client: Client) -> None:
    visit(client, put_basket)
    response = visit(client, lambda request: request.session.delete())
    assert the_cookie(response)["max-age"] == 0
    assert fe_rows() == []


def test_changes_to_a_session_that_the_view_deleted_are_dropped(client: Client) -> None:
    visit(client, put_basket)

    def view(request: Any) -> None:
        request.session["x"] = 1
        request.session.delete()

    assert the_cookie(visit(client, view))["max-age"] == 0
    assert fe_rows() == []


def test_login_whose_session_the_view_deletes_is_none(client: Client, alice: Any) -> None:
    """A view that takes a login back, for a second factor say, must not leave the person in."""

    def view(request: Any) -> None:
        auth.login(request, alice)
        request.session.delete()

    assert "fe_sessionid" not in visit(client, view).cookies
    assert fe_rows() == []


def test_data_that_changes_in_place_after_the_views_own_save_is_saved(client: Client) -> None:
    def view(request: Any) -> None:
        request.session["basket"] = {}
        request.session.save()
        request.session["basket"]["apple"] = 3

    visit(client, view)
    assert visit(client, read_basket).content == b"{'apple': 3}"


def test_views_own_save_is_not_repeated_without_need(
    client: Client, session_queries: SessionQueries
) -> None:
    def view(request: Any) -> None:
        put_basket(request)
        request.session.save()

    with session_queries:
        visit(client, view)
    assert session_queries.kinds == ["INSERT"]


@pytest.mark.django_db(transaction=True)
def test_save_that_a_transaction_took_back_is_not_made_again_after_a_failure(
    client: Client,
) -> None:
    visit(client, put_basket)

    def view(request: Any) -> HttpResponse:
        with transaction.atomic():
            request.session["coupon"] = "X"
            request.session.save()
            transaction.set_rollback(True)
        return HttpResponse(status=500)

    visit(client, view)
    response = visit(client, lambda request: sorted(request.session.keys()))
    assert response.content == b"['basket']"


def test_session_that_somebody_else_renewed_can_be_adopted(client: Client, alice: Any) -> None:
    visit(client, log_in(alice))

    def view(request: Any) -> None:
        kept = SessionManager.invalidate_all_sessions_by_user_id(
            "FE", alice.pk, keep=request.session.user_session
        )
        request.session.continue_with(kept)

    assert identifier_in(the_cookie(visit(client, view)).value)
    assert visit(client, lambda request: request.user.username).content == b"'alice'"


def test_session_elevated_by_the_manager_alone_stays_bound(client: Client, alice: Any) -> None:
    def view(request: Any) -> None:
        session = UserSessionManager.create("FE").elevate_to_fixated_user_session(
            request.session.user_session, alice.pk
        )
        request.session.continue_with(session)

    visit(client, view)
    visit(client, put_basket)
    assert [row.ses_userid for row in fe_rows()] == [alice.pk]


# When things fail


@pytest.mark.django_db(transaction=True)
def test_failing_collection_does_not_cost_the_visitor_the_cookie(
    client: Client, settings: Any, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    settings.USERSESSIONS = {"FE": {"GC_PROBABILITY": 100}}

    def fail(backend: SessionBackend, *args: Any) -> Any:
        raise OperationalError("disk full")

    monkeypatch.setattr(DatabaseSessionBackend, "remove_all", fail)
    assert identifier_in(the_cookie(visit(client, put_basket)).value)
    assert "Collecting expired FE sessions failed." in caplog.text


def test_failure_of_one_session_does_not_keep_the_other_from_being_stored(
    client: Client,
) -> None:
    def view(request: Any) -> None:
        request.session["cannot be stored"] = object()
        request.user_sessions["BE"]["x"] = 1

    client.raise_request_exception = False
    assert visit(client, view).status_code == 500
    assert BackendSession.objects.count() == 1
    assert fe_rows() == []


def test_user_id_that_is_no_key_is_named(client: Client) -> None:
    def view(request: Any) -> None:
        request.session[auth.SESSION_KEY] = "abc"

    with pytest.raises(ValueError, match="must be the primary key of a user, not 'abc'"):
        visit(client, view)


# A new SECRET_KEY


@pytest.fixture
def rotated(client: Client, clock: Clock, settings: Any) -> str:
    """Change SECRET_KEY while a visitor has a session; return the row's hash from before."""
    visit(client, put_basket)
    (row,) = fe_rows()
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "the key that came after" * 3
    clock.forward(62)
    return row.ses_id


def test_row_and_cookie_move_to_the_new_key_as_they_are_used(
    client: Client, rotated: str, settings: Any, session_queries: SessionQueries
) -> None:
    with session_queries:
        response = visit(client, read_basket)
    assert response.content == b"{'apple': 3}"
    assert session_queries.kinds == ["SELECT", "UPDATE"]
    assert the_cookie(response)["max-age"] == ""
    assert [row.ses_id for row in fe_rows()] != [rotated]
    settings.SECRET_KEY_FALLBACKS = []
    assert visit(client, read_basket).content == b"{'apple': 3}"


@pytest.mark.parametrize("expiry", [None, 604_800], ids=["just-used", "with-expiry-of-its-own"])
def test_session_that_is_only_read_moves_to_the_new_key_though_no_touch_is_due(
    client: Client,
    clock: Clock,
    settings: Any,
    session_queries: SessionQueries,
    expiry: int | None,
) -> None:
    visit(client, put_basket)
    visit(client, lambda request: request.session.set_expiry(expiry))
    (before,) = FrontendSession.objects.values()
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "the key that came after" * 3
    with session_queries:
        assert the_cookie(visit(client, read_basket)).value
    assert session_queries.kinds == ["SELECT", "UPDATE"]
    (after,) = FrontendSession.objects.values()
    assert {key for key in before if before[key] != after[key]} == {"ses_id"}
    with session_queries:
        assert not visit(client, read_basket).cookies
    assert session_queries.kinds == ["SELECT"]
    settings.SECRET_KEY_FALLBACKS = []
    assert visit(client, read_basket).content == b"{'apple': 3}"


def test_cookie_without_signature_is_not_sent_again_for_a_new_key(
    client: Client, clock: Clock, settings: Any
) -> None:
    settings.USERSESSIONS = {"FE": {"COOKIE_FORMAT": "identifier"}}
    visit(client, put_basket)
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "the key that came after" * 3
    clock.forward(62)
    response = visit(client, read_basket)
    assert (response.content, bool(response.cookies)) == (b"{'apple': 3}", False)


# Saved by the view, in a transaction


def in_a_transaction(view: Any) -> Any:
    """As ATOMIC_REQUESTS does it."""
    return transaction.atomic(view)


@pytest.mark.django_db(transaction=True)
def test_login_as_another_user_after_the_views_own_save_is_stored(
    client: Client, alice: Any, bob: Any
) -> None:
    visit(client, log_in(alice))

    def view(request: Any) -> None:
        request.session["x"] = 1
        request.session.save()
        auth.login(request, bob)

    visit(client, in_a_transaction(view))
    assert [row.ses_userid for row in fe_rows()] == [bob.pk]
    assert visit(client, lambda request: request.user.username).content == b"'bob'"


@pytest.mark.django_db(transaction=True)
def test_data_after_the_views_own_save_and_logout_is_stored(client: Client, alice: Any) -> None:
    visit(client, log_in(alice))

    def view(request: Any) -> None:
        request.session["x"] = 1
        request.session.save()
        auth.logout(request)
        request.session["bye"] = 1

    visit(client, in_a_transaction(view))
    assert visit(client, lambda request: dict(request.session)).content == b"{'bye': 1}"


@pytest.mark.django_db(transaction=True)
def test_logout_after_the_views_own_renewal_holds_although_both_are_rolled_back(
    client: Client, alice: Any
) -> None:
    """Attack: the session is back under the identifier from before the view's own save."""
    visit(client, log_in(alice))

    def view(request: Any) -> None:
        request.session.cycle_key()
        request.session.save()
        auth.logout(request)
        raise RuntimeError

    client.raise_request_exception = False
    visit(client, in_a_transaction(view))
    assert fe_rows() == []


@pytest.mark.django_db(transaction=True)
def test_session_that_ended_after_the_views_own_save_was_committed_stays_ended(
    client: Client, alice: Any
) -> None:
    """Attack: a login that is revoked in the same request comes back with the response."""

    def view(request: Any) -> None:
        auth.login(request, alice)
        request.session.save()
        alice.is_active = False
        alice.save()

    assert session_cookies(visit(client, in_a_transaction(view))) == ["fe_sessionid"]
    assert fe_rows() == []


@pytest.mark.django_db(transaction=True)
def test_what_others_store_after_the_views_own_save_was_committed_stays(client: Client) -> None:
    visit(client, put_basket)

    def view(request: Any) -> None:
        with transaction.atomic():
            request.session["basket"] = {"apple": 1}
            request.session.save()
        theirs = SessionStore(request.COOKIES["fe_sessionid"])
        theirs["basket"] = {"apple": 1, "pear": 9}
        theirs.save()

    visit(client, view)
    assert visit(client, read_basket).content == b"{'apple': 1, 'pear': 9}"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("has_session", [True, False])
def test_second_save_after_a_rollback_stores_what_the_first_had(
    client: Client, has_session: bool
) -> None:
    if has_session:
        visit(client, put_basket)

    def view(request: Any) -> None:
        request.session["a"] = 1
        with transaction.atomic():
            request.session.save()
            transaction.set_rollback(True)
        request.session["b"] = 2
        request.session.save()

    visit(client, view)
    response = visit(client, lambda request: {"a", "b"} <= set(request.session.keys()))
    assert response.content == b"True"


@pytest.mark.django_db(transaction=True)
def test_adopted_session_whose_renewal_was_rolled_back_keeps_the_old_cookie(
    client: Client, alice: Any
) -> None:
    visit(client, log_in(alice))

    def view(request: Any) -> None:
        kept = SessionManager.invalidate_all_sessions_by_user_id(
            "FE", alice.pk, keep=request.session.user_session
        )
        request.session.continue_with(kept)
        raise RuntimeError

    client.raise_request_exception = False
    assert session_cookies(visit(client, in_a_transaction(view))) == []
    assert visit(client, lambda request: request.user.username).content == b"'alice'"


def test_save_in_a_savepoint_that_is_kept_is_not_taken_for_rolled_back(
    client: Client, session_queries: SessionQueries
) -> None:
    """As under ATOMIC_REQUESTS inside a TestCase."""
    visit(client, put_basket)

    def view(request: Any) -> None:
        request.session["x"] = 1
        request.session.save()

    with session_queries:
        visit(client, in_a_transaction(view))
    assert session_queries.kinds == ["SELECT", "UPDATE"]


# Odd orders


def test_custom_expiry_of_a_request_that_failed_sends_no_cookie(client: Client) -> None:
    visit(client, put_basket)

    def fail(request: Any) -> HttpResponse:
        request.session.set_expiry(300)
        return HttpResponse(status=500)

    assert not visit(client, fail).cookies


def test_failure_of_one_session_does_not_cost_another_its_cookie(
    client: Client, alice: Any
) -> None:
    visit(client, put_basket)

    def view(request: Any) -> None:
        auth.login(request, alice)
        request.user_sessions["BE"]["cannot be stored"] = object()

    client.raise_request_exception = False
    response = visit(client, view)
    assert (response.status_code, session_cookies(response)) == (500, ["fe_sessionid"])
    assert visit(client, read_basket).content == b"{'apple': 3}"


def test_login_over_another_users_session_looks_for_no_twin(
    client: Client, alice: Any, bob: Any, session_queries: SessionQueries
) -> None:
    visit(client, log_in(alice))
    with session_queries:
        visit(client, log_in(bob))
    assert session_queries.kinds == ["SELECT", "DELETE", "INSERT"]


def test_loading_again_after_a_save_does_not_forget_the_cookie(client: Client) -> None:
    def view(request: Any) -> None:
        put_basket(request)
        request.session.save()
        request.session.load()

    assert identifier_in(the_cookie(visit(client, view)).value)


def test_loading_again_after_a_login_that_was_not_saved_does_not_forget_the_cookie(
    client: Client, alice: Any
) -> None:
    def view(request: Any) -> None:
        put_basket(request)
        request.session.save()
        auth.login(request, alice)
        request.session.load()

    visit(client, view)
    assert visit(client, read_basket).content == b"{'apple': 3}"


def test_session_created_empty_survives_save_every_request(client: Client, settings: Any) -> None:
    settings.SESSION_SAVE_EVERY_REQUEST = True
    visit(client, lambda request: request.session.create())
    visit(client, read_basket)
    assert len(fe_rows()) == 1


def test_login_that_is_cleared_in_the_same_request_binds_nobody(client: Client, alice: Any) -> None:
    def view(request: Any) -> None:
        auth.login(request, alice)
        request.session.clear()
        request.session["x"] = 1

    visit(client, view)
    assert [row.ses_userid for row in fe_rows()] == [0]


def test_key_that_is_cycled_after_a_deletion_starts_a_session_of_its_own(client: Client) -> None:
    visit(client, put_basket)

    def view(request: Any) -> None:
        read_basket(request)
        request.session.delete()
        request.session.cycle_key()

    assert identifier_in(the_cookie(visit(client, view)).value)
    assert visit(client, read_basket).content == b"{'apple': 3}"


def test_session_stored_again_on_purpose_keeps_its_cookie(client: Client) -> None:
    visit(client, put_basket)

    def view(request: Any) -> None:
        read_basket(request)
        request.session.delete()
        request.session.save(must_create=True)

    assert identifier_in(the_cookie(visit(client, view)).value)
    assert visit(client, read_basket).content == b"{'apple': 3}"


@pytest.mark.parametrize("logs_in", [False, True], ids=["visitor", "login"])
def test_session_stored_without_the_requests_context_is_locked_as_well(
    client: Client, alice: Any, settings: Any, logs_in: bool
) -> None:
    """Attack: use a stolen cookie of a session that a thread pool of the site has stored."""
    settings.USERSESSIONS = {"FE": {"LOCK_IP": 4}}

    def store(request: Any) -> None:
        request.session["x"] = 1
        if logs_in:
            auth.login(request, alice, "django.contrib.auth.backends.ModelBackend")
        request.session.save()

    visit(client, lambda request: Context().run(store, request))
    assert FrontendSession.objects.get().ses_iplock == "127.0.0.1"
