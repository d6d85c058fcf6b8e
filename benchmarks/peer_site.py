"""A site with one session engine, in a process of its own, that times the requests it is sent."""

from __future__ import annotations

import asyncio
import io
import itertools
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.cookies import SimpleCookie
from importlib.metadata import PackageNotFoundError, version
from multiprocessing.connection import Connection
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import dj_database_url
import django
from django.conf import settings
from django.core.management import call_command
from django.http import HttpRequest, HttpResponse
from django.urls import path

from .storages import SQLITE_OPTIONS

DJANGOS = "django.contrib.sessions"
OURS = "usersessions.middleware.UserSessionMiddleware"
TABLE = {"model": "django_usersessions.FrontendSession"}

#: What a session holds that is read and changed: about 1 KB of JSON, which compresses as text does.
DATA = {
    f"product {number}": f"{name} {number * 7919} of {material}, {number * 104729 % 9973}.00"
    for number, (name, material) in enumerate(
        itertools.product(("desk lamp", "sofa", "vase", "shelf"), ("oak", "steel", "glass", "wool"))
    )
}
BASKET = [
    {"sku": "desk-lamp", "count": 1},
    {"sku": "sofa", "count": 2},
    {"sku": "vase", "count": 1},
]


class Engine(NamedTuple):
    """A session engine as a site installs it."""

    engine: str
    app: str = DJANGOS
    middleware: str = f"{DJANGOS}.middleware.SessionMiddleware"
    table: str = ""  #: "": sessions are in no table
    backend: str = ""  #: of ours
    cache: str = "django.core.cache.backends.redis.RedisCache"

    @property
    def is_in_redis(self) -> bool:
        return not self.table and not self.engine.endswith("signed_cookies")


ENGINES = {
    "usersessions": Engine("usersessions.store", "usersessions", OURS, "fe_sessions"),
    "Django `db`": Engine(f"{DJANGOS}.backends.db", table="django_session"),
    "django-user-sessions": Engine(
        "user_sessions.backends.db",
        "user_sessions",
        "user_sessions.middleware.SessionMiddleware",
        "user_sessions_session",
    ),
    "django-qsessions": Engine(
        "qsessions.backends.db",
        "qsessions",
        "qsessions.middleware.SessionMiddleware",
        "qsessions_session",
    ),
    "usersessions, cached": Engine(
        "usersessions.store",
        "usersessions",
        OURS,
        "fe_sessions",
        "usersessions.CachedDatabaseSessionBackend",
    ),
    "Django `cached_db`": Engine(f"{DJANGOS}.backends.cached_db", table="django_session"),
    "django-qsessions, cached": Engine(
        "qsessions.backends.cached_db",
        "qsessions",
        "qsessions.middleware.SessionMiddleware",
        "qsessions_session",
    ),
    "usersessions, Redis": Engine(
        "usersessions.store", "usersessions", OURS, backend="usersessions.RedisSessionBackend"
    ),
    "Django `cache`": Engine(f"{DJANGOS}.backends.cache"),
    "Django `signed_cookies`": Engine(f"{DJANGOS}.backends.signed_cookies"),
}

Answer = tuple[float, SimpleCookie, bytes]


def serve(
    pipe: Connection, name: str, database: str, redis: str, is_async: bool, *, checkout: str = ""
) -> None:
    """Answer ``(what to call, arguments)`` from the pipe until it sends None.

    :param checkout: the folder that ``usersessions`` is imported from; "": this one
    """
    if checkout:
        for module in [each for each in sys.modules if each.split(".")[0] == "usersessions"]:
            del sys.modules[module]
        sys.path.insert(0, checkout)
    engine = ENGINES[name]
    _set_up(engine, database, redis)
    site = Site(engine, _AsyncDoor() if is_async else _Door())
    pipe.send(None)
    while (message := pipe.recv()) is not None:
        method, arguments = message
        pipe.send(getattr(site, method)(*arguments))


