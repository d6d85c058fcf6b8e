"""System checks: what they refuse, with which words, and which way out they show."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core import checks
from django.core.checks import registry
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.db import connection, models
from django.test.utils import isolate_apps

from tests.contract.test_base import MemoryBackend
from usersessions.backends.database import user_column
from usersessions.backends.session_manager import SessionManager
from usersessions.checks import (
    FOUND_ROWS,
    check_adoption,
    check_caches,
    check_cookies,
    check_databases,
    check_deployment,
    check_middleware,
    check_settings,
    check_user_model,
)
from usersessions.middleware import UserSessionMiddleware
from usersessions.models import AbstractUserSession

DATABASE = "usersessions.backends.database.DatabaseSessionBackend"
OURS = "usersessions.middleware.UserSessionMiddleware"
DJANGOS = "django.contrib.sessions.middleware.SessionMiddleware"
MULTI_STATEMENTS = 1 << 16  # another flag of MySQL's clients
LOCALE = "django.middleware.locale.LocaleMiddleware"


@pytest.fixture(autouse=True)
def _no_settings(settings: Any) -> None:
    settings.USERSESSIONS = {}


def error(number: str, message: str, hint: str) -> checks.Error:
    return checks.Error(message, hint=hint, id=f"usersessions.{number}")


def warning(number: str, message: str, hint: str) -> checks.Warning:
    return checks.Warning(message, hint=hint, id=f"usersessions.{number}")


# All of them together


EVERY_CHECK = [
    check_settings,
    check_middleware,
    check_user_model,
    check_caches,
    check_databases,
    check_adoption,
    check_cookies,
]


@pytest.mark.parametrize("check", EVERY_CHECK)
def test_check_runs_with_every_command_and_right_settings_pass(check: Any) -> None:
    assert check in registry.registry.get_checks()
    assert [*check(None)] == []


def test_warnings_on_deployment_are_for_deployment_only() -> None:
    assert check_deployment not in registry.registry.get_checks()
    assert check_deployment in registry.registry.get_checks(include_deployment_checks=True)


@pytest.mark.parametrize("check", [check_cookies, check_deployment])
def test_what_concerns_security_has_its_tag(check: Any) -> None:
    assert checks.Tags.security in check.tags


def test_command_fails_with_all_messages_and_hints(settings: Any) -> None:
    settings.USERSESSIONS = {"FE": {"LOCK_IP": 5}, "BE": {"TIMEOUT": -1}}
    with pytest.raises(SystemCheckError) as caught:
        call_command("check")
    assert (
        'ERRORS:\n?: (usersessions.E003) USERSESSIONS["BE"]["TIMEOUT"] must be an integer of at '
        "least 0 (seconds), not -1.\n\tHINT: The default is 28800.\n"
        '?: (usersessions.E003) USERSESSIONS["FE"]["LOCK_IP"] must be an integer from 0 to 4, not '
        "5.\n\tHINT: The default is 0.\n"
    ) in str(caught.value)


# USERSESSIONS


def test_wrong_options_of_a_backend_are_reported(settings: Any) -> None:
    settings.USERSESSIONS = {
        "BE": {"OPTIONS": {"model": "no.Such"}},
        "FE": {"OPTIONS": {"model": "django_usersessions.FrontendSession", "table": "x"}},
    }
    hint = "Correct the backend's OPTIONS."
    assert [*check_settings(None)] == [
        error(
            "E007",
            'USERSESSIONS["BE"]["OPTIONS"]["model"] must be the label of an installed model, for '
            "example \"django_usersessions.FrontendSession\", not 'no.Such'.",
            hint,
        ),
        error(
            "E007",
            'USERSESSIONS["FE"]["OPTIONS"] has the unknown option "table"; known: "model", '
            '"using".',
            hint,
        ),
    ]


def test_login_types_that_share_a_table_are_refused(settings: Any) -> None:
    """Each would collect the other's sessions as garbage by its own timeouts."""
    settings.USERSESSIONS = {
        "SHOP": {"BACKEND": DATABASE, "OPTIONS": {"model": "django_usersessions.FrontendSession"}}
    }
    assert [*check_settings(None)] == [
        error(
            "E008",
            'USERSESSIONS["FE"] keeps its sessions in the table \'fe_sessions\', which "SHOP" uses '
            "already.",
            "Give each login type a table of its own, from AbstractUserSession.",
        )
    ]


