"""The command that moves the sessions of a table: ``adopt_sessions``."""

from __future__ import annotations

import io
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from django.contrib.auth import get_user, get_user_model
from django.core.cache import cache
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection
from django.http import HttpResponse
from django.test import RequestFactory
from django.test.utils import CaptureQueriesContext

from tests.old_engines import CACHE, CACHED_DB, DB, TABLES, OldSite
from usersessions.backends.base import SessionBackend
from usersessions.middleware import UserSessionMiddleware
from usersessions.models import BackendSession, FrontendSession

pytestmark = pytest.mark.django_db

every_table = pytest.mark.parametrize("old_site", TABLES, indirect=True)


def adopt(*arguments: str, **options: Any) -> str:
    out = io.StringIO()
    call_command("adopt_sessions", *arguments, stdout=out, **options)
    return out.getvalue()


def rows() -> tuple[int, int]:
    return FrontendSession.objects.count(), BackendSession.objects.count()


def serve(cookies: dict[str, str]) -> tuple[str, dict[str, str]]:
    """Answer a request with these cookies; return the user's name and the cookies after it."""
    request = RequestFactory().get("/")
    request.COOKIES.update(cookies)
    response = UserSessionMiddleware(
        lambda request: HttpResponse(get_user(request).get_username())
    )(request)
    changed = {name: morsel.value for name, morsel in response.cookies.items()}
    kept = {name: value for name, value in {**cookies, **changed}.items() if value}
    return response.content.decode(), kept


# What moves


@every_table
def test_sessions_move_into_the_tables_of_the_login_types(
    old_site: OldSite, alice: Any, editor: Any
) -> None:
    keys = {user: old_site.store_session(user) for user in (alice, editor)}
    visitor = old_site.store_session(basket=[1])
    assert adopt() == "3 sessions moved, 0 left where they are; 0 have expired.\n"
    assert rows() == (3, 1)
    assert not any(old_site.has(key) for key in (*keys.values(), visitor))
    for user, key in keys.items():
        assert serve({"sessionid": key})[0] == user.username
    assert rows() == (3, 1)


@every_table
def test_second_run_moves_nothing(old_site: OldSite, alice: Any) -> None:
    old_site.store_session(alice)
    adopt()
    stored = list(FrontendSession.objects.values())
    assert adopt() == "0 sessions moved, 0 left where they are; 0 have expired.\n"
    assert list(FrontendSession.objects.values()) == stored


def test_thousand_users_stay_logged_in(old_site: OldSite) -> None:
    """Half of them come back before the command runs, and all of them after it."""
    users = get_user_model()._default_manager.bulk_create(
        get_user_model()(username=f"user{number}", password="x") for number in range(1000)
    )
    names = [user.username for user in users]
    jars = [{"sessionid": old_site.store_session(user)} for user in users]
    early = [serve(jar) for jar in jars[:500]]
    assert [name for name, _ in early] == names[:500]
    assert (old_site.rows.count(), rows()) == (500, (500, 0))
    assert adopt() == "500 sessions moved, 0 left where they are; 0 have expired.\n"
    assert (old_site.rows.count(), rows()) == (0, (1000, 0))
    late = [serve(jar) for jar in [*(jar for _, jar in early), *jars[500:]]]
    assert [name for name, _ in late] == names
    assert all(list(jar) == ["fe_sessionid"] for _, jar in late)
    assert len({jar["fe_sessionid"] for _, jar in late}) == 1000
    owners = FrontendSession.objects.values_list("ses_userid", flat=True)
    assert sorted(owners) == [user.pk for user in users]
    assert adopt() == "0 sessions moved, 0 left where they are; 0 have expired.\n"
    assert rows() == (1000, 0)


@every_table
def test_what_has_expired_stays(old_site: OldSite, alice: Any) -> None:
    old_site.store_session(alice)
    old_site.rows.update(expire_date=datetime.now(timezone.utc) - timedelta(seconds=1))
    old_site.store_session(alice)
    assert adopt() == "1 sessions moved, 0 left where they are; 1 have expired.\n"
    assert (old_site.rows.count(), rows()) == (1, (1, 0))


@every_table
@pytest.mark.parametrize("data", ["not what anybody has signed", None], ids=["corrupt", "empty"])
def test_what_has_no_data_stays(old_site: OldSite, alice: Any, data: str | None) -> None:
    old_site.store_session(alice)
    old_site.rows.update(session_data=data or old_site.store_class().encode({}))
    old_site.store_session(alice)
    assert adopt() == "1 sessions moved, 1 left where they are; 0 have expired.\n"
    assert (old_site.rows.count(), rows()) == (1, (1, 0))


