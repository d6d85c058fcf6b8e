"""What a rollback of the site's own transaction makes of what a request has done to its session."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib import auth
from django.db import connection, transaction

from tests.urls import visit
from usersessions.models import FrontendSession
from usersessions.test import Client

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.urls("tests.urls")]


@pytest.fixture
def visitor(client: Client, monkeypatch: pytest.MonkeyPatch) -> Client:
    """A browser with a basket, on a site with ``ATOMIC_REQUESTS``."""
    visit(client, lambda request: request.session.update({"basket": 1}))
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    client.raise_request_exception = False
    return client


def save(request: Any, alice: Any) -> None:
    request.session["size"] = "S"
    request.session.save()


def cycle_key(request: Any, alice: Any) -> None:
    request.session["size"] = "S"
    request.session.cycle_key()
    request.session.save()


def log_in(request: Any, alice: Any) -> None:
    request.session["size"] = "S"
    auth.login(request, alice, "django.contrib.auth.backends.ModelBackend")
    request.session.save()


def flush(request: Any, alice: Any) -> None:
    request.session.flush()


def read(client: Client) -> Any:
    return visit(client, lambda request: dict(request.session.items())).content


@pytest.mark.parametrize("act", [save, cycle_key, log_in])
def test_what_a_request_that_fails_has_stored_is_taken_back(
    visitor: Client, alice: Any, act: Callable[[Any, Any], None]
) -> None:
    """The cookie of before must go on working: the browser has no other."""

    def fail(request: Any) -> None:
        act(request, alice)
        raise RuntimeError

    response = visit(visitor, fail)
    assert (response.status_code, "fe_sessionid" in response.cookies) == (500, False)
    assert read(visitor) == b"{'basket': 1}"
    assert FrontendSession.objects.count() == 1


@pytest.mark.parametrize("is_failure", [False, True], ids=["savepoint", "request"])
def test_session_that_has_ended_stays_ended(visitor: Client, *, is_failure: bool) -> None:
    """Attack: make the page fail after a logout, and go on with the stolen cookie."""
    cookie = visitor.cookies["fe_sessionid"].value

    def end(request: Any) -> None:
        with transaction.atomic():
            flush(request, None)
            transaction.set_rollback(not is_failure)
        if is_failure:
            raise RuntimeError

    visit(visitor, end)
    visitor.cookies["fe_sessionid"] = cookie
    assert read(visitor) == b"{}"
    assert not FrontendSession.objects.exists()


@pytest.mark.parametrize("act", [save, cycle_key, log_in])
def test_what_a_savepoint_has_taken_back_is_stored_with_the_response(
    visitor: Client, alice: Any, act: Callable[[Any, Any], None]
) -> None:
    before = visitor.cookies["fe_sessionid"].value

    def roll_back(request: Any) -> None:
        with transaction.atomic():
            act(request, alice)
            transaction.set_rollback(True)

    response = visit(visitor, roll_back)
    assert ("fe_sessionid" in response.cookies) is (act is not save)
    stored = visit(visitor, lambda request: (request.session["basket"], request.session["size"]))
    assert stored.content == b"(1, 'S')"
    assert FrontendSession.objects.count() == 1
    assert (visitor.cookies["fe_sessionid"].value == before) is (act is save)
