"""What visitors notice while half of a million sessions is collected on PostgreSQL.

``python -m benchmarks.collection --database postgresql://user@host/`` prints a Markdown table. It
makes a database named ``usersessions_benchmark`` on that server and drops it again. Requests go
through the real middleware, in a process of their own with threads; the command that collects runs
in another one. Beside it, in the same run: Django's ``clearsessions`` on ``django_session``.
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import resource
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.cookies import SimpleCookie
from itertools import count
from multiprocessing.connection import Connection
from statistics import quantiles
from typing import Any

import dj_database_url
import django
from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler
from django.core.management import call_command
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.urls import path

from .report import print_table

DATABASE = "usersessions_benchmark"
VISITORS = 500
THREADS = 16
WARM_UP = 10  # seconds
LIFETIME = 86400

FILL_OURS = """
INSERT INTO fe_sessions (ses_id, ses_iplock, ses_userid, ses_tstamp, ses_permanent, ses_data)
SELECT encode(sha256(number::text::bytea), 'hex'), '[DISABLED]', number %% 4 / 2 * number,
    extract(epoch FROM now())::bigint - number %% 2 * %s - number %% 3600, false,
    convert_to(repeat('x', 150), 'UTF8')
FROM generate_series(1, %s) AS number
"""
FILL_DJANGOS = """
INSERT INTO django_session (session_key, expire_date, session_data)
SELECT left(encode(sha256(number::text::bytea), 'hex'), 32),
    now() + interval '1 day' - (number %% 2 * %s + number %% 3600) * interval '1 second',
    repeat('x', 200)
FROM generate_series(1, %s) AS number
"""

#: By engine: its middleware, its SESSION_ENGINE, the command that collects, its table, its rows.
ENGINES = {
    "usersessions": (
        "usersessions.middleware.UserSessionMiddleware",
        "usersessions.store",
        ["collect_session_garbage", "--login-type=FE"],
        "fe_sessions",
        FILL_OURS,
    ),
    "django.contrib.sessions": (
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.sessions.backends.db",
        ["clearsessions"],
        "django_session",
        FILL_DJANGOS,
    ),
}


def visit(request: HttpRequest) -> HttpResponse:
    """Answer with the name that the session knows its visitor by; a POST counts the visit."""
    if request.method == "POST":
        request.session["visitor"] = request.GET["visitor"]
        request.session["visits"] = request.session.get("visits", 0) + 1
    return HttpResponse(str(request.session.get("visitor")))


urlpatterns = [path("", visit)]


@dataclass
class Collected:
    """What a process that collected says of itself."""

    started_at: float
    ended_at: float
    statements: list[float]  #: milliseconds of each
    memory_at_start: float  #: the most it had taken when the first batch was gone, in MB
    memory_at_end: float


@dataclass
class Requests:
    """Requests of one phase."""

    milliseconds: list[float]  #: from the moment that the request was due
    failed: int

    def percentile(self, percent: int) -> float:
        return quantiles(self.milliseconds, n=100)[percent - 1]


def configure(engine: str, url: str, name: str | None) -> None:
    middleware, session_engine, *_ = ENGINES[engine]
    database = {**dj_database_url.parse(url, conn_max_age=None), "TEST": {"NAME": DATABASE}}
    settings.configure(
        SECRET_KEY="for the benchmark alone",  # noqa: S106
        ALLOWED_HOSTS=["*"],
        DATABASES={"default": {**database, "NAME": name or database["NAME"] or "postgres"}},
        INSTALLED_APPS=[
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django.contrib.sessions",
            "usersessions",
        ],
        MIDDLEWARE=[middleware],
        ROOT_URLCONF=__name__.replace("__main__", "benchmarks.collection"),
        SESSION_ENGINE=session_engine,
        SILENCED_SYSTEM_CHECKS=["usersessions"],
        USERSESSIONS={"FE": {"GC_PROBABILITY": 0, "TIMEOUT": LIFETIME}},  # the command collects
        USE_TZ=True,
    )
    django.setup()


def send_request(handler: Any, cookies: list[str], visitor: int, method: str) -> bool:
    """Send one request of a visitor, and keep the cookie; return whether the answer is right."""
    headers: list[tuple[str, str]] = []

    def start_response(status: str, sent: list[tuple[str, str]], *rest: Any) -> Any:
        headers.extend(sent)

    body: Any = handler(
        {
            "REQUEST_METHOD": method,
            "PATH_INFO": "/",
            "QUERY_STRING": f"visitor={visitor}",
            "SERVER_NAME": "shop.example",
            "SERVER_PORT": "80",
            "REMOTE_ADDR": "192.0.2.1",
            "HTTP_COOKIE": cookies[visitor],
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(),
            "wsgi.errors": sys.stderr,
        },
        start_response,
    )
    answer = b"".join(body)
    body.close()
    for name, value in headers:
        if name == "Set-Cookie":
            morsels = SimpleCookie(value).values()
            cookies[visitor] = "; ".join(f"{m.key}={m.value}" for m in morsels)
    return answer == str(visitor).encode()


def send_requests(engine: str, url: str, rate: int, pipe: Connection) -> None:
    """Send requests until told to stop, half of them writing; a process of its own."""
    configure(engine, url, DATABASE)
    handler = WSGIHandler()
    cookies = [""] * VISITORS
    finished: list[tuple[float, float, bool]] = []
    numbers, is_over = count(), threading.Event()

    def work() -> None:
        while not is_over.is_set():
            number = next(numbers)
            due_at = started_at + number / rate
            is_over.wait(due_at - time.monotonic())
            try:
                # Every visitor reads and writes in turn.
                method = "POST" if number // VISITORS % 2 else "GET"
                is_right = send_request(handler, cookies, number * 7 % VISITORS, method)
            except Exception as exc:
                print(repr(exc), file=sys.stderr)  # noqa: T201
                is_right = False
            finished.append((due_at, (time.monotonic() - due_at) * 1000, is_right))
        connection.close()

    for visitor in range(VISITORS):
        send_request(handler, cookies, visitor, "POST")
    started_at = time.monotonic()
    threads = [threading.Thread(target=work) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    pipe.send("ready")
    pipe.recv()
    is_over.set()
    for thread in threads:
        thread.join()
    pipe.send(finished)


def collect(engine: str, url: str, pipe: Connection) -> None:
    """Run the engine's command once, with a watch; a process of its own."""
    configure(engine, url, DATABASE)
    statements: list[float] = []
    memory: list[float] = []

    def watch(execute: Callable[..., Any], sql: str, *rest: Any) -> Any:
        started_at = time.monotonic()
        try:
            return execute(sql, *rest)
        finally:
            statements.append((time.monotonic() - started_at) * 1000)
            if sql.startswith("DELETE"):
                memory.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)

    connection.ensure_connection()
    started_at = time.monotonic()
    with connection.execute_wrapper(watch):
        call_command(*ENGINES[engine][2], verbosity=0)
    pipe.send(Collected(started_at, time.monotonic(), statements, memory[0], memory[-1]))