def test_what_cannot_be_stored_stays_and_is_told(
    old_site: OldSite, alice: Any, settings: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    settings.USERSESSIONS = {"FE": {"ADOPT_FROM": DB, "MAX_DATA_SIZE": 500}}
    key = old_site.store_session(alice, basket="x" * 500)
    old_site.store_session(alice)
    assert adopt() == "1 sessions moved, 1 left where they are; 0 have expired.\n"
    said = capsys.readouterr().err
    assert said.startswith("A session was not moved: The data of a FE session takes ")
    assert key not in said
    assert old_site.has(key)


def test_customers_stay_where_only_the_backend_adopts(
    old_site: OldSite, alice: Any, editor: Any, settings: Any
) -> None:
    settings.USERSESSIONS = {"BE": {"ADOPT_FROM": DB}}
    key = old_site.store_session(alice)
    old_site.store_session(editor)
    assert adopt() == "1 sessions moved, 1 left where they are; 0 have expired.\n"
    assert old_site.has(key)
    assert rows() == (0, 1)


@pytest.mark.parametrize(
    "old_site",
    [CACHED_DB, *(each for each in TABLES if each.id == "qsessions.cached_db")],
    indirect=True,
)
def test_copies_in_the_cache_go_too(old_site: OldSite, alice: Any) -> None:
    """Else a site that goes back would find them there, logged out or not."""
    key = old_site.store_session(alice)
    cache_key = old_site.store_class.cache_key_prefix + key
    assert cache.get(cache_key)
    adopt()
    assert cache.get(cache_key) is None


def test_session_that_a_command_moves_is_locked_to_no_address(
    old_site: OldSite, alice: Any, settings: Any
) -> None:
    settings.USERSESSIONS = {"FE": {"ADOPT_FROM": DB, "LOCK_IP": 4}}
    old_site.store_session(alice)
    adopt()
    assert FrontendSession.objects.get().ses_iplock == "[DISABLED]"


# In batches


def deletes_during(*arguments: str) -> list[int]:
    """Return how many rows each DELETE named."""
    with CaptureQueriesContext(connection) as context:
        adopt(*arguments)
    return [
        query["sql"].count("'") // 2
        for query in context.captured_queries
        if query["sql"].startswith("DELETE")
    ]


@pytest.mark.parametrize(
    ("arguments", "deletes"),
    [([], [5]), (["--batch-size", "2"], [2, 2, 1]), (["--batch-size=1"], [1] * 5)],
    ids=["default", "two", "one"],
)
def test_batch_size_limits_each_transaction(
    old_site: OldSite, arguments: list[str], deletes: list[int]
) -> None:
    for number in range(5):
        old_site.store_session(basket=[number])
    assert deletes_during(*arguments) == deletes
    assert rows() == (5, 0)


def test_database_that_takes_few_parameters_gets_smaller_batches(
    old_site: OldSite, limit_parameters: Callable[[int], None]
) -> None:
    limit_parameters(2)
    for number in range(5):
        old_site.store_session(basket=[number])
    assert deletes_during() == [2, 2, 1]


def test_command_that_was_interrupted_goes_on_where_it_was(
    old_site: OldSite, alice: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(5):
        old_site.store_session(alice)
    store, stored = SessionBackend.set, []

    def fail_once(backend: SessionBackend, identifier: str, record: Any) -> None:
        stored.append(identifier)
        if len(stored) == 4:
            raise OperationalError
        store(backend, identifier, record)

    monkeypatch.setattr(SessionBackend, "set", fail_once)
    with pytest.raises(OperationalError):
        adopt("--batch-size=2")
    assert (old_site.rows.count(), rows()) == (3, (2, 0))
    assert adopt("--batch-size=2") == "3 sessions moved, 0 left where they are; 0 have expired.\n"
    assert (old_site.rows.count(), rows()) == (0, (5, 0))


def test_batch_whose_sessions_nobody_takes_does_not_stop_the_others(
    old_site: OldSite, alice: Any
) -> None:
    for _ in range(3):
        old_site.store_session(alice)
    old_site.rows.update(session_data="")
    old_site.store_session(alice)
    assert adopt("--batch-size=1") == "1 sessions moved, 3 left where they are; 0 have expired.\n"


# Only looking, and nothing to look at


def test_dry_run_only_counts(old_site: OldSite, alice: Any) -> None:
    for _ in range(2):
        old_site.store_session(alice)
    assert adopt("--dry-run") == "Up to 2 sessions would be moved; 0 have expired.\n"
    assert (old_site.rows.count(), rows()) == (2, (0, 0))


@pytest.mark.parametrize(
    ("login_types", "message"),
    [
        pytest.param(
            {},
            "No login type has ADOPT_FROM. Set it to the site's previous SESSION_ENGINE, for "
            'example USERSESSIONS = {"FE": {"ADOPT_FROM": "django.contrib.sessions.backends.db"}}.',
            id="none",
        ),
        pytest.param(
            {"FE": {"ADOPT_FROM": CACHE}},
            "The sessions of 'django.contrib.sessions.backends.cache' cannot be listed. Each one "
            "moves when a request presents its cookie.",
            id="cache",
        ),
        pytest.param(
            {"FE": {"ADOPT_FROM": "django.contrib.sessions.backends.signed_cookies"}},
            "The session engine 'django.contrib.sessions.backends.signed_cookies' keeps its "
            "sessions neither in a table nor in the cache; they cannot be adopted.",
            id="signed-cookies",
        ),
    ],
)
def test_site_without_a_table_to_move_is_told_why(
    settings: Any, login_types: Any, message: str
) -> None:
    settings.USERSESSIONS = login_types
    with pytest.raises(CommandError) as caught:
        call_command("adopt_sessions", skip_checks=True)
    assert str(caught.value) == message
