"""What depends on users' keys; runs for integers, and on small sites with UUIDs and with text."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.contrib.auth import get_user_model, update_session_auth_hash
from django.core.management import call_command
from django.test import Client as DjangoClient
from django.urls import reverse

from tests.conftest import Clock
from tests.old_engines import ENGINES, OldSite
from tests.urls import visit
from usersessions import auth
from usersessions.backends.selection import Expired
from usersessions.backends.session_manager import SessionManager
from usersessions.lifecycle.user_session_manager import UserSessionManager
from usersessions.models import FrontendSession
from usersessions.session.user_session import UserSession
from usersessions.test import Client

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.urls")]

Row = Any


def rows(login_type: str = "FE") -> list[Row]:
    backend: Any = SessionManager.get_session_backend(login_type)
    return list(backend.model._default_manager.order_by("ses_tstamp"))


def owners(login_type: str = "FE") -> list[Any]:
    return [row.user_id for row in rows(login_type)]


def log_in(user: Any) -> Any:
    return lambda request: auth.login(request, user)


def put(**data: Any) -> Any:
    return lambda request: request.session.update(data)


# The same tests on other sites


@pytest.mark.skipif("SITE_UNDER_TEST" in os.environ, reason="runs on such a site already")
@pytest.mark.parametrize("site", ["uuid_users", "text_users"])
def test_site_whose_users_have_other_keys_works_as_well(site: str) -> None:
    done = subprocess.run(  # noqa: S603 - the tests of this very file
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__],
        env={
            **os.environ,
            "SITE_UNDER_TEST": site,
            "DJANGO_SETTINGS_MODULE": f"tests.user_models.{site}.settings",
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_site_is_the_one_that_was_asked_for() -> None:
    label = os.environ.get("SITE_UNDER_TEST", "auth")
    assert django_settings.AUTH_USER_MODEL.startswith(f"{label}.")


@pytest.mark.urls("testproject.urls")
def test_checks_pass_and_no_migration_is_missing() -> None:
    call_command("check", fail_level="WARNING")
    call_command("makemigrations", "django_usersessions", check=True, dry_run=True, verbosity=0)


# The life of a session


def test_login_binds_row_and_session_to_the_users_own_key(client: Client, alice: Any) -> None:
    seen: list[Any] = []

    def view(request: Any) -> None:
        auth.login(request, alice)
        seen.append(request.session.user_session.user_id)

    visit(client, view)
    assert owners() == seen == [alice.pk]
    assert type(owners()[0]) is type(alice.pk)


def test_login_takes_the_basket_of_the_anonymous_session_along(client: Client, alice: Any) -> None:
    visit(client, put(basket=[1]))
    assert owners() == [None]
    visit(client, log_in(alice))
    assert owners() == [alice.pk]
    shown = visit(client, lambda request: [request.user.pk, request.session["basket"]])
    assert shown.content.decode() == repr([alice.pk, [1]])


def test_login_of_another_user_leaves_nothing_of_the_one_before(
    client: Client, alice: Any, bob: Any
) -> None:
    visit(client, log_in(alice))
    visit(client, put(pin=1))
    visit(client, log_in(bob))
    assert owners() == [bob.pk]
    assert visit(client, lambda request: "pin" in request.session).content == b"False"


def test_session_that_names_a_user_is_bound_to_them(client: Client, alice: Any) -> None:
    visit(client, put(_auth_user_id=str(alice.pk)))
    assert owners() == [alice.pk]
    visit(client, lambda request: request.session.pop("_auth_user_id"))
    visit(client, put(basket=[1]))
    assert owners() == [None]


def test_logout_ends_the_session(client: Client, alice: Any) -> None:
    visit(client, log_in(alice))
    visit(client, auth.logout)
    assert owners() == []


def test_login_form_that_was_sent_twice_ends_with_one_session(
    client: Client, other_client: Client, alice: Any
) -> None:
    visit(client, put(basket=[1]))
    other_client.cookies = client.cookies.copy()  # type: ignore[assignment]
    for sender in (client, other_client):
        visit(sender, log_in(alice))
    assert owners() == [alice.pk]
    assert visit(other_client, lambda request: request.session["basket"]).content == b"[1]"


def allow_one_session(settings: Any, **more: Any) -> None:
    settings.USERSESSIONS = {
        name: {**options, "MAX_SESSIONS_PER_USER": 1, **more}
        for name, options in (settings.USERSESSIONS or {"FE": {}}).items()
    }


def test_login_is_refused_where_there_is_a_session_already(
    client: Client, other_client: Client, alice: Any, bob: Any, settings: Any
) -> None:
    allow_one_session(settings, MAX_SESSIONS_REACHED="refuse-login")
    visit(client, log_in(alice))
    assert visit(other_client, log_in(alice)).status_code == 403
    assert visit(other_client, log_in(bob)).status_code == 200
    assert visit(client, log_in(alice)).status_code == 200
    assert {*owners()} == {alice.pk, bob.pk}


def test_way_back_from_a_switch_is_not_refused(
    client: Client, other_client: Client, superuser: Any, alice: Any, settings: Any
) -> None:
    allow_one_session(settings, MAX_SESSIONS_REACHED="refuse-login")
    visit(client, log_in(superuser))
    visit(client, lambda request: auth.switch_user(request, alice))
    visit(other_client, log_in(superuser))
    visit(client, auth.exit_switch_user)
    assert owners() == [superuser.pk]
    assert visit(client, lambda request: request.user.pk).content.decode() == repr(superuser.pk)


def test_new_sessions_push_the_oldest_out(
    client: Client, other_client: Client, alice: Any, settings: Any
) -> None:
    allow_one_session(settings)
    visit(client, log_in(alice))
    visit(other_client, log_in(alice))
    assert owners() == [alice.pk]
    assert visit(other_client, lambda request: request.user.pk).content.decode() == repr(alice.pk)


@pytest.mark.parametrize("old_site", ENGINES, indirect=True)
def test_sessions_of_other_engines_are_bound_to_their_users(
    client: Client, old_site: OldSite, editor: Any
) -> None:
    client.cookies["sessionid"] = old_site.store_session(editor)
    shown = visit(client, lambda request: request.user.pk)
    assert shown.content.decode() == repr(editor.pk)
    assert owners() == owners("BE") == [editor.pk]


# Ending


def test_sessions_of_a_user_are_listed_and_ended_by_key(
    client: Client, other_client: Client, alice: Any, bob: Any
) -> None:
    client.force_login(alice)
    other_client.force_login(bob)
    backend = SessionManager.get_session_backend("FE")
    assert [record["ses_userid"] for record in backend.get_by_user(alice.pk)] == [alice.pk]
    SessionManager.invalidate_all_sessions_by_user_id("FE", alice.pk)
    assert owners() == [bob.pk]


def test_record_has_the_users_own_key(client: Client, alice: Any) -> None:
    client.force_login(alice)
    backend = SessionManager.get_session_backend("FE")
    record = backend.get(str(client.session.session_key))
    assert record["ses_userid"] == alice.pk
    assert type(record["ses_userid"]) is type(alice.pk)


def test_user_whose_key_was_set_as_text_keeps_the_session_that_changes_it(
    client: Client, alice: Any, django_capture_on_commit_callbacks: Any
) -> None:
    visit(client, log_in(alice))

    def change(request: Any) -> None:
        user = get_user_model()._default_manager.get(pk=request.user.pk)
        user.pk = str(user.pk)
        user.set_password("new")
        user.save()

    with django_capture_on_commit_callbacks(execute=True):
        visit(client, change)
    assert owners() == [alice.pk]


def test_kept_session_of_a_user_survives(client: Client, other_client: Client, alice: Any) -> None:
    client.force_login(alice)
    other_client.force_login(alice)
    kept = client.session.user_session
    found = SessionManager.invalidate_all_sessions_by_user_id("FE", alice.pk, keep=kept)
    assert isinstance(found, UserSession)
    assert owners() == [alice.pk]


@pytest.mark.parametrize(
    ("arguments", "left"),
    [
        pytest.param(["--user=alice"], [None, "bob"], id="user"),
        pytest.param(["--user-id={alice}"], [None, "bob"], id="key"),
        pytest.param(["--anonymous"], ["alice", "bob"], id="anonymous"),
        pytest.param(["--all"], [], id="all"),
        pytest.param(["--all", "--except-user=bob"], ["bob"], id="all-but-one"),
    ],
)
def test_command_ends_sessions(
    client: Client, alice: Any, bob: Any, arguments: list[str], left: list[str | None]
) -> None:
    visit(client, put(basket=[1]))
    for user in (alice, bob):
        Client().force_login(user)
    arguments = [argument.format(alice=alice.pk) for argument in arguments]
    call_command("end_sessions", *arguments, "--no-input", verbosity=0)
    keys = {None: None, "alice": alice.pk, "bob": bob.pk}
    assert set(owners()) == {keys[name] for name in left}
    assert len(owners()) == len(left)


def test_command_ends_the_switched_session_of_a_user(
    client: Client, superuser: Any, alice: Any
) -> None:
    """Attack: outlive the end of one's sessions as somebody else."""
    visit(client, log_in(superuser))
    visit(client, lambda request: auth.switch_user(request, alice))
    call_command("end_sessions", user_id=[superuser.pk], verbosity=0)
    assert owners() == []


