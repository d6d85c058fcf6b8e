"""Django's session contract, as code that knows nothing of us relies on it."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib import auth
from django.contrib.sessions.backends.base import CreateError
from django.test import RequestFactory

from tests.conftest import Clock, SessionQueries
from tests.factories import NOW
from tests.urls import visit
from usersessions.models import FrontendSession
from usersessions.session.tokens import CookieScope, Keys, is_identifier
from usersessions.store import SessionStore
from usersessions.store.login import rebind
from usersessions.test import Client

pytestmark = pytest.mark.django_db

KEY = "0123456789abcdef" * 2


@pytest.fixture
def store() -> SessionStore:
    return SessionStore()


def stored(**data: Any) -> SessionStore:
    store = SessionStore()
    store.update(data)
    store.save()
    return store


def again(store: SessionStore) -> SessionStore:
    return SessionStore(store.session_key)


# Keys


def test_new_store_has_no_key_is_empty_and_unmodified(store: SessionStore) -> None:
    assert (store.session_key, store.is_empty(), store.modified, store.accessed) == (
        None,
        True,
        False,
        False,
    )


def test_cookie_token_is_taken_in_place_of_the_key() -> None:
    """Channels hands the cookie's value over, without a request."""
    store = stored(x=1)
    token = CookieScope(Keys("FE"), "any.example", True).sign(store.session_key, NOW)
    assert SessionStore(token)["x"] == 1


@pytest.mark.parametrize("key", ["", "1234567", "a.b.c", "bad.bad.token", None])
def test_key_that_is_none_gives_an_anonymous_session_without_query(
    key: str | None, session_queries: SessionQueries
) -> None:
    with session_queries:
        assert dict(SessionStore(key).items()) == {}
    assert session_queries.kinds == []


@pytest.mark.parametrize("key", ["12345678", "0" * 31, "G" * 32])
def test_any_text_of_eight_characters_is_a_key_as_in_django(key: str) -> None:
    store = SessionStore()
    store._session_key = key
    assert store.session_key == key
    store.save(must_create=True)
    assert SessionStore(key).exists(key)


def test_forgotten_data_is_read_again() -> None:
    store = stored(x=1)
    again(store).update({"x": 2})
    other = again(store)
    other["x"] = 2
    other.save()
    del store._session_cache
    assert store["x"] == 2


def test_unknown_key_gives_an_empty_session_without_key() -> None:
    """Attack: a client that chooses its own session key."""
    store = SessionStore(KEY)
    assert store.session_key == KEY
    assert store.get("x") is None
    assert store.session_key is None


def test_key_can_be_assigned() -> None:
    known = stored(x=1)
    store = SessionStore()
    store._session_key = known.session_key
    assert store["x"] == 1
    store._session_key = None
    assert (store.session_key, store.get("x")) == (None, None)


def test_login_type_defaults_to_the_owner_of_the_session_cookie_name(settings: Any) -> None:
    settings.SESSION_COOKIE_NAME = "be_sessionid"
    assert SessionStore().login_type.name == "BE"


def test_existence_is_asked_of_the_storage(store: SessionStore) -> None:
    assert store.exists(stored(x=1).session_key)
    assert not store.exists(KEY)
    assert not store.exists("")


# Data


def test_none_is_a_value_like_any_other() -> None:
    store = stored(x=None)
    assert "x" in again(store)


def test_reading_does_not_modify(store: SessionStore) -> None:
    assert store.get("x", "default") == "default"
    assert (store.accessed, store.modified) == (True, False)


@pytest.mark.parametrize(
    "change",
    [
        lambda store: store.__setitem__("x", 2),
        lambda store: store.__delitem__("x"),
        lambda store: store.update({"y": 1}),
        lambda store: store.pop("x"),
        lambda store: store.setdefault("y", 1),
        lambda store: store.clear(),
        lambda store: store.set_test_cookie(),
        lambda store: store.user_session.set("x", 2),
        lambda store: store.cycle_key(),
        lambda store: store.flush(),
    ],
    ids=[
        "set",
        "del",
        "update",
        "pop",
        "setdefault",
        "clear",
        "test-cookie",
        "user-session",
        "cycle-key",
        "flush",
    ],
)
def test_changes_modify(change: Any) -> None:
    store = again(stored(x=1))
    change(store)
    assert store.modified


