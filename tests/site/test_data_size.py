"""Data that is too large, or that the serializer cannot take, is refused whole.

On a site whose limit is what one session takes exactly: that passes, one byte more does not.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib import auth
from django.core.management import call_command

from tests.conftest import Clock
from tests.old_engines import DB, OldSite
from tests.urls import visit
from usersessions import SessionDataTooLarge
from usersessions.auth import exit_switch_user, switch_user
from usersessions.models import FrontendSession
from usersessions.test import Client

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.urls")]

Change = Callable[[Any], Any]


@pytest.fixture
def browser() -> Client:
    return Client(raise_request_exception=False)


def stored() -> Any:
    return list(FrontendSession.objects.order_by("ses_id").values())


def limit_to(settings: Any, size: int, **more: Any) -> None:
    settings.USERSESSIONS = {"FE": {"MAX_DATA_SIZE": size, **more}}


def size_of(change: Change, prepare: Callable[[Client], Any]) -> int:
    """Return how many bytes the session takes that a change leaves in a site without limit."""
    browser = Client()
    prepare(browser)
    visit(browser, change)
    [row] = FrontendSession.objects.all()
    row.delete()
    return len(row.ses_data)


def put(size: int) -> Change:
    return lambda request: request.session.update({"basket": "x" * size})


def nothing(browser: Client) -> None:
    """A visitor who comes for the first time."""


def with_note(browser: Client) -> None:
    visit(browser, lambda request: request.session.update({"note": "n"}))


def logged_in(user: Any) -> Callable[[Client], Any]:
    return lambda browser: visit(browser, lambda request: auth.login(request, user))


@pytest.fixture(
    params=["first-visit", "change", "login", "change-of-a-user", "renewal", "switch", "exit"]
)
def changed(
    request: pytest.FixtureRequest, alice: Any, superuser: Any, clock: Clock
) -> tuple[Any, Change]:
    """What goes before, and a change that stores more than there was."""

    def log_in(request: Any) -> None:
        auth.login(request, alice)

    def renew(request: Any) -> None:
        request.session["basket"] = "xxx"
        request.session.cycle_key()

    def switch(request: Any) -> None:
        switch_user(request, alice)

    def switched(browser: Client) -> None:
        logged_in(superuser)(browser)
        visit(browser, switch)

    def come_back(request: Any) -> None:
        exit_switch_user(request)
        request.session["basket"] = "x" * 1000

    rows: dict[str, tuple[Any, Change]] = {
        "first-visit": (nothing, put(10)),
        "change": (with_note, put(10)),
        "login": (with_note, log_in),
        "change-of-a-user": (logged_in(alice), put(10)),
        "renewal": (logged_in(alice), renew),
        "switch": (logged_in(superuser), switch),
        "exit": (switched, come_back),
    }
    return rows[request.param]


def test_data_of_exactly_the_limit_is_stored(
    browser: Client, settings: Any, changed: tuple[Any, Change]
) -> None:
    prepare, change = changed
    size = size_of(change, prepare)
    prepare(browser)
    limit_to(settings, size)
    assert visit(browser, change).status_code == 200
    assert [len(row["ses_data"]) for row in stored()] == [size]


def test_data_of_one_byte_more_is_refused_and_the_session_stays_as_it_was(
    browser: Client, settings: Any, changed: tuple[Any, Change]
) -> None:
    prepare, change = changed
    size = size_of(change, prepare)
    prepare(browser)
    before, cookie = stored(), browser.cookies.get("fe_sessionid")
    limit_to(settings, size - 1)
    response = visit(browser, change)
    assert response.status_code == 500
    error = response.exc_info[1]
    assert isinstance(error, SessionDataTooLarge)
    assert str(error) == (
        f"The data of a FE session takes {size} bytes; "
        f'USERSESSIONS["FE"]["MAX_DATA_SIZE"] allows {size - 1}.'
    )
    assert (error.size, error.limit) == (size, size - 1)
    assert "fe_sessionid" not in response.cookies
    assert stored() == before
    assert browser.cookies.get("fe_sessionid") == cookie


def test_limit_of_0_is_none(browser: Client, settings: Any) -> None:
    limit_to(settings, 0)
    assert visit(browser, put(10_000_000)).status_code == 200


def test_two_changes_that_are_too_large_only_together_leave_the_first(
    browser: Client, settings: Any
) -> None:
    with_note(browser)
    late = Client(raise_request_exception=False)
    late.cookies["fe_sessionid"] = browser.cookies["fe_sessionid"].value
    limit_to(settings, len(b'{"note":"n","theirs":"yyyyyyyyyy"}'))

    def put_late(request: Any) -> None:
        request.session["mine"] = "x" * 10
        visit(browser, lambda request: request.session.update({"theirs": "y" * 10}))

    response = visit(late, put_late)
    assert response.status_code == 500
    assert isinstance(response.exc_info[1], SessionDataTooLarge)
    shown = visit(late, lambda request: dict(request.session))
    assert shown.content == b"{'note': 'n', 'theirs': 'yyyyyyyyyy'}"


def test_logout_and_emptying_work_over_the_limit(
    browser: Client, settings: Any, alice: Any
) -> None:
    """A limit that was lowered holds nobody."""
    logged_in(alice)(browser)
    limit_to(settings, 1)
    assert visit(browser, auth.logout).status_code == 200
    settings.USERSESSIONS = {}
    with_note(browser)
    limit_to(settings, 1)
    assert visit(browser, lambda request: request.session.clear()).status_code == 200
    assert stored() == []


def test_session_over_a_lowered_limit_can_be_read_and_touched(
    browser: Client, settings: Any
) -> None:
    with_note(browser)
    FrontendSession.objects.update(ses_tstamp=FrontendSession.objects.get().ses_tstamp - 100)
    before = FrontendSession.objects.get().ses_tstamp
    limit_to(settings, 1)
    assert visit(browser, lambda request: request.session["note"]).content == b"'n'"
    assert FrontendSession.objects.get().ses_tstamp > before


def test_old_session_is_adopted_up_to_the_limit(old_site: OldSite, settings: Any) -> None:
    key = old_site.store_session(basket="x" * 100)
    call_command("adopt_sessions", verbosity=0)
    [row] = FrontendSession.objects.all()
    row.delete()
    size = len(row.ses_data)
    for limit, adopted in ((size - 1, 0), (size, 1)):
        limit_to(settings, limit, ADOPT_FROM=DB)
        key = old_site.store_session(basket="x" * 100)
        browser = Client()
        browser.cookies["sessionid"] = key
        assert visit(browser, lambda request: request.session.get("basket")).status_code == 200
        assert len(stored()) == adopted
        assert old_site.has(key) is not bool(adopted)


# Values that the serializer cannot take, and some that it can


def deep(levels: int) -> Any:
    value: Any = 0
    for _ in range(levels):
        value = [value]
    return value


def circular() -> Any:
    circle: dict[str, Any] = {}
    circle["again"] = circle
    return circle


@pytest.mark.parametrize(
    "value",
    [
        pytest.param({1}, id="set"),
        pytest.param(object(), id="object"),
        pytest.param(b"bytes", id="bytes"),
        pytest.param(1j, id="complex"),
        pytest.param({"x": [{"y": {1}}]}, id="set-far-inside"),
        pytest.param({(1, 2): 1}, id="key-is-a-tuple"),
        pytest.param(circular(), id="circular"),
        pytest.param(deep(100_000), id="too-deep"),
    ],
)
def test_value_that_cannot_be_stored_is_named_and_the_session_stays(
    browser: Client, value: Any
) -> None:
    with_note(browser)
    before = stored()

    def view(request: Any) -> None:
        request.session["fine"] = 1
        request.session["the bad one"] = value

    response = visit(browser, view)
    assert response.status_code == 500
    error = response.exc_info[1]
    assert isinstance(error, TypeError)
    assert str(error).startswith("The session value under 'the bad one' cannot be stored: ")
    assert stored() == before
    assert visit(browser, lambda request: dict(request.session)).content == b"{'note': 'n'}"


@pytest.mark.parametrize("key", [(1, 2), b"x", object()], ids=["tuple", "bytes", "object"])
def test_key_that_cannot_be_stored_is_named(browser: Client, key: Any) -> None:
    response = visit(browser, lambda request: request.session.update({key: 1}))
    assert response.status_code == 500
    assert str(response.exc_info[1]).startswith(
        f"The session value under {key!r} cannot be stored: "
    )


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ("\ud800", "\ud800"),
        ("\0", "\0"),
        (math.inf, math.inf),
        ((1, 2), [1, 2]),
        ({1: "x", None: "y"}, {"1": "x", "null": "y"}),
        (10**400, 10**400),
        (deep(100), deep(100)),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_odd_values_come_back_as_json_has_them(browser: Client, value: Any, read: Any) -> None:
    visit(browser, lambda request: request.session.update({"odd": value}))
    found: list[Any] = []
    visit(browser, lambda request: found.append(request.session["odd"]))
    assert found == [read]


def test_nan_comes_back(browser: Client) -> None:
    visit(browser, lambda request: request.session.update({"odd": math.nan}))
    shown = visit(browser, lambda request: math.isnan(request.session["odd"]))
    assert shown.content == b"True"