@pytest.mark.parametrize("nobody", [0, "", None, -1])
def test_nobodys_sessions_cannot_be_ended_as_a_users(nobody: Any, client: Client) -> None:
    visit(client, put(basket=[1]))
    backend = SessionManager.get_session_backend("FE")
    with pytest.raises(ValueError, match="must be the primary key of a user"):
        backend.remove_by_user(nobody)
    assert owners() == [None]


@pytest.mark.parametrize("change", ["password", "deactivation", "deletion"])
def test_change_of_a_user_ends_their_sessions(
    change: str, client: Client, alice: Any, django_capture_on_commit_callbacks: Any
) -> None:
    client.force_login(alice)
    with django_capture_on_commit_callbacks(execute=True):
        if change == "deletion":
            alice.delete()
        else:
            alice.is_active = change != "deactivation"
            alice.set_password("new")
            alice.save()
    assert owners() == []


def test_password_change_keeps_the_session_that_made_it(
    client: Client, other_client: Client, alice: Any, django_capture_on_commit_callbacks: Any
) -> None:
    for one in (client, other_client):
        visit(one, log_in(alice))

    def change(request: Any) -> None:
        request.user.set_password("new")
        request.user.save()
        update_session_auth_hash(request, request.user)

    with django_capture_on_commit_callbacks(execute=True):
        visit(client, change)
    assert owners() == [alice.pk]
    assert visit(client, lambda request: request.user.pk).content.decode() == repr(alice.pk)


