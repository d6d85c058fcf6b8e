"""What two requests of one session make of it together: README.rst, "Requests at the same time"."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib import auth
from django.contrib.messages.storage.base import Message
from django.contrib.messages.storage.session import SessionStorage
from django.contrib.sessions.backends.base import UpdateError
from django.db import transaction
from django.test import RequestFactory
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import Clock, SessionQueries
from tests.factories import NOW
from usersessions import UserSession
from usersessions.models import FrontendSession
from usersessions.session.data import LOGIN_KEYS
from usersessions.store import SessionStore
from usersessions.store.login import rebind

IDENTIFIER = "0123456789abcdef0123456789abcdef"

# The rule, against a model: a request is a patch of what it has read, applied to what is stored.

EXPIRIES = {"_session_expiry": st.sampled_from([0, 300, 1.5, None, "2030-01-01T00:00:00+00:00"])}
VALUES = st.sampled_from([0, False, 1, True, 1.0, "", "x", [], [1], [1, 2], {}, {"a": 1}, {"a": 2}])
KEYS = ["a", "b", "c", *sorted(LOGIN_KEYS)]
DATA = st.fixed_dictionaries({}, optional={**dict.fromkeys(KEYS, VALUES), **EXPIRIES})


def patched(base: dict[str, Any], mine: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    changes = {key: mine[key] for key in mine if as_json(base, key) != as_json(mine, key)}
    deletions = [key for key in base if key not in mine]
    return {key: value for key, value in {**theirs, **changes}.items() if key not in deletions}


def as_json(data: dict[str, Any], key: str) -> str:
    return json.dumps(data[key]) if key in data else "nothing"


@given(base=DATA, mine=DATA, theirs=DATA, is_renewed=st.booleans())
def test_merge_applies_what_a_request_has_changed_to_what_is_stored(
    base: dict[str, Any], mine: dict[str, Any], theirs: dict[str, Any], is_renewed: bool
) -> None:
    """Attack: two requests whose changes mix into the login of one user with another's rights."""
    session = UserSession.from_record(IDENTIFIER, {"ses_data": json.dumps(base).encode()})
    if is_renewed:
        session = session.renewed("f" * 32, user_id=None)
    session.override_data(mine)
    session.merge({"ses_data": json.dumps(theirs).encode()})
    login = mine if is_renewed else theirs
    expected = {
        **patched(base, mine, theirs),
        **{key: login[key] for key in LOGIN_KEYS if key in login},
    }
    for key in LOGIN_KEYS - login.keys():
        expected.pop(key, None)
    assert json.dumps(session.data, sort_keys=True) == json.dumps(expected, sort_keys=True)


@given(
    base=DATA,
    changes=st.dictionaries(st.sampled_from("abcd"), st.tuples(st.booleans(), VALUES | st.none())),
)
def test_order_of_saves_that_change_different_keys_does_not_matter(
    base: dict[str, Any], changes: dict[str, tuple[bool, Any]]
) -> None:
    one, other = ({**base}, {**base})
    for key, (is_ones, value) in changes.items():
        (one if is_ones else other)[key] = value
    saved = [
        {key: value for key, value in each.items() if value is not None} for each in (one, other)
    ]
    results = []
    for first, second in (saved, saved[::-1]):
        session = UserSession.from_record(IDENTIFIER, {"ses_data": json.dumps(base).encode()})
        session.override_data(second)
        session.merge({"ses_data": json.dumps(first).encode()})
        results.append(json.dumps(session.data, sort_keys=True))
    assert results[0] == results[1]


# The rule, through request.session

pytestmark = pytest.mark.django_db


@pytest.fixture
def key() -> str:
    """The key of a stored session."""
    store = SessionStore()
    store.update({"basket": ["apple"], "size": "L", "seen": {"lamp": 1}})
    store.save()
    assert store.session_key is not None
    return store.session_key


def add_wish(store: SessionStore) -> None:
    store["wish"] = "sofa"


def clear(store: SessionStore) -> None:
    store.clear()


def override(store: SessionStore) -> None:
    store.user_session.override_data({"size": "S"})


