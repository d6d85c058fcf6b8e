"""The contract of a session storage."""

from __future__ import annotations

import logging
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from typing import Any

from ..session.record import SessionRecord
from ..session.tokens import Keys
from ..session.user_keys import UserId, stored_user_id, to_user_id

logger = logging.getLogger("usersessions.backends")

#: How many sessions one statement that ends many of them may delete.
BATCH_SIZE = 500

#: Seconds that a writer waits at the most after its first lost turn, and after any.
FIRST_WAIT, LONGEST_WAIT = 0.02, 1.0


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


class SessionBusy(SessionBackendError):
    """Other requests changed the session before each attempt to store it; nothing was written.

    Not a ``SessionNotUpdated``: the session is there, and what was to be stored must not be dropped
    in silence.

    :ivar attempts: how often it was tried
    """

    def __init__(self, login_type: str, ses_id: str, attempts: int) -> None:
        self.attempts = attempts
        self.problem = (
            f"was not stored: other requests changed its data before each of {attempts} attempts"
        )
        super().__init__(login_type, ses_id)


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

    #: Whether the storage itself drops sessions that have expired.
    drops_expired = False

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

        Costs one query, a second one when nothing was written, two more when the storage fails:
        whether only its answer was lost.
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
        record = None if expected_data is None else self._read_again(ses_ids)
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
        """Yield every stored record, in constant memory. O(all sessions).

        What is stored from the first to the last of them is among them, though others are stored or
        removed meanwhile.
        """

    def get_page(self, start: str = "", limit: int = 100) -> tuple[list[SessionRecord], str]:
        """Return about so many records in no order, and where the next page starts; "": nowhere.

        For administrators' lists. Costs as much as ``get_all()`` up to there, unless the storage
        can go on where a page ended.
        """
        first = int(start) if start.isdecimal() else 0
        records = list(islice(self.get_all(), first, first + limit + 1))
        return records[:limit], str(first + limit) if len(records) > limit else ""

    def get_by_ses_id(self, ses_id: str) -> SessionRecord:
        """Return the record with this hash, as ``get()`` does. For administrators' lists."""
        record = self._read([ses_id])
        if record is None:
            raise SessionNotFound(self.login_type, ses_id)
        return record

    @abstractmethod
    def get_by_user(self, user_id: UserId) -> Iterator[SessionRecord]:
        """Yield the records of one user, the latest first. O(that user's sessions)."""

    def get_current_by_user(self, user_id: UserId) -> Iterator[SessionRecord]:
        """Yield them as they are now, in a transaction that sees older ones, too; may lock them."""
        return self.get_by_user(user_id)

    def remove_by_user(self, user_id: UserId, except_: Iterable[str] = ()) -> int:
        """Delete all sessions of a user; return how many went. Costs one indexed delete.

        With MySQL and MariaDB a query and a delete for each 500, and one delete more.

        :param except_: identifiers of sessions that stay
        :raises ValueError: not the id of a user: 0 would end all anonymous sessions
        """
        if stored_user_id(user_id) is None:
            raise ValueError(f"user_id must be the primary key of a user, not {user_id!r}.")
        kept = [ses_id for identifier in except_ for ses_id in self.keys.ses_ids(identifier)]
        removed = self._delete_by_user(user_id, kept)
        logger.debug("%s sessions of user %s removed: %d", self.login_type, user_id, removed)
        return removed

    def iter_remove_all(
        self,
        *,
        anonymous: bool | None = None,
        except_users: Collection[UserId] = (),
        batch_size: int = BATCH_SIZE,
    ) -> Iterator[int]:
        """Delete all sessions, a batch whenever the iterator is asked for one.

        Yields how many each batch took. What is stored or renewed meanwhile may stay.

        :param anonymous: True: those of nobody only; False: those of users only; None: both
        :param except_users: users whose sessions stay
        :raises ValueError: one of ``except_users`` is not the id of a user

        For emergencies. O(all sessions).
        """
        kept = frozenset(map(to_user_id, except_users))
        batches = self._pick(anonymous, kept, batch_size)
        return (self._delete_picked(ses_ids, anonymous, kept) for ses_ids in batches)

    def count_all(
        self, *, anonymous: bool | None = None, except_users: Collection[UserId] = ()
    ) -> int:
        """Return how many sessions ``iter_remove_all()`` would take. O(all sessions)."""
        return self._count(anonymous, frozenset(map(to_user_id, except_users)))

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

        May run several times at once and beside requests. Costs two queries a batch in a database,
        three where it lets rows be skipped that others have locked. Source: TYPO3
        ``SessionBackendInterface::collectGarbage()``.
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

    @contextmanager
    def turn_after(self, lost: int, identifier: str) -> Iterator[SessionRecord | None]:
        """Let a writer try again that has lost to others so many times; the block is its turn.

        Gives what is stored by now, None if there is nothing. A storage that has locks sees to it
        that this stays so until the end of the block. Else, as here, a writer waits before its
        turn, at random and the longer the more it has lost: those that meet get out of each
        other's way.
        """
        longest = min(FIRST_WAIT * 2 ** (lost - 1), LONGEST_WAIT)
        time.sleep(random.uniform(0, longest))  # noqa: S311 - nobody gains by guessing it
        yield self._read_again(self.keys.ses_ids(identifier))

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

    # What a backend may do better.

    def _pick(
        self, anonymous: bool | None, kept_users: frozenset[UserId], batch_size: int
    ) -> Iterator[Sequence[str]]:
        """Yield the hashes of the sessions that ``iter_remove_all()`` is to take, in batches."""
        ses_ids = (
            record["ses_id"] for record in self.get_all() if _is_one(record, anonymous, kept_users)
        )
        while batch := list(islice(ses_ids, batch_size)):
            yield batch

    def _delete_picked(
        self, ses_ids: Sequence[str], anonymous: bool | None, kept_users: frozenset[UserId]
    ) -> int:
        """Delete a batch, but what has become another's since it was picked, where that is seen.

        A storage whose sessions never change hands without a new hash need not look again.
        """
        return self.remove_by_ses_id(ses_ids)

    def _count(self, anonymous: bool | None, kept_users: frozenset[UserId]) -> int:
        return sum(map(len, self._pick(anonymous, kept_users, BATCH_SIZE)))

    def _read_again(self, ses_ids: Sequence[str]) -> SessionRecord | None:
        """Return what another request has made of the record that a write did not meet.

        Never from a cache, nor what was there when a transaction began.
        """
        return self._read(ses_ids)

    def _renew(
        self,
        ses_ids: Sequence[str],
        new_identifier: str,
        record: SessionRecord,
        expected_data: bytes | None,
    ) -> None:
        new_ses_id = self.hash(new_identifier)
        values: SessionRecord = {"ses_permanent": False, **record, "ses_id": new_ses_id}
        try:
            self._change(ses_ids, values, expected_data)
        except SessionBackendError:
            raise
        except Exception:
            # The browser has the old identifier: without the new cookie it would be logged out.
            if not self._was_renewed(ses_ids, new_ses_id):
                raise
        self._log(f"renewed from {ses_ids[0][:8]}", new_ses_id)

    def _change(
        self, ses_ids: Sequence[str], values: SessionRecord, expected_data: bytes | None
    ) -> None:
        if self._update(ses_ids, values, _expecting(expected_data)):
            return
        record = self._read_again(ses_ids)
        if record is None:
            raise SessionNotUpdated(self.login_type, ses_ids[0])
        raise SessionChanged(self.login_type, ses_ids[0], record)

    def _was_renewed(self, ses_ids: Sequence[str], new_ses_id: str) -> bool:
        """Return whether a renewal was carried out although its answer was an error.

        As when the connection was lost before the answer. Nobody else knows the new identifier.
        """
        with suppress(Exception):  # the storage is away: the error that is known already tells
            if self._reconnect():
                return self._read([new_ses_id]) is not None and self._read(ses_ids) is None
        return False

    def _reconnect(self) -> bool:
        """Return whether the storage can be asked again after an error, with a new connection."""
        return True

    def _log(self, event: str, ses_id: str) -> None:
        logger.debug("%s session %s %s", self.login_type, ses_id[:8], event)


def _is_one(record: SessionRecord, anonymous: bool | None, kept_users: frozenset[UserId]) -> bool:
    user_id = stored_user_id(record["ses_userid"])
    if user_id is None:
        return anonymous is not False
    return anonymous is not True and user_id not in kept_users


def _expecting(data: bytes | None) -> SessionRecord:
    return {} if data is None else {"ses_data": data}


def _limits(max_lifetime: int, max_anonymous_lifetime: int, now: int | None) -> tuple[int, int]:
    """Return before which moments users' and anonymous sessions have expired."""
    now = int(time.time()) if now is None else now
    return now - max_lifetime, now - (max_anonymous_lifetime or max_lifetime)
