"""The settings: one frozen ``LoginType`` per key of ``USERSESSIONS``, read when first asked for.

No other module reads ``settings.USERSESSIONS``. Wrong settings are described once, here: as
``SettingError`` objects, which become system checks (``usersessions.checks``) and, for code that
asks for a login type, one ``ImproperlyConfigured``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.http import HttpRequest
from django.http.request import split_domain_port
from django.utils.module_loading import import_string

from .defaults import BUILT_IN, DATABASE_BACKEND, SETTINGS
from .session.data import Serializer
from .session.expiry import ExpiryRules
from .session.ip_locker import IpLocker
from .session.tokens import CookieScope, Keys


@dataclass(frozen=True)
class LoginType:
    """Everything that is set for one login type; units and meanings are in ``defaults``."""

    name: str
    backend: str
    options: dict[str, Any]
    serializer: str
    max_data_size: int
    timeout: int
    lifetime: int
    anonymous_lifetime: int
    max_lifetime: int
    max_sessions_per_user: int
    confirm_max_age: int
    max_sessions_reached: str
    permanent_login: str
    gc_probability: float
    lock_ip: int
    lock_ipv6: int
    client_ip: str | Callable[[HttpRequest], str]
    cookie_name: str
    cookie_domain: str | None
    cookie_path: str
    cookie_secure: bool
    cookie_samesite: str
    cookie_format: str
    cookie_allow_scopeless: bool
    url_prefixes: list[str]
    switch_permission: str | Callable[..., bool]
    switch_max_seconds: int
    adopt_from: str | None

    # Cached: requests ask again and again, and settings that change make other objects.

    @cached_property
    def keys(self) -> Keys:
        return Keys(self.name)

    @cached_property
    def ip_locker(self) -> IpLocker:
        return IpLocker(self.lock_ip, self.lock_ipv6)

    @cached_property
    def user_lifetime(self) -> int:
        """Seconds that a user's session lives unused: a longer LIFETIME lifts a non-zero TIMEOUT.

        Source: TYPO3 ``UserSessionManager::create()``.
        """
        return max(self.timeout, self.lifetime) if self.timeout else 0

    @cached_property
    def make_serializer(self) -> Callable[[], Serializer]:
        serializer: Callable[[], Serializer] = _imported(self.serializer)
        return serializer

    def expiry_rules(self, clock: Callable[[], float], lifetime: int | None = None) -> ExpiryRules:
        """Return when sessions of this type end.

        :param clock: returns Unix seconds
        :param lifetime: seconds that replace ``TIMEOUT`` and ``ANONYMOUS_LIFETIME``
        """
        return ExpiryRules(
            lifetime=self.user_lifetime if lifetime is None else lifetime,
            anonymous_lifetime=self.anonymous_lifetime if lifetime is None else lifetime,
            max_lifetime=self.max_lifetime,
            clock=clock,
            switch_max_seconds=self.switch_max_seconds,
        )

    def get_client_ip(self, request: HttpRequest) -> str:
        return str(_imported(self.client_ip)(request))

    def may_switch(self, **users: Any) -> bool:
        return bool(_imported(self.switch_permission)(**users))

    def allows_permanent(self, asked: bool | None) -> bool:
        """Return whether a login is permanent for a person who ``asked`` for it (None: not asked).

        Never without a ``LIFETIME``, as TYPO3's ``FE/permalogin``.
        """
        if not self.lifetime or self.permanent_login == "never":
            return False
        if self.permanent_login == "always":
            return True
        return (self.permanent_login == "opt-out") if asked is None else asked

    def cookie_scope(self, request: HttpRequest) -> CookieScope:
        """Return what ties this type's token to the site that the request is for.

        :raises DisallowedHost: no domain is configured and Django does not allow the host

        Source: TYPO3 ``CookieScopeTrait``.
        """
        return self._scope_at("" if self._scope_domain else request.get_host())

    @cached_property
    def _scope_domain(self) -> str:
        return (self.cookie_domain or "").strip(".").lower()

    @cached_property
    def _scope_at(self) -> Callable[[str], CookieScope]:
        return lru_cache(self._make_scope)

    def _make_scope(self, host: str) -> CookieScope:
        return CookieScope(
            self.keys,
            self._scope_domain or split_domain_port(host)[0],
            host_only=not self._scope_domain,
            path=self.cookie_path,
            allow_scopeless=self.cookie_allow_scopeless,
        )


def remote_addr(request: HttpRequest) -> str:
    """Return the address of whoever connected; X-Forwarded-For is anybody's text and not read."""
    return str(request.META.get("REMOTE_ADDR", ""))


def _imported(path_or_callable: Any) -> Any:
    if isinstance(path_or_callable, str):
        return import_string(path_or_callable)
    return path_or_callable


class UnknownLoginType(KeyError):
    """No login type has this name."""

    def __init__(self, name: object) -> None:
        super().__init__(name)
        self.name = name

    def __str__(self) -> str:
        known = ", ".join(map(repr, get_login_types()))
        return f"There is no login type {self.name!r}; USERSESSIONS knows: {known}."


