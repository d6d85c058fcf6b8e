"""Whom a stored key names."""

from __future__ import annotations

from typing import Any

import pytest

from usersessions.session.user_keys import find_user, stored_user_id, to_user_id


@pytest.mark.parametrize(
    ("value", "user_id"),
    [(7, 7), ("7", 7), (0, None), (-1, None), ("0", None), ("", None), (None, None), ("x", None)],
)
def test_stored_key_names_a_user_or_nobody(value: Any, user_id: int | None) -> None:
    assert stored_user_id(value) == user_id


@pytest.mark.parametrize("value", ["x", "", None, 0, -1, [1]])
def test_what_is_no_key_is_refused_by_name(value: Any) -> None:
    with pytest.raises(ValueError, match=r"^user_id must be the primary key of a user, not "):
        to_user_id(value)


@pytest.mark.django_db
@pytest.mark.parametrize("value", ["x", "", None, 0])
def test_nobody_is_found_under_what_is_no_key(value: Any, django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(0):
        assert find_user(value) is None