def _set_up(engine: Engine, database: str, redis: str) -> None:
    config: Any = dj_database_url.parse(database, conn_max_age=None)
    if config["ENGINE"].endswith("sqlite3"):
        config["OPTIONS"] = SQLITE_OPTIONS
    frontend: dict[str, Any] = {"GC_PROBABILITY": 0}
    if engine.backend:
        frontend["BACKEND"] = engine.backend
        frontend["OPTIONS"] = TABLE if engine.table else {"url": redis}
    settings.configure(
        SECRET_KEY="benchmarks" * 5,
        DATABASES={"default": config},
        CACHES={
            "default": {
                "BACKEND": engine.cache,
                "LOCATION": redis,
            }
        },
        INSTALLED_APPS=[
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django.contrib.messages",
            engine.app,
        ],
        MIDDLEWARE=[
            "django.middleware.security.SecurityMiddleware",
            engine.middleware,
            "django.middleware.common.CommonMiddleware",
            "django.middleware.csrf.CsrfViewMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
            "django.contrib.messages.middleware.MessageMiddleware",
            "django.middleware.clickjacking.XFrameOptionsMiddleware",
        ],
        SESSION_ENGINE=engine.engine,
        USERSESSIONS={"FE": frontend},
        ROOT_URLCONF=__name__,
        ALLOWED_HOSTS=["testserver"],
        SILENCED_SYSTEM_CHECKS=["user_sessions.W001"],
        USE_TZ=True,
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    )
    with _without_setuptools():
        django.setup()
    call_command("migrate", verbosity=0)
    from django.contrib.auth.models import User  # noqa: PLC0415 - needs the settings

    User.objects.get_or_create(username="alice", defaults={"password": "!", "is_active": True})
    _auth_and_user()  # here, where no event loop is in the way


@contextmanager
def _without_setuptools() -> Iterator[None]:
    """Let django-user-sessions ask for its version where setuptools does not tell it any more."""
    stand_in: Any = ModuleType("pkg_resources")
    stand_in.DistributionNotFound = PackageNotFoundError
    stand_in.get_distribution = lambda name: SimpleNamespace(version=version(name))
    found = sys.modules.setdefault("pkg_resources", stand_in)
    yield
    if found is stand_in:
        del sys.modules["pkg_resources"]


# The site's views, each as a function and as a coroutine.

VALUES = itertools.count()


def plain(request: HttpRequest) -> HttpResponse:
    return HttpResponse("x")


def read(request: HttpRequest) -> HttpResponse:
    return HttpResponse(str(request.session.get("product 1", "")))


def fill(request: HttpRequest) -> HttpResponse:
    request.session.update(DATA)
    return HttpResponse("x")


def change(request: HttpRequest) -> HttpResponse:
    request.session["product 1"] = next(VALUES)
    return HttpResponse("x")


def put_into_basket(request: HttpRequest) -> HttpResponse:
    request.session["basket"] = BASKET
    return HttpResponse("x")


def log_in(request: HttpRequest) -> HttpResponse:
    auth, user = _auth_and_user()
    auth.login(request, user, "django.contrib.auth.backends.ModelBackend")
    return HttpResponse("x")


def show_user(request: HttpRequest) -> HttpResponse:
    return HttpResponse(request.user.get_username())


def log_out(request: HttpRequest) -> HttpResponse:
    auth, _ = _auth_and_user()
    auth.logout(request)
    return HttpResponse("x")


async def aplain(request: HttpRequest) -> HttpResponse:
    return HttpResponse("x")


async def aread(request: HttpRequest) -> HttpResponse:
    return HttpResponse(str(await request.session.aget("product 1", "")))


async def achange(request: HttpRequest) -> HttpResponse:
    await request.session.aset("product 1", next(VALUES))
    return HttpResponse("x")


async def alog_in(request: HttpRequest) -> HttpResponse:
    auth, user = _auth_and_user()
    await auth.alogin(request, user, "django.contrib.auth.backends.ModelBackend")
    return HttpResponse("x")


async def ashow_user(request: HttpRequest) -> HttpResponse:
    return HttpResponse((await request.auser()).get_username())


async def alog_out(request: HttpRequest) -> HttpResponse:
    auth, _ = _auth_and_user()
    await auth.alogout(request)
    return HttpResponse("x")