def test_storages_that_are_no_tables_share_none(settings: Any) -> None:
    dicts = {"BACKEND": "tests.contract.test_base.MemoryBackend"}
    settings.USERSESSIONS = {"ONE": dicts, "TWO": dicts}
    assert [*check_settings(None)] == []


# MIDDLEWARE and SESSION_ENGINE


class CustomMiddleware(UserSessionMiddleware):
    """A site's own kind of ours."""


def function_middleware(get_response: Any) -> None:
    """Stands in MIDDLEWARE only."""


@pytest.mark.parametrize(
    "middleware",
    [
        pytest.param([OURS, LOCALE], id="ours"),
        pytest.param(["tests.unit.test_checks.CustomMiddleware"], id="a-kind-of-ours"),
        pytest.param(["tests.unit.test_checks.function_middleware", OURS], id="beside-a-function"),
    ],
)
def test_middleware_of_ours_passes(settings: Any, middleware: list[str]) -> None:
    settings.MIDDLEWARE = middleware
    assert [*check_middleware(None)] == []


@pytest.mark.parametrize(
    "middleware",
    [
        pytest.param([], id="none"),
        pytest.param([DJANGOS, LOCALE], id="djangos"),
        pytest.param(["tests.unit.test_checks.function_middleware"], id="a-function"),
        pytest.param(["no.such.Middleware"], id="not-importable"),
    ],
)
def test_missing_middleware_is_reported(settings: Any, middleware: list[str]) -> None:
    settings.MIDDLEWARE = middleware
    assert [*check_middleware(None)] == [
        error(
            "E010",
            "MIDDLEWARE lacks 'usersessions.middleware.UserSessionMiddleware'.",
            "Put it in the place of 'django.contrib.sessions.middleware.SessionMiddleware'.",
        )
    ]


@pytest.mark.parametrize("middleware", [[OURS, DJANGOS], [DJANGOS, OURS]], ids=["after", "before"])
def test_djangos_middleware_beside_ours_is_reported(settings: Any, middleware: list[str]) -> None:
    settings.MIDDLEWARE = middleware
    assert [*check_middleware(None)] == [
        error(
            "E011",
            "MIDDLEWARE has both 'django.contrib.sessions.middleware.SessionMiddleware' and "
            "'usersessions.middleware.UserSessionMiddleware'.",
            "Remove 'django.contrib.sessions.middleware.SessionMiddleware'.",
        )
    ]


def test_other_session_engine_is_reported(settings: Any) -> None:
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.db"
    assert [*check_middleware(None)] == [
        error(
            "E012",
            'SESSION_ENGINE must be "usersessions.store", not '
            "'django.contrib.sessions.backends.db'.",
            'Set SESSION_ENGINE = "usersessions.store": Django\'s test client and clearsessions '
            "use it.",
        )
    ]


def test_all_that_is_wrong_with_the_installation_is_reported(settings: Any) -> None:
    settings.MIDDLEWARE = [DJANGOS]
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.db"
    found = [message.id for message in check_middleware(None)]
    assert found == ["usersessions.E010", "usersessions.E012"]


# The user model


@pytest.fixture
def registered_apart() -> Iterator[None]:
    """Keep the models of a test out of the site."""
    with isolate_apps("tests"):
        yield


def person_with(key: Any) -> type[models.Model]:
    """Return a user model with this primary key."""

    class Person(models.Model):  # noqa: DJ008 - there are none to show
        id = key

        class Meta:
            app_label = "tests"

    return Person


