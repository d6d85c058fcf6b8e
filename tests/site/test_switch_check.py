"""A switched session on each request: the rights are asked for again, and attacks on it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib import auth as django_auth
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, Permission, User

from tests.conftest import Clock, SessionQueries
from tests.factories import BackendSessionFactory, UserFactory
from tests.site.test_middleware import the_cookie
from tests.site.test_switch_user import EVERYONE_MAY, go_back, refusal_of, seen, switch_to
from tests.urls import avisit, visit
from usersessions import SessionManager, UserSessionManager, auth
from usersessions.models import BackendSession, FrontendSession
from usersessions.session.data import RESERVED_KEY
from usersessions.store import SessionStore
from usersessions.switching.check import check_switch
from usersessions.test import Client

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.urls")]

NOBODY = "('', None, {})"


@pytest.fixture
def manager(db: None) -> Any:
    """Staff who may see users."""
    user = UserFactory(username="manager", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_user"))
    return user


@pytest.fixture
def switched(client: Client, superuser: Any, alice: Any) -> Client:
    """Where the superuser is alice, in the frontend."""
    client.force_login(superuser)
    visit(client, lambda request: request.session.update({"note": "mine"}))
    visit(client, switch_to(alice))
    return client


@pytest.fixture
def managed(client: Client, manager: Any, alice: Any, settings: Any) -> Client:
    """Where a manager is alice; the site's policy says yes to everybody."""
    settings.USERSESSIONS = {"FE": EVERYONE_MAY}
    client.force_login(manager)
    visit(client, switch_to(alice))
    return client


def update(user: Any, **fields: Any) -> Callable[[], None]:
    """Return what no signal shows: a change in the database itself."""
    return lambda: User.objects.filter(pk=user.pk).update(**fields) and None


# Whoever is behind it loses a right


@pytest.mark.parametrize(
    "change",
    [{"is_superuser": False}, {"is_active": False}, {"password": "changed"}],
    ids=lambda change: next(iter(change)),
)
def test_switch_ends_with_the_original_users_right(
    switched: Client, superuser: Any, change: dict[str, Any]
) -> None:
    """Attack: stay in as somebody else after one's own rights have been taken away."""
    update(superuser, **change)()
    response = visit(switched, lambda request: dict(request.session))
    assert response.content == b"{}"
    assert the_cookie(response)["max-age"] == 0
    assert FrontendSession.objects.count() == 0


def test_switch_does_not_come_back_with_the_right(switched: Client, superuser: Any) -> None:
    """What has ended stays ended: the cookie may be somebody else's by now."""
    stolen = switched.cookies["fe_sessionid"].value
    update(superuser, is_superuser=False)()
    assert seen(switched) == NOBODY
    update(superuser, is_superuser=True)()
    switched.cookies["fe_sessionid"] = stolen
    assert seen(switched) == NOBODY


def test_switch_ends_when_the_policy_says_no(managed: Client, settings: Any) -> None:
    settings.USERSESSIONS = {}
    assert seen(managed) == NOBODY


def test_switch_ends_when_the_original_user_loses_a_permission_that_the_target_has(
    managed: Client, manager: Any, alice: Any
) -> None:
    alice.user_permissions.set(manager.user_permissions.all())
    assert seen(managed).startswith("('alice', 'manager'")
    manager.user_permissions.clear()
    assert seen(managed) == NOBODY


def test_switch_ends_when_the_original_user_is_no_staff_any_more_as_the_target_is(
    managed: Client, manager: Any, alice: Any
) -> None:
    update(alice, is_staff=True)()
    assert seen(managed).startswith("('alice', 'manager'")
    update(manager, is_staff=False)()
    assert seen(managed) == NOBODY


def test_policy_that_fails_lets_nobody_in(managed: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**users: Any) -> bool:
        raise RuntimeError("The directory of rights is down.")

    monkeypatch.setattr("tests.site.test_switch_user.everyone", fail)
    with pytest.raises(RuntimeError, match="The directory of rights is down"):
        seen(managed)
    assert FrontendSession.objects.count() == 1  # nobody is logged out by an outage


# The target changes


def _gains_permission(alice: Any) -> None:
    alice.user_permissions.add(Permission.objects.get(codename="delete_user"))


