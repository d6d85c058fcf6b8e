"""Step-up authentication: views that need a recent login or confirmation (OWASP ASVS 5.0, 7.5).

The time of the last confirmation is kept beside the session's data, where no view can set it by
mistake.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, overload
from urllib.parse import urlsplit

from asgiref.sync import iscoroutinefunction
from django.conf import settings
from django.contrib.auth import REDIRECT_FIELD_NAME, SESSION_KEY
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.http.response import HttpResponseBase
from django.shortcuts import resolve_url
from django.utils.translation import gettext as _

from ..session.user_keys import stored_user_id
from ..store import SessionStore
from ..store.login import confirm_login as record_confirmation
from ..switching.state import is_switched
from .login import as_served_by, get_store
from .login_age import was_confirmed_within

View = TypeVar("View", bound=Callable[..., Any])

logger = logging.getLogger("usersessions.auth")

#: The page of ``usersessions.urls`` that asks for the password.
CONFIRM_URL = "usersessions:confirm_password"

#: Methods without a body that would be lost on the way to the confirmation.
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")


def confirm_login(request: HttpRequest, login_type: str | None = None) -> None:
    """Record that the user has just confirmed the login, and renew the session's identifier.

    For pages with a check of their own, such as a passkey or a one-time code; call it afterwards.

    :param login_type: None: the one that serves the path
    :raises PermissionDenied: the session is anonymous or switched

    ``last_login`` is not touched, ``user_logged_in`` not sent. Stored with the response.
    """
    store = get_store(request, login_type)
    _confirm(store)


async def aconfirm_login(request: HttpRequest, login_type: str | None = None) -> None:
    """See ``confirm_login()``."""
    store = get_store(request, login_type)
    await store.aget(SESSION_KEY)  # reads it
    _confirm(store)


def is_login_recent(
    request: HttpRequest, max_age: float | None = None, login_type: str | None = None
) -> bool:
    """Return whether the last login or confirmation of a session is recent.

    :param max_age: seconds that count as recent, at least 1; None: ``CONFIRM_MAX_AGE``
    :param login_type: None: the one that serves the path
    :raises ValueError: ``max_age`` is less than 1

    False for an anonymous session, for a switched one, and if the time is unknown, as for an
    adopted session. Costs a query if the session has not been read yet.
    """
    _refuse_impossible(max_age)
    store = get_store(request, login_type)
    if max_age is None:
        max_age = store.login_type.confirm_max_age
    return was_confirmed_within(max_age, store.user_session, now=store.clock())


class RecentLoginOptions:
    """The arguments of ``recent_login_required()`` and the attributes of the mixin."""

    max_age: float | None = None
    login_type: str | None = None
    next_page: str | None = None
    confirm_url: str = CONFIRM_URL
    login_url: str | None = None
    redirect_field_name: str = REDIRECT_FIELD_NAME
    raise_exception: bool = False


@overload
def recent_login_required(view: View, /) -> View: ...


@overload
def recent_login_required(
    *,
    max_age: float | None = ...,
    login_type: str | None = ...,
    next_page: str | None = ...,
    confirm_url: str = ...,
    login_url: str | None = ...,
    redirect_field_name: str = ...,
    raise_exception: bool = ...,
) -> Callable[[View], View]: ...


def recent_login_required(view: Any = None, /, **options: Any) -> Any:
    """Admit only users who have logged in or confirmed their login recently.

    Other users are redirected to the page that asks for the password, which leads back; anonymous
    visitors to the login page, as by Django's ``login_required``. The body of a POST is not kept:
    the confirmation page asks users to submit it again. For sync and async views.

    :param max_age: seconds that count as recent, at least 1; None: ``CONFIRM_MAX_AGE``
    :param login_type: whose session must be recent; None: the one that serves the path
    :param next_page: URL or name of the page after the confirmation; None: the requested page.
        Views that accept only POST need it.
    :param confirm_url: URL or name of the page that asks for the password
    :param login_url: None: ``LOGIN_URL``
    :param redirect_field_name: for the login page, as in Django; the other page takes ``next``
    :param raise_exception: raise PermissionDenied instead of redirecting, for APIs
    :raises ValueError: ``max_age`` is less than 1
    :raises PermissionDenied: by the view, while ``request.user`` is not the session's own user,
        who alone can confirm the login
    """
    decorate = _Requirement(**options).decorate
    return decorate if view is None else decorate(view)


class RecentLoginRequiredMixin(RecentLoginOptions):
    """``recent_login_required()`` for a class-based view; put it first among the bases.

    The attributes are the decorator's arguments.
    """

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        dispatch: Callable[..., Any] = super().dispatch  # type: ignore[misc]

        async def adispatch(*args: Any, **kwargs: Any) -> Any:
            return await dispatch(*args, **kwargs)

        is_async: bool = self.view_is_async  # type: ignore[attr-defined]
        options = {name: getattr(self, name) for name in RecentLoginOptions.__annotations__}
        view = recent_login_required(**options)(adispatch if is_async else dispatch)
        return view(request, *args, **kwargs)


class _Requirement(RecentLoginOptions):
    def __init__(self, **options: Any) -> None:
        for name, value in options.items():
            if name not in RecentLoginOptions.__annotations__:
                raise TypeError(f"recent_login_required() has no argument {name!r}.")
            setattr(self, name, value)
        _refuse_impossible(self.max_age)

    def decorate(self, view: Any) -> Any:
        wrapper: Any
        if iscoroutinefunction(view):

            async def wrapper(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
                served = as_served_by(request, self.login_type)
                user = await served.auser()
                await get_store(served).aget(SESSION_KEY)  # reads it
                answer = self._answer(served, user)
                return await view(request, *args, **kwargs) if answer is None else answer

        else:

            def wrapper(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
                served = as_served_by(request, self.login_type)
                answer = self._answer(served, served.user)
                return view(request, *args, **kwargs) if answer is None else answer

        # For Django's LoginRequiredMiddleware, as Django's own decorators do.
        wrapper.login_url = self.login_url
        wrapper.redirect_field_name = self.redirect_field_name
        return wraps(view)(wrapper)

    def _answer(self, request: HttpRequest, user: Any) -> HttpResponseBase | None:
        """Return the response that takes the place of the view's; None: call the view."""
        if not user.is_authenticated:
            if self.raise_exception:
                raise PermissionDenied(_("Please log in."))
            return redirect_to_login_page(
                request, self.login_url, redirect_field_name=self.redirect_field_name
            )
        refuse_other_users(get_store(request), user)
        if is_login_recent(request, self.max_age):
            return None
        if self.raise_exception:
            raise PermissionDenied(_("Please confirm your login first."))
        return HttpResponseRedirect(confirm_location(request, self.confirm_url, self.next_page))


