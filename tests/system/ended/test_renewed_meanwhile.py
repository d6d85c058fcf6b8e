"""A logout ends the session that it has read, also where another tab has renewed it since."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib import auth
from django.contrib.auth import update_session_auth_hash
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from tests.conftest import Clock
from tests.factories import UserFactory
from tests.old_engines import OldSite
from tests.system.ended.scene import Scene, identifier_in
from tests.urls import avisit, visit
from usersessions.auth import end_other_sessions, exit_switch_user, switch_user
from usersessions.backends.database import DatabaseSessionBackend
from usersessions.lifecycle.successors import ATTEMPTS
from usersessions.test import AsyncClient, Client

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.urls")]

Renewal = Callable[[Scene, Any], None]


def renew(scene: Scene, request: Any) -> None:
    request.session.cycle_key()


def log_in_again(scene: Scene, request: Any) -> None:
    auth.login(request, scene.alice)


def change_ones_password(scene: Scene, request: Any) -> None:
    with scene.commit(execute=True):
        request.user.set_password("new")
        request.user.save()
    update_session_auth_hash(request, request.user)


def end_others(scene: Scene, request: Any) -> None:
    end_other_sessions(request)


def renew_twice(scene: Scene, request: Any) -> None:
    request.session.cycle_key()
    request.session.save()
    request.session.cycle_key()


def switch_and_come_back(scene: Scene, request: Any) -> None:
    switch_user(request, scene.bob)
    request.session.save()
    exit_switch_user(request)


RENEWALS = [
    renew,
    log_in_again,
    change_ones_password,
    end_others,
    renew_twice,
    switch_and_come_back,
]


def flush_in_tab_two(request: Any) -> None:
    request.session.flush()


def delete_in_tab_two(request: Any) -> None:
    request.session.delete()


def log_in_as(user: Any) -> Callable[[Any], None]:
    return lambda request: auth.login(request, user)


def renew_meanwhile(scene: Scene, renewal: Renewal) -> Client:
    """Have another tab renew the session; return its browser, which has the new cookie."""
    tab = scene.another_tab
    visit(tab, lambda request: renewal(scene, request))
    assert tab.cookies["fe_sessionid"].value != scene.cookie
    return tab


def end_in_tab_two(
    scene: Scene, renewal: Renewal, end: Callable[[Any], None]
) -> tuple[Client, Any]:
    """Return the tab that has renewed the session, and the response of the one that ends it."""
    renewed: list[Client] = []

    def view(request: Any) -> None:
        assert request.user.pk == scene.alice.pk  # the session is read
        renewed.append(renew_meanwhile(scene, renewal))
        end(request)

    response = visit(scene.another_tab, view)
    return renewed[0], response


def assert_out(scene: Scene, tab: Client) -> None:
    assert visit(tab, lambda request: request.user.pk).content == b"None"
    assert scene.stored == []


@pytest.mark.parametrize("renewal", RENEWALS)
@pytest.mark.usefixtures("storage")
def test_logout_ends_what_another_tab_has_renewed(scene: Scene, renewal: Renewal) -> None:
    """Attack: go on with the session of somebody who has logged out, on a shared computer."""
    scene.log_in(scene.browser)
    tab, response = end_in_tab_two(scene, renewal, auth.logout)
    assert response.cookies["fe_sessionid"]["max-age"] == 0
    assert_out(scene, tab)


@pytest.mark.parametrize("end", [flush_in_tab_two, delete_in_tab_two])
def test_whatever_ends_the_session_ends_what_another_tab_has_renewed(
    scene: Scene, end: Callable[[Any], None]
) -> None:
    scene.log_in(scene.browser)
    tab, response = end_in_tab_two(scene, renew, end)
    assert response.cookies["fe_sessionid"]["max-age"] == 0
    assert_out(scene, tab)


def test_login_as_somebody_else_ends_what_another_tab_has_renewed(scene: Scene) -> None:
    scene.log_in(scene.browser)
    tab, response = end_in_tab_two(scene, renew, log_in_as(scene.bob))
    assert visit(tab, lambda request: request.user.pk).content == b"None"
    assert [record["ses_userid"] for record in scene.stored] == [scene.bob.pk]
    assert response.cookies["fe_sessionid"].value


@pytest.mark.usefixtures("storage")
def test_logout_ends_a_switched_session_that_another_tab_has_renewed(scene: Scene) -> None:
    scene.log_in(scene.browser)
    visit(scene.browser, lambda request: switch_user(request, scene.bob))
    tabs: list[Client] = []

    def view(request: Any) -> None:
        assert request.user == scene.bob
        tabs.append(renew_meanwhile(scene, renew))
        auth.logout(request)

    visit(scene.another_tab, view)
    assert_out(scene, tabs[0])


def test_logout_ends_an_adopted_session_that_another_tab_has_renewed(
    scene: Scene, old_site: OldSite
) -> None:
    scene.browser.cookies["sessionid"] = old_site.store_session(scene.alice)
    assert visit(scene.browser, lambda request: request.user.pk).status_code == 200
    tab, _ = end_in_tab_two(scene, renew, auth.logout)
    assert_out(scene, tab)


@pytest.mark.usefixtures("storage")
def test_async_logout_ends_what_another_tab_has_renewed(scene: Scene) -> None:
    scene.log_in(scene.browser)
    tabs: list[Client] = []

    async def view(request: Any) -> None:
        assert (await request.auser()).pk == scene.alice.pk
        tabs.append(await sync_to_async(renew_meanwhile)(scene, renew))
        await auth.alogout(request)

    browser = AsyncClient()
    browser.cookies["fe_sessionid"] = scene.cookie
    assert avisit(browser, view).cookies["fe_sessionid"]["max-age"] == 0
    assert_out(scene, tabs[0])


def test_logout_leaves_the_users_other_sessions(scene: Scene) -> None:
    phone = scene.add_device()
    scene.log_in(scene.browser)
    end_in_tab_two(scene, renew, auth.logout)
    assert visit(phone, lambda request: request.user.pk).content == repr(scene.alice.pk).encode()


def test_logout_leaves_a_later_login_of_the_same_user(scene: Scene) -> None:
    """The session that it has read was logged out of before: this is a login of its own."""

    def log_out_and_in(request: Any) -> None:
        auth.logout(request)
        auth.login(request, scene.alice)

    scene.log_in(scene.browser)
    tab, response = end_in_tab_two(
        scene, lambda scene, request: log_out_and_in(request), auth.logout
    )
    assert visit(tab, lambda request: request.user.pk).content == repr(scene.alice.pk).encode()
    assert "fe_sessionid" not in response.cookies


def test_logout_of_a_session_that_is_gone_costs_one_query_more(scene: Scene) -> None:
    scene.log_in(scene.browser)

    def view(request: Any) -> None:
        assert request.user.is_authenticated
        scene.backend.remove_by_user(scene.alice.pk)
        with CaptureQueriesContext(connection) as queries:
            request.session.flush()
        kinds = [query["sql"].split()[0] for query in queries.captured_queries]
        assert kinds == ["DELETE", "SELECT"]

    assert "fe_sessionid" not in visit(scene.another_tab, view).cookies


def test_manager_ends_what_another_tab_has_renewed(scene: Scene) -> None:
    scene.log_in(scene.browser)
    session = scene.manager.create_session_from_storage(identifier_in(scene.cookie))
    tab = renew_meanwhile(scene, renew)
    assert scene.manager.remove_session(session) is True
    assert scene.manager.remove_session(session) is False
    assert_out(scene, tab)


def test_session_that_is_renewed_again_while_it_is_ended_is_looked_for_again(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A browser with many tabs; the last one of them loses."""
    scene.log_in(scene.browser)
    session = scene.manager.create_session_from_storage(identifier_in(scene.cookie))
    tabs = [renew_meanwhile(scene, renew)]
    remove = DatabaseSessionBackend.remove_by_ses_id

    def renew_before(backend: Any, ses_ids: Any) -> int:
        if len(tabs) < ATTEMPTS:
            scene.browser.cookies["fe_sessionid"] = tabs[-1].cookies["fe_sessionid"].value
            tabs.append(renew_meanwhile(scene, renew))
        return remove(backend, ses_ids)

    monkeypatch.setattr(DatabaseSessionBackend, "remove_by_ses_id", renew_before)
    assert scene.manager.remove_session(session) is True
    assert len(tabs) == ATTEMPTS
    assert scene.stored == []


