"""A session that has ended stays ended, whatever requests that have read it do afterwards.

Each way of ending meets each kind of request that is on its way: it has read the session, the
session ends in another tab, on another device or by a command, and only then does it finish.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib import auth
from django.contrib.auth import update_session_auth_hash
from django.contrib.sessions.backends.base import UpdateError
from django.core.management import call_command

from tests.conftest import Clock
from tests.factories import UserFactory
from tests.old_engines import OldSite
from tests.system.ended.scene import STORAGES, Scene, identifier_in
from tests.urls import visit
from usersessions import SessionManager
from usersessions.auth import (
    end_other_sessions,
    end_own_session,
    exit_switch_user,
    own_sessions,
    switch_user,
)
from usersessions.backends.selection import AnySession
from usersessions.test import Client

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.urls")]

# Ways of ending


def log_out(scene: Scene) -> None:
    visit(scene.another_tab, auth.logout)


def flush(scene: Scene) -> None:
    visit(scene.another_tab, lambda request: request.session.flush())


def delete(scene: Scene) -> None:
    visit(scene.another_tab, lambda request: request.session.delete())


def end_this_one_of_ones_own(scene: Scene) -> None:
    def view(request: Any) -> bool:
        return end_own_session(request, own_sessions(request)[0].ses_id)

    assert visit(scene.another_tab, view).content == b"True"


def end_it_on_another_device(scene: Scene) -> None:
    def view(request: Any) -> bool:
        (other,) = (found for found in own_sessions(request) if not found.is_current)
        return end_own_session(request, other.ses_id)

    assert visit(scene.add_device(), view).content == b"True"


def end_others_on_another_device(scene: Scene) -> None:
    assert visit(scene.add_device(), end_other_sessions).content == b"1"


def end_by_administrator(scene: Scene) -> None:
    ended = [record["ses_id"] for record in scene.backend.get_by_user(scene.alice.pk)]
    assert scene.backend.remove_by_ses_id(ended) == 1


def invalidate(scene: Scene) -> None:
    SessionManager.invalidate_all_sessions_by_user_id("FE", scene.alice.pk)


def end_by_command(scene: Scene) -> None:
    call_command("end_sessions", users=[scene.alice.username], verbosity=0)


def end_all_by_command(scene: Scene) -> None:
    call_command("end_sessions", everything=True, interactive=False, verbosity=0)


def expire(scene: Scene) -> None:
    scene.clock.forward(10**9)
    scene.manager.collect_garbage(100)
    if scene.backend.drops_expired:  # by the server's own clock, which no test moves
        scene.backend.remove(identifier_in(scene.cookie))


def change_password(scene: Scene) -> None:
    with scene.elsewhere():
        scene.alice.set_password("new")
        scene.alice.save()


def deactivate(scene: Scene) -> None:
    with scene.elsewhere():
        scene.alice.is_active = False
        scene.alice.save()


def delete_user(scene: Scene) -> None:
    with scene.elsewhere():
        type(scene.alice).objects.get(pk=scene.alice.pk).delete()


def log_in_too_often(scene: Scene) -> None:
    scene.add_device()
    scene.add_device()


Ending = Callable[[Scene], None]

ENDINGS: list[Ending] = [
    log_out,
    flush,
    delete,
    end_this_one_of_ones_own,
    end_it_on_another_device,
    end_others_on_another_device,
    end_by_administrator,
    invalidate,
    end_by_command,
    end_all_by_command,
    expire,
    change_password,
    deactivate,
    delete_user,
    log_in_too_often,
]

# Requests on their way: what they do before and after the session ends. What a view leaves to the
# middleware is stored after that.

Meanwhile = Callable[[], None]
InFlight = Callable[[Scene, Any, Meanwhile], None]


def only_read(scene: Scene, request: Any, meanwhile: Meanwhile) -> None:
    assert request.session["basket"] == ["lamp"]
    meanwhile()


def save_late(scene: Scene, request: Any, meanwhile: Meanwhile) -> None:
    request.session["late"] = 1
    meanwhile()


def change_in_place_late(scene: Scene, request: Any, meanwhile: Meanwhile) -> None:
    basket = request.session["basket"]
    meanwhile()
    basket.append("chair")
    request.session.modified = True


def save_in_the_view(scene: Scene, request: Any, meanwhile: Meanwhile) -> None:
    request.session["late"] = 1
    meanwhile()
    with pytest.raises(UpdateError):
        request.session.save()


def merge_late(scene: Scene, request: Any, meanwhile: Meanwhile) -> None:
    request.session["late"] = 1
    visit(scene.another_tab, lambda request: request.session.update({"theirs": 1}))
    meanwhile()


def touch_late(scene: Scene, request: Any, meanwhile: Meanwhile) -> None:
    assert request.session["basket"] == ["lamp"]
    scene.clock.forward(62)
    meanwhile()


def empty_late(scene: Scene, request: Any, meanwhile: Meanwhile) -> None:
    request.session.clear()
    meanwhile()


def log_in_late(scene: Scene, request: Any, meanwhile: Meanwhile) -> None:
    auth.login(request, scene.alice)
    meanwhile()


def renew_late(scene: Scene, request: Any, meanwhile: Meanwhile) -> None:
    request.session.cycle_key()
    meanwhile()


def renew_after_the_end(scene: Scene, request: Any, meanwhile: Meanwhile) -> None:
    assert request.session["basket"] == ["lamp"]
    meanwhile()
    request.session.cycle_key()


def update_the_hash_late(scene: Scene, request: Any, meanwhile: Meanwhile) -> None:
    meanwhile_user = scene.alice
    assert request.user == meanwhile_user
    meanwhile()
    update_session_auth_hash(request, meanwhile_user)


def end_others_late(scene: Scene, request: Any, meanwhile: Meanwhile) -> None:
    assert end_other_sessions(request) == 0
    meanwhile()


def switch_late(scene: Scene, request: Any, meanwhile: Meanwhile) -> None:
    switch_user(request, scene.bob)
    meanwhile()


def log_out_late(scene: Scene, request: Any, meanwhile: Meanwhile) -> None:
    assert request.user == scene.alice
    meanwhile()
    auth.logout(request)


def fail_late(scene: Scene, request: Any, meanwhile: Meanwhile) -> None:
    request.session["late"] = 1
    meanwhile()
    raise ValueError("The view fails.")


IN_FLIGHT: list[InFlight] = [
    only_read,
    save_late,
    change_in_place_late,
    save_in_the_view,
    merge_late,
    touch_late,
    empty_late,
    log_in_late,
    renew_late,
    renew_after_the_end,
    update_the_hash_late,
    end_others_late,
    switch_late,
    log_out_late,
    fail_late,
]


def run_late(scene: Scene, in_flight: InFlight, ending: Ending) -> Any:
    """Return the late response; the browser has its old cookie still."""
    browser = Client(raise_request_exception=False)
    browser.cookies["fe_sessionid"] = scene.cookie
    return visit(browser, lambda request: in_flight(scene, request, lambda: ending(scene)))


def assert_nobody_is_in(scene: Scene, response: Any) -> None:
    """Nothing is stored, the late response leaves the cookie alone, and that opens nothing."""
    assert scene.stored == []
    assert "fe_sessionid" not in response.cookies
    shown = visit(scene.another_tab, lambda request: (request.user.pk, dict(request.session)))
    assert shown.content == b"(None, {})"
    assert scene.stored == []


#: Every pair costs a minute; the tests take all of one kind with one of the other.
IS_COMPLETE = "USERSESSIONS_EVERY_PAIR" in os.environ


def pairs(endings: list[Ending], in_flight: list[InFlight]) -> list[tuple[Ending, InFlight]]:
    """Combine the ways of ending with the requests on their way."""
    return [
        (ending, request)
        for ending in endings
        for request in in_flight
        if IS_COMPLETE or ending is endings[0] or request is save_late
    ]


def on_every_storage(endings: list[Ending], in_flight: list[InFlight]) -> Any:
    rows = [
        pytest.param(storage, *pair, id="-".join([storage, *(each.__name__ for each in pair)]))
        for storage in STORAGES
        for pair in pairs(endings, in_flight)
    ]
    names = ("storage", "ending", "in_flight")
    return pytest.mark.parametrize(names, rows, indirect=["storage"])


@on_every_storage(ENDINGS, IN_FLIGHT)
@pytest.mark.usefixtures("storage")
def test_session_that_ended_is_not_brought_back(
    scene: Scene, ending: Ending, in_flight: InFlight
) -> None:
    assert_stays_ended(scene, ending, in_flight)


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("cached_database")
def test_session_that_ended_is_not_brought_back_by_a_cache(
    bob: Any, clock: Clock, settings: Any, django_capture_on_commit_callbacks: Any
) -> None:
    for ending, in_flight in pairs(ENDINGS, IN_FLIGHT):
        alice = UserFactory(is_staff=True, is_superuser=True)
        scene = Scene(alice, bob, clock, settings, django_capture_on_commit_callbacks)
        assert_stays_ended(scene, ending, in_flight)
        sum(scene.backend.remove_all(AnySession()))


def assert_stays_ended(scene: Scene, ending: Ending, in_flight: InFlight) -> None:
    scene.log_in(scene.browser)
    response = run_late(scene, in_flight, ending)
    assert response.status_code == (500 if in_flight is fail_late else 200)
    assert_nobody_is_in(scene, response)


# Sites on which a request that only reads stores and sends something as well


def saves_every_request(scene: Scene) -> None:
    scene.settings.SESSION_SAVE_EVERY_REQUEST = True


def sends_the_cookie_again(scene: Scene) -> None:
    scene.log_in(scene.browser, is_permanent=True)


def has_a_new_key(scene: Scene) -> None:
    scene.settings.SECRET_KEY_FALLBACKS = [scene.settings.SECRET_KEY]
    scene.settings.SECRET_KEY = "the new one"


@pytest.mark.parametrize("ending", [log_out, expire])
@pytest.mark.parametrize("in_flight", [only_read, touch_late])
@pytest.mark.parametrize(
    "prepare",
    [saves_every_request, sends_the_cookie_again, has_a_new_key],
)
@pytest.mark.usefixtures("storage")
def test_session_that_ended_is_not_brought_back_unasked(
    scene: Scene, prepare: Callable[[Scene], None], in_flight: InFlight, ending: Ending
) -> None:
    scene.log_in(scene.browser)
    prepare(scene)
    response = run_late(scene, in_flight, ending)
    assert_nobody_is_in(scene, response)


# Visitors without login


def log_in_visitor(scene: Scene, request: Any, meanwhile: Meanwhile) -> None:
    request.session["late"] = 1
    auth.login(request, scene.alice)
    meanwhile()


VISITORS_REQUESTS: list[InFlight] = [
    only_read,
    save_late,
    merge_late,
    touch_late,
    empty_late,
    renew_late,
    renew_after_the_end,
]


def empty(scene: Scene) -> None:
    visit(scene.another_tab, lambda request: request.session.clear())


def expire_anonymous(scene: Scene) -> None:
    scene.clock.forward(10**9)
    scene.manager.collect_garbage(100)
    if scene.backend.drops_expired:
        scene.backend.remove(identifier_in(scene.cookie))


def end_anonymous_by_command(scene: Scene) -> None:
    call_command("end_sessions", anonymous=True, verbosity=0)


VISITORS_ENDINGS = [flush, empty, expire_anonymous, end_anonymous_by_command]


@on_every_storage(VISITORS_ENDINGS, VISITORS_REQUESTS)
@pytest.mark.usefixtures("storage")
def test_visitors_session_that_ended_is_not_brought_back(
    scene: Scene, ending: Ending, in_flight: InFlight
) -> None:
    visit(scene.browser, lambda request: request.session.update({"basket": ["lamp"]}))
    response = run_late(scene, in_flight, ending)
    assert_nobody_is_in(scene, response)


@pytest.mark.parametrize("ending", VISITORS_ENDINGS)
@pytest.mark.usefixtures("storage")
def test_login_whose_anonymous_session_ended_is_stored_all_the_same(
    scene: Scene, ending: Ending
) -> None:
    """Whoever has just given a password is let in: nobody has ended that session."""
    visit(scene.browser, lambda request: request.session.update({"basket": ["lamp"]}))
    before = scene.cookie
    response = run_late(scene, log_in_visitor, ending)
    assert [record["ses_userid"] for record in scene.stored] == [scene.alice.pk]
    assert response.cookies["fe_sessionid"].value != before
    assert visit(scene.another_tab, lambda request: request.user.pk).content == b"None"


# Switched sessions


def put_something_late(scene: Scene, request: Any, meanwhile: Meanwhile) -> None:
    request.session["late"] = 1
    meanwhile()


def exit_late(scene: Scene, request: Any, meanwhile: Meanwhile) -> None:
    assert exit_switch_user(request) == scene.alice
    meanwhile()


def end_the_targets(scene: Scene) -> None:
    SessionManager.invalidate_all_sessions_by_user_id("FE", scene.bob.pk)


def change_the_targets_password(scene: Scene) -> None:
    with scene.elsewhere():
        scene.bob.set_password("new")
        scene.bob.save()


@pytest.mark.parametrize("in_flight", [put_something_late, exit_late])
@pytest.mark.parametrize(
    "ending",
    [log_out, flush, end_by_command, end_the_targets, change_the_targets_password],
)
@pytest.mark.usefixtures("storage")
def test_switched_session_that_ended_is_not_brought_back(
    scene: Scene, ending: Ending, in_flight: InFlight
) -> None:
    """Attack: keep the way back into an account whose sessions have all been ended."""
    scene.log_in(scene.browser)
    visit(scene.browser, lambda request: switch_user(request, scene.bob))
    response = run_late(scene, in_flight, ending)
    assert_nobody_is_in(scene, response)


@pytest.mark.parametrize("in_flight", [put_something_late, exit_late])
@pytest.mark.parametrize("ending", [change_password, deactivate, delete_user])
@pytest.mark.usefixtures("storage")
def test_switched_session_whose_original_user_is_out_opens_nothing(
    scene: Scene, ending: Ending, in_flight: InFlight
) -> None:
    """Attack: come back from a switch after one's own account has been locked.

    The session is not found by the original user; each request asks who that is.
    """
    scene.log_in(scene.browser)
    visit(scene.browser, lambda request: switch_user(request, scene.bob))
    response = run_late(scene, in_flight, ending)
    tab = scene.another_tab
    if "fe_sessionid" in response.cookies:
        tab.cookies["fe_sessionid"] = response.cookies["fe_sessionid"].value
    for client in (scene.another_tab, tab):
        assert visit(client, lambda request: request.user.pk).content == b"None"


# Sessions of the engine that the site had before


@pytest.mark.parametrize("in_flight", [save_late, merge_late, log_in_late, renew_late])
@pytest.mark.parametrize("ending", [log_out, end_by_command, change_password, expire])
def test_adopted_session_that_ended_is_not_brought_back(
    scene: Scene, old_site: OldSite, ending: Ending, in_flight: InFlight
) -> None:
    """Attack: have requests with the old cookie on their way while its owner logs out."""
    old_key = old_site.store_session(scene.alice, basket=["lamp"])
    late, later = Client(), Client()
    for client in (scene.browser, late, later):
        client.cookies["sessionid"] = old_key

    def view(request: Any) -> None:
        visit(scene.browser, lambda request: request.user.pk)
        in_flight(scene, request, lambda: ending(scene))

    response = visit(late, view)
    assert_nobody_is_in(scene, response)
    assert visit(later, lambda request: request.user.pk).content == b"None"
    assert scene.stored == []
