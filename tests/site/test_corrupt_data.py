"""Stored bytes that nobody can read, or that say nonsense, shut out one session and no page."""

from __future__ import annotations

import json
import logging
import pickle
import zlib
from typing import Any

import pytest
from django.contrib import auth
from django.contrib.sessions.backends.base import UpdateError
from django.core.management import call_command
from django.urls import reverse

from tests.conftest import Clock
from tests.old_engines import OldSite
from tests.urls import visit
from usersessions import SessionManager, UserSessionManager
from usersessions.auth import (
    end_other_sessions,
    end_own_session,
    own_sessions,
    switch_user,
)
from usersessions.models import BackendSession, FrontendSession
from usersessions.test import Client

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.urls")]

LIST = "admin:django_usersessions_frontendsession_changelist"

LOGIN = {"_auth_user_id": "1", "_auth_user_backend": "x", "_auth_user_hash": "y"}


def with_meta(**meta: Any) -> bytes:
    return json.dumps({**LOGIN, "_usersessions": meta}).encode()


def with_data(**data: Any) -> bytes:
    return json.dumps({**LOGIN, **data}).encode()


CORRUPT = {
    "cut-off": b'{"basket":[1',
    "pickle": pickle.dumps({"basket": [1]}),
    "zlib": zlib.compress(b'{"basket":[1]}'),
    "signed-by-django": b"eyJ4IjoxfQ:1tXyZ:abc",
    "zero": b"\0",
    "utf-16": '{"basket":[1]}'.encode("utf-16"),
    "no-mapping": b"[1]",
    "text": b'"_auth_user_id"',
    "meta-is-text": b'{"_usersessions":"x"}',
    "too-deep": b'{"x":' * 20_000,
    "number-without-end": b'{"x":' + b"9" * 5000 + b"}",
    "login-as-text": with_meta(login_at="yesterday"),
    "login-too-late": with_meta(login_at=10**400),
    "expiry-as-list": with_meta(expires_at=[1]),
    "kept-as-float": with_meta(keep_until=1e300),
    "adopted-as-text": with_meta(adopted=""),
    "aside-as-number": with_meta(aside=3),
    "aside-of-lists": with_meta(aside={"data": [], "meta": []}),
    "back-hash-as-list": with_meta(back_hash=[1]),
    "browser-as-list": with_meta(user_agent=["Firefox"]),
    "custom-expiry-as-list": with_data(_session_expiry=[1]),
    "custom-expiry-as-no-number": with_data(_session_expiry=float("nan")),
    "custom-expiry-as-word": with_data(_session_expiry="soon"),
    "user-as-word": with_data(_auth_user_id="alice"),
    "user-as-list": with_data(_auth_user_id=[1]),
    "user-infinite": with_data(_auth_user_id=float("inf")),
    "user-zero": with_data(_auth_user_id=0),
}

every_kind = pytest.mark.parametrize("data", CORRUPT.values(), ids=CORRUPT)

#: One for each way in which it is found out.
SOME = ["cut-off", "no-mapping", "login-as-text", "user-as-word"]

some_kinds = pytest.mark.parametrize("data", [CORRUPT[kind] for kind in SOME], ids=SOME)


@pytest.fixture
def alices_browser(alice: Any) -> Client:
    browser = Client()
    visit(browser, lambda request: auth.login(request, alice))
    return browser


def corrupt(data: bytes) -> FrontendSession:
    """Have the one session of FE hold these bytes."""
    FrontendSession.objects.update(ses_data=data)
    return FrontendSession.objects.get()


def see(request: Any) -> Any:
    return request.user.pk, dict(request.session)


@every_kind
def test_corrupt_session_is_anonymous_and_left_for_inspection(
    alices_browser: Client, caplog: pytest.LogCaptureFixture, data: bytes
) -> None:
    row = corrupt(data)
    cookie = alices_browser.cookies["fe_sessionid"].value
    response = visit(alices_browser, see)
    assert response.content == b"(None, {})"
    assert not response.cookies
    [warning] = [r for r in caplog.records if r.name == "django.security.SuspiciousSession"]
    assert (warning.levelno, warning.getMessage()) == (
        logging.WARNING,
        f"The data of the FE session {row.ses_id[:8]} does not decode.",
    )
    assert FrontendSession.objects.values().get() == FrontendSession.objects.values().get(
        ses_data=data, ses_id=row.ses_id
    )
    assert alices_browser.cookies["fe_sessionid"].value == cookie


