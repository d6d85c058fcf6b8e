"""System checks: what is wrong with a site's sessions, and what would be right."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core import checks
from django.core.cache.backends.locmem import LocMemCache
from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.utils.module_loading import import_string

from .adoption import get_old_engine
from .backends.cached_database import CachedDatabaseSessionBackend
from .backends.database.backend import DatabaseSessionBackend
from .backends.database.user_column import fitting_column, user_key_field
from .backends.session_manager import SessionManager
from .conf import LoginType, find_setting_errors, get_login_types

ENGINE = "usersessions.store"
MIDDLEWARE = "usersessions.middleware.UserSessionMiddleware"
DJANGO_MIDDLEWARE = "django.contrib.sessions.middleware.SessionMiddleware"

#: MySQL's ``CLIENT.FOUND_ROWS``.
FOUND_ROWS = 2


def register() -> None:
    checks.register(check_settings)
    checks.register(check_middleware)
    checks.register(check_user_model)
    checks.register(check_caches)
    checks.register(check_databases)
    checks.register(check_adoption)
    checks.register(check_cookies, checks.Tags.security)
    checks.register(check_deployment, checks.Tags.security, deploy=True)


def check_settings(app_configs: Any, **kwargs: Any) -> list[checks.CheckMessage]:
    """E001 to E008: USERSESSIONS and the storages that it names."""
    errors: list[checks.CheckMessage] = [
        checks.Error(error.message, hint=error.hint, id=error.id) for error in find_setting_errors()
    ]
    if errors:
        return errors
    tables: dict[tuple[str, str], str] = {}
    for name in get_login_types():
        try:
            backend = SessionManager.get_session_backend(name)
        except ImproperlyConfigured as exc:
            errors.append(
                checks.Error(
                    str(exc),
                    hint="Correct the backend's OPTIONS.",
                    id="usersessions.E007",
                )
            )
            continue
        if isinstance(backend, DatabaseSessionBackend):
            table = (backend.database, backend.model._meta.db_table)
            owner = tables.setdefault(table, name)
            if owner != name:
                errors.append(
                    checks.Error(
                        f'USERSESSIONS["{name}"] keeps its sessions in the table {table[1]!r}, '
                        f'which "{owner}" uses already.',
                        hint="Give each login type a table of its own, from AbstractUserSession.",
                        id="usersessions.E008",
                    )
                )
    return errors


def check_middleware(app_configs: Any, **kwargs: Any) -> list[checks.CheckMessage]:
    """E010 to E012: MIDDLEWARE and SESSION_ENGINE."""
    errors: list[checks.CheckMessage] = []
    if not any(_is_ours(path) for path in settings.MIDDLEWARE):
        errors.append(
            checks.Error(
                f"MIDDLEWARE lacks {MIDDLEWARE!r}.",
                hint=f"Put it in the place of {DJANGO_MIDDLEWARE!r}.",
                id="usersessions.E010",
            )
        )
    elif DJANGO_MIDDLEWARE in settings.MIDDLEWARE:
        errors.append(
            checks.Error(
                f"MIDDLEWARE has both {DJANGO_MIDDLEWARE!r} and {MIDDLEWARE!r}.",
                hint=f"Remove {DJANGO_MIDDLEWARE!r}.",
                id="usersessions.E011",
            )
        )
    if settings.SESSION_ENGINE != ENGINE:
        errors.append(
            checks.Error(
                f'SESSION_ENGINE must be "{ENGINE}", not {settings.SESSION_ENGINE!r}.',
                hint=f'Set SESSION_ENGINE = "{ENGINE}": Django\'s test client and clearsessions '
                "go by it.",
                id="usersessions.E012",
            )
        )
    return errors


def _is_ours(path: str) -> bool:
    try:
        found = import_string(path)
    except ImportError:  # Django says so itself when it starts
        return False
    return isinstance(found, type) and issubclass(found, import_string(MIDDLEWARE))


def check_user_model(app_configs: Any, **kwargs: Any) -> list[checks.CheckMessage]:
    """E013: users whose keys do not fit into the column ``ses_userid`` of a login type's table."""
    key = user_key_field()
    errors: list[checks.CheckMessage] = []
    for name, backend in _database_backends().items():
        fault = backend.user_column.find_fault()
        permanent = " and ses_permanent as FrontendSession" if backend.supports_permanent else ""
        if fault is not None:
            errors.append(
                checks.Error(
                    f"The primary key of AUTH_USER_MODEL ({settings.AUTH_USER_MODEL}) is a "
                    f"{type(key).__name__}, which {backend.model._meta.label}.ses_userid cannot "
                    f"hold: it {fault}.",
                    hint="Write a model that inherits AbstractUserSession and has "
                    f"ses_userid = models.{fitting_column()}{permanent}, and name it in "
                    f'USERSESSIONS["{name}"]["OPTIONS"]["model"].',
                    id="usersessions.E013",
                )
            )
    return errors


def check_databases(app_configs: Any, **kwargs: Any) -> list[checks.CheckMessage]:
    """E016: MySQL and MariaDB that do not count the rows which an UPDATE leaves as they are."""
    aliases = dict.fromkeys(backend.database for backend in _database_backends().values())
    return [
        checks.Error(
            f'DATABASES["{alias}"]["OPTIONS"]["client_flag"] lacks CLIENT.FOUND_ROWS: a session '
            "that a request stores as it was would seem to have ended.",
            hint="Add it with |, or drop client_flag: Django sets it by default.",
            id="usersessions.E016",
        )
        for alias in aliases
        if connections[alias].vendor == "mysql"
        and not connections[alias].get_connection_params().get("client_flag", FOUND_ROWS)
        & FOUND_ROWS
    ]


