"""Sessions on a database of their own, with a replica that is always behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connections, transaction
from django.http import HttpRequest, HttpResponse
from django.urls import path, reverse

from tests.conftest import Clock
from tests.contract.session_backend import second_database
from tests.factories import NOW
from tests.urls_admin import urlpatterns as admin_urls
from usersessions import SessionManager
from usersessions.backends.transactions import transaction_depth, watch_transaction
from usersessions.models import BackendSession, FrontendSession
from usersessions.test import Client

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.urls(__name__)]

SESSIONS, REPLICA = "sessions", "replica"


def remember(request: HttpRequest) -> HttpResponse:
    request.session["visits"] = request.session.get("visits", 0) + 1
    return HttpResponse(str(request.session["visits"]))


def look(request: HttpRequest) -> HttpResponse:
    return HttpResponse(str(request.session.get("visits")))


def log_out_and_fail(request: HttpRequest) -> HttpResponse:
    request.session.flush()
    raise ZeroDivisionError


urlpatterns = [
    path("remember/", remember),
    path("look/", look),
    path("fail/", log_out_and_fail),
    *admin_urls,
]


class Router:
    """What README shows, but that reads go to a replica: ours must not."""

    def db_for_read(self, model: Any, **hints: Any) -> str | None:
        return REPLICA if model._meta.app_label == "django_usersessions" else None

    def db_for_write(self, model: Any, **hints: Any) -> str | None:
        return SESSIONS if model._meta.app_label == "django_usersessions" else None


@pytest.fixture(params=["router", "using"])
def elsewhere(request: pytest.FixtureRequest, settings: Any, tmp_path: Path) -> Iterator[None]:
    """Sessions are in a database of their own, by each of the two ways to say so."""
    with (
        second_database(tmp_path / "sessions.sqlite3", SESSIONS),
        second_database(tmp_path / "replica.sqlite3", REPLICA),
    ):
        settings.USERSESSIONS = {}
        if request.param == "router":
            settings.DATABASE_ROUTERS = [f"{__name__}.Router"]
        else:
            settings.USERSESSIONS = {
                name: {"OPTIONS": {"model": f"django_usersessions.{model}", "using": SESSIONS}}
                for name, model in (("BE", "BackendSession"), ("FE", "FrontendSession"))
            }
        yield
        for model in (BackendSession, FrontendSession):
            assert not model._base_manager.using("default").exists()
            assert not model._base_manager.using(REPLICA).exists()


def stored(model: Any = FrontendSession) -> Any:
    return model._base_manager.using(SESSIONS)


@pytest.fixture
def visitor(elsewhere: None, client: Client) -> Client:
    client.get("/remember/")
    return client


@pytest.fixture
def customer(elsewhere: None, client: Client, alice: Any) -> Client:
    client.force_login(alice)
    return client


def test_replica_that_lags_behind_logs_nobody_out(customer: Client, alice: Any) -> None:
    assert [customer.get("/remember/").content for _ in range(2)] == [b"1", b"2"]
    assert stored().get().ses_userid == alice.pk


def test_touch_goes_to_the_sessions_database(clock: Clock, visitor: Client) -> None:
    clock.forward(62)
    visitor.get("/look/")
    assert stored().get().ses_tstamp == NOW + 62


def test_login_renews_the_session_where_it_is(visitor: Client, alice: Any) -> None:
    visitor.force_login(alice)
    assert stored().get().ses_userid == alice.pk
    assert visitor.get("/remember/").content == b"2"


@pytest.mark.parametrize("change", ["password", "deactivation", "deletion", "revocation"])
def test_sessions_of_a_user_end_where_they_are(customer: Client, alice: Any, change: str) -> None:
    user = get_user_model().objects.get(pk=alice.pk)
    if change == "password":
        user.set_password("another one")
        user.save()
    elif change == "deactivation":
        user.is_active = False
        user.save()
    elif change == "deletion":
        user.delete()
    else:
        SessionManager.invalidate_all_sessions_by_user_id("FE", alice.pk)
    assert not stored().exists()


@pytest.mark.parametrize("command", ["collect_session_garbage", "clearsessions"])
def test_collection_goes_to_the_sessions_database(visitor: Client, command: str) -> None:
    stored().update(ses_tstamp=0)
    call_command(command, verbosity=0)
    assert not stored().exists()


def test_admin_lists_and_ends_sessions_of_the_sessions_database(
    visitor: Client, other_client: Client, superuser: User
) -> None:
    other_client.force_login(superuser, login_type="BE")
    session = stored().get()
    url = reverse("admin:django_usersessions_frontendsession_changelist")
    assert session.short_hash in other_client.get(url).content.decode()
    assert other_client.get(f"{url}{session.pk}/change/").status_code == 200
    other_client.post(url, {"action": "end_selected_sessions", "_selected_action": [session.pk]})
    assert not stored().exists()


@pytest.mark.parametrize("atomic", ["default", SESSIONS])
def test_logout_holds_though_the_requests_transaction_is_rolled_back(
    visitor: Client, monkeypatch: pytest.MonkeyPatch, atomic: str
) -> None:
    """ATOMIC_REQUESTS takes back what a view has written that failed; not that a session ended."""
    monkeypatch.setitem(connections[atomic].settings_dict, "ATOMIC_REQUESTS", True)
    visitor.raise_request_exception = False
    assert visitor.get("/fail/").status_code == 500
    assert not stored().exists()


def test_transactions_of_other_databases_do_not_count(elsewhere: None) -> None:
    backend = SessionManager.get_session_backend("FE")
    with transaction.atomic():
        assert transaction_depth(backend) == 0
        with transaction.atomic(using=SESSIONS):
            assert transaction_depth(backend) == 1


def test_rollback_of_another_database_takes_no_session_back(elsewhere: None) -> None:
    backend = SessionManager.get_session_backend("FE")
    with transaction.atomic():
        was_rolled_back = watch_transaction(backend)
        backend.set("0" * 32, {"ses_data": b"{}"})
        transaction.set_rollback(True)
    assert was_rolled_back() is False
    assert stored().exists()


def test_rollback_of_the_sessions_database_is_noticed(elsewhere: None) -> None:
    backend = SessionManager.get_session_backend("FE")
    with transaction.atomic(using=SESSIONS):
        was_rolled_back = watch_transaction(backend)
        backend.set("0" * 32, {"ses_data": b"{}"})
        transaction.set_rollback(True, using=SESSIONS)
    assert was_rolled_back() is True
    assert not stored().exists()