def remove_by_none(store: SessionStore) -> None:
    store.user_session.set("size", None)


def set_same_value(store: SessionStore) -> None:
    store["size"] = "L"


def set_to(name: str, value: Any) -> Callable[[SessionStore], None]:
    return lambda store: store.__setitem__(name, value)


READ = {"basket": ["apple"], "size": "L", "seen": {"lamp": 1}}


@pytest.mark.parametrize(
    ("theirs", "mine", "changed"),
    [
        pytest.param(add_wish, set_to("size", "M"), {"wish": "sofa", "size": "M"}, id="two-keys"),
        pytest.param(set_to("size", "M"), set_to("size", "S"), {"size": "S"}, id="one-key"),
        pytest.param(
            set_to("seen", {"lamp": 1, "sofa": 1}),
            set_to("seen", {"lamp": 2}),
            {"seen": {"lamp": 2}},
            id="nested-values-are-one-key",
        ),
        pytest.param(remove_by_none, add_wish, {"size": None, "wish": "sofa"}, id="deleted-theirs"),
        pytest.param(remove_by_none, set_to("size", "S"), {"size": "S"}, id="deleted-and-set"),
        pytest.param(set_to("size", "M"), remove_by_none, {"size": None}, id="set-and-deleted"),
        pytest.param(remove_by_none, set_same_value, {"size": None}, id="set-to-what-it-was"),
        pytest.param(
            add_wish,
            clear,
            {"wish": "sofa", "basket": None, "size": None, "seen": None},
            id="clear-takes-what-it-has-read",
        ),
        pytest.param(
            clear, set_to("size", "S"), {"basket": None, "seen": None, "size": "S"}, id="cleared"
        ),
        pytest.param(
            add_wish,
            override,
            {"wish": "sofa", "size": "S", "basket": None, "seen": None},
            id="override-is-a-change-of-each-key",
        ),
        pytest.param(
            override,
            add_wish,
            {"wish": "sofa", "size": "S", "basket": None, "seen": None},
            id="overridden",
        ),
    ],
)
def test_two_saves(
    key: str,
    theirs: Callable[[SessionStore], None],
    mine: Callable[[SessionStore], None],
    changed: dict[str, Any],
) -> None:
    """``None`` in ``changed`` means that the key is gone."""
    one, other = SessionStore(key), SessionStore(key)
    assert (dict(one.items()), dict(other.items())) == (READ, READ)
    theirs(one)
    one.save()
    mine(other)
    other.save()
    expected = {name: value for name, value in {**READ, **changed}.items() if value is not None}
    assert dict(SessionStore(key).items()) == expected


@pytest.mark.parametrize("is_flush", [True, False], ids=["flush", "delete"])
def test_save_of_what_another_request_has_ended_stores_nothing(key: str, is_flush: bool) -> None:
    one, other = SessionStore(key), SessionStore(key)
    other["size"] = "S"
    one.flush() if is_flush else one.delete()
    with pytest.raises(UpdateError):
        other.save()
    assert not FrontendSession.objects.exists()


def test_flush_takes_what_others_have_stored_meanwhile_with_it(key: str) -> None:
    one, other = SessionStore(key), SessionStore(key)
    assert one["size"] == "L"
    add_wish(other)
    other.save()
    one.flush()
    one["size"] = "S"
    one.save()
    assert dict(SessionStore(one.session_key).items()) == {"size": "S"}
    assert FrontendSession.objects.count() == 1


def test_expiry_that_another_request_has_set_stays_and_counts(key: str, clock: Clock) -> None:
    one, other = SessionStore(key), SessionStore(key)
    other["size"] = "S"
    one.set_expiry(300)
    one.save()
    clock.forward(100)
    other.save()
    merged = SessionStore(key)
    assert (merged["size"], merged.get_expiry_age()) == ("S", 300)
    assert merged.manager.expiry.expires_at(merged.user_session) == NOW + 400


