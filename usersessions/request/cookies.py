"""Session cookies: which response carries one, and what is in it."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from ..conf import LoginType
from ..session.meta import EXPIRY_KEY
from ..store import SessionStore, Written

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
    login_type = store.login_type
    if is_cookie_due(store):
        value = _cookie_value(request, store)
        _set_cookie(request, response, login_type, value, max_age=_max_age(store))
    elif store.has_ended_cookie and login_type.cookie_name in request.COOKIES:
        _set_cookie(request, response, login_type, "", max_age=0, expires=LONG_AGO)


def is_cookie_due(store: SessionStore) -> bool:
    """Return whether the response must carry the cookie: it is new, permanent, or expires anew.

    A permanent one, or one that is signed with a fallback of ``SECRET_KEY``, is sent again only
    when this request has written to the session: a late answer must not bring back the cookie of a
    session that another tab has renewed.
    """
    session = store.loaded
    if session is None or session.stored is None or session.is_renewed:
        return False
    if session.is_new:
        return not store.has_ended
    if store.written is Written.NOTHING:
        return False
    expiry = session.data.get(EXPIRY_KEY)
    is_due = (
        session.is_permanent
        or settings.SESSION_SAVE_EVERY_REQUEST
        or expiry != store.expiry_read
        or bool(expiry and store.written is Written.DATA)
        or has_old_signature(store)
    )
    return is_due and not store.has_ended


def has_old_signature(store: SessionStore) -> bool:
    """Return whether the request's cookie is signed with a fallback of ``SECRET_KEY``."""
    request = store.request
    if not settings.SECRET_KEY_FALLBACKS or request is None:
        return False
    token = request.COOKIES.get(store.login_type.cookie_name)
    is_token = store.login_type.cookie_format == "token" and token
    return bool(is_token) and not store.cookie_scope(request).is_current(str(token))


def _max_age(store: SessionStore) -> int | None:
    """Return the seconds that the browser keeps the cookie; None: until it closes."""
    if store.get_expire_at_browser_close():
        return None
    session = store.user_session
    if session.data.get(EXPIRY_KEY) or not session.is_permanent:
        return max(0, store.manager.expiry.expires_at(session) - int(store.clock()))
    return store.login_type.lifetime


def _set_cookie(
    request: HttpRequest,
    response: HttpResponseBase,
    login_type: LoginType,
    value: str,
    *,
    max_age: int | None,
    expires: str | None = None,
) -> None:
    # Deleting is setting: browsers apply the rule of the name's prefix to it as well, and
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
