"""The test clients that the app ships; test_every_client has what Django's do as well."""

from __future__ import annotations

from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib import auth
from django.contrib.auth.signals import user_logged_out
from django.http import HttpRequest

from tests.urls import site_of, visit
from usersessions.models import BackendSession, FrontendSession
from usersessions.test import AsyncClient, Client, find_admin_login_type, make_login_cookie

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.urls")]


def who(request: Any) -> Any:
    return request.user.get_username()


def put_basket(request: HttpRequest) -> None:
    request.session["basket"] = {"apple": 3}


def read_basket(request: HttpRequest) -> Any:
    return request.session.get("basket")


async def avisit(client: AsyncClient, view: Any, path: str = "/") -> Any:
    with site_of(view):
        return await client.get(path)


# Logging in and out


def test_login_to_one_login_type_leaves_the_other(client: Client, alice: Any, editor: Any) -> None:
    client.force_login(alice)
    client.force_login(editor, login_type="BE")
    assert visit(client, who).content == b"'alice'"
    assert visit(client, who, "/admin/").content == b"'editor'"


def test_login_with_a_password_to_a_login_type(client: Client, editor: Any) -> None:
    assert not client.login(username="editor", password="wrong", login_type="BE")
    assert client.login(username="editor", password="editor", login_type="BE")
    assert visit(client, who).content == b"''"
    assert visit(client, who, "/admin/").content == b"'editor'"


def test_login_names_the_authentication_backend(client: Client, alice: Any, settings: Any) -> None:
    path = "django.contrib.auth.backends.AllowAllUsersModelBackend"
    settings.AUTHENTICATION_BACKENDS = [*settings.AUTHENTICATION_BACKENDS, path]
    client.force_login(alice)
    assert client.session[auth.BACKEND_SESSION_KEY] == settings.AUTHENTICATION_BACKENDS[0]
    client.force_login(alice, path)
    assert client.session[auth.BACKEND_SESSION_KEY] == path


def test_login_of_the_client_passes_the_ip_lock(client: Client, alice: Any, settings: Any) -> None:
    settings.USERSESSIONS = {"FE": {"LOCK_IP": 4, "LOCK_IPV6": 8}}
    client.force_login(alice)
    assert FrontendSession.objects.get().ses_iplock == "[DISABLED]"
    assert visit(client, who).content == b"'alice'"


def test_logout_ends_the_session_of_one_login_type(client: Client, alice: Any) -> None:
    client.force_login(alice)
    client.force_login(alice, login_type="BE")
    client.cookies["theme"] = "dark"
    client.logout()
    assert FrontendSession.objects.count() == 0
    assert BackendSession.objects.count() == 1
    client.logout("BE")
    assert BackendSession.objects.count() == 0
    assert list(client.cookies) == ["theme"]


def test_logout_tells_receivers_who_went(client: Client, editor: Any) -> None:
    gone = []

    def note(user: Any, **kwargs: Any) -> None:
        gone.append(user)

    client.force_login(editor, login_type="BE")
    user_logged_out.connect(note)
    try:
        client.logout("BE")
        client.logout("BE")
        async_to_sync(client.aforce_login)(editor, login_type="BE")
        async_to_sync(client.alogout)("BE")
        async_to_sync(client.alogout)("BE")
    finally:
        user_logged_out.disconnect(note)
    assert gone == [editor, None, editor, None]


def test_unknown_login_type_is_a_key_error_that_names_the_others(
    client: Client, alice: Any
) -> None:
    with pytest.raises(KeyError, match="There is no login type 'XX'; USERSESSIONS knows: 'BE', "):
        client.force_login(alice, login_type="XX")


# The session


def test_session_of_a_login_type_can_be_filled_before_a_request(client: Client) -> None:
    session = client.session("BE")
    session["basket"] = {"apple": 3}
    session.save()
    assert visit(client, read_basket, "/admin/").content == b"{'apple': 3}"
    assert visit(client, read_basket).content == b"None"
    assert FrontendSession.objects.count() == 0


def test_asking_whether_a_session_is_empty_stores_nothing(client: Client) -> None:
    session = client.session
    session.delete("0123456789abcdef" * 2)
    assert session.is_empty()
    assert FrontendSession.objects.count() == 0


