"""The storage that README shows keeps the contract, and the hooks see hashes alone."""

from __future__ import annotations

import re
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from tests.contract.session_backend import (
    ALICE,
    IDENTIFIER,
    NEW_IDENTIFIER,
    THIRD_IDENTIFIER,
    BackendContract,
    CollectionContract,
    a_record,
    take_over,
)
from tests.factories import NOW
from usersessions import (
    SessionBackend,
    SessionBackendError,
    SessionChanged,
    SessionNotCreated,
    SessionNotFound,
    SessionNotUpdated,
)
from usersessions.backends.transactions import transaction_depth

ROOT = Path(__file__).parents[2]


def example() -> type[Any]:
    """The storage that the documentation shows, as it stands there."""
    texts = "\n".join(path.read_text() for path in [ROOT / "README.rst", *ROOT.rglob("docs/*.rst")])
    blocks = re.findall(r"\.\. code-block:: python\n\n((?:    .*\n|\n)+)", texts)
    [block] = [block for block in blocks if "class MemoryBackend" in block]
    assert len(block.strip().splitlines()) <= 60
    names: dict[str, Any] = {"__name__": "readme"}
    exec(compile(dedent(block), "README.rst", "exec"), names)  # noqa: S102 - our own text
    found: type[Any] = names["MemoryBackend"]
    return found


MemoryBackend = example()


class TestMemoryBackend(BackendContract, CollectionContract):
    @pytest.fixture
    def backend(self) -> SessionBackend:
        backend: SessionBackend = MemoryBackend("SHOP", {})
        return backend


class ListeningBackend(MemoryBackend):  # type: ignore[misc, valid-type]
    """Notes everything that reaches the hooks."""

    HOOKS = ("_read", "_insert", "_update", "_delete", "_delete_by_user")

    def __init__(self) -> None:
        super().__init__("SHOP", {})
        self.heard: dict[str, list[tuple[Any, ...]]] = {}
        for name in self.HOOKS:
            setattr(self, name, self._listen(name, getattr(self, name)))

    def _listen(self, name: str, hook: Any) -> Any:
        def listening(*args: Any, **options: Any) -> Any:
            self.heard.setdefault(name, []).append(args)
            return hook(*args, **options)

        return listening


def test_hooks_only_ever_see_hashes() -> None:
    """A storage of somebody else's cannot keep a secret by mistake: it never gets one."""
    backend = ListeningBackend()
    backend.set(IDENTIFIER, a_record(ses_userid=ALICE))
    backend.get(IDENTIFIER)
    backend.update(IDENTIFIER, {"ses_data": b"new"}, expected_data=b'{"basket":[1]}')
    backend.touch(IDENTIFIER, NOW + 62, seen=NOW)
    backend.renew(IDENTIFIER, NEW_IDENTIFIER, a_record(ses_userid=ALICE))
    take_over(backend, next(backend.get_by_user(ALICE)), THIRD_IDENTIFIER, a_record())
    backend.remove_by_user(ALICE, except_=[THIRD_IDENTIFIER])
    backend.remove(THIRD_IDENTIFIER)
    heard = repr(backend.heard)
    assert backend.heard.keys() == set(ListeningBackend.HOOKS)
    assert backend.hash(THIRD_IDENTIFIER) in heard
    for identifier in (IDENTIFIER, NEW_IDENTIFIER, THIRD_IDENTIFIER):
        assert identifier not in heard


def test_hooks_get_the_hashes_of_all_keys_the_current_one_first(settings: Any) -> None:
    backend = ListeningBackend()
    old_hash = backend.hash(IDENTIFIER)
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "the key that came after" * 3
    backend.remove(IDENTIFIER)
    assert backend.heard == {"_delete": [((backend.hash(IDENTIFIER), old_hash), {})]}


def test_each_login_type_has_hashes_of_its_own() -> None:
    """Who can read one table cannot look for the same browser in the other."""
    assert MemoryBackend("FE", {}).hash(IDENTIFIER) != MemoryBackend("BE", {}).hash(IDENTIFIER)


def test_storage_without_transactions_is_in_none() -> None:
    assert transaction_depth(MemoryBackend("SHOP", {})) == 0


def test_options_are_a_copy() -> None:
    options = {"url": "memory:"}
    backend = MemoryBackend("SHOP", options)
    options["url"] = "changed"
    assert backend.options == {"url": "memory:"}


def test_storage_without_hooks_cannot_be_made() -> None:
    class Unfinished(SessionBackend):
        """Implements nothing."""

    with pytest.raises(TypeError) as caught:
        Unfinished("SHOP", {})  # type: ignore[abstract]
    needed = ("_read", "_insert", "_update", "_delete", "get_all", "get_by_user")
    for name in (*needed, "validate_configuration"):
        assert name in str(caught.value)


@pytest.mark.parametrize(
    ("error", "parent"),
    [
        (SessionNotFound, SessionBackendError),
        (SessionNotCreated, SessionBackendError),
        (SessionNotUpdated, SessionBackendError),
        (SessionChanged, SessionNotUpdated),
    ],
    ids=lambda error: error.__name__,
)
def test_errors_are_one_tree(
    error: type[SessionBackendError], parent: type[SessionBackendError]
) -> None:
    assert error.__mro__[1] is parent


def test_error_of_no_particular_kind_says_so() -> None:
    assert str(SessionBackendError("FE", "0123456789")) == (
        "The FE session 01234567 cannot be handled."
    )
