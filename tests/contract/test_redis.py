"""Sessions in Redis: the contract, on a single server and on a cluster, and what only Redis has."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from typing import Any

import pytest
from django.contrib.sessions.backends.base import UpdateError

from tests import turns
from tests.conftest import Clock
from tests.contract.session_backend import (
    ALICE,
    BOB,
    IDENTIFIER,
    NEW_IDENTIFIER,
    THIRD_IDENTIFIER,
    BackendContract,
    a_record,
    assert_stored,
    take_over,
)
from tests.factories import NOW
from tests.redis_servers import (
    RedisCluster,
    RedisServer,
    RedisSessionBackend,
    Storage,
    scripts,
    wait_until,
)
from usersessions import (
    SessionBackendError,
    SessionChanged,
    SessionNotFound,
    SessionNotUpdated,
)
from usersessions.backends.base import BATCH_SIZE
from usersessions.backends.selection import Expired
from usersessions.session.expiry import KEPT_WITHOUT_LIFETIME
from usersessions.store import SessionStore

DAY = 86400

#: How many seconds a key outlives its session.
GRACE = 60


@pytest.fixture
def single(redis_server: RedisServer) -> Iterator[Storage]:
    storage = Storage([redis_server], {"url": redis_server.url})
    yield storage
    storage.assert_every_key_ends()
    storage.close()


@pytest.fixture
def cluster(redis_cluster: RedisCluster) -> Iterator[Storage]:
    options = {"cluster": True, "nodes": redis_cluster.addresses}
    storage = Storage(redis_cluster.nodes, options)
    yield storage
    storage.assert_every_key_ends()
    storage.close()


@pytest.fixture(params=["single", "cluster"])
def storage(request: pytest.FixtureRequest) -> Storage:
    return request.getfixturevalue(request.param)  # type: ignore[no-any-return]


@pytest.fixture
def backend(storage: Storage) -> RedisSessionBackend:
    return storage.connect()


class TestSingleServer(BackendContract):
    @pytest.fixture
    def backend(self, single: Storage) -> RedisSessionBackend:
        return single.connect()


class TestCluster(BackendContract):
    @pytest.fixture
    def backend(self, cluster: Storage) -> RedisSessionBackend:
        return cluster.connect()


def key_of(backend: RedisSessionBackend, identifier: str) -> str:
    return f"usersessions:FE:session:{backend.hash(identifier)}"


def identifiers(count: int) -> list[str]:
    return [f"{number:032x}" for number in range(count)]


# What is stored


def test_session_is_a_line_of_json_and_its_data_under_its_hash(
    storage: Storage, backend: RedisSessionBackend
) -> None:
    backend.set(IDENTIFIER, a_record(ses_userid=ALICE, ses_data=b"\xff\n\0"))
    line, _, data = storage.value(key_of(backend, IDENTIFIER)).partition(b"\n")
    assert data == b"\xff\n\0"
    assert json.loads(line) == {
        "ses_iplock": "192.0.2.0",
        "ses_userid": str(ALICE),
        "ses_tstamp": NOW,
        "ses_permanent": False,
    }


@pytest.mark.parametrize(
    "data",
    [b"", b"\0", b"/\x7f\\\"'\n", bytes(range(256)), b"\xc3\xa9\xed\xa0\x80", b"x" * 2**20],
    ids=["empty", "nul", "escaped", "any", "utf-8-and-not", "1-mb"],
)
def test_data_that_the_server_has_rewritten_is_the_same(
    backend: RedisSessionBackend, data: bytes
) -> None:
    backend.set(IDENTIFIER, a_record(ses_data=data))
    backend.update(IDENTIFIER, {"ses_tstamp": NOW + 1}, expected_data=data)
    assert backend.get(IDENTIFIER)["ses_data"] == data
    backend.renew(IDENTIFIER, NEW_IDENTIFIER, {"ses_iplock": "x"}, expected_data=data)
    assert backend.get(NEW_IDENTIFIER)["ses_data"] == data


@pytest.mark.parametrize("tstamp", [0, 253_402_300_799], ids=["1970", "9999"])
def test_any_moment_comes_back(backend: RedisSessionBackend, tstamp: int) -> None:
    backend.set(IDENTIFIER, a_record(ses_tstamp=tstamp))
    backend.update(IDENTIFIER, {"ses_data": b"new"})
    found = backend.get(IDENTIFIER)["ses_tstamp"]
    assert (type(found), found) == (int, tstamp)
    assert backend.touch(IDENTIFIER, NOW, seen=tstamp)


def test_user_ids_may_be_larger_than_a_number_in_lua(backend: RedisSessionBackend) -> None:
    """Attack: take the next id above 2**53, and be somebody else by rounding."""
    large = 2**53 + 1
    backend.set(IDENTIFIER, a_record(ses_userid=large))
    backend.set(NEW_IDENTIFIER, a_record(ses_userid=large - 1))
    for identifier in (IDENTIFIER, NEW_IDENTIFIER):
        backend.update(identifier, {"ses_data": b"new"})
    assert [record["ses_userid"] for record in backend.get_by_user(large)] == [large]
    assert backend.remove_by_user(large) == 1
    assert [record["ses_userid"] for record in backend.get_all()] == [large - 1]


def test_nobody_may_have_a_negative_id(backend: RedisSessionBackend, storage: Storage) -> None:
    backend.set(IDENTIFIER, a_record(ses_userid=-1))
    backend.update(IDENTIFIER, {"ses_data": b"new"})
    assert backend.get(IDENTIFIER)["ses_userid"] == -1
    assert storage.keys("*:user:*") == []


def test_servers_never_hear_an_identifier(single: Storage) -> None:
    """Whoever watches the server or reads its memory cannot make a cookie from it."""
    backend = single.connect()
    heard: list[str] = []
    [client] = single.clients
    with client.monitor() as monitor:
        backend.set(IDENTIFIER, a_record(ses_userid=ALICE))
        backend.get(IDENTIFIER)
        backend.update(IDENTIFIER, {"ses_data": b"x"}, expected_data=a_record()["ses_data"])
        backend.touch(IDENTIFIER, NOW + 62, seen=NOW)
        backend.renew(IDENTIFIER, NEW_IDENTIFIER, a_record(ses_userid=ALICE))
        take_over(backend, next(backend.get_by_user(ALICE)), THIRD_IDENTIFIER, a_record())
        backend.remove_by_user(ALICE, except_=[THIRD_IDENTIFIER])
        backend.remove(THIRD_IDENTIFIER)
        client.execute_command("ECHO", "the end")
        while "the end" not in (heard or [""])[-1]:
            heard.append(str(monitor.next_command()))
    assert any(backend.hash(THIRD_IDENTIFIER) in command for command in heard)
    for secret in (IDENTIFIER, NEW_IDENTIFIER, THIRD_IDENTIFIER):
        assert secret not in "".join(heard)


# Time to live


LIFETIMES = {"TIMEOUT": 1000, "ANONYMOUS_LIFETIME": 400}


@pytest.mark.parametrize(
    ("lifetimes", "user_id", "expected"),
    [
        pytest.param(LIFETIMES, ALICE, 1000, id="user"),
        pytest.param(LIFETIMES, 0, 400, id="visitor"),
        pytest.param({**LIFETIMES, "LIFETIME": 5000}, ALICE, 5000, id="remembered-user"),
        pytest.param({"TIMEOUT": 0}, ALICE, KEPT_WITHOUT_LIFETIME, id="no-timeout"),
        pytest.param({"ANONYMOUS_LIFETIME": 0}, 0, KEPT_WITHOUT_LIFETIME, id="no-lifetime"),
    ],
)
@pytest.mark.parametrize("days_off", [0, 400, -400], ids=["same-clock", "ahead", "behind"])
def test_key_outlives_its_session_by_a_minute(
    storage: Storage,
    backend: RedisSessionBackend,
    settings: Any,
    lifetimes: dict[str, int],
    user_id: int,
    expected: int,
    days_off: int,
) -> None:
    """Whatever time the server thinks it is: it is not the site's machine."""
    settings.USERSESSIONS = {"FE": lifetimes}
    clock = Clock()
    clock.forward(days_off * DAY)
    backend.clock = clock
    backend.set(IDENTIFIER, a_record(ses_userid=user_id, ses_tstamp=int(clock())))
    key, owner = key_of(backend, IDENTIFIER), f"usersessions:FE:user:{user_id}"
    assert expected + GRACE - 5 <= storage.ttl(key) <= expected + GRACE
    if user_id:
        assert expected + GRACE - 5 <= storage.ttl(owner) <= expected + GRACE
    clock.forward(100)
    backend.update(IDENTIFIER, {"ses_data": b"new"})
    assert storage.ttl(key) <= expected + GRACE - 100
    backend.touch(IDENTIFIER, int(clock()), seen=int(clock()) - 100)
    assert storage.ttl(key) >= expected + GRACE - 5
    backend.renew(IDENTIFIER, NEW_IDENTIFIER, {"ses_tstamp": int(clock()) + 7 * DAY})
    assert 0 <= expected + GRACE + 7 * DAY - storage.ttl(key_of(backend, NEW_IDENTIFIER)) <= 5


