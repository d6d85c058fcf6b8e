"""Alice, who may switch to others, and where her sessions are stored."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import Clock
from tests.factories import UserFactory
from tests.system.ended.scene import STORAGES, Scene, use_storage


@pytest.fixture(params=STORAGES)
def storage(request: pytest.FixtureRequest, settings: Any) -> Iterator[None]:
    yield from use_storage(request.param, request, settings)


@pytest.fixture
def cached_database(request: pytest.FixtureRequest, settings: Any) -> Iterator[None]:
    yield from use_storage("cached", request, settings)


@pytest.fixture
def alice(db: None) -> Any:
    return UserFactory(username="alice", is_staff=True, is_superuser=True)


@pytest.fixture
def scene(
    *,
    alice: Any,
    bob: Any,
    clock: Clock,
    settings: Any,
    django_capture_on_commit_callbacks: Any,
) -> Scene:
    return Scene(alice, bob, clock, settings, django_capture_on_commit_callbacks)