def user_model_is(person: type[models.Model], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(user_column, "get_user_model", lambda: person)


def sessions_have(field: Any, settings: Any) -> None:
    """Have the frontend keep its sessions in a table with this ``ses_userid``."""

    class FrontendSession(AbstractUserSession):
        ses_userid = field

        class Meta(AbstractUserSession.Meta):
            app_label = "tests"

    settings.USERSESSIONS = {"BE": {"BACKEND": f"{__name__}.Shelf"}}
    backend = SessionManager.get_session_backend("FE")
    backend.__dict__["model"] = FrontendSession


class Shelf(MemoryBackend):
    """A storage without any columns."""


@pytest.mark.usefixtures("registered_apart")
@pytest.mark.parametrize(
    ("key", "column"),
    [
        (models.AutoField, models.BigIntegerField(default=0)),
        (models.BigAutoField, models.BigIntegerField(default=0)),
        (models.SmallAutoField, models.BigIntegerField(default=0)),
        (models.IntegerField, models.IntegerField(null=True)),
        (models.PositiveBigIntegerField, models.CharField(max_length=20, default="")),
        (models.UUIDField, models.UUIDField(null=True)),
        (models.UUIDField, models.CharField(max_length=36, default="")),
        (models.UUIDField, models.TextField(default="")),
        (lambda **key: models.CharField(max_length=9, **key), models.CharField(max_length=9)),
        (lambda **key: models.SlugField(max_length=9, **key), models.CharField(max_length=9)),
        (
            lambda **key: models.CharField(max_length=9, db_collation="C", **key),
            models.CharField(max_length=9, db_collation="C"),
        ),
        (models.UUIDField, models.CharField(max_length=36, default="", db_collation="C")),
    ],
)
def test_column_that_holds_the_users_keys_passes(
    monkeypatch: pytest.MonkeyPatch, settings: Any, key: Any, column: Any
) -> None:
    user_model_is(person_with(key(primary_key=True)), monkeypatch)
    sessions_have(column, settings)
    assert [*check_user_model(None)] == []


@pytest.mark.usefixtures("registered_apart")
def test_child_of_a_user_model_with_an_integer_key_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Django's multi-table inheritance: the key is a link to the parent's integer."""

    class Customer(person_with(models.BigAutoField(primary_key=True))):  # type: ignore[misc]
        class Meta:
            app_label = "tests"

    user_model_is(Customer, monkeypatch)
    assert [*check_user_model(None)] == []


@pytest.mark.usefixtures("registered_apart")
@pytest.mark.parametrize(
    ("key", "column", "fault", "remedy"),
    [
        (
            models.UUIDField(primary_key=True),
            models.BigIntegerField(default=0),
            "it is a BigIntegerField",
            "UUIDField(null=True)",
        ),
        (
            models.UUIDField(primary_key=True),
            models.UUIDField(),
            "it has no value for anonymous sessions: it needs null=True",
            "UUIDField(null=True)",
        ),
        (
            models.UUIDField(primary_key=True),
            models.CharField(max_length=32, default=""),
            "it holds 32 characters, 36 are needed",
            "UUIDField(null=True)",
        ),
        (
            models.CharField(primary_key=True, max_length=9),
            models.BigIntegerField(default=0),
            "it is a BigIntegerField",
            'CharField(max_length=9, default="")',
        ),
        (
            models.CharField(primary_key=True, max_length=9),
            models.CharField(max_length=8, default=""),
            "it holds 8 characters, 9 are needed",
            'CharField(max_length=9, default="")',
        ),
        (  # equal here and different there: somebody else's sessions would be ended
            models.CharField(primary_key=True, max_length=9, db_collation="C"),
            models.CharField(max_length=9, default=""),
            "it does not compare text by the users' collation, C",
            'CharField(max_length=9, default="", db_collation="C")',
        ),
        (
            models.CharField(primary_key=True, max_length=9),
            models.CharField(max_length=9, default="", db_collation="nocase"),
            "it does not compare text by the users' collation, the default",
            'CharField(max_length=9, default="")',
        ),
        (
            models.BigAutoField(primary_key=True),
            models.DateField(null=True),
            "it is a DateField",
            "BigIntegerField(default=0)",
        ),
        (
            models.BigAutoField(primary_key=True),
            models.IntegerField(default=0),
            "it holds no numbers above 2147483647",
            "BigIntegerField(default=0)",
        ),
    ],
)
def test_column_that_cannot_hold_the_users_keys_is_reported(
    monkeypatch: pytest.MonkeyPatch, settings: Any, key: Any, column: Any, fault: str, remedy: str
) -> None:
    user_model_is(person_with(key), monkeypatch)
    sessions_have(column, settings)
    assert [*check_user_model(None)] == [
        error(
            "E013",
            f"The primary key of AUTH_USER_MODEL (auth.User) is a {type(key).__name__}, which "
            f"tests.FrontendSession.ses_userid cannot hold: {fault}.",
            "Write a model that inherits AbstractUserSession and has ses_userid = "
            f'models.{remedy}, and name it in USERSESSIONS["FE"]["OPTIONS"]["model"].',
        )
    ]


def test_user_model_is_not_checked_against_a_storage_that_is_wrong_itself(settings: Any) -> None:
    settings.USERSESSIONS = {
        "BE": {"OPTIONS": {"model": "no.Model"}},
        "FE": {"OPTIONS": {"model": "no.Model"}},
    }
    assert [*check_user_model(None)] == []


# The databases


@pytest.mark.skipif("connection.vendor != 'mysql'", reason="is about MySQL and MariaDB")
class TestFoundRows:
    def test_connection_as_django_makes_it_passes(self) -> None:
        assert [*check_databases(None)] == []

    def test_flags_beside_it_pass(self, options: dict[str, Any]) -> None:
        options["client_flag"] = FOUND_ROWS | MULTI_STATEMENTS
        assert [*check_databases(None)] == []

    def test_flags_without_it_are_reported_once_for_all_login_types(
        self, options: dict[str, Any]
    ) -> None:
        options["client_flag"] = MULTI_STATEMENTS
        assert [*check_databases(None)] == [
            error(
                "E016",
                'DATABASES["default"]["OPTIONS"]["client_flag"] lacks CLIENT.FOUND_ROWS: a session '
                "that a request stores unchanged would seem to have ended.",
                "Add it with |, or remove client_flag: Django sets it by default.",
            )
        ]

    def test_database_that_keeps_no_sessions_may_have_any_flags(
        self, options: dict[str, Any], settings: Any
    ) -> None:
        options["client_flag"] = MULTI_STATEMENTS
        shelf = {"BACKEND": f"{__name__}.Shelf"}
        settings.USERSESSIONS = {"BE": shelf, "FE": shelf}
        assert [*check_databases(None)] == []

    @pytest.mark.django_db(transaction=True)
    def test_without_it_a_session_would_seem_to_have_ended(self, options: dict[str, Any]) -> None:
        """What the check is for; the day that this fails, the check can go."""
        options["client_flag"] = 0
        connection.close()
        backend = SessionManager.get_session_backend("FE")
        backend.set("0" * 32, {})
        try:
            assert backend.touch("0" * 32, 0, seen=0) is False
        finally:
            connection.close()

    @pytest.fixture
    def options(self) -> Iterator[dict[str, Any]]:
        options = connection.settings_dict["OPTIONS"]
        yield options
        del options["client_flag"]


# The engine that the site had

DJANGO = "django.contrib.sessions.backends"
NEITHER = "keeps its sessions neither in a table nor in the cache; they cannot be adopted."
NOT_RELATIVE = "the 'package' argument is required to perform a relative import for '.db'."
NAME_AN_ENGINE = (
    'Name the site\'s previous SESSION_ENGINE, for example "django.contrib.sessions.backends.db".'
)


@pytest.mark.parametrize("engine", [None, f"{DJANGO}.db", f"{DJANGO}.cached_db", f"{DJANGO}.cache"])
def test_engine_whose_sessions_can_be_taken_over_passes(settings: Any, engine: Any) -> None:
    settings.USERSESSIONS = {"FE": {"ADOPT_FROM": engine}}
    assert [*check_adoption(None)] == []


@pytest.mark.parametrize(
    ("engine", "problem"),
    [
        (f"{DJANGO}.file", f"The session engine '{DJANGO}.file' {NEITHER}"),
        (f"{DJANGO}.signed_cookies", f"The session engine '{DJANGO}.signed_cookies' {NEITHER}"),
        ("nowhere", "There is no session engine 'nowhere': No module named 'nowhere'."),
        (
            "math",
            "There is no session engine 'math': module 'math' has no attribute 'SessionStore'.",
        ),
        (".db", f"There is no session engine '.db': {NOT_RELATIVE}"),
    ],
)
def test_engine_whose_sessions_cannot_be_taken_over_is_reported(
    settings: Any, engine: str, problem: str
) -> None:
    settings.USERSESSIONS = {"FE": {"ADOPT_FROM": engine}, "BE": {"ADOPT_FROM": None}}
    assert [*check_adoption(None)] == [
        error("E009", f"ADOPT_FROM of FE: {problem}", NAME_AN_ENGINE)
    ]


def test_engine_is_reported_once_for_all_login_types(settings: Any) -> None:
    settings.USERSESSIONS = {"FE": {"ADOPT_FROM": "nowhere"}}
    assert [found.msg for found in check_adoption(None)] == [
        "ADOPT_FROM of FE, BE: There is no session engine 'nowhere': No module named 'nowhere'."
    ]


def test_login_types_that_come_from_different_engines_are_reported(settings: Any) -> None:
    settings.USERSESSIONS = {
        "BE": {"ADOPT_FROM": f"{DJANGO}.db"},
        "FE": {"ADOPT_FROM": f"{DJANGO}.cached_db"},
    }
    [found] = check_adoption(None)
    assert found.msg == "ADOPT_FROM of BE, FE: The login types name different engines."


def test_engine_is_not_checked_while_other_settings_are_wrong(settings: Any) -> None:
    settings.USERSESSIONS = {"FE": {"ADOPT_FROM": "nowhere", "LOCK_IP": 5}}
    assert [*check_adoption(None)] == []


def test_engine_whose_app_has_been_removed_is_reported(tmp_path: Path) -> None:
    (tmp_path / "moved_settings.py").write_text(
        "from testproject.settings import *\n"
        'USERSESSIONS = {"FE": {"ADOPT_FROM": "django.contrib.sessions.backends.db"}}\n'
    )
    done = subprocess.run(
        [sys.executable, "-m", "django", "check", "--settings=moved_settings"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(Path.cwd())])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert (
        "(usersessions.E009) ADOPT_FROM of FE, BE: The app of the session engine "
        f"'{DJANGO}.db' is not in INSTALLED_APPS; leave it there until its sessions have moved."
    ) in done.stderr


# Cookies that browsers refuse


@pytest.mark.parametrize(
    ("samesite", "is_secure", "passes"),
    [
        ("None", False, False),
        ("None", True, True),
        ("Lax", False, True),
        ("Lax", True, True),
        ("Strict", False, True),
        ("Strict", True, True),
    ],
)
def test_cookie_for_all_sites_has_to_be_secure(
    settings: Any, samesite: str, is_secure: bool, passes: bool
) -> None:
    settings.USERSESSIONS = {"FE": {"COOKIE_SAMESITE": samesite, "COOKIE_SECURE": is_secure}}
    refused = error(
        "E014",
        'USERSESSIONS["FE"]["COOKIE_SAMESITE"] is "None" without COOKIE_SECURE.',
        "Set COOKIE_SECURE to True: browsers refuse the cookie otherwise.",
    )
    assert [*check_cookies(None)] == ([] if passes else [refused])


SECURE = {"COOKIE_SECURE": True}


@pytest.mark.parametrize(
    "cookie",
    [
        pytest.param({"COOKIE_NAME": "__Host-sid", **SECURE}, id="host"),
        pytest.param({"COOKIE_NAME": "__Secure-sid", **SECURE}, id="secure"),
        pytest.param({"COOKIE_NAME": "__Host-Http-sid", **SECURE}, id="host-http"),
        pytest.param(
            {"COOKIE_NAME": "__Http-sid", "COOKIE_DOMAIN": "example.org", **SECURE}, id="http"
        ),
        pytest.param(
            {
                "COOKIE_NAME": "__Secure-sid",
                "COOKIE_DOMAIN": "example.org",
                "COOKIE_PATH": "/shop/",
                **SECURE,
            },
            id="secure-with-domain-and-path",
        ),
        pytest.param({"COOKIE_NAME": "host-sid", "COOKIE_DOMAIN": "x.example"}, id="no-prefix"),
        pytest.param({"COOKIE_NAME": "x__Host-sid"}, id="prefix-inside"),
    ],
)
def test_cookie_that_keeps_the_rule_of_its_prefix_passes(
    settings: Any, cookie: dict[str, Any]
) -> None:
    settings.USERSESSIONS = {"FE": cookie}
    assert [*check_cookies(None)] == []


@pytest.mark.parametrize(
    ("cookie", "problem"),
    [
        pytest.param({"COOKIE_NAME": "__Host-sid"}, "COOKIE_SECURE is not True", id="host"),
        pytest.param({"COOKIE_NAME": "__Secure-sid"}, "COOKIE_SECURE is not True", id="secure"),
        pytest.param({"COOKIE_NAME": "__hOST-sid"}, "COOKIE_SECURE is not True", id="any-case"),
        pytest.param({"COOKIE_NAME": "__Http-sid"}, "COOKIE_SECURE is not True", id="http"),
        pytest.param({"COOKIE_NAME": "__HTTP-sid"}, "COOKIE_SECURE is not True", id="http-any"),
        pytest.param(
            {"COOKIE_NAME": "__host-http-sid", "COOKIE_DOMAIN": "example.org", **SECURE},
            "COOKIE_DOMAIN is set",
            id="host-http-with-domain",
        ),
        pytest.param(
            {"COOKIE_NAME": "__SECURE-sid", "COOKIE_SECURE": False},
            "COOKIE_SECURE is not True",
            id="secure-any-case",
        ),
        pytest.param(
            {"COOKIE_NAME": "__Host-sid", "COOKIE_DOMAIN": "example.org", **SECURE},
            "COOKIE_DOMAIN is set",
            id="host-with-domain",
        ),
        pytest.param(
            {"COOKIE_NAME": "__Host-sid", "COOKIE_PATH": "/shop/", **SECURE},
            'COOKIE_PATH is not "/"',
            id="host-with-path",
        ),
    ],
)
def test_cookie_that_breaks_the_rule_of_its_prefix_is_reported(
    settings: Any, cookie: dict[str, Any], problem: str
) -> None:
    settings.USERSESSIONS = {"FE": cookie}
    assert [*check_cookies(None)] == [
        error(
            "E015",
            f'USERSESSIONS["FE"]["COOKIE_NAME"] is {cookie["COOKIE_NAME"]!r}, but {problem}.',
            "Follow the prefix's rule, or remove the prefix, for example where runserver serves "
            "the site without TLS: browsers refuse the cookie otherwise, and users cannot log in.",
        )
    ]


# Deployment


def insecure(name: str) -> checks.Warning:
    return warning(
        "W001",
        f'USERSESSIONS["{name}"]["COOKIE_SECURE"] is not True.',
        "Set it or SESSION_COOKIE_SECURE to True, so that the session cookie never travels "
        'unencrypted; then give COOKIE_NAME the prefix "__Host-", so that no other host can set '
        "the cookie (OWASP ASVS 5.0, 3.3.1 and 3.3.3).",
    )


def test_deployment_with_cookies_that_travel_unencrypted_is_warned() -> None:
    assert [*check_deployment(None)] == [insecure("BE"), insecure("FE")]


def test_deployment_with_secure_cookies_passes(settings: Any) -> None:
    settings.USERSESSIONS = {"BE": SECURE, "FE": SECURE}
    assert [*check_deployment(None)] == []


def test_prefix_is_held_against_what_the_site_says_of_djangos_cookie(settings: Any) -> None:
    settings.USERSESSIONS = {"FE": {"COOKIE_NAME": "__Host-sid"}}
    settings.SESSION_COOKIE_SECURE = True
    assert [*check_cookies(None)] == []
    settings.SESSION_COOKIE_DOMAIN = "example.org"
    (found,) = check_cookies(None)
    assert found.msg.endswith("but COOKIE_DOMAIN is set.")


def djangos_warnings() -> set[str]:
    """Return the ids of what ``check --deploy`` has to say of session cookies."""
    found = checks.run_checks(tags=[checks.Tags.security], include_deployment_checks=True)
    ids = {str(message.id) for message in found}
    return ids & {
        *(f"security.W01{digit}" for digit in range(6)),
        *(f"usersessions.W00{digit}" for digit in range(3)),
    }


@pytest.mark.parametrize(
    ("changed", "warned"),
    [
        pytest.param({}, {"usersessions.W001", "security.W010"}, id="nothing-secure"),
        pytest.param({"SESSION_COOKIE_SECURE": True}, set(), id="djangos-setting-goes-for-all"),
        pytest.param(
            {"USERSESSIONS": {"BE": SECURE, "FE": SECURE}}, {"security.W010"}, id="ours-only"
        ),
        pytest.param(
            {"SESSION_COOKIE_SECURE": True, "USERSESSIONS": {"FE": {"COOKIE_SECURE": False}}},
            {"usersessions.W001"},
            id="one-type-less-secure",
        ),
    ],
)
def test_djangos_own_check_knows_its_setting_only_and_ours_knows_both(
    settings: Any, changed: dict[str, Any], warned: set[str]
) -> None:
    """Django warns by INSTALLED_APPS, where its sessions app may stay, and not by our settings."""
    for name, value in changed.items():
        setattr(settings, name, value)
    assert djangos_warnings() == warned


def test_deployment_with_unsigned_cookies_is_warned(settings: Any) -> None:
    settings.USERSESSIONS = {"BE": SECURE, "FE": {**SECURE, "COOKIE_FORMAT": "identifier"}}
    assert [*check_deployment(None)] == [
        warning(
            "W002",
            'USERSESSIONS["FE"]["COOKIE_FORMAT"] is "identifier": the cookie is not signed.',
            'Use "token"; "identifier" is meant for tests.',
        )
    ]


@pytest.mark.parametrize("check", [check_cookies, check_deployment])
def test_cookies_are_not_judged_by_settings_that_are_wrong(settings: Any, check: Any) -> None:
    settings.USERSESSIONS = {"FE": {"COOKIE_SAMESITE": "None"}, "BE": {"TIMEOUT": -1}}
    assert [*check(None)] == []


# Caches


def use_cache(settings: Any, path: str, login_types: Any = ("FE",)) -> None:
    """Have login types keep their sessions in the database with this cache in front."""
    settings.CACHES = {"default": {"BACKEND": path}, "sessions": {"BACKEND": path}}
    model = {"BE": "BackendSession", "FE": "FrontendSession"}
    settings.USERSESSIONS = {
        name: {
            "BACKEND": "usersessions.backends.cached_database.CachedDatabaseSessionBackend",
            "OPTIONS": {"model": f"django_usersessions.{model[name]}", "cache": "sessions"},
        }
        for name in login_types
    }


def test_cache_that_each_process_has_for_itself_is_reported(settings: Any) -> None:
    """Whoever logs out in one process would stay logged in in the others."""
    use_cache(settings, "django.core.cache.backends.locmem.LocMemCache", ["BE", "FE"])
    assert [*check_caches(None)] == [
        warning(
            "W003",
            f"USERSESSIONS[\"{name}\"] keeps its sessions in the cache 'sessions', which each "
            "process has for itself (LocMemCache).",
            'Name a cache that all processes share, Redis or Memcached, in OPTIONS["cache"]: '
            "other processes do not see what one writes or ends for 60 seconds.",
        )
        for name in ("BE", "FE")
    ]


@pytest.mark.parametrize("path", ["dummy.DummyCache", "db.DatabaseCache"])
def test_cache_that_all_processes_share_passes(settings: Any, path: str) -> None:
    use_cache(settings, f"django.core.cache.backends.{path}")
    assert [*check_caches(None)] == []


def test_cache_of_a_storage_that_is_wrong_itself_is_not_checked(settings: Any) -> None:
    use_cache(settings, "django.core.cache.backends.locmem.LocMemCache")
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    assert [*check_caches(None)] == []
    assert [found.id for found in check_settings(None)] == ["usersessions.E007"]
