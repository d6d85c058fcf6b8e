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


def _whole(lowest: int, highest: int | None = None) -> Callable[[Any], bool]:
    return lambda value: (
        isinstance(value, int)
        and not isinstance(value, bool)
        and value >= lowest
        and (highest is None or value <= highest)
    )


def _one_of(*choices: str) -> Callable[[Any], bool]:
    return lambda value: value in choices


def _matches(pattern: str) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and re.fullmatch(pattern, value, re.A) is not None


# Name and token together stay below the 4096 bytes that browsers accept (OWASP ASVS 5.0, 3.3.5).
# Browsers ignore a path longer than 1024 bytes (RFC 6265bis, 5.6).
_cookie_name = _matches(r"[\w!#$%&'*+.^`|~-]{1,256}")
_cookie_domain = _matches(r"\.?[\w.-]{1,253}")
_cookie_path = _matches(r"/[ -:<-~]{0,1023}")


def _text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _imported(value: Any) -> Any:
    try:
        return import_string(value) if isinstance(value, str) else value
    except (ImportError, ValueError):  # ValueError: a path such as "."
        return None


def _callable(value: Any) -> bool:
    return callable(_imported(value))


def _class_with(*methods: str) -> Callable[[Any], bool]:
    return lambda value: (
        isinstance(value, str)
        and isinstance(_imported(value), type)
        and not isabstract(_imported(value))
        and all(hasattr(_imported(value), method) for method in methods)
    )


def _prefixes(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(
        isinstance(prefix, str) and prefix.startswith("/") for prefix in value
    )


_SECONDS = "an integer of at least 0 (seconds)"
_CALLABLE = "a callable or the dotted path of one"

SETTINGS: dict[str, Setting] = {
    # The storage.
    "BACKEND": Setting(
        None,
        _class_with("validate_configuration", "remove_by_user"),
        "the dotted path of a SessionBackend class",
    ),
    "OPTIONS": Setting({}, lambda value: isinstance(value, dict), "a dict for the backend"),
    "SERIALIZER": Setting(
        "django.core.signing.JSONSerializer",
        _class_with("dumps", "loads"),
        "the dotted path of a class with dumps() and loads()",
    ),
    "MAX_DATA_SIZE": Setting(
        1_048_576, _whole(0), "an integer of at least 0 (bytes; 0 means no limit)"
    ),
    # Lifetimes, in seconds.
    "TIMEOUT": Setting(6000, _whole(0), _SECONDS),  # user sessions; 0 logs out at once
    "LIFETIME": Setting(0, _whole(0), _SECONDS),  # permanent cookies; 0: until the browser closes
    "ANONYMOUS_LIFETIME": Setting(86400, _whole(0), _SECONDS),
    "MAX_LIFETIME": Setting(0, _whole(0), _SECONDS),  # from login, absolute; 0: none
    "MAX_SESSIONS_PER_USER": Setting(0, _whole(0), "an integer of at least 0 (0 means any number)"),
    "CONFIRM_MAX_AGE": Setting(300, _whole(0), _SECONDS),  # of a recent login; 0: no confirmation
    "MAX_SESSIONS_REACHED": Setting(
        "end-oldest",
        _one_of("end-oldest", "refuse-login"),
        'one of "end-oldest", "refuse-login"',
    ),
    "PERMANENT_LOGIN": Setting(
        "opt-in",
        _one_of("never", "opt-in", "opt-out", "always"),
        'one of "never", "opt-in", "opt-out", "always"',
    ),
    "GC_PROBABILITY": Setting(
        1,
        lambda value: _whole(0, 100)(value) or (isinstance(value, float) and 0 <= value <= 100),
        "a number from 0 to 100 (percent)",
    ),
    # The addresses that may use a session.
    "LOCK_IP": Setting(0, _whole(0, 4), "an integer from 0 to 4"),  # IPv4 parts
    "LOCK_IPV6": Setting(0, _whole(0, 8), "an integer from 0 to 8"),  # IPv6 blocks
    "CLIENT_IP": Setting("usersessions.conf.remote_addr", _callable, _CALLABLE),
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
    "COOKIE_SECURE": Setting(
        False,
        lambda value: isinstance(value, bool),
        "True (always) or False (when the request is secure)",
    ),
    "COOKIE_SAMESITE": Setting(
        "Lax", _one_of("Strict", "Lax", "None"), 'one of "Strict", "Lax", "None"'
    ),
    "COOKIE_FORMAT": Setting(
        "token", _one_of("token", "identifier"), 'one of "token", "identifier"'
    ),
    "COOKIE_ALLOW_SCOPELESS": Setting(
        False, lambda value: isinstance(value, bool), "True or False"
    ),
    "URL_PREFIXES": Setting([], _prefixes, 'a list of path prefixes that start with "/"'),
    # The previous engine, whose sessions are adopted.
    "ADOPT_FROM": Setting(
        None,
        lambda value: value is None or _text(value),
        "None or the dotted path of the SESSION_ENGINE that the site had",
    ),
    # Switching user: who may, and for how long.
    "SWITCH_PERMISSION": Setting(
        "usersessions.auth.permissions.superusers_may_switch", _callable, _CALLABLE
    ),
    "SWITCH_MAX_SECONDS": Setting(0, _whole(0), _SECONDS),  # from the switch; 0: no limit
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
