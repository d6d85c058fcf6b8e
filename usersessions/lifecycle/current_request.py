"""The request that the middleware is serving right now, for code that is handed none.

Receivers of ``post_save`` and the IP lock of a new session need it; threads and tasks each see
their own.
"""

from __future__ import annotations

from contextvars import ContextVar

from django.http import HttpRequest

_current_request: ContextVar[HttpRequest | None] = ContextVar(
    "usersessions_current_request", default=None
)


def get_current_request() -> HttpRequest | None:
    """Return the request being served, None outside of one (shell, command, worker)."""
    return _current_request.get()


class serving:  # noqa: N801 - reads as what it does; a generator would cost each request more
    """Make ``request`` the current one inside the ``with`` block."""

    __slots__ = ("_request", "_token")

    def __init__(self, request: HttpRequest) -> None:
        self._request = request

    def __enter__(self) -> None:
        self._token = _current_request.set(self._request)

    def __exit__(self, *exc_info: object) -> None:
        _current_request.reset(self._token)
