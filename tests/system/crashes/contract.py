"""What a crash may leave, wherever the sessions are.

To empty the database after a test costs more than several crashes: similar things share a test.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core.management import call_command

from tests.old_engines import DB, OldSite
from tests.system.crashes.operations import (
    LAMP,
    NOBODY,
    OF_ALICE,
    Operation,
    changing_password,
    deactivating,
    ending_by_command,
    logging_in,
    putting,
    user,
)
from tests.system.crashes.scene import Scene
from tests.system.crashes.storages import DatabaseStorage
from usersessions import SessionManager
from usersessions.test import Client

OLD_COOKIE = "sessionid"


class CrashContract:
    """Kills a process at every moment of everything that changes sessions."""

    @pytest.fixture
    def scene(self, storage: DatabaseStorage, people: None, settings: Any) -> Iterator[Scene]:
        yield Scene(storage, settings)
        storage.close()

    def test_crash_leaves_the_old_session_or_the_new_one(self, scene: Scene) -> None:
        for operation in scene.operations:
            _assert_old_or_new(scene, operation)

    def test_login_sent_again_after_a_crash_takes_the_basket_along_once(self, scene: Scene) -> None:
        """The browser has the old cookie still; a login that was stored is found by it."""
        for end in scene.crashes(lambda: scene.visit(LAMP), lambda: scene.visit(LOGIN)):
            was_left_twice = len(scene.found(end)) == 2
            assert not was_left_twice or scene.storage.may_leave_both
            scene.visit(LOGIN)
            assert scene.page(scene.browser) == "alice: lamp"
            assert len(scene.owned()[user("alice").pk]) == 1 + was_left_twice

    def test_crash_while_a_password_changes_leaves_nobody_in_with_the_old_one(
        self, scene: Scene
    ) -> None:
        """Attack: somebody else is logged in as alice; the process that ends this is killed."""
        seen = set()
        for end in scene.crashes(
            lambda: _log_in_twice(scene), lambda: scene.visit(changing_password)
        ):
            is_changed = user("alice").check_password("new")
            left = tuple((found.name, found.page) for found in scene.found(end))
            seen.add((is_changed, left))
            assert scene.page(scene.elsewhere) == (NOBODY if is_changed else "alice:")
            for browser in (scene.browser, scene.elsewhere):
                scene.visit_with(browser, LOGIN)
                assert scene.page(browser).startswith("alice:")
        assert seen == {
            (False, (("old", "alice: lamp"),)),
            (True, ()),  # Django finds out itself that the session is of the old password
            (True, (("new", "alice: lamp"),)),
        }

    def test_crash_while_a_users_sessions_end_leaves_whole_ones_for_the_next_try(
        self, scene: Scene
    ) -> None:
        for ending in (ending_by_command, deactivating):
            _assert_rest_can_be_ended(scene, ending)

    def test_crash_of_a_login_above_the_limit_is_made_up_for_by_the_next_one(
        self, scene: Scene
    ) -> None:
        scene.configure(MAX_SESSIONS_PER_USER=1)

        def prepare() -> None:
            scene.visit_with(scene.elsewhere, LOGIN)
            scene.visit(LAMP)

        old, new = [("old", "visitor: lamp")], [("new", "alice: lamp")]
        seen = []
        for end in scene.crashes(prepare, lambda: scene.visit(LOGIN)):
            left = [(found.name, found.page) for found in scene.found(end)]
            assert left in [old, new, *([old + new] if scene.storage.may_leave_both else [])]
            elsewhere = scene.page(scene.elsewhere)
            # It never ends for a login that was not stored.
            assert elsewhere == "alice:" or (elsewhere == NOBODY and left != old)
            seen.append((left, elsewhere))
            scene.visit(LOGIN)
            assert scene.page(scene.browser) == "alice: lamp"
            assert scene.page(scene.elsewhere) == NOBODY
            assert len(scene.owned()[user("alice").pk]) == 1
        assert seen[0] == (old, "alice:")
        assert seen[-1] == (new, NOBODY)

    def test_crash_of_an_adoption_leaves_the_old_cookie_good_for_the_session_once(
        self, scene: Scene
    ) -> None:
        """An editor's session becomes two, one in the frontend and one in the backend."""
        scene.configure(ADOPT_FROM=DB)
        for name in ("", "editor"):
            _assert_adopted_once(scene, name)

    def test_crash_of_the_moving_command_leaves_each_session_for_the_next_run(
        self, scene: Scene
    ) -> None:
        scene.configure(ADOPT_FROM=DB)
        site = OldSite(DB)
        keys: dict[str, str] = {}

        def prepare() -> None:
            for name in ("alice", "bob", "editor"):
                keys[name] = site.store_session(user(name), basket=[name])

        def move() -> None:
            call_command("adopt_sessions", batch_size=2, verbosity=0)

        for _ in scene.crashes(prepare, move):
            left, stored = site.rows.count(), sum(map(len, scene.owned().values()))
            # Those of an unfinished batch are in both, under keys that belong together.
            assert 3 <= left + stored <= (3 + 2 * scene.storage.is_apart)
            move()
            assert not site.rows.exists()
            assert [len(found) for found in scene.owned().values()] == [1, 1, 1]
            for name, key in keys.items():
                browser = Client()
                browser.cookies[OLD_COOKIE] = key
                assert scene.page(browser) == f"{name}: {name}"

    def test_crash_of_a_collection_leaves_the_rest_for_the_next_one(self, scene: Scene) -> None:
        def prepare() -> None:
            scene.visit(*OF_ALICE)
            scene.store_expired(3, user("alice").pk)
            scene.store_expired(3, None)

        def collect() -> None:
            call_command("collect_session_garbage", batch_size=2, verbosity=0)

        # A request takes one batch: it is large enough for those of alice, and ends with these.
        for work, probability, fewest in [
            (collect, 0, 0),
            (lambda: scene.visit(putting("pen")), 100, 3),
        ]:
            scene.configure(GC_PROBABILITY=probability)
            numbers = set()
            for _ in scene.crashes(prepare, work):
                numbers.add(scene.count_expired())
                scene.visit(putting("ink"))
                assert scene.page(scene.browser) in ("alice: lamp ink", "alice: lamp pen ink")
                collect()
                assert scene.backend.drops_expired or not scene.count_expired()
                assert user("alice").pk in scene.owned()
            assert max(numbers) == 6
            assert min(numbers) == (6 if scene.backend.drops_expired else fewest)


