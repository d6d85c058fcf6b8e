"""Filters for lists of sessions: by kind and by expiry."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import BigIntegerField, Q, QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from ..models import AbstractUserSession
from .session_models import manager_of, user_column_of

Sessions = QuerySet[AbstractUserSession]

#: Later than every ``ses_tstamp``.
NEVER = BigIntegerField.MAX_BIGINT


class KindFilter(admin.SimpleListFilter):
    title = pgettext_lazy("session", "kind")
    parameter_name = "kind"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        kinds: list[tuple[str, Any]] = [
            ("anonymous", pgettext_lazy("session", "Anonymous")),
            ("user", _("User")),
        ]
        if model_admin.can_be_permanent:
            kinds.append(("permanent", pgettext_lazy("session", "Permanent")))
        return kinds

    def queryset(self, request: HttpRequest, queryset: Sessions) -> Sessions:
        column = user_column_of(queryset.model)
        conditions = {
            "anonymous": column.condition(anonymous=True),
            "user": column.condition(anonymous=False),
            "permanent": Q(ses_permanent=True),
        }
        # The URL may hold any other value.
        wanted = self.value() if self.value() in dict(self.lookup_choices) else None
        # True for every session, but without it SQLite does not use the list's index.
        chosen: Sessions = queryset.filter(conditions.get(wanted or "", Q()), ses_tstamp__gte=0)
        return chosen


class StateFilter(admin.SimpleListFilter):
    title = pgettext_lazy("session", "state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [
            ("active", pgettext_lazy("session", "Active")),
            ("expired", pgettext_lazy("session", "Expired")),
        ]

    def queryset(self, request: HttpRequest, queryset: Sessions) -> Sessions:
        manager = manager_of(queryset.model)
        if manager is None or self.value() not in ("active", "expired"):
            return queryset
        now, column = int(manager.clock()), user_column_of(queryset.model)
        # With a lifetime of 0, all sessions have expired.
        oldest = [
            now - lifetime if lifetime else NEVER
            for lifetime in (manager.expiry.lifetime, manager.expiry.anonymous_lifetime)
        ]
        lookup, bound = ("lt", max(oldest)) if self.value() == "expired" else ("gte", min(oldest))
        users, visitors = (
            column.condition(anonymous=anonymous) & Q((f"ses_tstamp__{lookup}", limit))
            for anonymous, limit in zip((False, True), oldest, strict=True)
        )
        # The bound follows from the rest; it lets the database use the index.
        chosen: Sessions = queryset.filter(users | visitors, (f"ses_tstamp__{lookup}", bound))
        return chosen
