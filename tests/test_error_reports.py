"""What Django's error pages and mails tell of a session: nothing that opens it."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from django.db import OperationalError
from django.test import RequestFactory
from django.views.debug import ExceptionReporter

from usersessions import DatabaseSessionBackend
from usersessions.error_reports import SessionReporterFilter, hide_sessions_in_reports
from usersessions.middleware import UserSessionMiddleware
from usersessions.store import SessionStore

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("debug", [True, False])
def test_report_on_a_failing_request_has_neither_identifier_nor_token(
    settings: Any, debug: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attack: read the error mails, or the page of a site that was left in DEBUG."""
    settings.DEBUG = debug
    store = SessionStore()
    store["x"] = 1
    store.save()
    request = RequestFactory().get("/")
    token = store.user_session.get_jwt(store.login_type.cookie_scope(request))
    request.COOKIES["fe_sessionid"] = token
    UserSessionMiddleware(lambda request: None).process_request(request)

    def fail(backend: DatabaseSessionBackend, ses_ids: Any) -> Any:
        raise OperationalError("the database is down")

    monkeypatch.setattr(DatabaseSessionBackend, "_read", fail)
    try:
        mine = (token, {"cookie": token}, [store.session_key])
        request.session.get("x")
    except OperationalError:
        reporter = ExceptionReporter(request, *sys.exc_info())
    for report in (reporter.get_traceback_text(), reporter.get_traceback_html()):
        assert "the database is down" in report
        assert "fe_sessionid" in report
        assert token not in report
        assert store.session_key not in report
    assert len(mine) == 3


def test_filter_can_be_the_sites_own(settings: Any) -> None:
    """Packages ask the site's filter, not the request's: django-debug-toolbar for its pages."""
    settings.DEFAULT_EXCEPTION_REPORTER_FILTER = "usersessions.error_reports.SessionReporterFilter"
    request = RequestFactory().get("/")
    hide_sessions_in_reports(request)
    for found in (SessionReporterFilter(), request.exception_reporter_filter):
        assert found.cleanse_setting("be_sessionid", "eyJ") == "*" * 20
        assert found.cleanse_setting("LANGUAGE_CODE", "en") == "en"