LOGIN = logging_in("alice")


def _log_in_twice(scene: Scene) -> None:
    scene.visit(*OF_ALICE)
    scene.visit_with(scene.elsewhere, LOGIN)


def _assert_old_or_new(scene: Scene, operation: Operation) -> None:
    """Never neither, never two; but for what the operation and the storage are documented for."""
    old = [("old", operation.old)] if operation.old != NOBODY else []
    name = "old" if operation.keeps_identifier else "new"
    new = [(name, operation.new)] if operation.new != NOBODY else []
    possible = [old, new]
    if operation.ends_first:
        possible.append([])
    if operation.is_renewal and scene.storage.may_leave_both:
        possible.append(old + new)
    seen = []
    for end in scene.crashes(
        lambda: scene.visit(*operation.before), lambda: scene.visit(operation.view)
    ):
        found = scene.found(end)
        seen.append([(each.name, each.page) for each in found])
        assert seen[-1] in possible
        # Nothing else is stored, and no lock was left behind.
        assert sum(map(len, scene.owned().values())) == len(found)
        for each in found:
            scene.visit_with(each.browser, putting("ink"))
            assert scene.page(each.browser) == f"{each.page} ink"
        owned = scene.owned()
        visitors = owned.pop(None, set())
        for user_id, ses_ids in owned.items():
            assert scene.backend.remove_by_user(user_id) == len(ses_ids)
        assert scene.owned() == ({None: visitors} if visitors else {})
    assert seen[0] == old
    assert seen[-1] == new
    assert all(state in seen for state in possible)


def _assert_rest_can_be_ended(scene: Scene, ending: Callable[[], Any]) -> None:
    bobs, visitors = Client(), Client()

    def prepare() -> None:
        _log_in_twice(scene)
        for browser, views in [(bobs, [logging_in("bob"), LAMP]), (visitors, [LAMP])]:
            browser.cookies.clear()
            for view in views:
                scene.visit_with(browser, view)

    numbers = []
    for _ in scene.crashes(prepare, ending):
        is_active = user("alice").is_active
        for browser, page in [(scene.browser, "alice: lamp"), (scene.elsewhere, "alice:")]:
            shown = scene.page(browser)
            # Whoever is inactive is nobody to Django, whatever the session says.
            assert shown in (page, NOBODY) if is_active else shown.startswith(NOBODY)
        numbers.append(len(scene.owned()[user("alice").pk]))
        ending()
        assert scene.page(scene.browser) == scene.page(scene.elsewhere) == NOBODY
        assert not scene.owned()[user("alice").pk]
        assert [scene.page(bobs), scene.page(visitors)] == ["bob: lamp", "visitor: lamp"]
    assert (numbers[0], numbers[-1]) == (2, 0)


def _assert_adopted_once(scene: Scene, name: str) -> None:
    site = OldSite(DB)

    def prepare() -> None:
        owner = user(name) if name else None
        scene.browser.cookies[OLD_COOKIE] = site.store_session(owner, basket=["lamp"])

    seen = set()
    for _ in scene.crashes(prepare, lambda: scene.page(scene.browser)):
        seen.add((site.rows.count(), sum(map(len, scene.owned().values()))))
        scene.visit(putting("ink"))
        assert scene.page(scene.browser) == f"{name or 'visitor'}: lamp ink"
        assert not site.rows.exists()
        assert [len(found) for found in scene.owned().values()] == [1]
        assert SessionManager.get_session_backend("BE").count_all() == (name == "editor")
    # Elsewhere than in the database there may be both, under keys that belong together.
    assert seen == {(1, 0), (0, 1), *([(1, 1)] if scene.storage.is_apart else [])}
