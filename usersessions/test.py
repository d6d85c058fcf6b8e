"""A test client that logs in to login types: ``client.force_login(user, login_type="BE")``."""

from __future__ import annotations

from typing import Any, cast

from asgiref.sync import sync_to_async
from django.contrib.auth import login as django_login
from django.http import HttpRequest
from django.test import Client as DjangoClient
from django.test import RequestFactory

from .conf import LoginType, get_default_login_type, get_login_type
from .store import SessionStore


class Client(DjangoClient):
    """Django's client for sites with several sessions, its cookies signed for ``testserver``."""

    def get_session(self, login_type: str | None = None) -> SessionStore:
        """Return the session that the client's cookie names; ``save()`` it after changes.

        :param login_type: None: the default login type
        """
        found = _find(login_type)
        cookie = self.cookies.get(found.cookie_name)
        return SessionStore(cookie.value if cookie else None, login_type=found)

    @property
    def session(self) -> SessionStore:
        """The session of the default login type, stored and with its cookie."""
        store = self.get_session()
        if not store.exists(store.session_key or ""):
            store.create()
            self.set_session_cookie(store)
        return store

    def force_login(
        self, user: Any, backend: str | None = None, login_type: str | None = None
    ) -> None:
        """Log a user in without a password.

        :param login_type: None: the default login type
        """
        user.backend = backend or self._get_backend()  # type: ignore[attr-defined]
        self._login(user, user.backend, login_type)

    def logout(self, login_type: str | None = None) -> None:
        """End the session of one login type; None: of the default login type."""
        store = self.get_session(login_type)
        store.flush()
        self.cookies.pop(store.login_type.cookie_name, None)

    async def aforce_login(
        self, user: Any, backend: str | None = None, login_type: str | None = None
    ) -> None:
        """See ``force_login()``."""
        await sync_to_async(self.force_login)(user, backend, login_type)

    async def alogout(self, login_type: str | None = None) -> None:
        """See ``logout()``."""
        await sync_to_async(self.logout)(login_type)

    async def asession(self) -> SessionStore:
        """See ``session``."""
        return await sync_to_async(lambda: self.session)()

    def set_session_cookie(self, store: SessionStore) -> None:
        """Give the client the cookie of a stored session."""
        name, session = store.login_type.cookie_name, store.user_session
        if store.login_type.cookie_format == "identifier":
            self.cookies[name] = session.identifier
        else:
            request = RequestFactory().get("/", **cast("Any", self.defaults))
            self.cookies[name] = session.get_jwt(store.login_type.cookie_scope(request))

    async def _alogin(self, user: Any, backend: str | None = None) -> None:
        await sync_to_async(self._login)(user, backend)

    def _login(self, user: Any, backend: str | None = None, login_type: str | None = None) -> None:
        request = HttpRequest()
        request.session = self.get_session(login_type)
        django_login(request, user, backend)
        request.session.save()
        self.set_session_cookie(request.session)


def _find(login_type: str | None) -> LoginType:
    return get_default_login_type() if login_type is None else get_login_type(login_type)
