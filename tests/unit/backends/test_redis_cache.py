"""The cache for Redis: what Django's caches promise, in one round trip, and clear errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import pytest
from django.core.cache import BaseCache, caches
from django.core.exceptions import ImproperlyConfigured

from tests.redis_servers import RedisCluster, RedisServer, redis

from usersessions import RedisCache  # isort: skip - the import above skips where there is no redis

ALIASES = ["ours", "cluster", "django"]


@pytest.fixture
def configured(
    redis_server: RedisServer, redis_cluster: RedisCluster, settings: Any
) -> Iterator[None]:
    """Ours, on one server and on a cluster, and Django's on the same server."""
    settings.CACHES = {
        "default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
        "ours": {"BACKEND": "usersessions.RedisCache", "LOCATION": redis_server.url},
        "cluster": {
            "BACKEND": "usersessions.RedisCache",
            "OPTIONS": {"cluster": True, "nodes": redis_cluster.addresses},
        },
        "django": {
            "BACKEND": "django.core.cache.backends.redis.RedisCache",
            "LOCATION": redis_server.url,
            "KEY_PREFIX": "django",
        },
    }
    yield
    for alias in ALIASES:
        caches[alias].clear()


@pytest.fixture(params=ALIASES)
def cache(request: pytest.FixtureRequest, configured: None) -> BaseCache:
    """Each of them: ours must do what Django's does."""
    found: BaseCache = caches[request.param]
    return found


@pytest.fixture
def ours(configured: None) -> RedisCache:
    found: Any = caches["ours"]
    return found  # type: ignore[no-any-return]


