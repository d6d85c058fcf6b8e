"""The fixtures for pytest, in this very run and in runs of small projects that have the package."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import pytest

from usersessions import pytest_plugin
from usersessions.models import BackendSession, FrontendSession
from usersessions.test import AsyncClient, Client, LoginCookie

pytest_plugins = ["pytester"]

SETTINGS = """
    SECRET_KEY = "secret"
    DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
    INSTALLED_APPS = [
        "django.contrib.admin",
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.messages",
        "usersessions",
    ]
    MIDDLEWARE = [
        "usersessions.middleware.UserSessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
    ]
    TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]
    ROOT_URLCONF = "urls"
    SESSION_ENGINE = "usersessions.store"
    USE_TZ = True
    MIGRATION_MODULES = dict.fromkeys(["admin", "auth", "contenttypes", "django_usersessions"])
"""

URLS = """
    from django.contrib import admin
    from django.urls import path

    urlpatterns = [path("staff/", admin.site.urls)]
"""

README = Path(__file__).parents[2].joinpath("README.rst").read_text()

INI = """
    [pytest]
    addopts = --strict-config
    pythonpath = .
    filterwarnings =
        error
"""


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A directory for a project that knows nothing of the settings of this run."""
    monkeypatch.delenv("DJANGO_SETTINGS_MODULE")
    # Which load slowly.
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p no:randomly -p no:hypothesispytest -p no:faker")
    pytester.makeini(INI)
    return pytester


@pytest.fixture
def site(project: pytest.Pytester) -> pytest.Pytester:
    """A Django site, with the admin in a place of its own."""
    project.makepyfile(settings=SETTINGS, urls=URLS)
    configure(project, DJANGO_SETTINGS_MODULE="settings")
    return project


def configure(project: pytest.Pytester, **options: str) -> None:
    lines = "".join(f"    {name} = {value}\n" for name, value in options.items())
    project.makeini(INI + lines)


def run(project: pytest.Pytester, *arguments: str, passed: int = 1) -> None:
    project.runpytest_subprocess(*arguments).assert_outcomes(passed=passed)


# This run, whose pyproject.toml has the option


def test_option_gives_pytest_djangos_names_to_our_clients(
    client: Client,
    async_client: AsyncClient,
    usersessions_client: Client,
    usersessions_async_client: AsyncClient,
) -> None:
    assert (type(client), type(async_client)) == (Client, AsyncClient)
    assert client is usersessions_client
    assert async_client is usersessions_async_client


@pytest.mark.django_db
def test_admin_client_is_logged_in_to_the_admin(client: Client, admin_client: Client) -> None:
    assert admin_client.get("/admin/").status_code == 200
    assert "fe_sessionid" not in admin_client.cookies
    assert client.get("/admin/").status_code == 302


def test_admin_client_follows_the_admin_to_another_login_type(
    request: pytest.FixtureRequest, settings: Any
) -> None:
    settings.USERSESSIONS = {"BE": {"URL_PREFIXES": ["/intern/"]}}
    admin_client = request.getfixturevalue("usersessions_admin_client")
    assert admin_client.get("/admin/").status_code == 200
    assert "be_sessionid" not in admin_client.cookies


def test_live_login_opens_the_live_server(
    usersessions_live_login: Callable[..., LoginCookie], live_server: Any, superuser: Any
) -> None:
    def visit(cookie: LoginCookie) -> str:
        """Return the path to which the admin leads whoever has the cookie."""
        headers = {"Cookie": f"{cookie['name']}={cookie['value']}"}
        request = Request(f"{live_server.url}/admin/", headers=headers)  # noqa: S310
        with urlopen(request) as response:  # noqa: S310
            return urlsplit(response.url).path

    assert visit(usersessions_live_login(superuser)) == "/admin/login/"
    assert visit(usersessions_live_login(superuser, "BE")) == "/admin/"
    assert BackendSession.objects.count() == FrontendSession.objects.count() == 1


# Runs of others


def test_without_the_option_nothing_is_put_in_the_place_of_pytest_djangos(
    project: pytest.Pytester,
) -> None:
    config = project.parseconfig("-p", "no:django")
    pytest_plugin.pytest_configure(config)
    assert config.pluginmanager.has_plugin("usersessions")
    assert not config.pluginmanager.has_plugin("usersessions-clients")


