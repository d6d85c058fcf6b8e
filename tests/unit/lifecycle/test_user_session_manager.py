"""The life of a session from the first visit to garbage collection."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from django.contrib import auth
from django.db import connection
from django.http import HttpRequest
from django.test import RequestFactory

from tests.conftest import Clock, SessionQueries
from tests.factories import NOW, BackendSessionFactory, FrontendSessionFactory
from tests.serving import serving
from usersessions import (
    CookieScope,
    DatabaseSessionBackend,
    IpLocker,
    SessionBackend,
    SessionBusy,
    SessionChanged,
    SessionNotCreated,
    SessionNotFound,
    SessionNotUpdated,
    UserSession,
    UserSessionManager,
)
from usersessions.conf import UnknownLoginType, get_login_type
from usersessions.models import BackendSession, FrontendSession
from usersessions.session.tokens import Keys, is_identifier
from usersessions.store import SessionStore

pytestmark = pytest.mark.django_db

ALICE, BOB = 7, 8

VECTORS = json.loads((Path(__file__).parents[2] / "typo3_vectors.json").read_text())["expiry"]


@pytest.fixture(autouse=True)
def _default_settings(settings: Any) -> None:
    settings.USERSESSIONS = {}


@pytest.fixture
def configure(settings: Any, clock: Clock) -> Callable[..., UserSessionManager]:
    """Return the manager of FE with these settings."""

    def configure(**login_type: Any) -> UserSessionManager:
        settings.USERSESSIONS = {"FE": login_type}
        return UserSessionManager.create("FE", clock=clock)

    return configure


@pytest.fixture
def manager(clock: Clock) -> UserSessionManager:
    return UserSessionManager.create("FE", clock=clock)


@pytest.fixture
def visitor(manager: UserSessionManager) -> UserSession:
    """A stored session of a visitor with a basket."""
    return stored(manager, basket=[1])


@pytest.fixture
def alices(manager: UserSessionManager) -> UserSession:
    """A stored session of alice's with a basket."""
    session = manager.create_anonymous_session()
    session.set("basket", [1])
    return manager.elevate_to_fixated_user_session(session, ALICE)


def stored(manager: UserSessionManager, **data: Any) -> UserSession:
    session = manager.create_anonymous_session()
    session.override_data(data)
    return manager.fixate_anonymous_session(session)


def reread(manager: UserSessionManager, session: UserSession) -> UserSession:
    return manager.create_session_from_storage(session.identifier)


def a_request(address: str = "192.0.2.1", **meta: Any) -> HttpRequest:
    return RequestFactory(REMOTE_ADDR=address, **meta).get("/")


def request_with(
    manager: UserSessionManager, session: UserSession, *args: Any, **meta: Any
) -> HttpRequest:
    """Return a request of the browser that has the session's cookie."""
    request = a_request(*args, **meta)
    scope = manager.login_type.cookie_scope(a_request())
    request.COOKIES[manager.login_type.cookie_name] = session.get_jwt(scope)
    return request


def short_hash(manager: UserSessionManager, session: UserSession) -> str:
    return manager.backend.hash(session.identifier)[:8]


# create()


@pytest.mark.parametrize("name", ["BE", "FE"])
def test_create_makes_the_manager_of_a_login_type(name: str) -> None:
    manager = UserSessionManager.create(name)
    assert (manager.login_type, manager.backend.login_type) == (get_login_type(name), name)


def test_create_refuses_an_unknown_login_type() -> None:
    with pytest.raises(UnknownLoginType) as caught:
        UserSessionManager.create("XX")
    assert str(caught.value) == "There is no login type 'XX'; USERSESSIONS knows: 'BE', 'FE'."


def test_create_takes_every_collaborator(clock: Clock) -> None:
    backend = DatabaseSessionBackend("FE", {"model": "django_usersessions.BackendSession"})
    locker = IpLocker(4, 8)
    manager = UserSessionManager.create(
        "FE", backend=backend, lifetime=5, ip_locker=locker, clock=clock
    )
    with serving(a_request("192.0.2.1")):
        session = stored(manager, basket=[1])
    row = BackendSession.objects.get()
    assert (row.ses_tstamp, row.ses_iplock) == (NOW, "192.0.2.1")
    clock.forward(5)
    assert not manager.has_expired(session)
    clock.forward(1)
    assert manager.has_expired(session)


# create_anonymous_session()


def test_anonymous_session_is_new_empty_and_nobodys(manager: UserSessionManager) -> None:
    session = manager.create_anonymous_session()
    assert is_identifier(session.identifier)
    assert (session.is_new, session.data, session.user_id) == (True, {}, None)
    assert (session.last_updated, session.is_permanent, session.stored) == (NOW, False, None)


# create_from_request_or_anonymous()


def test_cookie_names_the_session(
    manager: UserSessionManager, alices: UserSession, session_queries: SessionQueries
) -> None:
    request = request_with(manager, alices)
    with session_queries:
        found = manager.create_from_request_or_anonymous(request)
    assert (found.identifier, found.user_id, found.data) == (
        alices.identifier,
        ALICE,
        {"basket": [1]},
    )
    assert not found.is_new
    assert session_queries.kinds == ["SELECT"]


