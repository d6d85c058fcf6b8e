"""Keeping identifiers and tokens out of Django's error pages and mails."""

from __future__ import annotations

from functools import lru_cache
from pprint import pformat
from types import FrameType
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.http import HttpRequest
from django.utils.module_loading import import_string
from django.views.debug import SafeExceptionReporterFilter

from .adoption import get_old_key
from .conf import get_login_types
from .tokens import is_identifier, looks_like_token

if TYPE_CHECKING:
    FilterBase = SafeExceptionReporterFilter
else:
    FilterBase = object


class HidesSessions(FilterBase):
    """Masks session cookies, and every variable that holds an identifier or a token.

    Django's filter knows ``SESSION_COOKIE_NAME`` alone. Laid over the site's
    ``DEFAULT_EXCEPTION_REPORTER_FILTER``; masks with DEBUG, too.
    """

    def cleanse_setting(self, key: Any, value: Any) -> Any:
        if any(key == login_type.cookie_name for login_type in get_login_types().values()):
            return self.cleansed_substitute
        return super().cleanse_setting(key, value)

    def get_traceback_frame_variables(self, request: Any, tb_frame: FrameType) -> Any:
        found = super().get_traceback_frame_variables(request, tb_frame)
        masked = [(name, self._mask(value)) for name, value in found]
        old_key = get_old_key(request) if request else None
        if old_key is None:
            return masked
        return [(name, _WithoutSecret(value, old_key)) for name, value in masked]

    def _mask(self, value: Any) -> Any:
        if type(value) is str and (is_identifier(value) or looks_like_token(value)):
            return self.cleansed_substitute
        if type(value) in (list, tuple):
            return type(value)(self._mask(item) for item in value)
        if type(value) is dict:
            return {key: self._mask(item) for key, item in value.items()}
        return value


class _WithoutSecret:
    """Prints a variable whose text may have a secret anywhere, as the filters of a query do."""

    def __init__(self, value: Any, secret: str) -> None:
        self._value = value
        self._secret = secret

    def __repr__(self) -> str:
        return pformat(self._value).replace(self._secret, HidesSessions.cleansed_substitute)


class SessionReporterFilter(HidesSessions, SafeExceptionReporterFilter):
    """For ``DEFAULT_EXCEPTION_REPORTER_FILTER``: what packages ask that have no request at hand."""


def hide_sessions_in_reports(request: HttpRequest) -> None:
    """Have reports on this request mask its sessions, whatever filter the site has set."""
    request.exception_reporter_filter = _filter_over(settings.DEFAULT_EXCEPTION_REPORTER_FILTER)


@lru_cache
def _filter_over(path: str) -> Any:
    found = import_string(path)
    if not issubclass(found, HidesSessions):
        found = type("SessionReporterFilter", (HidesSessions, found), {})
    return found()