@pytest.mark.parametrize(
    ("autoload", "arguments"),
    [
        (True, []),
        (False, ["-p", "usersessions", "-p", "django"]),
        (False, ["-p", "django", "-p", "usersessions"]),
    ],
    ids=["installed", "ours first", "ours last"],
)
def test_option_works_in_whatever_order_plugins_load(
    site: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, autoload: bool, arguments: list[str]
) -> None:
    if not autoload:
        monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    configure(site, DJANGO_SETTINGS_MODULE="settings", usersessions_clients="true")
    site.makepyfile(
        """
        from usersessions.test import AsyncClient, Client

        def test_clients(client, async_client, admin_client):
            assert type(client) is type(admin_client) is Client
            assert type(async_client) is AsyncClient
            assert admin_client.get("/staff/password_change/done/").status_code == 200
        """
    )
    run(site, *arguments)


def test_client_of_a_projects_own_stays_its_own(site: pytest.Pytester) -> None:
    configure(site, DJANGO_SETTINGS_MODULE="settings", usersessions_clients="true")
    site.makeconftest(
        """
        import pytest

        @pytest.fixture
        def client(client):
            return [client]
        """
    )
    site.makepyfile(
        """
        from usersessions.test import Client

        def test_client(client):
            assert type(client[0]) is Client
        """
    )
    run(site)


def test_without_the_option_pytest_djangos_clients_stay_djangos(site: pytest.Pytester) -> None:
    site.makepyfile(
        settings=SETTINGS
        + """
    SESSION_COOKIE_NAME = "be_sessionid"
    USERSESSIONS = {"BE": {"COOKIE_FORMAT": "identifier", "URL_PREFIXES": ["/staff/"]}}
        """,
        test_site="""
        import django.test
        import usersessions.test

        def test_djangos(client, async_client, admin_client):
            assert type(client) is type(admin_client) is django.test.Client
            assert type(async_client) is django.test.AsyncClient
            assert admin_client.get("/staff/password_change/done/").status_code == 200

        def test_ours(usersessions_client, usersessions_async_client):
            assert type(usersessions_client) is usersessions.test.Client
            assert type(usersessions_async_client) is usersessions.test.AsyncClient
        """,
    )
    run(site, passed=2)


def test_django_project_without_the_app_is_left_in_peace(project: pytest.Pytester) -> None:
    configure(project, DJANGO_SETTINGS_MODULE="settings")
    project.makepyfile(
        settings="""
        SECRET_KEY = "secret"
        ROOT_URLCONF = "settings"
        urlpatterns = []
        """,
        test_site="""
        from django.test import Client

        def test_site(client):
            assert type(client) is Client
            assert client.get("/").status_code == 404
        """,
    )
    run(project)


@pytest.mark.parametrize("arguments", [[], ["-p", "no:django"]], ids=["", "no pytest-django"])
def test_project_without_django_is_left_in_peace(
    project: pytest.Pytester, arguments: list[str]
) -> None:
    project.makepyfile("def test_nothing(): pass")
    run(project, *arguments)


def test_plugin_loads_nothing_of_django(project: pytest.Pytester) -> None:
    program = "import sys, usersessions.pytest_plugin; sys.exit('django' in sys.modules)"
    assert project.run(sys.executable, "-c", program).ret == 0


def test_filter_of_the_readme_lets_a_program_start_pytest_after_django(
    site: pytest.Pytester,
) -> None:
    (line,) = re.findall(r"^    (filterwarnings = ignore:Module.+)", README, re.MULTILINE)
    site.makeini(
        INI + f"        {line.partition(' = ')[2]}\n    DJANGO_SETTINGS_MODULE = settings\n"
    )
    site.makepyfile("def test_nothing(): pass")
    program = site.makepyfile(
        program="""
        import os
        import sys

        import django
        import pytest

        os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
        django.setup()
        sys.exit(pytest.main(["-p", "usersessions"]))
        """
    )
    site.run(sys.executable, program).assert_outcomes(passed=1)