def test_looking_into_a_session_stores_nothing(client: Client) -> None:
    assert client.session.get("basket") is None
    assert client.session().user_session.is_anonymous
    assert dict(client.session("BE").items()) == {}
    assert FrontendSession.objects.count() == BackendSession.objects.count() == 0
    assert not client.cookies


def test_session_key_of_a_session_that_has_ended_is_a_new_one(client: Client) -> None:
    before = client.session.session_key
    FrontendSession.objects.all().delete()
    assert client.session.session_key != before
    assert client.session.exists(client.session.session_key)


def test_data_set_before_the_session_key_is_asked_for_stays(client: Client) -> None:
    session = client.session
    session["basket"] = {"apple": 3}
    assert session.exists(session.session_key)
    assert client.session["basket"] == {"apple": 3}


@pytest.mark.parametrize("method", ["save", "create"])
def test_empty_session_can_be_stored(client: Client, method: str) -> None:
    session = client.session("BE")
    getattr(session, method)()
    assert client.session("BE").session_key == session.session_key
    assert BackendSession.objects.count() == 1


def test_changed_session_is_saved_under_its_cookie(client: Client) -> None:
    visit(client, put_basket)
    cookie = client.cookies["fe_sessionid"].value
    session = client.session
    session["basket"] = {"pear": 1}
    session.save()
    assert client.cookies["fe_sessionid"].value == cookie
    assert visit(client, read_basket).content == b"{'pear': 1}"


def test_cookie_follows_a_renewed_identifier(client: Client) -> None:
    visit(client, put_basket)
    session = client.session
    session.cycle_key()
    session.save()
    assert visit(client, read_basket).content == b"{'apple': 3}"
    assert FrontendSession.objects.count() == 1


def test_cookie_goes_with_a_flushed_session(client: Client) -> None:
    visit(client, put_basket)
    session = client.session
    session.flush()
    assert session.session_key is None
    assert not client.cookies
    session["basket"] = {"pear": 1}
    session.save()
    assert visit(client, read_basket).content == b"{'pear': 1}"
    assert FrontendSession.objects.count() == 1


def test_session_that_has_ended_meanwhile_loses_its_cookie_too(client: Client) -> None:
    client.session.save()
    FrontendSession.objects.all().delete()
    client.session.flush()
    assert not client.cookies


# The cookie


@pytest.mark.parametrize(
    "site",
    [
        {},
        {"COOKIE_FORMAT": "identifier"},
        {
            "LIFETIME": 1000,
            "PERMANENT_LOGIN": "always",
            "COOKIE_DOMAIN": "testserver",
            "COOKIE_PATH": "/shop/",
            "COOKIE_SECURE": True,
            "COOKIE_SAMESITE": "Strict",
        },
    ],
    ids=["defaults", "identifier", "everything"],
)
def test_cookie_is_the_one_that_the_site_sends(
    client: Client, other_client: Client, alice: Any, settings: Any, site: dict[str, Any]
) -> None:
    settings.USERSESSIONS = {"FE": site}
    client.force_login(alice)
    visit(other_client, lambda request: auth.login(request, alice))
    ours, theirs = client.cookies["fe_sessionid"], other_client.cookies["fe_sessionid"]
    assert len(ours.value) == len(theirs.value)
    assert ours.keys() == theirs.keys()
    for name in ours.keys() - {"expires"}:
        assert ours[name] == theirs[name]
    assert visit(client, who).content == b"'alice'"


@pytest.mark.parametrize(
    "options", [{"headers": {"host": "shop.test:8000"}}, {"SERVER_NAME": "shop.test"}], ids=str
)
def test_cookie_is_signed_for_the_host_that_the_client_calls(
    alice: Any, settings: Any, options: dict[str, Any]
) -> None:
    settings.ALLOWED_HOSTS = ["shop.test", "testserver"]
    client = Client(**options)
    client.force_login(alice)
    assert visit(client, who).content == b"'alice'"
    assert visit(client, who, headers={"host": "testserver"}).content == b"''"


