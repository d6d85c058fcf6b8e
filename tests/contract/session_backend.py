"""The contract that every session storage keeps, and what storages are tested with."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.db import connections

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
from usersessions.backends.selection import AnySession, Expired
from usersessions.backends.transactions import watch_transaction
from usersessions.models import BackendSession, FrontendSession
from usersessions.session.record import SesId

IDENTIFIER = "0123456789abcdef0123456789abcdef"
NEW_IDENTIFIER = "fedcba9876543210fedcba9876543210"
THIRD_IDENTIFIER = "00112233445566778899aabbccddeeff"

ALICE, BOB = 7, 8


def a_record(**fields: Any) -> SessionRecord:
    """Return all fields that every table has, those of an anonymous session unless told."""
    return {
        "ses_iplock": "192.0.2.0",
        "ses_userid": 0,
        "ses_tstamp": NOW,
        "ses_data": b'{"basket":[1]}',
        **fields,  # type: ignore[typeddict-item]
    }


@contextmanager
def second_database(path: Path, alias: str = "second") -> Iterator[str]:
    """Give the site another database, in a file and with the session tables; yield its alias."""
    database = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(path)}
    connections.settings[alias] = connections.configure_settings(
        {"default": database, alias: database}
    )[alias]
    try:
        # Not by the first statement: Django's tests forbid that for databases they do not know.
        connections[alias].connect()
        with connections[alias].schema_editor() as editor:
            editor.create_model(BackendSession)
            editor.create_model(FrontendSession)
        yield alias
    finally:
        connections[alias].close()
        del connections[alias]
        del connections.settings[alias]


def take_over(backend: SessionBackend, stored: SessionRecord, new: str, record: Any) -> None:
    """Move a session that was found by its user to a new identifier."""
    backend.renew(SesId(stored["ses_id"]), new, record, expected_data=stored["ses_data"])


class BackendContract:
    """What the public methods of a storage promise.

    A storage's test class inherits all of it and brings one fixture, ``backend``: the storage,
    empty, for any login type. Most inherit ``CollectionContract`` as well.
    """

    #: Whether the storage can remember ``ses_permanent``.
    keeps_permanent = True

    # get() and set()

    def test_get_returns_what_was_set(self, backend: SessionBackend) -> None:
        backend.set(IDENTIFIER, a_record(ses_userid=ALICE))
        found = backend.get(IDENTIFIER)
        found.pop("ses_permanent", None)
        assert found == {**a_record(ses_userid=ALICE), "ses_id": backend.hash(IDENTIFIER)}

    @pytest.mark.parametrize(
        "data",
        [
            pytest.param(b"", id="empty"),
            pytest.param(bytes(range(256)), id="any-byte"),
            pytest.param(b"x" * 100_000, id="long"),
        ],
    )
    def test_data_comes_back_byte_for_byte(self, backend: SessionBackend, data: bytes) -> None:
        backend.set(IDENTIFIER, a_record(ses_data=data))
        found = backend.get(IDENTIFIER)["ses_data"]
        assert (type(found), found) == (bytes, data)

    def test_get_returns_expired_records_too(self, backend: SessionBackend) -> None:
        backend.set(IDENTIFIER, a_record(ses_tstamp=0))
        assert backend.get(IDENTIFIER)["ses_tstamp"] == 0

    def test_get_of_an_unknown_identifier_raises(self, backend: SessionBackend) -> None:
        with pytest.raises(SessionNotFound) as caught:
            backend.get(IDENTIFIER)
        assert_says(caught.value, backend, IDENTIFIER, "does not exist.")

    def test_set_never_overwrites(self, backend: SessionBackend) -> None:
        """A session cannot be taken over by storing another one under its identifier."""
        backend.set(IDENTIFIER, a_record(ses_userid=ALICE))
        with pytest.raises(SessionNotCreated) as caught:
            backend.set(IDENTIFIER, a_record(ses_userid=BOB, ses_data=b"{}"))
        assert_says(caught.value, backend, IDENTIFIER, "was not created: it exists already.")
        assert_stored(backend, {IDENTIFIER: a_record(ses_userid=ALICE)})

    def test_sessions_do_not_meet(self, backend: SessionBackend) -> None:
        backend.set(IDENTIFIER, a_record(ses_data=b"1"))
        backend.set(NEW_IDENTIFIER, a_record(ses_data=b"2"))
        assert_stored(
            backend,
            {IDENTIFIER: a_record(ses_data=b"1"), NEW_IDENTIFIER: a_record(ses_data=b"2")},
        )

    # update()

    def test_update_changes_the_given_fields_only(self, backend: SessionBackend) -> None:
        backend.set(IDENTIFIER, a_record(ses_userid=ALICE))
        backend.update(IDENTIFIER, {"ses_data": b"new", "ses_tstamp": NOW + 5})
        assert_stored(
            backend,
            {IDENTIFIER: a_record(ses_userid=ALICE, ses_data=b"new", ses_tstamp=NOW + 5)},
        )

    def test_update_of_one_session_leaves_the_others(self, backend: SessionBackend) -> None:
        backend.set(IDENTIFIER, a_record())
        backend.set(NEW_IDENTIFIER, a_record())
        backend.update(IDENTIFIER, {"ses_data": b"new"})
        assert_stored(backend, {IDENTIFIER: a_record(ses_data=b"new"), NEW_IDENTIFIER: a_record()})

    def test_update_of_no_field_changes_nothing(self, backend: SessionBackend) -> None:
        backend.set(IDENTIFIER, a_record())
        backend.update(IDENTIFIER, {})
        assert_stored(backend, {IDENTIFIER: a_record()})

    def test_update_of_the_permanent_flag_alone_is_possible(self, backend: SessionBackend) -> None:
        backend.set(IDENTIFIER, a_record())
        backend.update(IDENTIFIER, {"ses_permanent": True})
        assert is_permanent(backend, IDENTIFIER) is self.keeps_permanent

    def test_update_never_revives_a_session(self, backend: SessionBackend) -> None:
        """A request that outlives a logout must not bring the session back."""
        backend.set(IDENTIFIER, a_record(ses_userid=ALICE))
        backend.remove(IDENTIFIER)
        with pytest.raises(SessionNotUpdated) as caught:
            backend.update(IDENTIFIER, a_record(ses_userid=ALICE))
        assert_says(caught.value, backend, IDENTIFIER, "was not updated: it has ended.")
        assert_stored(backend, {})

    def test_update_writes_if_the_data_is_as_expected(self, backend: SessionBackend) -> None:
        backend.set(IDENTIFIER, a_record(ses_data=b"read"))
        backend.update(IDENTIFIER, {"ses_data": b"new"}, expected_data=b"read")
        assert_stored(backend, {IDENTIFIER: a_record(ses_data=b"new")})

    @pytest.mark.parametrize("expected", [b"read", b""], ids=["other-data", "no-data"])
    def test_update_over_other_data_tells_what_is_stored(
        self, backend: SessionBackend, expected: bytes
    ) -> None:
        backend.set(IDENTIFIER, a_record(ses_data=b"theirs"))
        with pytest.raises(SessionChanged) as caught:
            backend.update(IDENTIFIER, {"ses_data": b"mine"}, expected_data=expected)
        assert_says(
            caught.value,
            backend,
            IDENTIFIER,
            "was not updated: its data has changed.",
        )
        assert caught.value.record == backend.get(IDENTIFIER)
        assert_stored(backend, {IDENTIFIER: a_record(ses_data=b"theirs")})

    def test_update_that_expects_data_of_an_ended_session_says_so(
        self, backend: SessionBackend
    ) -> None:
        with pytest.raises(SessionNotUpdated) as caught:
            backend.update(IDENTIFIER, {"ses_data": b"mine"}, expected_data=b"read")
        assert_says(caught.value, backend, IDENTIFIER, "was not updated: it has ended.")

    # touch()

    def test_touch_moves_the_timestamp_alone(self, backend: SessionBackend) -> None:
        backend.set(IDENTIFIER, a_record())
        assert backend.touch(IDENTIFIER, NOW + 62, seen=NOW) is True
        assert_stored(backend, {IDENTIFIER: a_record(ses_tstamp=NOW + 62)})

    def test_touch_leaves_a_session_that_another_request_touched(
        self, backend: SessionBackend
    ) -> None:
        backend.set(IDENTIFIER, a_record(ses_tstamp=NOW + 70))
        assert backend.touch(IDENTIFIER, NOW + 62, seen=NOW) is False
        assert_stored(backend, {IDENTIFIER: a_record(ses_tstamp=NOW + 70)})

    def test_touch_never_revives_a_session(self, backend: SessionBackend) -> None:
        """A request that outlives a logout must not bring the session back."""
        assert backend.touch(IDENTIFIER, NOW + 62, seen=NOW) is False
        assert_stored(backend, {})

    # renew()

    def test_renew_moves_the_session(self, backend: SessionBackend) -> None:
        """Session fixation: the identifier that somebody planted is worth nothing afterwards."""
        backend.set(IDENTIFIER, a_record())
        renewed = a_record(ses_userid=ALICE, ses_iplock="198.51.100.0", ses_data=b"new")
        backend.renew(IDENTIFIER, NEW_IDENTIFIER, renewed)
        assert_stored(backend, {NEW_IDENTIFIER: renewed})

    def test_renew_leaves_the_other_sessions(self, backend: SessionBackend) -> None:
        backend.set(IDENTIFIER, a_record())
        backend.set(THIRD_IDENTIFIER, a_record())
        backend.renew(IDENTIFIER, NEW_IDENTIFIER, a_record(ses_userid=ALICE))
        assert_stored(
            backend,
            {NEW_IDENTIFIER: a_record(ses_userid=ALICE), THIRD_IDENTIFIER: a_record()},
        )

    def test_renew_of_an_ended_session_stores_nothing(self, backend: SessionBackend) -> None:
        with pytest.raises(SessionNotUpdated) as caught:
            backend.renew(IDENTIFIER, NEW_IDENTIFIER, a_record(ses_userid=ALICE))
        assert_says(caught.value, backend, IDENTIFIER, "was not updated: it has ended.")
        assert_stored(backend, {})

    def test_renew_moves_the_session_if_the_data_is_as_expected(
        self, backend: SessionBackend
    ) -> None:
        backend.set(IDENTIFIER, a_record(ses_data=b"read"))
        backend.renew(IDENTIFIER, NEW_IDENTIFIER, a_record(ses_data=b"new"), expected_data=b"read")
        assert_stored(backend, {NEW_IDENTIFIER: a_record(ses_data=b"new")})

    def test_renew_of_a_changed_session_changes_nothing(self, backend: SessionBackend) -> None:
        backend.set(IDENTIFIER, a_record(ses_data=b"theirs"))
        with pytest.raises(SessionChanged) as caught:
            backend.renew(
                IDENTIFIER, NEW_IDENTIFIER, a_record(ses_userid=ALICE), expected_data=b"read"
            )
        assert_says(
            caught.value,
            backend,
            IDENTIFIER,
            "was not updated: its data has changed.",
        )
        assert caught.value.record["ses_data"] == b"theirs"
        assert_stored(backend, {IDENTIFIER: a_record(ses_data=b"theirs")})

    def test_take_over_moves_a_session_known_by_its_record(self, backend: SessionBackend) -> None:
        backend.set(IDENTIFIER, a_record(ses_userid=ALICE))
        [stored] = backend.get_by_user(ALICE)
        taken = a_record(ses_userid=ALICE, ses_data=b"new")
        take_over(backend, stored, NEW_IDENTIFIER, taken)
        assert_stored(backend, {NEW_IDENTIFIER: taken})

    def test_take_over_of_a_changed_session_changes_nothing(self, backend: SessionBackend) -> None:
        backend.set(IDENTIFIER, a_record(ses_userid=ALICE))
        [stored] = backend.get_by_user(ALICE)
        backend.update(IDENTIFIER, {"ses_data": b"theirs"})
        with pytest.raises(SessionChanged) as caught:
            take_over(backend, stored, NEW_IDENTIFIER, a_record(ses_userid=ALICE))
        assert_says(
            caught.value,
            backend,
            IDENTIFIER,
            "was not updated: its data has changed.",
        )
        assert_stored(backend, {IDENTIFIER: a_record(ses_userid=ALICE, ses_data=b"theirs")})

    def test_take_over_never_revives_a_session(self, backend: SessionBackend) -> None:
        """A login that was sent twice must not bring back what a logout has ended."""
        backend.set(IDENTIFIER, a_record(ses_userid=ALICE))
        [stored] = backend.get_by_user(ALICE)
        backend.remove(IDENTIFIER)
        with pytest.raises(SessionNotUpdated) as caught:
            take_over(backend, stored, NEW_IDENTIFIER, a_record(ses_userid=ALICE))
        assert_says(caught.value, backend, IDENTIFIER, "was not updated: it has ended.")
        assert_stored(backend, {})

    # ses_permanent

    @pytest.mark.parametrize("permanent", [True, False])
    def test_permanent_flag_comes_back(self, backend: SessionBackend, permanent: bool) -> None:
        backend.set(IDENTIFIER, a_record(ses_permanent=permanent))
        assert is_permanent(backend, IDENTIFIER) is (permanent and self.keeps_permanent)

    def test_permanent_flag_is_off_unless_told(self, backend: SessionBackend) -> None:
        backend.set(IDENTIFIER, a_record())
        assert is_permanent(backend, IDENTIFIER) is False

    def test_update_leaves_the_permanent_flag(self, backend: SessionBackend) -> None:
        backend.set(IDENTIFIER, a_record(ses_permanent=True))
        backend.update(IDENTIFIER, {"ses_data": b"new"})
        assert is_permanent(backend, IDENTIFIER) is self.keeps_permanent

    def test_renew_takes_the_permanent_flag_off(self, backend: SessionBackend) -> None:
        """Without "remember me" a login must not go on with a cookie that outlives the browser."""
        backend.set(IDENTIFIER, a_record(ses_permanent=True))
        backend.renew(IDENTIFIER, NEW_IDENTIFIER, a_record())
        assert is_permanent(backend, NEW_IDENTIFIER) is False

    def test_renew_puts_the_permanent_flag_on(self, backend: SessionBackend) -> None:
        backend.set(IDENTIFIER, a_record())
        backend.renew(IDENTIFIER, NEW_IDENTIFIER, a_record(ses_permanent=True))
        assert is_permanent(backend, NEW_IDENTIFIER) is self.keeps_permanent

    # remove()

    def test_remove_ends_one_session(self, backend: SessionBackend) -> None:
        backend.set(IDENTIFIER, a_record())
        backend.set(NEW_IDENTIFIER, a_record())
        assert backend.remove(IDENTIFIER) is True
        assert_stored(backend, {NEW_IDENTIFIER: a_record()})

    def test_remove_tells_that_there_was_no_session(self, backend: SessionBackend) -> None:
        assert backend.remove(IDENTIFIER) is False

    def test_remove_by_ses_id_ends_the_sessions_with_these_hashes(
        self, backend: SessionBackend
    ) -> None:
        for identifier in (IDENTIFIER, NEW_IDENTIFIER, THIRD_IDENTIFIER):
            backend.set(identifier, a_record())
        hashes = [backend.hash(IDENTIFIER), backend.hash(NEW_IDENTIFIER), "f" * 64]
        assert backend.remove_by_ses_id(hashes) == 2
        assert_stored(backend, {THIRD_IDENTIFIER: a_record()})

    def test_remove_by_ses_id_of_none_ends_none(self, backend: SessionBackend) -> None:
        backend.set(IDENTIFIER, a_record())
        assert backend.remove_by_ses_id([]) == 0
        assert_stored(backend, {IDENTIFIER: a_record()})

    # get_all() and the sessions of one user

    def test_get_all_iterates_over_all_records(self, backend: SessionBackend) -> None:
        backend.set(IDENTIFIER, a_record())
        backend.set(NEW_IDENTIFIER, a_record(ses_userid=ALICE))
        records = backend.get_all()
        assert isinstance(records, Iterator)
        assert sorted(map(repr, records)) == sorted(
            repr(backend.get(identifier)) for identifier in (IDENTIFIER, NEW_IDENTIFIER)
        )

    def test_get_all_of_an_empty_storage_is_empty(self, backend: SessionBackend) -> None:
        assert list(backend.get_all()) == []

    def test_get_by_user_yields_the_users_records_the_latest_first(
        self, backend: SessionBackend
    ) -> None:
        backend.set(IDENTIFIER, a_record(ses_userid=ALICE, ses_tstamp=NOW))
        backend.set(NEW_IDENTIFIER, a_record(ses_userid=ALICE, ses_tstamp=NOW + 1))
        backend.set(THIRD_IDENTIFIER, a_record(ses_userid=BOB))
        assert [record["ses_id"] for record in backend.get_by_user(ALICE)] == [
            backend.hash(NEW_IDENTIFIER),
            backend.hash(IDENTIFIER),
        ]

    def test_current_records_of_a_user_are_the_same_where_nobody_interferes(
        self, backend: SessionBackend
    ) -> None:
        backend.set(IDENTIFIER, a_record(ses_userid=ALICE))
        backend.set(NEW_IDENTIFIER, a_record(ses_userid=ALICE, ses_tstamp=NOW + 1))
        backend.set(THIRD_IDENTIFIER, a_record(ses_userid=BOB))
        found = list(backend.get_by_user(ALICE, current=True))
        assert found == list(backend.get_by_user(ALICE))
        assert len(found) == 2

    def test_remove_by_user_ends_all_sessions_of_that_user(self, backend: SessionBackend) -> None:
        backend.set(IDENTIFIER, a_record(ses_userid=ALICE))
        backend.set(NEW_IDENTIFIER, a_record(ses_userid=ALICE))
        backend.set(THIRD_IDENTIFIER, a_record(ses_userid=BOB))
        assert backend.remove_by_user(ALICE) == 2
        assert_stored(backend, {THIRD_IDENTIFIER: a_record(ses_userid=BOB)})

    def test_remove_by_user_spares_the_excepted_sessions(self, backend: SessionBackend) -> None:
        for identifier in (IDENTIFIER, NEW_IDENTIFIER, THIRD_IDENTIFIER):
            backend.set(identifier, a_record(ses_userid=ALICE))
        assert backend.remove_by_user(ALICE, except_=[IDENTIFIER, NEW_IDENTIFIER]) == 1
        assert_stored(
            backend,
            {
                IDENTIFIER: a_record(ses_userid=ALICE),
                NEW_IDENTIFIER: a_record(ses_userid=ALICE),
            },
        )

    def test_remove_by_user_does_not_spare_another_user(self, backend: SessionBackend) -> None:
        backend.set(IDENTIFIER, a_record(ses_userid=BOB))
        backend.set(NEW_IDENTIFIER, a_record(ses_userid=ALICE))
        assert backend.remove_by_user(ALICE, except_=[IDENTIFIER]) == 1
        assert_stored(backend, {IDENTIFIER: a_record(ses_userid=BOB)})

    @pytest.mark.parametrize("user_id", [0, -1])
    def test_remove_by_user_refuses_the_id_of_nobody(
        self, backend: SessionBackend, user_id: int
    ) -> None:
        """User id 0, as a careless caller has it of a visitor, would end all anonymous sessions."""
        backend.set(IDENTIFIER, a_record(ses_userid=user_id))
        with pytest.raises(ValueError, match="user_id") as caught:
            backend.remove_by_user(user_id)
        assert str(caught.value) == f"user_id must be the primary key of a user, not {user_id}."
        assert_stored(backend, {IDENTIFIER: a_record(ses_userid=user_id)})

    def test_get_all_goes_on_while_sessions_are_removed_and_stored(
        self, backend: SessionBackend
    ) -> None:
        fill(backend, users=5, visitors=0)
        hashes = []
        for number, record in enumerate(backend.get_all()):
            hashes.append(record["ses_id"])
            if number == 1:
                backend.remove_by_ses_id(hashes)
                backend.set(IDENTIFIER, a_record())
        assert {backend.hash(f"{number:032x}") for number in range(5)} <= set(hashes)

    # All sessions, or all but some

    @pytest.mark.parametrize(
        ("options", "stays"),
        [
            pytest.param({}, [], id="all"),
            pytest.param({"anonymous": True}, [ALICE, BOB], id="anonymous"),
            pytest.param({"anonymous": False}, [-1, 0], id="users"),
            pytest.param({"except_users": [ALICE]}, [ALICE], id="all-but-one-users"),
            pytest.param({"except_users": [ALICE, BOB]}, [ALICE, BOB], id="all-but-two-users"),
            pytest.param(
                {"anonymous": False, "except_users": [BOB]}, [-1, 0, BOB], id="users-but-one"
            ),
            pytest.param({"except_users": [9]}, [], id="all-but-somebody-without-sessions"),
        ],
    )
    def test_all_sessions_go_but_those_that_are_to_stay(
        self, backend: SessionBackend, options: dict[str, Any], stays: list[int]
    ) -> None:
        people = {f"{user_id + 1:032x}": user_id for user_id in (-1, 0, ALICE, BOB)}
        for identifier, user_id in people.items():
            backend.set(identifier, a_record(ses_userid=user_id))
        goes = len(people) - len(stays)
        assert backend.count_all(AnySession(**options)) == goes
        assert sum(backend.remove_all(AnySession(**options))) == goes
        for identifier, user_id in people.items():
            if user_id not in stays:
                with pytest.raises(SessionNotFound):
                    backend.get(identifier)
        assert sorted(record["ses_userid"] for record in backend.get_all()) == stays

    def test_all_sessions_go_in_batches(self, backend: SessionBackend) -> None:
        fill(backend, users=3, visitors=2)
        batches = backend.remove_all(AnySession(), 2)
        assert len(list(backend.get_all())) == 5
        assert next(batches) == 2
        assert len(list(backend.get_all())) == 3
        assert list(batches) == [2, 1]
        assert list(backend.get_all()) == []

    def test_batches_skip_what_is_to_stay(self, backend: SessionBackend) -> None:
        fill(backend, users=6, visitors=5)
        assert list(backend.remove_all(AnySession(anonymous=True), 2)) == [2, 2, 1]
        assert [record["ses_userid"] for record in backend.get_all()] == [ALICE] * 6

    def test_what_is_stored_while_sessions_go_keeps_none_of_the_others(
        self, backend: SessionBackend
    ) -> None:
        fill(backend, users=4, visitors=0)
        batches = backend.remove_all(AnySession(), 1)
        assert next(batches) == 1
        backend.set(IDENTIFIER, a_record())
        backend.set(NEW_IDENTIFIER, a_record())
        assert sum(batches) >= 3
        left = {record["ses_id"] for record in backend.get_all()}
        assert left <= {backend.hash(IDENTIFIER), backend.hash(NEW_IDENTIFIER)}

    def test_session_that_a_login_has_renewed_meanwhile_is_not_anonymous_any_more(
        self, backend: SessionBackend
    ) -> None:
        backend.set(IDENTIFIER, a_record())
        backend.set(NEW_IDENTIFIER, a_record())
        batches = backend.remove_all(AnySession(anonymous=True), 1)
        next(batches)
        [left] = backend.get_all()
        is_first = left["ses_id"] == backend.hash(IDENTIFIER)
        backend.renew(
            IDENTIFIER if is_first else NEW_IDENTIFIER,
            THIRD_IDENTIFIER,
            a_record(ses_userid=ALICE),
        )
        assert sum(batches) == 0
        assert_stored(backend, {THIRD_IDENTIFIER: a_record(ses_userid=ALICE)})

    @pytest.mark.parametrize("user_id", [0, -1])
    def test_sessions_of_nobody_cannot_be_excepted(
        self, backend: SessionBackend, user_id: int
    ) -> None:
        backend.set(IDENTIFIER, a_record())
        with pytest.raises(ValueError, match="user_id") as caught:
            AnySession(except_users=[ALICE, user_id])
        assert str(caught.value) == f"user_id must be the primary key of a user, not {user_id}."
        assert_stored(backend, {IDENTIFIER: a_record()})

    def test_session_that_ended_with_all_others_is_not_revived(
        self, backend: SessionBackend
    ) -> None:
        """A request that was on its way when all sessions ended must not bring its own back."""
        backend.set(IDENTIFIER, a_record(ses_userid=ALICE))
        assert sum(backend.remove_all(AnySession())) == 1
        with pytest.raises(SessionNotUpdated):
            backend.update(IDENTIFIER, {"ses_data": b"new"})
        with pytest.raises(SessionNotUpdated):
            backend.renew(IDENTIFIER, NEW_IDENTIFIER, a_record(ses_userid=ALICE))
        assert backend.touch(IDENTIFIER, NOW + 62, seen=NOW) is False
        assert_stored(backend, {})

    # Transactions

    def test_write_that_nothing_took_back_was_not_rolled_back(
        self, backend: SessionBackend
    ) -> None:
        was_rolled_back = watch_transaction(backend)
        backend.set(IDENTIFIER, a_record())
        assert was_rolled_back() is False

    # Removing what has not changed

    def test_removal_of_unchanged_data_removes(self, backend: SessionBackend) -> None:
        backend.set(IDENTIFIER, a_record(ses_data=b"{}"))
        assert backend.remove(IDENTIFIER, expected_data=b"{}") is True
        assert list(backend.get_all()) == []

    def test_removal_of_changed_data_shows_it_and_removes_nothing(
        self, backend: SessionBackend
    ) -> None:
        backend.set(IDENTIFIER, a_record(ses_data=b'{"x":1}'))
        with pytest.raises(SessionChanged) as error:
            backend.remove(IDENTIFIER, expected_data=b"{}")
        assert error.value.record["ses_data"] == b'{"x":1}'
        assert len(list(backend.get_all())) == 1

    def test_removal_of_unchanged_data_of_no_session_is_no_error(
        self, backend: SessionBackend
    ) -> None:
        assert backend.remove(IDENTIFIER, expected_data=b"{}") is False

    # Secrets

    def test_hash_is_the_ses_id(self, backend: SessionBackend) -> None:
        backend.set(IDENTIFIER, a_record())
        assert [record["ses_id"] for record in backend.get_all()] == [backend.hash(IDENTIFIER)]

    def test_hash_depends_on_the_identifier(self, backend: SessionBackend) -> None:
        assert backend.hash(IDENTIFIER) == backend.hash(IDENTIFIER)
        assert backend.hash(IDENTIFIER) != backend.hash(NEW_IDENTIFIER)

    def test_storage_never_holds_an_identifier(self, backend: SessionBackend) -> None:
        """Whoever reads the storage, say a stolen backup, cannot make a cookie from it."""
        backend.set(IDENTIFIER, a_record(ses_userid=ALICE))
        backend.update(IDENTIFIER, {"ses_data": b"new"})
        backend.touch(IDENTIFIER, NOW + 62, seen=NOW)
        stored = repr(list(backend.get_all()))
        backend.renew(IDENTIFIER, NEW_IDENTIFIER, a_record(ses_userid=ALICE))
        stored += repr(list(backend.get_all()))
        take_over(backend, next(backend.get_by_user(ALICE)), THIRD_IDENTIFIER, a_record())
        stored += repr(list(backend.get_all()))
        assert backend.hash(THIRD_IDENTIFIER) in stored
        for identifier in (IDENTIFIER, NEW_IDENTIFIER, THIRD_IDENTIFIER):
            assert identifier not in stored
            assert repr(bytes.fromhex(identifier)) not in stored

    def test_log_tells_events_with_the_first_digits_of_the_hash(
        self, backend: SessionBackend, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Whoever reads the log cannot make a cookie from it."""
        caplog.set_level(logging.DEBUG, logger="usersessions.backends")
        backend.set(IDENTIFIER, a_record(ses_userid=ALICE))
        backend.renew(IDENTIFIER, NEW_IDENTIFIER, a_record(ses_userid=ALICE))
        backend.remove(NEW_IDENTIFIER)
        backend.remove_by_user(ALICE)
        name = backend.login_type
        old, new = backend.hash(IDENTIFIER)[:8], backend.hash(NEW_IDENTIFIER)[:8]
        assert [
            record.getMessage()
            for record in caplog.records
            if record.name == "usersessions.backends"
        ] == [
            f"{name} session {old} stored",
            f"{name} session {new} renewed from {old}",
            f"{name} session {new} removed",
            f"{name} sessions of user {ALICE} removed: 0",
        ]

    # SECRET_KEY_FALLBACKS

    @pytest.fixture
    def rotated(self, backend: SessionBackend, settings: Any) -> str:
        """The hash of a session of alice's that was stored before SECRET_KEY was changed."""
        backend.set(IDENTIFIER, a_record(ses_userid=ALICE))
        old_hash = backend.hash(IDENTIFIER)
        settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
        settings.SECRET_KEY = "the key that came after" * 3
        assert backend.hash(IDENTIFIER) != old_hash
        return old_hash

    def test_session_of_an_old_key_is_found(self, backend: SessionBackend, rotated: str) -> None:
        assert backend.get(IDENTIFIER)["ses_id"] == rotated

    def test_session_of_a_key_that_is_no_fallback_is_not_found(
        self, backend: SessionBackend, rotated: str, settings: Any
    ) -> None:
        """Taking a leaked key out of the settings ends the sessions stored under it."""
        settings.SECRET_KEY_FALLBACKS = []
        with pytest.raises(SessionNotFound):
            backend.get(IDENTIFIER)

    def test_update_moves_a_session_of_an_old_key_to_the_new_hash(
        self, backend: SessionBackend, rotated: str
    ) -> None:
        backend.update(IDENTIFIER, {"ses_data": b"new"}, expected_data=b'{"basket":[1]}')
        assert_stored(backend, {IDENTIFIER: a_record(ses_userid=ALICE, ses_data=b"new")})

    def test_touch_moves_a_session_of_an_old_key_to_the_new_hash(
        self, backend: SessionBackend, rotated: str
    ) -> None:
        assert backend.touch(IDENTIFIER, NOW + 62, seen=NOW) is True
        assert_stored(backend, {IDENTIFIER: a_record(ses_userid=ALICE, ses_tstamp=NOW + 62)})

    def test_session_of_an_old_key_is_renewed(self, backend: SessionBackend, rotated: str) -> None:
        backend.renew(IDENTIFIER, NEW_IDENTIFIER, a_record(ses_userid=ALICE))
        assert_stored(backend, {NEW_IDENTIFIER: a_record(ses_userid=ALICE)})

    def test_session_of_an_old_key_is_taken_over(
        self, backend: SessionBackend, rotated: str
    ) -> None:
        [stored] = backend.get_by_user(ALICE)
        take_over(backend, stored, NEW_IDENTIFIER, a_record(ses_userid=ALICE))
        assert_stored(backend, {NEW_IDENTIFIER: a_record(ses_userid=ALICE)})

    def test_session_of_an_old_key_is_removed(self, backend: SessionBackend, rotated: str) -> None:
        assert backend.remove(IDENTIFIER) is True
        assert_stored(backend, {})

    def test_session_of_an_old_key_is_spared(self, backend: SessionBackend, rotated: str) -> None:
        backend.set(NEW_IDENTIFIER, a_record(ses_userid=ALICE))
        assert backend.remove_by_user(ALICE, except_=[IDENTIFIER]) == 1
        assert backend.get(IDENTIFIER)["ses_id"] == rotated

    def test_session_of_a_key_that_became_a_fallback_can_still_change(
        self, backend: SessionBackend, rotated: str
    ) -> None:
        backend.update(IDENTIFIER, {"ses_data": b"1"})
        backend.update(IDENTIFIER, {"ses_data": b"2"})
        assert_stored(backend, {IDENTIFIER: a_record(ses_userid=ALICE, ses_data=b"2")})

    # Configuration

    def test_its_configuration_is_valid(self, backend: SessionBackend) -> None:
        backend.validate_configuration()


