"""What is set for one login type, and what follows from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from django.http import HttpRequest
from django.http.request import split_domain_port
from django.utils.module_loading import import_string

from ..session.data import Serializer
from ..session.expiry import ExpiryRules
from ..session.ip_locker import IpLocker
from ..session.tokens import CookieScope, Keys


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

    # Cached, as each request asks; changed settings make new objects.

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
        """Return the rules for when sessions of this type end.

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
    """Return the address that connected; X-Forwarded-For is not read, as any client can send it."""
    return str(request.META.get("REMOTE_ADDR", ""))


def _imported(path_or_callable: Any) -> Any:
    if isinstance(path_or_callable, str):
        return import_string(path_or_callable)
    return path_or_callable