def test_cookie_may_have_another_name(manager: UserSessionManager, alices: UserSession) -> None:
    request = request_with(manager, alices)
    request.COOKIES = {"other": request.COOKIES["fe_sessionid"]}
    assert manager.create_from_request_or_anonymous(request).is_anonymous
    assert manager.create_from_request_or_anonymous(request, "other").user_id == ALICE


@pytest.mark.parametrize("login_type", ["FE", "BE"])
def test_forged_cookie_gives_an_anonymous_session_without_a_query(
    manager: UserSessionManager,
    alices: UserSession,
    session_queries: SessionQueries,
    login_type: str,
) -> None:
    """Even who knows an identifier gets nowhere without this site's signature for this place."""
    request = a_request()
    elsewhere = CookieScope(Keys(login_type), "other.example", host_only=True)
    request.COOKIES["fe_sessionid"] = elsewhere.sign(alices.identifier, NOW)
    with session_queries:
        found = manager.create_from_request_or_anonymous(request)
    assert (found.is_anonymous, found.is_new) == (True, True)
    assert found.identifier != alices.identifier
    assert len(session_queries) == 0


def test_no_cookie_gives_an_anonymous_session_without_a_query(
    manager: UserSessionManager, session_queries: SessionQueries
) -> None:
    with session_queries:
        found = manager.create_from_request_or_anonymous(a_request())
    assert (found.is_anonymous, found.is_new, len(session_queries)) == (True, True, 0)


def test_identifier_of_an_ended_session_is_not_used_again(
    manager: UserSessionManager, alices: UserSession
) -> None:
    """Session fixation: a session must not start under an identifier that somebody else knows."""
    manager.remove_session(alices)
    found = manager.create_from_request_or_anonymous(request_with(manager, alices))
    assert (found.is_anonymous, found.is_new) == (True, True)
    assert found.identifier != alices.identifier


def test_expired_session_gives_an_anonymous_one_and_is_left_to_collection(
    manager: UserSessionManager,
    alices: UserSession,
    clock: Clock,
    session_queries: SessionQueries,
) -> None:
    clock.forward(6001)
    request = request_with(manager, alices)
    with session_queries:
        found = manager.create_from_request_or_anonymous(request)
    assert (found.is_anonymous, found.data) == (True, {})
    assert session_queries.kinds == ["SELECT"]
    assert manager.is_session_persisted(alices)


# IP lock


@pytest.mark.parametrize(
    ("address", "is_found"),
    [
        pytest.param("192.0.2.1", True, id="same-address"),
        pytest.param("192.0.99.99", True, id="same-network"),
        pytest.param("::ffff:192.0.2.1", False, id="other-protocol"),
        pytest.param("198.51.100.1", False, id="other-network"),
        pytest.param("", False, id="no-address"),
        pytest.param("[DISABLED]", False, id="text-of-the-open-lock"),
    ],
)
def test_session_is_locked_to_the_network_that_it_was_stored_from(
    configure: Callable[..., UserSessionManager], address: str, is_found: bool
) -> None:
    """A cookie that was stolen is worth nothing elsewhere."""
    manager = configure(LOCK_IP=2)
    with serving(a_request("192.0.2.1")):
        session = stored(manager, basket=[1])
    found = manager.create_from_request_or_anonymous(request_with(manager, session, address))
    assert session.ip_lock == "192.0.0.0"
    assert (found.identifier == session.identifier) is is_found


def test_client_ip_decides_on_the_address(configure: Callable[..., UserSessionManager]) -> None:
    manager = configure(LOCK_IP=4, CLIENT_IP=lambda request: request.META["HTTP_X_REAL_IP"])
    with serving(a_request("10.0.0.1", HTTP_X_REAL_IP="192.0.2.1")):
        session = stored(manager, basket=[1])
    assert session.ip_lock == "192.0.2.1"
    request = request_with(manager, session, "10.0.0.2", HTTP_X_REAL_IP="192.0.2.1")
    assert not manager.create_from_request_or_anonymous(request).is_new


def test_session_that_no_request_stored_is_locked_to_nothing(
    configure: Callable[..., UserSessionManager],
) -> None:
    manager = configure(LOCK_IP=4)
    session = stored(manager, basket=[1])
    assert session.ip_lock == "[DISABLED]"
    request = request_with(manager, session, "198.51.100.1")
    assert not manager.create_from_request_or_anonymous(request).is_new


def test_login_locks_to_the_address_of_the_login(
    configure: Callable[..., UserSessionManager],
) -> None:
    manager = configure(LOCK_IP=4)
    with serving(a_request("192.0.2.1")):
        session = stored(manager, basket=[1])
    with serving(a_request("198.51.100.1")):
        elevated = manager.elevate_to_fixated_user_session(session, ALICE)
    assert reread(manager, elevated).ip_lock == elevated.ip_lock == "198.51.100.1"


def test_lock_is_not_checked_without_a_request(
    configure: Callable[..., UserSessionManager],
) -> None:
    manager = configure(LOCK_IP=4)
    with serving(a_request("192.0.2.1")):
        session = stored(manager, basket=[1])
    assert manager.get_usable_session(session.identifier) is not None


