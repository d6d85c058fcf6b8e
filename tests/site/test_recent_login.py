"""Pages that only those see who have shown a short while ago who they are."""

from __future__ import annotations

import inspect
import logging
import re
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import User
from django.contrib.auth.signals import user_logged_in
from django.contrib.sessions.backends.base import UpdateError
from django.core.exceptions import PermissionDenied
from django.http import HttpResponse

from tests.conftest import Clock, SessionQueries
from tests.urls import site_of, visit
from tests.urls_recent_login import ashow, show
from usersessions import auth
from usersessions.auth import RecentLoginRequiredMixin, recent_login_required
from usersessions.auth.recent_login import RecentLoginOptions
from usersessions.models import BackendSession, FrontendSession
from usersessions.store import SessionStore
from usersessions.store.login import confirm_login
from usersessions.test import AsyncClient, Client

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.urls_recent_login")]

PAGES = ["/sync/", "/async/", "/page/", "/async-page/"]


@pytest.fixture
def visitor(client: Client, alice: Any, clock: Clock) -> Client:
    """Alice's browser, a minute and a second after her login."""
    client.force_login(alice)
    clock.forward(61)
    return client


def be_alice(get_response: Any) -> Any:
    """A middleware that knows its user from something else than the session."""

    def middleware(request: Any) -> Any:
        alice = User.objects.get(username="alice")

        async def auser() -> Any:
            return alice

        request.user, request.auser = alice, auser
        return get_response(request)

    return middleware


def is_let_in(response: Any) -> bool:
    return response.status_code == 200 and response.content == b"guarded"


def sent_to(response: Any) -> tuple[str, dict[str, str]]:
    """Return the path of a redirect, and its query."""
    assert response.status_code == 302
    parts = urlsplit(response["Location"])
    return parts.path, {key: value for key, (value,) in parse_qs(parts.query).items()}


def run(client: Client, view: Any) -> str:
    return str(visit(client, view, "/view/").content.decode())


def refusal_of(client: Client, view: Any) -> str:
    """Return why the view is refused; Django would only answer 403."""

    def refused(request: Any) -> HttpResponse:
        with pytest.raises(PermissionDenied) as error:
            view(request)
        return HttpResponse(str(error.value))

    return run(client, refused)


# Who is let in


@pytest.mark.parametrize("page", PAGES)
def test_recent_login_is_let_in(page: str, client: Client, alice: Any, clock: Clock) -> None:
    client.force_login(alice)
    clock.forward(60)
    assert is_let_in(client.get(page))
    assert is_let_in(client.post(page))


@pytest.mark.parametrize("page", PAGES)
def test_anonymous_visitor_is_sent_to_the_login_page(page: str, client: Client) -> None:
    answer = sent_to(client.get(page + "?x=1"))
    assert answer == ("/account/login/", {"next": page + "?x=1"})


@pytest.mark.parametrize("page", PAGES)
def test_old_login_is_sent_to_confirm_and_comes_back(page: str, visitor: Client) -> None:
    answer = sent_to(visitor.get(page + "?x=1&y=2"))
    assert answer == ("/usersessions/confirm/", {"login_type": "FE", "next": page + "?x=1&y=2"})
    response = visitor.post(visitor.get(page)["Location"], {"password": "alice"}, follow=True)
    assert response.redirect_chain == [(page, 302)]
    assert is_let_in(response)


@pytest.mark.parametrize("page", PAGES)
def test_post_of_an_old_login_is_told_to_send_it_again(page: str, visitor: Client) -> None:
    """Attack: let a victim's half-finished form be carried out by whoever finds the browser."""
    path, query = sent_to(visitor.post(page, {"email": "new@example.com"}))
    assert (path, query["next"], query["again"]) == ("/usersessions/confirm/", page, "1")
    for method, is_told in ((visitor.post, True), (visitor.get, False)):
        shown = visitor.get(method(page)["Location"]).content.decode()
        assert ("Nothing has been changed yet" in shown) is is_told


@pytest.mark.parametrize("page", PAGES)
def test_async_site_asks_as_well(page: str, alice: Any, clock: Clock) -> None:
    async def use() -> tuple[Any, Any]:
        client = AsyncClient()
        await client.aforce_login(alice)
        recent = await client.get(page)
        clock.forward(61)
        return recent, await client.get(page)

    recent, old = async_to_sync(use)()
    assert is_let_in(recent)
    assert sent_to(old)[0] == "/usersessions/confirm/"


