"""What the middleware does around a request, for tests of code that asks for the current one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.http import HttpRequest

from usersessions.lifecycle.current_request import current_request


@contextmanager
def serving(request: HttpRequest) -> Iterator[None]:
    """Make ``request`` the current one inside the ``with`` block."""
    token = current_request.set(request)
    try:
        yield
    finally:
        current_request.reset(token)
