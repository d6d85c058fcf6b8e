"""Sessions in a table with a cache in front: the contract, and that the cache is never wrong."""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from importlib.util import find_spec
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from django.contrib import auth
from django.core.cache import caches
from django.core.exceptions import ImproperlyConfigured
from django.db import OperationalError, connection, connections, transaction
from django.test.utils import CaptureQueriesContext
from django.utils.module_loading import import_string

from tests.cache_servers import CacheServer
from tests.conftest import Clock
from tests.contract.session_backend import (
    ALICE,
    BOB,
    IDENTIFIER,
    NEW_IDENTIFIER,
    THIRD_IDENTIFIER,
    BackendContract,
    a_record,
    second_database,
    take_over,
)
from tests.factories import NOW, UserFactory
from tests.missing import report_missing
from tests.plans import kinds_of_revocation
from tests.urls import visit
from usersessions import (
    CachedDatabaseSessionBackend,
    DatabaseSessionBackend,
    SessionBackend,
    SessionBackendError,
    SessionChanged,
    SessionNotFound,
    SessionNotUpdated,
    UserSessionManager,
)
from usersessions.models import FrontendSession
from usersessions.test import Client

# Inside a test's own transaction nothing would be cached. Only our tables are emptied afterwards.
pytestmark = pytest.mark.django_db(transaction=True, available_apps=["usersessions"])

BACKEND = "usersessions.backends.cached_database.CachedDatabaseSessionBackend"
MODEL = {"model": "django_usersessions.FrontendSession"}
OPTIONS = {**MODEL, "cache": "sessions"}
LOCMEM = "django.core.cache.backends.locmem.LocMemCache"
FILES = "django.core.cache.backends.filebased.FileBasedCache"
DATA = a_record()["ses_data"]

Operation = Callable[[SessionBackend], Any]


def locmem() -> dict[str, Any]:
    return {"BACKEND": LOCMEM, "LOCATION": secrets.token_hex(8)}


def use_cache(settings: Any, cache: dict[str, Any]) -> None:
    """Give the site this cache under the name "sessions", with nothing in it that it can see."""
    settings.CACHES = {
        "default": locmem(),
        "sessions": {**cache, "KEY_PREFIX": secrets.token_hex(8)},
    }


def make_backend(login_type: str = "FE", **options: Any) -> CachedDatabaseSessionBackend:
    return CachedDatabaseSessionBackend(login_type, {**OPTIONS, **options})


def kinds_in(statements: CaptureQueriesContext) -> list[str]:
    """The first word of each statement, but those of transactions."""
    kinds = [query["sql"].split()[0] for query in statements.captured_queries]
    return [kind for kind in kinds if kind not in ("BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT")]


@contextmanager
def costs(*kinds: str) -> Iterator[None]:
    """Assert which statements the block needs."""
    with CaptureQueriesContext(connection) as statements:
        yield
    assert kinds_in(statements) == [*kinds]


def first_read() -> list[str]:
    """What the first read after a change costs."""
    return ["SELECT"] if connection.vendor == "mysql" else []


def outcome(backend: SessionBackend, identifier: str) -> Any:
    try:
        record = dict(backend.get(identifier))
    except SessionNotFound:
        return None
    return {**record, "ses_permanent": bool(record.get("ses_permanent"))}


def assert_true(backend: SessionBackend) -> None:
    """Assert that the storage says what the table holds, and that it has something to say."""
    table = DatabaseSessionBackend("FE", MODEL)
    for identifier in (IDENTIFIER, NEW_IDENTIFIER, THIRD_IDENTIFIER):
        expected = outcome(table, identifier)
        assert outcome(backend, identifier) == expected  # whatever is there
        assert outcome(backend, identifier) == expected  # what that has put there


@pytest.fixture
def backend(settings: Any) -> CachedDatabaseSessionBackend:
    use_cache(settings, locmem())
    return make_backend()


@pytest.mark.django_db(transaction=True)  # with all apps: it must know the user model
class TestCachedDatabase(BackendContract):
    @pytest.fixture
    def backend(
        self, transactional_db: None, backend: CachedDatabaseSessionBackend
    ) -> CachedDatabaseSessionBackend:
        return backend

    def test_session_moves_to_the_hash_of_a_new_key_with_its_cached_record(
        self, backend: SessionBackend, rotated: str
    ) -> None:
        with costs():
            assert backend.get(IDENTIFIER)["ses_id"] == rotated
        backend.touch(IDENTIFIER, NOW + 62, seen=NOW)
        assert backend.get(IDENTIFIER)["ses_id"] == backend.hash(IDENTIFIER)
        with costs():
            assert backend.get(IDENTIFIER)["ses_tstamp"] == NOW + 62
        backend.remove(IDENTIFIER)
        assert outcome(backend, IDENTIFIER) is None


# What the cache must do, on each cache


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CacheServer]:
    """A Redis that may be killed."""
    _ = find_spec("redis") or report_missing("redis-py is not installed.")
    server = CacheServer("redis", tmp_path_factory.mktemp("redis"))
    yield server
    server.kill()


@pytest.fixture(scope="module")
def memcached(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CacheServer]:
    """A Memcached that may be killed."""
    _ = find_spec("pymemcache") or report_missing("pymemcache is not installed.")
    server = CacheServer("memcached", tmp_path_factory.mktemp("memcached"))
    yield server
    server.kill()


