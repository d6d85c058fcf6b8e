"""Fixtures for pytest, and the option ``usersessions_clients``.

pytest loads this module wherever the package is installed. So nothing here may need Django, its
settings or pytest-django before a fixture is requested.
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
        # Not by an entry point: the fixtures that are registered last override pytest-django's.
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
    """A function ``(user, login_type=None)``: logs in to ``live_server``, returns the cookie."""
    from .test import make_login_cookie

    def log_in(user: Any, login_type: str | None = None) -> LoginCookie:
        return make_login_cookie(user, live_server.url, login_type)

    return log_in


class PytestDjangoNames:
    """Our clients under pytest-django's names for Django's clients."""

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
