"""Finding the users whose sessions a search in the admin is for."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.http import HttpRequest
from django.utils.translation import gettext

from ..backends.database.user_column import user_key_field
from ..session.user_keys import UserId, to_user_id

#: How many users a search by name considers.
MAX_USERS_FOUND = 500


def find_user_ids(request: HttpRequest, text: str) -> list[UserId]:
    """Return the keys of the users whose names contain the text; the text, too, if it is a key.

    So the sessions of a deleted user can be found, too. Shows a message if more than
    ``MAX_USERS_FOUND`` names match. Costs one query.
    """
    users = get_user_model()
    found: Any = users._default_manager.filter(
        **{f"{users.USERNAME_FIELD}__icontains": text}
    ).values_list("pk", flat=True)
    user_ids: list[UserId] = list(found[: MAX_USERS_FOUND + 1])
    if len(user_ids) > MAX_USERS_FOUND:
        warning = gettext("More than %d users match; not all of their sessions are shown.")
        messages.warning(request, warning % MAX_USERS_FOUND)
    named = _key(text)
    return list(dict.fromkeys([*named, *user_ids[:MAX_USERS_FOUND]]))


def _key(text: str) -> list[UserId]:
    try:
        user_id = to_user_id(text)
        # A number outside the column's range would be an error in the database.
        user_key_field().run_validators(user_id)
    except (ValueError, ValidationError):
        return []
    return [user_id]
