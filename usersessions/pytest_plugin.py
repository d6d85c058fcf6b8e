"""Fixtures for pytest, and ``usersessions_clients = true`` for those of pytest-django.

pytest loads this wherever the package is installed: until a fixture is asked for, nothing here may
need Django, its settings, or pytest-django.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from .test import AsyncClient, Client, LoginCookie


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini(
        "usersessions_clients",
        "The fixtures client, async_client and admin_client are clients of usersessions.test.",
        type="bool",
        default=False,
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getini("usersessions_clients"):
        # Here and not as an entry point: of two plugins' fixtures, those registered last count.
        config.pluginmanager.register(PytestDjangoNames(), "usersessions-clients")


@pytest.fixture
def usersessions_client() -> Client:
    """A ``usersessions.test.Client``."""
    from .test import Client

    return Client()


@pytest.fixture
def usersessions_async_client() -> AsyncClient:
    """A ``usersessions.test.AsyncClient``."""
    from .test import AsyncClient

    return AsyncClient()


@pytest.fixture
def usersessions_admin_client(admin_user: Any) -> Client:
    """A client with pytest-django's ``admin_user`` logged in to the login type of the admin."""
    from .test import Client, find_admin_login_type

    client = Client()
    client.force_login(admin_user, login_type=find_admin_login_type())
    return client


@pytest.fixture
def usersessions_live_login(live_server: Any) -> Callable[..., LoginCookie]:
    """Log a user in to pytest-django's ``live_server``: ``(user, login_type=None)`` to a cookie."""
    from .test import make_login_cookie

    def log_in(user: Any, login_type: str | None = None) -> LoginCookie:
        return make_login_cookie(user, live_server.url, login_type)

    return log_in


class PytestDjangoNames:
    """Our clients under the names that pytest-django has for Django's."""

    @pytest.fixture
    def client(self, usersessions_client: Client) -> Client:
        """A ``usersessions.test.Client``."""
        return usersessions_client

    @pytest.fixture
    def async_client(self, usersessions_async_client: AsyncClient) -> AsyncClient:
        """A ``usersessions.test.AsyncClient``."""
        return usersessions_async_client

    @pytest.fixture
    def admin_client(self, usersessions_admin_client: Client) -> Client:
        """A ``usersessions.test.Client``, logged in to the login type of the admin."""
        return usersessions_admin_client