def test_confirmation_runs_out_like_a_login(visitor: Client, clock: Clock) -> None:
    visitor.post("/usersessions/confirm/", {"password": "alice"})
    clock.forward(60)
    assert is_let_in(visitor.get("/sync/"))
    clock.forward(1)
    assert not is_let_in(visitor.get("/sync/"))


def test_setting_says_what_is_recent_by_default(
    client: Client, alice: Any, clock: Clock, settings: Any
) -> None:
    client.force_login(alice)
    clock.forward(300)
    assert is_let_in(client.get("/default/"))
    assert is_let_in(client.get("/default/7/"))
    clock.forward(1)
    assert not is_let_in(client.get("/default/"))
    settings.USERSESSIONS = {"FE": {"CONFIRM_MAX_AGE": 301}}
    assert is_let_in(client.get("/default/"))
    settings.USERSESSIONS = {"FE": {"CONFIRM_MAX_AGE": 0}}
    clock.forward(4000)
    assert is_let_in(client.get("/default/"))
    assert not is_let_in(client.get("/sync/"))


def test_login_whose_time_nobody_knows_is_not_recent(client: Client, alice: Any) -> None:
    client.force_login(alice)
    session = client.session
    session.user_session.meta.clear()
    session.save()
    assert sent_to(client.get("/default/"))[0] == "/usersessions/confirm/"


@pytest.mark.parametrize("page", PAGES)
def test_switched_session_is_refused(page: str, client: Client, superuser: Any, alice: Any) -> None:
    """Attack: a superuser who sees the site as Alice changes what only Alice may."""
    client.force_login(superuser)
    client.post("/usersessions/switch-user/", {"user": alice.pk})
    assert client.get(page).status_code == 403


def test_switch_leaves_the_own_confirmation_to_come_back_to(
    client: Client, superuser: Any, alice: Any, clock: Clock
) -> None:
    client.force_login(superuser)
    clock.forward(9)
    client.post("/usersessions/switch-user/", {"user": alice.pk})
    client.post("/usersessions/exit-switch-user/")
    assert is_let_in(client.get("/sync/"))
    clock.forward(52)
    assert not is_let_in(client.get("/sync/"))


def test_somebody_else_in_the_request_is_refused(client: Client, alice: Any, bob: Any) -> None:
    """Attack: a package that acts as other users puts Bob into ``request.user``; the session, and
    the login that is recent, are Alice's."""

    def view(request: Any) -> None:
        request.user = bob
        recent_login_required(show)(request)

    client.force_login(alice)
    assert refusal_of(client, view) == (
        "You are acting as another user. Only that user can confirm this login."
    )


@pytest.mark.parametrize("page", ["/sync/", "/async/"])
@pytest.mark.parametrize("has_session", [False, True])
def test_user_who_has_come_without_a_session_is_sent_to_the_login_page_in_the_end(
    client: Client, alice: Any, settings: Any, page: str, has_session: bool
) -> None:
    """As with a token in a header: there is no login that could be recent, or confirmed."""
    if has_session:
        session = client.session
        session["basket"] = {}
        session.save()
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "tests.site.test_recent_login.be_alice"]
    response = client.get(page)
    assert sent_to(response)[0] == "/usersessions/confirm/"
    assert sent_to(client.get(response["Location"])) == ("/account/login/", {"next": page})


def test_api_gets_403_instead_of_redirects(visitor: Client, clock: Clock) -> None:
    clock.forward(300)
    assert visitor.get("/api/").status_code == 403
    visitor.post("/usersessions/confirm/", {"password": "alice"})
    assert is_let_in(visitor.get("/api/"))
    visitor.logout()
    assert visitor.get("/api/").status_code == 403


# Where people are sent


def test_page_to_come_back_to_can_be_named(client: Client, alice: Any, clock: Clock) -> None:
    client.force_login(alice)
    clock.forward(301)
    path, query = sent_to(client.post("/back/"))
    assert (path, query["next"]) == ("/usersessions/confirm/", "/form/")


def test_other_pages_can_confirm_and_log_in(client: Client, alice: Any, clock: Clock) -> None:
    assert sent_to(client.get("/elsewhere/"))[0] == "/come-in/"
    client.force_login(alice)
    clock.forward(301)
    assert sent_to(client.get("/elsewhere/"))[0] == "/other/confirm/"