@contextmanager
def sends(number: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Assert how often the block writes to a connection."""
    sent: list[Any] = []
    send = redis.connection.AbstractConnection.send_packed_command

    def send_and_note(self: Any, *args: Any, **options: Any) -> Any:
        sent.append(args)
        return send(self, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(redis.connection.AbstractConnection, "send_packed_command", send_and_note)
        yield
    assert len(sent) == number


@pytest.mark.parametrize(
    "value",
    ["text", b"bytes\x80", "", 0, -7, 2**63, True, False, None, 1.5, UUID(int=5), [{"a": (1,)}]],
)
def test_value_comes_back_as_it_was(cache: BaseCache, value: Any) -> None:
    cache.set("key", value)
    found = cache.get("key", "missing")
    assert found == value
    assert type(found) is type(value)
    assert cache.has_key("key")


def test_missing_entry_is_the_default(cache: BaseCache) -> None:
    assert cache.get("key") is None
    assert cache.get("key", "default") == "default"
    assert not cache.has_key("key")


def test_add_never_overwrites(cache: BaseCache) -> None:
    assert cache.add("key", "first") is True
    assert cache.add("key", "second") is False
    assert cache.get("key") == "first"


def test_entries_are_set_read_and_deleted_together(cache: BaseCache) -> None:
    assert cache.set_many({"a": 1, "b": "two"}) == []
    assert cache.get_many(key for key in ("a", "b", "c")) == {"a": 1, "b": "two"}
    cache.delete_many(key for key in ("a", "c"))
    assert cache.get_many(["a", "b"]) == {"b": "two"}
    assert cache.set_many({}) == []
    cache.delete_many([])
    assert cache.get_many([]) == {}


def test_deleting_tells_whether_there_was_an_entry(cache: BaseCache) -> None:
    cache.set("key", 1)
    assert cache.delete("key") is True
    assert cache.delete("key") is False


def test_numbers_are_counted(cache: BaseCache) -> None:
    cache.set("key", 40)
    assert cache.incr("key") == 41
    assert cache.incr("key", 2) == 43
    assert cache.decr("key", 3) == 40
    assert cache.get("key") == 40


def test_large_numbers_are_counted_exactly(cache: BaseCache) -> None:
    cache.set("key", 2**53)
    assert cache.incr("key") == 2**53 + 1


def test_what_is_not_there_cannot_be_counted(cache: BaseCache) -> None:
    with pytest.raises(ValueError, match="key"):
        cache.incr("key")


@pytest.mark.parametrize("timeout", [0, -1])
@pytest.mark.parametrize(
    "end",
    [
        lambda cache, timeout: cache.set("key", "new", timeout),
        lambda cache, timeout: cache.set_many({"key": "new", "other": 1}, timeout),
        lambda cache, timeout: cache.touch("key", timeout),
    ],
    ids=["set", "set_many", "touch"],
)
def test_entry_that_lives_no_time_is_gone(
    cache: BaseCache, end: Callable[..., Any], timeout: int
) -> None:
    cache.set("key", "old")
    end(cache, timeout)
    assert cache.get("key") is None


def test_entry_that_lives_no_time_is_not_added_for_others_to_see(ours: RedisCache) -> None:
    assert ours.add("key", "new", 0) is True
    assert ours.get("key") is None


def test_versions_and_prefixes_keep_entries_apart(cache: BaseCache) -> None:
    cache.set("key", "one", version=1)
    cache.set("key", "two", version=2)
    assert cache.get("key", version=1) == "one"
    assert caches["default"].get("key") is None
    if cache is caches["ours"]:
        assert caches["django"].get("key") is None


@pytest.mark.parametrize(("timeout", "seconds"), [(7, 7), (7.9, 7), (None, -1)])
def test_entry_lives_as_long_as_it_was_told(
    ours: RedisCache, redis_server: RedisServer, timeout: Any, seconds: int
) -> None:
    ours.set("key", 1, timeout)
    ours.set_many({"many": 1, "more": 1}, timeout)
    ours.add("added", 1, timeout)
    ours.set("touched", 1)
    assert ours.touch("touched", timeout)
    names = [ours.make_key(key) for key in ("key", "many", "more", "added", "touched")]
    lives = {redis_server.client.ttl(name) for name in names}
    assert lives <= {seconds, seconds - 1}


def test_entry_lives_for_the_default_timeout(ours: RedisCache, redis_server: RedisServer) -> None:
    ours.set("key", 1)
    ours.set("touched", 1, 7)
    ours.touch("touched")
    for key in ("key", "touched"):
        assert 298 <= redis_server.client.ttl(ours.make_key(key)) <= 300


@pytest.mark.parametrize("timeout", [7, None])
def test_only_what_is_there_is_touched(cache: BaseCache, timeout: int | None) -> None:
    if timeout is None and cache is caches["django"]:
        pytest.skip("Django's answers False for an entry that lives for ever")
    assert cache.touch("key", timeout) is False
    cache.set("key", 1, None)
    assert cache.touch("key", timeout) is True


def test_cleared_cache_is_empty(cache: BaseCache) -> None:
    cache.set_many({f"key-{number}": number for number in range(20)})
    cache.clear()
    assert cache.get_many([f"key-{number}" for number in range(20)]) == {}


@pytest.mark.parametrize(
    "operation",
    [
        pytest.param(lambda cache: cache.get("key"), id="get"),
        pytest.param(lambda cache: cache.get_many(["a", "b"]), id="get_many"),
        pytest.param(lambda cache: cache.add("key", 1), id="add"),
        pytest.param(lambda cache: cache.set("key", 1), id="set"),
        pytest.param(lambda cache: cache.set_many({"a": 1}), id="set_one"),
        pytest.param(lambda cache: cache.set_many({"a": 1, "b": 2}), id="set_many"),
        pytest.param(lambda cache: cache.delete("key"), id="delete"),
        pytest.param(lambda cache: cache.delete_many(["a", "b"]), id="delete_many"),
        pytest.param(lambda cache: cache.touch("key"), id="touch"),
        pytest.param(lambda cache: cache.touch("key", None), id="persist"),
    ],
)
def test_operation_is_one_round_trip(
    ours: RedisCache, operation: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours.get("connect")
    with sends(1, monkeypatch):
        operation(ours)


@pytest.mark.usefixtures("configured")
def test_caches_with_the_same_options_share_their_connections() -> None:
    """Under ASGI, Django makes its caches anew for every request."""
    first, second = (caches.create_connection("ours") for _ in range(2))
    assert first._redis is second._redis
    assert caches["cluster"]._redis is not first._redis  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("entry", "messages"),
    [
        (
            {"LOCATION": "http://127.0.0.1"},
            [
                (
                    '["LOCATION"] must be a URL such as "redis://127.0.0.1:6379/0", '
                    '"rediss://..." or "unix:///path?db=0" (other options stand beside it), '
                    "not what it is."
                )
            ],
        ),
        (
            {"OPTIONS": {"port": "6379", "key_prefix": "shop", "url": "redis://127.0.0.1"}},
            [
                '["OPTIONS"]["port"] must be an integer from 1 to 65535, not \'6379\'.',
                '["OPTIONS"] has both "url" and "port"; leave one of them out.',
                '["OPTIONS"] has "key_prefix"; a cache has KEY_PREFIX for that.',
                '["OPTIONS"] has "url"; a cache has LOCATION for that.',
            ],
        ),
        (
            {"LOCATION": "redis://127.0.0.1", "OPTIONS": {"host": "127.0.0.1"}},
            ['["OPTIONS"] has both "url" and "host"; leave one of them out.'],
        ),
    ],
)
def test_wrong_options_are_named(settings: Any, entry: dict[str, Any], messages: list[str]) -> None:
    default = {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}
    settings.CACHES = {"default": default, "wrong": {"BACKEND": "usersessions.RedisCache", **entry}}
    with pytest.raises(ImproperlyConfigured) as caught:
        caches["wrong"]
    assert str(caught.value).splitlines() == [f"CACHES[...]{each}" for each in messages]


def test_key_may_hold_whatever_redis_takes(ours: RedisCache) -> None:
    key = "any key,\nof any length: " + "x" * 300
    ours.set(key, 1)
    assert ours.get(key) == 1