def test_session_that_never_stops_being_renewed_is_given_up(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.log_in(scene.browser)
    session = scene.manager.create_session_from_storage(identifier_in(scene.cookie))
    renew_meanwhile(scene, renew)
    looks: list[Any] = []

    def find_nothing(backend: Any, ses_ids: Any) -> int:
        looks.append(ses_ids)
        return 0

    monkeypatch.setattr(DatabaseSessionBackend, "remove_by_ses_id", find_nothing)
    assert scene.manager.remove_session(session) is False
    assert len(looks) == ATTEMPTS


@pytest.mark.parametrize("data", [b"\xff", b'{"_usersessions":{"login_id":"other"}}'])
def test_session_of_the_user_that_is_another_one_or_unreadable_stays(
    scene: Scene, data: bytes
) -> None:
    scene.log_in(scene.browser)
    session = scene.manager.create_session_from_storage(identifier_in(scene.cookie))
    scene.backend.remove_by_user(scene.alice.pk)
    other = {"ses_userid": scene.alice.pk, "ses_data": data, "ses_iplock": "", "ses_tstamp": 1}
    scene.backend.set("0" * 32, other)  # type: ignore[arg-type]
    assert scene.manager.remove_session(session) is False
    assert len(scene.stored) == 1


@pytest.mark.usefixtures("storage")
def test_logout_that_is_rolled_back_ends_what_another_tab_has_renewed(scene: Scene) -> None:
    scene.log_in(scene.browser)

    def log_out_in_vain(request: Any) -> None:
        with transaction.atomic():
            auth.logout(request)
            transaction.set_rollback(True)

    tab, response = end_in_tab_two(scene, renew, log_out_in_vain)
    assert response.cookies["fe_sessionid"]["max-age"] == 0
    assert_out(scene, tab)


def test_logout_in_a_transaction_that_sees_the_storage_as_it_was_looks_again(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with "repeatable read", where a session that was renewed since is not seen."""
    scene.log_in(scene.browser)

    def log_out_blindly(request: Any) -> None:
        with transaction.atomic(), monkeypatch.context() as patch:
            patch.setattr(DatabaseSessionBackend, "get_by_user", lambda *args, **options: iter(()))
            auth.logout(request)
            assert len(scene.stored) == 1

    tab, response = end_in_tab_two(scene, renew, log_out_blindly)
    assert response.status_code == 200
    assert_out(scene, tab)


@pytest.mark.usefixtures("storage")
def test_logout_ends_the_login_that_a_double_click_has_made_of_it(scene: Scene) -> None:
    """The form was sent twice. The first answer came, and with its cookie somebody logs out."""
    visit(scene.browser, lambda request: request.session.update({"basket": ["lamp"]}))
    second_click = scene.another_tab

    def send_second_click() -> None:
        visit(second_click, lambda request: auth.login(request, scene.alice))

    def log_out(request: Any) -> None:
        assert request.user == scene.alice
        send_second_click()
        auth.logout(request)

    scene.clock.forward(1)
    visit(scene.browser, lambda request: auth.login(request, scene.alice))
    visit(scene.browser, log_out)
    assert_out(scene, second_click)


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("cached_database")
def test_logout_ends_what_another_tab_has_renewed_in_a_cache(
    bob: Any, clock: Clock, settings: Any, django_capture_on_commit_callbacks: Any
) -> None:
    for renewal in RENEWALS:
        alice = UserFactory(is_staff=True, is_superuser=True)
        scene = Scene(alice, bob, clock, settings, django_capture_on_commit_callbacks)
        scene.log_in(scene.browser)
        tab, _ = end_in_tab_two(scene, renewal, auth.logout)
        assert_out(scene, tab)