def _gains_group(alice: Any) -> None:
    group = Group.objects.create(name="editors")
    group.permissions.add(Permission.objects.get(codename="delete_user"))
    alice.groups.add(group)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(_gains_permission, id="permission"),
        pytest.param(_gains_group, id="group"),
        pytest.param(lambda alice: update(alice, is_superuser=True)(), id="superuser"),
        pytest.param(lambda alice: update(alice, is_active=False)(), id="deactivated"),
        pytest.param(
            lambda alice: User.objects.filter(pk=alice.pk)._raw_delete("default"), id="deleted"
        ),
    ],
)
def test_switch_ends_when_the_target_gains_rights_or_goes(
    managed: Client, alice: Any, change: Callable[[Any], None]
) -> None:
    """Attack: switch to a colleague who is to be promoted, and wait."""
    change(alice)
    assert visit(managed, lambda request: dict(request.session)).content == b"{}"
    assert FrontendSession.objects.count() == 0


def test_target_may_gain_what_the_original_user_has(managed: Client, alice: Any) -> None:
    alice.user_permissions.add(Permission.objects.get(codename="view_user"))
    update(alice, is_staff=True)()
    assert seen(managed).startswith("('alice', 'manager'")


# What the check costs


def read_note(request: Any) -> Any:
    return request.session.get("note")


def see_both(request: Any) -> Any:
    return str(request.user), str(request.original_user)


@pytest.mark.parametrize(
    ("browser", "view", "queries"),
    [
        pytest.param("switched", read_note, 2, id="both-users-at-once"),
        pytest.param("switched", see_both, 3, id="and-request-user-by-django"),
        pytest.param("managed", read_note, 4, id="permissions-of-staff-and-target"),
        pytest.param("backend_switched", read_note, 3, id="session-of-another-type"),
    ],
)
def test_what_the_check_costs(
    request: pytest.FixtureRequest,
    browser: str,
    view: Callable[[Any], Any],
    queries: int,
    django_assert_num_queries: Callable[[int], Any],
) -> None:
    client = request.getfixturevalue(browser)
    with django_assert_num_queries(queries):
        visit(client, view)


def test_end_is_one_delete(
    switched: Client, superuser: Any, session_queries: SessionQueries
) -> None:
    update(superuser, is_superuser=False)()
    with session_queries:
        seen(switched)
    assert session_queries.kinds == ["SELECT", "DELETE"]


def test_manager_refuses_what_the_store_refuses(switched: Client, superuser: Any) -> None:
    """Attack: code that uses the manager itself, past ``request.session``."""

    def user_id(request: Any) -> Any:
        return UserSessionManager.create("FE").create_from_request_or_anonymous(request).user_id

    assert visit(switched, user_id).content != b"None"
    update(superuser, is_superuser=False)()
    assert visit(switched, user_id).content == b"None"


def test_async_request_ends_the_switch_too(
    switched: Client, superuser: Any, alice: Any, async_client: Any
) -> None:
    async def who(request: Any) -> Any:
        return (await request.auser()).get_username(), str(await request.aoriginal_user())

    async_client.cookies = switched.cookies
    assert avisit(async_client, who).content == b"('alice', 'admin')"
    update(superuser, is_superuser=False)()
    assert avisit(async_client, who).content == b"('', 'None')"
    assert FrontendSession.objects.count() == 0
    assert LogEntry.objects.latest("pk").change_message == "Switched back from this user (FE)."


# From the backend to the frontend: both end together


@pytest.fixture
def backend_switched(client: Client, superuser: Any, alice: Any, clock: Clock) -> Client:
    """Where the superuser, in the backend, looks at the frontend as alice."""
    client.force_login(superuser, login_type="BE")
    visit(client, switch_to(alice, login_type="FE"), "/admin/")
    return client


def test_frontend_ends_with_the_logout_from_the_backend(backend_switched: Client) -> None:
    """Attack: sit down where an administrator has logged out of the admin."""
    assert seen(backend_switched).startswith("('alice', 'admin'")
    visit(backend_switched, django_auth.logout, "/admin/")
    assert seen(backend_switched) == NOBODY
    assert FrontendSession.objects.count() == 0


def test_frontend_ends_when_the_backend_session_expires(
    backend_switched: Client, clock: Clock, settings: Any
) -> None:
    settings.USERSESSIONS = {"BE": {"TIMEOUT": 900}}
    clock.forward(900)
    assert seen(backend_switched).startswith("('alice', 'admin'")
    clock.forward(1)
    assert seen(backend_switched) == NOBODY


def test_frontend_ends_when_somebody_ends_the_backend_sessions(
    backend_switched: Client, superuser: Any
) -> None:
    """By the index of users alone: no table is looked through."""
    SessionManager.invalidate_all_sessions_by_user_id("BE", superuser.pk)
    assert seen(backend_switched) == NOBODY


