"""System checks: what is wrong with a site's sessions, and how to correct it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.core import checks
from django.core.cache.backends.locmem import LocMemCache
from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.utils.module_loading import import_string

from .adoption import get_old_engine
from .backends.base import SessionBackend
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

#: Cookie name prefixes that demand ``Secure``, in any case: RFC 6265bis has the first two, the
#: draft after it (draft-ietf-httpbis-layered-cookies) "__Http-" and "__Host-Http-".
SECURE_PREFIXES = ("__host-", "__secure-", "__http-")

Messages = Iterator[checks.CheckMessage]


def register() -> None:
    checks.register(check_settings)
    checks.register(check_middleware)
    checks.register(check_user_model)
    checks.register(check_caches)
    checks.register(check_databases)
    checks.register(check_adoption)
    checks.register(check_cookies, checks.Tags.security)
    checks.register(check_deployment, checks.Tags.security, deploy=True)


def check_settings(app_configs: Any, **kwargs: Any) -> Messages:
    """E001 to E008: USERSESSIONS and the storages that it names."""
    for error in find_setting_errors():
        yield checks.Error(error.message, hint=error.hint, id=error.id)
    tables: dict[tuple[str, str], str] = {}
    for name, backend in _backends():
        if isinstance(backend, ImproperlyConfigured):
            yield _error("E007", str(backend), "Correct the backend's OPTIONS.")
        elif isinstance(backend, DatabaseSessionBackend):
            table = (backend.database, backend.model._meta.db_table)
            owner = tables.setdefault(table, name)
            if owner != name:
                yield _error(
                    "E008",
                    f'USERSESSIONS["{name}"] keeps its sessions in the table {table[1]!r}, '
                    f'which "{owner}" uses already.',
                    "Give each login type a table of its own, from AbstractUserSession.",
                )


def check_middleware(app_configs: Any, **kwargs: Any) -> Messages:
    """E010 to E012: MIDDLEWARE and SESSION_ENGINE."""
    if not any(_is_ours(path) for path in settings.MIDDLEWARE):
        yield _error(
            "E010",
            f"MIDDLEWARE lacks {MIDDLEWARE!r}.",
            f"Put it in the place of {DJANGO_MIDDLEWARE!r}.",
        )
    elif DJANGO_MIDDLEWARE in settings.MIDDLEWARE:
        yield _error(
            "E011",
            f"MIDDLEWARE has both {DJANGO_MIDDLEWARE!r} and {MIDDLEWARE!r}.",
            f"Remove {DJANGO_MIDDLEWARE!r}.",
        )
    if settings.SESSION_ENGINE != ENGINE:
        yield _error(
            "E012",
            f'SESSION_ENGINE must be "{ENGINE}", not {settings.SESSION_ENGINE!r}.',
            f'Set SESSION_ENGINE = "{ENGINE}": Django\'s test client and clearsessions use it.',
        )


def _is_ours(path: str) -> bool:
    try:
        found = import_string(path)
    except ImportError:  # Django reports that itself when it starts
        return False
    return isinstance(found, type) and issubclass(found, import_string(MIDDLEWARE))


def check_user_model(app_configs: Any, **kwargs: Any) -> Messages:
    """E013: users whose keys do not fit into the column ``ses_userid`` of a login type's table."""
    for name, backend in _tables():
        fault = backend.user_column.find_fault()
        permanent = " and ses_permanent as FrontendSession" if backend.supports_permanent else ""
        if fault is not None:
            yield _error(
                "E013",
                f"The primary key of AUTH_USER_MODEL ({settings.AUTH_USER_MODEL}) is a "
                f"{type(user_key_field()).__name__}, which {backend.model._meta.label}.ses_userid "
                f"cannot hold: it {fault}.",
                "Write a model that inherits AbstractUserSession and has "
                f"ses_userid = models.{fitting_column()}{permanent}, and name it in "
                f'USERSESSIONS["{name}"]["OPTIONS"]["model"].',
            )


def check_databases(app_configs: Any, **kwargs: Any) -> Messages:
    """E016: MySQL and MariaDB that do not count the rows which an UPDATE leaves unchanged."""
    for alias in dict.fromkeys(backend.database for _, backend in _tables()):
        connection = connections[alias]
        if connection.vendor == "mysql":
            flags = connection.get_connection_params().get("client_flag", FOUND_ROWS)
            if not flags & FOUND_ROWS:
                yield _error(
                    "E016",
                    f'DATABASES["{alias}"]["OPTIONS"]["client_flag"] lacks CLIENT.FOUND_ROWS: a '
                    "session that a request stores unchanged would seem to have ended.",
                    "Add it with |, or remove client_flag: Django sets it by default.",
                )


