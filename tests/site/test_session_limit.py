"""How many sessions a user may have at once: what counts, what goes, and what a refusal leaves."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import islice
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib import auth as django_auth
from django.core.exceptions import PermissionDenied
from django.db import connection
from django.http import HttpResponse
from django.test import AsyncClient as DjangoAsyncClient
from django.test import Client as DjangoClient
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils.translation import override

from tests.conftest import Clock
from tests.factories import NOW, BackendSessionFactory, FrontendSessionFactory, UserFactory
from tests.site.test_middleware import put_basket, read_basket, session_cookies
from tests.urls import avisit, visit
from usersessions import TooManySessions, UserSessionManager, auth
from usersessions.backends.base import SessionBackend
from usersessions.lifecycle.user_lock import user_lock
from usersessions.models import BackendSession, FrontendSession
from usersessions.test import AsyncClient, Client

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.urls("tests.urls"),
    pytest.mark.usefixtures("clock"),
]

REFUSED = (
    "You have 1 session already, which is as many as are allowed. "
    "End it first: log out there, then log in here."
)


@pytest.fixture
def limit(settings: Any) -> Callable[..., None]:
    """Let users have so many frontend sessions at once."""

    def limit(number: int, reached: str = "end-oldest", **more: Any) -> None:
        limits = {"MAX_SESSIONS_PER_USER": number, "MAX_SESSIONS_REACHED": reached, **more}
        settings.USERSESSIONS = {**settings.USERSESSIONS, "FE": limits}

    return limit


@pytest.fixture
def end_oldest(limit: Callable[..., None]) -> None:
    limit(1)


@pytest.fixture
def refuse(limit: Callable[..., None]) -> None:
    limit(1, "refuse-login")


@pytest.fixture
def phone(alice: Any, refuse: None) -> Client:
    """Where alice has taken the only place."""
    phone = Client()
    phone.force_login(alice)
    return phone


def log_in(user: Any, **options: Any) -> Any:
    return lambda request: auth.login(request, user, **options)


def who(request: Any) -> str:
    return str(request.user.get_username())


def is_in(client: Client, user: Any) -> bool:
    return bool(visit(client, who).content.decode() == repr(user.get_username()))


def rows_of(user: Any) -> set[str]:
    return set(FrontendSession.objects.filter(ses_userid=user.pk).values_list("pk", flat=True))


def everything() -> list[dict[str, Any]]:
    return list(FrontendSession.objects.order_by("pk").values())


# What counts


def put_row(user: Any, **fields: Any) -> Any:
    return FrontendSessionFactory(**{"ses_userid": user.pk, **fields})


def data(**meta: Any) -> bytes:
    return json.dumps({"_usersessions": meta}).encode()


def switched_by(user: Any) -> bytes:
    aside = {"data": {}, "meta": {}, "user_id": user.pk, "is_permanent": False}
    return data(back_user=user.pk, back_hash="scrypt$", aside=aside)


CASES = [
    pytest.param(lambda alice, bob: put_row(alice), True, id="another-session"),
    pytest.param(lambda alice, bob: put_row(alice, ses_permanent=True), True, id="permanent"),
    pytest.param(lambda alice, bob: put_row(alice, ses_tstamp=NOW - 6000), True, id="last-second"),
    pytest.param(lambda alice, bob: put_row(alice, ses_tstamp=NOW - 6001), False, id="expired"),
    pytest.param(
        lambda alice, bob: put_row(
            alice,
            ses_tstamp=NOW - 6001,
            ses_data=b'{"_session_expiry":9e9,"_usersessions":{"expires_at":9000000000}}',
        ),
        True,
        id="expires-as-it-says",
    ),
    pytest.param(lambda alice, bob: put_row(alice, ses_data=b"\xff"), False, id="corrupt"),
    pytest.param(
        lambda alice, bob: put_row(alice, ses_data=switched_by(bob)),
        False,
        id="somebody-has-switched-to-her",
    ),
    pytest.param(
        lambda alice, bob: put_row(bob, ses_data=switched_by(alice)),
        False,
        id="she-has-switched-to-somebody",
    ),
    pytest.param(
        lambda alice, bob: put_row(alice, ses_data=b'{"backuserid":%d}' % bob.pk),
        True,
        id="says-that-somebody-has-switched",
    ),
    pytest.param(lambda alice, bob: put_row(bob), False, id="another-user"),
    pytest.param(lambda alice, bob: FrontendSessionFactory(), False, id="visitor"),
    pytest.param(
        lambda alice, bob: BackendSessionFactory(ses_userid=alice.pk), False, id="another-type"
    ),
]


@pytest.mark.parametrize(("put", "counts"), CASES)
def test_what_counts_keeps_others_out(
    client: Client, alice: Any, bob: Any, refuse: None, put: Any, counts: bool
) -> None:
    row = put(alice, bob)
    answer = visit(client, log_in(alice))
    assert answer.status_code == (403 if counts else 200)
    assert is_in(client, alice) is not counts
    row.refresh_from_db()


@pytest.mark.parametrize(("put", "counts"), CASES)
def test_what_counts_goes_and_nothing_else(
    client: Client, alice: Any, bob: Any, end_oldest: None, put: Any, counts: bool
) -> None:
    row = put(alice, bob)
    visit(client, log_in(alice))
    assert is_in(client, alice)
    assert type(row).objects.filter(pk=row.pk).exists() is not counts


def test_without_a_limit_nothing_counts(
    client: Client, alice: Any, limit: Callable[..., None]
) -> None:
    limit(0, "refuse-login")
    FrontendSessionFactory.create_batch(3, ses_userid=alice.pk)
    visit(client, log_in(alice))
    assert len(rows_of(alice)) == 4


@pytest.mark.parametrize("reached", ["end-oldest", "refuse-login"])
def test_second_login_in_the_same_browser_takes_the_place_of_the_first(
    client: Client, other_client: Client, alice: Any, limit: Callable[..., None], reached: str
) -> None:
    limit(2, reached)
    for browser in (other_client, client, client, client):
        visit(browser, log_in(alice))
    assert is_in(client, alice)
    assert is_in(other_client, alice)


@pytest.mark.parametrize("reached", ["end-oldest", "refuse-login"])
def test_login_form_that_was_sent_twice_takes_one_place(
    client: Client, other_client: Client, alice: Any, limit: Callable[..., None], reached: str
) -> None:
    limit(1, reached)
    visit(client, put_basket)
    other_client.cookies["fe_sessionid"] = client.cookies["fe_sessionid"].value
    for browser in (client, other_client):
        assert visit(browser, log_in(alice)).status_code == 200
    assert len(rows_of(alice)) == 1
    assert visit(other_client, read_basket).content == b"{'apple': 3}"


def test_logging_out_makes_room(phone: Client, client: Client, alice: Any) -> None:
    visit(phone, auth.logout)
    visit(client, log_in(alice))
    assert is_in(client, alice)


# Which go


def test_those_longest_unused_go(client: Client, alice: Any, limit: Callable[..., None]) -> None:
    limit(3)
    in_use = put_row(alice, ses_tstamp=NOW - 10, ses_data=data(login_at=NOW - 9000))
    recent = put_row(alice, ses_tstamp=NOW - 20, ses_data=data(login_at=NOW - 20))
    for seconds in (30, 40, 50):
        put_row(alice, ses_tstamp=NOW - seconds)
    visit(client, log_in(alice))
    assert rows_of(alice) > {in_use.pk, recent.pk}
    assert len(rows_of(alice)) == 3


def test_expiry_of_its_own_does_not_make_a_session_younger(
    client: Client, alice: Any, limit: Callable[..., None]
) -> None:
    limit(2)
    for_a_year = data(expires_at=NOW + 31_536_000, saved_at=NOW - 50)
    put_row(
        alice,
        ses_tstamp=NOW + 31_530_000,
        ses_data=for_a_year[:-1] + b', "_session_expiry": 31536000}',
    )
    used_later = put_row(alice, ses_tstamp=NOW - 10)
    visit(client, log_in(alice))
    assert used_later.pk in rows_of(alice)
    assert len(rows_of(alice)) == 2


def test_of_two_that_were_used_in_the_same_second_the_earlier_login_goes(
    client: Client, alice: Any, limit: Callable[..., None]
) -> None:
    limit(2)
    later = put_row(alice, ses_id="1" * 64, ses_data=data(login_at=NOW - 1))
    put_row(alice, ses_id="f" * 64, ses_data=data(login_at=NOW - 2))
    visit(client, log_in(alice))
    assert later.pk in rows_of(alice)
    assert len(rows_of(alice)) == 2


def test_hash_decides_where_nothing_else_does(
    client: Client, alice: Any, limit: Callable[..., None]
) -> None:
    limit(2)
    for first in "1f8":
        put_row(alice, ses_id=first * 64)
    visit(client, log_in(alice))
    assert "f" * 64 in rows_of(alice)
    assert len(rows_of(alice)) == 2


def test_login_that_is_stored_stays_though_others_seem_younger(
    client: Client, alice: Any, end_oldest: None
) -> None:
    """The clocks of two servers are never quite the same."""
    put_row(alice, ses_tstamp=NOW + 30)
    visit(client, log_in(alice))
    assert is_in(client, alice)
    assert len(rows_of(alice)) == 1


def test_session_that_is_renewed_while_it_is_to_end_ends_all_the_same(
    client: Client,
    other_client: Client,
    alice: Any,
    end_oldest: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Attack: renew the identifier again and again, to keep more sessions than are allowed."""
    visit(other_client, log_in(alice))
    remove, times = SessionBackend.remove_by_ses_id, iter(range(3))

    def renew_first(backend: SessionBackend, ses_ids: Any) -> int:
        for _ in islice(times, 1):
            visit(other_client, lambda request: request.session.cycle_key())
        return remove(backend, ses_ids)

    monkeypatch.setattr(SessionBackend, "remove_by_ses_id", renew_first)
    client.force_login(alice)
    assert next(times, None) is None
    assert len(rows_of(alice)) == 1
    assert not is_in(other_client, alice)