def test_frontend_ends_when_the_backend_switches_as_well(
    backend_switched: Client, editor: Any
) -> None:
    visit(backend_switched, switch_to(editor), "/admin/")
    assert seen(backend_switched) == NOBODY


def test_another_login_of_the_original_user_does_not_keep_the_frontend(
    backend_switched: Client, other_client: Client, superuser: Any, clock: Clock
) -> None:
    clock.forward(5)
    other_client.force_login(superuser, login_type="BE")
    visit(backend_switched, django_auth.logout, "/admin/")
    assert seen(backend_switched) == NOBODY


def test_somebody_else_behind_the_original_user_does_not_keep_the_frontend(
    backend_switched: Client, other_client: Client, superuser: Any
) -> None:
    other_client.force_login(UserFactory(is_staff=True, is_superuser=True), login_type="BE")
    visit(other_client, switch_to(superuser), "/admin/")
    visit(backend_switched, django_auth.logout, "/admin/")
    assert seen(backend_switched) == NOBODY


def test_row_that_does_not_decode_does_not_keep_the_frontend(
    backend_switched: Client, superuser: Any
) -> None:
    BackendSessionFactory(ses_userid=superuser.pk, ses_data=b"?")
    assert seen(backend_switched).startswith("('alice', 'admin'")
    visit(backend_switched, django_auth.logout, "/admin/")
    assert seen(backend_switched) == NOBODY


def test_new_identifier_of_the_backend_session_changes_nothing(backend_switched: Client) -> None:
    visit(backend_switched, lambda request: request.session.cycle_key(), "/admin/")
    visit(backend_switched, auth.end_other_sessions, "/admin/")
    assert seen(backend_switched).startswith("('alice', 'admin'")


def test_login_type_that_is_gone_keeps_nothing(backend_switched: Client) -> None:
    manager = UserSessionManager.create("FE", clock=SessionStore.clock)
    session = backend_switched.session("FE").user_session
    assert check_switch(session, manager.login_type, manager.clock) is not None
    session.meta["switched_from"]["login_type"] = "OLD"
    assert check_switch(session, manager.login_type, manager.clock) is None


def test_user_without_a_session_of_their_own_has_none_to_end_with(
    client: Client, superuser: Any, alice: Any
) -> None:
    """As when a token of an API says who it is."""

    def switch(request: Any) -> None:
        request.user = superuser
        auth.switch_user(request, alice, login_type="FE")

    visit(client, switch, "/admin/")
    assert seen(client).startswith("('alice', 'admin'")


# Attacks by way of the data


@pytest.fixture
def planted(client: Client, superuser: Any) -> Client:
    """Where the site's own code has let a visitor write into the session."""
    visit(client, lambda request: request.session.update({"backuserid": superuser.pk}))
    return client


def test_planted_id_does_not_make_a_visitor_the_superuser(planted: Client) -> None:
    """Attack: ``backuserid`` in an anonymous session, then the way back."""
    assert refusal_of(planted, go_back()) == "You have not switched user."
    assert visit(planted, lambda request: str(request.original_user)).content == b"'None'"


def test_planted_id_does_not_make_a_customer_the_superuser(planted: Client, alice: Any) -> None:
    """Attack: the same, and a login after it or before."""
    planted.force_login(alice)
    assert refusal_of(planted, go_back()) == "You have not switched user."
    visit(planted, lambda request: request.session.update({"backuserid": 1, "back_hash": ""}))
    assert refusal_of(planted, go_back()) == "You have not switched user."
    assert visit(planted, lambda request: str(request.original_user)).content == b"'None'"


def test_planted_id_writes_nothing_into_the_log(
    planted: Client, alice: Any, superuser: Any
) -> None:
    """Attack: have the superuser's name in the log of what one does."""
    planted.force_login(alice)
    visit(planted, lambda request: request.session.update({"backuserid": superuser.pk}))
    visit(planted, django_auth.logout)
    assert LogEntry.objects.count() == 0


def test_planted_id_does_not_keep_a_login_from_being_counted(
    other_client: Client, client: Client, alice: Any, superuser: Any, settings: Any
) -> None:
    """Attack: more sessions than a user may have."""
    settings.USERSESSIONS = {"FE": {"MAX_SESSIONS_PER_USER": 1}}

    def log_in(request: Any) -> None:
        django_auth.login(request, alice)
        request.session["backuserid"] = superuser.pk

    for each in (client, other_client):
        visit(each, log_in)
    assert FrontendSession.objects.filter(ses_userid=alice.pk).count() == 1


