"""What can be wrong with USERSESSIONS, and how to correct it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from django.conf import settings

from ..defaults import BUILT_IN, DATABASE_BACKEND, SETTINGS
from .login_type import LoginType


@dataclass(frozen=True)
class SettingError:
    """One mistake in the settings; ``hint`` says how to correct it."""

    id: str
    message: str
    hint: str


def defaults_of(name: str) -> dict[str, Any]:
    """Return the default of each setting for a login type."""
    return {
        **{key: setting.default for key, setting in SETTINGS.items()},
        **_django_cookie_settings(),
        "COOKIE_NAME": f"{name.lower()}_sessionid",
        **BUILT_IN.get(name, {}),
    }


def _django_cookie_settings() -> dict[str, Any]:
    """Return Django's settings for its session cookie, which are the defaults for ours."""
    return {
        "COOKIE_DOMAIN": settings.SESSION_COOKIE_DOMAIN or None,
        "COOKIE_PATH": settings.SESSION_COOKIE_PATH,
        "COOKIE_SECURE": bool(settings.SESSION_COOKIE_SECURE),
        # Browsers treat a cookie without the attribute as "Lax".
        "COOKIE_SAMESITE": settings.SESSION_COOKIE_SAMESITE or "Lax",
    }


def find_errors_of(name: object, given: object) -> Iterator[SettingError]:
    """Yield what is wrong with the settings of one login type."""
    if not isinstance(name, str) or not name.isidentifier():
        yield SettingError(
            "usersessions.E001",
            f"USERSESSIONS has the key {name!r}, which cannot name a login type.",
            'Use letters, digits and underscores, as in "BE" or "SHOP".',
        )
        return
    setting_name = f'USERSESSIONS["{name}"]'
    if not isinstance(given, Mapping):
        yield SettingError(
            "usersessions.E001",
            f"{setting_name} must be a dict of settings, not {type(given).__name__}.",
            f'For example {{"{name}": {{"TIMEOUT": 6000}}}}.',
        )
        return
    for key, value in given.items():
        if key not in SETTINGS:
            yield SettingError(
                "usersessions.E002",
                f'{setting_name}["{key}"] is not a setting of usersessions.',
                f"Remove it, or use one of: {', '.join(sorted(SETTINGS))}.",
            )
        elif not SETTINGS[key].is_valid(value):
            yield SettingError(
                "usersessions.E003",
                f'{setting_name}["{key}"] must be {SETTINGS[key].must_be}, not {value!r}.',
                f"The default is {defaults_of(name)[key]!r}.",
            )
    if name not in BUILT_IN and "BACKEND" not in given:
        yield SettingError(
            "usersessions.E004",
            f'{setting_name}["BACKEND"] is missing.',
            "A login type of your own names its storage, for example "
            f'"BACKEND": "{DATABASE_BACKEND}", "OPTIONS": {{"model": "shop.ShopSession"}}.',
        )


def find_errors_between(
    login_types: Mapping[str, LoginType], *, complete: bool
) -> Iterator[SettingError]:
    """Yield where login types contradict each other.

    :param complete: whether these are all login types, none being wrong in itself
    """
    owners = {settings.CSRF_COOKIE_NAME: "Django's CSRF protection"}
    for name, login_type in login_types.items():
        owner = owners.setdefault(login_type.cookie_name, f'"{name}"')
        if owner != f'"{name}"':
            yield SettingError(
                "usersessions.E005",
                f'USERSESSIONS["{name}"]["COOKIE_NAME"] is {login_type.cookie_name!r}, '
                f"which is also the cookie of {owner}.",
                "Give each login type a cookie name of its own.",
            )
    if complete and all(login_type.url_prefixes for login_type in login_types.values()):
        yield SettingError(
            "usersessions.E006",
            "Every login type has URL_PREFIXES, so none serves the other paths.",
            'Leave URL_PREFIXES out of one login type, usually "FE".',
        )
