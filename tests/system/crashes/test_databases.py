"""Crashes of processes that keep sessions in the database."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.cache import caches

from tests.old_engines import CACHE, OldSite
from tests.system.crashes.contract import OLD_COOKIE, CrashContract
from tests.system.crashes.killing import Sender
from tests.system.crashes.operations import NOBODY, logging_out, user
from tests.system.crashes.scene import Scene
from tests.system.crashes.storages import DatabaseStorage
from usersessions.test import Client

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.urls("tests.urls")]


class TestDatabase(CrashContract):
    @pytest.fixture
    def storage(self) -> DatabaseStorage:
        return DatabaseStorage()

    def test_session_that_a_crash_has_left_in_the_old_cache_is_gone_a_minute_after_it_moved(
        self, scene: Scene, settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Attack: who knows the old cookie waits until its owner, back since, logs out."""
        file_based = "django.core.cache.backends.filebased"
        settings.CACHES = {
            "default": {"BACKEND": f"{file_based}.FileBasedCache", "LOCATION": tmp_path}
        }
        scene.configure(ADOPT_FROM=CACHE)
        scene.storage.senders = [Sender(caches["default"], "delete", lambda *args: False)]

        def prepare() -> None:
            key = OldSite(CACHE).store_session(user("alice"), basket=["lamp"])
            scene.browser.cookies[OLD_COOKIE] = key

        seen = []
        for _ in scene.crashes(prepare, lambda: scene.page(scene.browser)):
            key = scene.browser.cookies[OLD_COOKIE].value
            seen.append((OldSite(CACHE).has(key), scene.backend.count_all()))
            assert scene.page(scene.browser) == "alice: lamp"
            scene.visit(logging_out)
            thief = Client()
            thief.cookies[OLD_COOKIE] = key
            with monkeypatch.context() as patch:
                later = time.time() + 61
                patch.setattr(f"{file_based}.time", SimpleNamespace(time=lambda now=later: now))
                assert scene.page(thief) == NOBODY
        assert sorted(set(seen)) == [(False, 1), (True, 0), (True, 1)]