def cache_of(name: str, request: pytest.FixtureRequest) -> dict[str, Any]:
    """Return an entry of ``CACHES``: on the server that the environment names, else on ours."""
    if name == "locmem":
        return locmem()
    if name == "files":
        return {"BACKEND": FILES, "LOCATION": str(request.getfixturevalue("tmp_path"))}
    here = request.getfixturevalue(name).settings
    there = os.environ.get(f"USERSESSIONS_TEST_{name.upper()}")
    return {**here, "LOCATION": there} if there else here


@pytest.mark.django_db(transaction=True)
class TestEachCache:
    @pytest.fixture(
        params=["locmem", "files", "redis", "memcached"],
    )
    def backend(
        self, transactional_db: None, request: pytest.FixtureRequest, settings: Any
    ) -> CachedDatabaseSessionBackend:
        use_cache(settings, cache_of(request.param, request))
        return make_backend()

    def test_session_that_is_in_use_is_read_without_a_query(self, backend: SessionBackend) -> None:
        FrontendSession.objects.create(
            ses_id=backend.hash(IDENTIFIER), **a_record(ses_userid=ALICE, ses_permanent=True)
        )
        with costs("SELECT"):
            first = backend.get(IDENTIFIER)
        with costs():
            assert backend.get(IDENTIFIER) == first
        with costs():
            assert make_backend().get(IDENTIFIER) == first

    def test_stored_session_is_read_without_a_query(self, backend: SessionBackend) -> None:
        backend.set(IDENTIFIER, a_record(ses_userid=ALICE))
        with costs():
            found = outcome(backend, IDENTIFIER)
        assert found == outcome(DatabaseSessionBackend("FE", MODEL), IDENTIFIER)

    @pytest.mark.parametrize(
        "write",
        [
            pytest.param(
                lambda b: b.update(IDENTIFIER, {"ses_data": b"new"}, expected_data=DATA),
                id="update",
            ),
            pytest.param(lambda b: b.touch(IDENTIFIER, NOW + 62, seen=NOW), id="touch"),
        ],
    )
    def test_change_is_one_query_and_seen_at_once(
        self, backend: SessionBackend, write: Operation
    ) -> None:
        backend.set(IDENTIFIER, a_record(ses_userid=ALICE))
        make_backend().get(IDENTIFIER)
        with costs("UPDATE"):
            write(backend)
        with costs(*first_read()):
            found = outcome(make_backend(), IDENTIFIER)
        assert found == outcome(DatabaseSessionBackend("FE", MODEL), IDENTIFIER)
        with costs():
            assert outcome(make_backend(), IDENTIFIER) == found

    @pytest.mark.parametrize(
        ("end", "statement"),
        [
            pytest.param(lambda b: b.remove(IDENTIFIER), "DELETE", id="remove"),
            pytest.param(
                lambda b: b.remove_by_ses_id([b.hash(IDENTIFIER)]), "DELETE", id="remove-by-ses-id"
            ),
            pytest.param(lambda b: b.remove_by_user(ALICE), "", id="remove-by-user"),
            pytest.param(
                lambda b: b.remove_by_user(ALICE, except_=[THIRD_IDENTIFIER]),
                "",
                id="remove-by-user-except",
            ),
            pytest.param(
                lambda b: b.renew(IDENTIFIER, NEW_IDENTIFIER, a_record()), "UPDATE", id="renew"
            ),
            pytest.param(
                lambda b: take_over(
                    b, {"ses_id": b.hash(IDENTIFIER), "ses_data": DATA}, NEW_IDENTIFIER, a_record()
                ),
                "UPDATE",
                id="take-over",
            ),
        ],
    )
    def test_end_of_a_session_is_one_query_and_seen_at_once(
        self, backend: SessionBackend, end: Operation, statement: str
    ) -> None:
        """A stolen cookie is worth nothing once its owner has logged out."""
        backend.set(IDENTIFIER, a_record(ses_userid=ALICE))
        make_backend().get(IDENTIFIER)
        kinds = [statement] if statement else kinds_of_revocation()
        with costs(*kinds):
            end(backend)
        with pytest.raises(SessionNotFound):
            make_backend().get(IDENTIFIER)

    def test_other_sessions_stay_in_the_cache(self, backend: SessionBackend) -> None:
        for identifier in (IDENTIFIER, NEW_IDENTIFIER):
            backend.set(identifier, a_record(ses_userid=ALICE))
        backend.remove_by_user(ALICE, except_=[NEW_IDENTIFIER])
        with costs():
            backend.get(NEW_IDENTIFIER)

    def test_users_many_sessions_end_with_one_statement(self, backend: SessionBackend) -> None:
        identifiers = [f"{number:032x}" for number in range(40)]
        for identifier in identifiers:
            backend.set(identifier, a_record(ses_userid=ALICE))
        with costs(*kinds_of_revocation(40)):
            assert backend.remove_by_user(ALICE) == 40
        assert [outcome(backend, identifier) for identifier in identifiers] == [None] * 40

    def test_emptied_cache_costs_a_query(self, backend: CachedDatabaseSessionBackend) -> None:
        backend.set(IDENTIFIER, a_record())
        backend.cache.delete_many(
            key for ses_id in backend.keys.ses_ids(IDENTIFIER) for key in backend._keys_of(ses_id)
        )
        with costs("SELECT"):
            backend.get(IDENTIFIER)
        with costs():
            backend.get(IDENTIFIER)


def entries(alias: str = "sessions") -> dict[str, Any]:
    """What is in a LocMem cache."""
    cache: Any = caches[alias]
    return {key: cache.get(key.split(":", 2)[2]) for key in list(cache._cache)}