def confirm_location(
    request: HttpRequest, confirm_url: str = CONFIRM_URL, next_page: str | None = None
) -> str:
    """Return the URL of the page that asks for the password and then leads back.

    :param confirm_url: URL or name of that page
    :param next_page: URL or name of the page after it; None: the requested page
    """
    query = QueryDict(mutable=True)
    query["login_type"] = get_store(request).login_type.name
    query[REDIRECT_FIELD_NAME] = resolve_url(next_page) if next_page else request.get_full_path()
    if request.method not in SAFE_METHODS:
        query["again"] = "1"
    return f"{resolve_url(confirm_url)}?{query.urlencode(safe='/')}"


def redirect_to_login_page(
    request: HttpRequest,
    login_url: str | None = None,
    *,
    next_url: str | None = None,
    redirect_field_name: str = REDIRECT_FIELD_NAME,
) -> HttpResponse:
    """Redirect an anonymous visitor to the login page, which leads back to the requested page."""
    # Imported late: it needs the user model, which is loaded after this module.
    from django.contrib.auth.views import redirect_to_login  # noqa: PLC0415

    url = resolve_url(login_url or settings.LOGIN_URL)
    target = next_url or request.get_full_path()
    if urlsplit(url).netloc not in ("", request.get_host()):
        target = request.build_absolute_uri(target)
    return redirect_to_login(target, url, redirect_field_name)


def refuse_other_users(store: SessionStore, user: Any = None) -> None:
    """Raise PermissionDenied in a switched session, or if ``user`` is not the session's own user.

    The latter is the case if another package has set ``request.user``. In both cases, the person
    at the keyboard cannot know that user's password.
    """
    own_id = store.user_session.user_id
    is_other = user is not None and own_id not in (None, stored_user_id(user.pk))
    if is_other or is_switched(store.user_session):
        raise PermissionDenied(
            _("You are acting as another user. Only that user can confirm this login.")
        )


def _refuse_impossible(max_age: float | None) -> None:
    if max_age is not None and max_age < 1:
        raise ValueError(f"max_age must be at least 1 (seconds), not {max_age!r}.")


def _confirm(store: SessionStore) -> None:
    refuse_other_users(store)
    user_id = store.user_session.user_id
    if user_id is None:
        raise PermissionDenied(_("Please log in."))
    record_confirmation(store)
    logger.info("User %s has confirmed the login of a %s session.", user_id, store.login_type.name)
