"""Writing session cookies: one per login type, each bound to its site."""

from __future__ import annotations

from django.http import HttpRequest
from django.http.response import HttpResponseBase

from ..conf import LoginType
from ..store import SessionStore

#: Names whose cookies browsers refuse without HttpOnly, in any spelling.
HTTP_PREFIXES = ("__http-", "__host-http-")

#: When a deleted cookie has expired, also for browsers whose clock is slow.
LONG_AGO = "Thu, 01 Jan 1970 00:00:00 GMT"


def send_cookie(request: HttpRequest, response: HttpResponseBase, store: SessionStore) -> None:
    """Set the store's cookie if it is due; delete it if this request has ended its session.

    A cookie whose session is not there for any other reason is left alone: the browser may by now
    hold the new cookie of a login in another tab, under the same name.

    :raises DisallowedHost: a cookie is due and Django does not allow the request's host
    """
    if store.cookie_is_due:
        value = _cookie_value(request, store)
        _set_cookie(request, response, store.login_type, value, max_age=store.cookie_max_age)
    elif store.has_ended_cookie and store.login_type.cookie_name in request.COOKIES:
        _set_cookie(request, response, store.login_type, "", max_age=0, expires=LONG_AGO)


def _set_cookie(
    request: HttpRequest,
    response: HttpResponseBase,
    login_type: LoginType,
    value: str,
    *,
    max_age: int | None,
    expires: str | None = None,
) -> None:
    # Deleting is setting: browsers hold it to the rule of the name's prefix as well, and
    # ``response.delete_cookie()`` knows two of the prefixes, in one spelling. Else as in Django.
    must_be_http_only = login_type.cookie_name.lower().startswith(HTTP_PREFIXES)
    response.set_cookie(
        login_type.cookie_name,
        value,
        max_age=max_age,
        expires=expires,
        path=login_type.cookie_path,
        domain=login_type.cookie_domain,
        secure=login_type.cookie_secure or request.is_secure(),
        httponly=bool(value) or must_be_http_only,
        samesite=login_type.cookie_samesite,  # type: ignore[arg-type]
    )


def _cookie_value(request: HttpRequest, store: SessionStore) -> str:
    session = store.user_session
    if store.login_type.cookie_format == "identifier":
        return session.identifier
    return session.get_jwt(store.cookie_scope(request))
