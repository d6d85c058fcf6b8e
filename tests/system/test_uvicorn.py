"""Async views under uvicorn, on PostgreSQL: many requests at once, and clients that go away."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

import pytest

from tests.missing import report_missing

try:
    import psycopg
    import psycopg_pool  # noqa: F401 - Django's pool needs it
    import uvicorn  # noqa: F401 - runs in a process of its own
except ImportError:
    psycopg = None  # type: ignore[assignment]

POSTGRES = os.environ.get(
    "USERSESSIONS_TEST_POSTGRES", "postgresql://postgres@127.0.0.1:5432/postgres"
)
OURS = "usersessions.store"
DJANGOS = "django.contrib.sessions.backends.db"
POOL_SIZE = 20  # as in uvicorn_settings.py
#: Threads that the server may have besides one for each request that it is serving: its own, the
#: pool's, and those of the event loop's default executor.
OTHER_THREADS = 16
AT_ONCE = 200
FORGED = {"fe_sessionid": "eyJhbGciOiJIUzI1NiJ9.eyJpZGVudGlmaWVyIjoiMCJ9.Zm9yZ2Vk"}


class Answer(NamedTuple):
    status: int
    text: str
    threads: int


class Server:
    """A uvicorn in a process of its own, with a database of its own."""

    def __init__(self, engine: str, database: str, log: Path) -> None:
        self.database = database
        self.log = log
        self._environment = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tests.system.uvicorn_settings",
            "USERSESSIONS_TEST_DATABASE": urlsplit(POSTGRES)._replace(path=database).geturl(),
            "USERSESSIONS_TEST_ENGINE": engine,
        }
        subprocess.run(
            [sys.executable, "-m", "django", "migrate", "--verbosity=0"],
            env=self._environment,
            check=True,
        )
        # Connections wait in its backlog until the server accepts them.
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=2 * AT_ONCE)
        with self.log.open("wb") as output:
            self._process = subprocess.Popen(  # noqa: S603 - our own command
                [
                    *(sys.executable, "-m", "uvicorn", "--factory"),
                    "django.core.asgi:get_asgi_application",
                    *("--fd", str(self._socket.fileno()), "--lifespan", "off"),
                    *("--log-level", "warning"),
                ],
                env=self._environment,
                pass_fds=[self._socket.fileno()],
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(timeout=30)
        self._socket.close()

    @property
    def threads(self) -> int:
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(status.partition("Threads:")[2].split()[0])

    async def open(
        self, view: str, cookies: dict[str, str], query: dict[str, Any]
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(*self._socket.getsockname())
        lines = [f"GET /{view}/?{urlencode(query)} HTTP/1.0", "Host: 127.0.0.1"]
        if cookies:
            lines.append("Cookie: " + "; ".join(f"{key}={cookies[key]}" for key in cookies))
        writer.write("\r\n".join([*lines, "", ""]).encode())
        return reader, writer

    async def get(self, view: str, cookies: dict[str, str] | None = None, **query: Any) -> Answer:
        """Request a view; ``cookies`` is a browser's, and kept up to date."""
        cookies = {} if cookies is None else cookies
        reader, writer = await self.open(view, cookies, query)
        head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
        writer.close()
        status, *headers = head.split("\r\n")
        threads = 0
        for header in headers:
            key, _, value = header.partition(": ")
            if key.lower() == "threads":
                threads = int(value)
            elif key.lower() == "set-cookie":
                _keep(cookies, value)
        return Answer(int(status.split()[1]), body, threads)


def _keep(cookies: dict[str, str], header: str) -> None:
    for name, morsel in SimpleCookie(header).items():
        if morsel["max-age"] == "0":
            del cookies[name]
        else:
            cookies[name] = morsel.value


@pytest.fixture(scope="module")
def postgres() -> Iterator[Any]:
    if psycopg is None:
        report_missing("needs uvicorn and psycopg with its pool: see Contributing in README.rst")
    try:
        connection = psycopg.connect(POSTGRES, autocommit=True)
    except psycopg.OperationalError:
        report_missing(
            "needs PostgreSQL at USERSESSIONS_TEST_POSTGRES: see Contributing in README.rst"
        )
    with connection:
        yield connection


def run_server(engine: str, postgres: Any, directory: Path) -> Iterator[Server]:
    database = f"usersessions_{secrets.token_hex(8)}"
    postgres.execute(f"CREATE DATABASE {database}")
    try:
        server = Server(engine, database, directory / "server.log")
        try:
            yield server
        finally:
            server.stop()
    finally:
        postgres.execute(f"DROP DATABASE {database} WITH (FORCE)")


@pytest.fixture(scope="module")
def server(postgres: Any, tmp_path_factory: Any) -> Iterator[Server]:
    yield from run_server(OURS, postgres, tmp_path_factory.mktemp("ours"))


@pytest.fixture(scope="module")
def djangos_server(postgres: Any, tmp_path_factory: Any) -> Iterator[Server]:
    yield from run_server(DJANGOS, postgres, tmp_path_factory.mktemp("djangos"))


def connections_to(database: str, postgres: Any) -> Counter[str]:
    """Return how many clients' connections there are to a database, by what they are doing."""
    rows = postgres.execute(
        # Without the server's own, which vacuums when it likes.
        "SELECT state, count(*) FROM pg_stat_activity WHERE datname = %s "
        "AND backend_type = 'client backend' GROUP BY state",
        [database],
    )
    return Counter(dict(rows.fetchall()))


class Watch:
    """Asks PostgreSQL, as often as it answers, how many connections the server has."""

    def __init__(self, server: Server, postgres: Any) -> None:
        self._server, self._postgres = server, postgres
        self.most_connections = self.most_threads = 0

    async def __aenter__(self) -> Watch:
        self._task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _watch(self) -> None:
        while True:
            found = await asyncio.to_thread(connections_to, self._server.database, self._postgres)
            self.most_connections = max(self.most_connections, found.total())
            self.most_threads = max(self.most_threads, self._server.threads)


