"""A storage of somebody else's, made of the hooks alone, keeps the contract."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
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
)
from tests.factories import NOW
from usersessions import (
    SessionBackend,
    SessionBackendError,
    SessionChanged,
    SessionNotCreated,
    SessionNotFound,
    SessionNotUpdated,
    SessionRecord,
)


class DictBackend(SessionBackend):
    """Keeps sessions in memory, as a third party's storage might."""

    def __init__(self, login_type: str, options: Mapping[str, Any]) -> None:
        super().__init__(login_type, options)
        self.records: dict[str, SessionRecord] = {}

    def validate_configuration(self) -> None:
        """There is nothing to configure."""

    def get_all(self) -> Iterator[SessionRecord]:
        # Of a copy: others may store and remove sessions meanwhile.
        return (record.copy() for record in list(self.records.values()))

    def get_by_user(self, user_id: int) -> Iterator[SessionRecord]:
        theirs = [record for record in self.get_all() if record["ses_userid"] == user_id]
        return iter(sorted(theirs, key=lambda record: record["ses_tstamp"], reverse=True))

    def _collect(self, users_before: int, visitors_before: int, batch_size: int) -> Iterator[int]:
        for expired in self._expired(users_before, visitors_before):
            left = iter(expired)
            while batch := list(islice(left, batch_size)):
                yield self._delete(batch, {})

    def _count_expired(self, users_before: int, visitors_before: int) -> int:
        return sum(map(len, self._expired(users_before, visitors_before)))

    def _expired(self, users_before: int, visitors_before: int) -> list[list[str]]:
        return [
            [
                ses_id
                for ses_id, record in self.records.items()
                if (record["ses_userid"] > 0) is of_users and record["ses_tstamp"] < before
            ]
            for of_users, before in ((True, users_before), (False, visitors_before))
        ]

    def _read(self, ses_ids: Sequence[str]) -> SessionRecord | None:
        found = [self.records[ses_id].copy() for ses_id in ses_ids if ses_id in self.records]
        return found[0] if found else None

    def _insert(self, ses_id: str, record: SessionRecord) -> bool:
        if ses_id in self.records:
            return False
        self.records[ses_id] = {**record, "ses_id": ses_id}
        return True

    def _update(
        self, ses_ids: Sequence[str], values: SessionRecord, expected: SessionRecord
    ) -> bool:
        record = self._read(ses_ids)
        if record is None or not expected.items() <= record.items():
            return False
        del self.records[record["ses_id"]]
        self.records[values["ses_id"]] = {**record, **values}
        return True

    def _delete(self, ses_ids: Sequence[str], expected: SessionRecord) -> int:
        doomed = [
            ses_id
            for ses_id in ses_ids
            if ses_id in self.records and expected.items() <= self.records[ses_id].items()
        ]
        for ses_id in doomed:
            del self.records[ses_id]
        return len(doomed)

    def _delete_by_user(self, user_id: int, kept: Sequence[str]) -> int:
        return self._delete(
            [
                ses_id
                for ses_id, record in self.records.items()
                if record["ses_userid"] == user_id and ses_id not in kept
            ],
            {},
        )


class TestDictBackend(BackendContract, CollectionContract):
    @pytest.fixture
    def backend(self) -> DictBackend:
        return DictBackend("SHOP", {})


class ListeningBackend(DictBackend):
    """Notes everything that reaches the hooks."""

    HOOKS = ("_read", "_insert", "_update", "_delete", "_delete_by_user")

    def __init__(self) -> None:
        super().__init__("SHOP", {})
        self.heard: dict[str, list[tuple[Any, ...]]] = {}
        for name in self.HOOKS:
            setattr(self, name, self._listen(name, getattr(self, name)))

    def _listen(self, name: str, hook: Any) -> Any:
        def listening(*args: Any) -> Any:
            self.heard.setdefault(name, []).append(args)
            return hook(*args)

        return listening


def test_hooks_only_ever_see_hashes() -> None:
    """A storage of somebody else's cannot keep a secret by mistake: it never gets one."""
    backend = ListeningBackend()
    backend.set(IDENTIFIER, a_record(ses_userid=ALICE))
    backend.get(IDENTIFIER)
    backend.update(IDENTIFIER, {"ses_data": b"new"}, expected_data=b'{"basket":[1]}')
    backend.touch(IDENTIFIER, NOW + 62, seen=NOW)
    backend.renew(IDENTIFIER, NEW_IDENTIFIER, a_record(ses_userid=ALICE))
    backend.take_over(next(backend.get_by_user(ALICE)), THIRD_IDENTIFIER, a_record())
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
    assert DictBackend("FE", {}).hash(IDENTIFIER) != DictBackend("BE", {}).hash(IDENTIFIER)


def test_storage_without_transactions_is_in_none() -> None:
    assert DictBackend("SHOP", {}).transaction_depth == 0


def test_options_are_a_copy() -> None:
    options = {"url": "memory:"}
    backend = DictBackend("SHOP", options)
    options["url"] = "changed"
    assert backend.options == {"url": "memory:"}


def test_storage_without_hooks_cannot_be_made() -> None:
    class Unfinished(SessionBackend):
        """Implements nothing."""

    with pytest.raises(TypeError) as caught:
        Unfinished("SHOP", {})  # type: ignore[abstract]
    for name in (*ListeningBackend.HOOKS, "get_all", "_collect", "validate_configuration"):
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
