"""What the admin shows of a session, for any storage."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime, timezone
from functools import cached_property
from typing import Any

from django.contrib.auth import get_user_model
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.timezone import localtime
from django.utils.translation import gettext, pgettext

from ..lifecycle.user_session_manager import UserSessionManager
from ..session.data import CorruptSessionData
from ..session.meta import USER_AGENT
from ..session.record import SessionRecord
from ..session.user_keys import find_user, stored_user_id
from ..session.user_session import UserSession
from ..switching.state import is_switched
from .masking import mask_credentials

#: Shown for a missing value, as in the admin's own columns.
NOTHING = "-"

#: The columns of a list of sessions; each is an attribute of ``ShownSession``.
COLUMNS = ("short_hash", "user_name", "kind", "updated_at", "expires_at", "ses_iplock")

#: The fields of the page of one session.
FIELDS = (*COLUMNS, "browser", "data")


class ShownSession:
    """One session as the columns show it.

    :param record: from the storage
    :param manager: of the login type; None: no login type uses the session's table any more
    """

    def __init__(self, record: SessionRecord, manager: UserSessionManager | None) -> None:
        self.ses_id = record["ses_id"]
        self.user_id = stored_user_id(record.get("ses_userid"))
        self._record = record
        self._manager = manager

    @property
    def short_hash(self) -> str:
        return self.ses_id[:8]

    @cached_property
    def user(self) -> Any:
        """The user; None if deleted. Costs a query, except after ``fetch_users()``."""
        return find_user(self.user_id)

    @property
    def user_name(self) -> str:
        if self.user_id is None:
            return NOTHING
        if self.user is None:
            return gettext("deleted user {}").format(self.user_id)
        return str(self.user.get_username())

    @property
    def kind(self) -> str:
        if self.user_id is None:
            return pgettext("session", "Anonymous")
        if self._session and is_switched(self._session):
            return pgettext("session", "Switched")
        if self._record.get("ses_permanent"):
            return pgettext("session", "Permanent")
        return gettext("User")

    @property
    def updated_at(self) -> str:
        if self._manager and self._session:
            return _as_date(self._manager.expiry.last_used(self._session))
        return _as_date(self._record.get("ses_tstamp", 0))

    @property
    def expires_at(self) -> str:
        if self._manager and self._session:
            return _as_date(self._manager.expiry.expires_at(self._session))
        return NOTHING

    @property
    def ses_iplock(self) -> str:
        return self._record.get("ses_iplock") or NOTHING

    @property
    def browser(self) -> str:
        return self._session.meta.get(USER_AGENT, NOTHING) if self._session else NOTHING

    @property
    def data(self) -> str:
        if self._session is None:
            return gettext("The data cannot be decoded.")
        masked = mask_credentials(self._session.data)
        return format_html(
            "<pre>{}</pre>", json.dumps(masked, indent=2, ensure_ascii=False, default=str)
        )

    @cached_property
    def _session(self) -> UserSession | None:
        serializer = self._manager.serializer if self._manager else None
        try:
            return UserSession.from_record("", self._record, serializer=serializer)
        except CorruptSessionData:
            return None


def fetch_users(sessions: Iterable[Any]) -> None:
    """Set the ``user`` of each session, None for a deleted one. Costs one query."""
    sessions = list(sessions)
    users = get_user_model()._default_manager.in_bulk(
        {session.user_id for session in sessions if session.user_id is not None}
    )
    for session in sessions:
        session.user = users.get(session.user_id)


def _as_date(timestamp: int) -> str:
    try:
        moment = datetime.fromtimestamp(timestamp, timezone.utc)
    except (OverflowError, ValueError, OSError):  # outside the calendar's years
        return NOTHING
    return date_format(localtime(moment), "DATETIME_FORMAT")
