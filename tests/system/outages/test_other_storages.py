"""One login type's storage is down: what becomes of the sessions in another one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis
from django.contrib.auth import update_session_auth_hash
from django.contrib.auth.models import User

from tests.redis_servers import RedisServer
from tests.system.outages.storages import RedisStorage, Storage
from tests.urls import site_of, visit
from usersessions import auth
from usersessions.models import BackendSession
from usersessions.test import Client

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.urls")]


@pytest.fixture
def storage(redis_server: RedisServer, settings: Any) -> Iterator[Storage]:
    """Where FE is; BE is in the database."""
    storage = RedisStorage(redis_server)
    with storage.in_use(settings):
        yield storage


@pytest.fixture
def client() -> Client:
    return Client(raise_request_exception=False)


def who(request: Any) -> str:
    return str(request.user.username)


def test_new_password_ends_the_sessions_that_can_be_ended_and_tells_of_the_others(
    storage: Storage,
    client: Client,
    alice: Any,
    caplog: pytest.LogCaptureFixture,
    django_capture_on_commit_callbacks: Any,
) -> None:
    client.force_login(alice)
    client.force_login(alice, login_type="BE")
    storage.server.kill()
    alice.set_password("new")
    with (
        pytest.raises(redis.ConnectionError),
        django_capture_on_commit_callbacks(execute=True),
    ):
        alice.save()
    assert User.objects.get(pk=alice.pk).check_password("new")
    assert not BackendSession.objects.exists()
    assert f"The FE sessions of user {alice.pk} were not ended." in caplog.messages
    storage.server.recover()
    # Django's hash of the password ends it, when it is used next.
    assert visit(client, who).content == b"''"
    assert list(storage.backend.get_all()) == []


def test_deactivation_counts_although_the_storage_was_down(
    storage: Storage, client: Client, alice: Any, django_capture_on_commit_callbacks: Any
) -> None:
    client.force_login(alice)
    storage.server.kill()
    alice.is_active = False
    with (
        pytest.raises(redis.ConnectionError),
        django_capture_on_commit_callbacks(execute=True),
    ):
        alice.save()
    storage.server.recover()
    assert visit(client, who).content == b"''"


def test_password_can_be_changed_in_a_request_whose_own_session_cannot_be_read(
    storage: Storage, client: Client, alice: Any, django_capture_on_commit_callbacks: Any
) -> None:
    """As by an API with tokens, called from a page with a session cookie."""
    client.force_login(alice)
    client.force_login(alice, login_type="BE")

    def change_password(request: Any) -> str:
        alice.set_password("new")
        alice.save()
        return "changed"

    storage.server.kill()
    with (
        pytest.raises(redis.ConnectionError),
        django_capture_on_commit_callbacks(execute=True),
    ):
        assert visit(client, change_password).status_code == 200
    assert not BackendSession.objects.exists()


def test_session_that_changed_its_own_password_stays_where_another_storage_is_down(
    storage: Storage, client: Client, alice: Any, django_capture_on_commit_callbacks: Any
) -> None:
    client.force_login(alice, login_type="BE")

    def change_password(request: Any) -> None:
        request.user.set_password("new")
        request.user.save()
        update_session_auth_hash(request, request.user)

    storage.server.kill()
    with (
        pytest.raises(redis.ConnectionError),
        django_capture_on_commit_callbacks(execute=True),
    ):
        visit(client, change_password, "/admin/")
    assert visit(client, who, "/admin/").content == b"'alice'"


def test_login_to_a_storage_that_works_is_kept_where_that_of_the_path_is_down(
    storage: Storage, client: Client, alice: Any, bob: Any
) -> None:
    client.force_login(alice)
    cookie = client.cookies["fe_sessionid"].value

    def use_both(request: Any) -> None:
        request.session["basket"] = "lamp"
        auth.login(request, bob, login_type="BE")
        storage.server.kill()

    with site_of(use_both):
        response = client.get("/")
    assert response.status_code == 500
    assert isinstance(response.exc_info[1], redis.ConnectionError)
    assert list(response.cookies) == ["be_sessionid"]
    assert client.cookies["fe_sessionid"].value == cookie
    assert visit(client, who, "/admin/").content == b"'bob'"
    storage.server.recover()
    assert visit(client, who).content == b"'alice'"


def test_failures_of_two_sessions_are_both_told(
    storage: Storage,
    client: Client,
    alice: Any,
    settings: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    settings.USERSESSIONS = {"FE": storage.login_type, "BE": {"MAX_DATA_SIZE": 1}}

    def use_both(request: Any) -> None:
        request.user_sessions["BE"]["draft"] = "much"
        request.session["basket"] = "lamp"
        storage.server.kill()

    client.force_login(alice)
    response = visit(client, use_both)
    told = [entry for entry in caplog.records if entry.name == "usersessions.middleware"]
    errors = {type(response.exc_info[1]).__name__, *(it.exc_info[0].__name__ for it in told)}
    assert errors == {"ConnectionError", "SessionDataTooLarge"}