def test_login_page_of_another_site_is_told_the_whole_address(client: Client) -> None:
    answer = client.get("/abroad/")
    assert sent_to(answer) == ("/", {"next": "http://testserver/abroad/"})
    assert answer["Location"].startswith("https://login.example/?")


@pytest.mark.parametrize("page", ["/of-staff/", "/async-of-staff/"])
def test_session_of_another_login_type_can_be_required(
    page: str, client: Client, alice: Any, editor: Any, clock: Clock
) -> None:
    client.force_login(alice)
    assert sent_to(client.get(page))[0] == "/account/login/"
    client.force_login(editor, login_type="BE")
    assert is_let_in(client.get(page))
    clock.forward(301)
    client.force_login(alice)
    answer = client.get(page)
    assert sent_to(answer)[1] == {"login_type": "BE", "next": page}
    response = client.post(answer["Location"], {"password": "alice"})
    assert response.context["username"] == "editor"
    client.post(answer["Location"], {"password": "editor"})
    assert is_let_in(client.get(page))


def test_page_of_the_backend_confirms_the_backends_login(
    client: Client, alice: Any, editor: Any, clock: Clock
) -> None:
    client.force_login(editor, login_type="BE")
    clock.forward(301)
    client.force_login(alice)
    answer = client.get("/admin/sync/")
    assert sent_to(answer)[1]["login_type"] == "BE"
    client.post(answer["Location"], {"password": "editor"})
    assert is_let_in(client.get("/admin/sync/"))


def test_page_for_staff_lists_the_sessions_of_staff(
    client: Client, alice: Any, editor: Any
) -> None:
    client.force_login(alice)
    assert sent_to(client.get("/admin/sessions/"))[0] == "/admin/login/"
    client.force_login(editor, login_type="BE")
    (session,) = client.get("/admin/sessions/").context["sessions"]
    client.post("/admin/sessions/", {"end": session.ses_id})
    assert (FrontendSession.objects.count(), BackendSession.objects.count()) == (1, 0)


def test_requirement_costs_nothing_but_reading_session_and_user(
    visitor: Client, session_queries: SessionQueries
) -> None:
    with session_queries:
        visitor.get("/sync/")
    assert session_queries.kinds == ["SELECT"]
    assert len(session_queries) == 2


@pytest.mark.parametrize("max_age", [0, -1, 0.5])
def test_login_that_can_never_be_recent_is_refused_at_once(client: Client, max_age: float) -> None:
    """Of the setting, 0 means that nobody is asked: it must not mean that here."""
    message = rf"max_age must be at least 1 \(seconds\), not {max_age}\."
    with pytest.raises(ValueError, match=message):
        recent_login_required(max_age=max_age)
    with pytest.raises(ValueError, match=message):
        run(client, lambda request: auth.is_login_recent(request, max_age))


def test_decorated_views_keep_their_names_and_kind() -> None:
    for view in (show, ashow):
        decorated = recent_login_required(view)
        assert decorated.__name__ == view.__name__
        assert inspect.iscoroutinefunction(decorated) is inspect.iscoroutinefunction(view)
        assert decorated.login_url is None  # for LoginRequiredMiddleware


def test_middleware_that_requires_logins_everywhere_follows_the_decorator(
    client: Client, settings: Any
) -> None:
    settings.MIDDLEWARE = [
        *settings.MIDDLEWARE,
        "django.contrib.auth.middleware.LoginRequiredMiddleware",
    ]
    assert sent_to(client.get("/elsewhere/"))[0] == "/come-in/"


def test_decorator_refuses_an_argument_that_it_does_not_have() -> None:
    with pytest.raises(TypeError, match=r"^recent_login_required\(\) has no argument 'maxage'\.$"):
        recent_login_required(maxage=60)  # type: ignore[call-overload]


def test_mixin_has_the_documented_arguments_of_the_decorator() -> None:
    documented = re.findall(r":param (\w+):", recent_login_required.__doc__ or "")
    assert documented == list(RecentLoginOptions.__annotations__)
    assert issubclass(RecentLoginRequiredMixin, RecentLoginOptions)


# Confirming by a check of the site's own


