"""Which sessions of a login type are to be counted or removed."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import NamedTuple

from ..session.record import SessionRecord
from ..session.user_keys import UserId, stored_user_id, to_user_id


class Expired(NamedTuple):
    """Sessions with an older ``ses_tstamp`` than these moments, in Unix seconds.

    :ivar users_before: for sessions of users
    :ivar visitors_before: for anonymous sessions
    """

    users_before: int
    visitors_before: int

    @classmethod
    def after(
        cls, max_lifetime: int, max_anonymous_lifetime: int = 0, *, now: int | None = None
    ) -> Expired:
        """Select the sessions that were not used for so many seconds.

        :param max_anonymous_lifetime: for anonymous sessions; 0: as ``max_lifetime``
        :param now: Unix seconds; None: the system's clock
        """
        now = int(time.time()) if now is None else now
        return cls(now - max_lifetime, now - (max_anonymous_lifetime or max_lifetime))

    def covers(self, record: SessionRecord) -> bool:
        is_anonymous = stored_user_id(record["ses_userid"]) is None
        return record["ses_tstamp"] < (self.visitors_before if is_anonymous else self.users_before)


class AnySession:
    """All sessions, for emergencies.

    :param anonymous: True: only anonymous ones; False: only those of users; None: both
    :param except_users: users whose sessions are left out
    :raises ValueError: one of ``except_users`` is not the id of a user
    """

    def __init__(
        self, *, anonymous: bool | None = None, except_users: Collection[UserId] = ()
    ) -> None:
        self.anonymous = anonymous
        self.except_users = frozenset(map(to_user_id, except_users))

    def covers(self, record: SessionRecord) -> bool:
        user_id = stored_user_id(record["ses_userid"])
        if user_id is None:
            return self.anonymous is not False
        return self.anonymous is not True and user_id not in self.except_users


Selection = Expired | AnySession