def test_collection_tells_users_from_visitors(client: Client, alice: Any, clock: Clock) -> None:
    manager = UserSessionManager.create("FE", clock=clock)
    visitor = manager.create_anonymous_session()
    visitor.set("basket", [1])
    manager.fixate_anonymous_session(visitor)
    manager.elevate_to_fixated_user_session(manager.create_anonymous_session(), alice.pk)
    clock.forward(6001)
    assert (
        manager.backend.count_all(Expired.after(*manager.expiry.retention, now=int(clock()))) == 1
    )
    assert manager.collect_garbage(100) == 1
    assert owners() == [None]
    clock.forward(86401)
    assert manager.collect_garbage(100) == 1
    assert owners() == []


# People's own pages, and the admin's


def test_person_sees_and_ends_their_other_sessions(
    client: Client, other_client: Client, alice: Any
) -> None:
    for one in (client, other_client):
        visit(one, log_in(alice))
    assert visit(client, lambda request: len(auth.own_sessions(request))).content == b"2"
    assert visit(client, auth.end_other_sessions).content == b"1"
    assert owners() == [alice.pk]


def test_superuser_switches_to_a_user_and_back(client: Client, superuser: Any, alice: Any) -> None:
    visit(client, log_in(superuser))
    visit(client, put(pin=1))
    visit(client, lambda request: auth.switch_user(request, alice))
    assert owners() == [alice.pk]
    shown = visit(client, lambda request: [request.user.pk, request.original_user.pk])
    assert shown.content.decode() == repr([alice.pk, superuser.pk])
    visit(client, auth.exit_switch_user)
    assert owners() == [superuser.pk]
    assert visit(client, lambda request: request.session["pin"]).content == b"1"


@pytest.fixture
def admin(client: Client, superuser: Any) -> DjangoClient:
    client.force_login(superuser, login_type="BE")
    return client


@pytest.mark.urls("testproject.urls")
@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ({}, ["alice", "-"]),
        ({"q": "ali"}, ["alice"]),
        ({"kind": "anonymous"}, ["-"]),
        ({"kind": "user"}, ["alice"]),
        ({"state": "active"}, ["alice", "-"]),
        ({"state": "expired"}, []),
    ],
)
def test_admin_lists_finds_and_filters_sessions(
    admin: DjangoClient, alice: Any, query: dict[str, str], shown: list[str]
) -> None:
    manager = UserSessionManager.create("FE")
    manager.fixate_anonymous_session(manager.create_anonymous_session())
    manager.elevate_to_fixated_user_session(manager.create_anonymous_session(), alice.pk)
    model = type(rows()[0])
    url = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
    listed = admin.get(url, query).context["cl"].result_list
    names = [session.user.get_username() if session.user else "-" for session in listed]
    assert sorted(names) == sorted(shown)


@pytest.mark.urls("testproject.urls")
@pytest.mark.parametrize("is_in_table", [True, False], ids=["table", "elsewhere"])
def test_admin_finds_sessions_by_the_key_of_a_user(
    admin: DjangoClient, alice: Any, bob: Any, settings: Any, is_in_table: bool
) -> None:
    if not is_in_table:
        elsewhere = {"BACKEND": "tests.contract.test_base.MemoryBackend", "OPTIONS": {}}
        settings.USERSESSIONS = {**settings.USERSESSIONS, "FE": elsewhere}
    for user in (alice, bob):
        Client().force_login(user, login_type="FE")
    model = type(rows()[0]) if is_in_table else FrontendSession
    url = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
    listed = admin.get(url, {"q": str(alice.pk)}).context["cl"].result_list
    assert [session.user for session in listed] == [alice]


@pytest.mark.urls("testproject.urls")
def test_admin_ends_all_sessions_of_a_user(admin: DjangoClient, alice: Any) -> None:
    Client().force_login(alice)
    Client().force_login(alice)
    model = type(rows()[0])
    url = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
    admin.post(url, {"action": "end_all_sessions_of_users", "_selected_action": rows()[0].pk})
    assert owners() == []


@pytest.mark.urls("testproject.urls")
def test_admin_switches_to_a_user(admin: DjangoClient, superuser: Any, alice: Any) -> None:
    meta = get_user_model()._meta
    url = reverse(f"admin:{meta.app_label}_{meta.model_name}_changelist")
    admin.post(url, {"action": "switch_user_FE", "_selected_action": alice.pk})
    assert owners() == [alice.pk]
    assert owners("BE") == [superuser.pk]
