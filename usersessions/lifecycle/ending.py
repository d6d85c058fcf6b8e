"""Ending sessions in an emergency: those of some users, all, or the anonymous ones."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from typing import NamedTuple

from ..backends.selection import AnySession
from ..session.record import SessionRecord
from ..session.user_keys import UserId, stored_user_id
from ..switching.state import users_behind
from .user_session_manager import UserSessionManager


class Batch(NamedTuple):
    """One step: how many sessions were looked at, and how many of them ended."""

    seen: int
    ended: int


class Selection(ABC):
    """Says which sessions of a login type are to end, and ends them."""

    @abstractmethod
    def count(self, manager: UserSessionManager) -> int:
        """Return how many sessions would end. O(all sessions)."""

    @abstractmethod
    def count_steps(self, manager: UserSessionManager) -> int:
        """Return how many sessions ``end()`` looks at."""

    @abstractmethod
    def end(self, manager: UserSessionManager, batch_size: int) -> Iterator[Batch]:
        """End the sessions, a batch whenever the iterator is asked for one."""


class SessionsOfUsers(Selection):
    """Everything that lets one of these users in.

    Besides their own sessions, these are the ones in which they have switched to another user:
    switching back needs no password. No index finds those, so all sessions are read.
    """

    def __init__(self, user_ids: Iterable[UserId]) -> None:
        self.user_ids = frozenset(user_ids)

    def count(self, manager: UserSessionManager) -> int:
        return sum(map(self._lets_in(manager), manager.backend.get_all()))

    def count_steps(self, manager: UserSessionManager) -> int:
        return manager.backend.count_all()

    def end(self, manager: UserSessionManager, batch_size: int) -> Iterator[Batch]:
        removed = sum(map(manager.backend.remove_by_user, self.user_ids))
        yield Batch(removed, removed)
        yield from _end_found(
            manager, manager.backend.get_all(), self._lets_in(manager), batch_size
        )

    def _lets_in(self, manager: UserSessionManager) -> Callable[[SessionRecord], bool]:
        return lambda record: (
            stored_user_id(record["ses_userid"]) in self.user_ids
            or not self.user_ids.isdisjoint(users_behind(record, manager.serializer))
        )


class AllSessions(Selection):
    """All sessions, or the anonymous ones only.

    :param except_users: whose sessions stay, except those in which another user acts as them
    """

    def __init__(
        self, *, anonymous: bool | None = None, except_users: Iterable[UserId] = ()
    ) -> None:
        self.anonymous = anonymous
        self.except_users = frozenset(except_users)

    def count(self, manager: UserSessionManager) -> int:
        found = manager.backend.count_all(self._selected)
        return found + sum(map(self._lets_others_in(manager), self._kept(manager)))

    def count_steps(self, manager: UserSessionManager) -> int:
        return manager.backend.count_all(AnySession(anonymous=self.anonymous))

    def end(self, manager: UserSessionManager, batch_size: int) -> Iterator[Batch]:
        for ended in manager.backend.remove_all(self._selected, batch_size):
            yield Batch(ended, ended)
        yield from _end_found(
            manager, self._kept(manager), self._lets_others_in(manager), batch_size
        )

    @property
    def _selected(self) -> AnySession:
        return AnySession(anonymous=self.anonymous, except_users=self.except_users)

    def _kept(self, manager: UserSessionManager) -> Iterator[SessionRecord]:
        return chain.from_iterable(map(manager.backend.get_by_user, self.except_users))

    def _lets_others_in(self, manager: UserSessionManager) -> Callable[[SessionRecord], bool]:
        return lambda record: not users_behind(record, manager.serializer) <= self.except_users


def _end_found(
    manager: UserSessionManager,
    records: Iterator[SessionRecord],
    is_wanted: Callable[[SessionRecord], bool],
    batch_size: int,
) -> Iterator[Batch]:
    while batch := list(islice(records, batch_size)):
        ses_ids = [record["ses_id"] for record in batch if is_wanted(record)]
        yield Batch(len(batch), manager.backend.remove_by_ses_id(ses_ids))