# create_from_global_cookie_or_anonymous()


def from_global_cookie(manager: UserSessionManager) -> UserSession:
    with pytest.warns(DeprecationWarning, match="is deprecated"):
        return manager.create_from_global_cookie_or_anonymous("fe_sessionid")


def test_global_cookie_is_deprecated_from_birth(manager: UserSessionManager) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        manager.create_from_global_cookie_or_anonymous("fe_sessionid")
    [warning] = caught
    assert str(warning.message) == (
        "create_from_global_cookie_or_anonymous() is deprecated; "
        "use create_from_request_or_anonymous(request)."
    )
    assert (warning.category, warning.filename) == (DeprecationWarning, __file__)


def test_global_cookie_is_that_of_the_request_being_served(
    manager: UserSessionManager, alices: UserSession
) -> None:
    with serving(request_with(manager, alices)):
        assert from_global_cookie(manager).identifier == alices.identifier


def test_global_cookie_outside_a_request_gives_an_anonymous_session(
    manager: UserSessionManager, session_queries: SessionQueries
) -> None:
    with session_queries:
        session = from_global_cookie(manager)
    assert (session.is_anonymous, session.is_new, len(session_queries)) == (True, True, 0)


# create_session_from_storage(), is_session_persisted(), remove_session()


def test_stored_session_comes_back_whole(
    manager: UserSessionManager, session_queries: SessionQueries
) -> None:
    session = manager.create_anonymous_session()
    session.set("basket", [1])
    session = manager.elevate_to_fixated_user_session(session, ALICE, is_permanent=True)
    with session_queries:
        found = reread(manager, session)
    assert (found.identifier, found.user_id, found.data) == (
        session.identifier,
        ALICE,
        {"basket": [1]},
    )
    assert (found.last_updated, found.ip_lock, found.is_permanent, found.is_new) == (
        NOW,
        "[DISABLED]",
        True,
        False,
    )
    assert session_queries.kinds == ["SELECT"]


def test_session_that_is_not_stored_is_not_found(manager: UserSessionManager) -> None:
    session = manager.create_anonymous_session()
    with pytest.raises(SessionNotFound) as caught:
        reread(manager, session)
    assert str(caught.value) == (f"The FE session {short_hash(manager, session)} does not exist.")


def test_session_is_persisted_from_storing_to_removing(
    manager: UserSessionManager, session_queries: SessionQueries
) -> None:
    session = manager.create_anonymous_session()
    assert manager.is_session_persisted(session) is False
    session = manager.fixate_anonymous_session(session)
    with session_queries:
        assert manager.is_session_persisted(session) is True
    assert session_queries.kinds == ["SELECT"]
    manager.remove_session(session)
    assert manager.is_session_persisted(session) is False


def test_removed_session_is_gone(
    manager: UserSessionManager, alices: UserSession, session_queries: SessionQueries
) -> None:
    FrontendSessionFactory(ses_userid=ALICE)
    with session_queries:
        assert manager.remove_session(alices) is True
    assert session_queries.kinds == ["DELETE"]
    assert manager.remove_session(alices) is False
    assert FrontendSession.objects.count() == 1


def test_session_that_was_renewed_but_not_saved_is_removed(
    manager: UserSessionManager, alices: UserSession
) -> None:
    """A logout right after a login, in one request, leaves nothing that could still be used."""
    assert manager.remove_session(alices.renewed("0" * 32, user_id=ALICE)) is True
    assert not FrontendSession.objects.exists()


# has_expired() and will_expire()


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: f"{vector['age']}")
def test_expiry_is_what_typo3_says(clock: Clock, vector: dict[str, Any]) -> None:
    manager = UserSessionManager.create("FE", lifetime=vector["session_lifetime"], clock=clock)
    session = UserSession.from_record(
        "0" * 32, {"ses_userid": ALICE, "ses_tstamp": NOW - vector["age"]}
    )
    assert (
        manager.has_expired(session),
        manager.will_expire(session, vector["grace_period"]),
    ) == (vector["has_expired"], vector["will_expire"])


# fixate_anonymous_session()


def test_fixated_session_is_stored(
    manager: UserSessionManager, session_queries: SessionQueries
) -> None:
    session = manager.create_anonymous_session()
    session.set("basket", [1])
    with session_queries:
        fixated = manager.fixate_anonymous_session(session)
    assert session_queries.kinds == ["INSERT"]
    assert FrontendSession.objects.values().get() == {
        "ses_id": manager.backend.hash(session.identifier),
        "ses_iplock": "[DISABLED]",
        "ses_userid": 0,
        "ses_tstamp": NOW,
        "ses_data": b'{"basket":[1]}',
        "ses_permanent": False,
    }
    assert (fixated.identifier, fixated.is_new, fixated.data_was_updated) == (
        session.identifier,
        True,
        False,
    )


