"""Django's own test clients, which put ``session_key`` into the cookie ``SESSION_COOKIE_NAME``."""

from __future__ import annotations

from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.test import AsyncClient, Client

from tests.site.test_client import put_basket, read_basket, who
from tests.urls import visit
from usersessions.models import FrontendSession

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.urls")]


class WaitingClient:
    """Waits for an ``AsyncClient``, so that the tests of ``Client`` are tests of it, too."""

    def __init__(self) -> None:
        self.client = AsyncClient()

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


@pytest.fixture(params=[Client, WaitingClient], ids=["Client", "AsyncClient"])
def plain(request: Any, settings: Any) -> Any:
    """A client of Django's, on a site that is set up for it."""
    settings.SESSION_COOKIE_NAME = "fe_sessionid"
    settings.USERSESSIONS = {"FE": {"COOKIE_FORMAT": "identifier"}}
    return request.param()


def test_forced_login(plain: Any, alice: Any) -> None:
    plain.force_login(alice)
    assert visit(plain, who).content == b"'alice'"
    assert visit(plain, who, "/admin/").content == b"''"


def test_login_checks_the_password(plain: Any, alice: Any) -> None:
    assert not plain.login(username="alice", password="wrong")
    assert plain.login(username="alice", password="alice")
    assert visit(plain, who).content == b"'alice'"


def test_login_keeps_the_basket_under_a_new_identifier(plain: Any, alice: Any) -> None:
    visit(plain, put_basket)
    before = plain.session.session_key
    plain.force_login(alice)
    assert plain.session.session_key != before
    assert visit(plain, read_basket).content == b"{'apple': 3}"
    assert FrontendSession.objects.get().ses_userid == alice.pk


def test_login_takes_no_basket_from_another_user(plain: Any, alice: Any, bob: Any) -> None:
    plain.force_login(alice)
    visit(plain, put_basket)
    plain.force_login(bob)
    assert visit(plain, who).content == b"'bob'"
    assert visit(plain, read_basket).content == b"None"


def test_logout_ends_the_session(plain: Any, alice: Any) -> None:
    plain.force_login(alice)
    plain.logout()
    assert FrontendSession.objects.count() == 0
    assert visit(plain, who).content == b"''"


def test_session_can_be_filled_before_a_request_and_looked_into_after(plain: Any) -> None:
    session = plain.session
    session["basket"] = {"apple": 3}
    session.save()
    assert visit(plain, read_basket).content == b"{'apple': 3}"
    assert plain.session["basket"] == {"apple": 3}


def test_session_key_is_that_of_the_request(plain: Any) -> None:
    key = plain.session.session_key
    assert visit(plain, lambda request: request.session.session_key).content == repr(key).encode()
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