def check_caches(app_configs: Any, **kwargs: Any) -> list[checks.CheckMessage]:
    """W003: sessions in front of which each process has a cache of its own."""
    warnings: list[checks.CheckMessage] = []
    for login_type in _sound_login_types():
        try:
            backend = SessionManager.get_session_backend(login_type.name)
        except ImproperlyConfigured:  # E007
            continue
        if isinstance(backend, CachedDatabaseSessionBackend) and isinstance(
            backend.cache, LocMemCache
        ):
            warnings.append(
                checks.Warning(
                    f'USERSESSIONS["{login_type.name}"] keeps its sessions in the cache '
                    f"{backend.cache_alias!r}, which each process has for itself (LocMemCache).",
                    hint="Name a cache that all processes share, Redis or Memcached, in "
                    'OPTIONS["cache"]: the others do not see what one writes or ends for '
                    f"{backend.cache_timeout} seconds.",
                    id="usersessions.W003",
                )
            )
    return warnings


def check_adoption(app_configs: Any, **kwargs: Any) -> list[checks.CheckMessage]:
    """E009: ADOPT_FROM names one engine, whose sessions can be taken over."""
    adopting = [found for found in _sound_login_types() if found.adopt_from]
    problems = []
    if len({login_type.adopt_from for login_type in adopting}) > 1:
        problems.append("The login types name different engines.")
    for path in dict.fromkeys(str(login_type.adopt_from) for login_type in adopting):
        try:
            get_old_engine(path)
        except ImproperlyConfigured as exc:
            problems.append(str(exc))
    return [
        checks.Error(
            f"ADOPT_FROM of {', '.join(login_type.name for login_type in adopting)}: {problem}",
            hint="Name the SESSION_ENGINE that the site had, for example "
            '"django.contrib.sessions.backends.db".',
            id="usersessions.E009",
        )
        for problem in problems
    ]


def check_cookies(app_configs: Any, **kwargs: Any) -> list[checks.CheckMessage]:
    """E014 and E015: cookies that every browser would refuse."""
    errors: list[checks.CheckMessage] = []
    for login_type in _sound_login_types():
        setting = f'USERSESSIONS["{login_type.name}"]'
        if login_type.cookie_samesite == "None" and not login_type.cookie_secure:
            errors.append(
                checks.Error(
                    f'{setting}["COOKIE_SAMESITE"] is "None" without COOKIE_SECURE.',
                    hint="Set COOKIE_SECURE to True: browsers refuse the cookie otherwise.",
                    id="usersessions.E014",
                )
            )
        wrong = _broken_prefix_rule(login_type)
        if wrong:
            errors.append(
                checks.Error(
                    f'{setting}["COOKIE_NAME"] is {login_type.cookie_name!r}, but {wrong}.',
                    hint="Follow the prefix's rule, or drop the prefix, for example where "
                    "runserver serves the site without TLS: browsers refuse the cookie otherwise, "
                    "and nobody can log in.",
                    id="usersessions.E015",
                )
            )
    return errors


#: Prefixes that demand ``Secure``, in any spelling: RFC 6265bis has the first two, the draft that
#: follows it (draft-ietf-httpbis-layered-cookies) "__Http-" and "__Host-Http-".
SECURE_PREFIXES = ("__host-", "__secure-", "__http-")


def _broken_prefix_rule(login_type: LoginType) -> str:
    name = login_type.cookie_name.lower()
    if name.startswith(SECURE_PREFIXES) and not login_type.cookie_secure:
        return "COOKIE_SECURE is not True"
    if name.startswith("__host-") and login_type.cookie_domain:
        return "COOKIE_DOMAIN is set"
    if name.startswith("__host-") and login_type.cookie_path != "/":
        return 'COOKIE_PATH is not "/"'
    return ""


def check_deployment(app_configs: Any, **kwargs: Any) -> list[checks.CheckMessage]:
    """W001 and W002: what Django's security.W010 to W015 would say if they saw our cookies.

    There is nothing to say of ``HttpOnly``: our cookies always have it.
    """
    warnings: list[checks.CheckMessage] = []
    for login_type in _sound_login_types():
        setting = f'USERSESSIONS["{login_type.name}"]'
        if not login_type.cookie_secure:
            warnings.append(
                checks.Warning(
                    f'{setting}["COOKIE_SECURE"] is not True.',
                    hint="Set it or SESSION_COOKIE_SECURE to True, so that the session cookie "
                    'never travels unencrypted; then give COOKIE_NAME the prefix "__Host-", so '
                    "that no other host can set the cookie (OWASP ASVS 5.0, 3.3.1 and 3.3.3).",
                    id="usersessions.W001",
                )
            )
        if login_type.cookie_format == "identifier":
            warnings.append(
                checks.Warning(
                    f'{setting}["COOKIE_FORMAT"] is "identifier": the cookie is not signed.',
                    hint='Use "token"; "identifier" is meant for tests.',
                    id="usersessions.W002",
                )
            )
    return warnings


def _sound_login_types() -> list[LoginType]:
    """Return the login types, none while check_settings() reports errors about them."""
    return [] if find_setting_errors() else list(get_login_types().values())


def _database_backends() -> dict[str, DatabaseSessionBackend]:
    """Return the storages that are tables, by login type, but for those that E007 is about."""
    found = {}
    for login_type in _sound_login_types():
        try:
            backend = SessionManager.get_session_backend(login_type.name)
        except ImproperlyConfigured:
            continue
        if isinstance(backend, DatabaseSessionBackend):
            found[login_type.name] = backend
    return found