def _auth_and_user(found: list[Any] = []) -> Any:  # noqa: B006 - asked for once
    from django.contrib import auth  # noqa: PLC0415 - needs the settings

    if not found:
        # As a page has it that has checked the password: not asked for again.
        found.append(auth.get_user_model().objects.get(username="alice"))
    return auth, found[0]


VIEWS: list[Callable[..., Any]] = [plain, read, fill, change, put_into_basket, log_in, show_user]
VIEWS += [log_out, aplain, aread, achange, alog_in, ashow_user, alog_out]
urlpatterns = [path(f"{view.__name__}/", view) for view in VIEWS]


class _Door:
    """Sends requests through Django's WSGI handler."""

    prefix = ""

    def __init__(self) -> None:
        from django.core.handlers.wsgi import WSGIHandler  # noqa: PLC0415 - needs the settings

        self._handler = WSGIHandler()

    def send(self, name: str, cookies: dict[str, str]) -> Answer:
        headers: list[tuple[str, str]] = []
        environ = {
            "REQUEST_METHOD": "GET",
            "PATH_INFO": f"/{name}/",
            "SCRIPT_NAME": "",
            "QUERY_STRING": "",
            "SERVER_NAME": "testserver",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": "127.0.0.1",
            "HTTP_USER_AGENT": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Firefox/140.0",
            "HTTP_COOKIE": "; ".join(f"{key}={value}" for key, value in cookies.items()),
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(),
            "wsgi.errors": io.StringIO(),
            "wsgi.multithread": False,
            "wsgi.multiprocess": True,
            "wsgi.run_once": False,
        }
        start = time.perf_counter()
        response = self._handler(environ, lambda status, found: headers.extend(found))
        body = b"".join(response)
        response.close()
        took = time.perf_counter() - start
        _refuse_errors(response.status_code)
        return took, _cookies_in(headers), body


class _AsyncDoor:
    """Sends requests through Django's ASGI handler, to views that are coroutines."""

    prefix = "a"

    def __init__(self) -> None:
        from django.core.handlers.asgi import ASGIHandler  # noqa: PLC0415 - needs the settings

        self._handler = ASGIHandler()
        self._loop = asyncio.new_event_loop()

    def send(self, name: str, cookies: dict[str, str]) -> Answer:
        return self._loop.run_until_complete(self._asend(name, cookies))

    async def _asend(self, name: str, cookies: dict[str, str]) -> Answer:
        cookie = "; ".join(f"{key}={value}" for key, value in cookies.items())
        scope: Any = {
            "type": "http",
            "method": "GET",
            "path": f"/{name}/",
            "raw_path": f"/{name}/".encode(),
            "query_string": b"",
            "headers": [
                (b"host", b"testserver"),
                (b"user-agent", b"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Firefox/140.0"),
                (b"cookie", cookie.encode()),
            ],
            "client": ("127.0.0.1", 1),
            "server": ("testserver", 80),
            "scheme": "http",
            "http_version": "1.1",
        }
        incoming: asyncio.Queue[Any] = asyncio.Queue()
        incoming.put_nowait({"type": "http.request", "body": b"", "more_body": False})
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        start = time.perf_counter()
        await self._handler(scope, incoming.get, send)
        took = time.perf_counter() - start
        _refuse_errors(sent[0]["status"])
        headers = [(name.decode(), value.decode()) for name, value in sent[0]["headers"]]
        return took, _cookies_in(headers), b"".join(part.get("body", b"") for part in sent[1:])


def _refuse_errors(status: int) -> None:
    if status != 200:
        raise RuntimeError(f"A page was answered with {status}; see above.")


def _cookies_in(headers: list[tuple[str, str]]) -> SimpleCookie:
    cookies: SimpleCookie = SimpleCookie()
    for name, value in headers:
        if name.lower() == "set-cookie":
            cookies.load(value)
    return cookies


