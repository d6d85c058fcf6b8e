"""Sessions in Redis behind the middleware: what a request costs, and that a whole site works."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from typing import Any

import pytest
from django.contrib import auth as django_auth
from django.contrib.admin.models import LogEntry
from django.core.management import call_command
from django.test import AsyncClient

from tests.conftest import Clock
from tests.redis_servers import (
    RedisCluster,
    RedisServer,
    RedisSessionBackend,
    Storage,
    redis,
    scripts,
)
from tests.urls import avisit, visit
from usersessions import auth
from usersessions.models import BackendSession, FrontendSession
from usersessions.test import Client

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.urls")]


@pytest.fixture
def storage(redis_server: RedisServer) -> Iterator[Storage]:
    storage = Storage([redis_server], {"url": redis_server.url})
    for script in vars(scripts).values():
        if isinstance(script, scripts.Script):
            redis_server.client.script_load(script.text)
    yield storage
    storage.assert_every_key_ends()
    storage.close()


@pytest.fixture
def backend(storage: Storage, settings: Any) -> Any:
    """The storage of FE; BE stays in the database."""
    return storage.use(settings)


class RoundTrips:
    """What went out to Redis inside a ``with`` block: the first command of each sending."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sent: list[str] = []
        self._is_counting = False
        send = redis.connection.AbstractConnection.send_packed_command

        def note_and_send(connection: Any, command: Any, **options: Any) -> Any:
            self._note(command)
            return send(connection, command, **options)

        monkeypatch.setattr(
            redis.connection.AbstractConnection, "send_packed_command", note_and_send
        )

    def _note(self, command: Any) -> None:
        packed = command if isinstance(command, bytes) else b"".join(command)
        name = re.split(rb"\r\n", packed)[2].decode().upper()
        if self._is_counting and name not in ("HELLO", "CLIENT", "SELECT"):  # a connection's own
            self.sent.append(name)

    def __enter__(self) -> RoundTrips:
        self.sent.clear()
        self._is_counting = True
        return self

    def __exit__(self, *_: object) -> None:
        self._is_counting = False


@pytest.fixture
def round_trips(monkeypatch: pytest.MonkeyPatch) -> RoundTrips:
    return RoundTrips(monkeypatch)


def put(request: Any) -> None:
    request.session["basket"] = {"apple": 3}


def read(request: Any) -> Any:
    return request.session.get("basket")


# What a request costs


def steps(alice: Any) -> dict[str, tuple[Any, Any]]:
    """What a view may do, as synchronous and as async code."""

    async def count(request: Any) -> None:
        await request.session.aset("count", await request.session.aget("count", 0) + 1)

    def log_in(request: Any) -> None:
        django_auth.login(request, alice)

    async def alog_in(request: Any) -> None:
        await django_auth.alogin(request, alice)

    async def nothing(request: Any) -> None:
        return None

    async def aread(request: Any) -> Any:
        return await request.session.aget("basket")

    return {
        "nothing": (lambda request: None, nothing),
        "read": (read, aread),
        "change": (lambda r: r.session.update({"count": r.session.get("count", 0) + 1}), count),
        "login": (log_in, alog_in),
        "logout": (django_auth.logout, django_auth.alogout),
    }


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_round_trips_of_a_visit(
    backend: Any, alice: Any, round_trips: RoundTrips, clock: Clock, is_async: bool
) -> None:
    client: Any = AsyncClient() if is_async else Client()
    backend.clock = clock

    def trips(step: str) -> list[str]:
        view = steps(alice)[step][is_async]
        with round_trips:
            response = avisit(client, view) if is_async else visit(client, view)
        assert response.status_code == 200
        return list(round_trips.sent)

    assert trips("read") == []  # no cookie
    client.cookies["fe_sessionid"] = "eyJhbGciOiJIUzI1NiJ9.eyJpZGVudGlmaWVyIjoiMCJ9.Zm9yZ2Vk"
    assert trips("read") == []  # a forged one
    assert trips("change") == ["EVALSHA"]  # the first datum
    assert trips("nothing") == []
    assert trips("read") == ["GET"]
    assert trips("change") == ["GET", "EVALSHA"]
    clock.forward(62)
    assert trips("read") == ["GET", "EVALSHA"]  # a touch
    assert trips("login") == ["GET", "EVALSHA"]
    assert trips("read") == ["GET"]
    assert trips("logout") == ["GET", "EVALSHA"]
    assert trips("read") == []


