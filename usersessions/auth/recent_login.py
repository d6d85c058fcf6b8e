"""Step-up: what only those may do who have shown a short while ago who they are.

OWASP ASVS 5.0, 7.5. The time of the last confirmation is kept beside the session's data, where no
view can set it by chance.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
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

from ..lifecycle import login_age
from ..session.user_keys import stored_user_id
from ..store import SessionStore
from ..store.login import confirm_login as record_confirmation
from ..switching.state import is_switched
from .login import as_seen_by, get_store

View = TypeVar("View", bound=Callable[..., Any])

logger = logging.getLogger("usersessions.auth")

#: The page of ``usersessions.urls`` that asks for the password.
CONFIRM_URL = "usersessions:confirm_password"

#: Methods that do not carry anything that could get lost on the way to the confirmation.
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")


def confirm_login(request: HttpRequest, login_type: str | None = None) -> None:
    """Note that the user of a session has just shown who they are, and renew its identifier.

    For pages with a check of their own, such as a passkey or a one-time code; call it after that.

    :param login_type: None: the one that serves the path
    :raises PermissionDenied: nobody is logged in, or as another user only

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

    False for an anonymous visitor, for a switched session, and where nobody knows the time, as of
    sessions that were adopted. Costs a query if nothing has read the session before.
    """
    _refuse_impossible(max_age)
    store = get_store(request, login_type)
    if max_age is None:
        max_age = store.login_type.confirm_max_age
    return login_age.is_login_recent(store.user_session, max_age, now=store.clock())


@overload
def recent_login_required(view: View, /) -> View: ...


@overload
def recent_login_required(
    *,
    max_age: float | None = None,
    login_type: str | None = None,
    next_page: str | None = None,
    confirm_url: str = CONFIRM_URL,
    login_url: str | None = None,
    redirect_field_name: str = REDIRECT_FIELD_NAME,
    raise_exception: bool = False,
) -> Callable[[View], View]: ...


def recent_login_required(view: Any = None, /, **options: Any) -> Any:
    """Let only those into a view who have logged in, or confirmed their login, a short while ago.

    Others are sent to the page that asks for the password, and come back from there; anonymous
    visitors to the login page, as by Django's ``login_required``. What a POST carries is not kept:
    the confirmation page tells people to send it again. For sync and async views.

    :param max_age: seconds that count as recent, at least 1; None: ``CONFIRM_MAX_AGE``
    :param login_type: whose session must be recent; None: the one that serves the path
    :param next_page: URL or its name, to go to after confirming; None: the page that was asked
        for. Views that take nothing but POST need it.
    :param confirm_url: URL or its name
    :param login_url: None: ``LOGIN_URL``
    :param redirect_field_name: for the login page, as in Django; the other one takes ``next``
    :param raise_exception: have PermissionDenied instead of redirects, for APIs
    :raises ValueError: ``max_age`` is less than 1
    :raises PermissionDenied: by the view, for those who are there as another user; they cannot
        confirm that user's login
    """
    requirement = RecentLogin(**options)
    return requirement.decorate if view is None else requirement.decorate(view)


class RecentLoginRequiredMixin:
    """``recent_login_required()`` for a class-based view; put it first among the bases.

    The attributes are the decorator's arguments.
    """

    max_age: float | None = None
    login_type: str | None = None
    next_page: str | None = None
    confirm_url: str = CONFIRM_URL
    login_url: str | None = None
    redirect_field_name: str = REDIRECT_FIELD_NAME
    raise_exception = False

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        requirement = RecentLogin(
            max_age=self.max_age,
            login_type=self.login_type,
            next_page=self.next_page,
            confirm_url=self.confirm_url,
            login_url=self.login_url,
            redirect_field_name=self.redirect_field_name,
            raise_exception=self.raise_exception,
        )
        dispatch: Callable[..., Any] = super().dispatch  # type: ignore[misc]

        async def adispatch(*args: Any, **kwargs: Any) -> Any:
            return await dispatch(*args, **kwargs)

        is_async: bool = self.view_is_async  # type: ignore[attr-defined]
        view = requirement.decorate(adispatch if is_async else dispatch)
        return view(request, *args, **kwargs)


@dataclass(frozen=True, kw_only=True)
class RecentLogin:
    """What a view requires; see ``recent_login_required()``."""

    max_age: float | None = None
    login_type: str | None = None
    next_page: str | None = None
    confirm_url: str = CONFIRM_URL
    login_url: str | None = None
    redirect_field_name: str = REDIRECT_FIELD_NAME
    raise_exception: bool = False

    def __post_init__(self) -> None:
        _refuse_impossible(self.max_age)

    def decorate(self, view: View) -> View:
        wrapper: Any
        if iscoroutinefunction(view):

            async def wrapper(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
                seen = as_seen_by(request, self.login_type)
                user = await seen.auser()
                await get_store(seen).aget(SESSION_KEY)  # reads it
                answer = self._answer(seen, user)
                return await view(request, *args, **kwargs) if answer is None else answer

        else:

            def wrapper(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
                seen = as_seen_by(request, self.login_type)
                answer = self._answer(seen, seen.user)
                return view(request, *args, **kwargs) if answer is None else answer

        # For Django's LoginRequiredMiddleware, as Django's own decorators do.
        wrapper.login_url = self.login_url
        wrapper.redirect_field_name = self.redirect_field_name
        return wraps(view)(wrapper)  # type: ignore[return-value]

    def _answer(self, request: HttpRequest, user: Any) -> HttpResponseBase | None:
        """Return what to answer instead of the view; None: it may go on."""
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
            raise PermissionDenied(_("Please confirm first that it is you."))
        return HttpResponseRedirect(self.confirm_location(request))

    def confirm_location(self, request: HttpRequest) -> str:
        """Return the URL of the page that asks for the password and comes back from there."""
        query = QueryDict(mutable=True)
        query["login_type"] = get_store(request).login_type.name
        query[REDIRECT_FIELD_NAME] = (
            resolve_url(self.next_page) if self.next_page else request.get_full_path()
        )
        if request.method not in SAFE_METHODS:
            query["again"] = "1"
        return f"{resolve_url(self.confirm_url)}?{query.urlencode(safe='/')}"


def redirect_to_login_page(
    request: HttpRequest,
    login_url: str | None = None,
    *,
    next_url: str | None = None,
    redirect_field_name: str = REDIRECT_FIELD_NAME,
) -> HttpResponse:
    """Send an anonymous visitor to the login page, and from there to where they wanted to go."""
    # Only now: it needs the user model, before which this module is loaded.
    from django.contrib.auth.views import redirect_to_login  # noqa: PLC0415

    url = resolve_url(login_url or settings.LOGIN_URL)
    came_for = next_url or request.get_full_path()
    if urlsplit(url).netloc not in ("", request.get_host()):
        came_for = request.build_absolute_uri(came_for)
    return redirect_to_login(came_for, url, redirect_field_name)


def refuse_other_users(store: SessionStore, user: Any) -> None:
    """Raise PermissionDenied for whoever is there as a user who is not the session's own.

    That is somebody who has switched user, or for whom another package has put somebody else into
    ``request.user``: the person at the keyboard cannot know that user's password.
    """
    _refuse_switched(store)
    if store.user_session.user_id not in (None, stored_user_id(user.pk)):
        raise PermissionDenied(_other_user())


def _refuse_impossible(max_age: float | None) -> None:
    if max_age is not None and max_age < 1:
        raise ValueError(f"max_age must be at least 1 (seconds), not {max_age!r}.")


def _confirm(store: SessionStore) -> None:
    _refuse_switched(store)
    user_id = store.user_session.user_id
    if user_id is None:
        raise PermissionDenied(_("Please log in."))
    record_confirmation(store)
    logger.info("User %s has confirmed the login of a %s session.", user_id, store.login_type.name)


def _refuse_switched(store: SessionStore) -> None:
    if is_switched(store.user_session):
        raise PermissionDenied(_other_user())


def _other_user() -> str:
    return _("You are here as another user, whose login only they themselves can confirm.")
