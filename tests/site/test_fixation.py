"""A planted anonymous cookie never becomes a logged-in one.

The attacker visits the site, gets a genuine anonymous session, and plants its cookie in the
victim's browser. Whichever way the victim gets in, the attacker's copy of the cookie stays out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib import auth
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY

from tests.old_engines import OldSite
from tests.urls import avisit, visit
from usersessions import SessionManager
from usersessions import auth as usersessions_auth
from usersessions.models import BackendSession, FrontendSession
from usersessions.test import AsyncClient, Client

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.urls")]

MODEL_BACKEND = "django.contrib.auth.backends.ModelBackend"

GetIn = Callable[[Client, Any], Any]


def who(request: Any) -> Any:
    return request.user.pk, dict(request.session)


def put_bait(request: Any) -> None:
    request.session["bait"] = 1


def browser_with(cookies: dict[str, str]) -> Client:
    browser = Client()
    for name, value in cookies.items():
        browser.cookies[name] = value
    return browser


def plant(path: str = "/") -> dict[str, str]:
    """Return the cookies of an anonymous session that the attacker has made."""
    attacker = Client()
    visit(attacker, put_bait, path)
    return {name: morsel.value for name, morsel in attacker.cookies.items()}


def log_in(victim: Client, user: Any) -> None:
    visit(victim, lambda request: auth.login(request, user))


def log_in_and_save(victim: Client, user: Any) -> None:
    def view(request: Any) -> None:
        auth.login(request, user)
        request.session.save()

    visit(victim, view)


def log_in_permanently(victim: Client, user: Any) -> None:
    visit(victim, lambda request: usersessions_auth.login(request, user, is_permanent=True))


def log_in_elsewhere(victim: Client, user: Any) -> None:
    """On a page of the backend, to the frontend."""
    visit(
        victim,
        lambda request: usersessions_auth.login(request, user, login_type="FE"),
        "/admin/",
    )


def log_in_async(victim: Client, user: Any) -> None:
    browser = AsyncClient()
    browser.cookies = victim.cookies
    avisit(browser, lambda request: auth.alogin(request, user))


def force_login(victim: Client, user: Any) -> None:
    victim.force_login(user, login_type="FE")


def force_login_async(victim: Client, user: Any) -> None:
    browser = AsyncClient()
    browser.cookies = victim.cookies
    async_to_sync(browser.aforce_login)(user, login_type="FE")


def write_the_user_by_hand(victim: Client, user: Any) -> None:
    def view(request: Any) -> None:
        request.session[SESSION_KEY] = str(user.pk)
        request.session[BACKEND_SESSION_KEY] = MODEL_BACKEND
        request.session[HASH_SESSION_KEY] = user.get_session_auth_hash()

    visit(victim, view)


def write_the_user_by_hand_and_save(victim: Client, user: Any) -> None:
    def view(request: Any) -> None:
        request.session[SESSION_KEY] = str(user.pk)
        request.session[BACKEND_SESSION_KEY] = MODEL_BACKEND
        request.session[HASH_SESSION_KEY] = user.get_session_auth_hash()
        request.session.save()

    visit(victim, view)


def elevate_with_the_manager(victim: Client, user: Any) -> None:
    def view(request: Any) -> None:
        store = request.session
        write = {
            SESSION_KEY: str(user.pk),
            BACKEND_SESSION_KEY: MODEL_BACKEND,
            HASH_SESSION_KEY: user.get_session_auth_hash(),
        }
        session = store.user_session
        session.data.update(write)
        store.continue_with(store.manager.elevate_to_fixated_user_session(session, user.pk))

    visit(victim, view)


WAYS_IN: list[GetIn] = [
    log_in,
    log_in_and_save,
    log_in_permanently,
    log_in_elsewhere,
    log_in_async,
    force_login,
    force_login_async,
    write_the_user_by_hand,
    write_the_user_by_hand_and_save,
    elevate_with_the_manager,
]


@pytest.mark.parametrize("cookie_format", ["token", "identifier"])
@pytest.mark.parametrize("get_in", WAYS_IN)
def test_planted_cookie_does_not_log_the_attacker_in(
    settings: Any, alice: Any, get_in: GetIn, cookie_format: str
) -> None:
    """Attack: session fixation."""
    settings.USERSESSIONS = {"FE": {"COOKIE_FORMAT": cookie_format, "PERMANENT_LOGIN": "opt-in"}}
    planted = plant()
    victim, attacker = browser_with(planted), browser_with(planted)
    get_in(victim, alice)
    assert visit(victim, who).content.startswith(f"({alice.pk}, ".encode())
    assert visit(attacker, who).content == b"(None, {})"
    assert FrontendSession.objects.filter(ses_userid=0).count() == 0


def test_planted_cookie_does_not_log_the_attacker_in_to_the_admin(
    settings: Any, superuser: Any
) -> None:
    """Attack: session fixation, at the admin's own login form."""
    planted = plant("/admin/")
    assert list(planted) == ["be_sessionid"]
    victim, attacker = browser_with(planted), browser_with(planted)
    settings.ROOT_URLCONF = "testproject.urls"
    form = {"username": "admin", "password": "admin", "next": "/admin/"}
    assert victim.post("/admin/login/", form).status_code == 302
    assert victim.get("/admin/").status_code == 200
    assert attacker.get("/admin/").status_code == 302
    assert BackendSession.objects.filter(ses_userid=0).count() == 0


