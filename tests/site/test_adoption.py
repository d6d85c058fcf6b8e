"""Moving in without logging anybody out: old cookies, and what becomes of their sessions."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib import auth
from django.core.cache.backends.locmem import LocMemCache
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.db import OperationalError, connection, connections
from django.db.models import QuerySet
from django.test import AsyncClient, RequestFactory
from django.test.utils import CaptureQueriesContext
from django.views.debug import ExceptionReporter

from tests.conftest import Clock
from tests.old_engines import CACHE, DB, ENGINES, TABLES, OldSite
from tests.urls import site_of, visit
from usersessions import SessionBackend, UserSession, UserSessionManager
from usersessions.adoption.engines import CacheEngine, OldSession, TableEngine
from usersessions.auth import is_login_recent, own_sessions
from usersessions.lifecycle.saving import SessionSaver
from usersessions.middleware import UserSessionMiddleware
from usersessions.models import BackendSession, FrontendSession
from usersessions.test import Client

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.urls")]

OLD_COOKIE = "sessionid"
TWO_WEEKS = 1_209_600
GRACE = 60

every_engine = pytest.mark.parametrize("old_site", ENGINES, indirect=True)
every_table = pytest.mark.parametrize("old_site", TABLES, indirect=True)
table_and_cache = pytest.mark.parametrize("old_site", [DB, CACHE], indirect=True)


def client_with(key: str) -> Client:
    client = Client()
    client.cookies[OLD_COOKIE] = key
    return client


def who(request: Any) -> Any:
    return request.user.get_username()


def read_basket(request: Any) -> Any:
    return request.session.get("basket")


def put_basket(request: Any) -> None:
    request.session["basket"] = [1]


def nothing(request: Any) -> str:
    return "page"


def log_in(user: Any) -> Callable[[Any], None]:
    return lambda request: auth.login(request, user)


def names(client: Client, view: Any, path: str = "/") -> str:
    """Return what a view of the site answers to a client, without the quotes around it."""
    return str(visit(client, view, path).content.decode().strip("'"))


def cookies_of(response: Any) -> dict[str, str]:
    return {name: morsel.value for name, morsel in response.cookies.items()}


def session_of(client: Client, login_type: str = "FE") -> UserSession:
    session: UserSession = client.session(login_type).user_session
    return session


def rows() -> tuple[int, int]:
    return FrontendSession.objects.count(), BackendSession.objects.count()


# Presenting the old cookie


@every_engine
def test_old_cookie_goes_on_with_its_user_and_data(old_site: OldSite, alice: Any) -> None:
    key = old_site.store_session(alice, basket=[1])
    client = client_with(key)
    assert names(client, who) == "alice"
    assert not client.cookies[OLD_COOKIE].value
    assert not old_site.has(key)
    assert (names(client, who), names(client, read_basket)) == ("alice", "[1]")
    assert rows() == (1, 0)
    assert FrontendSession.objects.get().user_id == alice.pk


def test_adopted_login_is_not_a_recent_one(old_site: OldSite, alice: Any) -> None:
    """Attack: with an old cookie, have what takes a recent login just after the move."""
    client = client_with(old_site.store_session(alice))
    assert names(client, is_login_recent) == "False"
    assert names(client, is_login_recent) == "False"
    visit(client, log_in(alice))
    assert names(client, is_login_recent) == "True"


@every_engine
def test_visitors_session_is_adopted_as_well(old_site: OldSite) -> None:
    client = client_with(old_site.store_session(basket=[1]))
    assert names(client, read_basket) == "[1]"
    assert FrontendSession.objects.get().user_id is None


@every_engine
def test_async_site_adopts_as_well(old_site: OldSite, alice: Any) -> None:
    client = AsyncClient()
    client.cookies[OLD_COOKIE] = old_site.store_session(alice)
    with site_of(who):
        for _ in range(2):
            response = async_to_sync(client.get)("/")
            assert response.content == b"'alice'"
    assert rows() == (1, 0)


def test_answer_brings_the_new_cookie_and_deletes_the_old_one(
    old_site: OldSite, alice: Any, settings: Any
) -> None:
    settings.SESSION_COOKIE_DOMAIN = "testserver"
    settings.SESSION_COOKIE_PATH = "/shop/"
    response = visit(client_with(old_site.store_session(alice)), nothing, "/shop/")
    assert list(response.cookies) == [OLD_COOKIE, "fe_sessionid"]
    assert response.cookies[OLD_COOKIE].OutputString() == (
        'sessionid=""; Domain=testserver; expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=0; '
        "Path=/shop/; SameSite=Lax"
    )
    new = response.cookies["fe_sessionid"]
    assert (new["httponly"], new["samesite"], new["path"]) == (True, "Lax", "/shop/")
    assert response.headers["Vary"] == "Cookie"


def test_new_identifier_cannot_be_made_of_the_old_key(
    old_site: OldSite, alice: Any, settings: Any
) -> None:
    """Attack: read the old table, or a backup of it, and make a new cookie of a key."""
    key = old_site.store_session(alice)
    client = client_with(key)
    visit(client, who)
    keys = UserSessionManager.create("FE").backend.keys
    assert keys.adopted_identifiers(key) == (session_of(client).identifier,)
    settings.SECRET_KEY = "another"
    assert keys.adopted_identifiers(key) != (session_of(client).identifier,)


# What it costs


def statements(client: Client, view: Any) -> list[str]:
    """Return the first word of each statement during a request, and its table."""
    with CaptureQueriesContext(
        connection,
    ) as context:
        visit(client, view)
    return [
        " ".join(
            [
                query["sql"].split()[0],
                *(
                    table
                    for table in ("fe_sessions", "be_sessions", "django_session", "auth_user")
                    if f'"{table}"' in query["sql"].replace("`", '"')
                ),
            ]
        )
        for query in context.captured_queries
    ]


def test_request_without_an_old_cookie_costs_nothing(old_site: OldSite, client: Client) -> None:
    assert statements(client, read_basket) == []
    visit(client, put_basket)
    assert statements(client, nothing) == []
    assert statements(client, read_basket) == ["SELECT fe_sessions"]


def test_async_request_without_an_old_cookie_stays_in_the_event_loop(
    old_site: OldSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("usersessions.middleware.sync_to_async", None)
    with site_of(nothing):
        assert async_to_sync(AsyncClient().get)("/").content == b"'page'"


def test_presenting_costs_eight_statements_once(old_site: OldSite, alice: Any) -> None:
    client = client_with(old_site.store_session(alice))
    assert statements(client, nothing) == [
        "SELECT django_session",
        "SELECT auth_user",
        "SAVEPOINT",
        "DELETE django_session",
        "INSERT fe_sessions",
        "RELEASE",
        "SELECT fe_sessions",
        "SELECT be_sessions",
    ]
    assert statements(client, read_basket) == ["SELECT fe_sessions", "UPDATE fe_sessions"]
    assert statements(client, read_basket) == ["SELECT fe_sessions"]


def test_presenting_costs_three_statements_when_the_command_has_been_there(
    old_site: OldSite, alice: Any
) -> None:
    client = client_with(old_site.store_session(alice))
    call_command("adopt_sessions", verbosity=0)
    assert statements(client, nothing) == [
        "SELECT django_session",
        "SELECT fe_sessions",
        "SELECT be_sessions",
    ]


def test_cookie_without_a_session_costs_two_statements_once(old_site: OldSite) -> None:
    client = client_with("k" * 32)
    assert statements(client, nothing) == ["SELECT django_session", "SELECT fe_sessions"]
    assert statements(client, nothing) == []


# In which login types


@every_engine
def test_staff_go_on_in_backend_and_frontend(old_site: OldSite, editor: Any) -> None:
    client = client_with(old_site.store_session(editor, basket=[1]))
    assert names(client, who) == "editor"
    assert rows() == (1, 1)
    assert names(client, who, "/admin/") == "editor"
    assert names(client, read_basket, "/admin/") == "[1]"
    assert session_of(client).identifier != session_of(client, "BE").identifier


@every_engine
def test_customers_go_on_in_the_frontend_only(old_site: OldSite, alice: Any) -> None:
    client = client_with(old_site.store_session(alice))
    assert names(client, who, "/admin/") == ""
    assert names(client, who) == "alice"
    assert rows() == (1, 0)


def test_type_that_is_told_not_to_adopts_nothing(
    old_site: OldSite, editor: Any, settings: Any
) -> None:
    settings.USERSESSIONS = {"FE": {"ADOPT_FROM": DB}, "BE": {"ADOPT_FROM": None}}
    client = client_with(old_site.store_session(editor))
    assert names(client, who) == "editor"
    assert names(client, who, "/admin/") == ""
    assert rows() == (1, 0)


@pytest.fixture
def backend_only(old_site: OldSite, settings: Any) -> None:
    settings.USERSESSIONS = {"BE": {"ADOPT_FROM": DB}}


@pytest.mark.usefixtures("backend_only")
def test_staff_are_adopted_where_only_the_backend_adopts(old_site: OldSite, editor: Any) -> None:
    client = client_with(old_site.store_session(editor))
    assert names(client, who, "/admin/") == "editor"
    assert names(client, who) == ""
    assert rows() == (0, 1)


@pytest.mark.usefixtures("backend_only")
def test_session_that_nobody_takes_stays_with_its_cookie(old_site: OldSite, alice: Any) -> None:
    key = old_site.store_session(alice)
    client = client_with(key)
    assert names(client, who) == ""
    assert client.cookies[OLD_COOKIE].value == key
    assert old_site.has(key)
    assert rows() == (0, 0)


def test_login_type_of_the_sites_own_takes_staff(
    old_site: OldSite, alice: Any, editor: Any, settings: Any
) -> None:
    partner = {
        "BACKEND": "tests.contract.test_base.MemoryBackend",
        "OPTIONS": {},
        "URL_PREFIXES": ["/partners/"],
        "ADOPT_FROM": DB,
    }
    settings.USERSESSIONS = {"PARTNER": partner, "FE": {"ADOPT_FROM": DB}}
    for user, name in ((editor, "editor"), (alice, "")):
        client = client_with(old_site.store_session(user))
        assert names(client, who, "/partners/") == name
        assert names(client, who) == user.username


# When it ends


def end_of(old_site: OldSite, key: str) -> int:
    return int(old_site.rows.get(pk=key).expire_date.timestamp())


@every_table
@pytest.mark.parametrize(
    "expiry",
    [
        pytest.param(None, id="site's"),
        pytest.param(864_000, id="seconds"),
        pytest.param(datetime.now(timezone.utc) + timedelta(days=10), id="moment"),
    ],
)
def test_session_ends_when_it_would_have_ended(
    old_site: OldSite, alice: Any, clock: Clock, expiry: Any
) -> None:
    key = old_site.store_session(alice, expiry=expiry)
    ends_at = end_of(old_site, key)
    clock.now = ends_at - 500_000
    client = client_with(key)
    assert visit(client, nothing).cookies["fe_sessionid"]["max-age"] == 500_000
    manager = UserSessionManager.create("FE", clock=clock)
    visit(client, nothing)
    for _ in range(2):
        assert manager.expiry.expires_at(session_of(client)) == ends_at
        visit(client, who)
    clock.now = ends_at + 1
    assert names(client, who) == ""


@every_table
def test_collection_takes_it_after_its_end(old_site: OldSite, alice: Any, clock: Clock) -> None:
    key = old_site.store_session(alice)
    clock.now = ends_at = end_of(old_site, key)
    visit(client_with(key), nothing)
    manager = UserSessionManager.create("FE", clock=clock)
    for now, left in ((ends_at, 1), (ends_at + 1, 1), (ends_at + 6000, 1), (ends_at + 6001, 0)):
        clock.now = now
        manager.collect_garbage(100)
        assert rows() == (left, 0)


def test_use_keeps_it_alive_beyond_that_end(old_site: OldSite, alice: Any, clock: Clock) -> None:
    key = old_site.store_session(alice)
    clock.now = end_of(old_site, key) - 10
    client = client_with(key)
    visit(client, nothing)
    for _ in range(3):
        clock.forward(5000)
        assert names(client, who) == "alice"
    clock.forward(6001)
    assert names(client, who) == ""


@pytest.mark.parametrize("old_site", [CACHE], indirect=True)
@pytest.mark.parametrize(("expiry", "lives"), [(None, TWO_WEEKS), (5000, 5000)])
def test_session_of_the_cache_lives_as_long_as_a_fresh_one(
    old_site: OldSite, alice: Any, expiry: Any, lives: int
) -> None:
    response = visit(client_with(old_site.store_session(alice, expiry=expiry)), nothing)
    assert lives - 100 <= response.cookies["fe_sessionid"]["max-age"] <= lives


@pytest.mark.parametrize(("expiry", "site_says"), [(0, False), (None, True)])
def test_cookie_that_ended_with_the_browser_does_so_again(
    old_site: OldSite, alice: Any, settings: Any, expiry: Any, site_says: bool
) -> None:
    settings.SESSION_EXPIRE_AT_BROWSER_CLOSE = site_says
    client = client_with(old_site.store_session(alice, expiry=expiry))
    assert visit(client, nothing).cookies["fe_sessionid"]["max-age"] == ""


def test_cookie_that_is_sent_after_that_end_is_as_any_other(
    old_site: OldSite, alice: Any, clock: Clock
) -> None:
    key = old_site.store_session(alice)
    clock.now = end_of(old_site, key) - 10
    client = client_with(key)
    visit(client, nothing)
    clock.forward(11)
    response = visit(client, lambda request: request.session.cycle_key())
    assert response.cookies["fe_sessionid"]["max-age"] == ""


def test_login_ends_what_was_left_of_a_visitors_session(
    old_site: OldSite, alice: Any, clock: Clock
) -> None:
    client = client_with(old_site.store_session(basket=[1]))
    visit(client, log_in(alice))
    assert names(client, read_basket) == "[1]"
    clock.forward(6001)
    assert names(client, who) == ""


def test_expiry_that_is_set_later_counts(old_site: OldSite, alice: Any, clock: Clock) -> None:
    client = client_with(old_site.store_session(alice))
    visit(client, nothing)
    visit(client, lambda request: request.session.set_expiry(300))
    clock.forward(301)
    assert names(client, who) == ""
    manager = UserSessionManager.create("FE", clock=clock)
    assert manager.collect_garbage(100) == 1


def test_absolute_limit_counts_from_the_move(
    old_site: OldSite, alice: Any, clock: Clock, settings: Any
) -> None:
    settings.USERSESSIONS = {"FE": {"ADOPT_FROM": DB, "MAX_LIFETIME": 86_400}}
    client = client_with(old_site.store_session(alice))
    visit(client, nothing)
    clock.forward(86_400)
    assert names(client, who) == "alice"
    clock.forward(1)
    assert names(client, who) == ""


def test_site_without_time_zones_keeps_the_end(
    old_site: OldSite, alice: Any, settings: Any, clock: Clock
) -> None:
    settings.USE_TZ = False
    settings.TIME_ZONE = "Europe/Berlin"
    key = old_site.store_session(alice)
    ends_at = datetime.now(timezone.utc).timestamp() + TWO_WEEKS
    client = client_with(key)
    visit(client, nothing)
    manager = UserSessionManager.create("FE", clock=clock)
    assert abs(manager.expiry.expires_at(session_of(client)) - ends_at) < 100


def test_people_see_when_they_used_it(old_site: OldSite, alice: Any, clock: Clock) -> None:
    key = old_site.store_session(alice)
    clock.now = adopted_at = end_of(old_site, key) - 10_000
    client = client_with(key)
    visit(client, nothing)

    def used_at() -> list[int]:
        seen: list[int] = []

        def view(request: Any) -> None:
            seen.extend(
                int(session.last_updated_at.timestamp()) for session in own_sessions(request)
            )

        visit(client, view)
        return seen

    assert used_at() == [adopted_at]
    clock.forward(9000)  # by now, TIMEOUT ends it later than the old engine would have
    visit(client, who)
    assert used_at() == [adopted_at + 9000]


# What is not adopted


def spoil(old_site: OldSite, key: str) -> None:
    old_site.rows.update(session_data="not what anybody has signed")


def expire(old_site: OldSite, key: str) -> None:
    old_site.rows.update(expire_date=datetime.now(timezone.utc) - timedelta(seconds=1))


def empty(old_site: OldSite, key: str) -> None:
    old_site.rows.update(session_data=old_site.store_class().encode({}))


def remove(old_site: OldSite, key: str) -> None:
    old_site.rows.delete()


@every_table
@pytest.mark.parametrize("change", [spoil, expire, empty, remove])
def test_old_session_that_is_worth_nothing_gives_an_anonymous_one(
    old_site: OldSite, alice: Any, change: Any
) -> None:
    key = old_site.store_session(alice)
    change(old_site, key)
    response = visit(client_with(key), who)
    assert response.content == b"''"
    assert cookies_of(response) == {OLD_COOKIE: ""}
    assert response.headers["Vary"] == "Cookie"
    assert rows() == (0, 0)


@pytest.mark.parametrize("old_site", [CACHE], indirect=True)
def test_key_that_the_cache_does_not_know_gives_an_anonymous_session(old_site: OldSite) -> None:
    assert cookies_of(visit(client_with("k" * 32), who)) == {OLD_COOKIE: ""}


@pytest.mark.parametrize(
    "value",
    ["", "short", "k" * 41, "K" * 32, "k" * 31 + "-", "k" * 31 + "é", "e30.e30.e30"],
)
def test_cookie_that_is_no_key_is_left_alone(old_site: OldSite, value: str) -> None:
    client = client_with(value)
    assert statements(client, who) == []
    assert client.cookies[OLD_COOKIE].value == value


def test_site_that_adopts_nothing_leaves_the_old_cookie_alone(
    old_site: OldSite, alice: Any, settings: Any
) -> None:
    settings.USERSESSIONS = {}
    key = old_site.store_session(alice)
    assert statements(client_with(key), who) == []
    assert old_site.has(key)


# The old cookie comes again


def adopted(old_site: OldSite, user: Any) -> tuple[Client, str]:
    """Return a client whose session has been adopted, and its old key, which a thief has."""
    key = old_site.store_session(user)
    client = client_with(key)
    visit(client, nothing)
    return client, key


@every_engine
def test_old_cookie_is_worth_nothing_after_a_logout(old_site: OldSite, alice: Any) -> None:
    """Attack: present a cookie that was stolen on the site as it was."""
    client, key = adopted(old_site, alice)
    visit(client, auth.logout)
    thief = client_with(key)
    assert names(thief, who) == ""
    assert cookies_of(visit(client_with(key), who)) == {OLD_COOKIE: ""}


@every_engine
def test_logout_of_the_first_request_is_final(old_site: OldSite, alice: Any) -> None:
    key = old_site.store_session(alice)
    response = visit(client_with(key), auth.logout)
    assert cookies_of(response) == {OLD_COOKIE: ""}
    assert names(client_with(key), who) == ""
    assert rows() == (0, 0)


def test_old_cookie_is_worth_nothing_after_a_login(old_site: OldSite, alice: Any) -> None:
    """Attack: plant the cookie of an old session and wait for a login (session fixation)."""
    key = old_site.store_session(basket=[1])
    client = client_with(key)
    visit(client, nothing)
    assert names(client_with(key), read_basket) == "[1]"
    visit(client, log_in(alice))
    assert names(client_with(key), who) == ""
    assert names(client, who) == "alice"


def test_login_of_the_first_request_is_not_shared_with_whoever_knows_the_old_key(
    old_site: OldSite, alice: Any
) -> None:
    key = old_site.store_session(basket=[1])
    client = client_with(key)
    visit(client, log_in(alice))
    assert (names(client, who), names(client, read_basket)) == ("alice", "[1]")
    assert names(client_with(key), who) == ""


def test_old_cookie_is_good_until_the_new_one_has_arrived(
    old_site: OldSite, alice: Any, clock: Clock
) -> None:
    """The connection may have broken before the browser got the answer."""
    _, key = adopted(old_site, alice)
    clock.forward(86_400)
    assert names(client_with(key), who) == "alice"
    assert rows() == (1, 0)


@pytest.mark.parametrize(("seconds", "name"), [(0, "alice"), (GRACE, "alice"), (GRACE + 1, "")])
def test_old_cookie_is_good_for_a_minute_after_the_new_one_was_used(
    old_site: OldSite, alice: Any, clock: Clock, seconds: int, name: str
) -> None:
    """Requests that a browser has sent at the same time arrive one after the other."""
    client, key = adopted(old_site, alice)
    visit(client, who)
    clock.forward(seconds)
    assert names(client_with(key), who) == name
    assert names(client, who) == "alice"


@pytest.mark.parametrize("path", ["/", "/admin/"])
def test_use_of_one_new_cookie_spends_the_old_one_for_all_login_types(
    old_site: OldSite, editor: Any, clock: Clock, path: str
) -> None:
    """Attack: a stolen old cookie of staff who never visit the one part of the site."""
    client, key = adopted(old_site, editor)
    visit(client, who, path)
    clock.forward(GRACE + 1)
    for each in ("/", "/admin/"):
        assert names(client_with(key), who, each) == ""


def test_logout_from_the_frontend_spends_the_old_cookie_for_the_backend(
    old_site: OldSite, editor: Any
) -> None:
    """Attack: a stolen old cookie of staff who have logged out, from the one part of the site."""
    client, key = adopted(old_site, editor)
    visit(client, auth.logout)
    assert names(client_with(key), who, "/admin/") == ""
    assert names(client, who, "/admin/") == "editor"


def test_save_of_the_views_own_spends_the_old_cookie_too(
    old_site: OldSite, alice: Any, clock: Clock
) -> None:
    client, key = adopted(old_site, alice)
    visit(client, lambda request: request.session.save())
    clock.forward(GRACE + 1)
    assert names(client_with(key), who) == ""


def test_arrival_that_meets_a_change_is_noted_by_the_next_request(
    old_site: OldSite, alice: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, _ = adopted(old_site, alice)
    note_arrival = SessionSaver.note_arrival

    def change_it_first(saver: SessionSaver, session: UserSession) -> None:
        monkeypatch.undo()
        visit(client, put_basket)
        note_arrival(saver, session)

    monkeypatch.setattr(SessionSaver, "note_arrival", change_it_first)
    other = client_with("")
    other.cookies["fe_sessionid"] = client.cookies["fe_sessionid"].value
    visit(other, who)
    assert session_of(client)["basket"] == [1]
    assert session_of(client).meta["adopted"] > 0


def test_failed_request_does_not_spend_the_old_cookie(
    old_site: OldSite, alice: Any, clock: Clock
) -> None:
    client, key = adopted(old_site, alice)
    client.raise_request_exception = False
    visit(client, fail)
    clock.forward(GRACE + 1)
    assert names(client_with(key), who) == "alice"


def test_browser_that_has_a_session_here_keeps_it(
    old_site: OldSite, alice: Any, bob: Any, client: Client
) -> None:
    """Else the next request after a logout would log in again, as whom the old cookie names."""
    visit(client, log_in(bob))
    key = client.cookies[OLD_COOKIE] = old_site.store_session(alice)
    assert statements(client, nothing) == ["SELECT fe_sessions"]
    assert names(client, who) == "bob"
    assert not client.cookies[OLD_COOKIE].value
    assert old_site.has(str(key))
    visit(client, auth.logout)
    assert names(client, who) == ""


def test_cookie_of_a_session_that_is_over_does_not_count_as_one(
    old_site: OldSite, alice: Any, bob: Any, client: Client
) -> None:
    """The site went back to its old engine for a while."""
    visit(client, log_in(bob))
    FrontendSession.objects.all().delete()
    client.cookies[OLD_COOKIE] = old_site.store_session(alice)
    assert names(client, who) == "alice"
    assert names(client, who) == "alice"


def test_backend_session_that_staff_have_already_stays(
    old_site: OldSite, editor: Any, superuser: Any, client: Client
) -> None:
    client.force_login(superuser, login_type="BE")
    client.cookies[OLD_COOKIE] = old_site.store_session(editor)
    assert names(client, who) == "editor"
    assert names(client, who, "/admin/") == "admin"


# At the same time


@pytest.mark.django_db(transaction=True)
@table_and_cache
def test_ten_requests_at_once_arrive_at_one_session(
    old_site: OldSite, editor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of them have read the old session before any has taken it."""
    key = old_site.store_session(editor, basket=[1])
    start, answers = threading.Barrier(10), []
    for engine in (TableEngine, CacheEngine):
        read = engine.read

        def read_together(self: Any, key: str, read: Any = read) -> Any:
            found = read(self, key)
            start.wait(timeout=30)
            return found

        monkeypatch.setattr(engine, "read", read_together)

    def send() -> None:
        client = client_with(key)
        try:
            answers.append((client.get("/").content, session_of(client).identifier))
        finally:
            connections.close_all()

    with site_of(who):
        threads = [threading.Thread(target=send) for _ in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(answers) == 10
    assert len(set(answers)) == 1
    assert answers[0][0] == b"'editor'"
    assert rows() == (1, 1)


def between_reading_and_taking(
    monkeypatch: pytest.MonkeyPatch, engine: type, do: Callable[[], Any]
) -> None:
    read = engine.read  # type: ignore[attr-defined]

    def read_first(self: Any, key: str) -> Any:
        found = read(self, key)
        monkeypatch.setattr(engine, "read", read)
        do()
        return found

    monkeypatch.setattr(engine, "read", read_first)


@pytest.mark.parametrize(
    ("old_site", "engine"), [(DB, TableEngine), (CACHE, CacheEngine)], indirect=["old_site"]
)
def test_request_that_is_late_does_not_revive_what_has_logged_out(
    old_site: OldSite, engine: type, alice: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attack: many requests with an old cookie while its owner logs out."""
    key = old_site.store_session(alice)
    between_reading_and_taking(monkeypatch, engine, lambda: visit(client_with(key), auth.logout))
    thief = client_with(key)
    assert names(thief, who) == ""
    assert rows() == (0, 0)


def test_command_that_was_faster_has_logged_nobody_out(
    old_site: OldSite, alice: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = old_site.store_session(alice)
    between_reading_and_taking(
        monkeypatch, TableEngine, lambda: call_command("adopt_sessions", verbosity=0)
    )
    assert names(client_with(key), who) == "alice"
    assert rows() == (1, 0)


def test_session_that_was_stored_already_is_not_stored_again(old_site: OldSite, alice: Any) -> None:
    """Its process died after that, where the old table is in another database."""
    key = old_site.store_session(alice)
    (row,) = old_site.rows
    client = client_with(key)
    visit(client, put_basket)
    row.save(force_insert=True)
    call_command("adopt_sessions", verbosity=0)
    assert not old_site.has(key)
    assert rows() == (1, 0)
    assert names(client, read_basket) == "[1]"


def test_old_session_that_ends_with_related_rows_is_adopted_too(
    old_site: OldSite, alice: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A site may have a model that refers to sessions, of which Django deletes and counts rows."""
    delete = QuerySet.delete

    def delete_related(self: Any) -> tuple[int, dict[str, int]]:
        count, by_model = delete(self)
        return count + 1, {**by_model, "shop.Visit": 1}

    monkeypatch.setattr(QuerySet, "delete", delete_related)
    assert names(client_with(old_site.store_session(alice)), who) == "alice"


# When something fails


def fail(request: Any) -> None:
    request.session["basket"] = [2]
    raise RuntimeError


@every_engine
def test_first_view_that_fails_logs_nobody_out(old_site: OldSite, alice: Any) -> None:
    client = client_with(old_site.store_session(alice, basket=[1]))
    client.raise_request_exception = False
    response = visit(client, fail)
    assert response.status_code == 500
    assert list(response.cookies) == [OLD_COOKIE, "fe_sessionid"]
    assert (names(client, who), names(client, read_basket)) == ("alice", "[1]")


@pytest.mark.django_db(transaction=True)
def test_rollback_of_the_first_view_does_not_undo_the_move(
    old_site: OldSite, alice: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    key = old_site.store_session(alice)
    client = client_with(key)
    client.raise_request_exception = False
    assert visit(client, fail).status_code == 500
    assert names(client, who) == "alice"
    assert not old_site.has(key)


def break_down(*args: Any, **options: Any) -> Any:
    raise OperationalError("the storage is down")


@every_engine
@pytest.mark.parametrize("login_type", ["FE", "BE"])
def test_storage_that_fails_leaves_the_old_session_as_it_was(
    old_site: OldSite, editor: Any, monkeypatch: pytest.MonkeyPatch, login_type: str
) -> None:
    key = old_site.store_session(editor)
    client = client_with(key)
    store = SessionBackend.set

    def fail_for_one(backend: SessionBackend, identifier: str, record: Any) -> None:
        if backend.login_type == login_type:
            break_down()
        store(backend, identifier, record)

    with monkeypatch.context() as patch:
        patch.setattr(SessionBackend, "set", fail_for_one)
        with pytest.raises(OperationalError):
            visit(client, nothing)
    assert old_site.has(key)
    assert client.cookies[OLD_COOKIE].value == key
    for path in ("/", "/admin/"):
        assert names(client, who, path) == "editor"
    assert rows() == (1, 1)


@pytest.mark.parametrize(
    ("old_site", "owner", "method"),
    [
        pytest.param(DB, TableEngine, "_session", id="table"),
        pytest.param(CACHE, LocMemCache, "get", id="cache"),
    ],
    indirect=["old_site"],
)
def test_old_storage_that_is_down_logs_nobody_out(
    old_site: OldSite, alice: Any, monkeypatch: pytest.MonkeyPatch, owner: type, method: str
) -> None:
    key = old_site.store_session(alice)
    client = client_with(key)
    with monkeypatch.context() as patch:
        patch.setattr(owner, method, break_down)
        with pytest.raises(OperationalError):
            visit(client, nothing)
    assert client.cookies[OLD_COOKIE].value == key
    assert names(client, who) == "alice"


@pytest.mark.parametrize("old_site", [CACHE], indirect=True)
def test_data_that_cannot_be_stored_stays_where_it_is(
    old_site: OldSite, alice: Any, caplog: pytest.LogCaptureFixture
) -> None:
    key = old_site.store_session(alice, price=Decimal(1))
    client = client_with(key)
    assert names(client, who) == ""
    assert client.cookies[OLD_COOKIE].value == key
    assert old_site.has(key)
    (message,) = caplog.messages
    assert message == (
        "An old session was not adopted: The session value under 'price' cannot be stored: "
        "Object of type Decimal is not JSON serializable"
    )


@pytest.mark.parametrize("login_type", ["FE", "BE"])
def test_session_that_is_too_large_for_one_login_type_stays_whole(
    old_site: OldSite, editor: Any, settings: Any, login_type: str
) -> None:
    settings.USERSESSIONS = {
        "FE": {"ADOPT_FROM": DB},
        "BE": {},
        login_type: {"ADOPT_FROM": DB, "MAX_DATA_SIZE": 100},
    }
    key = old_site.store_session(editor)
    client = client_with(key)
    assert names(client, who) == ""
    assert old_site.has(key)
    assert rows() == (0, 0)


def test_host_that_is_not_allowed_moves_nothing(old_site: OldSite, alice: Any) -> None:
    key = old_site.store_session(alice)
    client = client_with(key)
    response = visit(client, who, headers={"host": "evil.example"})
    assert (response.status_code, len(response.cookies)) == (400, 0)
    assert old_site.has(key)
    assert rows() == (0, 0)


def test_wrong_engine_stops_the_site_at_start_up(settings: Any) -> None:
    settings.USERSESSIONS = {"FE": {"ADOPT_FROM": "django.contrib.sessions.backends.file"}}
    with pytest.raises(ImproperlyConfigured, match="cannot be adopted"):
        UserSessionMiddleware(nothing)


# What the first request does


def test_first_request_may_flush_the_session(old_site: OldSite, alice: Any) -> None:
    def view(request: Any) -> None:
        request.session.flush()
        put_basket(request)

    key = old_site.store_session(alice)
    client = client_with(key)
    identifier = UserSessionManager.create("FE").backend.keys.adopted_identifiers(key)[0]
    assert list(cookies_of(visit(client, view))) == [OLD_COOKIE, "fe_sessionid"]
    assert session_of(client).identifier != identifier
    assert (names(client, who), names(client, read_basket)) == ("", "[1]")
    assert rows() == (1, 0)


@pytest.mark.django_db(transaction=True)
def test_first_request_may_change_the_password(old_site: OldSite, alice: Any) -> None:
    def view(request: Any) -> None:
        request.user.set_password("new")
        request.user.save()
        auth.update_session_auth_hash(request, request.user)

    client, key = client_with(old_site.store_session(alice)), old_site.store_session(alice)
    visit(client, view)
    assert names(client, who) == "alice"
    assert names(client_with(key), who) == ""


def test_first_request_may_log_another_user_in(old_site: OldSite, alice: Any, bob: Any) -> None:
    client = client_with(old_site.store_session(alice, basket=[1]))
    visit(client, log_in(bob))
    assert (names(client, who), names(client, read_basket)) == ("bob", "None")
    assert rows() == (1, 0)


# Cookies with the old one's name


@pytest.fixture(params=["token", "identifier"])
def same_name(request: pytest.FixtureRequest, old_site: OldSite, settings: Any) -> None:
    settings.USERSESSIONS = {
        "FE": {"ADOPT_FROM": DB, "COOKIE_NAME": OLD_COOKIE, "COOKIE_FORMAT": request.param}
    }


@pytest.mark.usefixtures("same_name")
def test_new_cookie_may_have_the_old_ones_name(old_site: OldSite, alice: Any) -> None:
    key = old_site.store_session(alice)
    client = client_with(key)
    assert names(client, who) == "alice"
    assert client.cookies[OLD_COOKIE].value not in ("", key)
    assert names(client, who) == "alice"
    assert statements(client, nothing) == []


@pytest.mark.usefixtures("same_name")
def test_cookie_of_the_same_name_is_not_deleted_for_want_of_an_old_session(
    old_site: OldSite,
) -> None:
    """The answer may come after that to a login in another tab, whose cookie has the name."""
    assert cookies_of(visit(client_with("k" * 32), who)) == {}


# SECRET_KEY


def test_session_that_was_moved_under_another_key_is_found(
    old_site: OldSite, editor: Any, settings: Any
) -> None:
    key = old_site.store_session(editor)
    call_command("adopt_sessions", verbosity=0)
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "a new one"
    client = client_with(key)
    for path in ("/", "/admin/"):
        assert names(client, who, path) == "editor"
    assert rows() == (1, 1)


def test_session_that_was_signed_with_another_key_is_adopted(
    old_site: OldSite, alice: Any, settings: Any
) -> None:
    key = old_site.store_session(alice)
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "a new one"
    assert names(client_with(key), who) == "alice"


def test_session_that_was_signed_with_a_forgotten_key_is_not_adopted(
    old_site: OldSite, alice: Any, settings: Any
) -> None:
    key = old_site.store_session(alice)
    settings.SECRET_KEY = "a new one"
    assert names(client_with(key), who) == ""


# The address


@pytest.fixture
def locking(old_site: OldSite, settings: Any) -> None:
    settings.USERSESSIONS = {"FE": {"ADOPT_FROM": DB, "LOCK_IP": 4}}


def from_address(client: Client, address: str) -> str:
    return str(visit(client, who, REMOTE_ADDR=address).content.decode().strip("'"))


@pytest.mark.usefixtures("locking")
@pytest.mark.parametrize("is_moved_before", [False, True], ids=["presented", "moved"])
def test_session_is_locked_to_the_address_that_presents_the_old_cookie(
    old_site: OldSite, alice: Any, is_moved_before: bool
) -> None:
    key = old_site.store_session(alice)
    if is_moved_before:
        call_command("adopt_sessions", verbosity=0)
    client = client_with(key)
    assert from_address(client, "192.0.2.1") == "alice"
    assert FrontendSession.objects.get().ses_iplock == "192.0.2.1"
    assert from_address(client, "192.0.2.2") == ""
    assert from_address(client_with(key), "192.0.2.2") == ""
    assert from_address(client, "192.0.2.1") == "alice"


@pytest.mark.usefixtures("locking")
def test_session_that_ends_before_it_is_locked_has_ended(
    old_site: OldSite, alice: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = old_site.store_session(alice)
    call_command("adopt_sessions", verbosity=0)
    update = SessionBackend.update

    def end_it_first(backend: Any, identifier: str, *args: Any, **options: Any) -> None:
        backend.remove(identifier)
        update(backend, identifier, *args, **options)

    monkeypatch.setattr(SessionBackend, "update", end_it_first)
    client = client_with(key)
    visit(client, nothing)
    assert names(client, who) == ""


# What comes along


def test_keys_that_belong_to_sessions_of_ours_do_not_come_along(
    old_site: OldSite, alice: Any, superuser: Any
) -> None:
    """Attack: make the old site remember something that makes one another user here."""
    key = old_site.store_session(
        alice, backuserid=superuser.pk, _usersessions={"aside": {"user_id": superuser.pk}}, x=1
    )
    client = client_with(key)
    assert names(client, lambda request: bool(request.original_user)) == "False"
    session = session_of(client)
    assert sorted(session.data) == ["_auth_user_backend", "_auth_user_hash", "_auth_user_id", "x"]
    assert "aside" not in session.meta


@every_engine
def test_data_is_what_it_was(old_site: OldSite, alice: Any) -> None:
    client = client_with(old_site.store_session(alice, x={"y": [1, None, "ü"]}))
    visit(client, nothing)
    assert sorted(session_of(client).data) == [
        "_auth_user_backend",
        "_auth_user_hash",
        "_auth_user_id",
        "x",
    ]
    assert session_of(client)["x"] == {"y": [1, None, "ü"]}


@every_table
def test_browser_is_known_if_the_engine_knew_it(old_site: OldSite, alice: Any) -> None:
    key = old_site.store_session(alice)
    call_command("adopt_sessions", verbosity=0)
    client = client_with(key)
    visit(client, nothing)
    knows = hasattr(old_site.store_class(), "user_agent")
    assert session_of(client).meta.get("user_agent") == ("Old browser" if knows else None)


def test_browser_is_the_one_that_presents_the_cookie(old_site: OldSite, alice: Any) -> None:
    client = client_with(old_site.store_session(alice))
    visit(client, nothing, headers={"user-agent": "x" * 300})
    assert session_of(client).meta["user_agent"] == "x" * 200


def test_user_whose_key_this_site_cannot_have_becomes_a_visitor(old_site: OldSite) -> None:
    client = client_with(old_site.store_session(_auth_user_id="six", basket=[1]))
    visit(client, lambda request: request.session.update({"pin": 1}))
    assert (names(client, who), names(client, read_basket)) == ("", "[1]")


def test_user_who_is_no_more_is_nobody(old_site: OldSite, editor: Any) -> None:
    key = old_site.store_session(editor)
    editor.delete()
    client = client_with(key)
    assert names(client, who) == ""
    assert rows() == (1, 0)


@pytest.mark.parametrize("change", [{"password": "other"}, {"is_active": False}])
def test_session_that_the_old_site_would_refuse_is_refused(
    old_site: OldSite, alice: Any, change: dict[str, Any]
) -> None:
    key = old_site.store_session(alice)
    type(alice).objects.update(**change)
    assert names(client_with(key), who) == ""


# Secrets


def test_log_does_not_know_the_old_key(
    old_site: OldSite, alice: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "usersessions")
    key = old_site.store_session(alice)
    visit(client_with(key), who)
    assert any("stored" in message for message in caplog.messages)
    assert key not in caplog.text


def test_old_session_shows_neither_key_nor_data() -> None:
    session = OldSession("k" * 32, {"pin": 4711}, 5, "Firefox")
    assert repr(session) == "OldSession(ends_at=5, user_agent='Firefox')"


@pytest.mark.parametrize(
    ("old_site", "statement"),
    [
        (DB, ("SELECT", "fe_sessions")),
        (DB, ("SELECT", "django_session")),
        (DB, ("DELETE", "django_session")),
        (DB, ("INSERT", "fe_sessions")),
        (CACHE, ("INSERT", "fe_sessions")),
    ],
    indirect=["old_site"],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else None,
)
@pytest.mark.parametrize("debug", [True, False])
def test_report_on_a_failing_move_does_not_have_the_old_key(
    old_site: OldSite, alice: Any, settings: Any, debug: bool, statement: tuple[str, str]
) -> None:
    """Attack: read the error mails, or the page of a site that was left in DEBUG."""
    settings.DEBUG = debug
    key = old_site.store_session(alice)
    request = RequestFactory().get("/")
    request.COOKIES[OLD_COOKIE] = request.META["HTTP_COOKIE"] = key

    def fail_for_one(execute: Any, sql: str, *args: Any) -> Any:
        if sql.startswith(statement[0]) and statement[1] in sql:
            break_down()
        return execute(sql, *args)

    try:
        with connection.execute_wrapper(fail_for_one):
            UserSessionMiddleware(nothing)(request)
    except OperationalError:
        reporter = ExceptionReporter(request, *sys.exc_info())
    for report in (reporter.get_traceback_text(), reporter.get_traceback_html()):
        assert "the storage is down" in report
        assert OLD_COOKIE in report
        assert key not in report


def test_report_without_a_request_is_as_ever(old_site: OldSite) -> None:
    try:
        break_down()
    except OperationalError:
        reporter = ExceptionReporter(None, *sys.exc_info())
    assert "the storage is down" in reporter.get_traceback_html()