# Databases beside


@pytest.mark.parametrize("login_types", [("FE",), ("FE", "BE")], ids="+".join)
def test_session_that_a_switch_hangs_on_is_asked_for_where_it_is_kept(
    storage: Storage,
    settings: Any,
    alice: Any,
    superuser: Any,
    login_types: tuple[str, ...],
) -> None:
    storage.use(settings, *login_types)
    client, async_client = Client(), AsyncClient()
    client.force_login(superuser, login_type="BE")
    visit(client, lambda request: auth.switch_user(request, alice, login_type="FE"), "/admin/")
    async_client.cookies["fe_sessionid"] = client.cookies["fe_sessionid"].value

    async def session_only(request: Any) -> Any:
        return await request.session.aget("backuserid")

    assert avisit(async_client, session_only).content == repr(superuser.pk).encode()
    visit(client, django_auth.logout, "/admin/")
    assert avisit(async_client, session_only).content == b"None"
    assert storage.listed(alice.pk) == set()
    assert LogEntry.objects.latest("pk").change_message == "Switched back from this user (FE)."


def test_redis_drops_a_switched_session_a_minute_after_its_time(
    storage: Storage, settings: Any, alice: Any, superuser: Any
) -> None:
    storage.use(settings, SWITCH_MAX_SECONDS=900)
    client = Client()
    client.force_login(superuser)
    visit(client, lambda request: auth.switch_user(request, alice))
    [key] = storage.keys("*:session:*")
    assert 900 < storage.ttl(key) <= 960


def test_backend_in_the_database_beside_frontend_in_redis(backend: Any, editor: Any) -> None:
    async def use_both(request: Any) -> None:
        await request.session.aset("basket", 1)
        await auth.alogin(request, editor, login_type="BE")

    async def read_both(request: Any) -> Any:
        user = await auth.aget_user(request, "BE")
        return await request.session.aget("basket"), user.get_username()

    client = AsyncClient()
    response = avisit(client, use_both)
    assert {"fe_sessionid", "be_sessionid"} <= set(response.cookies)
    assert avisit(client, read_both).content == b"(1, 'editor')"
    assert BackendSession.objects.count() == len(list(backend.get_all())) == 1
    assert FrontendSession.objects.count() == 0


@pytest.mark.parametrize("error", [AttributeError, TypeError, RuntimeError])
def test_connection_that_others_close_is_an_error_of_the_cluster(
    redis_cluster: RedisCluster, error: type[Exception]
) -> None:
    """redis-py closes one that is in use when a node goes away; Pythons differ in what they say."""
    backend = RedisSessionBackend("FE", {"cluster": True, "nodes": redis_cluster.addresses})

    def use(client: Any) -> None:
        raise error

    with pytest.raises(redis.ConnectionError) as caught:
        backend.redis.run(use)
    assert str(caught.value) == "The connection was closed while it was used."
    assert isinstance(caught.value.__cause__, error)
    backend.close()


# A whole site


@pytest.fixture
def site(storage: Storage, settings: Any) -> Storage:
    """Both login types in Redis."""
    storage.use(settings, "FE", "BE")
    return storage


@contextmanager
def no_table_is_used() -> Iterator[None]:
    yield
    assert BackendSession.objects.count() == FrontendSession.objects.count() == 0


def who(request: Any) -> str:
    return str(request.user)