@pytest.mark.parametrize("is_permanent", [True, False])
def test_fixated_session_may_be_permanent(manager: UserSessionManager, is_permanent: bool) -> None:
    session = manager.create_anonymous_session()
    fixated = manager.fixate_anonymous_session(session, is_permanent)
    assert fixated.is_permanent is is_permanent
    assert reread(manager, fixated).is_permanent is is_permanent


def test_session_is_fixated_once(manager: UserSessionManager, visitor: UserSession) -> None:
    with pytest.raises(SessionNotCreated) as caught:
        manager.fixate_anonymous_session(visitor)
    assert str(caught.value) == (
        f"The FE session {short_hash(manager, visitor)} was not created: it exists already."
    )


def test_serializer_of_the_settings_writes_the_data(
    configure: Callable[..., UserSessionManager],
) -> None:
    manager = configure(SERIALIZER=f"{__name__}.ReversedJson")
    session = stored(manager, basket=[1])
    assert FrontendSession.objects.get().ses_data == b'}]1[ :"teksab"{'
    assert reread(manager, session).data == {"basket": [1]}


class ReversedJson:
    def dumps(self, obj: Any) -> bytes:
        return json.dumps(obj).encode()[::-1]

    def loads(self, data: bytes) -> Any:
        return json.loads(data[::-1])


# elevate_to_fixated_user_session()


def test_login_gives_a_new_identifier_and_keeps_the_data(
    manager: UserSessionManager, visitor: UserSession
) -> None:
    elevated = manager.elevate_to_fixated_user_session(visitor, ALICE)
    assert elevated.identifier != visitor.identifier
    assert (elevated.user_id, elevated.data, elevated.is_new) == (ALICE, {"basket": [1]}, True)
    found = reread(manager, elevated)
    assert (found.user_id, found.data) == (ALICE, {"basket": [1]})


def test_login_makes_the_old_identifier_worthless(
    manager: UserSessionManager, visitor: UserSession
) -> None:
    """Session fixation: whoever planted the identifier in the browser is left with nothing."""
    request = request_with(manager, visitor)
    elevated = manager.elevate_to_fixated_user_session(visitor, ALICE)
    assert FrontendSession.objects.get().ses_id == manager.backend.hash(elevated.identifier)
    assert manager.create_from_request_or_anonymous(request).is_anonymous


def test_login_costs_one_update(
    manager: UserSessionManager, visitor: UserSession, session_queries: SessionQueries
) -> None:
    """One statement: at no moment are there both sessions, or neither."""
    with session_queries:
        manager.elevate_to_fixated_user_session(visitor, ALICE)
    assert session_queries.kinds == ["UPDATE"]
    assert len(session_queries) == 1


def test_login_of_a_session_that_is_not_stored_costs_one_insert(
    manager: UserSessionManager, session_queries: SessionQueries
) -> None:
    session = manager.create_anonymous_session()
    with session_queries:
        elevated = manager.elevate_to_fixated_user_session(session, ALICE)
    assert session_queries.kinds == ["INSERT"]
    assert reread(manager, elevated).user_id == ALICE


@pytest.mark.parametrize("is_permanent", [True, False])
def test_login_decides_whether_the_session_is_permanent(
    manager: UserSessionManager, is_permanent: bool
) -> None:
    session = manager.fixate_anonymous_session(
        manager.create_anonymous_session(), is_permanent=not is_permanent
    )
    elevated = manager.elevate_to_fixated_user_session(session, ALICE, is_permanent)
    assert elevated.is_permanent is is_permanent
    assert reread(manager, elevated).is_permanent is is_permanent


def test_login_never_revives_a_users_session(
    manager: UserSessionManager, alices: UserSession
) -> None:
    """What a logout or a password change has ended stays ended."""
    manager.remove_session(alices)
    with pytest.raises(SessionNotUpdated) as caught:
        manager.elevate_to_fixated_user_session(alices, ALICE)
    assert str(caught.value) == (
        f"The FE session {short_hash(manager, alices)} was not updated: it has ended."
    )
    assert not FrontendSession.objects.exists()


@pytest.mark.parametrize("user_id", [0, -1])
def test_login_of_nobody_is_refused(
    manager: UserSessionManager, visitor: UserSession, user_id: int
) -> None:
    with pytest.raises(ValueError, match="user_id") as caught:
        manager.elevate_to_fixated_user_session(visitor, user_id)
    assert str(caught.value) == f"user_id must be the primary key of a user, not {user_id}."
    assert reread(manager, visitor).is_anonymous


def test_login_keeps_what_another_request_stored_meanwhile(
    manager: UserSessionManager, visitor: UserSession
) -> None:
    theirs = reread(manager, visitor)
    theirs.set("theme", "dark")
    manager.update_session(theirs)
    elevated = manager.elevate_to_fixated_user_session(visitor, ALICE)
    assert reread(manager, elevated).data == {"basket": [1], "theme": "dark"}
    assert FrontendSession.objects.count() == 1


def test_login_notes_its_time_and_browser_outside_the_data(
    manager: UserSessionManager, visitor: UserSession
) -> None:
    with serving(a_request(HTTP_USER_AGENT="Firefox " + "x" * 300)):
        elevated = manager.elevate_to_fixated_user_session(visitor, ALICE)
    found = reread(manager, elevated)
    assert found.meta["login_at"] == NOW
    assert found.meta["user_agent"] == "Firefox " + "x" * 192
    assert found.data == {"basket": [1]}