def test_own_check_can_confirm(visitor: Client) -> None:
    def is_recent(request: Any) -> bool:
        return auth.is_login_recent(request, 60)

    assert run(visitor, is_recent) == "False"
    run(visitor, auth.confirm_login)
    assert run(visitor, is_recent) == "True"


def test_async_check_can_confirm(visitor: Client) -> None:
    async def confirm(request: Any) -> None:
        await auth.aconfirm_login(request)

    with site_of(confirm):
        visitor.get("/async-view/")
    assert is_let_in(visitor.get("/sync/"))


def test_check_can_confirm_the_login_of_another_type(
    visitor: Client, editor: Any, clock: Clock
) -> None:
    visitor.force_login(editor, login_type="BE")
    clock.forward(301)
    assert not is_let_in(visitor.get("/of-staff/"))
    run(visitor, lambda request: auth.confirm_login(request, "BE"))
    assert is_let_in(visitor.get("/of-staff/"))
    assert not is_let_in(visitor.get("/sync/"))


def test_confirming_gives_a_new_identifier_in_one_update(
    visitor: Client, session_queries: SessionQueries
) -> None:
    before = visitor.cookies["fe_sessionid"].value
    with session_queries:
        run(visitor, auth.confirm_login)
    assert session_queries.kinds == ["SELECT", "UPDATE"]
    assert visitor.cookies["fe_sessionid"].value != before
    assert FrontendSession.objects.count() == 1


def test_confirming_is_no_login(
    visitor: Client, alice: Any, caplog: pytest.LogCaptureFixture
) -> None:
    before = type(alice).objects.get().last_login
    logins: list[Any] = []

    def receiver(**kwargs: Any) -> None:  # pragma: no cover - what must not be called
        logins.append(kwargs)

    user_logged_in.connect(receiver)
    try:
        with caplog.at_level(logging.INFO, "usersessions.auth"):
            run(visitor, auth.confirm_login)
    finally:
        user_logged_in.disconnect(receiver)
    assert logins == []
    assert type(alice).objects.get().last_login == before
    assert caplog.messages == [f"User {alice.pk} has confirmed the login of a FE session."]


def test_nobody_can_confirm_without_a_login(client: Client) -> None:
    assert refusal_of(client, auth.confirm_login) == "Please log in."
    assert FrontendSession.objects.count() == 0


# Beside other requests


def in_parallel(client: Client) -> SessionStore:
    """Return the session as a second request has it that has just read it."""
    store = SessionStore(client.cookies["fe_sessionid"].value)
    store.load()
    return store


def confirmed_at(client: Client) -> int | None:
    found: int | None = client.session.user_session.meta.get("confirmed_at")
    return found


def test_confirmation_keeps_what_another_request_stored_meanwhile(
    visitor: Client, clock: Clock
) -> None:
    mine, theirs = in_parallel(visitor), in_parallel(visitor)
    theirs["basket"] = {"desk-lamp": 1}
    theirs.save()
    confirm_login(mine)
    mine.save()
    stored = SessionStore(mine.session_key)
    assert stored["basket"] == {"desk-lamp": 1}
    assert stored.user_session.meta["confirmed_at"] == clock()


def test_request_that_comes_late_neither_takes_a_confirmation_back_nor_revives_the_session(
    visitor: Client, clock: Clock
) -> None:
    mine, theirs = in_parallel(visitor), in_parallel(visitor)
    confirm_login(mine)
    mine.save()
    theirs["basket"] = {"desk-lamp": 1}
    with pytest.raises(UpdateError):
        theirs.save()
    assert SessionStore(mine.session_key).user_session.meta["confirmed_at"] == clock()
    assert FrontendSession.objects.count() == 1


def test_confirmation_does_not_outlive_a_new_login(visitor: Client, alice: Any) -> None:
    """Attack: have the old confirmation merged into the session of a later login."""
    visitor.post("/usersessions/confirm/", {"password": "alice"})
    assert confirmed_at(visitor) is not None
    late = in_parallel(visitor)
    visitor.force_login(alice)
    late["basket"] = {}
    with pytest.raises(UpdateError):
        late.save()
    assert confirmed_at(visitor) is None


def test_confirmation_of_a_session_that_ended_meanwhile_brings_nothing_back(
    visitor: Client,
) -> None:
    mine = in_parallel(visitor)
    visitor.logout()
    confirm_login(mine)
    with pytest.raises(UpdateError):
        mine.save()
    assert FrontendSession.objects.count() == 0