class CollectionContract:
    """What collection promises where the storage does not drop expired sessions itself.

    100 s for users, 40 s for visitors unless told. Brings no fixture of its own, as the above.
    """

    @pytest.mark.parametrize(
        ("user_id", "age", "limits", "goes"),
        [
            pytest.param(ALICE, 100, (100, 40), False, id="user-at-the-limit"),
            pytest.param(ALICE, 101, (100, 40), True, id="user-past-the-limit"),
            pytest.param(0, 40, (100, 40), False, id="visitor-at-the-limit"),
            pytest.param(0, 41, (100, 40), True, id="visitor-past-the-limit"),
            pytest.param(-1, 41, (100, 40), True, id="negative-id-is-a-visitor"),
            pytest.param(-1, 40, (100, 40), False, id="negative-id-at-the-visitors-limit"),
            pytest.param(ALICE, 41, (100, 40), False, id="user-past-the-visitors-limit"),
            pytest.param(0, 101, (100, 400), False, id="visitors-may-live-longer"),
            pytest.param(0, 100, (100, 0), False, id="zero-means-as-users-at-the-limit"),
            pytest.param(0, 101, (100, 0), True, id="zero-means-as-users-past-the-limit"),
            pytest.param(ALICE, -5, (100, 40), False, id="clock-was-set-back"),
        ],
    )
    def test_collection_takes_expired_sessions_only(
        self,
        backend: SessionBackend,
        user_id: int,
        age: int,
        limits: tuple[int, int],
        goes: bool,
    ) -> None:
        backend.set(IDENTIFIER, a_record(ses_userid=user_id, ses_tstamp=NOW - age))
        assert backend.count_all(Expired.after(*limits, now=NOW)) == int(goes)
        assert backend.collect_garbage(*limits, now=NOW) == int(goes)
        assert len(list(backend.get_all())) == int(not goes)

    def test_collection_goes_by_the_systems_clock_unless_told(
        self, backend: SessionBackend
    ) -> None:
        """Year 2100 is still to come when this runs, 1970 is over."""
        backend.set(IDENTIFIER, a_record(ses_userid=ALICE, ses_tstamp=0))
        backend.set(NEW_IDENTIFIER, a_record(ses_userid=ALICE, ses_tstamp=4_102_444_800))
        assert backend.count_all(Expired.after(100)) == 1
        assert backend.collect_garbage(100) == 1
        assert [record["ses_id"] for record in backend.get_all()] == [backend.hash(NEW_IDENTIFIER)]

    def test_lifetime_longer_than_unix_time_leaves_everything(
        self, backend: SessionBackend
    ) -> None:
        backend.set(IDENTIFIER, a_record(ses_tstamp=0))
        assert backend.count_all(Expired.after(NOW + 1, now=NOW)) == 0
        assert backend.collect_garbage(NOW + 1, now=NOW) == 0

    def test_collection_of_nothing_takes_nothing(self, backend: SessionBackend) -> None:
        assert backend.collect_garbage(100, 40, now=NOW) == 0

    def test_counting_garbage_leaves_it(self, backend: SessionBackend) -> None:
        fill(backend, users=2, visitors=3)
        assert backend.count_all(Expired.after(100, 40, now=NOW)) == 5
        assert len(list(backend.get_all())) == 5

    @pytest.mark.parametrize(
        ("users", "visitors", "batches"),
        [
            pytest.param(5, 0, [[2, 2, 1]], id="users"),
            pytest.param(0, 4, [[2, 2]], id="visitors"),
            # A storage may look for each kind by itself.
            pytest.param(3, 3, [[2, 2, 2], [2, 1, 2, 1]], id="both"),
        ],
    )
    def test_collection_comes_in_batches(
        self, backend: SessionBackend, users: int, visitors: int, batches: list[list[int]]
    ) -> None:
        fill(backend, users=users, visitors=visitors)
        assert list(backend.remove_all(Expired.after(100, 40, now=NOW), 2)) in batches
        assert list(backend.get_all()) == []

    def test_nothing_goes_before_a_batch_is_asked_for(self, backend: SessionBackend) -> None:
        fill(backend, users=3, visitors=0)
        batches = backend.remove_all(Expired.after(100, 40, now=NOW), 2)
        assert len(list(backend.get_all())) == 3
        assert next(batches) == 2
        assert len(list(backend.get_all())) == 1

    def test_collection_stops_after_so_many_batches(self, backend: SessionBackend) -> None:
        fill(backend, users=4, visitors=2)
        assert backend.collect_garbage(100, 40, now=NOW, batch_size=2, max_batches=2) == 4
        assert len(list(backend.get_all())) == 2