@pytest.mark.parametrize("meta", [{}, {"HTTP_USER_AGENT": ""}], ids=["none", "empty"])
def test_login_of_a_browser_that_tells_no_name_notes_none(
    manager: UserSessionManager, visitor: UserSession, meta: dict[str, str]
) -> None:
    with serving(a_request(**meta)):
        elevated = manager.elevate_to_fixated_user_session(visitor, ALICE)
    assert "user_agent" not in reread(manager, elevated).meta


# regenerate_session()


def test_regenerated_session_has_a_new_identifier_and_all_else_as_before(
    manager: UserSessionManager, session_queries: SessionQueries
) -> None:
    session = manager.elevate_to_fixated_user_session(
        stored(manager, basket=[1]), ALICE, is_permanent=True
    )
    with session_queries:
        regenerated = manager.regenerate_session(session.identifier)
    assert session_queries.kinds == ["SELECT", "UPDATE"]
    assert regenerated.identifier != session.identifier
    assert regenerated.is_new
    found = reread(manager, regenerated)
    assert (found.user_id, found.data, found.is_permanent, found.meta) == (
        ALICE,
        {"basket": [1]},
        True,
        session.meta,
    )
    assert FrontendSession.objects.count() == 1


def test_regenerating_with_the_record_costs_one_update(
    manager: UserSessionManager, alices: UserSession, session_queries: SessionQueries
) -> None:
    record = manager.backend.get(alices.identifier)
    with session_queries:
        regenerated = manager.regenerate_session(alices.identifier, record)
    assert session_queries.kinds == ["UPDATE"]
    assert reread(manager, regenerated).data == {"basket": [1]}


def test_regenerating_with_an_outdated_record_keeps_what_is_stored(
    manager: UserSessionManager, alices: UserSession
) -> None:
    record = manager.backend.get(alices.identifier)
    theirs = reread(manager, alices)
    theirs.set("theme", "dark")
    manager.update_session(theirs)
    regenerated = manager.regenerate_session(alices.identifier, record)
    assert reread(manager, regenerated).data == {"basket": [1], "theme": "dark"}


def test_regenerating_what_is_not_stored_raises(manager: UserSessionManager) -> None:
    session = manager.create_anonymous_session()
    with pytest.raises(SessionNotFound) as caught:
        manager.regenerate_session(session.identifier)
    assert str(caught.value) == (f"The FE session {short_hash(manager, session)} does not exist.")


@pytest.mark.parametrize("user_id", [0, ALICE], ids=["visitors", "users"])
def test_regenerating_never_revives_a_session(manager: UserSessionManager, user_id: int) -> None:
    session = stored(manager, basket=[1])
    FrontendSession.objects.update(ses_userid=user_id)
    record = manager.backend.get(session.identifier)
    manager.remove_session(session)
    with pytest.raises(SessionNotUpdated) as caught:
        manager.regenerate_session(session.identifier, record)
    assert str(caught.value) == (
        f"The FE session {short_hash(manager, session)} was not updated: it has ended."
    )
    assert not FrontendSession.objects.exists()


def test_regenerating_anonymously_takes_the_user_off(
    manager: UserSessionManager, alices: UserSession
) -> None:
    regenerated = manager.regenerate_session(alices.identifier, anonymous=True)
    found = reread(manager, regenerated)
    assert (found.is_anonymous, found.data) == (True, {"basket": [1]})
    assert FrontendSession.objects.get().ses_userid == 0


def test_regenerating_anonymously_logs_out_of_django_too(
    manager: UserSessionManager, alice: Any
) -> None:
    """The data names the user as well: request.user must not be alice any more."""
    request = a_request()
    request.session = SessionStore()
    request.session["basket"] = [1]
    auth.login(request, alice)
    request.session.save()
    identifier = request.session.session_key
    assert identifier is not None
    regenerated = manager.regenerate_session(identifier, anonymous=True)
    later = a_request()
    later.session = SessionStore(regenerated.identifier)
    assert auth.get_user(later).is_anonymous
    assert later.session["basket"] == [1]


# update_session()


def test_update_stores_data_and_time(
    manager: UserSessionManager,
    alices: UserSession,
    clock: Clock,
    session_queries: SessionQueries,
) -> None:
    clock.forward(10)
    alices.set("basket", [1, 2])
    with session_queries:
        updated = manager.update_session(alices)
    assert session_queries.kinds == ["UPDATE"]
    found = reread(manager, alices)
    assert (found.data, found.last_updated, found.user_id) == ({"basket": [1, 2]}, NOW + 10, ALICE)
    assert (updated.identifier, updated.data_was_updated, updated.last_updated) == (
        alices.identifier,
        False,
        NOW + 10,
    )