def test_session_cache_is_there_once_read() -> None:
    store = again(stored(x=1))
    assert not hasattr(store, "_session_cache")
    store.get("x")
    assert store._session_cache == {"x": 1}
    store._session_cache = {"y": 2}
    assert dict(store.items()) == {"y": 2}


def test_clear_keeps_the_key_and_leaves_nothing_stored() -> None:
    store = again(stored(x=1))
    store.clear()
    store.save()
    assert dict(again(store).items()) == {}
    assert FrontendSession.objects.count() == 1


def test_clear_of_a_session_that_was_not_read_reads_it_only_when_it_must(
    session_queries: SessionQueries,
) -> None:
    store = again(stored(x=1))
    with session_queries:
        store.clear()
    assert session_queries.kinds == []
    assert (store.accessed, store.modified) == (True, True)
    store["y"] = 2
    assert dict(store.items()) == {"y": 2}


def test_load_leaves_changes_that_were_not_saved_alone() -> None:
    store = again(stored(x=1))
    store["x"] = 2
    assert store.load() == {"x": 1}
    assert (store["x"], store.modified) == (2, True)
    store.save()
    assert again(store)["x"] == 2


def test_load_reads_under_the_key_that_the_session_has_now(store: SessionStore) -> None:
    store["x"] = 1
    store.save()
    store.cycle_key()
    store.save()
    assert store.load() == {"x": 1}


def test_load_of_nothing_is_empty(store: SessionStore) -> None:
    store["x"] = 1
    assert store.load() == {}


def test_encode_and_decode_are_djangos() -> None:
    store = SessionStore()
    assert store.decode(store.encode({"x": 1})) == {"x": 1}


# create, save, delete


def test_create_stores_an_empty_session_at_once(store: SessionStore) -> None:
    store.create()
    assert SessionStore().exists(store.session_key)


def test_key_can_be_asked_for_before_the_session_is_stored(store: SessionStore) -> None:
    store["x"] = 1
    key = store._get_or_create_session_key()
    assert store.session_key == key
    store.save()
    assert SessionStore(key)["x"] == 1


def test_key_that_is_asked_for_is_that_of_the_stored_session() -> None:
    store = stored(x=1)
    assert again(store)._get_or_create_session_key() == store.session_key
    assert async_to_sync(again(store)._aget_or_create_session_key)() == store.session_key


def test_new_keys_are_identifiers(store: SessionStore) -> None:
    assert is_identifier(store._get_new_session_key())


@pytest.mark.urls("tests.urls")
def test_copy_of_a_login_does_not_take_the_login_over(client: Client, alice: Any) -> None:
    visit(client, lambda request: request.session.update({"b": 0}))
    visit(client, lambda request: auth.login(request, alice))

    def view(request: Any) -> None:
        del request.session["b"]
        request.session.create()

    visit(client, view)
    assert visit(client, lambda request: "b" in request.session).content == b"False"
    assert FrontendSession.objects.count() == 2


def test_create_counts_as_a_modification_as_in_django(store: SessionStore) -> None:
    store.create()
    assert store.modified


def test_create_gives_another_key_each_time(store: SessionStore) -> None:
    store.create()
    first = store.session_key
    store.create()
    assert store.session_key != first
    assert FrontendSession.objects.count() == 2


def test_save_that_must_create_refuses_a_key_that_is_taken() -> None:
    store = SessionStore(stored(x=1).session_key)
    with pytest.raises(CreateError):
        store.save(must_create=True)


def test_save_that_could_not_create_leaves_the_session_as_it_was() -> None:
    store = stored(x=1)
    key = store.session_key
    with pytest.raises(CreateError):
        store.save(must_create=True)
    store["y"] = 2
    store.save()
    assert (store.session_key, dict(again(store).items())) == (key, {"x": 1, "y": 2})
    assert FrontendSession.objects.count() == 1


def test_save_that_must_create_modifies_a_session_without_key_as_create_does(
    store: SessionStore,
) -> None:
    store.save(must_create=True)
    assert store.modified


def test_save_that_must_create_takes_a_key_that_is_free() -> None:
    SessionStore(KEY).save(must_create=True)
    assert SessionStore().exists(KEY)


def test_delete_ends_any_session_by_its_key() -> None:
    store = stored(x=1)
    SessionStore().delete(store.session_key)
    assert FrontendSession.objects.count() == 0


