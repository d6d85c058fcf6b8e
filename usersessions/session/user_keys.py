"""The keys of users: primary keys, in the type that the site's user model gives them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias
from uuid import UUID

from django.contrib.auth import SESSION_KEY as AUTH_USER_KEY
from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.db.models import Q

UserId: TypeAlias = int | str | UUID


def to_user_id(value: Any) -> UserId:
    """Return a user's primary key in the type that the user model gives it.

    :param value: the key itself, or as text, as Django writes it into sessions
    :raises ValueError: it is no key of a user
    """
    try:
        user_id: Any = get_user_model()._meta.pk.to_python(value)
    except (ValidationError, TypeError, AttributeError, OverflowError):
        user_id = None  # not even something like text, or infinite
    if not user_id or (isinstance(user_id, int) and user_id < 0):
        raise ValueError(f"user_id must be the primary key of a user, not {value!r}.")
    return user_id  # type: ignore[no-any-return]


def stored_user_id(value: Any) -> UserId | None:
    """Return the user that a ``ses_userid`` names; None for 0 or less, or nothing: anonymous."""
    if isinstance(value, int):  # most users', on every request
        return value if value > 0 else None
    try:
        return to_user_id(value) if value else None
    except ValueError:
        return None


def has_invalid_user_key(data: Mapping[str, Any]) -> bool:
    """Return whether session data names a user by a value that cannot be a user's key.

    That is corrupt data: Django would answer each request of such a session with an error.
    """
    named = data.get(AUTH_USER_KEY)
    return named is not None and stored_user_id(named) is None


def as_data(user_id: UserId | None) -> int | str | None:
    """Return a user's primary key in a type that every serializer takes."""
    return user_id if user_id is None or isinstance(user_id, int) else str(user_id)


def find_user(user_id: Any) -> Any:
    """Return a user by primary key, None if there is none. Costs one query."""
    try:
        return get_user_model()._default_manager.filter(Q(pk=to_user_id(user_id))).first()
    except ValueError:
        return None