async def all_at_once(requests: list[Any]) -> list[Answer]:
    answers = await asyncio.wait_for(asyncio.gather(*requests), timeout=60)
    assert Counter(answer.status for answer in answers) == {200: len(requests)}
    return answers


def run(test: Any) -> None:
    asyncio.run(asyncio.wait_for(test, timeout=120))


async def is_idle(server: Server, postgres: Any) -> bool:
    """Wait until nothing is left of the requests before, as far as that comes to pass."""
    for _ in range(500):
        await server.get("nothing")
        states = connections_to(server.database, postgres)
        if server.threads <= OTHER_THREADS and set(states) <= {"idle"}:
            return True
    return False


def test_200_requests_at_once_lose_nothing_and_leave_nothing_behind(
    server: Server, postgres: Any
) -> None:
    async def test() -> None:
        browsers: list[dict[str, str]] = [{} for _ in range(120)]
        await server.get("nothing")
        async with Watch(server, postgres) as watch:
            await all_at_once([server.get("count", browser) for browser in browsers])
            await all_at_once(
                [
                    server.get("login", browser, name=f"user{number}")
                    for number, browser in enumerate(browsers[:60])
                ]
            )
            answers = await all_at_once(
                [
                    *(server.get("read") for _ in range(40)),
                    *(server.get("read", dict(FORGED)) for _ in range(40)),
                    *(server.get("logout", browser) for browser in browsers[:20]),
                    *(server.get("name", browser) for browser in browsers[20:60]),
                    *(server.get("count", browser) for browser in browsers[60:]),
                ]
            )
        assert [answer.text for answer in answers] == (
            ["None"] * 80
            + ["out"] * 20
            + [f"user{number}" for number in range(20, 60)]
            + ["2"] * 60
        )
        answers = await all_at_once([server.get("read", browser) for browser in browsers])
        assert [answer.text for answer in answers] == ["None"] * 20 + ["1"] * 40 + ["2"] * 60
        assert watch.most_connections <= POOL_SIZE
        assert watch.most_threads <= AT_ONCE + OTHER_THREADS
        assert await is_idle(server, postgres)

    run(test())
    assert server.log.read_text() == ""


def test_requests_of_one_session_that_change_different_keys_all_win(server: Server) -> None:
    async def test() -> None:
        browser: dict[str, str] = {}
        await server.get("count", browser)
        names = [f"key{number}" for number in range(10)]
        await all_at_once([server.get("put", browser, key=key, value=1) for key in names])
        assert (await server.get("keys", browser)).text == ",".join(["count", *names])

    run(test())
    assert server.log.read_text() == ""


@pytest.mark.parametrize("cookies", [{}, FORGED], ids=["no-cookie", "forged-cookie"])
def test_visitors_need_no_thread_but_the_one_that_django_starts_for_each_request(
    server: Server, cookies: dict[str, str]
) -> None:
    """Attack: make the server pile up threads and connections with cookies that are worth nothing.

    Django itself starts a thread for each request, to send ``request_started``; with all requests
    in the view at the same time, there must not be more of them where the session was asked for.
    """

    async def gather(**query: Any) -> int:
        options = {"id": secrets.token_hex(4), "expected": AT_ONCE, **query}
        answers = await all_at_once(
            [server.get("gather", dict(cookies), **options) for _ in range(AT_ONCE)]
        )
        return max(int(answer.text) for answer in answers)

    async def test() -> None:
        djangos_own = await gather()
        assert await gather(read=1) <= djangos_own + 1

    run(test())
    assert server.log.read_text() == ""


def test_clients_that_go_away_leave_neither_changes_nor_threads_nor_connections(
    server: Server, postgres: Any
) -> None:
    """More of them than there are connections: if they kept one, the site would be down."""

    async def leave_in_the_middle(browser: dict[str, str], number: int) -> None:
        _, writer = await server.open("change_and_wait", browser, {"id": number})
        await server.get("wait_until", event=f"{number} is waiting")
        writer.close()
        await server.get("wait_until", event=f"{number} is over")

    async def test() -> None:
        browser: dict[str, str] = {}
        await server.get("count", browser)
        for start in range(0, 3 * POOL_SIZE, POOL_SIZE // 2):
            await asyncio.gather(
                *(
                    leave_in_the_middle(browser, number)
                    for number in range(start, start + POOL_SIZE // 2)
                )
            )
        assert (await server.get("read", browser)).text == "1"
        assert await is_idle(server, postgres)
        await all_at_once([server.get("read", browser) for _ in range(AT_ONCE)])

    run(test())
    assert server.log.read_text() == ""


def test_load_needs_no_more_threads_than_with_djangos_own_engine(
    server: Server, djangos_server: Server, postgres: Any
) -> None:
    async def measure(measured: Server) -> tuple[int, int]:
        browsers: list[dict[str, str]] = [{} for _ in range(AT_ONCE)]
        async with Watch(measured, postgres) as watch:
            answers = await all_at_once([measured.get("count", each) for each in browsers])
            answers += await all_at_once([measured.get("count", each) for each in browsers])
        assert [answer.text for answer in answers] == ["1"] * AT_ONCE + ["2"] * AT_ONCE
        return max(watch.most_threads, *(each.threads for each in answers)), watch.most_connections

    async def test() -> None:
        threads, connections = await measure(server)
        djangos_threads, djangos_connections = await measure(djangos_server)
        assert threads <= djangos_threads + OTHER_THREADS
        assert connections <= djangos_connections

    run(test())
