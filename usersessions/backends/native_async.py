"""Synchronous code on the event loop: where it waits for a storage, the loop goes on.

What a session does at the beginning and the end of a request is written once, as synchronous code.
Where every storage that it may meet can be awaited, async requests run it here, in a greenlet of
their own, instead of in a thread.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from asgiref.sync import sync_to_async

try:
    from greenlet import getcurrent, greenlet
except ImportError:  # it comes with the storages that can be awaited
    IS_AVAILABLE = False
else:
    IS_AVAILABLE = True

Result = TypeVar("Result")


async def run_on_loop(function: Callable[..., Result], *args: Any) -> Result:
    """Run synchronous code whose waiting goes through ``wait_for()`` or ``in_thread()``.

    To its end, as a thread would: a visitor who leaves does not leave a session half stored.
    """
    task = asyncio.ensure_future(_run(function, *args))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


async def _run(function: Callable[..., Result], *args: Any) -> Result:
    code = greenlet(function)
    code.gr_context = getcurrent().gr_context
    code.is_on_loop = True
    outcome = code.switch(*args)
    while not code.dead:
        try:
            value = await outcome
        except BaseException:
            outcome = code.throw(*sys.exc_info())
        else:
            outcome = code.switch(value)
    # Coverage loses its trace where a greenlet ends.
    return outcome  # type: ignore[no-any-return]  # pragma: no cover


def is_on_loop() -> bool:
    """Return whether the caller runs by ``run_on_loop()``, and so must not block."""
    return IS_AVAILABLE and hasattr(getcurrent(), "is_on_loop")


def wait_for(awaitable: Awaitable[Result]) -> Result:
    """Return what an awaitable gives, for code that runs by ``run_on_loop()``."""
    parent = getcurrent().parent
    assert parent is not None
    return parent.switch(awaitable)  # type: ignore[no-any-return]


def in_thread(function: Callable[..., Result], *args: Any) -> Result:
    """Call what may block, such as a query: as it is, or from the event loop in a thread."""
    if is_on_loop():
        return wait_for(sync_to_async(function)(*args))
    return function(*args)


def pause(seconds: float) -> None:
    """Wait; the event loop, where it is there that this is called, goes on."""
    if is_on_loop():
        wait_for(asyncio.sleep(seconds))
    else:
        time.sleep(seconds)