def test_list_lives_as_long_as_the_last_of_its_sessions(
    storage: Storage, backend: RedisSessionBackend, settings: Any
) -> None:
    settings.USERSESSIONS = {"FE": LIFETIMES}
    backend.clock = Clock()
    for days, identifier in [(0, IDENTIFIER), (30, NEW_IDENTIFIER), (2, THIRD_IDENTIFIER)]:
        record = a_record(ses_userid=ALICE, ses_tstamp=NOW + days * DAY)
        backend.set(identifier, record)
    assert 0 <= 30 * DAY + 1000 + GRACE - storage.ttl(f"usersessions:FE:user:{ALICE}") <= 5


def test_login_lives_as_long_as_users_do(
    storage: Storage, backend: RedisSessionBackend, settings: Any
) -> None:
    settings.USERSESSIONS = {"FE": LIFETIMES}
    backend.clock = Clock()
    backend.set(IDENTIFIER, a_record())
    backend.renew(IDENTIFIER, NEW_IDENTIFIER, a_record(ses_userid=ALICE))
    assert storage.ttl(key_of(backend, NEW_IDENTIFIER)) > 1000
    backend.renew(NEW_IDENTIFIER, IDENTIFIER, a_record(ses_userid=0))
    assert storage.ttl(key_of(backend, IDENTIFIER)) < 1000


