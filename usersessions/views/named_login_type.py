"""The login type that a request's parameters name."""

from __future__ import annotations

from collections.abc import Mapping

from django.core.exceptions import BadRequest

from ..conf import get_login_types


def find_named_login_type(parameters: Mapping[str, str]) -> str | None:
    """Return the value of ``login_type``, None if it is missing; 400 for an unknown one."""
    name = parameters.get("login_type") or None
    if name is not None and name not in get_login_types():
        raise BadRequest(f"There is no login type {name!r}.")
    return name
