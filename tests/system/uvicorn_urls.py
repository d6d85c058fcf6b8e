"""Async views that do with the session what sites do, and tell what it costs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

from django.contrib.auth import alogin, alogout
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.urls import path


class Gathering:
    """Lets requests go on when as many as expected are here."""

    def __init__(self) -> None:
        self._present = 0
        self._is_complete = asyncio.Event()

    async def wait_for(self, expected: int) -> None:
        self._present += 1
        if self._present == expected:
            self._is_complete.set()
        await self._is_complete.wait()


gatherings: dict[str, Gathering] = {}
events: dict[str, asyncio.Event] = {}


def event(name: str) -> asyncio.Event:
    return events.setdefault(name, asyncio.Event())


async def nothing(request: HttpRequest) -> str:
    return "nothing"


async def read(request: HttpRequest) -> str:
    return repr(await request.session.aget("count"))


async def count(request: HttpRequest) -> str:
    number = await request.session.aget("count", 0) + 1
    await request.session.aset("count", number)
    return str(number)


async def put(request: HttpRequest) -> str:
    await request.session.aset(request.GET["key"], request.GET["value"])
    return "put"


async def keys(request: HttpRequest) -> str:
    return ",".join(sorted(await request.session.akeys()))


async def name(request: HttpRequest) -> str:
    return (await request.auser()).get_username()


async def login(request: HttpRequest) -> str:
    user, _ = await User.objects.aget_or_create(username=request.GET["name"])
    await alogin(request, user)
    return user.username


async def logout(request: HttpRequest) -> str:
    await alogout(request)
    return "out"


async def gather(request: HttpRequest) -> str:
    """Answer with the number of threads when all of ``expected`` requests are in this view."""
    if request.GET.get("read"):
        await request.session.aget("count")
    gathering = gatherings.setdefault(request.GET["id"], Gathering())
    await gathering.wait_for(int(request.GET["expected"]))
    return str(threading.active_count())


async def change_and_wait(request: HttpRequest) -> str:
    """Change the session and wait for ever; the client will have to go away."""
    await request.session.aset("count", "half written")
    event(f"{request.GET['id']} is waiting").set()
    try:
        await asyncio.Event().wait()
    finally:
        event(f"{request.GET['id']} is over").set()
    return "never"


async def wait_until(request: HttpRequest) -> str:
    await event(request.GET["event"]).wait()
    return "now"


def answering(view: Callable[[Any], Awaitable[str]]) -> Callable[[Any], Awaitable[HttpResponse]]:
    async def answer(request: HttpRequest) -> HttpResponse:
        text = await view(request)
        return HttpResponse(text, headers={"Threads": str(threading.active_count())})

    return answer


VIEWS = [
    nothing,
    read,
    count,
    put,
    keys,
    name,
    login,
    logout,
    gather,
    change_and_wait,
    wait_until,
]
urlpatterns = [path(f"{view.__name__}/", answering(view)) for view in VIEWS]
