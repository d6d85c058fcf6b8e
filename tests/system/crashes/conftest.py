"""The people of the site, whom other processes see as well."""

from __future__ import annotations

import pytest

from tests.factories import UserFactory

pytest.register_assert_rewrite("tests.system.crashes.contract")


@pytest.fixture
def people(transactional_db: None) -> None:
    """Those who may log in, by name."""
    UserFactory(username="alice")
    UserFactory(username="bob")
    UserFactory(username="editor", is_staff=True)
    UserFactory(username="admin", is_staff=True, is_superuser=True)
