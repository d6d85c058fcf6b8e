"""``request.user_sessions``: the sessions of one request, one for each login type."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from django.conf import settings
from django.conf.urls.i18n import is_language_prefix_patterns_used
from django.http import HttpRequest
from django.utils.translation import get_language_from_path

from ..conf import LoginType, get_configuration, get_login_type, get_login_types
from ..store import SessionStore


class UserSessions(Mapping[str, SessionStore]):
    """Opens the store of a login type when it is asked for."""

    def __init__(self, request: HttpRequest) -> None:
        self._request = request
        #: The stores that this request has asked for so far, by login type.
        self.opened: dict[str, SessionStore] = {}
        #: Whether the cookie of the engine that the site had before is of no use any more.
        self.has_spent_old_cookie = False

    def __getitem__(self, name: str) -> SessionStore:
        """Return the store of a login type; reads nothing yet.

        :raises UnknownLoginType: a KeyError that lists the names that exist
        """
        store = self.opened.get(name)
        if store is None:
            store = SessionStore(login_type=get_login_type(name), request=self._request)
            self.opened[name] = store
        return store

    def __iter__(self) -> Iterator[str]:
        return iter(get_login_types())

    def __len__(self) -> int:
        return len(get_login_types())

    def open_serving(self) -> SessionStore:
        """Open the store of the login type that serves the request's path."""
        login_type = get_login_type_for(self._request)
        store = SessionStore(login_type=login_type, request=self._request)
        self.opened[login_type.name] = store
        return store


def get_login_type_for(request: HttpRequest) -> LoginType:
    """Return the first login type one of whose URL_PREFIXES starts the path, else the default.

    The language prefix of ``i18n_patterns`` does not count as part of the path.
    """
    path = request.path_info
    urlconf = getattr(request, "urlconf", None) or settings.ROOT_URLCONF
    if is_language_prefix_patterns_used(urlconf)[0]:
        language = get_language_from_path(path)
        if language:
            path = path[len(language) + 1 :]
    configuration = get_configuration()
    for prefixes, login_type in configuration.by_prefixes:
        if path.startswith(prefixes):
            return login_type
    assert configuration.default is not None
    return configuration.default
