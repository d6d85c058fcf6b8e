"""The settings: one frozen ``LoginType`` per key of ``USERSESSIONS``, read on first use.

No other module reads ``settings.USERSESSIONS``. Wrong settings become ``SettingError`` objects,
which ``usersessions.checks`` turns into system checks; code that asks for a login type gets one
``ImproperlyConfigured`` instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed

from ..defaults import BUILT_IN
from .login_type import LoginType as LoginType
from .login_type import remote_addr as remote_addr
from .setting_errors import SettingError as SettingError
from .setting_errors import defaults_of, find_errors_between, find_errors_of


class UnknownLoginType(KeyError):
    """No login type has this name."""

    def __init__(self, name: object) -> None:
        super().__init__(name)
        self.name = name

    def __str__(self) -> str:
        known = ", ".join(map(repr, get_login_types()))
        return f"There is no login type {self.name!r}; USERSESSIONS knows: {known}."


class Configuration(NamedTuple):
    """All of USERSESSIONS, and what follows from it."""

    login_types: dict[str, LoginType]
    errors: list[SettingError]
    default: LoginType | None = None
    by_prefixes: tuple[tuple[tuple[str, ...], LoginType], ...] = ()
    adopting: tuple[LoginType, ...] = ()


def get_login_types() -> dict[str, LoginType]:
    """Return the login types by name, in the order of USERSESSIONS.

    :raises ImproperlyConfigured: anything in USERSESSIONS is wrong; names all of it
    """
    return get_configuration().login_types


@lru_cache(maxsize=1)
def get_configuration() -> Configuration:
    """Return all settings of the site; reads them on the first call only.

    :raises ImproperlyConfigured: anything in USERSESSIONS is wrong; names all of it
    """
    configuration = _configuration()
    if configuration.errors:
        raise ImproperlyConfigured(
            "\n".join(f"{error.message} {error.hint}" for error in configuration.errors)
        )
    return configuration


def get_login_type(name: str) -> LoginType:
    """Return one login type.

    :raises UnknownLoginType: a KeyError that lists the names that exist
    """
    try:
        return get_login_types()[name]
    except KeyError:
        raise UnknownLoginType(name) from None


def get_default_login_type() -> LoginType:
    """Return the login type of all paths that no prefix claims: the first without URL_PREFIXES."""
    default = get_configuration().default
    assert default is not None
    return default


def get_engine_login_type() -> LoginType:
    """Return the type of a ``SessionStore`` made without one, as Django's test client makes it.

    That is the owner of ``SESSION_COOKIE_NAME``, else the default type.
    """
    for login_type in get_login_types().values():
        if login_type.cookie_name == settings.SESSION_COOKIE_NAME:
            return login_type
    return get_default_login_type()


def get_adopting_types() -> tuple[LoginType, ...]:
    """Return the login types that adopt the sessions of the site's previous engine.

    The default one comes first if it is among them.
    """
    return get_configuration().adopting


def find_setting_errors() -> list[SettingError]:
    """Return everything that is wrong with USERSESSIONS."""
    return _configuration().errors


@lru_cache(maxsize=1)
def _configuration() -> Configuration:
    given = getattr(settings, "USERSESSIONS", {})
    if not isinstance(given, Mapping):
        error = SettingError(
            "usersessions.E001",
            f"USERSESSIONS must be a dict with a key per login type, not {type(given).__name__}.",
            'For example USERSESSIONS = {"FE": {"TIMEOUT": 6000}}.',
        )
        return Configuration({}, [error])
    errors: list[SettingError] = []
    login_types = {}
    for name in [*given, *(name for name in BUILT_IN if name not in given)]:
        found = list(find_errors_of(name, given.get(name, {})))
        errors += found
        if not found:
            values = {**defaults_of(name), **given.get(name, {})}
            lower = {key.lower(): value for key, value in values.items()}
            login_types[name] = LoginType(name=name, **lower)
    errors += find_errors_between(login_types, complete=not errors)
    if errors:
        return Configuration(login_types, errors)
    default = next(found for found in login_types.values() if not found.url_prefixes)
    for (
        name
    ) in BUILT_IN:  # They adopt from where the default type does, unless they have their own.
        if "ADOPT_FROM" not in given.get(name, {}):
            login_types[name] = replace(login_types[name], adopt_from=default.adopt_from)
    default = login_types[default.name]
    by_prefixes = [
        (tuple(found.url_prefixes), found) for found in login_types.values() if found.url_prefixes
    ]
    adopting = [found for found in login_types.values() if found.adopt_from]
    adopting.sort(key=lambda found: found is not default)
    return Configuration(login_types, errors, default, tuple(by_prefixes), tuple(adopting))


def _reset(*, setting: str, **_: object) -> None:
    if setting == "USERSESSIONS" or setting.startswith("SESSION_COOKIE_"):
        _configuration.cache_clear()
        get_configuration.cache_clear()


setting_changed.connect(_reset, dispatch_uid="usersessions.conf")
