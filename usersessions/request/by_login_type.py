"""``request.user_sessions``: the sessions of one request, one for each login type."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from django.http import HttpRequest

from ..conf import LoginType, get_login_type, get_login_types
from ..store import SessionStore


class UserSessions(Mapping[str, SessionStore]):
    """Opens the store of a login type when it is asked for."""

    def __init__(self, request: HttpRequest) -> None:
        self._request = request
        self._opened: dict[str, SessionStore] = {}
        #: Whether the cookie of the engine that the site had before is of no use any more.
        self.has_spent_old_cookie = False

    def __getitem__(self, name: str) -> SessionStore:
        """Return the store of a login type; reads nothing yet.

        :raises UnknownLoginType: a KeyError that lists the names that exist
        """
        try:
            return self._opened[name]
        except KeyError:
            return self.open(get_login_type(name))

    def open(self, login_type: LoginType) -> SessionStore:
        """Return the store of a login type that nobody has asked for yet."""
        store = SessionStore(login_type=login_type, request=self._request)
        return self._opened.setdefault(login_type.name, store)

    def __iter__(self) -> Iterator[str]:
        return iter(get_login_types())

    def __len__(self) -> int:
        return len(get_login_types())

    @property
    def opened(self) -> list[SessionStore]:
        """The stores that this request has asked for so far."""
        return list(self._opened.values())
