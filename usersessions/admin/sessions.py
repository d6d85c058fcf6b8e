"""The tables of sessions in the admin: read-only, but for ending sessions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.contrib.admin.views.main import ChangeList
from django.contrib.auth import get_user_model
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.timezone import localtime
from django.utils.translation import gettext, ngettext, pgettext, pgettext_lazy
from django.utils.translation import gettext_lazy as _

from ..backends.base import SessionBackend
from ..backends.database import COLUMNS, DatabaseSessionBackend
from ..conf import get_login_types
from ..masking import mask_credentials
from ..models import AbstractUserSession
from ..session_data import CorruptSessionData
from ..session_manager import SessionManager
from ..user_ids import find_user
from ..user_session import UserSession
from ..user_session_manager import UserSessionManager
from .filters import KindFilter, StateFilter
from .login_types import manager_of

if TYPE_CHECKING:
    SessionModelAdmin = admin.ModelAdmin[AbstractUserSession]
else:
    SessionModelAdmin = admin.ModelAdmin

#: What a column shows where there is nothing to show, as the admin's own.
NOTHING = "-"

#: How many users a search by name takes into account.
MAX_USERS_FOUND = 500


class SessionChangeList(ChangeList):
    """Fetches the users of a page of sessions in one query; there is no foreign key to follow."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        sessions: list[Any] = list(self.result_list)
        users = get_user_model()._default_manager.in_bulk(
            {session.user_id for session in sessions if session.user_id is not None}
        )
        for session in sessions:
            session.user = users.get(session.user_id)
        self.result_list = sessions