def test_messages_are_one_key(key: str) -> None:
    """Of two messages at the same moment the later one is shown; Django's own engines lose both."""
    stores = [SessionStore(key), SessionStore(key)]
    for number, store in enumerate(stores):
        assert "_messages" not in store
        request = RequestFactory().get("/")
        request.session = store
        SessionStorage(request)._store([Message(20, f"message {number}")], None)
    for store in stores:
        store.save()
    request.session = SessionStore(key)
    assert [message.message for message in SessionStorage(request)] == ["message 1"]
    assert request.session["basket"] == ["apple"]


def test_save_that_meets_nobody_is_one_statement(key: str, session_queries: SessionQueries) -> None:
    store = SessionStore(key)
    add_wish(store)
    with session_queries:
        store.save()
    assert session_queries.kinds == ["UPDATE"]


def test_save_that_meets_another_costs_two_statements_more(
    key: str, session_queries: SessionQueries
) -> None:
    one, other = SessionStore(key), SessionStore(key)
    for store in (one, other):
        add_wish(store)
    one["size"] = "M"
    one.save()
    with session_queries:
        other.save()
    assert session_queries.kinds == ["UPDATE", "SELECT", "UPDATE"]


@pytest.mark.django_db(transaction=True)
def test_what_a_rolled_back_save_had_merged_is_no_change_of_its_own() -> None:
    """Else the save that is made again would bring back what others have deleted since."""
    mine = SessionStore()
    mine["basket"] = ["apple"]
    mine.save()
    theirs = SessionStore(mine.session_key)
    add_wish(theirs)
    theirs.save()
    mine["size"] = "S"
    with transaction.atomic():
        mine.save()
        transaction.set_rollback(True)
    del theirs["wish"]
    theirs.save()
    mine.save()
    assert dict(SessionStore(mine.session_key).items()) == {"basket": ["apple"], "size": "S"}


# Nothing crosses a change of user


def a_request(store: SessionStore) -> Any:
    request = RequestFactory().get("/")
    request.session = store
    return request


def log_in(store: SessionStore, user: Any) -> None:
    auth.login(a_request(store), user, "django.contrib.auth.backends.ModelBackend")


@pytest.fixture
def alices_key(alice: Any) -> str:
    store = SessionStore()
    log_in(store, alice)
    store["of alice"] = 1
    store.save()
    assert store.session_key is not None
    return store.session_key


def test_login_takes_what_another_tab_puts_into_the_basket_meanwhile(key: str, alice: Any) -> None:
    one, other = SessionStore(key), SessionStore(key)
    log_in(one, alice)
    add_wish(other)
    other.save()
    one.save()
    stored = SessionStore(one.session_key)
    assert {name: stored[name] for name in ("wish", "size")} == {"wish": "sofa", "size": "L"}
    assert stored.user_session.user_id == alice.pk
    assert SessionStore(key).is_empty() or not dict(SessionStore(key).items())


@pytest.mark.parametrize("change", ["login-of-bob", "logout", "made-anonymous"])
def test_late_save_of_one_users_data_reaches_nobody_else(
    alices_key: str, bob: Any, change: str
) -> None:
    """Attack: a slow request of alice's ends after bob has logged in in the same browser."""
    slow, next_user = SessionStore(alices_key), SessionStore(alices_key)
    slow["late of alice"] = 1
    if change == "login-of-bob":
        log_in(next_user, bob)
    elif change == "logout":
        next_user.flush()
        next_user["anon"] = 1
    else:
        rebind(next_user, None, {"anon": 1}, {})
    next_user.save()
    with pytest.raises(UpdateError):
        slow.save()
    [row] = FrontendSession.objects.all()
    assert b"alice" not in bytes(row.ses_data)


def test_session_that_is_handed_to_nobody_takes_none_of_what_a_tab_stores_meanwhile(
    alices_key: str,
) -> None:
    """Attack: the data of a request that the change of user has overtaken comes with the merge."""
    next_user, slow = SessionStore(alices_key), SessionStore(alices_key)
    assert next_user["of alice"] == 1
    rebind(next_user, None, {"anon": 1}, {})
    slow["late of alice"] = 1
    slow.save()
    next_user.save()
    assert dict(SessionStore(next_user.session_key).items()) == {"anon": 1}
    [row] = FrontendSession.objects.all()
    assert b"alice" not in bytes(row.ses_data)