def test_storage_that_never_ends_what_it_is_told_to_does_not_keep_a_login_waiting(
    client: Client, alice: Any, end_oldest: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_row(alice)
    monkeypatch.setattr(SessionBackend, "remove_by_ses_id", lambda backend, ses_ids: 0)
    visit(client, log_in(alice))
    assert is_in(client, alice)


# Refusals: at once, or where others were faster, when the login is stored


def overtaken(user: Any, *, by: Client, save: bool = False) -> Any:
    """A view whose login is valid until somebody else takes the last place."""

    def view(request: Any) -> None:
        auth.login(request, user)
        request.session["seen"] = "by the user"
        by.force_login(user)
        if save:
            request.session.save()

    return view


@pytest.fixture(params=["at-once", "with-the-response", "by-the-views-save"])
def refused_login(
    request: pytest.FixtureRequest, alice: Any, refuse: None, other_client: Client
) -> Any:
    """A view whose login is refused."""
    if request.param == "at-once":
        other_client.force_login(alice)
        return log_in(alice, is_permanent=True)
    return overtaken(alice, by=other_client, save=request.param == "by-the-views-save")


def test_refused_login_leaves_the_visitors_session_as_it_was(
    client: Client, alice: Any, refused_login: Any
) -> None:
    visit(client, put_basket)
    before = [row for row in everything() if row["ses_userid"] != alice.pk]
    answer = visit(client, refused_login)
    assert answer.status_code == 403
    assert "Cookie" in answer["Vary"]
    assert session_cookies(answer) == []
    assert [row for row in everything() if row["ses_userid"] != alice.pk] == before
    assert len(rows_of(alice)) == 1
    assert visit(client, lambda request: dict(request.session)).content == (
        b"{'basket': {'apple': 3}}"
    )


def test_refused_login_makes_no_session_for_a_visitor_without_one(
    client: Client, refused_login: Any
) -> None:
    answer = visit(client, refused_login)
    assert (answer.status_code, session_cookies(answer)) == (403, [])
    assert FrontendSession.objects.count() == 1


@pytest.mark.parametrize("refused_login", ["at-once", "by-the-views-save"], indirect=True)
@pytest.mark.parametrize("has_session", [True, False])
def test_view_of_a_refused_login_sees_the_visitor_again(
    client: Client, refused_login: Any, has_session: bool
) -> None:
    if has_session:
        visit(client, put_basket)
    key = client.session.session_key if has_session else None

    def view(request: Any) -> Any:
        with pytest.raises(TooManySessions):
            refused_login(request)
        session = request.session
        return dict(session), request.user.is_anonymous, session.session_key, session.modified

    answer = visit(client, view)
    data = {"basket": {"apple": 3}} if has_session else {}
    assert answer.content.decode() == repr((data, True, key, False))
    assert session_cookies(answer) == []


def test_refused_visitor_is_told_why(client: Client, phone: Client, alice: Any) -> None:
    def view(request: Any) -> str:
        with pytest.raises(TooManySessions) as error:
            auth.login(request, alice)
        assert isinstance(error.value, PermissionDenied)
        assert (error.value.login_type, error.value.limit) == ("FE", 1)
        return str(error.value)

    assert visit(client, view).content.decode() == repr(REFUSED)


@pytest.mark.parametrize(
    ("language", "number", "beginning"),
    [
        ("en", 2, "You have 2 sessions already, which is as many as are allowed. End one "),
        ("de", 1, "Sie haben bereits 1 Sitzung, mehr sind nicht erlaubt. Beenden Sie diese "),
        ("fr", 3, "Vous avez déjà 3 sessions, le maximum autorisé. Terminez-en une "),
    ],
)
def test_refusal_is_in_the_visitors_language(language: str, number: int, beginning: str) -> None:
    with override(language):
        assert str(TooManySessions("FE", number)).startswith(beginning)


@pytest.mark.urls("tests.urls_django")
def test_djangos_login_page_answers_403(client: Client, phone: Client, alice: Any) -> None:
    form = {"username": "alice", "password": "alice"}
    answer = client.post(reverse("login"), form)
    assert answer.status_code == 403
    assert session_cookies(answer) == []
    assert len(rows_of(alice)) == 1
    assert is_in(phone, alice)


def test_what_the_view_had_put_in_before_a_refused_login_stays(
    client: Client, phone: Client, alice: Any
) -> None:
    def view(request: Any) -> None:
        put_basket(request)
        auth.login(request, alice)

    assert visit(client, view).status_code == 403
    assert visit(client, read_basket).content == b"{'apple': 3}"
    assert visit(client, who).content == b"''"


def test_refused_login_logs_out_who_was_logged_in_as_somebody_else(
    client: Client, phone: Client, alice: Any, bob: Any
) -> None:
    """As Django does before anybody is asked: the person at the browser is not bob any more."""
    visit(client, log_in(bob))
    answer = visit(client, log_in(alice))
    assert answer.status_code == 403
    assert answer.cookies["fe_sessionid"]["max-age"] == 0
    assert rows_of(bob) == set()


def test_user_who_is_logged_in_already_is_not_refused(phone: Client, alice: Any) -> None:
    before = rows_of(alice)
    assert visit(phone, log_in(alice)).status_code == 200
    assert len(rows_of(alice)) == 1
    assert rows_of(alice) != before


def test_refused_login_to_another_type_leaves_the_paths_own_alone(
    client: Client, phone: Client, alice: Any, editor: Any
) -> None:
    visit(client, log_in(editor), "/admin/")

    def view(request: Any) -> Any:
        with pytest.raises(TooManySessions):
            auth.login(request, alice, login_type="FE")
        return request.user.username, dict(request.user_sessions["FE"])

    assert visit(client, view, "/admin/").content == b"('editor', {})"


@pytest.mark.parametrize("make", [Client, DjangoClient])
def test_test_client_raises_the_same(make: Any, phone: Client, alice: Any) -> None:
    client = make()
    with pytest.raises(TooManySessions, match="You have 1 session already"):
        client.force_login(alice)
    assert "fe_sessionid" not in client.cookies
    assert len(rows_of(alice)) == 1


@pytest.mark.parametrize("make", [AsyncClient, DjangoAsyncClient])
def test_async_test_client_raises_the_same(make: Any, phone: Client, alice: Any) -> None:
    client = make()
    with pytest.raises(TooManySessions, match="You have 1 session already"):
        async_to_sync(client.aforce_login)(alice)
    assert "fe_sessionid" not in client.cookies
    assert len(rows_of(alice)) == 1


def test_manager_refuses_before_it_stores(phone: Client, alice: Any, clock: Clock) -> None:
    manager = UserSessionManager.create("FE", clock=clock)
    with pytest.raises(TooManySessions):
        manager.elevate_to_fixated_user_session(manager.create_anonymous_session(), alice.pk)
    assert len(rows_of(alice)) == 1


def test_key_that_names_a_user_without_a_login_is_refused_as_well(
    client: Client, phone: Client, alice: Any
) -> None:
    """Attack on sites with a login of their own: who writes the key past ``login()``."""
    visit(client, put_basket)
    before = everything()
    answer = visit(client, lambda request: request.session.update({"_auth_user_id": str(alice.pk)}))
    assert answer.status_code == 403
    assert everything() == before


def test_refused_copy_of_a_session_leaves_the_session(phone: Client, alice: Any) -> None:
    def view(request: Any) -> Any:
        assert who(request) == "alice"
        with pytest.raises(TooManySessions):
            request.session.create()
        return who(request)

    assert visit(phone, view).content == b"'alice'"
    assert is_in(phone, alice)


def test_answer_to_a_refusal_has_the_cookie_of_a_login_to_another_type(
    client: Client, other_client: Client, alice: Any, editor: Any, refuse: None
) -> None:
    def view(request: Any) -> None:
        auth.login(request, editor, login_type="BE")
        overtaken(alice, by=other_client)(request)

    answer = visit(client, view)
    assert (answer.status_code, session_cookies(answer)) == (403, ["be_sessionid"])
    assert BackendSession.objects.get().ses_userid == editor.pk


def test_page_of_a_refusal_shows_that_nobody_is_logged_in(
    client: Client, other_client: Client, alice: Any, refuse: None, settings: Any
) -> None:
    settings.ROOT_URLCONF = "tests.urls_403"
    answer = visit(client, overtaken(alice, by=other_client))
    assert (answer.status_code, answer.content.decode()) == (403, f"[] {REFUSED}")


# Async


@pytest.mark.parametrize("is_overtaken", [False, True], ids=["early", "late"])
def test_async_login_is_refused_as_well(
    alice: Any, refuse: None, other_client: Client, is_overtaken: bool
) -> None:
    client = AsyncClient()

    async def put(request: Any) -> None:
        await request.session.aset("basket", {"apple": 3})

    avisit(client, put)
    before = everything()
    if not is_overtaken:
        other_client.force_login(alice)

    async def view(request: Any) -> None:
        await auth.alogin(request, alice)
        await AsyncClient().aforce_login(alice)

    answer = avisit(client, view)
    assert (answer.status_code, session_cookies(answer)) == (403, [])
    assert [row for row in everything() if row["ses_userid"] != alice.pk] == before
    assert len(rows_of(alice)) == 1


def test_async_view_sees_the_visitor_again(alice: Any, bob: Any, phone: Client) -> None:
    client = AsyncClient()
    async_to_sync(client.aforce_login)(bob)

    async def view(request: Any) -> HttpResponse:
        assert await request.auser() == bob
        with pytest.raises(TooManySessions):
            await django_auth.alogin(request, alice)
        user = await request.auser()
        return HttpResponse(repr((user.is_anonymous, await request.session.aget("_auth_user_id"))))

    assert avisit(client, view).content == b"(True, None)"


# Switching user


@pytest.fixture
def switched(client: Client, superuser: Any, alice: Any, refuse: None) -> Client:
    """Where the superuser has switched to alice."""
    client.force_login(superuser)
    visit(client, lambda request: auth.switch_user(request, alice))
    return client


def test_way_back_from_a_switch_is_never_refused(
    switched: Client, other_client: Client, superuser: Any
) -> None:
    other_client.force_login(superuser)  # the place was free meanwhile
    visit(switched, auth.exit_switch_user)
    assert is_in(switched, superuser)
    assert not is_in(other_client, superuser)


def test_login_as_the_target_of_a_switch_needs_a_place(
    switched: Client, other_client: Client, alice: Any
) -> None:
    other_client.force_login(alice)
    before = everything()
    assert visit(switched, log_in(alice)).status_code == 403
    assert everything() == before
    visit(other_client, auth.logout)
    assert visit(switched, log_in(alice)).status_code == 200
    assert len(rows_of(alice)) == 1


# What it costs


def kinds(view: Any, client: Client) -> list[str]:
    """The statements of a visit, by their first word and where they go."""
    with CaptureQueriesContext(connection) as statements:
        visit(client, view)
    places = {"e_sessions": "session", '"auth_user"': "user", "`auth_user`": "user"}
    found = []
    for query in statements.captured_queries:
        words = query["sql"].split()
        place = next((name for part, name in places.items() if part in query["sql"]), "")
        if "last_login" not in query["sql"] or words[0] == "SELECT":
            found.append(f"{words[0]} {place}".strip())
    return found


def lock() -> str:
    return "SELECT user" if connection.features.has_select_for_update else "UPDATE user"


def test_login_with_a_limit_costs_a_lock_and_a_list(
    client: Client, alice: Any, limit: Callable[..., None]
) -> None:
    limit(2)
    visit(client, put_basket)
    assert kinds(log_in(alice), client) == [
        "SELECT session",
        "SAVEPOINT",
        lock(),
        "UPDATE session",
        "SELECT session",
        "RELEASE",
    ]


def test_ending_the_others_costs_one_statement_more(
    client: Client, alice: Any, end_oldest: None
) -> None:
    FrontendSessionFactory.create_batch(3, ses_userid=alice.pk)
    assert kinds(log_in(alice), client) == [
        "SAVEPOINT",
        lock(),
        "INSERT session",
        "SELECT session",
        "DELETE session",
        "RELEASE",
    ]


def test_login_that_may_be_refused_costs_a_second_list(
    client: Client, alice: Any, refuse: None
) -> None:
    visit(client, put_basket)
    assert kinds(log_in(alice), client) == [
        "SELECT session",
        "SELECT session",
        "SAVEPOINT",
        lock(),
        "SELECT session",
        "UPDATE session",
        "RELEASE",
    ]


def test_refusal_costs_one_list(client: Client, phone: Client, alice: Any) -> None:
    assert kinds(log_in(alice), client) == ["SELECT session"]


def test_what_is_no_login_costs_nothing_more(phone: Client, alice: Any) -> None:
    assert kinds(put_basket, phone) == ["SELECT session", "UPDATE session"]
    assert kinds(log_in(alice), phone) == ["SELECT session", "UPDATE session"]
    assert kinds(lambda request: request.session.cycle_key(), phone) == [
        "SELECT session",
        "UPDATE session",
    ]


# Failures in between


class StorageIsGone(Exception):
    """What the storage says in the middle of a login."""


def test_login_that_fails_halfway_leaves_everybody_their_session(
    client: Client, other_client: Client, alice: Any, end_oldest: None
) -> None:
    other_client.force_login(alice)
    visit(client, put_basket)
    before = everything()

    def fail(execute: Any, sql: str, *args: Any) -> Any:
        if sql.startswith("DELETE"):
            raise StorageIsGone
        return execute(sql, *args)

    client.raise_request_exception = False
    with connection.execute_wrapper(fail):
        assert visit(client, log_in(alice)).status_code == 500
    assert everything() == before
    assert is_in(other_client, alice)
    assert visit(client, read_basket).content == b"{'apple': 3}"


# The lock


def test_user_without_a_row_leaves_nothing_to_lock() -> None:
    with user_lock(2_000_000_000):
        assert connection.in_atomic_block


def test_locking_changes_nothing_of_the_user(alice: Any) -> None:
    users = type(alice).objects
    before = list(users.values())
    with user_lock(alice.pk):
        pass
    assert list(users.values()) == before


def test_error_under_the_lock_takes_back_what_was_written_there(alice: Any) -> None:
    def write_and_fail() -> None:
        with user_lock(alice.pk):
            UserFactory(username="carol")
            raise StorageIsGone

    with pytest.raises(StorageIsGone):
        write_and_fail()
    assert not type(alice).objects.filter(username="carol").exists()