@pytest.mark.parametrize("domain", [None, "shop.test"])
def test_login_cookie_is_for_the_browser_of_a_live_server(
    client: Client, alice: Any, settings: Any, domain: str | None
) -> None:
    settings.ALLOWED_HOSTS = ["www.shop.test"]
    settings.USERSESSIONS = {"BE": {"COOKIE_PATH": "/admin/", "COOKIE_DOMAIN": domain}}
    cookie = make_login_cookie(alice, "http://www.shop.test:8000", "BE")
    client.cookies[cookie["name"]] = cookie["value"]
    page = visit(client, who, "/admin/", headers={"host": "www.shop.test:8000"})
    assert page.content == b"'alice'"
    assert cookie == {
        "name": "be_sessionid",
        "value": cookie["value"],
        "path": "/admin/",
        "domain": domain or "www.shop.test",
    }


def test_login_cookie_is_one_of_the_default_login_type(alice: Any, settings: Any) -> None:
    settings.ALLOWED_HOSTS = ["127.0.0.1"]
    cookie = make_login_cookie(alice, "http://127.0.0.1")
    assert (cookie["name"], cookie["domain"]) == ("fe_sessionid", "127.0.0.1")


# Under ASGI


def test_async_twins_do_the_same(client: Client, editor: Any) -> None:
    async def use() -> None:
        await client.aforce_login(editor)
        assert not await client.alogin(username="editor", password="wrong", login_type="BE")
        assert await client.alogin(username="editor", password="editor", login_type="BE")
        assert (await client.asession("BE")).user_session.user_id == editor.pk
        await client.alogout()
        assert (await client.asession()).user_session.is_anonymous

    async_to_sync(use)()
    assert visit(client, who).content == b"''"
    assert visit(client, who, "/admin/").content == b"'editor'"


def test_async_client_logs_in_and_out(async_client: AsyncClient, alice: Any, editor: Any) -> None:
    async def use() -> None:
        await async_client.aforce_login(editor, login_type="BE")
        assert await async_client.alogin(username="alice", password="alice")
        assert (await avisit(async_client, who)).content == b"'alice'"
        assert (await avisit(async_client, who, "/admin/")).content == b"'editor'"
        await async_client.alogout("BE")
        assert (await avisit(async_client, who)).content == b"'alice'"
        assert (await avisit(async_client, who, "/admin/")).content == b"''"

    async_to_sync(use)()
    assert list(async_client.cookies) == ["fe_sessionid"]


def test_session_of_the_async_client_is_there_to_read_and_to_fill(
    async_client: AsyncClient,
) -> None:
    async def use() -> None:
        session = await async_client.asession("BE")
        key = session.session_key
        assert "basket" not in session
        session["basket"] = {"apple": 3}
        await session.asave()
        assert (await avisit(async_client, read_basket, "/admin/")).content == b"{'apple': 3}"
        assert (await async_client.asession("BE")).session_key == key
        await session.aflush()

    async_to_sync(use)()
    assert not async_client.cookies
    assert BackendSession.objects.count() == 0


# The login type of the admin


@pytest.mark.parametrize(
    ("site", "login_type"),
    [
        ({}, "BE"),
        ({"SHOP": {"URL_PREFIXES": ["/admin"]}}, "SHOP"),
        ({"BE": {"URL_PREFIXES": ["/intern/"]}}, "FE"),
    ],
    ids=["usual", "type of its own", "default type"],
)
@pytest.mark.urls("testproject.urls")
def test_login_type_of_the_admin_is_the_one_that_serves_it(
    settings: Any, site: dict[str, dict[str, Any]], login_type: str
) -> None:
    backend = "usersessions.backends.database.DatabaseSessionBackend"
    settings.USERSESSIONS = {
        name: {**given, **({"BACKEND": backend} if name == "SHOP" else {})}
        for name, given in site.items()
    }
    assert find_admin_login_type() == login_type


@pytest.mark.urls("tests.urls_i18n")
def test_login_type_of_a_site_without_djangos_admin_is_the_backend(settings: Any) -> None:
    settings.USERSESSIONS = {"BE": {"URL_PREFIXES": ["/intern/"]}}
    assert find_admin_login_type() == "BE"