def fill(backend: SessionBackend, *, users: int, visitors: int) -> None:
    """Store expired sessions, one a second."""
    for number in range(users + visitors):
        backend.set(
            f"{number:032x}",
            a_record(
                ses_userid=ALICE if number < users else 0,
                ses_tstamp=NOW - 1000 + number,
            ),
        )


def is_permanent(backend: SessionBackend, identifier: str) -> bool:
    return bool(backend.get(identifier).get("ses_permanent"))


def assert_stored(backend: SessionBackend, expected: dict[str, SessionRecord]) -> None:
    """Assert that these records are all that is stored, each under the hash of its identifier."""
    stored = {record["ses_id"]: record for record in backend.get_all()}
    for record in stored.values():
        record.pop("ses_permanent", None)
    assert stored == {
        backend.hash(identifier): {**record, "ses_id": backend.hash(identifier)}
        for identifier, record in expected.items()
    }


def assert_says(
    error: SessionBackendError, backend: SessionBackend, identifier: str, problem: str
) -> None:
    """Assert the whole message: it names the session by its hash, never by its identifier."""
    short_hash = backend.hash(identifier)[:8]
    assert str(error) == f"The {backend.login_type} session {short_hash} {problem}"
    assert (error.login_type, error.short_hash) == (backend.login_type, short_hash)
