"""The tables of sessions in the admin: read-only, except that sessions can be ended."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, cast

from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.contrib.admin.views.main import ChangeList
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import URLPattern, path
from django.utils.functional import cached_property
from django.utils.translation import gettext, ngettext, pgettext_lazy
from django.utils.translation import gettext_lazy as _

from ..backends.database.backend import COLUMNS, DatabaseSessionBackend
from ..backends.session_manager import SessionManager
from ..conf import get_login_types
from ..models import AbstractUserSession
from ..session.record import SessionRecord
from ..session.user_keys import UserId, stored_user_id
from .filters import KindFilter, StateFilter
from .other_storages import OtherStorageViews
from .session_models import find_type_in_other_storage, manager_of
from .session_page import SessionPage, may_end
from .shown_session import COLUMNS as SHOWN_COLUMNS
from .shown_session import FIELDS, ShownSession, fetch_users
from .user_search import find_user_ids

if TYPE_CHECKING:
    SessionModelAdmin = admin.ModelAdmin[AbstractUserSession]
else:
    SessionModelAdmin = admin.ModelAdmin

#: How many sessions a list has on all its pages. A database takes seconds to count a million.
MAX_LISTED = 10_000


class SessionPaginator(Paginator):  # type: ignore[type-arg]
    """Counts up to ``MAX_LISTED``; ``has_more`` says whether there are more."""

    @cached_property
    def has_more(self) -> bool:
        return self._counted > MAX_LISTED

    @cached_property
    def count(self) -> int:
        return min(self._counted, MAX_LISTED)

    @cached_property
    def _counted(self) -> int:
        sessions: Any = self.object_list
        return int(sessions.order_by()[: MAX_LISTED + 1].count())


class SessionChangeList(ChangeList):
    """Lists up to ``MAX_LISTED`` sessions, in an order for which there is an index.

    Fetches the users of a page in one query, as there is no foreign key to follow.
    """

    def __init__(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        super().__init__(request, *args, **kwargs)
        if getattr(self.paginator, "has_more", False):  # a site may use another paginator
            self.title = gettext(
                "More than %(number)d sessions: only the first %(number)d in this order are listed"
            ) % {"number": MAX_LISTED}

    def get_ordering_field(self, field_name: Any) -> Any:
        # The URL may ask for columns that the headings do not offer.
        return (
            super().get_ordering_field(field_name)
            if field_name in (self.sortable_by or ())
            else None
        )

    def get_ordering(self, request: HttpRequest, queryset: Any) -> list[Any]:
        """Return the order of a complete index; for any other, MariaDB sorts all rows."""
        ordering = list(super().get_ordering(request, queryset))
        indexes = [index.fields for index in self.lookup_opts.indexes]
        for columns in [*indexes, [self.lookup_opts.pk.name]]:
            for sign in ("", "-"):
                if ordering[0] == sign + columns[0]:
                    names = dict.fromkeys([*columns, self.lookup_opts.pk.name])
                    return [sign + name for name in names]
        return ordering

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        # Keys first: with an offset, databases also read the whole rows of the earlier pages.
        ses_ids = list(self.result_list.values_list("pk", flat=True))
        found: dict[str, Any] = self.root_queryset.in_bulk(ses_ids)
        sessions = [found[ses_id] for ses_id in ses_ids if ses_id in found]
        fetch_users(sessions)
        self.result_list = sessions


def _column(name: str, description: Any, *, ordering: str | None = None) -> Any:
    """Return the column that shows an attribute of ``ShownSession``."""

    @admin.display(description=description, ordering=ordering)
    def column(self: UserSessionAdmin, session: AbstractUserSession) -> str:
        return str(getattr(self.show(session), name))

    return column


class UserSessionAdmin(SessionModelAdmin):
    """Lists the sessions in one table. Register it for a session model of your own, too.

    If BE or FE uses another storage, its model's pages list the sessions there instead. Login types
    without a model have pages below those of each model.
    """

    list_display = SHOWN_COLUMNS
    list_filter = (KindFilter, StateFilter)
    fields = FIELDS
    readonly_fields = fields
    search_fields = ("ses_userid",)  # shows the box; get_search_results() does the search
    search_help_text = _("Search by the name or the ID of a user.")
    ordering = ("-ses_tstamp",)
    actions = ("end_selected_sessions", "end_all_sessions_of_users")
    sortable_by = ("short_hash", "updated_at")  # what has an index
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER  # they would count the whole table
    paginator = SessionPaginator
    change_list_template = "usersessions/admin/change_list.html"

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return SessionChangeList

    def _refuse(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    # Sessions are ended through their storage, not deleted as objects.
    has_add_permission = has_change_permission = has_delete_permission = _refuse

    def has_end_permission(self, request: HttpRequest) -> bool:
        """Return whether the user may end sessions, which takes the model's delete permission."""
        return may_end(request.user, self.model)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_view_permission(request, obj) or self.has_end_permission(request)

    def get_queryset(self, request: HttpRequest) -> QuerySet[AbstractUserSession]:
        return super().get_queryset(request).using(self._backend.database)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[AbstractUserSession], search_term: str
    ) -> tuple[QuerySet[AbstractUserSession], bool]:
        if not search_term:
            return queryset, False
        user_ids: Any = find_user_ids(request, search_term)
        return queryset.filter(ses_userid__in=user_ids), False

    @property
    def can_be_permanent(self) -> bool:
        return any(field.name == "ses_permanent" for field in self.model._meta.fields)

    # Login types that use another storage than a table

    def get_urls(self) -> list[URLPattern]:
        name = f"{self.opts.app_label}_{self.opts.model_name}_login_type"
        of_login_type = self.admin_site.admin_view(self.login_type_view)
        return [
            path("of/<str:login_type>/", of_login_type, name=name),
            path("of/<str:login_type>/<str:ses_id>/", of_login_type, name=f"{name}_session"),
            *super().get_urls(),
        ]

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        login_type = find_type_in_other_storage(self.model)
        if login_type is not None:
            return self._show_other_storage(request, login_type)
        pages = self.get_session_pages(request)
        shown = next((page for page in pages if page.model is self.model), None)
        context = {"page": shown, "pages": pages, **(extra_context or {})}
        return super().changelist_view(request, context)

    def change_view(
        self, request: HttpRequest, object_id: str, *args: Any, **kwargs: Any
    ) -> HttpResponse:
        login_type = find_type_in_other_storage(self.model)
        if login_type is not None:
            return self._show_other_storage(request, login_type, unquote(object_id))
        return super().change_view(request, object_id, *args, **kwargs)

    def login_type_view(
        self, request: HttpRequest, login_type: str, ses_id: str | None = None
    ) -> HttpResponse:
        """Show the list of a login type that has no model, or one session of it."""
        if login_type not in get_login_types() or SessionPage(login_type, self).model is not None:
            raise Http404
        return self._show_other_storage(request, login_type, ses_id)

    def _show_other_storage(
        self, request: HttpRequest, login_type: str, ses_id: str | None = None
    ) -> HttpResponse:
        views = OtherStorageViews(SessionPage(login_type, self))
        return views.list_view(request) if ses_id is None else views.detail_view(request, ses_id)

    def get_session_pages(self, request: HttpRequest) -> list[SessionPage]:
        """Return the pages of the login types whose sessions the user may see on this site."""
        pages = [SessionPage(name, self) for name in get_login_types()]
        # Login types may share a table.
        shown = {page.url: page for page in pages if page.has_view_permission(request)}
        return list(shown.values())

    # Columns

    short_hash = _column("short_hash", _("hash"), ordering="ses_id")
    user_name = _column("user_name", _("user"))
    kind = _column("kind", pgettext_lazy("session", "kind"))
    updated_at = _column("updated_at", _("last update"), ordering="ses_tstamp")
    expires_at = _column("expires_at", pgettext_lazy("session", "expires"))
    browser = _column("browser", _("browser"))
    data = _column("data", _("data"))

    def show(self, session: Any) -> ShownSession:
        """Return what the columns show of a row; decodes its data once."""
        if not hasattr(session, "shown"):
            columns = [*COLUMNS, *(["ses_permanent"] if self.can_be_permanent else [])]
            record = {name: getattr(session, name) for name in columns}
            session.shown = ShownSession(cast("SessionRecord", record), manager_of(self.model))
            if hasattr(session, "user"):  # fetched for all rows of the list
                session.shown.user = session.user
        shown: ShownSession = session.shown
        return shown

    # Actions

    @admin.action(description=_("End selected sessions"), permissions=["end"])
    def end_selected_sessions(
        self, request: HttpRequest, queryset: QuerySet[AbstractUserSession]
    ) -> None:
        ses_ids = list(queryset.values_list("ses_id", flat=True)[:MAX_LISTED])
        self.tell_ended(request, self._backend.remove_by_ses_id(ses_ids))

    @admin.action(description=_("End all sessions of these users"), permissions=["end"])
    def end_all_sessions_of_users(
        self, request: HttpRequest, queryset: QuerySet[AbstractUserSession]
    ) -> None:
        """End them in each login type whose sessions the current user may end."""
        owners = queryset.values_list("ses_userid", flat=True)[:MAX_LISTED]
        user_ids = {user_id for owner in owners if (user_id := stored_user_id(owner)) is not None}
        self.end_sessions_of_users(request, user_ids)

    def end_sessions_of_users(self, request: HttpRequest, user_ids: Iterable[UserId]) -> None:
        """End these users' sessions in each login type that the current user may end.

        Shows how many they were. Costs one query for each user and login type.
        """
        user_ids = list(user_ids)
        pages = [SessionPage(name, self) for name in get_login_types()]
        allowed = [page.login_type for page in pages if page.has_end_permission(request)]
        backends = list(map(SessionManager.get_session_backend, allowed))
        self.tell_ended(
            request,
            sum(backend.remove_by_user(user_id) for backend in backends for user_id in user_ids),
        )

    def tell_ended(self, request: HttpRequest, ended: int) -> None:
        """Show how many sessions were ended."""
        text = ngettext("%d session was ended.", "%d sessions were ended.", ended) % ended
        self.message_user(request, text, messages.SUCCESS)

    @property
    def _backend(self) -> DatabaseSessionBackend:
        manager = manager_of(self.model)
        if manager is not None:
            assert isinstance(manager.backend, DatabaseSessionBackend)
            return manager.backend
        # The sessions in a table that no login type uses any more can still be ended.
        return DatabaseSessionBackend("", {"model": self.model._meta.label})