def test_planted_cookie_does_not_become_a_switched_one(superuser: Any, alice: Any) -> None:
    """Attack: plant a frontend cookie, and wait until an administrator looks at the frontend."""
    planted = plant()
    victim, attacker = browser_with(planted), browser_with(planted)
    victim.force_login(superuser, login_type="BE")
    visit(
        victim,
        lambda request: usersessions_auth.switch_user(request, alice, login_type="FE"),
        "/admin/",
    )
    assert visit(victim, lambda request: request.user.pk).content == repr(alice.pk).encode()
    assert visit(attacker, who).content == b"(None, {})"
    visit(
        victim,
        lambda request: usersessions_auth.exit_switch_user(request, login_type="FE"),
        "/admin/",
    )
    assert visit(victim, who).content == b"(None, {'bait': 1})"
    assert visit(attacker, who).content == b"(None, {})"


@pytest.mark.parametrize("who_comes_first", ["attacker", "victim"])
def test_planted_old_cookie_does_not_log_the_attacker_in(
    old_site: OldSite, alice: Any, who_comes_first: str
) -> None:
    """Attack: plant a cookie of the engine that the site had, and wait for the site to move."""
    planted = {"sessionid": old_site.store_session(bait=1)}
    victim, attacker, late = (browser_with(planted) for _ in range(3))
    first, second = (attacker, victim) if who_comes_first == "attacker" else (victim, attacker)
    assert visit(first, who).content == visit(second, who).content == b"(None, {'bait': 1})"
    log_in(victim, alice)
    for browser in (attacker, late):
        assert visit(browser, who).content == b"(None, {})"
    assert visit(victim, who).content.startswith(f"({alice.pk}, ".encode())


@pytest.mark.parametrize(
    ("name", "host", "path"),
    [
        pytest.param("fe_sessionid", "testserver", "/admin/", id="of-another-type"),
        pytest.param("fe_sessionid", "evil.testserver", "/", id="of-another-host"),
    ],
)
def test_cookie_from_elsewhere_cannot_be_planted(
    settings: Any, alice: Any, name: str, host: str, path: str
) -> None:
    """Attack: plant the token of another login type, or of a host that the attacker has."""
    settings.ALLOWED_HOSTS = ["*"]
    attacker = Client()
    visit(attacker, put_bait, path, headers={"host": host})
    [planted] = [morsel.value for morsel in attacker.cookies.values()]
    victim = browser_with({name: planted})
    assert visit(victim, who).content == b"(None, {})"
    log_in(victim, alice)
    assert victim.cookies[name].value != planted
    again = browser_with({name: planted})
    assert visit(again, who).content == b"(None, {})"


def test_planted_cookie_of_a_session_that_the_attacker_keeps_writing_to_stays_out(
    alice: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attack: have the login's compare-and-swap fail, again and again, to keep the old entry."""
    planted = plant()
    victim, attacker = browser_with(planted), browser_with(planted)
    backend = SessionManager.get_session_backend("FE")
    rounds: list[int] = []
    update = backend._update

    def write_before(*args: Any) -> bool:
        if len(rounds) < 10:
            rounds.append(len(rounds))
            count = len(rounds) + 1
            monkeypatch.setattr(backend, "_update", update)
            visit(attacker, lambda request: request.session.update({"bait": count}))
            monkeypatch.setattr(backend, "_update", write_before)
        return update(*args)

    def view(request: Any) -> None:
        auth.login(request, alice)
        monkeypatch.setattr(backend, "_update", write_before)

    visit(victim, view)
    assert len(rounds) == 10
    assert visit(attacker, who).content == b"(None, {})"
    assert [row.ses_userid for row in FrontendSession.objects.all()] == [alice.pk]