def test_cache_never_holds_an_identifier(backend: CachedDatabaseSessionBackend) -> None:
    """Whoever reads the cache cannot make a cookie from it."""
    backend.set(IDENTIFIER, a_record(ses_userid=ALICE))
    dump = repr(entries())
    backend.update(IDENTIFIER, {"ses_data": b"new"})
    backend.get(IDENTIFIER)
    dump += repr(entries())
    backend.renew(IDENTIFIER, NEW_IDENTIFIER, a_record(ses_userid=ALICE))
    backend.get(NEW_IDENTIFIER)
    dump += repr(entries())
    assert backend.hash(IDENTIFIER) in dump
    assert backend.hash(NEW_IDENTIFIER) in dump
    for identifier in (IDENTIFIER, NEW_IDENTIFIER):
        assert identifier not in dump
        assert repr(bytes.fromhex(identifier)) not in dump


def test_data_of_an_ended_session_leaves_the_cache(backend: CachedDatabaseSessionBackend) -> None:
    backend.set(IDENTIFIER, a_record())
    backend.remove(IDENTIFIER)
    assert entries() == {}


def test_entries_live_for_the_cache_timeout(settings: Any) -> None:
    """An ended session that the cache was not told of is worth nothing after that time."""
    use_cache(settings, locmem())
    backend = make_backend(cache_timeout=7)
    backend.set(IDENTIFIER, a_record())
    FrontendSession.objects.create(ses_id=backend.hash(NEW_IDENTIFIER), **a_record())
    backend.get(NEW_IDENTIFIER)
    ends = caches["sessions"]._expire_info.values()  # type: ignore[attr-defined]
    latest = backend.cache.get_backend_timeout(7)
    assert len(ends) == 4
    assert all(latest - 60 < end <= latest for end in ends)


def test_stored_record_is_cached_as_the_table_has_it(settings: Any) -> None:
    use_cache(settings, locmem())
    model = {"model": "django_usersessions.BackendSession"}
    backend = make_backend("BE", **model)
    backend.set(IDENTIFIER, {"ses_data": bytearray(b"1"), "ses_permanent": True})  # type: ignore[typeddict-item]
    with costs():
        found = backend.get(IDENTIFIER)
    assert found == DatabaseSessionBackend("BE", model).get(IDENTIFIER)
    assert type(found["ses_data"]) is bytes


def test_lists_come_from_the_database(backend: CachedDatabaseSessionBackend) -> None:
    backend.set(IDENTIFIER, a_record(ses_userid=ALICE))
    FrontendSession.objects.update(ses_data=b"past the class")
    assert next(backend.get_all())["ses_data"] == b"past the class"
    assert next(backend.get_by_user(ALICE))["ses_data"] == b"past the class"


def test_dummy_cache_costs_a_query_each_time(settings: Any) -> None:
    use_cache(settings, {"BACKEND": "django.core.cache.backends.dummy.DummyCache"})
    backend = make_backend()
    backend.set(IDENTIFIER, a_record())
    for _ in range(2):
        with costs("SELECT"):
            backend.get(IDENTIFIER)


def test_sessions_of_two_login_types_do_not_meet(backend: CachedDatabaseSessionBackend) -> None:
    other = make_backend("BE", model="django_usersessions.BackendSession")
    backend.set(IDENTIFIER, a_record(ses_userid=ALICE))
    with pytest.raises(SessionNotFound):
        other.get(IDENTIFIER)


def test_sessions_of_two_databases_do_not_meet(
    backend: CachedDatabaseSessionBackend, tmp_path: Path
) -> None:
    """User 7 of one tenant is somebody else in the next tenant's database."""
    backend.set(IDENTIFIER, a_record(ses_userid=ALICE))
    with second_database(tmp_path / "second.sqlite3") as alias, pytest.raises(SessionNotFound):
        make_backend(using=alias).get(IDENTIFIER)


def test_collected_session_leaves_the_cache(backend: CachedDatabaseSessionBackend) -> None:
    backend.set(IDENTIFIER, a_record(ses_tstamp=NOW - 101))
    backend.get(IDENTIFIER)
    assert backend.collect_garbage(100, now=NOW) == 1
    assert outcome(backend, IDENTIFIER) is None


# Databases that cannot tell the rows that they have changed


@pytest.fixture
def _no_returning(monkeypatch: pytest.MonkeyPatch) -> None:
    """MySQL, or an SQLite before 3.35."""
    monkeypatch.setattr(connection.features, "can_return_columns_from_insert", False)


@pytest.mark.usefixtures("_no_returning")
def test_change_is_seen_where_the_database_does_not_return_rows(
    backend: CachedDatabaseSessionBackend,
) -> None:
    backend.set(IDENTIFIER, a_record())
    with costs("UPDATE"):
        backend.update(IDENTIFIER, {"ses_data": b"new"})
    with costs("SELECT"):
        assert backend.get(IDENTIFIER)["ses_data"] == b"new"


@pytest.mark.usefixtures("_no_returning")
def test_user_s_sessions_end_where_the_database_does_not_return_rows(
    backend: CachedDatabaseSessionBackend,
) -> None:
    for identifier in (IDENTIFIER, NEW_IDENTIFIER):
        backend.set(identifier, a_record(ses_userid=ALICE))
    backend.set(THIRD_IDENTIFIER, a_record(ses_userid=BOB))
    with costs("SELECT", "DELETE", "SELECT"):
        assert backend.remove_by_user(ALICE) == 2
    assert_true(backend)
    assert FrontendSession.objects.get().ses_userid == BOB