def test_what_the_app_remembers_cannot_be_planted(client: Client, superuser: Any) -> None:
    """Attack: the app's own key, with all that a switch leaves there."""
    meta = {"back_user": superuser.pk, "back_hash": superuser.get_session_auth_hash()}
    with pytest.raises(ValueError, match="reserved for usersessions"):
        visit(client, lambda request: request.session.update({RESERVED_KEY: meta}))
    assert FrontendSession.objects.count() == 0


@pytest.mark.parametrize(
    "view",
    [
        lambda request: request.session.pop("backuserid"),
        lambda request: request.session.update({"backuserid": request.user.pk}),
    ],
    ids=["deleted", "overwritten"],
)
def test_who_is_behind_a_session_does_not_hang_on_its_data(
    switched: Client, superuser: Any, view: Callable[[Any], Any]
) -> None:
    """Attack: get rid of the trace, and of the check with it."""
    visit(switched, view)
    assert seen(switched) == f"('alice', 'admin', {{'backuserid': {superuser.pk}}})"
    update(superuser, is_superuser=False)()
    assert seen(switched) == NOBODY


# What is put aside


def fe_data() -> bytes:
    return bytes(FrontendSession.objects.get().ses_data)


@pytest.mark.parametrize(
    "view",
    [
        lambda request: request.session.save(),
        lambda request: request.session.update({"note": "hers", "aside": {}, "meta": {}}),
        lambda request: request.session.set_expiry(60),
        lambda request: request.session.cycle_key(),
        lambda request: request.session.user_session.override_data(
            {key: value for key, value in request.session.items() if "_auth" in key}
        ),
    ],
    ids=["save", "update", "expiry", "cycle", "override"],
)
def test_what_was_put_aside_comes_back_byte_for_byte(
    client: Client, superuser: Any, alice: Any, view: Callable[[Any], Any]
) -> None:
    """Attack: leave something in the superuser's session, as the target or by a view for her."""
    client.force_login(superuser)
    visit(client, lambda request: request.session.update({"note": ["ä", {"1": None}, 1.5]}))
    before = fe_data()
    visit(client, switch_to(alice))
    visit(client, view)
    visit(client, go_back())
    assert fe_data() == before


def beside(request: Any, **data: Any) -> None:
    """Store data in the session as another request does that started at the same time."""
    login_type = request.user_sessions["FE"].login_type
    other = SessionStore(request.COOKIES["fe_sessionid"], login_type=login_type)
    other.update(data)
    other.save()


def test_visitors_data_that_comes_meanwhile_is_put_aside(
    client: Client, superuser: Any, alice: Any
) -> None:
    """Two tabs: a basket is filled in the shop while the admin switches it to a customer."""
    client.force_login(superuser, login_type="BE")
    visit(client, lambda request: request.session.update({"note": 1}))

    def slow_switch(request: Any) -> None:
        auth.switch_user(request, alice, login_type="FE")
        beside(request, basket="a visitor's")

    visit(client, slow_switch, "/admin/")
    assert "basket" not in seen(client)
    visit(client, go_back())
    assert seen(client) == "('', None, {'note': 1, 'basket': \"a visitor's\"})"


def test_targets_own_data_that_comes_meanwhile_is_put_aside(
    client: Client, superuser: Any, alice: Any
) -> None:
    """Where the browser's frontend was alice's own: hers stays hers."""
    client.force_login(superuser, login_type="BE")
    client.force_login(alice)

    def slow_switch(request: Any) -> None:
        auth.switch_user(request, alice, login_type="FE")
        beside(request, basket="hers")

    visit(client, slow_switch, "/admin/")
    assert "basket" not in seen(client)

    def slow_exit(request: Any) -> None:
        auth.exit_switch_user(request)
        beside(request, note="not hers")

    visit(client, slow_exit)
    assert seen(client) == "('alice', None, {'basket': 'hers'})"


def test_one_targets_data_is_not_put_aside_for_the_next(
    switched: Client, superuser: Any, bob: Any
) -> None:
    """Attack: data of a customer in the superuser's session, by going from one to the next."""

    def go_on_to_bob(request: Any) -> None:
        auth.exit_switch_user(request)
        auth.switch_user(request, bob)
        beside(request, basket="alice's")

    visit(switched, go_on_to_bob)
    assert seen(switched) == f"('bob', 'admin', {{'backuserid': {superuser.pk}}})"
    assert "alice's" not in json.dumps(json.loads(fe_data()))
    visit(switched, go_back())
    assert seen(switched) == "('admin', None, {'note': 'mine'})"


def test_backend_session_stays_as_it_is(backend_switched: Client, superuser: Any) -> None:
    before = BackendSession.objects.values().get()
    visit(backend_switched, go_back())
    assert BackendSession.objects.values().get() == before
