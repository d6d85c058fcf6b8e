"""What our test clients and Django's own have in common.

Django's put ``session_key`` into the cookie ``SESSION_COOKIE_NAME``.
"""

from __future__ import annotations

from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django import test as djangos

from tests.site.test_client import put_basket, read_basket, who
from tests.urls import visit
from usersessions import test as ours
from usersessions.models import FrontendSession

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.urls")]


class WaitingClient:
    """Waits for an ``AsyncClient``, so that the tests of ``Client`` are tests of it, too."""

    def __init__(self, client: djangos.AsyncClient) -> None:
        self.client = client

    def get(self, path: str) -> Any:
        return async_to_sync(self.client.get)(path)

    def login(self, **credentials: str) -> bool:
        return async_to_sync(self.client.alogin)(**credentials)

    def force_login(self, user: Any) -> None:
        async_to_sync(self.client.aforce_login)(user)

    def logout(self) -> None:
        async_to_sync(self.client.alogout)()

    @property
    def session(self) -> Any:
        return async_to_sync(self.client.asession)()


def use_djangos(settings: Any, is_async: bool) -> Any:
    """Return a client of Django's, on a site that is set up for it."""
    settings.SESSION_COOKIE_NAME = "fe_sessionid"
    settings.USERSESSIONS = {"FE": {"COOKIE_FORMAT": "identifier"}}
    return WaitingClient(djangos.AsyncClient()) if is_async else djangos.Client()


@pytest.fixture(params=[False, True], ids=["Client", "AsyncClient"])
def plain(request: Any, settings: Any) -> Any:
    return use_djangos(settings, request.param)


@pytest.fixture(params=["Client", "AsyncClient", "django's Client", "django's AsyncClient"])
def each(request: Any, settings: Any) -> Any:
    if request.param.startswith("django's"):
        return use_djangos(settings, "Async" in request.param)
    return ours.Client() if request.param == "Client" else WaitingClient(ours.AsyncClient())


def test_forced_login(each: Any, alice: Any) -> None:
    each.force_login(alice)
    assert visit(each, who).content == b"'alice'"
    assert visit(each, who, "/admin/").content == b"''"


def test_login_checks_the_password(each: Any, alice: Any) -> None:
    assert not each.login(username="alice", password="wrong")
    assert each.login(username="alice", password="alice")
    assert visit(each, who).content == b"'alice'"


def test_login_keeps_the_basket_under_a_new_identifier(each: Any, alice: Any) -> None:
    visit(each, put_basket)
    before = each.session.session_key
    each.force_login(alice)
    assert each.session.session_key != before
    assert visit(each, read_basket).content == b"{'apple': 3}"
    assert FrontendSession.objects.get().ses_userid == alice.pk


def test_login_takes_no_basket_from_another_user(each: Any, alice: Any, bob: Any) -> None:
    each.force_login(alice)
    visit(each, put_basket)
    each.force_login(bob)
    assert visit(each, who).content == b"'bob'"
    assert visit(each, read_basket).content == b"None"


def test_logout_ends_the_session(each: Any, alice: Any) -> None:
    each.force_login(alice)
    each.logout()
    assert FrontendSession.objects.count() == 0
    assert visit(each, who).content == b"''"


def test_session_can_be_filled_before_a_request_and_looked_into_after(each: Any) -> None:
    session = each.session
    session["basket"] = {"apple": 3}
    session.save()
    assert visit(each, read_basket).content == b"{'apple': 3}"
    assert each.session["basket"] == {"apple": 3}


def test_session_key_is_that_of_the_request(each: Any) -> None:
    key = each.session.session_key
    assert visit(each, lambda request: request.session.session_key).content == repr(key).encode()
    assert FrontendSession.objects.count() == 1


@pytest.mark.urls("testproject.urls")
def test_staff_enter_the_admin_where_its_login_type_owns_the_cookie(
    plain: Any, superuser: Any, settings: Any
) -> None:
    settings.SESSION_COOKIE_NAME = "be_sessionid"
    settings.USERSESSIONS = {"BE": {"COOKIE_FORMAT": "identifier"}}
    plain.force_login(superuser)
    assert plain.get("/admin/").status_code == 200
    plain.logout()
    assert plain.get("/admin/").status_code == 302


def test_bare_identifier_is_no_login_where_cookies_are_signed(
    plain: Any, alice: Any, settings: Any
) -> None:
    """An identifier that somebody has got hold of must not be of use without a signature."""
    settings.USERSESSIONS = {}
    plain.force_login(alice)
    assert visit(plain, who).content == b"''"
