"""The contract of a session storage."""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from ..tokens import Keys
from ..user_ids import UserId, stored_user_id
from ..user_session import SessionRecord

logger = logging.getLogger("usersessions.backends")

#: How many rows one statement of garbage collection may delete.
BATCH_SIZE = 500


class SessionBackendError(Exception):
    """What a storage says of one session; a storage that is down raises errors of its own.

    :ivar login_type: name of the login type
    :ivar short_hash: the first 8 digits of the ``ses_id``
    """

    problem = "cannot be handled"

    def __init__(self, login_type: str, ses_id: str) -> None:
        self.login_type = login_type
        self.short_hash = ses_id[:8]
        super().__init__(f"The {login_type} session {self.short_hash} {self.problem}.")


class SessionNotFound(SessionBackendError):
    """Nothing is stored under the identifier."""

    problem = "does not exist"


class SessionNotCreated(SessionBackendError):
    """Something is stored under the identifier already, and stays as it is."""

    problem = "was not created: it exists already"


class SessionNotUpdated(SessionBackendError):
    """The session ended meanwhile; nothing was written."""

    problem = "was not updated: it has ended"


class SessionChanged(SessionNotUpdated):
    """Another request wrote other data meanwhile; nothing was written.

    :ivar record: what is stored now
    """

    problem = "was not updated: its data has changed meanwhile"

    def __init__(self, login_type: str, ses_id: str, record: SessionRecord) -> None:
        super().__init__(login_type, ses_id)
        self.record = record