def test_updates_of_different_keys_at_the_same_time_both_survive(
    manager: UserSessionManager, alices: UserSession, session_queries: SessionQueries
) -> None:
    theirs, mine = reread(manager, alices), reread(manager, alices)
    theirs.set("theme", "dark")
    manager.update_session(theirs)
    mine.set("basket", [1, 2])
    with session_queries:
        updated = manager.update_session(mine)
    assert session_queries.kinds == ["UPDATE", "SELECT", "UPDATE"]
    assert updated.data == {"basket": [1, 2], "theme": "dark"}
    assert reread(manager, alices).data == {"basket": [1, 2], "theme": "dark"}


def test_updates_go_on_from_what_was_stored(
    manager: UserSessionManager, alices: UserSession, session_queries: SessionQueries
) -> None:
    alices.set("basket", [1, 2])
    updated = manager.update_session(alices)
    updated.set("basket", [1, 2, 3])
    with session_queries:
        manager.update_session(updated)
    assert session_queries.kinds == ["UPDATE"]
    assert reread(manager, alices).data == {"basket": [1, 2, 3]}


def test_update_never_revives_a_session(manager: UserSessionManager, alices: UserSession) -> None:
    """A request that outlives a logout must not bring the session back."""
    manager.remove_session(alices)
    alices.set("basket", [1, 2])
    with pytest.raises(SessionNotUpdated) as caught:
        manager.update_session(alices)
    assert str(caught.value) == (
        f"The FE session {short_hash(manager, alices)} was not updated: it has ended."
    )
    assert not FrontendSession.objects.exists()


def test_update_of_a_session_that_was_never_stored_raises(manager: UserSessionManager) -> None:
    with pytest.raises(SessionNotUpdated):
        manager.update_session(manager.create_anonymous_session())
    assert not FrontendSession.objects.exists()


def test_update_never_mixes_the_data_of_two_users(
    manager: UserSessionManager, alices: UserSession
) -> None:
    """What alice's request knows must not end up in bob's session."""
    FrontendSession.objects.update(ses_userid=BOB, ses_data=b'{"theme":"dark"}')
    alices.set("address", "alice's")
    with pytest.raises(SessionChanged) as caught:
        manager.update_session(alices)
    assert str(caught.value) == (
        f"The FE session {short_hash(manager, alices)} was not updated: its data has changed."
    )
    assert FrontendSession.objects.get().ses_data == b'{"theme":"dark"}'