@dataclass(frozen=True)
class SettingError:
    """One thing wrong with the settings, and what would be right."""

    id: str
    message: str
    hint: str


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
    """Return what the site has set. Costs nothing but the first time.

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
    """Return the login types that take over the sessions of the engine that the site had.

    The default one comes first if it is among them.
    """
    return get_configuration().adopting


def find_setting_errors() -> list[SettingError]:
    """Return all that is wrong with USERSESSIONS, an empty list when nothing is."""
    return _configuration().errors


@lru_cache(maxsize=1)
def _configuration() -> Configuration:
    given = getattr(settings, "USERSESSIONS", {})
    if not isinstance(given, Mapping):
        return Configuration(
            {},
            [
                SettingError(
                    "usersessions.E001",
                    "USERSESSIONS must be a dict with a key per login type, "
                    f"not {type(given).__name__}.",
                    'For example USERSESSIONS = {"FE": {"TIMEOUT": 6000}}.',
                )
            ],
        )
    names = [*given, *(name for name in BUILT_IN if name not in given)]
    errors: list[SettingError] = []
    login_types = {}
    for name in names:
        found = _errors_of(name, given.get(name, {}))
        errors += found
        if not found:
            login_types[name] = _login_type(name, given.get(name, {}))
    errors += _errors_between(login_types, complete=not errors)
    if errors:
        return Configuration(login_types, errors)
    _share_adoption(login_types, given)
    default = _default_of(login_types)
    by_prefixes = [
        (tuple(found.url_prefixes), found) for found in login_types.values() if found.url_prefixes
    ]
    adopting = [found for found in login_types.values() if found.adopt_from]
    adopting.sort(key=lambda found: found is not default)
    return Configuration(login_types, errors, default, tuple(by_prefixes), tuple(adopting))


def _default_of(login_types: dict[str, LoginType]) -> LoginType:
    return next(found for found in login_types.values() if not found.url_prefixes)


def _share_adoption(login_types: dict[str, LoginType], given: Mapping[str, Any]) -> None:
    """Have the built-in types adopt from where the default type does, unless they say otherwise."""
    default = _default_of(login_types)
    for name in BUILT_IN:
        if "ADOPT_FROM" not in given.get(name, {}):
            login_types[name] = replace(login_types[name], adopt_from=default.adopt_from)


def _login_type(name: str, given: Mapping[str, Any]) -> LoginType:
    values = {**_defaults_of(name), **given}
    return LoginType(name=name, **{key.lower(): value for key, value in values.items()})


def _defaults_of(name: str) -> dict[str, Any]:
    return {
        **{key: setting.default for key, setting in SETTINGS.items()},
        **_django_cookie_settings(),
        "COOKIE_NAME": f"{name.lower()}_sessionid",
        **BUILT_IN.get(name, {}),
    }


def _django_cookie_settings() -> dict[str, Any]:
    """Return what the site says of Django's session cookie, which goes for ours as well."""
    return {
        "COOKIE_DOMAIN": settings.SESSION_COOKIE_DOMAIN or None,
        "COOKIE_PATH": settings.SESSION_COOKIE_PATH,
        "COOKIE_SECURE": bool(settings.SESSION_COOKIE_SECURE),
        # Without the attribute browsers take the cookie for "Lax".
        "COOKIE_SAMESITE": settings.SESSION_COOKIE_SAMESITE or "Lax",
    }


def _errors_of(name: object, given: object) -> list[SettingError]:
    if not isinstance(name, str) or not name.isidentifier():
        return [
            SettingError(
                "usersessions.E001",
                f"USERSESSIONS has the key {name!r}, which cannot name a login type.",
                'Use letters, digits and underscores, as in "BE" or "SHOP".',
            )
        ]
    setting_name = f'USERSESSIONS["{name}"]'
    if not isinstance(given, Mapping):
        return [
            SettingError(
                "usersessions.E001",
                f"{setting_name} must be a dict of settings, not {type(given).__name__}.",
                f'For example {{"{name}": {{"TIMEOUT": 6000}}}}.',
            )
        ]
    errors = []
    for key, value in given.items():
        if key not in SETTINGS:
            errors.append(
                SettingError(
                    "usersessions.E002",
                    f'{setting_name}["{key}"] is not a setting of usersessions.',
                    f"Remove it, or use one of: {', '.join(sorted(SETTINGS))}.",
                )
            )
        elif not SETTINGS[key].is_valid(value):
            errors.append(
                SettingError(
                    "usersessions.E003",
                    f'{setting_name}["{key}"] must be {SETTINGS[key].must_be}, not {value!r}.',
                    f"The default is {_defaults_of(name)[key]!r}.",
                )
            )
    if name not in BUILT_IN and "BACKEND" not in given:
        errors.append(
            SettingError(
                "usersessions.E004",
                f'{setting_name}["BACKEND"] is missing.',
                "A login type of your own names its storage, for example "
                f'"BACKEND": "{DATABASE_BACKEND}", "OPTIONS": {{"model": "shop.ShopSession"}}.',
            )
        )
    return errors


def _errors_between(login_types: dict[str, LoginType], *, complete: bool) -> list[SettingError]:
    errors = []
    owners = {settings.CSRF_COOKIE_NAME: "Django's CSRF protection"}
    for name, login_type in login_types.items():
        owner = owners.setdefault(login_type.cookie_name, f'"{name}"')
        if owner != f'"{name}"':
            errors.append(
                SettingError(
                    "usersessions.E005",
                    f'USERSESSIONS["{name}"]["COOKIE_NAME"] is {login_type.cookie_name!r}, '
                    f"which is also the cookie of {owner}.",
                    "Give each login type a cookie name of its own.",
                )
            )
    if complete and all(login_type.url_prefixes for login_type in login_types.values()):
        errors.append(
            SettingError(
                "usersessions.E006",
                "Every login type has URL_PREFIXES, so that none serves the other paths.",
                'Leave URL_PREFIXES out of one login type, usually "FE".',
            )
        )
    return errors


def _reset(*, setting: str, **_: object) -> None:
    if setting == "USERSESSIONS" or setting.startswith("SESSION_COOKIE_"):
        _configuration.cache_clear()
        get_configuration.cache_clear()


setting_changed.connect(_reset, dispatch_uid="usersessions.conf")
