"""What is left of keys that requests of one session set at once, here and with Django's engines.

Usage: ``python -m benchmarks.lost_updates ADDRESS...``, see README.md. Needs one Redis at least.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.db import connections
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory, override_settings

from . import storages
from .report import print_table
from .storages import Storage, is_redis

THREADS, REQUESTS = 8, 25

#: Django's engines, and whether they keep sessions in the database or in the cache.
ENGINES = {"db": "database", "cached_db": "database", "cache": "cache", "file": "file"}

urlpatterns: list[Any] = []

#: Which database Django's own engines use, by its address.
database_in_use = ""


class OneDatabase:
    """A router that sends everything to the database in use."""

    def db_for_read(self, model: Any, **hints: Any) -> str:
        return database_in_use

    db_for_write = db_for_read


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("addresses", nargs="+", metavar="ADDRESS")
    addresses = parser.parse_args().addresses
    storages.set_up(addresses)
    redis = next(each for each in addresses if each.startswith("redis:"))
    directory = tempfile.mkdtemp()
    with override_settings(
        INSTALLED_APPS=[*settings.INSTALLED_APPS, "django.contrib.sessions"],
        DATABASE_ROUTERS=[f"{__name__}.OneDatabase"],
        CACHES={"default": {**settings.CACHES["default"], "LOCATION": redis}},
        SESSION_FILE_PATH=directory,
        ROOT_URLCONF=__name__,
        ALLOWED_HOSTS=["testserver"],
    ):
        rows = [["usersessions", *(_count_ours(each) for each in addresses), "-"]]
        for engine, place in ENGINES.items():
            row = [_count_theirs(engine, place, each) for each in addresses]
            rows.append([f"Django's `{engine}`", *row, _in_files(engine)])
    shutil.rmtree(directory)
    print_table(
        ["Engine", *(Storage(each).name for each in addresses), "files"],
        rows,
        f"{THREADS} threads, {REQUESTS} requests each.",
    )


def _count_ours(address: str) -> str:
    from usersessions.middleware import UserSessionMiddleware  # noqa: PLC0415 - needs the settings

    backend = Storage(address).empty()
    name = f"usersessions.{type(backend).__name__}"
    with override_settings(USERSESSIONS={"FE": {"BACKEND": name, "OPTIONS": backend.options}}):
        return _count(UserSessionMiddleware)


def _count_theirs(engine: str, place: str, address: str) -> str:
    global database_in_use  # noqa: PLW0603
    if is_redis(address) != (place == "cache") or place == "file":
        return "-"
    database_in_use = address
    if place == "database":
        call_command("migrate", database=address, verbosity=0)
    return _with_engine(engine)


def _in_files(engine: str) -> str:
    return _with_engine(engine) if engine == "file" else "-"


def _with_engine(engine: str) -> str:
    from django.contrib.sessions.middleware import SessionMiddleware  # noqa: PLC0415

    with override_settings(SESSION_ENGINE=f"django.contrib.sessions.backends.{engine}"):
        return _count(SessionMiddleware)


def _count(middleware: Callable[..., Any]) -> str:
    """Return how many of the keys that all threads have set are there, and how long that took."""

    def answer(request: HttpRequest) -> HttpResponse:
        key = request.GET.get("key")
        if key:
            request.session[key] = 1
        return HttpResponse(str(len(request.session.keys())))

    serve, cookies = middleware(answer), {}
    start, failures = threading.Barrier(THREADS), []

    def send(query: str = "") -> HttpResponse:
        request = RequestFactory().get(f"/{query}")
        request.COOKIES.update(cookies)
        response: HttpResponse = serve(request)
        return response

    def work(thread: int) -> None:
        start.wait()
        for number in range(REQUESTS):
            try:
                send(f"?key={thread}.{number}")
            except Exception as exc:
                failures.append(exc)
        connections.close_all()

    cookies = {name: each.value for name, each in send("?key=first").cookies.items()}
    began = time.perf_counter()
    with ThreadPoolExecutor(THREADS) as threads:
        list(threads.map(work, range(THREADS)))
    took = time.perf_counter() - began
    kept = int(send().content) - 1
    failed = f", {len(failures)} failed" if failures else ""
    return f"**{kept}** in {took:.2f} s{failed}"


if __name__ == "__main__":
    main()