@contextmanager
def a_busy_neighbour(kind: str, key: str) -> Iterator[list[int]]:
    """Let another request change a key before each of our statements of this kind."""
    stored: list[int] = []

    def interrupt(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if sql.startswith(kind):
            stored.append(len(stored) + 1)
            data = json.dumps({key: len(stored)}).encode()
            execute("UPDATE fe_sessions SET ses_data = %s", [data], False, context)
        return execute(sql, params, many, context)

    with connection.execute_wrapper(interrupt):
        yield stored


def test_update_gives_up_when_others_store_all_the_time(
    manager: UserSessionManager, alices: UserSession
) -> None:
    alices.set("basket", [1, 2])
    with a_busy_neighbour("UPDATE", "theirs") as stored, pytest.raises(SessionBusy):
        manager.update_session(alices)
    assert len(stored) == 40
    assert reread(manager, alices).data == {"theirs": 40}


# remove_emptied_session()


def test_emptied_session_that_another_request_has_ended_is_not_ours_to_end(
    manager: UserSessionManager, visitor: UserSession
) -> None:
    manager.remove_session(visitor)
    visitor.override_data({})
    with pytest.raises(SessionNotUpdated):
        manager.saver.remove_emptied(visitor)


def test_session_that_two_requests_emptied_is_removed(
    manager: UserSessionManager, visitor: UserSession, session_queries: SessionQueries
) -> None:
    theirs = reread(manager, visitor)
    theirs.override_data({})
    manager.update_session(theirs)
    visitor.override_data({})
    with session_queries:
        assert manager.saver.remove_emptied(visitor) is True
    assert session_queries.kinds == ["DELETE", "SELECT", "DELETE"]
    assert not FrontendSession.objects.exists()


# update_session_timestamp()


@pytest.mark.parametrize(
    ("age", "kinds"),
    [(0, []), (61, []), (62, ["UPDATE"])],
    ids=["just-stored", "within-the-grace", "past-the-grace"],
)
def test_touch_writes_at_most_every_61_seconds(
    *,
    manager: UserSessionManager,
    alices: UserSession,
    clock: Clock,
    session_queries: SessionQueries,
    age: int,
    kinds: list[str],
) -> None:
    clock.forward(age)
    with session_queries:
        touched = manager.update_session_timestamp(alices)
    moved = age if kinds else 0
    assert session_queries.kinds == kinds
    assert touched.last_updated == reread(manager, alices).last_updated == NOW + moved


def test_touch_never_writes_data(
    manager: UserSessionManager, alices: UserSession, clock: Clock
) -> None:
    clock.forward(62)
    alices.set("basket", [1, 2])
    manager.update_session_timestamp(alices)
    assert reread(manager, alices).data == {"basket": [1]}


def test_touch_does_not_forget_that_data_is_still_to_be_stored(
    manager: UserSessionManager, alices: UserSession, clock: Clock
) -> None:
    clock.forward(62)
    alices.set("basket", [1, 2])
    assert manager.update_session_timestamp(alices).data_was_updated


def test_touch_never_revives_a_session(
    manager: UserSessionManager, alices: UserSession, clock: Clock
) -> None:
    clock.forward(62)
    manager.remove_session(alices)
    manager.update_session_timestamp(alices)
    assert not FrontendSession.objects.exists()


def test_touch_leaves_a_session_that_another_request_touched(
    manager: UserSessionManager, alices: UserSession, clock: Clock
) -> None:
    clock.forward(62)
    FrontendSession.objects.update(ses_tstamp=NOW + 70)
    manager.update_session_timestamp(alices)
    assert FrontendSession.objects.get().ses_tstamp == NOW + 70


def test_touch_does_not_undo_what_another_request_stores(
    manager: UserSessionManager, alices: UserSession, clock: Clock
) -> None:
    clock.forward(62)
    touched = manager.update_session_timestamp(alices)
    theirs = reread(manager, alices)
    theirs.set("theme", "dark")
    manager.update_session(theirs)
    touched.set("basket", [1, 2])
    manager.update_session(touched)
    assert reread(manager, alices).data == {"basket": [1, 2], "theme": "dark"}


@pytest.mark.parametrize(
    ("expiry", "kinds"),
    [(300, []), (0, ["UPDATE"]), (None, ["UPDATE"])],
    ids=["seconds", "browser-close", "none"],
)
def test_session_with_an_expiry_of_its_own_is_not_touched(
    manager: UserSessionManager,
    clock: Clock,
    session_queries: SessionQueries,
    expiry: int | None,
    kinds: list[str],
) -> None:
    session = stored(manager, _session_expiry=expiry)
    clock.forward(62)
    with session_queries:
        manager.update_session_timestamp(session)
    assert session_queries.kinds == kinds


def test_session_whose_expiry_was_set_by_other_software_is_not_touched(
    manager: UserSessionManager,
    visitor: UserSession,
    clock: Clock,
    session_queries: SessionQueries,
) -> None:
    FrontendSession.objects.update(ses_data=b'{"_session_expiry":300}')
    session = reread(manager, visitor)
    clock.forward(62)
    with session_queries:
        manager.update_session_timestamp(session)
    assert session_queries.kinds == []


# collect_garbage()


@pytest.mark.parametrize(
    ("probability", "dice", "collects"),
    [
        pytest.param(0, 0.0, False, id="never"),
        pytest.param(100, 0.999999, True, id="always"),
        pytest.param(1, 0.009, True, id="one-percent-hit"),
        pytest.param(1, 0.011, False, id="one-percent-missed"),
        pytest.param(50, 0.499, True, id="half-hit"),
        pytest.param(50, 0.5, False, id="half-missed"),
        pytest.param(0.5, 0.0049, True, id="half-a-percent-hit"),
        pytest.param(0.5, 0.0051, False, id="half-a-percent-missed"),
    ],
)
def test_collection_runs_with_a_chance_of_so_many_percent(
    *,
    manager: UserSessionManager,
    monkeypatch: pytest.MonkeyPatch,
    session_queries: SessionQueries,
    probability: float,
    dice: float,
    collects: bool,
) -> None:
    FrontendSessionFactory.create_batch(3, ses_tstamp=0)
    monkeypatch.setattr("usersessions.lifecycle.user_session_manager.random.random", lambda: dice)
    with session_queries:
        collected = manager.collect_garbage(probability)
    assert collected == (3 if collects else 0)
    assert bool(session_queries.kinds) is collects
    assert FrontendSession.objects.count() == (0 if collects else 3)


@pytest.mark.parametrize(("dice", "collected"), [(0.009, 1), (0.011, 0)])
def test_collection_runs_once_in_a_hundred_unless_told(
    manager: UserSessionManager,
    monkeypatch: pytest.MonkeyPatch,
    dice: float,
    collected: int,
) -> None:
    FrontendSessionFactory(ses_tstamp=0)
    monkeypatch.setattr("usersessions.lifecycle.user_session_manager.random.random", lambda: dice)
    assert manager.collect_garbage() == collected


def test_collection_leaves_the_other_login_types(manager: UserSessionManager) -> None:
    BackendSessionFactory(ses_tstamp=0)
    assert manager.collect_garbage(100) == 0
    assert BackendSession.objects.exists()


def test_collection_stops_after_so_many_batches(manager: UserSessionManager) -> None:
    FrontendSession.objects.bulk_create(FrontendSessionFactory.build_batch(501, ses_tstamp=0))
    assert manager.collect_garbage(100, max_batches=1) == 500


@pytest.mark.parametrize(
    ("settings_of_type", "limits"),
    [
        pytest.param({}, (6000, 86400), id="defaults"),
        pytest.param({"TIMEOUT": 50, "ANONYMOUS_LIFETIME": 60}, (50, 60), id="both"),
        pytest.param({"TIMEOUT": 0, "ANONYMOUS_LIFETIME": 60}, (86400, 60), id="no-timeout"),
        pytest.param({"TIMEOUT": 50, "ANONYMOUS_LIFETIME": 0}, (50, 86400), id="no-anonymous"),
        pytest.param({"TIMEOUT": 50, "LIFETIME": 70}, (70, 86400), id="longer-lifetime"),
    ],
)
def test_collection_goes_by_the_lifetimes_of_the_settings(
    configure: Callable[..., UserSessionManager],
    settings_of_type: dict[str, int],
    limits: tuple[int, int],
) -> None:
    manager = configure(**settings_of_type)
    for user_id, limit in zip((ALICE, 0), limits, strict=True):
        FrontendSessionFactory(ses_userid=user_id, ses_tstamp=NOW - limit - 1)
        FrontendSessionFactory(ses_userid=user_id, ses_tstamp=NOW - limit)
    assert manager.collect_garbage(100) == 2
    assert sorted(FrontendSession.objects.values_list("ses_userid", "ses_tstamp")) == [
        (0, NOW - limits[1]),
        (ALICE, NOW - limits[0]),
    ]


def test_collection_leaves_every_session_that_can_still_be_used(
    manager: UserSessionManager, clock: Clock
) -> None:
    """What set_expiry() prolonged is not taken by the limits of the settings, and back."""
    long = stored(manager, _session_expiry=1_000_000)
    short = stored(manager, _session_expiry=100)
    clock.forward(101)
    assert manager.collect_garbage(100) == 1
    assert not manager.is_session_persisted(short)
    clock.forward(900_000)
    assert manager.collect_garbage(100) == 0
    assert manager.get_usable_session(long.identifier) is not None


def test_object_from_before_the_fixation_overwrites_nothing(manager: UserSessionManager) -> None:
    session = manager.create_anonymous_session()
    session.set("mine", 1)
    manager.fixate_anonymous_session(session)
    other = manager.create_session_from_storage(session.identifier)
    other.set("theirs", 2)
    manager.update_session(other)
    session.set("mine", 3)
    assert manager.update_session(session).data == {"mine": 3, "theirs": 2}


def test_login_that_cannot_be_merged_leaves_the_old_entry_alone(
    manager: UserSessionManager, alice: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attack: have the entry under a planted identifier outlive the login by writing to it."""
    session = manager.create_anonymous_session()
    session.set("x", 1)
    session = manager.fixate_anonymous_session(session)
    monkeypatch.setattr("usersessions.lifecycle.saving.ATTEMPTS", 3)
    renew, changes = SessionBackend.renew, count()

    def change_it_first(backend: SessionBackend, identifier: str, *args: Any, **more: Any) -> None:
        backend.update(identifier, {"ses_data": b'{"x":%d}' % next(changes)})
        renew(backend, identifier, *args, **more)

    monkeypatch.setattr(SessionBackend, "renew", change_it_first)
    with pytest.raises(SessionBusy) as caught:
        manager.elevate_to_fixated_user_session(session, alice.pk)
    short_hash = manager.backend.hash(session.identifier)[:8]
    assert str(caught.value) == (
        f"The FE session {short_hash} was not stored: "
        "other requests changed its data before each of 6 attempts."
    )
    assert caught.value.attempts == 6
    assert [record["ses_userid"] for record in manager.backend.get_all()] == [0]


def test_session_that_became_unreadable_meanwhile_is_not_overwritten(
    manager: UserSessionManager,
) -> None:
    session = manager.create_anonymous_session()
    session.set("x", 1)
    session = manager.fixate_anonymous_session(session)
    manager.backend.update(session.identifier, {"ses_data": b"\xff"})
    session.set("x", 2)
    with pytest.raises(SessionChanged):
        manager.update_session(session)
    assert manager.backend.get(session.identifier)["ses_data"] == b"\xff"


def test_session_that_ends_before_the_next_turn_of_a_save_stays_ended(
    manager: UserSessionManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = manager.create_anonymous_session()
    session.set("x", 1)
    session = manager.fixate_anonymous_session(session)
    session.set("y", 2)
    update, attempts = SessionBackend.update, count()

    def change_or_end_it_first(backend: Any, identifier: str, *args: Any, **more: Any) -> None:
        number = next(attempts)
        update(backend, identifier, {"ses_data": b'{"x":%d}' % (number + 2)})
        try:
            update(backend, identifier, *args, **more)
        finally:
            if number == 1:
                backend.remove(identifier)
                monkeypatch.undo()

    monkeypatch.setattr(SessionBackend, "update", change_or_end_it_first)
    with pytest.raises(SessionNotUpdated):
        manager.update_session(session)
    assert list(manager.backend.get_all()) == []


def test_ending_a_session_without_login_id_ends_no_other(
    manager: UserSessionManager, alice: Any
) -> None:
    """Sessions that other software has stored do not say which login they are of."""
    for identifier in ("0" * 32, "1" * 32):
        manager.backend.set(
            identifier, {"ses_userid": alice.pk, "ses_tstamp": 1, "ses_data": b'{"x":1}'}
        )
    session = manager.create_session_from_storage("0" * 32)
    manager.backend.remove("0" * 32)
    assert manager.remove_session(session) is False
    assert len(list(manager.backend.get_all())) == 1
