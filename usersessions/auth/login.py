"""Django's login functions, for the session of any login type."""

from __future__ import annotations

from typing import Any, TypeAlias

from django.contrib import auth
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest
from django.utils.functional import SimpleLazyObject

from ..store import SessionStore

AnyUser: TypeAlias = AbstractBaseUser | AnonymousUser


def get_store(request: HttpRequest, login_type: str | None = None) -> SessionStore:
    """Return the request's session of a login type; None: the one that serves the path."""
    if login_type is None:
        session = request.session
        assert isinstance(session, SessionStore), (
            "request.session is not a usersessions.store.SessionStore: "
            "is UserSessionMiddleware in MIDDLEWARE?"
        )
        return session
    store: SessionStore = request.user_sessions[login_type]  # type: ignore[attr-defined]
    return store


def as_served_by(request: HttpRequest, login_type: str | None) -> HttpRequest:
    """Return the request as if the login type served it: with its session and its user."""
    store = get_store(request, login_type)
    if store is request.session:
        return request
    # A copy of the plain request: REST framework's wrapper sets attributes on the one inside.
    plain: HttpRequest = getattr(request, "_request", request)
    served = plain.__class__.__new__(plain.__class__)
    served.__dict__.update(plain.__dict__)
    served.session = store

    async def auser() -> Any:
        return await auth.aget_user(served)

    served.user = SimpleLazyObject(lambda: auth.get_user(served))  # type: ignore[assignment]
    served.auser = auser
    return served


def get_user(request: HttpRequest, login_type: str) -> AnyUser:
    """Return the user who is logged in to a login type, or an ``AnonymousUser``.

    Each call costs a query for the user, and one for the session if it has not been read yet.
    """
    return auth.get_user(as_served_by(request, login_type))


def login(
    request: HttpRequest,
    user: Any,
    *,
    login_type: str | None = None,
    backend: str | None = None,
    is_permanent: bool | None = None,
) -> None:
    """Log a user in to a login type, as Django's ``login()`` does to ``request.session``.

    :param login_type: None: the one that serves the path
    :param backend: dotted path of the authentication backend, as in Django
    :param is_permanent: whether the user asked to be remembered; None: the user was not asked.
        ``PERMANENT_LOGIN`` and ``LIFETIME`` decide whether the login is permanent.
    """
    served = as_served_by(request, login_type)
    get_store(served).asked_permanent = is_permanent
    auth.login(served, user, backend)


def logout(request: HttpRequest, login_type: str | None = None) -> None:
    """Log out of a login type and end its session; sessions of other types stay."""
    auth.logout(as_served_by(request, login_type))


async def aget_user(request: HttpRequest, login_type: str) -> AnyUser:
    """See ``get_user()``."""
    return await auth.aget_user(as_served_by(request, login_type))


async def alogin(
    request: HttpRequest,
    user: Any,
    *,
    login_type: str | None = None,
    backend: str | None = None,
    is_permanent: bool | None = None,
) -> None:
    """See ``login()``."""
    served = as_served_by(request, login_type)
    get_store(served).asked_permanent = is_permanent
    await auth.alogin(served, user, backend)


async def alogout(request: HttpRequest, login_type: str | None = None) -> None:
    """See ``logout()``."""
    await auth.alogout(as_served_by(request, login_type))