def test_server_drops_what_has_expired(
    storage: Storage, backend: RedisSessionBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("usersessions.backends.redis.backend.GRACE", 1)
    backend.set(IDENTIFIER, a_record(ses_userid=ALICE))  # long over, by the system's clock
    wait_until(lambda: not storage.keys(), "the server has dropped the session and its list")
    with pytest.raises(SessionNotFound):
        backend.get(IDENTIFIER)


# Lists of users' sessions


def live(backend: RedisSessionBackend) -> dict[int, set[str]]:
    owners: dict[int, set[str]] = {ALICE: set(), BOB: set(), 0: set()}
    for record in backend.get_all():
        owners[record["ses_userid"]].add(record["ses_id"])  # type: ignore[index]
    return owners


@pytest.mark.parametrize("seed", range(6))
def test_lists_hold_the_users_sessions_whatever_happens(
    storage: Storage, backend: RedisSessionBackend, seed: int
) -> None:
    chance = random.Random(seed)  # noqa: S311 - no secret
    names = identifiers(5)

    def somebody() -> int:
        return chance.choice([0, ALICE, BOB])

    def take_first() -> None:
        for record in list(backend.get_by_user(ALICE))[:1]:
            take_over(backend, record, chance.choice(names), a_record(ses_userid=somebody()))

    def stored(identifier: str) -> set[str]:
        return {backend.hash(identifier)} & set.union(*live(backend).values())

    def renew() -> None:
        old, new = chance.sample(names, 2)
        if not stored(new):
            backend.renew(
                old, new, a_record(ses_userid=somebody(), ses_tstamp=chance.choice(times))
            )

    times = [NOW, NOW + DAY, NOW + 9 * DAY]
    operations: list[Callable[[], Any]] = [
        lambda: backend.set(
            chance.choice(names), a_record(ses_userid=somebody(), ses_tstamp=chance.choice(times))
        ),
        lambda: backend.update(chance.choice(names), {"ses_userid": somebody()}),
        lambda: backend.update(chance.choice(names), {"ses_data": b"new"}),
        lambda: backend.touch(chance.choice(names), chance.choice(times), seen=NOW),
        renew,
        lambda: [stored(name) or take_first() for name in names[:1]],
        lambda: backend.remove(chance.choice(names)),
        lambda: backend.remove(chance.choice(names), expected_data=b"new"),
        lambda: backend.remove_by_ses_id([backend.hash(name) for name in names[:2]]),
        lambda: backend.remove_by_user(ALICE, except_=names[:1]),
    ]
    for _ in range(60):
        with suppress(SessionBackendError):
            chance.choice(operations)()
        owners = live(backend)
        for user_id in (ALICE, BOB):
            found = {record["ses_id"] for record in backend.get_by_user(user_id)}
            assert found == owners[user_id]
            if storage.is_cluster:
                assert owners[user_id] <= storage.listed(user_id)
            else:
                assert owners[user_id] == storage.listed(user_id)
    backend.remove_by_user(ALICE)
    backend.remove_by_user(BOB)
    assert live(backend) == {ALICE: set(), BOB: set(), 0: live(backend)[0]}


@pytest.mark.parametrize("reader", ["get_by_user", "remove_by_user", "set"])
def test_list_is_trimmed_as_it_is_used(
    storage: Storage, backend: RedisSessionBackend, reader: str
) -> None:
    backend.set(IDENTIFIER, a_record(ses_userid=ALICE))
    key = f"usersessions:FE:user:{ALICE}"
    storage.client_of(key).zadd(key, {"gone": 1})
    if reader == "set":
        backend.set(NEW_IDENTIFIER, a_record(ses_userid=ALICE))
    else:
        getattr(backend, reader)(ALICE)
    assert "gone" not in storage.listed(ALICE)


def test_session_that_is_renewed_while_a_list_is_read_is_found(
    storage: Storage, backend: RedisSessionBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attack: renew one's sessions all the time, so that a limit on them counts none."""
    backend.set(IDENTIFIER, a_record(ses_userid=ALICE))
    other = storage.connect()
    moves = iter([(IDENTIFIER, NEW_IDENTIFIER), (NEW_IDENTIFIER, THIRD_IDENTIFIER)])
    listed = RedisSessionBackend.listed

    def list_and_move(self: RedisSessionBackend, user_id: Any) -> list[str]:
        ses_ids = listed(self, user_id)
        for old, new in islice(moves, 1):
            other.renew(old, new, a_record(ses_userid=ALICE))
        return ses_ids

    monkeypatch.setattr(RedisSessionBackend, "listed", list_and_move)
    [record] = backend.get_by_user(ALICE)
    assert record["ses_id"] == backend.hash(THIRD_IDENTIFIER)


def test_line_that_names_no_session_does_not_keep_a_list_from_being_read(
    storage: Storage, backend: RedisSessionBackend
) -> None:
    backend.set(IDENTIFIER, a_record(ses_userid=ALICE))
    key = f"usersessions:FE:user:{ALICE}"
    storage.client_of(key).zadd(key, {"0" * 64: 9_000_000_000})
    [record] = backend.get_by_user(ALICE)
    assert record["ses_id"] == backend.hash(IDENTIFIER)


def test_thousands_of_sessions_of_one_user_are_listed_and_ended(
    storage: Storage, backend: RedisSessionBackend
) -> None:
    count = 2 * BATCH_SIZE + 100
    names = identifiers(count)
    for number, identifier in enumerate(names):
        backend.set(identifier, a_record(ses_userid=ALICE, ses_tstamp=NOW + number))
    backend.set(IDENTIFIER, a_record(ses_userid=BOB))
    found = list(backend.get_by_user(ALICE))
    assert [record["ses_tstamp"] for record in found] == [
        NOW + number for number in reversed(range(count))
    ]
    kept = [names[0], names[BATCH_SIZE], names[-1]]
    assert backend.remove_by_user(ALICE, except_=kept) == count - 3
    hashes = {backend.hash(identifier) for identifier in kept}
    assert live(backend) == {ALICE: hashes, BOB: {backend.hash(IDENTIFIER)}, 0: set()}
    assert storage.listed(ALICE) == hashes


def test_ending_and_listing_one_users_sessions_leaves_those_of_others_alone(
    single: Storage,
) -> None:
    """O(that user's sessions): nobody else's key is looked at."""
    backend = single.connect()
    for number, identifier in enumerate(identifiers(50)):
        backend.set(identifier, a_record(ses_userid=1000 + number))
    backend.set(IDENTIFIER, a_record(ses_userid=ALICE))
    [client] = single.clients
    client.config_resetstat()
    list(backend.get_by_user(ALICE))
    backend.remove_by_user(ALICE)
    calls = {name: stats["calls"] for name, stats in client.info("commandstats").items()}
    assert "cmdstat_scan" not in calls
    assert sum(calls.values()) < 20


@pytest.mark.parametrize(
    "user_id", ["a:b", "{x}", "*", "session:*", "[ab]", "ü", " ", "..", "7}"], ids=repr
)
def test_users_may_have_any_text_as_key(
    storage: Storage,
    backend: RedisSessionBackend,
    monkeypatch: pytest.MonkeyPatch,
    user_id: str,
) -> None:
    """Attack: choose a name that is a pattern, and end or read others' sessions."""
    for module in ("base", "redis.records", "redis.cluster"):
        path = f"usersessions.backends.{module}.stored_user_id"
        monkeypatch.setattr(path, lambda value: value or None)
    for name, owner in zip(identifiers(3), [user_id, user_id, "somebody"], strict=True):
        backend.set(name, a_record(ses_userid=owner))
    backend.update(identifiers(1)[0], {"ses_data": b"new"})
    assert {record["ses_userid"] for record in backend.get_by_user(user_id)} == {user_id}
    assert len(list(backend.get_all())) == 3
    assert backend.count_all(Expired.after(1)) == 0
    assert backend.remove_by_user(user_id) == 2
    assert [record["ses_userid"] for record in backend.get_all()] == ["somebody"]


def test_user_whose_key_does_not_fit_the_model_any_more_is_nobody(
    storage: Storage, backend: RedisSessionBackend
) -> None:
    backend.set(IDENTIFIER, a_record(ses_userid=ALICE))
    key = key_of(backend, IDENTIFIER)
    storage.overwrite(key, storage.value(key).replace(b'"7"', b'"alice"'))
    assert backend.get(IDENTIFIER)["ses_userid"] == 0
    backend.renew(IDENTIFIER, NEW_IDENTIFIER, a_record(ses_userid=BOB))
    assert backend.get(NEW_IDENTIFIER)["ses_userid"] == BOB


def test_user_may_be_named_as_text(backend: RedisSessionBackend) -> None:
    backend.set(IDENTIFIER, a_record(ses_userid=ALICE))
    assert len(list(backend.get_by_user(str(ALICE)))) == 1
    assert backend.remove_by_user(str(ALICE)) == 1


# Collection


def test_collection_takes_what_is_gone_off_the_lists(
    storage: Storage, backend: RedisSessionBackend
) -> None:
    for user_id in (ALICE, BOB):
        backend.set(f"{user_id:032x}", a_record(ses_userid=user_id))
        key = f"usersessions:FE:user:{user_id}"
        storage.client_of(key).zadd(key, {"gone": 1, "gone, too": 2})
    backend.set(IDENTIFIER, a_record(ses_tstamp=0))
    assert backend.count_all(Expired.after(100)) == 4
    assert sum(backend.remove_all(Expired.after(100), 1)) == 4
    assert backend.count_all(Expired.after(100)) == backend.collect_garbage(100) == 0
    assert len(list(backend.get_all())) == 3
    assert storage.listed(ALICE) == {backend.hash(f"{ALICE:032x}")}


# Pages


def all_pages(backend: RedisSessionBackend, limit: int) -> list[str]:
    found: list[str] = []
    start = ""
    while True:
        records, start = backend.get_page(start, limit)
        found += [record["ses_id"] for record in records]
        if not start:
            return found


def test_pages_show_every_session(backend: RedisSessionBackend) -> None:
    for identifier in identifiers(60):
        backend.set(identifier, a_record())
    records, where = backend.get_page(limit=10)
    assert 10 <= len(records) < 60
    assert where
    assert set(all_pages(backend, 10)) == {record["ses_id"] for record in backend.get_all()}


def test_pages_end_among_many_keys_of_others(
    storage: Storage, backend: RedisSessionBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("usersessions.backends.redis.backend.SCANS_A_PAGE", 2)
    with storage.clients[0].pipeline(transaction=False) as pipeline:
        for number in range(20_000):
            # On Cluster all of them in one slot of the first node.
            pipeline.set(f"foreign:{{{SLOT_OF_FIRST}}}:{number}", "x", ex=1000)
        pipeline.execute()
    backend.set(IDENTIFIER, a_record())
    assert all_pages(backend, 50) == [backend.hash(IDENTIFIER)]
    _, where = backend.get_page(limit=50)
    assert where


#: A hash tag whose slot is the first node's: 3 of 0 to 5460.
SLOT_OF_FIRST = "x3"


@pytest.mark.parametrize("start", ["junk", "@", "-1@", "5", "1@\n", f"{2**64}@", "9" * 5000 + "@"])
def test_page_of_no_cursor_is_the_first(backend: RedisSessionBackend, start: str) -> None:
    """Attack: break the admin with a page number of one's own."""
    backend.set(IDENTIFIER, a_record())
    assert [record["ses_id"] for record in backend.get_page(start)[0]] == [backend.hash(IDENTIFIER)]


def test_page_goes_on_after_a_node_that_is_gone(cluster: Storage) -> None:
    backend = cluster.connect()
    for identifier in identifiers(30):
        backend.set(identifier, a_record())
    assert all_pages(backend, 5) != []
    assert backend.get_page("17@0.0.0.0:1", 100) == backend.get_page("", 100)
    assert backend.get_page("17@999.0.0.1:1") == ([], "")


# Values that somebody else has written

CORRUPT = [
    b"",
    b"not json",
    b"\xff\x00",
    b"5",
    b"null",
    b"true",
    b'"text"',
    b"[1]",
    b"{}",
    b'{"foo":1}',
    b'{"ses_tstamp":1}',
    b'{"ses_iplock":"","ses_userid":"7","ses_tstamp":1,"ses_permanent":false}',
    b'\xff{"ses_iplock":"","ses_userid":"7","ses_tstamp":1,"ses_permanent":false}\n',
    b'{"ses_iplock":"","ses_userid":"7","ses_tstamp":"x","ses_permanent":false}\n{}',
    b'{"ses_iplock":"","ses_userid":[7],"ses_tstamp":1,"ses_permanent":false}\n{}',
    b'\n{"ses_iplock":"","ses_userid":"7","ses_tstamp":1,"ses_permanent":false}',
    b"[" * 100_000,
    b"[" * 100_000 + b"\n",
]


@pytest.mark.parametrize("value", CORRUPT, ids=[repr(value[:60]) for value in CORRUPT])
def test_session_that_is_no_record_is_anonymous_and_left_for_inspection(
    storage: Storage,
    backend: RedisSessionBackend,
    settings: Any,
    caplog: pytest.LogCaptureFixture,
    value: bytes,
) -> None:
    storage.use(settings)
    backend.set(IDENTIFIER, a_record(ses_userid=ALICE))
    key = key_of(backend, IDENTIFIER)
    storage.overwrite(key, value)
    store = SessionStore(IDENTIFIER)
    assert (store.get("basket"), store.session_key) == (None, None)
    assert caplog.messages == [
        f"The data of the FE session {backend.hash(IDENTIFIER)[:8]} does not decode."
    ]
    with pytest.raises(SessionChanged):
        backend.update(IDENTIFIER, {"ses_iplock": ""})
    with pytest.raises(SessionChanged):
        backend.update(IDENTIFIER, a_record(), expected_data=b"")
    with pytest.raises(SessionChanged):
        backend.remove(IDENTIFIER, expected_data=b"")
    assert backend.touch(IDENTIFIER, NOW, seen=1) is False
    with pytest.raises(SessionChanged):
        backend.renew(IDENTIFIER, NEW_IDENTIFIER, a_record())
    assert storage.value(key) == value
    assert [record["ses_userid"] for record in backend.get_all()] == [0]
    assert list(backend.get_by_user(ALICE)) == []


@pytest.mark.parametrize("end", ["remove", "remove_by_user"])
@pytest.mark.parametrize("value", CORRUPT, ids=[repr(value[:60]) for value in CORRUPT])
def test_what_is_no_record_can_be_ended(
    storage: Storage, backend: RedisSessionBackend, value: bytes, end: str
) -> None:
    """Whoever could break one session must not keep the others alive."""
    for identifier in (IDENTIFIER, NEW_IDENTIFIER):
        backend.set(identifier, a_record(ses_userid=ALICE))
    storage.overwrite(key_of(backend, IDENTIFIER), value)
    if end == "remove":
        assert backend.remove(IDENTIFIER) is backend.remove(NEW_IDENTIFIER) is True
    else:
        assert backend.remove_by_user(ALICE) == 2
    assert list(backend.get_all()) == []


# Scripts


def test_server_that_forgot_the_scripts_is_told_again(
    storage: Storage, backend: RedisSessionBackend
) -> None:
    for client in storage.clients:
        client.script_flush()
    backend.set(IDENTIFIER, a_record())
    backend.update(IDENTIFIER, {"ses_data": b"new"})
    assert_stored(backend, {IDENTIFIER: a_record(ses_data=b"new")})


def test_renewal_onto_a_session_of_somebody_else_changes_nothing(
    storage: Storage, backend: RedisSessionBackend
) -> None:
    backend.set(IDENTIFIER, a_record(ses_userid=ALICE))
    backend.set(NEW_IDENTIFIER, a_record(ses_userid=BOB))
    with pytest.raises(Exception, match=r"TAKEN|changed"):
        backend.renew(IDENTIFIER, NEW_IDENTIFIER, a_record(ses_userid=ALICE))
    assert_stored(
        backend, {IDENTIFIER: a_record(ses_userid=ALICE), NEW_IDENTIFIER: a_record(ses_userid=BOB)}
    )


def test_nothing_is_lost_when_eight_threads_save_one_session(
    storage: Storage, settings: Any
) -> None:
    backend = storage.use(settings)
    first = SessionStore()
    first["start"] = True
    first.create()
    key = first.session_key

    def save(thread: int) -> None:
        for number in range(25):
            is_saved = False
            while not is_saved:
                store = SessionStore(key)
                store[f"{thread}-{number}"] = number
                with suppress(UpdateError):
                    store.save()
                    is_saved = True

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(save, range(8)))
    assert len(dict(SessionStore(key).items())) == 201
    assert backend.remove(str(key))


# Redis Cluster: others in between


class Interrupted:
    """Runs operations of several backends in turns, a command of one and then of another."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)  # noqa: S311 - no secret
        self._works: list[Callable[[], None]] = []
        self.outcomes: list[Any] = []

    def add(self, backend: RedisSessionBackend, operation: Callable[[], Any]) -> None:
        run = backend.redis.run
        place = len(self.outcomes)
        self.outcomes.append(None)

        def run_in_turn(command: Any) -> Any:
            turns.stop()
            return run(command)

        def work() -> None:
            try:
                self.outcomes[place] = operation()
            except SessionNotUpdated as exc:
                self.outcomes[place] = type(exc)
            finally:
                backend.redis.run = run  # type: ignore[method-assign]

        backend.redis.run = run_in_turn  # type: ignore[method-assign]
        self._works.append(work)

    def run(self) -> None:
        turns.run(self._works, self._chance.choice)


SEEDS = range(12)


@pytest.fixture
def two(cluster: Storage) -> tuple[RedisSessionBackend, RedisSessionBackend]:
    return cluster.connect(), cluster.connect()


Two = tuple[RedisSessionBackend, RedisSessionBackend]


@pytest.mark.parametrize("seed", SEEDS)
def test_revocation_ends_a_session_that_is_renewed_meanwhile(two: Two, seed: int) -> None:
    """Attack: log in again and again with a stolen session, so that it slips through."""
    mine, theirs = two
    mine.set(IDENTIFIER, a_record(ses_userid=ALICE))
    turns = Interrupted(seed)
    turns.add(mine, lambda: mine.renew(IDENTIFIER, NEW_IDENTIFIER, a_record(ses_userid=ALICE)))
    turns.add(theirs, lambda: theirs.remove_by_user(ALICE))
    turns.run()
    assert list(mine.get_all()) == []


@pytest.mark.parametrize("seed", SEEDS)
def test_revocation_ends_a_session_that_is_renewed_twice_meanwhile(two: Two, seed: int) -> None:
    mine, theirs = two
    mine.set(IDENTIFIER, a_record(ses_userid=ALICE))

    def renew_twice() -> None:
        mine.renew(IDENTIFIER, NEW_IDENTIFIER, a_record(ses_userid=ALICE))
        mine.renew(NEW_IDENTIFIER, THIRD_IDENTIFIER, a_record(ses_userid=ALICE))

    turns = Interrupted(seed)
    turns.add(mine, renew_twice)
    turns.add(theirs, lambda: theirs.remove_by_user(ALICE))
    turns.run()
    assert list(mine.get_all()) == []


@pytest.mark.parametrize("seed", range(16))  # with the last one, after it
def test_removal_beside_a_renewal_comes_before_or_after_it(
    cluster: Storage, two: Two, seed: int
) -> None:
    mine, theirs = two
    mine.set(IDENTIFIER, a_record(ses_userid=ALICE))
    turns = Interrupted(seed)
    turns.add(mine, lambda: mine.renew(IDENTIFIER, NEW_IDENTIFIER, a_record(ses_userid=ALICE)))
    turns.add(theirs, lambda: theirs.remove(IDENTIFIER))
    turns.run()
    if turns.outcomes[1]:
        assert (turns.outcomes[0], list(mine.get_all())) == (SessionNotUpdated, [])
    else:
        assert_stored(mine, {NEW_IDENTIFIER: a_record(ses_userid=ALICE)})
        assert mine.hash(NEW_IDENTIFIER) in cluster.listed(ALICE)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("operation", ["update", "touch"])
def test_late_write_beside_a_renewal_revives_nothing(
    cluster: Storage, two: Two, seed: int, operation: str
) -> None:
    mine, theirs = two
    mine.set(IDENTIFIER, a_record(ses_userid=ALICE))
    record = a_record(ses_userid=ALICE, ses_data=b"mine")
    write: Callable[[], Any] = {
        "update": lambda: theirs.update(IDENTIFIER, {"ses_iplock": "theirs"}),
        "touch": lambda: theirs.touch(IDENTIFIER, NOW + 62, seen=NOW),
    }[operation]
    turns = Interrupted(seed)
    turns.add(mine, lambda: mine.renew(IDENTIFIER, NEW_IDENTIFIER, record))
    turns.add(theirs, write)
    turns.run()
    assert turns.outcomes[0] is None
    [found] = mine.get_all()
    assert (found["ses_id"], found["ses_data"]) == (mine.hash(NEW_IDENTIFIER), b"mine")
    assert cluster.listed(ALICE) >= {found["ses_id"]}


@pytest.mark.parametrize("seed", SEEDS)
def test_one_of_two_renewals_wins(cluster: Storage, two: Two, seed: int) -> None:
    mine = two[0]
    mine.set(IDENTIFIER, a_record(ses_data=b"read"))
    records = [a_record(ses_userid=ALICE, ses_data=data) for data in (b"mine", b"theirs")]
    turns = Interrupted(seed)
    for backend, new, record in zip(two, [NEW_IDENTIFIER, THIRD_IDENTIFIER], records, strict=True):
        turns.add(
            backend,
            lambda backend=backend, new=new, record=record: backend.renew(  # type: ignore[misc]
                IDENTIFIER, new, record, expected_data=b"read"
            ),
        )
    turns.run()
    assert sorted(map(repr, turns.outcomes)) == sorted(map(repr, [None, SessionNotUpdated]))
    winner = turns.outcomes.index(None)
    assert_stored(mine, {[NEW_IDENTIFIER, THIRD_IDENTIFIER][winner]: records[winner]})
    assert len(cluster.listed(ALICE)) == 1


@pytest.fixture
def rotated(two: Two, settings: Any) -> Two:
    """Two site processes after ``SECRET_KEY`` was changed, and a session from before."""
    two[0].set(IDENTIFIER, a_record(ses_userid=ALICE))
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "the key that came after" * 3
    return two


@pytest.mark.parametrize("seed", SEEDS)
def test_writes_that_both_move_a_session_to_the_new_key_are_both_kept(
    rotated: Two, seed: int
) -> None:
    mine, theirs = rotated
    turns = Interrupted(seed)
    turns.add(mine, lambda: mine.update(IDENTIFIER, {"ses_iplock": "mine"}))
    turns.add(theirs, lambda: theirs.update(IDENTIFIER, {"ses_data": b"theirs"}))
    turns.run()
    expected = a_record(ses_userid=ALICE, ses_iplock="mine", ses_data=b"theirs")
    assert turns.outcomes == [None, None]
    assert_stored(mine, {IDENTIFIER: expected})


def test_session_is_found_while_it_moves_to_the_new_key(rotated: Two) -> None:
    """Two servers are asked: the new key before the move, the old one after it."""
    mine, theirs = rotated
    get = theirs.redis.get

    def get_one_after_the_other(keys: Any) -> Any:
        theirs.redis.get = get  # type: ignore[method-assign]
        first = get(keys[:1])
        assert mine.touch(IDENTIFIER, NOW + 62, seen=NOW)
        return first + get(keys[1:])

    theirs.redis.get = get_one_after_the_other  # type: ignore[method-assign]
    assert theirs.get(IDENTIFIER)["ses_userid"] == ALICE


@pytest.mark.parametrize("seed", SEEDS)
def test_logout_ends_a_session_that_moves_to_the_new_key_meanwhile(rotated: Two, seed: int) -> None:
    mine, theirs = rotated
    turns = Interrupted(seed)
    turns.add(mine, lambda: mine.touch(IDENTIFIER, NOW + 62, seen=NOW))
    turns.add(theirs, lambda: theirs.remove(IDENTIFIER))
    turns.run()
    assert turns.outcomes[1] is True
    assert list(mine.get_all()) == []


@pytest.mark.parametrize("seed", SEEDS)
def test_session_that_changes_while_it_is_removed_unchanged_stays_on_its_list(
    cluster: Storage, two: Two, seed: int
) -> None:
    mine, theirs = two
    mine.set(IDENTIFIER, a_record(ses_userid=ALICE, ses_data=b"{}"))
    turns = Interrupted(seed)
    turns.add(mine, lambda: mine.remove(IDENTIFIER, expected_data=b"{}"))
    turns.add(theirs, lambda: theirs.update(IDENTIFIER, {"ses_data": b"new"}))
    turns.run()
    if turns.outcomes[0] is True:
        assert list(mine.get_all()) == []
    else:
        assert turns.outcomes[0] is SessionChanged
        assert cluster.listed(ALICE) == {mine.hash(IDENTIFIER)}
        assert theirs.remove_by_user(ALICE) == 1


def test_session_that_always_changes_is_not_renewed_forever(cluster: Storage) -> None:
    mine, theirs = cluster.connect(), cluster.connect()
    mine.set(IDENTIFIER, a_record(ses_userid=ALICE))
    script = mine.redis.script
    count = iter(range(1000))

    def change_and_run(which: Any, keys: Any, args: Any) -> Any:
        if which is scripts.DELETE_AS_READ:
            theirs.update(IDENTIFIER, {"ses_tstamp": NOW + next(count)})
        return script(which, keys, args)

    mine.redis.script = change_and_run  # type: ignore[method-assign]
    with pytest.raises(SessionChanged):
        mine.renew(IDENTIFIER, NEW_IDENTIFIER, a_record(ses_userid=ALICE))
    assert [record["ses_id"] for record in mine.get_all()] == [mine.hash(IDENTIFIER)]
    assert next(count) == 10


# Redis Cluster: a process that ends in between


class SwitchedOff(BaseException):
    pass


def switch_off_after(backend: RedisSessionBackend, commands: int) -> None:
    run = backend.redis.run
    left = iter(range(commands))

    def run_or_end(command: Any) -> Any:
        if next(left, None) is None:
            raise SwitchedOff
        return run(command)

    backend.redis.run = run_or_end  # type: ignore[method-assign]


OPERATIONS: dict[str, Callable[[RedisSessionBackend], Any]] = {
    "set": lambda backend: backend.set(NEW_IDENTIFIER, a_record(ses_userid=ALICE)),
    "update": lambda backend: backend.update(IDENTIFIER, {"ses_data": b"new"}),
    "renew": lambda backend: backend.renew(
        IDENTIFIER, NEW_IDENTIFIER, a_record(ses_userid=ALICE, ses_data=b"new")
    ),
    "remove": lambda backend: backend.remove(IDENTIFIER),
    "revoke": lambda backend: backend.remove_by_user(ALICE),
}


@pytest.mark.parametrize("commands", range(8))
@pytest.mark.parametrize("operation", OPERATIONS)
def test_what_a_crash_leaves_can_be_ended(cluster: Storage, operation: str, commands: int) -> None:
    """Attack: a machine that dies at the right moment leaves a session that nobody can end."""
    other = cluster.connect()
    other.set(IDENTIFIER, a_record(ses_userid=ALICE))
    OPERATIONS[operation](other)  # so that the servers know the scripts
    other.remove_by_user(ALICE)
    other.set(IDENTIFIER, a_record(ses_userid=ALICE))
    crashing = cluster.connect()
    switch_off_after(crashing, commands)
    with suppress(SwitchedOff):
        OPERATIONS[operation](crashing)
    left = {record["ses_id"]: record for record in other.get_all()}
    assert set(left) <= {other.hash(IDENTIFIER), other.hash(NEW_IDENTIFIER)}
    if operation == "renew":
        assert left  # neither is not one of the possibilities
        for record in left.values():
            is_old = record["ses_id"] == other.hash(IDENTIFIER)
            assert record["ses_data"] == (a_record()["ses_data"] if is_old else b"new")
    assert set(left) <= cluster.listed(ALICE)
    assert other.remove_by_user(ALICE) == len(left)
    assert list(other.get_all()) == []
    with pytest.raises(SessionNotUpdated):
        other.update(IDENTIFIER, {"ses_data": b"late"})


def test_crash_in_the_middle_of_a_renewal_leaves_the_session_twice(cluster: Storage) -> None:
    backend = cluster.connect()
    backend.set(IDENTIFIER, a_record(ses_userid=ALICE))
    OPERATIONS["renew"](backend)
    backend.remove_by_user(ALICE)
    backend.set(IDENTIFIER, a_record(ses_userid=ALICE))
    crashing = cluster.connect()
    switch_off_after(crashing, 3)  # read, list, store; not delete
    with pytest.raises(SwitchedOff):
        OPERATIONS["renew"](crashing)
    new = a_record(ses_userid=ALICE, ses_data=b"new")
    assert_stored(backend, {IDENTIFIER: a_record(ses_userid=ALICE), NEW_IDENTIFIER: new})


def test_scripts_have_the_names_that_the_server_gives_them(single: Storage) -> None:
    [client] = single.clients
    for script in vars(scripts).values():
        if isinstance(script, scripts.Script):
            assert client.script_load(script.text) == script.sha
            assert not re.search(r"redis\.call\('(KEYS|SCAN)'", script.text)
