"""A visitor, what such a visitor does, and what comes of it when a storage breaks."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.contrib.auth import alogin, alogout, login, logout

from tests.system.outages.storages import drop_spent_connection
from tests.urls import site_of
from usersessions.test import AsyncClient, Client

# What a visitor does. Each is a view for WSGI and one for ASGI.

Views = tuple[Callable[[Any], Any], Callable[[Any], Coroutine[Any, Any, Any]]]


def nothing() -> None:
    pass


def looking_elsewhere() -> Views:
    """A page that does not ask for the session."""

    def view(request: Any) -> str:
        return "news"

    async def aview(request: Any) -> str:
        return "news"

    return view, aview


def reading(meanwhile: Callable[[], Any] = nothing) -> Views:
    """A page that shows who is logged in, and the basket."""

    def view(request: Any) -> tuple[str, Any]:
        found = request.user.username, request.session.get("basket")
        meanwhile()
        return found

    async def aview(request: Any) -> tuple[str, Any]:
        found = (await request.auser()).username, await request.session.aget("basket")
        meanwhile()
        return found

    return view, aview


def putting(thing: str, meanwhile: Callable[[], Any] = nothing) -> Views:
    """A page that puts something into the basket; meanwhile comes after the session was read."""

    def view(request: Any) -> str:
        request.session["basket"] = thing
        meanwhile()
        return thing

    async def aview(request: Any) -> str:
        await request.session.aset("basket", thing)
        meanwhile()
        return thing

    return view, aview


def logging_in(user: Any, meanwhile: Callable[[], Any] = nothing) -> Views:
    backend = "django.contrib.auth.backends.ModelBackend"

    def view(request: Any) -> str:
        login(request, user, backend)
        meanwhile()
        return "in"

    async def aview(request: Any) -> str:
        await alogin(request, user, backend)
        meanwhile()
        return "in"

    return view, aview


def renewing() -> Views:
    def view(request: Any) -> str:
        request.session.cycle_key()
        return "renewed"

    async def aview(request: Any) -> str:
        await request.session.acycle_key()
        return "renewed"

    return view, aview


def logging_out() -> Views:
    def view(request: Any) -> str:
        logout(request)
        return "out"

    async def aview(request: Any) -> str:
        await alogout(request)
        return "out"

    return view, aview


async def log_in(browser: Browser, user: Any) -> None:
    """Have a session with a user and a basket."""
    await browser.see(logging_in(user))
    await browser.see(putting("lamp"))
    assert await browser.see(reading()) == f"({user.username!r}, 'lamp')"


class Browser:
    """A visitor's, at a site under WSGI or, with ``is_async``, under ASGI."""

    def __init__(self, *, is_async: bool) -> None:
        self.is_async = is_async
        self.client: Any = (AsyncClient if is_async else Client)(raise_request_exception=False)

    async def visit(self, views: Views) -> Any:
        """Return the response; connections are kept or closed around it as in production."""
        view, aview = views
        if not self.is_async:
            drop_spent_connection()
            with site_of(view):
                response = self.client.get("/")
            drop_spent_connection()
            return response
        await sync_to_async(drop_spent_connection)()
        with site_of(aview):
            response = await self.client.get("/async/")
        await sync_to_async(drop_spent_connection)()
        return response

    async def see(self, views: Views) -> Any:
        """Return what a page shows, which must be there."""
        response = await self.visit(views)
        assert response.status_code == 200, response.exc_info
        return response.content.decode()

    async def fail(self, views: Views, errors: tuple[type[Exception], ...]) -> Exception:
        """Return the error that the storage makes a page fail with; cookies must stay."""
        before = self.cookie
        response = await self.visit(views)
        assert response.status_code == 500
        error: Exception = response.exc_info[1]
        assert isinstance(error, errors), repr(error)
        assert not response.cookies
        assert self.cookie == before
        return error

    @property
    def cookie(self) -> str | None:
        morsel = self.client.cookies.get("fe_sessionid")
        return morsel and morsel.value

    async def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call what may ask a database, where this is allowed."""
        return await sync_to_async(function)(*args) if self.is_async else function(*args)

    def run(self, scenario: Coroutine[Any, Any, None]) -> None:
        """Run to the end, all of it on one event loop for ASGI, and without any for WSGI."""
        if self.is_async:

            async def play() -> None:
                await scenario

            async_to_sync(play)()
            return
        with pytest.raises(StopIteration):  # nothing is waited for without an event loop
            scenario.send(None)


def played(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Make a test of a coroutine that has a ``browser``."""

    @wraps(test)
    def run(*args: Any, browser: Browser, **kwargs: Any) -> None:
        browser.run(test(*args, browser=browser, **kwargs))

    return run
