"""Requests of one session that run at the same time: nothing that one has stored is lost."""

from __future__ import annotations

import asyncio
import threading
from ast import literal_eval
from functools import partial
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import OperationalError, connection, transaction
from django.http import HttpRequest

from tests.racing_requests import aserve, at_once, cookies_of, serve
from usersessions import SessionBackend, SessionBusy
from usersessions.models import FrontendSession
from usersessions.store import SessionStore

pytestmark = pytest.mark.django_db(transaction=True)

WORKERS, REQUESTS = 8, 25

#: How many requests one browser may send at once, by HTTP/2.
CROWD = 50


def put(key: str) -> Any:
    def view(request: HttpRequest) -> None:
        request.session[key] = key

    return view


def aput(key: str) -> Any:
    async def view(request: HttpRequest) -> None:
        await request.session.aset(key, key)
        await asyncio.sleep(0)

    return view


def stored_keys(cookies: dict[str, str]) -> set[str]:
    response = serve(lambda request: sorted(request.session.keys()), cookies)
    return set(literal_eval(response.content.decode()))


def test_every_key_that_threads_set_at_once_survives(every_storage: SessionBackend) -> None:
    cookies = cookies_of(serve(put("first")))

    def work(worker: int) -> None:
        for number in range(REQUESTS):
            serve(put(f"{worker}.{number}"), cookies)

    at_once([lambda worker=worker: work(worker) for worker in range(WORKERS)])
    keys = {f"{worker}.{number}" for worker in range(WORKERS) for number in range(REQUESTS)}
    assert stored_keys(cookies) == {"first", *keys}
    assert len(keys) == 200


def test_every_key_that_coroutines_set_at_once_survives(every_storage: SessionBackend) -> None:
    cookies = cookies_of(serve(put("first")))

    async def work(worker: int) -> None:
        for number in range(REQUESTS):
            await aserve(aput(f"{worker}.{number}"), cookies)

    async def work_at_once() -> None:
        await asyncio.gather(*map(work, range(WORKERS)))

    async_to_sync(work_at_once)()
    keys = {f"{worker}.{number}" for worker in range(WORKERS) for number in range(REQUESTS)}
    assert stored_keys(cookies) == {"first", *keys}


@pytest.mark.parametrize("every_storage", ["redis", "cluster"], indirect=True)
def test_no_crowd_is_too_large(every_storage: SessionBackend) -> None:
    """All have read the same before the first of them writes: it must not be the last one, too."""
    cookies = cookies_of(serve(put("first")))
    all_have_read = threading.Barrier(CROWD)

    def visit(key: str) -> None:
        def view(request: HttpRequest) -> None:
            request.session[key] = key
            all_have_read.wait(timeout=30)

        serve(view, cookies)

    at_once([partial(visit, str(number)) for number in range(CROWD)])
    assert stored_keys(cookies) == {"first", *map(str, range(CROWD))}


def test_request_whose_data_cannot_be_stored_fails_by_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where others come in between again and again, the visitor must not be told that all is well.

    A session that has ended is another matter: nobody misses what a late request changes there.
    """
    cookies = cookies_of(serve(put("first")))
    update, numbers = SessionBackend.update, iter(range(1000))

    def change_it_first(backend: SessionBackend, identifier: str, *args: Any, **more: Any) -> None:
        update(backend, identifier, {"ses_data": b'{"theirs":%d}' % next(numbers)})
        update(backend, identifier, *args, **more)

    monkeypatch.setattr(SessionBackend, "update", change_it_first)
    with pytest.raises(SessionBusy, match="other requests changed its data before each of 40"):
        serve(put("mine"), cookies)
    assert stored_keys(cookies) == {"theirs"}


def test_request_that_only_reads_is_never_in_the_way(every_storage: SessionBackend) -> None:
    """Attack: a slow page that puts back the basket of before, or a touch that does."""
    cookies = cookies_of(serve(put("first")))

    def slow_view(request: HttpRequest) -> Any:
        before = sorted(request.session.keys())
        SessionStore.clock = staticmethod(lambda: clock() + 62)  # a touch is due at the end
        theirs = SessionStore(cookies["fe_sessionid"])
        theirs["theirs"] = 2
        theirs.save()
        return before

    clock = SessionStore.clock
    try:
        serve(slow_view, cookies)
    finally:
        SessionStore.clock = staticmethod(clock)
    assert stored_keys(cookies) == {"first", "theirs"}


@pytest.mark.skipif(
    "not connection.features.has_select_for_update", reason="SQLite locks the whole database"
)
def test_who_has_lost_a_turn_has_the_next_one_alone() -> None:
    """Else, of many who write all the time, one may never get through."""
    cookies = cookies_of(serve(put("first")))
    mine = SessionStore(cookies["fe_sessionid"])
    mine["mine"] = 1
    kinds: list[str] = []

    def interrupt(execute: Any, sql: str, *args: Any) -> Any:
        kinds.append(sql.split(maxsplit=1)[0] + (" lock" if "FOR UPDATE" in sql else ""))
        if sql.startswith("UPDATE"):
            [outcome] = at_once([lambda: write_at_once(len(kinds))])
            kinds.append(outcome)
        return execute(sql, *args)

    def write_at_once(number: int) -> str:
        try:
            with transaction.atomic():
                [row] = FrontendSession.objects.select_for_update(nowait=True)
                row.ses_data = b'{"theirs":%d}' % number
                row.save()
        except OperationalError:
            return "is refused"
        return "writes"

    with connection.execute_wrapper(interrupt):
        mine.save()
    lost = ["UPDATE", "writes", "SELECT"]
    begin = ["SET"] if connection.vendor == "postgresql" else []
    assert kinds == [*lost, *lost, *begin, "SELECT lock", "UPDATE", "is refused"]
    assert stored_keys(cookies) == {"theirs", "mine"}
