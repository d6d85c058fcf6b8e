"""The storage of each login type, and ending all sessions of a user."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from tests.conftest import Clock, SessionQueries
from tests.factories import BackendSessionFactory, FrontendSessionFactory
from tests.plans import kinds_of_revocation
from usersessions import (
    DatabaseSessionBackend,
    SessionManager,
    SessionNotFound,
    SessionNotUpdated,
    UserSession,
    UserSessionManager,
)
from usersessions.conf import UnknownLoginType
from usersessions.lifecycle.login import begin_login
from usersessions.models import BackendSession, FrontendSession

ALICE, BOB = 7, 8


@pytest.fixture(autouse=True)
def _default_settings(settings: Any) -> None:
    settings.USERSESSIONS = {}


# get_session_backend()


@pytest.mark.parametrize(("login_type", "model"), [("BE", BackendSession), ("FE", FrontendSession)])
def test_login_type_has_its_storage(login_type: str, model: type) -> None:
    backend = SessionManager.get_session_backend(login_type)
    assert isinstance(backend, DatabaseSessionBackend)
    assert (backend.login_type, backend.model) == (login_type, model)


def test_there_is_one_storage_a_login_type() -> None:
    backend = SessionManager.get_session_backend("FE")
    assert SessionManager.get_session_backend("FE") is backend
    assert SessionManager.get_session_backend("BE") is not backend


def test_changed_settings_give_a_new_storage(settings: Any) -> None:
    SessionManager.get_session_backend("FE")
    settings.USERSESSIONS = {"FE": {"OPTIONS": {"model": "django_usersessions.BackendSession"}}}
    backend = SessionManager.get_session_backend("FE")
    assert backend.options == {"model": "django_usersessions.BackendSession"}


def test_other_settings_leave_the_storage(settings: Any) -> None:
    backend = SessionManager.get_session_backend("FE")
    settings.SESSION_SAVE_EVERY_REQUEST = True
    assert SessionManager.get_session_backend("FE") is backend


def test_login_type_of_the_site_brings_its_own_storage(settings: Any) -> None:
    settings.USERSESSIONS = {
        "SHOP": {
            "BACKEND": "tests.contract.test_base.MemoryBackend",
            "OPTIONS": {"shelf": 3},
        }
    }
    backend = SessionManager.get_session_backend("SHOP")
    assert (type(backend).__name__, backend.login_type, backend.options) == (
        "MemoryBackend",
        "SHOP",
        {"shelf": 3},
    )


def test_unknown_login_type_is_refused() -> None:
    with pytest.raises(UnknownLoginType) as caught:
        SessionManager.get_session_backend("XX")
    assert str(caught.value) == ("There is no login type 'XX'; USERSESSIONS knows: 'BE', 'FE'.")


def test_wrong_options_are_refused_at_every_use(settings: Any) -> None:
    settings.USERSESSIONS = {"FE": {"OPTIONS": {"model": "shop.ShopSession"}}}
    for _ in range(2):
        with pytest.raises(ImproperlyConfigured) as caught:
            SessionManager.get_session_backend("FE")
        assert str(caught.value) == (
            'USERSESSIONS["FE"]["OPTIONS"]["model"] must be the label of an installed model, '
            "for example \"django_usersessions.FrontendSession\", not 'shop.ShopSession'."
        )


# invalidate_all_sessions_by_user_id()


@pytest.fixture
def manager(db: None, clock: Clock) -> UserSessionManager:
    return UserSessionManager.create("FE", clock=clock)


@pytest.fixture
def session(manager: UserSessionManager) -> UserSession:
    """A session of alice's with a basket in it."""
    session = manager.create_anonymous_session()
    session.set("basket", [1])
    return manager.elevate_to_fixated_user_session(session, ALICE, is_permanent=True)


@pytest.mark.django_db
def test_sessions_of_others_and_of_other_types_stay() -> None:
    FrontendSessionFactory(ses_userid=ALICE)
    others = [FrontendSessionFactory(ses_userid=user_id).pk for user_id in (BOB, 0)]
    BackendSessionFactory(ses_userid=ALICE)
    SessionManager.invalidate_all_sessions_by_user_id("FE", ALICE)
    assert sorted(FrontendSession.objects.values_list("pk", flat=True)) == sorted(others)
    assert BackendSession.objects.count() == 1


@pytest.mark.parametrize("sessions", [0, 1, 50])
def test_ending_all_sessions_costs_as_many_statements_however_many_there_are(
    session_queries: SessionQueries, sessions: int
) -> None:
    FrontendSessionFactory.create_batch(sessions, ses_userid=ALICE)
    with session_queries:
        SessionManager.invalidate_all_sessions_by_user_id("FE", ALICE)
    assert session_queries.kinds == kinds_of_revocation(sessions)


