"""Writing on Redis Cluster, where no script can reach a session and its user's list at once.

A session, its next key and the list of its user are on different servers. The list has the session
before it is stored and until it is gone, so that ending a user's sessions misses none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ...session.record import SessionRecord
from ...session.user_keys import UserId, stored_user_id
from . import scripts
from .records import as_arguments, as_text, parse

if TYPE_CHECKING:
    from .backend import RedisSessionBackend

#: How often a renewal begins again when another request changes the session during it.
MOVE_ATTEMPTS = 10


class ClusterWriter:
    """The writing hooks of a ``RedisSessionBackend`` on a cluster, each in several steps."""

    def __init__(self, backend: RedisSessionBackend) -> None:
        self.backend = backend

    def update(
        self, ses_ids: Sequence[str], values: SessionRecord, expected: SessionRecord
    ) -> bool:
        for _ in range(MOVE_ATTEMPTS):
            found = self.backend.find(ses_ids)
            old = found and parse(*found)
            if not found or not old or not _is_as(old, expected):
                return False
            new: SessionRecord = {**old, **values}
            self.list(new)
            if new["ses_id"] == old["ses_id"]:
                return self.backend.update_one([old["ses_id"]], values, expected)
            if self._move(*found, new):
                self._unlist([(old["ses_userid"], old["ses_id"])])
                return True
        return False

    def _move(self, ses_id: str, text: bytes, new: SessionRecord) -> bool:
        """Store the record under its new key, then delete the old one; not if that has changed."""
        backend = self.backend
        new_key = backend.session_key(new["ses_id"])
        if not backend.script(scripts.INSERT, [new_key], [new["ses_id"], as_text(new)]):
            return False  # another request moves it there
        if backend.redis.script(scripts.DELETE_AS_READ, [backend.session_key(ses_id)], [text]):
            return True
        backend.redis.pipeline([("DEL", new_key)])
        self._unlist([(new["ses_userid"], new["ses_id"])])
        return False

    def delete(self, ses_ids: Sequence[str], expected: SessionRecord) -> int:
        deleted = self._delete_each(ses_ids, expected)
        if len(ses_ids) > 1:
            # A session that moves from one of its hashes to another may be missed at both.
            deleted |= self._delete_each(
                [each for each in ses_ids if each not in deleted], expected
            )
        self._unlist((owner, ses_id) for ses_id, owner in deleted.items())
        return len(deleted)

    def delete_by_user(self, user_id: UserId, kept: Sequence[str]) -> int:
        """Delete until nothing is left, and nothing can be that is on its way to a new key.

        Such a session is on the list before it is stored: while the list grows, there may be one.
        """
        removed, seen = 0, list[list[str]]()
        while True:
            ses_ids = [ses_id for ses_id in self.backend.listed(user_id) if ses_id not in kept]
            if not ses_ids or seen[-2:] == [ses_ids, ses_ids]:
                return removed
            deleted = self._delete_each(ses_ids, {"ses_userid": user_id})
            self._unlist((owner, ses_id) for ses_id, owner in deleted.items())
            removed += len(deleted)
            seen = [] if deleted else [*seen, ses_ids]

    def _delete_each(self, ses_ids: Iterable[str], expected: SessionRecord) -> dict[str, str]:
        """Delete sessions; return their users, "" for anonymous ones, by ``ses_id``."""
        backend, deleted = self.backend, {}
        # One by one: of a script in a pipeline, redis-py asks a node first which keys it has.
        for ses_id in ses_ids:
            arguments = [*as_arguments(expected), ses_id]
            for owner in backend.script(scripts.DELETE, [backend.session_key(ses_id)], arguments):
                deleted[ses_id] = owner.decode()
        return deleted

    def list(self, record: SessionRecord) -> None:
        """Put a session that is about to be stored on the list of its user."""
        user_id = stored_user_id(record["ses_userid"])
        if user_id is not None:
            arguments = [record["ses_id"], self.backend.seconds_left(record)]
            key = self.backend.list_key(user_id)
            self.backend.redis.script(scripts.ENTER, [key], arguments)

    def _unlist(self, owned: Iterable[tuple[UserId, str]]) -> None:
        """Take sessions off the lists of their users."""
        owners = [(stored_user_id(owner), ses_id) for owner, ses_id in owned]
        self.backend.redis.pipeline(
            [("ZREM", self.backend.list_key(owner), ses_id) for owner, ses_id in owners if owner]
        )


def _is_as(record: Mapping[str, Any], expected: Mapping[str, Any]) -> bool:
    return all(record[field] == value for field, value in expected.items())