class Site:
    """Plays what is measured, again and again."""

    def __init__(self, engine: Engine, door: Any) -> None:
        self.engine = engine
        self.door = door
        self._filled = self._visit("fill")
        self._logged_in = self._visit("log_in", self._visit("put_into_basket"))

    def run(self, scenario: str, requests: int) -> list[float]:
        """Return how many seconds each of so many requests took."""
        return [getattr(self, f"_{scenario}")() for _ in range(requests)]

    def count(self, scenario: str) -> str:
        """Return how many statements, and how many commands to Redis, one request sends."""
        getattr(self, f"_{scenario}")()
        with _counting() as counts:
            # Preparing is not counted: it comes before the last request.
            counts.clear()
            self._counts = counts
            getattr(self, f"_{scenario}")()
        return " + ".join(f"{number} {kind}" for kind, number in counts.items() if number) or "0"

    def size(self) -> int:
        """Return the bytes that a session of ``DATA`` takes, without indexes."""
        from django.core.cache import caches  # noqa: PLC0415 - needs the settings
        from django.db import connection  # noqa: PLC0415

        if self.engine.table:
            with connection.cursor() as cursor:
                cursor.execute(f"SELECT * FROM {self.engine.table}")
                return max(map(_width, cursor.fetchall()))
        if self.engine.is_in_redis:
            client: Any = caches["default"]._cache.get_client()  # type: ignore[attr-defined]
            keys = client.scan_iter(
                match="usersessions*:session:*" if self.engine.backend else "*django*"
            )
            return max(int(client.memory_usage(key)) for key in keys)
        return len(json.dumps(self._filled))

    # What is measured; each returns the seconds of its last request.

    def _no_cookie(self) -> float:
        return self._time("read", {})

    def _untouched(self) -> float:
        return self._time("plain", self._filled)

    def _forged(self) -> float:
        return self._time("read", {name: _forge(value) for name, value in self._filled.items()})

    def _read(self) -> float:
        return self._time("read", self._filled)

    def _change(self) -> float:
        return self._time("change", self._filled, keep=self._filled)

    def _user(self) -> float:
        return self._time("show_user", self._logged_in)

    def _login(self) -> float:
        return self._time("log_in", self._visit("put_into_basket"))

    def _logout(self) -> float:
        return self._time("log_out", self._visit("log_in", self._visit("put_into_basket")))

    _counts: Any = None

    def _visit(self, name: str, cookies: dict[str, str] | None = None) -> dict[str, str]:
        before = dict(cookies or {})
        prefix = "" if name in ("fill", "put_into_basket") else self.door.prefix
        _, found, _ = self.door.send(prefix + name, before)
        return {**before, **{key: each.value for key, each in found.items()}}

    def _time(
        self, name: str, cookies: dict[str, str], keep: dict[str, str] | None = None
    ) -> float:
        if self._counts is not None:
            self._counts.clear()
        took, found, _ = self.door.send(self.door.prefix + name, cookies)
        if keep is not None:  # signed cookies hold the data themselves
            keep.update({key: each.value for key, each in found.items()})
        return float(took)


def _forge(value: str) -> str:
    """Return a cookie of the same shape that the site has never sent."""
    middle = len(value) // 2
    return value[: middle - 4] + "zzzz" + value[middle:]


def _width(row: Any) -> int:
    return sum(len(each) if isinstance(each, (str, bytes, memoryview)) else 8 for each in row)


@contextmanager
def _counting() -> Iterator[dict[str, int]]:
    import redis.connection  # noqa: PLC0415 - what the others do not need
    from django.db import connection  # noqa: PLC0415 - needs the settings

    counts: dict[str, int] = {}
    send = redis.connection.AbstractConnection.send_packed_command

    def note(kind: str) -> None:
        counts[kind] = counts.get(kind, 0) + 1

    def send_and_note(self: Any, *args: Any, **kwargs: Any) -> Any:
        note("Redis")
        return send(self, *args, **kwargs)

    def execute_and_note(execute: Any, *args: Any) -> Any:
        note("SQL")
        return execute(*args)

    redis.connection.AbstractConnection.send_packed_command = send_and_note  # type: ignore[method-assign]
    try:
        with connection.execute_wrapper(execute_and_note):
            yield counts
    finally:
        redis.connection.AbstractConnection.send_packed_command = send  # type: ignore[method-assign]