@some_kinds
def test_what_a_visitor_with_a_corrupt_session_stores_is_a_session_of_its_own(
    alices_browser: Client, data: bytes
) -> None:
    row = corrupt(data)
    before = alices_browser.cookies["fe_sessionid"].value
    response = visit(alices_browser, lambda request: request.session.update({"basket": [2]}))
    assert response.cookies["fe_sessionid"].value != before
    assert visit(alices_browser, see).content == b"(None, {'basket': [2]})"
    kept, own = FrontendSession.objects.order_by("-ses_userid")
    assert (kept.ses_id, bytes(kept.ses_data)) == (row.ses_id, data)
    assert (own.ses_userid, bytes(own.ses_data)) == (0, b'{"basket":[2]}')


@some_kinds
def test_whoever_has_a_corrupt_session_can_log_in_and_out(
    alices_browser: Client, alice: Any, data: bytes
) -> None:
    row = corrupt(data)
    visit(alices_browser, lambda request: auth.login(request, alice))
    shown = visit(alices_browser, lambda request: request.user.pk)
    assert shown.content == repr(alice.pk).encode()
    visit(alices_browser, auth.logout)
    assert visit(alices_browser, see).content == b"(None, {})"
    assert [bytes(left.ses_data) for left in FrontendSession.objects.all()] == [data]
    assert FrontendSession.objects.get().ses_id == row.ses_id


@some_kinds
def test_administrators_can_see_and_end_a_corrupt_session(
    alices_browser: Client, admin: Client, settings: Any, data: bytes
) -> None:
    settings.ROOT_URLCONF = "testproject.urls"
    row = corrupt(data)
    assert row.ses_id[:8] in admin.get(reverse(LIST)).content.decode()
    page = admin.get(reverse("admin:django_usersessions_frontendsession_change", args=[row.pk]))
    assert row.ses_id[:8] in page.content.decode()
    ending = {"action": "end_selected_sessions", "_selected_action": [row.pk]}
    assert admin.post(reverse(LIST), ending).status_code == 302
    assert not FrontendSession.objects.exists()


@some_kinds
def test_owner_of_a_corrupt_session_sees_the_others_and_can_end_it(
    alices_browser: Client, alice: Any, data: bytes
) -> None:
    row = corrupt(data)
    phone = Client()
    visit(phone, lambda request: auth.login(request, alice))

    def view(request: Any) -> Any:
        ended = end_own_session(request, row.ses_id)
        return own_sessions(request)[0].is_current, ended + end_other_sessions(request)

    assert visit(phone, view).content == b"(True, 1)"
    assert FrontendSession.objects.count() == 1


@some_kinds
def test_command_ends_a_corrupt_session_of_a_user(
    alices_browser: Client, superuser: Any, data: bytes
) -> None:
    corrupt(data)
    call_command("end_sessions", users=["admin"], verbosity=0)
    assert FrontendSession.objects.exists()
    call_command("end_sessions", everything=True, except_users=["alice"], interactive=False)
    assert FrontendSession.objects.exists()
    call_command("end_sessions", users=["alice"], verbosity=0)
    assert not FrontendSession.objects.exists()


@some_kinds
def test_double_login_passes_a_corrupt_session_of_the_user(
    alices_browser: Client, alice: Any, clock: Clock, data: bytes
) -> None:
    """The one that was sent last stays; it is found beside one that nobody can read."""
    corrupt(data)
    browser, double = Client(), Client()
    visit(browser, lambda request: request.session.update({"basket": [1]}))
    double.cookies["fe_sessionid"] = browser.cookies["fe_sessionid"].value

    def log_in_late(request: Any) -> None:
        assert request.session["basket"] == [1]
        clock.forward(1)
        visit(browser, lambda request: auth.login(request, alice))
        auth.login(request, alice)

    visit(double, log_in_late)
    shown = visit(browser, lambda request: request.user.pk)
    assert shown.content == repr(alice.pk).encode()
    assert FrontendSession.objects.count() == 2


@some_kinds
@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda request: request.session.update({"x": 1}), id="saved"),
        pytest.param(lambda request: request.session.cycle_key(), id="renewed"),
        pytest.param(lambda request: request.session.clear(), id="emptied"),
    ],
)
def test_session_that_becomes_corrupt_meanwhile_is_not_overwritten(
    alices_browser: Client, data: bytes, change: Any
) -> None:
    def view(request: Any) -> None:
        assert request.user.is_authenticated
        change(request)
        corrupt(data)

    response = visit(alices_browser, view)
    assert response.status_code == 200
    assert not response.cookies
    assert bytes(FrontendSession.objects.get().ses_data) == data


