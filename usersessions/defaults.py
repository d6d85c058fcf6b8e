"""The settings of a login type: every default, with its unit and the values allowed."""

from __future__ import annotations

import re
from collections.abc import Callable
from inspect import isabstract
from typing import Any, NamedTuple

from django.utils.module_loading import import_string


class Setting(NamedTuple):
    """One setting: its default, which values are valid, and what a message says they must be."""

    default: Any
    is_valid: Callable[[Any], bool]
    must_be: str


def _whole(default: int, highest: int | None = None, unit: str = "") -> Setting:
    """Return a setting that is an integer of at least 0."""
    range_ = "of at least 0" if highest is None else f"from 0 to {highest}"
    return Setting(
        default,
        lambda value: _is_whole(value) and (highest is None or value <= highest),
        f"an integer {range_}{unit}",
    )


def _seconds(default: int) -> Setting:
    return _whole(default, unit=" (seconds)")


def _one_of(default: str, *choices: str) -> Setting:
    quoted = ", ".join(f'"{choice}"' for choice in choices)
    return Setting(default, lambda value: value in choices, f"one of {quoted}")


def _bool(must_be: str) -> Setting:
    return Setting(False, lambda value: isinstance(value, bool), must_be)


def _callable(default: str) -> Setting:
    return Setting(
        default, lambda value: callable(_imported(value)), "a callable or the dotted path of one"
    )


def _class_with(default: str | None, *methods: str, must_be: str) -> Setting:
    def is_valid(value: Any) -> bool:
        found = _imported(value) if isinstance(value, str) else None
        return (
            isinstance(found, type)
            and not isabstract(found)
            and all(hasattr(found, method) for method in methods)
        )

    return Setting(default, is_valid, must_be)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _imported(value: Any) -> Any:
    try:
        return import_string(value) if isinstance(value, str) else value
    except (ImportError, ValueError):  # ValueError: a path such as "."
        return None


def _matches(pattern: str) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and re.fullmatch(pattern, value, re.A) is not None


# Name and token together stay below the 4096 bytes that browsers accept (OWASP ASVS 5.0, 3.3.5).
# Browsers ignore a path longer than 1024 bytes (RFC 6265bis, 5.6).
_cookie_name = _matches(r"[\w!#$%&'*+.^`|~-]{1,256}")
_cookie_domain = _matches(r"\.?[\w.-]{1,253}")
_cookie_path = _matches(r"/[ -:<-~]{0,1023}")


def _prefixes(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(
        isinstance(prefix, str) and prefix.startswith("/") for prefix in value
    )


SETTINGS: dict[str, Setting] = {
    # The storage.
    "BACKEND": _class_with(
        None,
        "validate_configuration",
        "remove_by_user",
        must_be="the dotted path of a SessionBackend class",
    ),
    "OPTIONS": Setting({}, lambda value: isinstance(value, dict), "a dict for the backend"),
    "SERIALIZER": _class_with(
        "django.core.signing.JSONSerializer",
        "dumps",
        "loads",
        must_be="the dotted path of a class with dumps() and loads()",
    ),
    "MAX_DATA_SIZE": _whole(1_048_576, unit=" (bytes; 0 means no limit)"),
    # Lifetimes, in seconds.
    "TIMEOUT": _seconds(6000),  # user sessions; 0 logs out at once
    "LIFETIME": _seconds(0),  # permanent cookies; 0: until the browser closes
    "ANONYMOUS_LIFETIME": _seconds(86400),
    "MAX_LIFETIME": _seconds(0),  # from login, absolute; 0: none
    "MAX_SESSIONS_PER_USER": _whole(0, unit=" (0 means any number)"),
    "CONFIRM_MAX_AGE": _seconds(300),  # of a recent login; 0: no confirmation
    "MAX_SESSIONS_REACHED": _one_of("end-oldest", "end-oldest", "refuse-login"),
    "PERMANENT_LOGIN": _one_of("opt-in", "never", "opt-in", "opt-out", "always"),
    "GC_PROBABILITY": Setting(
        1,
        lambda value: (_is_whole(value) or isinstance(value, float)) and 0 <= value <= 100,
        "a number from 0 to 100 (percent)",
    ),
    # The addresses that may use a session.
    "LOCK_IP": _whole(0, 4),  # IPv4 parts
    "LOCK_IPV6": _whole(0, 8),  # IPv6 blocks
    "CLIENT_IP": _callable("usersessions.conf.remote_addr"),
    # The cookie, and which paths it serves.
    "COOKIE_NAME": Setting(
        None, _cookie_name, "a cookie's name (up to 256 letters and digits, no spaces)"
    ),
    "COOKIE_DOMAIN": Setting(
        None,
        lambda value: value is None or _cookie_domain(value),
        "None (host-only) or a domain in ASCII",
    ),
    "COOKIE_PATH": Setting(
        "/",
        _cookie_path,
        'a path that starts with "/", of up to 1024 ASCII characters without ";"',
    ),
    "COOKIE_SECURE": _bool("True (always) or False (when the request is secure)"),
    "COOKIE_SAMESITE": _one_of("Lax", "Strict", "Lax", "None"),
    "COOKIE_FORMAT": _one_of("token", "token", "identifier"),
    "COOKIE_ALLOW_SCOPELESS": _bool("True or False"),
    "URL_PREFIXES": Setting([], _prefixes, 'a list of path prefixes that start with "/"'),
    # The previous engine, whose sessions are adopted.
    "ADOPT_FROM": Setting(
        None,
        lambda value: value is None or (isinstance(value, str) and bool(value)),
        "None or the dotted path of the site's previous SESSION_ENGINE",
    ),
    # Switching user: who may, and for how long.
    "SWITCH_PERMISSION": _callable("usersessions.auth.permissions.superusers_may_switch"),
    "SWITCH_MAX_SECONDS": _seconds(0),  # from the switch; 0: no limit
}

DATABASE_BACKEND = "usersessions.backends.database.DatabaseSessionBackend"

#: The login types of every site, with the defaults that differ from those above.
BUILT_IN: dict[str, dict[str, Any]] = {
    "BE": {
        "BACKEND": DATABASE_BACKEND,
        "OPTIONS": {"model": "django_usersessions.BackendSession"},
        "TIMEOUT": 28800,
        "PERMANENT_LOGIN": "never",
        "COOKIE_SAMESITE": "Strict",
        "URL_PREFIXES": ["/admin/"],
    },
    "FE": {
        "BACKEND": DATABASE_BACKEND,
        "OPTIONS": {"model": "django_usersessions.FrontendSession"},
    },
}