def test_login_switch_and_exit(site: Storage, alice: Any, superuser: Any) -> None:
    client = Client()
    with no_table_is_used():
        visit(client, lambda request: django_auth.login(request, superuser))
        visit(client, lambda request: auth.switch_user(request, alice))
        assert visit(client, who).content == b"'alice'"
        assert len(site.listed(alice.pk)) == 1
        visit(client, auth.exit_switch_user)
        assert visit(client, who).content == b"'admin'"
        assert (site.listed(alice.pk), len(site.listed(superuser.pk))) == (set(), 1)
        visit(client, django_auth.logout)
        assert site.keys() == []


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_limit_on_sessions_costs_two_round_trips_and_a_list_before_a_refusal(
    storage: Storage, settings: Any, alice: Any, round_trips: RoundTrips, is_async: bool
) -> None:
    def trips(reached: str) -> list[str]:
        storage.use(settings, MAX_SESSIONS_PER_USER=1, MAX_SESSIONS_REACHED=reached)
        client: Any = AsyncClient() if is_async else Client()
        view = steps(alice)["login"][is_async]
        with round_trips:
            avisit(client, view) if is_async else visit(client, view)
        return list(round_trips.sent)

    is_free, reads = ["EVALSHA"], ["EVALSHA", "GET"]
    assert trips("refuse-login") == [*is_free, *is_free, "EVALSHA"]  # the last one stores it
    assert trips("refuse-login") == reads
    assert trips("end-oldest") == ["EVALSHA", "EVALSHA", "MGET", "EVALSHA"]


def test_login_that_fails_before_it_ends_others_leaves_them_and_succeeds_when_it_is_repeated(
    storage: Storage, settings: Any, alice: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = storage.use(settings, MAX_SESSIONS_PER_USER=1)
    first, second = Client(), Client(raise_request_exception=False)
    visit(first, lambda request: django_auth.login(request, alice))
    visit(second, put)

    def fail(*args: Any) -> None:
        raise redis.ConnectionError

    with monkeypatch.context() as patch:
        patch.setattr(backend, "remove_by_ses_id", fail)
        answer = visit(second, lambda request: django_auth.login(request, alice))
    assert answer.status_code == 500
    assert visit(first, who).content == b"'alice'"
    visit(second, lambda request: django_auth.login(request, alice))
    assert visit(second, read).content == b"{'apple': 3}"
    assert visit(first, who).content == b"'AnonymousUser'"
    assert len(storage.listed(alice.pk)) == 1


def test_login_that_was_sent_twice_is_one_session(site: Storage, alice: Any) -> None:
    client, twin = Client(), Client()
    visit(client, put)
    twin.cookies["fe_sessionid"] = client.cookies["fe_sessionid"].value
    visit(client, lambda request: django_auth.login(request, alice))
    visit(twin, lambda request: django_auth.login(request, alice))
    assert len(site.keys("*:session:*")) == len(site.listed(alice.pk)) == 1
    assert visit(twin, read).content == b"{'apple': 3}"


def test_collection_tells_what_it_did(site: Storage, alice: Any) -> None:
    key = f"usersessions:FE:user:{alice.pk}"
    visit(Client(), lambda request: django_auth.login(request, alice))
    site.client_of(key).zadd(key, {"gone": 1})
    out = StringIO()
    call_command("collect_session_garbage", "--dry-run", stdout=out)
    call_command("collect_session_garbage", stdout=out)
    drops = "the storage drops expired sessions itself;"
    assert out.getvalue().splitlines() == [
        f"FE: {drops} 1 entries would be deleted from users' lists.",
        f"BE: {drops} 0 entries would be deleted from users' lists.",
        f"FE: {drops} 1 entries were deleted from users' lists.",
        f"BE: {drops} 0 entries were deleted from users' lists.",
    ]
    assert len(site.keys("*:session:*")) == 1