@pytest.mark.parametrize("user_id", [0, -1])
@pytest.mark.django_db
def test_id_of_nobody_is_refused(user_id: int) -> None:
    """User id 0, as a careless caller has it of a visitor, would end all anonymous sessions."""
    FrontendSessionFactory(ses_userid=user_id)
    with pytest.raises(ValueError, match="user_id") as caught:
        SessionManager.invalidate_all_sessions_by_user_id("FE", user_id)
    assert str(caught.value) == f"user_id must be the primary key of a user, not {user_id}."
    assert FrontendSession.objects.count() == 1


def test_kept_session_survives_alone(manager: UserSessionManager, session: UserSession) -> None:
    FrontendSessionFactory.create_batch(3, ses_userid=ALICE)
    kept = SessionManager.invalidate_all_sessions_by_user_id("FE", ALICE, keep=session)
    assert kept is not None
    found = manager.create_session_from_storage(kept.identifier)
    assert (found.user_id, found.data, found.is_permanent) == (ALICE, {"basket": [1]}, True)
    assert FrontendSession.objects.count() == 1


def test_user_may_be_named_by_text_as_sessions_and_addresses_do(
    manager: UserSessionManager, session: UserSession
) -> None:
    FrontendSessionFactory(ses_userid=ALICE)
    kept = SessionManager.invalidate_all_sessions_by_user_id("FE", str(ALICE), keep=session)
    assert kept is not None
    assert manager.is_session_persisted(kept)
    assert FrontendSession.objects.count() == 1


def test_kept_session_gets_a_new_identifier(
    manager: UserSessionManager, session: UserSession
) -> None:
    """Whoever has copied the cookie is out, too, after the password was changed."""
    kept = SessionManager.invalidate_all_sessions_by_user_id("FE", ALICE, keep=session)
    assert kept is not None
    assert kept.is_new
    assert kept.identifier != session.identifier
    with pytest.raises(SessionNotFound):
        manager.create_session_from_storage(session.identifier)


def test_keeping_a_session_costs_a_delete_and_an_update(
    session: UserSession, session_queries: SessionQueries
) -> None:
    with session_queries:
        SessionManager.invalidate_all_sessions_by_user_id("FE", ALICE, keep=session)
    assert session_queries.kinds == [*kinds_of_revocation(sessions=0), "UPDATE"]


def test_kept_session_loses_nothing_that_another_request_stored(
    manager: UserSessionManager, session: UserSession
) -> None:
    """Two requests that change a session at the same time: both changes survive."""
    theirs = manager.create_session_from_storage(session.identifier)
    theirs.set("theme", "dark")
    manager.update_session(theirs)
    kept = SessionManager.invalidate_all_sessions_by_user_id("FE", ALICE, keep=session)
    assert kept is not None
    found = manager.create_session_from_storage(kept.identifier)
    assert found.data == {"basket": [1], "theme": "dark"}


def test_session_that_was_renewed_but_not_saved_is_kept(
    manager: UserSessionManager, session: UserSession
) -> None:
    """As in a view that calls ``cycle_key()`` first: the storage knows the old identifier."""
    renewed = session.renewed("0" * 32, user_id=ALICE)
    kept = SessionManager.invalidate_all_sessions_by_user_id("FE", ALICE, keep=renewed)
    assert kept is not None
    assert manager.create_session_from_storage(kept.identifier).data == {"basket": [1]}
    assert FrontendSession.objects.count() == 1


def test_kept_session_does_not_forget_what_is_still_to_be_stored(
    manager: UserSessionManager, session: UserSession
) -> None:
    session.set("basket", [1, 2])
    kept = SessionManager.invalidate_all_sessions_by_user_id("FE", ALICE, keep=session)
    assert kept is not None
    assert kept.data_was_updated
    manager.update_session(kept)
    assert manager.create_session_from_storage(kept.identifier)["basket"] == [1, 2]


def test_kept_session_that_has_ended_stays_ended(
    manager: UserSessionManager, session: UserSession
) -> None:
    """A logout at the same time is not undone, and the other sessions end all the same."""
    FrontendSessionFactory(ses_userid=ALICE)
    manager.remove_session(session)
    with pytest.raises(SessionNotUpdated) as caught:
        SessionManager.invalidate_all_sessions_by_user_id("FE", ALICE, keep=session)
    short_hash = manager.backend.hash(session.identifier)[:8]
    assert str(caught.value) == (f"The FE session {short_hash} was not updated: it has ended.")
    assert not FrontendSession.objects.exists()


def test_session_that_is_not_stored_for_the_user_cannot_be_kept(alice: Any) -> None:
    """It would be kept under a new key, but bound to nobody."""
    manager = UserSessionManager.create("FE")
    visitor = manager.create_anonymous_session()
    visitor.set("x", 1)
    stored = manager.fixate_anonymous_session(visitor)
    for keep in (manager.create_anonymous_session(), begin_login(manager, stored, alice.pk)):
        with pytest.raises(ValueError, match=r"^keep must be a stored session of user \d+: save"):
            SessionManager.invalidate_all_sessions_by_user_id("FE", alice.pk, keep=keep)
    assert manager.is_session_persisted(stored)