def test_delete_of_nothing_is_no_error() -> None:
    SessionStore().delete()
    SessionStore().delete(KEY)


def test_delete_by_the_new_key_ends_a_session_that_is_not_saved_under_it_yet() -> None:
    store = again(stored(x=1))
    store.cycle_key()
    store.delete(store.session_key)
    assert FrontendSession.objects.count() == 0


@pytest.mark.parametrize("names_key", [True, False], ids=["by-key", "without-key"])
def test_delete_forgets_a_session_that_has_a_key_but_is_not_stored_yet(
    store: SessionStore, names_key: bool
) -> None:
    store["x"] = 1
    store.cycle_key()
    store.delete(store.session_key if names_key else None)
    assert (store.session_key, store.is_empty()) == (None, True)


def test_flush_ends_the_session_and_starts_an_empty_one() -> None:
    store = again(stored(x=1))
    store.flush()
    assert (store.session_key, dict(store.items())) == (None, {})
    assert FrontendSession.objects.count() == 0


def test_cycled_key_is_new_at_once_and_stored_by_save() -> None:
    store = again(stored(x=1))
    old = store.session_key
    store.cycle_key()
    new = store.session_key
    assert old != new
    assert not store.exists(old)
    assert SessionStore().exists(old)
    store.save()
    assert not SessionStore().exists(old)
    assert SessionStore(new)["x"] == 1


def test_key_of_a_new_session_is_known_once_it_is_cycled(store: SessionStore) -> None:
    store["x"] = 1
    store.cycle_key()
    key = store.session_key
    store.save()
    assert SessionStore(key)["x"] == 1


# Expiry


def test_expiry_without_one_of_its_own_is_the_login_types(clock: Clock) -> None:
    assert SessionStore().get_session_cookie_age() == 6000
    store = stored(x=1)
    assert store.get_expiry_age() == 86_400
    assert store.get_expire_at_browser_close()


@pytest.mark.parametrize(
    "value",
    [300, timedelta(seconds=300), datetime.fromtimestamp(NOW + 300, timezone.utc)],
    ids=["seconds", "timedelta", "datetime"],
)
def test_custom_expiry_ends_the_session_then(
    value: Any, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "django.utils.timezone.now", lambda: datetime.fromtimestamp(clock(), timezone.utc)
    )
    store = SessionStore()
    store["x"] = 1
    store.set_expiry(value)
    store.save()
    assert FrontendSession.objects.get().ses_tstamp == NOW + 300 - 86_400
    assert not store.get_expire_at_browser_close()
    clock.forward(300)
    assert again(store).get("x") == 1
    clock.forward(1)
    assert again(store).get("x") is None


def test_expiry_of_zero_is_at_browser_close(store: SessionStore) -> None:
    store.set_expiry(0)
    assert store.get_expire_at_browser_close()


# Login by hand


def test_request_without_middleware_can_log_in(alice: Any) -> None:
    """As Django's own test client does it."""
    request = RequestFactory().get("/")
    request.session = SessionStore()
    auth.login(request, alice)
    request.session.save()
    assert [row.ses_userid for row in FrontendSession.objects.all()] == [alice.pk]
    assert again(request.session).user_session.user_id == alice.pk


def test_rebinding_leaves_none_of_the_data(alice: Any) -> None:
    store = stored(x=1)
    key = store.session_key
    rebind(store, alice.pk, {auth.SESSION_KEY: str(alice.pk)}, {})
    store.save()
    assert dict(again(store).items()) == {auth.SESSION_KEY: str(alice.pk)}
    assert not store.exists(key or "")


# Async


def test_async_contract_is_the_sync_one() -> None:
    async def use() -> Any:
        store = SessionStore()
        await store.aset("x", 1)
        await store.asave()
        old = store.session_key
        late = SessionStore(old)
        assert await late.aget("x") == 1
        await late.acycle_key()
        await late.asave()
        assert not await late.aexists(old or "")
        assert await late.aget_expire_at_browser_close()
        assert await late.aget_expiry_age() == 86_400
        await late.aclear()
        assert await late.aget("x") is None
        await late.aflush()
        assert late.session_key is None
        await late.acreate()
        await late.adelete()
        await SessionStore.aclear_expired()
        return await late.aload()

    assert async_to_sync(use)() == {}
    assert FrontendSession.objects.count() == 0
