"""People, a clock that stands still, and clients."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from asgiref.sync import SyncToAsync
from django.contrib.auth.models import Permission
from django.core.cache import cache
from django.db import connection
from django.test.utils import CaptureQueriesContext
from hypothesis import settings as hypothesis_settings

from testproject.shop.models import Product
from tests.factories import NOW, UserFactory
from tests.old_engines import DB, OldSite
from tests.places import place_of
from usersessions import SessionManager
from usersessions.backends.base import SessionBackend
from usersessions.lifecycle import user_session_manager
from usersessions.store import SessionStore
from usersessions.test import Client

if TYPE_CHECKING:
    from tests.redis_servers import RedisCluster, RedisServer

# How long a test takes says nothing on a machine that runs others beside it.
hypothesis_settings.register_profile("tests", deadline=None)
hypothesis_settings.load_profile("tests")

pytest.register_assert_rewrite("tests.contract.session_backend")


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Use every core where no test is named; ``-n`` and ``-p no:xdist`` say otherwise."""
    runs_all = config.args_source is pytest.Config.ArgsSource.TESTPATHS
    is_worker = hasattr(config, "workerinput")
    told = getattr(config.option, "numprocesses", 0)
    config.option.numprocesses = "auto" if told is None and runs_all and not is_worker else told


class Clock:
    """Says what time it is until a test moves it."""

    def __init__(self) -> None:
        self.now: float = NOW

    def __call__(self) -> float:
        return self.now

    def forward(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture(autouse=True)
def even_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    """No collection by ``GC_PROBABILITY``'s 1 %: one run in a hundred would count its queries."""
    chance = SimpleNamespace(random=lambda: 0.5)
    monkeypatch.setattr(user_session_manager, "random", chance)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of every session store and of managers that it is handed to."""
    clock = Clock()
    monkeypatch.setattr(SessionStore, "clock", staticmethod(clock))
    return clock


@pytest.fixture
def limit_parameters(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Has the database take so many parameters a statement."""

    def limit(number: int) -> None:
        monkeypatch.delitem(vars(connection.features), "max_query_params", raising=False)  # a cache
        monkeypatch.setattr(type(connection.features), "max_query_params", number)

    return limit


@pytest.fixture
def other_client() -> Client:
    return Client()


@pytest.fixture
def alice(db: None) -> Any:
    return UserFactory(username="alice")


@pytest.fixture
def bob(db: None) -> Any:
    return UserFactory(username="bob")


@pytest.fixture
def editor(db: None) -> Any:
    return UserFactory(username="editor", is_staff=True)


@pytest.fixture
def superuser(db: None) -> Any:
    return UserFactory(username="admin", is_staff=True, is_superuser=True)


@pytest.fixture
def admin(client: Client, superuser: Any) -> Client:
    """The browser of the superuser, logged in to the backend."""
    client.force_login(superuser, login_type="BE")
    return client


@pytest.fixture
def staff(client: Client, editor: Any) -> Callable[..., Client]:
    """Log in an editor who has these permissions."""

    def staff(*permissions: str) -> Client:
        editor.user_permissions.set(Permission.objects.filter(codename__in=permissions))
        client.force_login(editor, login_type="BE")
        return client

    return staff


class SessionQueries(CaptureQueriesContext):
    """The statements on session tables inside a ``with`` block."""

    @property
    def kinds(self) -> list[str]:
        """The first word of each statement on a session table, in order."""
        return [
            query["sql"].split()[0]
            for query in self.captured_queries
            if "e_sessions" in query["sql"]
        ]


@pytest.fixture
def session_queries(db: None) -> SessionQueries:
    return SessionQueries(connection)


@pytest.fixture(params=[pytest.param(DB, id="django.db")])
def old_site(request: pytest.FixtureRequest, settings: Any) -> Iterator[OldSite]:
    """The site as it was; its users move to FE and BE now."""
    frontend = {**settings.USERSESSIONS.get("FE", {}), "ADOPT_FROM": request.param}
    settings.USERSESSIONS = {**settings.USERSESSIONS, "FE": frontend}
    yield OldSite(request.param)
    cache.clear()


@pytest.fixture
def thread_hops(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The functions that async code has handed to a thread, in order."""
    hops: list[str] = []
    call = SyncToAsync.__call__

    async def note_and_call(hop: Any, *args: Any, **kwargs: Any) -> Any:
        hops.append(getattr(hop.func, "__qualname__", repr(hop.func)))
        return await call(hop, *args, **kwargs)

    monkeypatch.setattr(SyncToAsync, "__call__", note_and_call)
    return hops


@pytest.fixture
def products(db: None) -> None:
    """What the demo shop sells: a lamp, whether or not its migration's products are still there."""
    Product.objects.get_or_create(
        slug="desk-lamp", defaults={"name": "Desk lamp", "price": "59.00", "drawing": "lamp"}
    )


@pytest.fixture(params=["database", "cached", "redis", "cluster"])
def every_storage(request: pytest.FixtureRequest, settings: Any) -> Iterator[SessionBackend]:
    """Where the site keeps its frontend sessions; requests collect none of them by chance."""
    if request.param in ("redis", "cluster") and connection.vendor != "sqlite":
        pytest.skip("sessions in Redis are the same beside any database")
    with place_of(request.param, request, settings) as place:
        settings.USERSESSIONS = {"FE": {**place, "GC_PROBABILITY": 0}}
        yield SessionManager.get_session_backend("FE")


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    from tests.redis_servers import RedisServer  # its package may be missing

    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.close()


@pytest.fixture(scope="session")
def redis_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    from tests.redis_servers import RedisCluster

    cluster = RedisCluster(tmp_path_factory.mktemp("cluster"))
    yield cluster
    cluster.close()
