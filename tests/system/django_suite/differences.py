"""The tests of Django's that fail with us, by the difference in README.rst that explains them."""

from __future__ import annotations

_STORE = "tests.system.django_suite.contract.SessionStoreTests"
_MIDDLEWARE = "sessions_tests.tests.SessionMiddlewareTests"

DIFFERENCES = {
    # Lifetimes are a login type's.
    f"{_STORE}.test_default_expiry",
    f"{_STORE}.test_default_expiry_async",
    f"{_STORE}.test_custom_expiry_reset",
    f"{_STORE}.test_custom_expiry_reset_async",
    f"{_STORE}.test_get_expire_at_browser_close",
    f"{_STORE}.test_get_expire_at_browser_close_async",
    # The cookie is always HttpOnly.
    f"{_MIDDLEWARE}.test_no_httponly_session_cookie",
    # A session that ended meanwhile is no error of the request that used it.
    f"{_MIDDLEWARE}.test_session_update_error_redirect",
    # An emptied anonymous session goes, with its cookie.
    f"{_MIDDLEWARE}.test_empty_session_saved",
    # Every login renews the identifier.
    "auth_tests.test_views.LoginTest.test_session_key_flushed_on_login_after_password_change",
    # Tests of other engines, which have no business in our middleware.
    "test_client.tests.ClientTest.test_logout_cookie_sessions",
    "test_client.tests.ClientTest.test_sessions_app_is_not_installed",
    "test_client.tests.ClientTest.test_view_with_login_when_sessions_app_is_not_installed",
    "test_client_regress.tests.SessionEngineTests.test_login",
}
