"""The request that the middleware is serving right now, for code that is handed none.

Receivers of ``post_save`` and the IP lock of a new session need it; threads and tasks each see
their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from django.http import HttpRequest

_current_request: ContextVar[HttpRequest | None] = ContextVar(
    "usersessions_current_request", default=None
)


def get_current_request() -> HttpRequest | None:
    """Return the request being served, None outside of one (shell, command, worker)."""
    return _current_request.get()


@contextmanager
def serving(request: HttpRequest) -> Iterator[None]:
    """Make ``request`` the current one inside the ``with`` block."""
    token = _current_request.set(request)
    try:
        yield
    finally:
        _current_request.reset(token)