@pytest.mark.usefixtures("_no_returning")
def test_session_renewed_since_it_was_selected_ends_with_the_others(
    backend: CachedDatabaseSessionBackend,
) -> None:
    """A thief whose request renews the session in that very moment stays logged in no longer."""
    other = make_backend()
    backend.set(IDENTIFIER, a_record(ses_userid=ALICE))
    renew = partial(other.renew, IDENTIFIER, NEW_IDENTIFIER, a_record(ses_userid=ALICE))
    with interrupted(backend, "DELETE", renew):
        assert backend.remove_by_user(ALICE) == 1
    assert not FrontendSession.objects.exists()
    assert_true(backend)


# One process in the middle of an operation, while another does a whole one


@contextmanager
def interrupted(
    backend: CachedDatabaseSessionBackend, step: str, action: Callable[[], Any]
) -> Iterator[None]:
    """Do something just before the first such step of a backend, a statement or the cache's."""
    waiting = [action]

    def interrupt(kind: str) -> None:
        if waiting and kind == step:
            waiting.pop()()

    with stepping(backend, interrupt):
        yield
    assert not waiting


@contextmanager
def stepping(backend: CachedDatabaseSessionBackend, note: Callable[[str], None]) -> Iterator[None]:
    """Tell of each step of a backend, just before it is done, by the cache's method or in SQL."""
    attempt = backend._try

    def note_and_try(operation: str, *args: Any, **options: Any) -> Any:
        note(operation)
        return attempt(operation, *args, **options)

    def note_and_execute(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        note(sql.split(maxsplit=1)[0])
        return execute(sql, params, many, context)

    backend._try = note_and_try  # type: ignore[method-assign]
    try:
        with connection.execute_wrapper(note_and_execute):
            yield
    finally:
        del backend._try  # type: ignore[misc]


READ = ["get_many", "add", "SELECT", "set"]

OTHERS = [
    pytest.param(lambda b: b.update(IDENTIFIER, {"ses_data": b"new"}), id="update"),
    pytest.param(lambda b: b.touch(IDENTIFIER, NOW + 62, seen=NOW), id="touch"),
    pytest.param(lambda b: b.remove(IDENTIFIER), id="remove"),
    pytest.param(lambda b: b.remove(IDENTIFIER, expected_data=DATA), id="remove-expecting"),
    pytest.param(lambda b: b.remove_by_ses_id([b.hash(IDENTIFIER)]), id="remove-by-ses-id"),
    pytest.param(lambda b: b.remove_by_user(ALICE), id="remove-by-user"),
    pytest.param(lambda b: b.renew(IDENTIFIER, NEW_IDENTIFIER, a_record()), id="renew"),
]


@pytest.mark.parametrize("step", READ)
@pytest.mark.parametrize("other", OTHERS)
def test_slow_reader_puts_nothing_old_into_the_cache(
    backend: CachedDatabaseSessionBackend, step: str, other: Operation
) -> None:
    """A request that was reading the session when it ended must not bring it back."""
    FrontendSession.objects.create(ses_id=backend.hash(IDENTIFIER), **a_record(ses_userid=ALICE))
    with interrupted(backend, step, lambda: other(make_backend())), suppress(SessionNotFound):
        backend.get(IDENTIFIER)
    assert_true(backend)


@pytest.mark.parametrize("step", range(5))
@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize(
    "write",
    [
        pytest.param(lambda b: b.update(IDENTIFIER, {"ses_iplock": "mine"}), id="update"),
        pytest.param(lambda b: b.touch(IDENTIFIER, NOW + 99, seen=NOW), id="touch"),
        pytest.param(lambda b: b.renew(IDENTIFIER, THIRD_IDENTIFIER, a_record()), id="renew"),
    ],
)
def test_slow_writer_puts_nothing_old_into_the_cache(
    backend: CachedDatabaseSessionBackend, step: int, other: Operation, write: Operation
) -> None:
    """A request that was saving the session when it ended must not bring it back."""
    backend.set(IDENTIFIER, a_record(ses_userid=ALICE))

    steps: list[str] = []

    def interfere(kind: str) -> None:
        steps.append(kind)
        if len(steps) == step + 1:
            with suppress(SessionNotUpdated):
                other(make_backend())
            outcome(make_backend(), IDENTIFIER)

    with stepping(backend, interfere), suppress(SessionNotUpdated):
        write(backend)
    assert_true(backend)


@pytest.mark.parametrize("other", [other for other in OTHERS if other.id != "remove-by-user"])
def test_process_that_dies_after_its_statement_leaves_nothing_to_trust(
    backend: CachedDatabaseSessionBackend, other: Operation
) -> None:
    """Of a user's sessions it learns by that statement only which ones there were."""
    backend.set(IDENTIFIER, a_record(ses_userid=ALICE))
    done: list[str] = []

    def die(step: str) -> None:
        if done:
            raise SystemExit
        done.extend({step} & {"UPDATE", "DELETE"})

    with suppress(SystemExit), stepping(backend, die):
        other(backend)
    assert_true(backend)


# Two processes step by step, in every order


class Process:
    """Does one operation in a thread, and waits before each step until it is told to go on."""

    def __init__(self, thread: Executor, operation: Operation) -> None:
        self._operation = operation
        self._backend = make_backend()
        self._turns = threading.Semaphore(0)
        self._is_waiting = threading.Event()
        self._done = thread.submit(self._run)
        self._done.add_done_callback(lambda _: self._is_waiting.set())

    def _run(self) -> None:
        self._pause("start")
        with suppress(SessionBackendError), stepping(self._backend, self._pause):
            self._operation(self._backend)

    def _pause(self, step: str) -> None:
        self._is_waiting.set()
        self._turns.acquire()

    def do_a_step(self) -> None:
        """Return when the next step waits, or when all is done."""
        self._is_waiting.wait()
        if not self._done.done():
            self._is_waiting.clear()
            self._turns.release()
            self._is_waiting.wait()

    def finish(self) -> None:
        self._turns.release(99)
        self._done.result()


@pytest.fixture
def threads() -> Iterator[list[Executor]]:
    """Two threads, each with a connection of its own."""
    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as two:
        yield [one, two]
        for thread in (one, two):
            thread.submit(connections.close_all).result()


#: How many steps each operation has: the start, the cache before, the statement, the cache after.
STEPS = {
    "read": 5,
    "update": 5,
    "other-update": 5,
    "touch": 5,
    "remove": 4,
    "remove-by-user": 4,
    "renew": 6,
    "login": 5,
}


@pytest.mark.parametrize(
    ("one", "two"),
    [
        pytest.param("read", "touch", id="reader-vs-touch"),
        pytest.param("read", "remove", id="reader-vs-remove"),
        pytest.param("read", "remove-by-user", id="reader-vs-remove-by-user"),
        pytest.param("read", "renew", id="reader-vs-renew"),
        pytest.param("update", "touch", id="writer-vs-writer"),
        pytest.param("update", "other-update", id="writer-vs-conflicting-writer"),
        pytest.param("touch", "remove", id="touch-vs-remove"),
        pytest.param("touch", "remove-by-user", id="touch-vs-remove-by-user"),
        pytest.param("touch", "renew", id="touch-vs-renew"),
        pytest.param("login", "remove-by-user", id="login-vs-remove-by-user"),
    ],
)
def test_no_order_of_steps_leaves_anything_old_in_the_cache(
    backend: CachedDatabaseSessionBackend, threads: list[Executor], one: str, two: str
) -> None:
    operations: dict[str, Operation] = {
        "read": lambda b: b.get(IDENTIFIER),
        "update": lambda b: b.update(IDENTIFIER, {"ses_data": b"one"}, expected_data=DATA),
        "other-update": lambda b: b.update(IDENTIFIER, {"ses_data": b"two"}, expected_data=DATA),
        "touch": lambda b: b.touch(IDENTIFIER, NOW + 62, seen=NOW),
        "remove": lambda b: b.remove(IDENTIFIER),
        "remove-by-user": lambda b: b.remove_by_user(ALICE),
        "renew": lambda b: b.renew(IDENTIFIER, NEW_IDENTIFIER, a_record(ses_userid=ALICE)),
        "login": lambda b: b.set(NEW_IDENTIFIER, a_record(ses_userid=ALICE)),
    }
    steps = STEPS[one] + STEPS[two]
    for places in combinations(range(steps), STEPS[two]):
        FrontendSession.objects.all().delete()
        caches["sessions"].clear()
        FrontendSession.objects.create(
            ses_id=backend.hash(IDENTIFIER), **a_record(ses_userid=ALICE)
        )
        processes = [
            Process(thread, operations[name])
            for thread, name in zip(threads, (one, two), strict=True)
        ]
        for place in range(steps):
            processes[place in places].do_a_step()
        for process in processes:
            process.finish()
        assert_true(backend)


# Commands


class CountingCache:
    """A cache in memory that notes what it is asked for."""

    asked: list[str] = []

    def __init__(self, *args: Any) -> None:
        self._cache = import_string(LOCMEM)(*args)

    def __getattr__(self, name: str) -> Any:
        if name != "close":
            self.asked.append(name)
        return getattr(self._cache, name)


@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif(connection.vendor == "mysql", reason="MySQL does not tell what an UPDATE does")
@pytest.mark.urls("tests.urls")
def test_commands_to_the_cache_of_a_visit(settings: Any, client: Client, clock: Clock) -> None:
    """Django's ``cached_db`` sends 1 to read, 2 for a change, 5 for a login and 2 for a logout."""
    use_cache(settings, {"BACKEND": f"{__name__}.CountingCache", "LOCATION": "counted"})
    settings.USERSESSIONS = {"FE": {"BACKEND": BACKEND, "OPTIONS": OPTIONS}}
    user = UserFactory()

    def commands(view: Callable[[Any], Any]) -> list[str]:
        CountingCache.asked.clear()
        visit(client, view)
        return list(CountingCache.asked)

    def change(request: Any) -> None:
        request.session["count"] = request.session.get("count", 0) + 1

    assert commands(change) == ["set_many", "get", "set"]  # the first datum
    assert commands(lambda request: request.session.get("count")) == ["get_many"]
    assert commands(change) == ["get_many", "set_many", "get", "set"]
    clock.forward(62)
    touch = commands(lambda request: request.session.get("count"))
    assert touch == ["get_many", "set_many", "get", "set"]
    assert commands(log_in(user)) == ["get_many", "set_many", "get", "delete_many", "set"]
    assert commands(auth.logout) == ["get_many", "set_many", "delete_many"]


# Transactions


def test_transaction_reads_what_is_cached_without_a_query(
    backend: CachedDatabaseSessionBackend,
) -> None:
    """ATOMIC_REQUESTS must not make the cache useless."""
    backend.set(IDENTIFIER, a_record())
    with transaction.atomic(), costs():
        backend.get(IDENTIFIER)


def test_transaction_puts_nothing_it_reads_into_the_cache(
    backend: CachedDatabaseSessionBackend,
) -> None:
    """It may see a snapshot from before the session ended."""
    FrontendSession.objects.create(ses_id=backend.hash(IDENTIFIER), **a_record())
    with transaction.atomic():
        backend.get(IDENTIFIER)
    assert entries() == {}


WRITES = [
    pytest.param(lambda b: b.update(IDENTIFIER, {"ses_data": b"new"}), id="update"),
    pytest.param(lambda b: b.touch(IDENTIFIER, NOW + 62, seen=NOW), id="touch"),
    pytest.param(lambda b: b.set(NEW_IDENTIFIER, a_record()), id="set"),
    pytest.param(lambda b: b.remove(IDENTIFIER), id="remove"),
    pytest.param(lambda b: b.remove_by_user(ALICE), id="remove-by-user"),
    pytest.param(lambda b: b.renew(IDENTIFIER, NEW_IDENTIFIER, a_record()), id="renew"),
]


@pytest.mark.parametrize("write", WRITES)
def test_transaction_reads_its_own_writes(
    backend: CachedDatabaseSessionBackend, write: Operation
) -> None:
    backend.set(IDENTIFIER, a_record(ses_userid=ALICE))
    with transaction.atomic():
        write(backend)
        # As when the marks have expired, and another process has read the rows from before.
        in_another_process(lambda b: b.cache.clear(), lambda b: outcome(b, IDENTIFIER))
        assert_true(backend)
        assert_true(make_backend())


@pytest.mark.parametrize("write", WRITES)
def test_commit_is_seen_at_once(backend: CachedDatabaseSessionBackend, write: Operation) -> None:
    backend.set(IDENTIFIER, a_record(ses_userid=ALICE))
    with transaction.atomic():
        write(backend)
        in_another_process(lambda b: b.cache.clear(), lambda b: outcome(b, IDENTIFIER))
    assert_true(backend)


@pytest.mark.parametrize("write", WRITES)
def test_others_see_the_rows_from_before_until_the_commit(
    backend: CachedDatabaseSessionBackend, write: Operation
) -> None:
    backend.set(IDENTIFIER, a_record(ses_userid=ALICE))
    before = outcome(backend, IDENTIFIER)
    seen: list[Any] = []
    with transaction.atomic():
        write(backend)
        in_another_process(*[lambda b: seen.append(outcome(b, IDENTIFIER))] * 2)
    assert seen == [before, before]


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("savepoint", [False, True], ids=["transaction", "savepoint"])
def test_rollback_leaves_nothing_of_its_writes_in_the_cache(
    backend: CachedDatabaseSessionBackend, write: Operation, savepoint: bool
) -> None:
    backend.set(IDENTIFIER, a_record(ses_userid=ALICE))
    with transaction.atomic() if savepoint else nullcontext():
        with suppress(InterruptedError), transaction.atomic():
            write(backend)
            assert_true(backend)
            raise InterruptedError
        assert_true(backend)
    assert_true(backend)


def test_nothing_is_cached_of_a_transaction_without_an_atomic_block(
    backend: CachedDatabaseSessionBackend,
) -> None:
    """With AUTOCOMMIT off nobody tells us when what was written is committed."""
    backend.set(IDENTIFIER, a_record(ses_data=b"before"))
    connection.set_autocommit(False)
    try:
        backend.update(IDENTIFIER, {"ses_data": b"after"})
        assert backend.get(IDENTIFIER)["ses_data"] == b"after"
        connection.rollback()
    finally:
        connection.set_autocommit(True)
    assert backend.get(IDENTIFIER)["ses_data"] == b"before"


def test_reader_without_autocommit_puts_nothing_into_the_cache(
    backend: CachedDatabaseSessionBackend,
) -> None:
    """It may see a snapshot from before the session ended."""
    FrontendSession.objects.create(ses_id=backend.hash(IDENTIFIER), **a_record())
    connection.set_autocommit(False)
    try:
        backend.get(IDENTIFIER)
        connection.rollback()
    finally:
        connection.set_autocommit(True)
    assert not any(key.endswith(".record") for key in entries())


def in_another_process(*operations: Operation) -> None:
    """Do something with a connection of its own."""
    with ThreadPoolExecutor(1) as thread:
        for operation in operations:
            thread.submit(operation, make_backend()).result()
        thread.submit(connections.close_all).result()


# Outages

#: What the log says of a failure, with its cause.
said = "The cache 'sessions' of the FE sessions failed ({}); the database answers."


@pytest.fixture(params=["redis", "memcached"])
def server(request: pytest.FixtureRequest, settings: Any) -> Iterator[CacheServer]:
    """A cache server of the site, which the test may kill."""
    server: CacheServer = request.getfixturevalue(request.param)
    use_cache(settings, server.settings)
    yield server
    server.kill()
    server.start()


def use_everything(backend: SessionBackend) -> None:
    backend.set(IDENTIFIER, a_record(ses_userid=ALICE))
    backend.update(IDENTIFIER, {"ses_data": b"new"}, expected_data=DATA)
    with pytest.raises(SessionChanged):
        backend.update(IDENTIFIER, {"ses_data": b"vain"}, expected_data=DATA)
    assert backend.touch(IDENTIFIER, NOW + 62, seen=NOW)
    backend.renew(IDENTIFIER, NEW_IDENTIFIER, a_record(ses_userid=ALICE))
    assert_true(backend)
    assert backend.remove(NEW_IDENTIFIER)
    backend.set(THIRD_IDENTIFIER, a_record(ses_userid=ALICE))
    assert backend.remove_by_user(ALICE) == 1
    assert_true(backend)
    assert not FrontendSession.objects.exists()


@pytest.mark.parametrize("in_transaction", [False, True], ids=["autocommit", "transaction"])
def test_dead_cache_costs_speed_not_sessions(
    server: CacheServer, in_transaction: bool, caplog: pytest.LogCaptureFixture
) -> None:
    server.kill()
    with transaction.atomic() if in_transaction else nullcontext():
        use_everything(make_backend())
    assert {(record.name, record.levelname) for record in caplog.records} == {
        ("usersessions.backends", "WARNING")
    }


def test_cache_that_never_was_there_costs_speed_not_sessions(
    settings: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Django's FileBasedCache where its directory is a file."""
    (tmp_path / "file").touch()
    use_cache(settings, {"BACKEND": FILES, "LOCATION": str(tmp_path / "file")})
    use_everything(make_backend())
    assert said.format("set_many: builtins.FileExistsError") in caplog.messages


def test_cache_that_dies_and_comes_back_is_used_again(server: CacheServer) -> None:
    backend = make_backend()
    backend.set(IDENTIFIER, a_record(ses_userid=ALICE))
    with costs():
        backend.get(IDENTIFIER)
    server.kill()
    with costs("SELECT"):
        backend.get(IDENTIFIER)
    backend.update(IDENTIFIER, {"ses_data": b"new"})
    server.start()
    assert backend.get(IDENTIFIER)["ses_data"] == b"new"
    with costs():
        assert backend.get(IDENTIFIER)["ses_data"] == b"new"


def test_cache_that_dies_during_a_write_gets_nothing_old_back(server: CacheServer) -> None:
    backend = make_backend()
    backend.set(IDENTIFIER, a_record(ses_userid=ALICE))
    with interrupted(backend, "UPDATE", server.kill):
        backend.update(IDENTIFIER, {"ses_data": b"new"})
    server.start()
    assert_true(backend)


def test_outage_is_logged_without_anything_of_the_session(
    settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever reads the log learns neither an identifier nor what is in a session."""
    use_cache(settings, {"BACKEND": f"{__name__}.BrokenCache"})
    backend = make_backend()
    backend.set(IDENTIFIER, a_record(ses_data=b"the secret"))
    backend.get(IDENTIFIER)
    assert caplog.messages == [
        said.format(f"{operation}: builtins.ValueError")
        for operation in ("set_many", "delete_many", "get_many")
    ]


class BrokenCache(caches.create_connection("default").__class__):  # type: ignore[misc]
    """Fails, with messages that quote what it was given."""

    def _fail(self, *args: Any, **options: Any) -> Any:
        raise ValueError(f"Cannot handle {args}, {options}.")

    get = get_many = set = set_many = add = delete = delete_many = _fail


def test_write_that_memcached_refuses_is_logged(
    settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    use_cache(settings, {"BACKEND": f"{__name__}.FullCache"})
    make_backend().remove(IDENTIFIER)
    assert caplog.messages == [said.format("set_many: not stored")]


class FullCache(BrokenCache):
    """Tells which keys it has not stored, as Memcached's clients do."""

    def set_many(self, data: dict[str, Any], *args: Any, **options: Any) -> list[str]:
        return list(data)

    def delete_many(self, keys: Any, version: Any = None) -> None:
        pass


def test_mark_that_did_not_arrive_is_not_trusted_afterwards(
    backend: CachedDatabaseSessionBackend,
) -> None:
    """It may have arrived late, after another's write, which the record would then hide."""
    backend.set(IDENTIFIER, a_record())
    attempt = backend._try

    def set_many_but_fail(operation: str, *args: Any, **options: Any) -> Any:
        answer = attempt(operation, *args, **options)
        return True if operation == "set_many" else answer

    backend._try = set_many_but_fail  # type: ignore[method-assign]
    backend.update(IDENTIFIER, {"ses_data": b"new"})
    assert entries() == {}


def test_writes_merge_onto_the_database_when_the_cache_cannot_forget(
    backend: CachedDatabaseSessionBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Redis that takes no writes still answers, with what was there before."""
    manager = UserSessionManager.create("FE", backend=backend)
    session = manager.create_anonymous_session()
    session.set("one", 1)
    stored = manager.fixate_anonymous_session(session)
    for operation in ("set", "set_many", "delete_many"):
        monkeypatch.setattr(type(backend.cache), operation, BrokenCache._fail)
    other = UserSessionManager.create("FE", backend=DatabaseSessionBackend("FE", MODEL))
    theirs = other.create_session_from_storage(stored.identifier)
    theirs.set("two", 2)
    other.update_session(theirs)
    stored.set("three", 3)
    manager.update_session(stored)
    assert other.create_session_from_storage(stored.identifier).data == {
        "one": 1,
        "two": 2,
        "three": 3,
    }


def test_failing_database_is_not_a_missing_session(backend: CachedDatabaseSessionBackend) -> None:
    """An outage must log nobody out."""

    def fail(*args: Any) -> None:
        raise OperationalError("the server went away")

    with (
        connection.execute_wrapper(fail),
        pytest.raises(OperationalError, match="the server went away"),
    ):
        backend.get(IDENTIFIER)


def test_statement_that_fails_without_telling_whether_it_was_done_leaves_nothing(
    backend: CachedDatabaseSessionBackend,
) -> None:
    """The connection may drop after the commit."""
    backend.set(IDENTIFIER, a_record())

    def fail_afterwards(execute: Any, *args: Any) -> None:
        execute(*args)
        raise OperationalError("the connection dropped")

    with connection.execute_wrapper(fail_afterwards), pytest.raises(OperationalError):
        backend.remove(IDENTIFIER)
    assert entries() == {}


# Configuration

SETTING = 'USERSESSIONS["FE"]["OPTIONS"]'


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param(
            {"timeout": 5},
            f'{SETTING} has the unknown option "timeout"; known: "model", "using", "cache", '
            '"cache_timeout".',
            id="unknown-option",
        ),
        pytest.param(
            {"cache": "nowhere"},
            f"{SETTING}[\"cache\"] must be a cache alias, one of 'default', 'sessions', 'odd', "
            "not 'nowhere'.",
            id="unknown-cache",
        ),
        pytest.param(
            {"cache": None},
            f"{SETTING}[\"cache\"] must be a cache alias, one of 'default', 'sessions', 'odd', "
            "not None.",
            id="no-cache",
        ),
        pytest.param(
            {"cache": "odd"},
            f"{SETTING}[\"cache\"] names 'odd', whose BACKEND cannot be imported: Could not find "
            "backend 'no.Cache': No module named 'no'",
            id="no-such-backend",
        ),
        *(
            pytest.param(
                {"cache_timeout": timeout},
                f'{SETTING}["cache_timeout"] must be an integer of at least 1 (seconds), '
                f"not {timeout!r}.",
                id=f"timeout-{timeout}",
            )
            for timeout in (0, -1, None, True, 1.5, "60")
        ),
    ],
)
def test_wrong_options_are_refused(settings: Any, options: dict[str, Any], message: str) -> None:
    settings.CACHES = {"default": locmem(), "sessions": locmem(), "odd": {"BACKEND": "no.Cache"}}
    with pytest.raises(ImproperlyConfigured) as caught:
        CachedDatabaseSessionBackend("FE", {**MODEL, **options}).validate_configuration()
    assert str(caught.value) == message


def test_model_alone_is_enough(settings: Any) -> None:
    settings.CACHES = {"default": locmem()}
    backend = CachedDatabaseSessionBackend("FE", MODEL)
    backend.validate_configuration()
    assert (backend.cache, backend.cache_timeout) == (caches["default"], 60)


# A whole site

whole_site = pytest.mark.django_db(transaction=True)


@pytest.fixture
def site(settings: Any) -> None:
    """Both login types on this backend."""
    use_cache(settings, locmem())
    settings.USERSESSIONS = {
        name: {"BACKEND": BACKEND, "OPTIONS": {"model": model, "cache": "sessions"}}
        for name, model in (
            ("BE", "django_usersessions.BackendSession"),
            ("FE", "django_usersessions.FrontendSession"),
        )
    }


def log_in(user: Any) -> Callable[[Any], Any]:
    return lambda request: auth.login(request, user)


def name(request: Any) -> str:
    return str(request.user.get_username())


@whole_site
def test_visitor_costs_a_query_to_come_and_none_to_stay(
    site: None, client: Client, settings: Any
) -> None:
    settings.ROOT_URLCONF = "tests.urls"
    with costs("INSERT"):
        visit(client, lambda request: request.session.update({"basket": 1}))
    with costs():
        assert visit(client, lambda request: request.session["basket"]).content == b"1"
    with costs("UPDATE"):
        visit(client, lambda request: request.session.update({"basket": 2}))
    assert visit(client, lambda request: request.session["basket"]).content == b"2"


@whole_site
def test_user_costs_a_query_to_log_in_and_one_to_log_out(
    site: None, client: Client, settings: Any, alice: Any
) -> None:
    settings.ROOT_URLCONF = "tests.urls"
    visit(client, lambda request: request.session.update({"basket": 1}))
    settings.USERSESSIONS = {**settings.USERSESSIONS}
    with CaptureQueriesContext(connection) as statements:
        visit(client, log_in(alice))
    assert of_sessions(statements) == ["UPDATE"]
    with CaptureQueriesContext(connection) as statements:
        assert visit(client, name).content == b"'alice'"
    assert of_sessions(statements) == first_read()
    with CaptureQueriesContext(connection) as statements:
        visit(client, auth.logout)
    assert of_sessions(statements) == ["DELETE"]
    assert visit(client, name).content == b"''"


def of_sessions(statements: CaptureQueriesContext) -> list[str]:
    return [
        query["sql"].split()[0]
        for query in statements.captured_queries
        if "e_sessions" in query["sql"]
    ]


@whole_site
def test_stolen_cookie_is_worth_nothing_after_the_logout(
    site: None, client: Client, other_client: Client, settings: Any, alice: Any
) -> None:
    """The thief's requests have kept the session in the cache until that very moment."""
    settings.ROOT_URLCONF = "tests.urls"
    client.force_login(alice)
    other_client.cookies.update(client.cookies)
    assert visit(other_client, name).content == b"'alice'"
    visit(client, auth.logout)
    assert visit(other_client, name).content == b"''"