@contextmanager
def process(target: Callable[..., None], *args: Any) -> Iterator[Connection]:
    ours, theirs = multiprocessing.Pipe()
    child = multiprocessing.get_context("spawn").Process(target=target, args=(*args, theirs))
    child.start()
    try:
        yield ours
        child.join()
    finally:
        child.terminate()


def measure(engine: str, url: str, rows: int, rate: int, seconds: int) -> list[str]:
    """Return the column of the table that is an engine's."""
    *_, table, fill = ENGINES[engine]
    with connection.cursor() as cursor:
        cursor.execute(fill, [2 * LIFETIME, rows])
        cursor.execute(f"VACUUM ANALYZE {table}")
        cursor.execute("CHECKPOINT")
    deadlocks = count_deadlocks()
    with process(send_requests, engine, url, rate) as requests:
        requests.recv()
        time.sleep(WARM_UP)
        quiet = time.monotonic(), time.monotonic() + seconds
        time.sleep(seconds)
        with process(collect, engine, url) as collector:
            collected: Collected = collector.recv()
        requests.send("stop")
        finished = requests.recv()

    def within(start: float, end: float) -> Requests:
        some = [(ms, is_right) for due_at, ms, is_right in finished if start <= due_at < end]
        return Requests([ms for ms, _ in some], sum(not is_right for _, is_right in some))

    before, during = within(*quiet), within(collected.started_at, collected.ended_at)
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM {table}")
        left = cursor.fetchone()[0] - VISITORS
    return [
        f"{rows - left:,}",
        f"{collected.ended_at - collected.started_at:.1f} s",
        f"{max(collected.statements):.0f} ms",
        f"{collected.memory_at_start:.0f} MB, {collected.memory_at_end:.0f} MB",
        f"{len(before.milliseconds):,}, {len(during.milliseconds):,}",
        f"{sum(not is_right for _, _, is_right in finished)}",
        f"{count_deadlocks() - deadlocks}",
        f"{before.percentile(50):.1f} ms, {during.percentile(50):.1f} ms",
        f"{before.percentile(99):.1f} ms, {during.percentile(99):.1f} ms",
        f"{during.percentile(99) / before.percentile(99):.2f}",
    ]


ROWS = [
    "expired sessions collected",
    "time that it took",
    "longest single statement",
    "memory of the command: after the first delete, at the end",
    "requests: before, during collection",
    "failed requests",
    "deadlocks",
    "p50 of the requests: before, during",
    "p99 of the requests: before, during",
    "p99 during / before",
]


def count_deadlocks() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
        return int(cursor.fetchone()[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--database", required=True, help="postgresql://user:password@host:port/")
    parser.add_argument("--rows", type=int, default=1_000_000, help="half of them have expired")
    parser.add_argument("--rate", type=int, default=50, help="requests a second")
    parser.add_argument("--seconds", type=int, default=30, help="how long before the collection")
    given = parser.parse_args()
    if dj_database_url.parse(given.database)["ENGINE"] != "django.db.backends.postgresql":
        parser.error("--database must be a PostgreSQL server: postgresql://user@host/")
    configure("usersessions", given.database, None)
    connection.creation.create_test_db(verbosity=0, autoclobber=True)
    try:
        columns = [
            measure(engine, given.database, given.rows, given.rate, given.seconds)
            for engine in ENGINES
        ]
        with connection.cursor() as cursor:
            cursor.execute("SHOW server_version")
            server = cursor.fetchone()[0]
    finally:
        connection.creation.destroy_test_db(None, verbosity=0)
    print_table(
        ["", *(f"`{' '.join(ENGINES[engine][2])}`" for engine in ENGINES)],
        [list(line) for line in zip(ROWS, *columns, strict=True)],
        f"PostgreSQL {server}; {given.rows:,} rows, {given.rate} requests a second",
    )


if __name__ == "__main__":
    main()
