"""The request that the middleware is serving right now, for code that is handed none.

Receivers of ``post_save`` and sessions stored by other code need it; threads and tasks each see
their own.
"""

from __future__ import annotations

from contextvars import ContextVar

from django.http import HttpRequest

current_request: ContextVar[HttpRequest | None] = ContextVar(
    "usersessions_current_request", default=None
)


def get_current_request() -> HttpRequest | None:
    """Return the request being served, None outside of one (shell, command, worker)."""
    return current_request.get()
