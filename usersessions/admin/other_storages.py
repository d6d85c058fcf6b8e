"""The admin's pages for a login type that uses another storage than a table."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from typing import Any

import django
from django.contrib import messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.utils import label_for_field
from django.contrib.admin.views.main import SEARCH_VAR, ChangeListSearchForm
from django.core.exceptions import PermissionDenied
from django.core.signing import BadSignature, Signer
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.http import urlencode
from django.utils.translation import gettext

# Texts of Django's own admin are in its catalogues, in more languages than ours.
from django.utils.translation import gettext as django_gettext

from ..backends.errors import SessionNotFound
from ..lifecycle.user_session_manager import UserSessionManager
from ..session.record import SesId, SessionRecord
from .session_page import SessionPage
from .shown_session import COLUMNS, FIELDS, ShownSession, fetch_users
from .user_search import find_user_ids

START_VAR = "start"

#: How many sessions a search shows. Storages cannot page through the results of a search.
MAX_SESSIONS_FOUND = 500

ACTIONS = ("end_selected_sessions", "end_all_sessions_of_users")

_SES_ID = re.compile(r"[0-9a-f]{64}")


class OtherStorageViews:
    """Lists and ends sessions by the public methods of any storage."""

    def __init__(self, page: SessionPage) -> None:
        self.page = page
        self.model_admin = page.model_admin
        self.manager = UserSessionManager.create(page.login_type)
        self.backend = self.manager.backend
        self._signer = Signer(salt=f"usersessions.admin.{page.login_type}")

    # The list

    def list_view(self, request: HttpRequest) -> HttpResponse:
        if not self.page.has_view_permission(request):
            raise PermissionDenied
        if request.method == "POST":
            self._run_action(request)
            return HttpResponseRedirect(request.get_full_path())
        found = OtherStorageChangeList(self, request)
        template = "usersessions/admin/session_list.html"
        return self._render(request, template, {"cl": found, **found.context})

    def read_page(self, start: str, limit: int) -> tuple[list[SessionRecord], str]:
        """Return the records of a page and the ``start`` of the next page, "" if it is the last.

        :param start: from a previous call; any other value means the first page
        """
        try:
            start = self._signer.unsign(start)
        except BadSignature:
            start = ""
        records, following = self.backend.get_page(start, limit)
        return records, self._signer.sign(following) if following else ""

    def search(self, request: HttpRequest, text: str) -> list[SessionRecord]:
        """Return the sessions of the users whom a text finds."""
        users = find_user_ids(request, text)
        theirs = chain.from_iterable(map(self.backend.get_by_user, users))
        records = list(islice(theirs, MAX_SESSIONS_FOUND + 1))
        if len(records) > MAX_SESSIONS_FOUND:
            warning = gettext("More than %d sessions match; not all of them are shown.")
            messages.warning(request, warning % MAX_SESSIONS_FOUND)
        return records[:MAX_SESSIONS_FOUND]

    def actions(self, request: HttpRequest) -> list[tuple[str, str]]:
        """Return the names and descriptions of the actions that the user may run."""
        if not self.page.has_end_permission(request):
            return []
        return [
            (name, str(getattr(self.model_admin, name).short_description))
            for name in ACTIONS
            if name in (self.model_admin.actions or ())
        ]

    def _run_action(self, request: HttpRequest) -> None:
        actions = dict(self.actions(request))
        if not actions:
            raise PermissionDenied
        selected = dict.fromkeys(request.POST.getlist(ACTION_CHECKBOX_NAME))
        ses_ids = list(filter(_SES_ID.fullmatch, selected))
        action = request.POST.get("action")
        if action not in actions:
            messages.warning(request, django_gettext("No action selected."))
        elif not ses_ids:
            text = django_gettext(
                "Items must be selected in order to perform actions on them. "
                "No items have been changed."
            )
            messages.warning(request, text)
        elif action == "end_selected_sessions":
            self.model_admin.tell_ended(request, self.backend.remove_by_ses_id(ses_ids))
        else:
            owners = {self.show(record).user_id for record in self._records(ses_ids)}
            self.model_admin.end_sessions_of_users(request, owners - {None})

    def _records(self, ses_ids: Sequence[str]) -> Iterator[SessionRecord]:
        for ses_id in ses_ids:
            try:
                yield self.backend.get(SesId(ses_id))
            except SessionNotFound:  # ended by another request
                continue

    # One session

    def detail_view(self, request: HttpRequest, ses_id: str) -> HttpResponse:
        if not self.page.has_view_permission(request):
            raise PermissionDenied
        record = next(self._records([ses_id] if _SES_ID.fullmatch(ses_id) else []), None)
        if record is None:
            text = django_gettext(
                "%(name)s with ID “%(key)s” doesn’t exist. Perhaps it was deleted?"  # noqa: RUF001
            )
            names = {"name": self.page.verbose_name, "key": ses_id[:8]}
            messages.warning(request, text % names)
            site = self.model_admin.admin_site
            return HttpResponseRedirect(reverse("admin:index", current_app=site.name))
        session = self.show(record)
        context = {
            "title": django_gettext("View %s") % self.page.verbose_name,
            "subtitle": session.short_hash,
            "fields": [(name, self.label(name), getattr(session, name)) for name in FIELDS],
            "home": django_gettext("Home"),
            "close": django_gettext("Close"),
            "has_breadcrumbs_as_list": django.VERSION >= (6, 1),
        }
        return self._render(request, "usersessions/admin/session_detail.html", context)

    # Both

    def show(self, record: SessionRecord) -> ShownSession:
        return ShownSession(record, self.manager)

    def label(self, name: str) -> str:
        """Return the heading of a column, as in the list of a table."""
        label: Any = label_for_field(name, self.model_admin.model, self.model_admin)
        return str(label)

    def _render(self, request: HttpRequest, template: str, context: dict[str, Any]) -> HttpResponse:
        whole = {
            **self.model_admin.admin_site.each_context(request),
            "page": self.page,
            "pages": self.model_admin.get_session_pages(request),
            "opts": self.model_admin.opts,
            "media": self.model_admin.media,
            **context,
        }
        return TemplateResponse(request, template, whole)


class OtherStorageChangeList:
    """One list, with the attributes that Django's templates use of a ``ChangeList``."""

    search_fields = True
    show_full_result_count = False
    formset = date_hierarchy = has_filters = is_popup = add_facets = None
    params: dict[str, str] = {}

    def __init__(self, views: OtherStorageViews, request: HttpRequest) -> None:
        self._views = views
        self.opts = views.page
        self.search_help_text = views.model_admin.search_help_text
        form = ChangeListSearchForm(request.GET)
        for errors in {} if form.is_valid() else form.errors.values():
            messages.error(request, " ".join(map(str, errors)))
        self.query = form.cleaned_data.get(SEARCH_VAR) or ""
        self.start = "" if self.query else request.GET.get(START_VAR, "")
        if self.query:
            records, following = views.search(request, self.query), ""
        else:
            records, following = views.read_page(self.start, views.model_admin.list_per_page)
        # A storage may return a session twice.
        distinct = {record["ses_id"]: record for record in records}.values()
        latest = sorted(distinct, key=lambda record: record["ses_tstamp"], reverse=True)
        self.result_list = [views.show(record) for record in latest]
        fetch_users(self.result_list)
        self.next_page = f"?{urlencode({START_VAR: following})}" if following else ""
        self.actions = views.actions(request)
        self._blank_choice = views.model_admin.get_action_choices(request)[0]

    @property
    def result_count(self) -> int:
        return len(self.result_list)

    @property
    def full_result_count(self) -> int | None:
        return None if self.query else self.result_count

    @property
    def context(self) -> dict[str, Any]:
        form = self._views.model_admin.action_form(auto_id=None)
        form.fields["action"].choices = [self._blank_choice, *self.actions]
        return {
            "title": django_gettext("Select %s to view") % self.opts.verbose_name,
            "action_form": form if self.actions and self.result_list else None,
            "actions_on_top": True,
            "actions_selection_counter": True,
            "selection_note": django_gettext("0 of %(cnt)s selected") % {"cnt": self.result_count},
            "select_all": django_gettext("Select all objects on this page for an action"),
            "headings": [(name, self._views.label(name)) for name in COLUMNS],
            "rows": [
                {
                    "ses_id": session.ses_id,
                    "url": self.opts.url_of(session.ses_id),
                    "select": django_gettext("Select this object for an action - {}").format(
                        session.short_hash
                    ),
                    "cells": [(name, getattr(session, name)) for name in COLUMNS],
                }
                for session in self.result_list
            ],
        }