@some_kinds
def test_session_that_becomes_corrupt_is_not_overwritten_by_a_second_save(
    alices_browser: Client, data: bytes
) -> None:
    def view(request: Any) -> None:
        request.session["x"] = 1
        corrupt(data)
        with pytest.raises(UpdateError):
            request.session.save()

    assert not visit(alices_browser, view).cookies
    assert bytes(FrontendSession.objects.get().ses_data) == data


@some_kinds
def test_adoption_leaves_a_corrupt_session_in_the_new_place_alone(
    old_site: OldSite, alice: Any, data: bytes
) -> None:
    browser, late = Client(), Client()
    browser.cookies["sessionid"] = late.cookies["sessionid"] = old_site.store_session(alice)
    shown = visit(browser, lambda request: request.user.pk)
    assert shown.content == repr(alice.pk).encode()
    corrupt(data)
    assert visit(late, see).content == b"(None, {})"
    assert bytes(FrontendSession.objects.get().ses_data) == data


def test_switched_session_whose_data_is_nonsense_brings_nobody_back(
    alice: Any, superuser: Any
) -> None:
    """Whoever can write to the table cannot make a way back of nonsense."""
    browser = Client()
    visit(browser, lambda request: auth.login(request, superuser))
    visit(browser, lambda request: switch_user(request, alice))
    row = FrontendSession.objects.get()
    stored = json.loads(bytes(row.ses_data))
    for original in ([1], {"x": 1}, "admin", 10**30, float("inf"), -1, True, ""):
        corrupt(json.dumps({**stored, "backuserid": original}).encode())
        assert visit(browser, lambda request: request.user.pk).status_code == 200
    del stored["_usersessions"]["aside"]
    corrupt(json.dumps(stored).encode())
    assert visit(browser, see).content == b"(None, {})"


@pytest.mark.parametrize("timestamp", [0, 2**62])
def test_timestamp_that_no_calendar_knows_is_no_error(
    alices_browser: Client, admin: Client, settings: Any, timestamp: int
) -> None:
    FrontendSession.objects.update(ses_tstamp=timestamp)

    def view(request: Any) -> Any:
        request.session["x"] = 1
        return [found.expires_at.year for found in own_sessions(request)]

    assert visit(alices_browser, view).content == (b"[]" if timestamp == 0 else b"[9892]")
    FrontendSession.objects.update(ses_tstamp=timestamp)
    settings.ROOT_URLCONF = "testproject.urls"
    assert admin.get(reverse(LIST)).status_code == 200
    call_command("collect_session_garbage", verbosity=0)
    assert FrontendSession.objects.filter(ses_userid__gt=0).exists() is (timestamp > 0)


@pytest.mark.parametrize("seconds", [10**15, 10**400, float("inf"), -(10**15)])
def test_custom_expiry_beyond_the_calendar_is_its_last_or_first_day(
    client: Client, clock: Clock, seconds: int
) -> None:
    visit(client, lambda request: request.session.set_expiry(seconds))
    shown = visit(client, lambda request: "_session_expiry" in request.session)
    assert shown.content == (b"True" if seconds > 0 else b"False")


def test_session_without_data_is_empty_not_corrupt(
    alices_browser: Client, caplog: pytest.LogCaptureFixture
) -> None:
    corrupt(b"")
    assert visit(alices_browser, see).content == b"(None, {})"
    assert "does not decode" not in caplog.text


def test_corrupt_backend_session_is_sent_to_the_login(admin: Client, settings: Any) -> None:
    settings.ROOT_URLCONF = "testproject.urls"
    for data in CORRUPT.values():
        BackendSession.objects.update(ses_data=data)
        assert admin.get("/admin/").status_code == 302


def test_manager_lists_a_users_corrupt_sessions_by_record(
    alices_browser: Client, alice: Any
) -> None:
    for data in CORRUPT.values():
        corrupt(data)
        [record] = SessionManager.get_session_backend("FE").get_by_user(alice.pk)
        assert record["ses_data"] == data
        [same] = UserSessionManager.create("FE").backend.get_all()
        assert same == record