class SessionBackend(ABC):
    """Stores the sessions of one login type.

    The public methods take identifiers, hash them, log and check. The hooks below them only ever
    see ``ses_id``, so that no storage can keep a secret by mistake. A backend of your own
    implements the hooks; wherever they take several ``ses_ids``, these are the hashes of one
    identifier under ``SECRET_KEY`` and its fallbacks, the current one first.

    :param login_type: name of the login type, for example ``"FE"``
    :param options: ``USERSESSIONS[login_type]["OPTIONS"]``

    Source: TYPO3 ``TYPO3\\CMS\\Core\\Session\\Backend\\SessionBackendInterface``.
    """

    def __init__(self, login_type: str, options: Mapping[str, Any]) -> None:
        self.login_type = login_type
        self.options = dict(options)
        self.keys = Keys(login_type)

    @abstractmethod
    def validate_configuration(self) -> None:
        """Check the options, without touching the storage.

        :raises ImproperlyConfigured: names the option and what would be right
        """

    def hash(self, identifier: str) -> str:
        """Return the ``ses_id`` under which new writes store the identifier."""
        return self.keys.ses_ids(identifier)[0]

    def get(self, identifier: str) -> SessionRecord:
        """Return the stored record, even if it has expired.

        :param identifier: 32 lowercase hex digits; only its hash reaches the storage
        :raises SessionNotFound: nothing is stored under it; a failing storage raises its own error

        Costs one query. Source: TYPO3 ``SessionBackendInterface::get()``.
        """
        ses_ids = self.keys.ses_ids(identifier)
        record = self._read(ses_ids)
        if record is None:
            raise SessionNotFound(self.login_type, ses_ids[0])
        return record

    def set(self, identifier: str, record: SessionRecord) -> None:
        """Store a new session.

        :raises SessionNotCreated: the identifier is taken; never overwrites

        Costs one query. Source: TYPO3 ``SessionBackendInterface::set()``.
        """
        ses_id = self.hash(identifier)
        if not self._insert(ses_id, record):
            raise SessionNotCreated(self.login_type, ses_id)
        self._log("stored", ses_id)

    def update(
        self, identifier: str, partial: SessionRecord, *, expected_data: bytes | None = None
    ) -> None:
        """Change some fields of a stored session.

        :param expected_data: write only if ``ses_data`` is still this; None: whatever it is
        :raises SessionNotUpdated: nothing is stored under the identifier
        :raises SessionChanged: ``ses_data`` is something else by now

        Costs one query, a second one when nothing was written. Source: TYPO3
        ``SessionBackendInterface::update()``.
        """
        ses_ids = self.keys.ses_ids(identifier)
        self._change(ses_ids, {**partial, "ses_id": ses_ids[0]}, expected_data)

    def touch(self, identifier: str, timestamp: int, *, seen: int) -> bool:
        """Move ``ses_tstamp``, unless another request has moved it since it was ``seen``.

        Never touches data and never revives a session. Costs one query.
        """
        ses_ids = self.keys.ses_ids(identifier)
        return self._update(
            ses_ids, {"ses_id": ses_ids[0], "ses_tstamp": timestamp}, {"ses_tstamp": seen}
        )

    def renew(
        self,
        identifier: str,
        new_identifier: str,
        record: SessionRecord,
        *,
        expected_data: bytes | None = None,
    ) -> None:
        """Move a stored session to a new identifier, with new content, in one step.

        The old identifier is worthless from then on; there is no moment with both or neither.

        :raises SessionNotUpdated: nothing is stored under the old identifier
        :raises SessionChanged: ``ses_data`` is not ``expected_data`` any more

        Costs one query, a second one when nothing was written.
        """
        self._renew(self.keys.ses_ids(identifier), new_identifier, record, expected_data)

    def take_over(self, stored: SessionRecord, new_identifier: str, record: SessionRecord) -> None:
        """Move a session that was found by its user to a new identifier; else as ``renew()``."""
        self._renew((stored["ses_id"],), new_identifier, record, stored["ses_data"])

    def remove(self, identifier: str, *, expected_data: bytes | None = None) -> bool:
        """Delete a session; return whether there was one.

        :param expected_data: delete only if ``ses_data`` is still this; None: whatever it is
        :raises SessionChanged: ``ses_data`` is something else by now

        Costs one query, a second one when ``expected_data`` was given and nothing was deleted.
        """
        ses_ids = self.keys.ses_ids(identifier)
        if self._delete(ses_ids, _expecting(expected_data)):
            self._log("removed", ses_ids[0])
            return True
        record = None if expected_data is None else self._read(ses_ids)
        if record is not None:
            raise SessionChanged(self.login_type, ses_ids[0], record)
        return False

    def remove_by_ses_id(self, ses_ids: Sequence[str]) -> int:
        """Delete the sessions with these hashes; return how many there were.

        For administrators, who pick sessions from a list. Costs one query for each batch of 500.
        """
        batches = range(0, len(ses_ids), BATCH_SIZE)
        return sum(self._delete(ses_ids[start : start + BATCH_SIZE], {}) for start in batches)

    @abstractmethod
    def get_all(self) -> Iterator[SessionRecord]:
        """Yield every stored record, in constant memory. O(all sessions)."""

    @abstractmethod
    def get_by_user(self, user_id: UserId) -> Iterator[SessionRecord]:
        """Yield the records of one user, the latest first. O(that user's sessions)."""

    def remove_by_user(self, user_id: UserId, except_: Iterable[str] = ()) -> int:
        """Delete all sessions of a user; return how many went. One indexed delete.

        :param except_: identifiers of sessions that stay
        :raises ValueError: not the id of a user: 0 would end all anonymous sessions
        """
        if stored_user_id(user_id) is None:
            raise ValueError(f"user_id must be the primary key of a user, not {user_id!r}.")
        kept = [ses_id for identifier in except_ for ses_id in self.keys.ses_ids(identifier)]
        removed = self._delete_by_user(user_id, kept)
        logger.debug("%s sessions of user %s removed: %d", self.login_type, user_id, removed)
        return removed

    def collect_garbage(
        self,
        max_lifetime: int,
        max_anonymous_lifetime: int = 0,
        *,
        now: int | None = None,
        batch_size: int = BATCH_SIZE,
        max_batches: int | None = None,
    ) -> int:
        """Delete expired sessions; return how many went.

        :param max_lifetime: seconds after ``ses_tstamp`` at which a user's session has expired
        :param max_anonymous_lifetime: the same for anonymous sessions; 0: as ``max_lifetime``
        :param now: Unix seconds; None: the system's clock
        :param max_batches: stop after so many statements; None: when nothing is left

        Costs two queries a batch. Source: TYPO3 ``SessionBackendInterface::collectGarbage()``.
        """
        batches = self.iter_garbage(
            max_lifetime, max_anonymous_lifetime, now=now, batch_size=batch_size
        )
        return sum(islice(batches, max_batches))

    def iter_garbage(
        self,
        max_lifetime: int,
        max_anonymous_lifetime: int = 0,
        *,
        now: int | None = None,
        batch_size: int = BATCH_SIZE,
    ) -> Iterator[int]:
        """Delete as ``collect_garbage()`` does, a batch whenever the iterator is asked for one.

        Yields how many each batch took.
        """
        return self._collect(*_limits(max_lifetime, max_anonymous_lifetime, now), batch_size)

    def count_garbage(
        self, max_lifetime: int, max_anonymous_lifetime: int = 0, *, now: int | None = None
    ) -> int:
        """Return how many sessions ``collect_garbage()`` would take."""
        return self._count_expired(*_limits(max_lifetime, max_anonymous_lifetime, now))

    @property
    def transaction_depth(self) -> int:
        """How many transactions the storage is in; 0 where it has none."""
        return 0

    def watch_transaction(self) -> Callable[[], bool]:
        """Return a function that tells later whether what is written now was rolled back."""
        return lambda: False

    # What a backend implements, besides the abstract methods above.

    @abstractmethod
    def _read(self, ses_ids: Sequence[str]) -> SessionRecord | None:
        """Return the record with one of these hashes, None if there is none."""

    @abstractmethod
    def _insert(self, ses_id: str, record: SessionRecord) -> bool:
        """Store a record unless the hash is taken; return whether it was stored."""

    @abstractmethod
    def _update(
        self, ses_ids: Sequence[str], values: SessionRecord, expected: SessionRecord
    ) -> bool:
        """Set ``values`` where all ``expected`` fields hold, atomically.

        ``values`` always has a ``ses_id``, which may be another one than the record's.

        Return whether there was such a record.
        """

    @abstractmethod
    def _delete(self, ses_ids: Sequence[str], expected: SessionRecord) -> int:
        """Delete the records with these hashes where all ``expected`` fields hold, atomically.

        Return how many there were.
        """

    @abstractmethod
    def _delete_by_user(self, user_id: UserId, kept: Sequence[str]) -> int:
        """Delete a user's records but those with the hashes in ``kept``; return how many went."""

    @abstractmethod
    def _collect(self, users_before: int, visitors_before: int, batch_size: int) -> Iterator[int]:
        """Delete in batches the records with an older ``ses_tstamp``; yield how many each took.

        :param users_before: Unix seconds, for records with a user
        :param visitors_before: Unix seconds, for anonymous records
        """

    @abstractmethod
    def _count_expired(self, users_before: int, visitors_before: int) -> int:
        """Return how many records ``_collect()`` would delete."""

    def _renew(
        self,
        ses_ids: Sequence[str],
        new_identifier: str,
        record: SessionRecord,
        expected_data: bytes | None,
    ) -> None:
        new_ses_id = self.hash(new_identifier)
        values: SessionRecord = {"ses_permanent": False, **record, "ses_id": new_ses_id}
        self._change(ses_ids, values, expected_data)
        self._log(f"renewed from {ses_ids[0][:8]}", new_ses_id)

    def _change(
        self, ses_ids: Sequence[str], values: SessionRecord, expected_data: bytes | None
    ) -> None:
        if self._update(ses_ids, values, _expecting(expected_data)):
            return
        record = self._read(ses_ids)
        if record is None:
            raise SessionNotUpdated(self.login_type, ses_ids[0])
        raise SessionChanged(self.login_type, ses_ids[0], record)

    def _log(self, event: str, ses_id: str) -> None:
        logger.debug("%s session %s %s", self.login_type, ses_id[:8], event)


def _expecting(data: bytes | None) -> SessionRecord:
    return {} if data is None else {"ses_data": data}


def _limits(max_lifetime: int, max_anonymous_lifetime: int, now: int | None) -> tuple[int, int]:
    """Return before which moments users' and anonymous sessions have expired."""
    now = int(time.time()) if now is None else now
    return now - max_lifetime, now - (max_anonymous_lifetime or max_lifetime)
