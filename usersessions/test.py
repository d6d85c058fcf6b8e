"""Test clients that log in to login types: ``client.force_login(user, login_type="BE")``."""

from __future__ import annotations

from http.cookies import SimpleCookie
from typing import Any, ClassVar, TypedDict
from urllib.parse import urlsplit

from asgiref.sync import sync_to_async
from django.contrib import auth
from django.http import HttpRequest, HttpResponse
from django.http.request import split_domain_port
from django.test import AsyncClient as DjangoAsyncClient
from django.test import AsyncRequestFactory, RequestFactory
from django.test import Client as DjangoClient
from django.test.client import ClientMixin as DjangoClientMixin
from django.urls import NoReverseMatch, reverse

from .conf import LoginType, get_default_login_type, get_login_type
from .request.by_login_type import get_login_type_for
from .request.cookies import send_cookie
from .store import SessionStore


class ClientSession(SessionStore):
    """The session of a client's cookie; call it to get the one of another login type.

    ``save()`` and ``flush()`` update the client's cookie without a request. Reading a session that
    is not stored yet stores nothing; reading its ``session_key`` does, since Django's client always
    has one.
    """

    def __init__(self, client: ClientMixin, login_type: LoginType) -> None:
        cookie = client.cookies.get(login_type.cookie_name)
        super().__init__(cookie.value if cookie else None, login_type=login_type)
        self._client = client

    def __call__(self, login_type: str | None = None) -> ClientSession:
        """Return the client's session of a login type; None: the default one."""
        found = get_default_login_type() if login_type is None else get_login_type(login_type)
        return ClientSession(self._client, found)

    @property
    def session_key(self) -> str | None:
        """The session's identifier; stores the session if it has none. None after a flush."""
        self._get_session()
        if self._session_key is None and not self.has_ended_cookie:
            self.save()
        key: str | None = self._session_key
        return key

    def save(self, must_create: bool = False) -> None:
        if self.user_session.stored is None:
            self.cycle_key()
        super().save(must_create)
        self._client._take_cookie(self)

    def flush(self) -> None:
        super().flush()
        self._client.cookies.pop(self.login_type.cookie_name, None)


class ClientMixin(DjangoClientMixin):
    """Login types for both clients; without an argument, the default login type is meant."""

    cookies: SimpleCookie
    defaults: Any
    #: Makes a request to the client's host, for which its cookies are signed.
    _factory: ClassVar[type[RequestFactory | AsyncRequestFactory]]

    @property
    def session(self) -> ClientSession:
        """The session of the default login type; ``session("BE")`` is the one of another."""
        return ClientSession(self, get_default_login_type())

    async def asession(self, login_type: str | None = None) -> ClientSession:
        """Return the session of a login type, stored and read."""
        session = self.session(login_type)
        await sync_to_async(getattr)(session, "session_key")
        return session

    def login(self, *, login_type: str | None = None, **credentials: Any) -> bool:
        """Log in the user with these credentials; return False if there is none."""
        user = auth.authenticate(**credentials)
        if user is None:
            return False
        self._login(user, login_type=login_type)
        return True

    def force_login(
        self, user: Any, backend: str | None = None, login_type: str | None = None
    ) -> None:
        """Log a user in without a password, under a new identifier.

        :param backend: dotted path of the authentication backend; None: the first that can
        """
        user.backend = backend or self._get_backend()  # type: ignore[attr-defined]
        self._login(user, user.backend, login_type)

    def logout(self, login_type: str | None = None) -> None:
        """End the session of one login type; other sessions and cookies stay."""
        request = self._new_request(self.session(login_type))
        request.user = auth.get_user(request)
        auth.logout(request)

    # In tests, a thread is good enough.

    async def alogin(self, *, login_type: str | None = None, **credentials: Any) -> bool:
        """See ``login()``."""
        return await sync_to_async(self.login)(login_type=login_type, **credentials)

    async def aforce_login(
        self, user: Any, backend: str | None = None, login_type: str | None = None
    ) -> None:
        """See ``force_login()``."""
        await sync_to_async(self.force_login)(user, backend, login_type)

    async def alogout(self, login_type: str | None = None) -> None:
        """See ``logout()``."""
        await sync_to_async(self.logout)(login_type)

    def _login(self, user: Any, backend: str | None = None, login_type: str | None = None) -> None:
        request = self._new_request(self.session(login_type))
        auth.login(request, user, backend)
        request.session.save()

    def _take_cookie(self, session: ClientSession) -> None:
        response = HttpResponse()
        send_cookie(self._new_request(session), response, session)
        self.cookies.update(response.cookies)

    def _new_request(self, session: ClientSession) -> Any:
        request: Any = self._factory(**self.defaults).get("/")
        request.session = session
        return request


class Client(ClientMixin, DjangoClient):
    """Django's client for sites with several sessions."""

    _factory = RequestFactory


class AsyncClient(ClientMixin, DjangoAsyncClient):
    """Django's async client for sites with several sessions."""

    _factory = AsyncRequestFactory


class LoginCookie(TypedDict):
    """A session cookie in the form that Selenium's ``add_cookie()`` and Playwright take."""

    name: str
    value: str
    path: str
    domain: str


def make_login_cookie(user: Any, url: str, login_type: str | None = None) -> LoginCookie:
    """Log a user in, and return the cookie for a browser that visits a live server.

    :param url: of the server: ``live_server_url`` of Django's test case
    :param login_type: None: the default login type
    """
    host = urlsplit(url).netloc
    client = Client(headers={"host": host})
    client.force_login(user, login_type=login_type)
    (cookie,) = client.cookies.values()
    return {
        "name": cookie.key,
        "value": cookie.value,
        "path": cookie["path"],
        "domain": cookie["domain"] or split_domain_port(host)[0],
    }


def find_admin_login_type() -> str:
    """Return the login type that serves the admin; ``"BE"`` for a site without Django's admin."""
    request = HttpRequest()
    try:
        request.path_info = reverse("admin:index")
    except NoReverseMatch:
        return "BE"
    return get_login_type_for(request).name