def check_caches(app_configs: Any, **kwargs: Any) -> Messages:
    """W003: cached sessions where each process has a cache of its own."""
    for name, backend in _backends():
        if isinstance(backend, CachedDatabaseSessionBackend) and isinstance(
            backend.cache, LocMemCache
        ):
            yield _warning(
                "W003",
                f'USERSESSIONS["{name}"] keeps its sessions in the cache {backend.cache_alias!r}, '
                "which each process has for itself (LocMemCache).",
                "Name a cache that all processes share, Redis or Memcached, in "
                'OPTIONS["cache"]: other processes do not see what one writes or ends for '
                f"{backend.cache_timeout} seconds.",
            )


def check_adoption(app_configs: Any, **kwargs: Any) -> Messages:
    """E009: ADOPT_FROM names one engine, whose sessions can be adopted."""
    adopting = [found for found in _sound_login_types() if found.adopt_from]
    paths = dict.fromkeys(str(login_type.adopt_from) for login_type in adopting)
    problems = ["The login types name different engines."] if len(paths) > 1 else []
    for path in paths:
        try:
            get_old_engine(path)
        except ImproperlyConfigured as exc:
            problems.append(str(exc))
    names = ", ".join(login_type.name for login_type in adopting)
    for problem in problems:
        yield _error(
            "E009",
            f"ADOPT_FROM of {names}: {problem}",
            "Name the site's previous SESSION_ENGINE, for example "
            '"django.contrib.sessions.backends.db".',
        )


def check_cookies(app_configs: Any, **kwargs: Any) -> Messages:
    """E014 and E015: cookies that every browser would refuse."""
    for login_type in _sound_login_types():
        setting = f'USERSESSIONS["{login_type.name}"]'
        if login_type.cookie_samesite == "None" and not login_type.cookie_secure:
            yield _error(
                "E014",
                f'{setting}["COOKIE_SAMESITE"] is "None" without COOKIE_SECURE.',
                "Set COOKIE_SECURE to True: browsers refuse the cookie otherwise.",
            )
        wrong = _broken_prefix_rule(login_type)
        if wrong:
            yield _error(
                "E015",
                f'{setting}["COOKIE_NAME"] is {login_type.cookie_name!r}, but {wrong}.',
                "Follow the prefix's rule, or remove the prefix, for example where runserver "
                "serves the site without TLS: browsers refuse the cookie otherwise, and users "
                "cannot log in.",
            )


def _broken_prefix_rule(login_type: LoginType) -> str:
    name = login_type.cookie_name.lower()
    if name.startswith(SECURE_PREFIXES) and not login_type.cookie_secure:
        return "COOKIE_SECURE is not True"
    if name.startswith("__host-") and login_type.cookie_domain:
        return "COOKIE_DOMAIN is set"
    if name.startswith("__host-") and login_type.cookie_path != "/":
        return 'COOKIE_PATH is not "/"'
    return ""


def check_deployment(app_configs: Any, **kwargs: Any) -> Messages:
    """W001 and W002, for our cookies what Django's security.W010 to W015 are for its own.

    ``HttpOnly`` needs no check: our cookies always have it.
    """
    for login_type in _sound_login_types():
        setting = f'USERSESSIONS["{login_type.name}"]'
        if not login_type.cookie_secure:
            yield _warning(
                "W001",
                f'{setting}["COOKIE_SECURE"] is not True.',
                "Set it or SESSION_COOKIE_SECURE to True, so that the session cookie never travels "
                'unencrypted; then give COOKIE_NAME the prefix "__Host-", so that no other host '
                "can set the cookie (OWASP ASVS 5.0, 3.3.1 and 3.3.3).",
            )
        if login_type.cookie_format == "identifier":
            yield _warning(
                "W002",
                f'{setting}["COOKIE_FORMAT"] is "identifier": the cookie is not signed.',
                'Use "token"; "identifier" is meant for tests.',
            )


def _error(number: str, message: str, hint: str) -> checks.Error:
    return checks.Error(message, hint=hint, id=f"usersessions.{number}")


def _warning(number: str, message: str, hint: str) -> checks.Warning:
    return checks.Warning(message, hint=hint, id=f"usersessions.{number}")


def _sound_login_types() -> list[LoginType]:
    """Return the login types; none while check_settings() reports errors in them."""
    return [] if find_setting_errors() else list(get_login_types().values())


def _backends() -> Iterator[tuple[str, SessionBackend | ImproperlyConfigured]]:
    """Yield the name and storage of each login type, or what E007 says of the storage."""
    for login_type in _sound_login_types():
        try:
            yield login_type.name, SessionManager.get_session_backend(login_type.name)
        except ImproperlyConfigured as exc:
            yield login_type.name, exc


def _tables() -> Iterator[tuple[str, DatabaseSessionBackend]]:
    for name, backend in _backends():
        if isinstance(backend, DatabaseSessionBackend):
            yield name, backend