class UserSessionAdmin(SessionModelAdmin):
    """Lists one table of sessions. Register it for a session model of your own, too."""

    list_display = ("short_hash", "user_name", "kind", "updated_at", "expires_at", "ses_iplock")
    list_filter = (KindFilter, StateFilter)
    fields = (*list_display, "browser", "data")
    readonly_fields = fields
    search_fields = ("ses_userid",)  # shows the box; get_search_results() does the search
    search_help_text = _("Search by user name.")
    ordering = ("-ses_tstamp",)
    actions = ("end_selected_sessions", "end_all_sessions_of_users")
    show_full_result_count = False

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return SessionChangeList

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        # Sessions are ended, through their storage, not deleted as objects.
        return False

    def has_end_permission(self, request: HttpRequest) -> bool:
        """Return whether the user may end sessions: they need the model's delete permission."""
        return _may_end(request.user, self.model)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_view_permission(request, obj) or self.has_end_permission(request)

    def get_queryset(self, request: HttpRequest) -> QuerySet[AbstractUserSession]:
        return super().get_queryset(request).using(self._backend.database)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[AbstractUserSession], search_term: str
    ) -> tuple[QuerySet[AbstractUserSession], bool]:
        if not search_term:
            return queryset, False
        users = get_user_model()
        found = users._default_manager.filter(
            **{f"{users.USERNAME_FIELD}__icontains": search_term}
        ).values_list("pk", flat=True)[: MAX_USERS_FOUND + 1]
        user_ids = list(found)
        if len(user_ids) > MAX_USERS_FOUND:
            text = gettext("More than %d users match; not all of their sessions are shown.")
            self.message_user(request, text % MAX_USERS_FOUND, messages.WARNING)
        return queryset.filter(ses_userid__in=user_ids[:MAX_USERS_FOUND]), False

    @property
    def can_be_permanent(self) -> bool:
        return any(field.name == "ses_permanent" for field in self.model._meta.fields)

    @property
    def _manager(self) -> UserSessionManager | None:
        return manager_of(self.model)

    # Columns

    @admin.display(description=_("hash"), ordering="ses_id")
    def short_hash(self, session: AbstractUserSession) -> str:
        return session.short_hash

    @admin.display(description=_("user"), ordering="ses_userid")
    def user_name(self, session: Any) -> str:
        if session.user_id is None:
            return NOTHING
        # The list has fetched the users of all its rows.
        user = session.user if hasattr(session, "user") else find_user(session.user_id)
        if user is None:
            return gettext("deleted user {}").format(session.user_id)
        return str(user.get_username())

    @admin.display(description=pgettext_lazy("session", "kind"))
    def kind(self, session: Any) -> str:
        if session.user_id is None:
            return pgettext("session", "Anonymous")
        if getattr(session, "ses_permanent", False):
            return pgettext("session", "Permanent")
        return gettext("User")

    @admin.display(description=_("last update"), ordering="ses_tstamp")
    def updated_at(self, session: AbstractUserSession) -> str:
        manager, read = self._manager, self._read(session)
        return _as_date(manager.expiry.last_used(read) if manager and read else session.ses_tstamp)

    @admin.display(description=pgettext_lazy("session", "expires"))
    def expires_at(self, session: AbstractUserSession) -> str:
        manager, read = self._manager, self._read(session)
        return _as_date(manager.expiry.expires_at(read)) if manager and read else NOTHING

    @admin.display(description=_("browser"))
    def browser(self, session: AbstractUserSession) -> str:
        read = self._read(session)
        return read.meta.get("user_agent", NOTHING) if read else NOTHING

    @admin.display(description=_("data"))
    def data(self, session: AbstractUserSession) -> str:
        read = self._read(session)
        if read is None:
            return gettext("The data does not decode.")
        masked = mask_credentials(read.data)
        return format_html(
            "<pre>{}</pre>", json.dumps(masked, indent=2, ensure_ascii=False, default=str)
        )

    def _read(self, session: Any) -> UserSession | None:
        if not hasattr(session, "decoded"):
            session.decoded = self._decode(session)
        decoded: UserSession | None = session.decoded
        return decoded

    def _decode(self, session: AbstractUserSession) -> UserSession | None:
        manager = self._manager
        serializer = manager.serializer if manager else None
        record = {name: getattr(session, name) for name in COLUMNS}
        try:
            return UserSession.from_record("", record, serializer=serializer)
        except CorruptSessionData:
            return None

    # Actions

    @admin.action(description=_("End selected sessions"), permissions=["end"])
    def end_selected_sessions(
        self, request: HttpRequest, queryset: QuerySet[AbstractUserSession]
    ) -> None:
        ses_ids = list(queryset.order_by().values_list("ses_id", flat=True))
        self._tell(request, self._backend.remove_by_ses_id(ses_ids))

    @admin.action(description=_("End all sessions of these users"), permissions=["end"])
    def end_all_sessions_of_users(
        self, request: HttpRequest, queryset: QuerySet[AbstractUserSession]
    ) -> None:
        """End them in every login type whose sessions the person may end."""
        owners = (session.user_id for session in queryset.only("ses_userid"))
        user_ids = {user_id for user_id in owners if user_id is not None}
        ended = 0
        for backend in _backends_that_may_be_ended_in(request.user):
            for user_id in user_ids:
                ended += backend.remove_by_user(user_id)
        self._tell(request, ended)

    @property
    def _backend(self) -> DatabaseSessionBackend:
        manager = self._manager
        if manager is not None:
            assert isinstance(manager.backend, DatabaseSessionBackend)
            return manager.backend
        # A table that no login type uses any more can still be tidied up.
        return DatabaseSessionBackend("", {"model": self.model._meta.label})

    def _tell(self, request: HttpRequest, ended: int) -> None:
        text = ngettext("%d session was ended.", "%d sessions were ended.", ended) % ended
        self.message_user(request, text, messages.SUCCESS)


def _as_date(timestamp: int) -> str:
    try:
        moment = datetime.fromtimestamp(timestamp, timezone.utc)
    except (OverflowError, ValueError, OSError):  # no year that a calendar knows
        return NOTHING
    return date_format(localtime(moment), "DATETIME_FORMAT")


def _may_end(user: Any, model: type[AbstractUserSession]) -> bool:
    return bool(user.has_perm(f"{model._meta.app_label}.delete_{model._meta.model_name}"))


def _backends_that_may_be_ended_in(user: Any) -> Iterator[SessionBackend]:
    for name in get_login_types():
        backend = SessionManager.get_session_backend(name)
        if isinstance(backend, DatabaseSessionBackend):
            if _may_end(user, backend.model):
                yield backend
        elif user.is_superuser:
            yield backend
