"""The contract of a session storage."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any

from ..session.record import SesId, SessionRecord
from ..session.tokens import Keys
from ..session.user_keys import UserId, stored_user_id
from .errors import (
    SessionBackendError,
    SessionChanged,
    SessionNotCreated,
    SessionNotFound,
    SessionNotUpdated,
)
from .selection import AnySession, Expired, Selection
from .transactions import can_ask_again

logger = logging.getLogger("usersessions.backends")

#: How many sessions one statement that ends many of them may delete.
BATCH_SIZE = 500


class SessionBackend(ABC):
    """Stores the sessions of one login type.

    The public methods take identifiers, hash them, log and check. The hooks below them only ever
    see ``ses_id``, so that no storage can keep a secret by mistake. A backend of your own
    implements the abstract methods, and may do better at the others. Where they take several
    ``ses_ids``, these are the hashes of one identifier under ``SECRET_KEY`` and its fallbacks,
    the current one first.

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

    @property
    def database(self) -> str | None:
        """The alias of the Django database that keeps the sessions; None: another storage does."""
        return None

    @abstractmethod
    def validate_configuration(self) -> None:
        """Check the options, without touching the storage.

        :raises ImproperlyConfigured: names the option and what would be right
        """

    def hash(self, identifier: str) -> str:
        """Return the ``ses_id`` under which new writes store the identifier."""
        return self.keys.ses_ids(identifier)[0]

    # One session

    def get(self, identifier: str, *, current: bool = False) -> SessionRecord:
        """Return the stored record, even if it has expired.

        :param identifier: 32 lowercase hex digits; only its hash reaches the storage
        :param current: as it is now, also beside a cache, and in a transaction that sees older
            rows; may lock it there
        :raises SessionNotFound: nothing is stored under it; a failing storage raises its own error

        Costs one query. Source: TYPO3 ``SessionBackendInterface::get()``.
        """
        is_hash = isinstance(identifier, SesId)
        ses_ids = (identifier,) if is_hash else self.keys.ses_ids(identifier)
        record = self._read(ses_ids, current=current)
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

        Costs one query, a second one when nothing was written. When the storage fails, two more
        tell whether only its answer was lost.
        """
        is_hash = isinstance(identifier, SesId)
        ses_ids = (identifier,) if is_hash else self.keys.ses_ids(identifier)
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

    def remove(self, identifier: str, *, expected_data: bytes | None = None) -> bool:
        """Delete a session; return whether there was one.

        :param expected_data: delete only if ``ses_data`` is still this; None: whatever it is
        :raises SessionChanged: ``ses_data`` is something else by now

        Costs one query, a second one when ``expected_data`` was given and nothing was deleted.
        """
        ses_ids = self.keys.ses_ids(identifier)
        if self._delete(ses_ids, {} if expected_data is None else {"ses_data": expected_data}):
            self._log("removed", ses_ids[0])
            return True
        record = None if expected_data is None else self._read(ses_ids, current=True)
        if record is not None:
            raise SessionChanged(self.login_type, ses_ids[0], record)
        return False

    # Many sessions

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
        removed in the meantime.
        """

    def get_page(self, start: str = "", limit: int = 100) -> tuple[list[SessionRecord], str]:
        """Return about so many records in no order, and where the next page starts; "": nowhere.

        For administrators' lists. Costs as much as ``get_all()`` up to there, unless the storage
        can go on where a page ended.
        """
        first = int(start) if start.isdecimal() else 0
        records = list(islice(self.get_all(), first, first + limit + 1))
        return records[:limit], str(first + limit) if len(records) > limit else ""

    @abstractmethod
    def get_by_user(self, user_id: UserId, *, current: bool = False) -> Iterator[SessionRecord]:
        """Yield the records of one user, the latest first. O(that user's sessions).

        :param current: as they are now, also in a transaction that sees older rows; may lock them
        """

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

    def remove_all(self, selection: Selection, batch_size: int = BATCH_SIZE) -> Iterator[int]:
        """Delete the selected sessions, a batch each time that the iterator is asked for one.

        Yields how many each batch took. Sessions that are stored or renewed during that may stay; a
        session that is used during that is not taken for an expired one. May run several times at
        once and beside requests.

        O(all sessions). In a database, expired ones cost two queries a batch, three where it lets
        rows be skipped that others have locked.
        """
        records = filter(selection.covers, self.get_all())
        while batch := list(islice(records, batch_size)):
            if isinstance(selection, Expired):
                yield sum(
                    self._delete([record["ses_id"]], {"ses_tstamp": record["ses_tstamp"]})
                    for record in batch
                )
            else:
                yield self.remove_by_ses_id([record["ses_id"] for record in batch])

    def count_all(self, selection: Selection | None = None) -> int:
        """Return how many sessions ``remove_all()`` would take. O(all sessions).

        :param selection: None: all sessions
        """
        return sum(map((selection or AnySession()).covers, self.get_all()))

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

        Costs what ``remove_all()`` does. Source: TYPO3
        ``SessionBackendInterface::collectGarbage()``.
        """
        expired = Expired.after(max_lifetime, max_anonymous_lifetime, now=now)
        return sum(islice(self.remove_all(expired, batch_size), max_batches))

    # What a backend implements, besides the abstract methods above

    @abstractmethod
    def _read(self, ses_ids: Sequence[str], *, current: bool = False) -> SessionRecord | None:
        """Return the record with one of these hashes, None if there is none.

        :param current: never from a cache, nor what was there when a transaction began
        """

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

    def _delete_by_user(self, user_id: UserId, kept: Sequence[str]) -> int:
        """Delete a user's records but those with the hashes in ``kept``; return how many went.

        Here until a look finds none: a session that is renewed has another hash.
        """
        removed, count = 0, 1
        while count:
            records = self.get_by_user(user_id, current=True)
            found = [record["ses_id"] for record in records if record["ses_id"] not in kept]
            count = self.remove_by_ses_id(found)
            removed += count
        return removed

    # Steps of the public methods

    def _change(
        self, ses_ids: Sequence[str], values: SessionRecord, expected_data: bytes | None
    ) -> None:
        expected: SessionRecord = {} if expected_data is None else {"ses_data": expected_data}
        if self._update(ses_ids, values, expected):
            return
        record = self._read(ses_ids, current=True)
        if record is None:
            raise SessionNotUpdated(self.login_type, ses_ids[0])
        raise SessionChanged(self.login_type, ses_ids[0], record)

    def _was_renewed(self, ses_ids: Sequence[str], new_ses_id: str) -> bool:
        """Return whether a renewal was carried out although its answer was an error.

        As when the connection was lost before the answer. No other request knows the new
        identifier.
        """
        with suppress(Exception):  # the storage is away: the error that is known already tells
            if can_ask_again(self):
                return self._read([new_ses_id]) is not None and self._read(ses_ids) is None
        return False

    def _log(self, event: str, ses_id: str) -> None:
        logger.debug("%s session %s %s", self.login_type, ses_id[:8], event)
