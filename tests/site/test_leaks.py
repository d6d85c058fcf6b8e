"""Nothing that the site writes or shows has an identifier or a token in it, but the cookie itself.

A whole scenario is played with all logging at DEBUG. Whatever comes out of it is searched for
every identifier and every token that there was, in all the forms that they might take.
"""

from __future__ import annotations

import asyncio
import dataclasses
import io
import logging
import re
import secrets
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable, Iterator
from http.cookies import SimpleCookie
from typing import Any

import django
import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.contrib import auth
from django.core import mail
from django.core.exceptions import PermissionDenied
from django.core.management import call_command
from django.db import connection
from django.http import Http404, HttpResponse
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils.log import AdminEmailHandler

from tests.factories import UserFactory
from tests.old_engines import OldSite
from tests.urls import site_of, visit
from usersessions import SessionManager
from usersessions import auth as usersessions_auth
from usersessions.backends.errors import SessionBackendError
from usersessions.conf import get_login_type
from usersessions.lifecycle.rollbacks import RequestChanges
from usersessions.session.data import Decoded
from usersessions.session.tokens import CookieScope, Keys
from usersessions.test import AsyncClient, Client

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.urls")]

CHANGELIST = "admin:django_usersessions_frontendsession_changelist"
CHANGE = "admin:django_usersessions_frontendsession_change"


class Secrets:
    """Every identifier, token and old key that there has been."""

    def __init__(self) -> None:
        self.found: set[str] = set()

    def note(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function, which also notes what it returns."""

        def noting(*args: Any, **kwargs: Any) -> Any:
            result = function(*args, **kwargs)
            self.found.update([result] if isinstance(result, str) else result)
            return result

        return noting

    def forms(self) -> Iterator[str]:
        """Yield the texts that would give one away."""
        for secret in self.found:
            yield secret
            yield secret[::-1]
            if "." in secret:
                yield secret.split(".")[1]  # the payload, where the identifier is
                continue
            yield secret.upper()
            yield str(int(secret, 16)) if re.fullmatch("[0-9a-f]+", secret) else secret
            for encode in (b64encode, urlsafe_b64encode):
                for at in range(3):  # wherever it stands in what is encoded
                    encoded = encode(b"\0" * at + secret.encode()).decode().rstrip("=")
                    yield encoded[at and 4 : -2]
                if re.fullmatch("([0-9a-f]{2})+", secret):
                    yield encode(bytes.fromhex(secret)).decode().rstrip("=")
            if re.fullmatch("([0-9a-f]{2})+", secret):
                yield repr(bytes.fromhex(secret))[2:-1]


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> Secrets:
    known = Secrets()
    token_hex = secrets.token_hex

    def noted(size: int) -> str:
        text = token_hex(size)
        if size == 16:
            known.found.add(text)
        return text

    monkeypatch.setattr("usersessions.session.tokens.secrets.token_hex", noted)
    monkeypatch.setattr(CookieScope, "sign", known.note(CookieScope.sign))
    monkeypatch.setattr(Keys, "adopted_identifiers", known.note(Keys.adopted_identifiers))
    return known


class Output:
    """Everything that came out of the site."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def add(self, text: object) -> None:
        self.texts.append(str(text))

    def add_response(self, response: Any) -> None:
        """Take a response but for the one place where the token belongs."""
        self.add(response.status_code)
        self.add(b"".join(response).decode("utf-8", "replace"))
        self.add(list(response.headers.items()))
        self.add([value for name, value in response.cookies.items() if "session" not in name])

    def __str__(self) -> str:
        return "\n".join(self.texts)


class Handler(logging.Handler):
    """Keeps everything of every record."""

    def __init__(self, output: Output) -> None:
        super().__init__(logging.DEBUG)
        self.setFormatter(logging.Formatter("%(name)s %(message)s"))
        self.output = output
        self.names: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        # The engine that the site had keeps its keys as they are, and asks its table by them.
        if record.name == "django.db.backends" and "django_session" in record.getMessage():
            return
        self.names.add(record.name)
        self.output.add(self.format(record))
        self.output.add({name: repr(value) for name, value in vars(record).items()})


@pytest.fixture
def output(capsys: Any) -> Iterator[Output]:
    output = Output()
    handler = Handler(output)
    mailer = AdminEmailHandler(include_html=True)
    mailer.setLevel(logging.ERROR)
    levels = {}
    # Every logger that does not hand its records on is asked for them.
    loggers = [logging.getLogger()] + [
        logging.getLogger(name) for name in ("django", "django.db.backends", "django.request")
    ]
    # Each name that a template does not find is told there, with a traceback and without variables.
    logging.getLogger("django.template").setLevel(logging.INFO)
    for logger in loggers:
        levels[logger] = logger.level
        logger.setLevel(logging.DEBUG)
    loggers[0].addHandler(handler)
    logging.getLogger("django.request").addHandler(mailer)
    yield output
    loggers[0].removeHandler(handler)
    logging.getLogger("django.request").removeHandler(mailer)
    for logger, level in levels.items():
        logger.setLevel(level)
    logging.getLogger("django.template").setLevel(logging.NOTSET)


@dataclasses.dataclass
class Note:
    """What a site's own code may hold."""

    text: str
    inner: Any = None


def fail_with(token: str, identifier: str) -> None:
    """Fail with variables that hold a token and an identifier in every way."""
    cookie = SimpleCookie({"fe_sessionid": token})
    as_bytes, in_a_text = token.encode(), f"Got {identifier} from the browser"
    long_bytes = b"x" * 100 + b" " + token.encode() + b" " + identifier.encode()
    of_identifier, header = {identifier: [token]}, [("Cookie", f"a=b; fe_sessionid={token}")]
    note = Note(in_a_text, Note(token, {"deep": (identifier, {token})}))
    parts, glued = token.split("."), f"key:{identifier}:{token[:50]}"
    assert all((cookie, as_bytes, in_a_text, long_bytes, of_identifier, header, note, parts, glued))
    try:
        raise LookupError("The first error.")
    except LookupError as exc:
        raise RuntimeError("The page fails.") from exc


def the_secrets_of(request: Any) -> tuple[str, str]:
    session = request.session.user_session
    return session.get_jwt(request.session.login_type.cookie_scope(request)), session.identifier


def fail(request: Any) -> None:
    fail_with(*the_secrets_of(request))


def raise_error(error: Exception) -> Callable[[Any], Any]:
    def view(request: Any) -> Any:
        token, identifier = the_secrets_of(request)
        assert token
        assert identifier
        raise error

    return view


def show_objects(output: Output) -> Callable[[Any], Any]:
    """Show every object of ours that code of a site's may meet."""

    def view(request: Any) -> str:
        store = request.session
        session, manager = store.user_session, store.manager
        renewed = session.renewed(secrets.token_hex(16), user_id=session.user_id)
        shown: list[Any] = [
            *(session, renewed, store, store.user_session.stored, manager, manager.backend),
            *(session.to_record(), manager.backend.get(session.identifier)),
            *(manager.expiry, manager.ip_locker, store.login_type, get_login_type("BE")),
            *(store.login_type.cookie_scope(request), store.login_type.keys),
            *(request.user_sessions, list(request.user_sessions.values()), request),
            *(RequestChanges(manager), Decoded(session.data, session.meta), dict(store)),
            *(usersessions_auth.own_sessions(request), request.user, request.original_user),
        ]
        missing = "0" * 32
        for ask in (
            lambda: manager.backend.get(missing),
            lambda: manager.backend.update(missing, {"ses_iplock": ""}),
            lambda: manager.backend.set(session.identifier, session.to_record()),
            lambda: manager.backend.renew(missing, session.identifier, session.to_record()),
            lambda: manager.create_session_from_storage(missing),
        ):
            with pytest.raises(SessionBackendError) as caught:
                ask()
            shown += [caught.value, vars(caught.value)]
        for thing in shown:
            output.add(f"{thing!r} {thing!s} {thing}")
        return "shown"

    return view


class Scenario:
    """What people do on a site, one after the other."""

    def __init__(self, output: Output, known: Secrets, settings: Any, old_site: OldSite) -> None:
        self.output, self.known = output, known
        self.settings, self.old_site = settings, old_site
        self.alice, self.bob = UserFactory(username="alice"), UserFactory(username="bob")
        self.superuser = UserFactory(username="admin", is_staff=True, is_superuser=True)
        self.browser = Client(raise_request_exception=False)

    def play(self) -> None:
        self.shop()
        self.errors()
        self.race()
        self.corrupt()
        self.adopt()
        self.switch()
        self.work_async()
        self.admin()
        self.commands()
        for letter in mail.outbox:
            self.output.add(letter.body)
            self.output.add(letter.alternatives)
            self.output.add(letter.message().as_bytes())

    def visit(self, view: Any, path: str = "/") -> None:
        self.output.add_response(visit(self.browser, view, path))

    def shop(self) -> None:
        self.visit(lambda request: "first visit")
        self.visit(lambda request: request.session.update({"basket": ["lamp"]}))
        self.visit(lambda request: auth.login(request, self.alice))
        self.visit(lambda request: dict(request.session))
        self.visit(lambda request: request.session.cycle_key())
        self.visit(show_objects(self.output))
        self.visit(usersessions_auth.end_other_sessions)
        phone = Client()
        visit(phone, lambda request: auth.login(request, self.alice))

        def end_phone(request: Any) -> None:
            found = usersessions_auth.own_sessions(request)
            usersessions_auth.end_own_session(request, found[-1].ses_id)

        self.visit(end_phone)

    def errors(self) -> None:
        for debug in (True, False):
            self.settings.DEBUG = debug
            self.visit(fail)
            self.visit(raise_error(Http404("not there")))
            self.visit(raise_error(PermissionDenied("no")))
            self.visit(lambda request: request.session.update({"bad": object()}))
            self.visit(lambda request: HttpResponse(status=400))
        self.settings.DEBUG = False

    def race(self) -> None:
        """Tabs that end and change what another one uses."""
        tab = Client()
        tab.cookies = SimpleCookie(self.browser.cookies.output(header="", sep=";"))

        def change_both(request: Any) -> None:
            request.session["mine"] = 1
            visit(tab, lambda request: request.session.update({"theirs": 1}))

        def log_out_meanwhile(request: Any) -> None:
            request.session["mine"] = 2
            visit(tab, auth.logout)

        self.visit(change_both)
        self.visit(log_out_meanwhile)
        self.visit(lambda request: auth.login(request, self.alice))

    def corrupt(self) -> None:
        """Data that does not decode, an expired session, a forged cookie, another host."""

        def spoil(request: Any) -> None:
            backend = request.session.manager.backend
            backend.update(request.session.session_key, {"ses_data": b"\xff"})

        self.visit(spoil)
        self.visit(lambda request: dict(request.session))
        good = self.browser.cookies["fe_sessionid"].value
        self.browser.cookies["fe_sessionid"] = good[:-3] + "abc"
        self.visit(lambda request: dict(request.session))
        self.browser.cookies["fe_sessionid"] = good
        with_host = visit(self.browser, fail, headers={"host": "evil.example"})
        self.output.add_response(with_host)
        self.visit(lambda request: auth.login(request, self.alice))

    def adopt(self) -> None:
        self.browser.cookies.clear()
        for _ in range(2):
            key = self.old_site.store_session(self.alice, basket=["old"])
            self.known.found.add(key)
        self.browser.cookies["sessionid"] = key
        self.settings.DEBUG = True
        self.visit(fail)
        self.settings.DEBUG = False
        self.visit(lambda request: request.session.get("basket"))
        self.command("adopt_sessions")

    def switch(self) -> None:
        self.visit(lambda request: auth.login(request, self.superuser))
        self.visit(lambda request: usersessions_auth.switch_user(request, self.bob))
        self.visit(show_objects(self.output))
        self.visit(fail)
        self.visit(lambda request: usersessions_auth.exit_switch_user(request).pk)
        self.visit(auth.logout)
        self.visit(lambda request: auth.login(request, self.alice))

    def admin(self) -> None:
        self.settings.ROOT_URLCONF = "testproject.urls"
        for password in ("wrong", "admin"):
            form = {"username": "admin", "password": password, "next": "/admin/"}
            self.output.add_response(self.browser.post("/admin/login/", form))
        ses_ids = [
            record["ses_id"] for record in SessionManager.get_session_backend("FE").get_all()
        ]
        pages = ["/admin/", reverse(CHANGELIST), reverse(CHANGELIST) + "?q=alice"]
        pages += [reverse(CHANGE, args=[ses_id]) for ses_id in ses_ids]
        for page in pages:
            self.output.add_response(self.browser.get(page, follow=True))
        ending = {"action": "end_selected_sessions", "_selected_action": ses_ids[:1]}
        self.output.add_response(self.browser.post(reverse(CHANGELIST), ending, follow=True))
        self.output.add_response(self.browser.get("/admin/logout/"))
        self.output.add_response(self.browser.post("/admin/logout/"))
        self.settings.ROOT_URLCONF = "tests.urls"

    def work_async(self) -> None:
        browser = AsyncClient(raise_request_exception=False)
        browser.cookies = self.browser.cookies

        async def work() -> None:
            loop = asyncio.get_running_loop()
            loop.set_debug(True)
            loop.slow_callback_duration = 0  # everything is told of
            for view in self.async_views():
                with site_of(view):
                    self.output.add_response(await browser.get("/async/"))

        async_to_sync(work)()

    def async_views(self) -> list[Any]:
        async def change(request: Any) -> None:
            await request.session.aset("x", 1)
            await request.session.acycle_key()

        async def log_in(request: Any) -> None:
            await auth.alogin(request, self.alice)

        async def fail_late(request: Any) -> None:
            # Else the report asks for it, in a thread with a connection that nobody closes.
            await sync_to_async(str)(request.user)
            fail(request)

        async def log_out(request: Any) -> None:
            await auth.alogout(request)

        return [change, log_in, fail_late, log_out, log_in]

    def commands(self) -> None:
        self.command("end_sessions", users=["alice"], dry_run=True)
        self.command("end_sessions", users=["alice"])
        self.command("end_sessions", everything=True, interactive=False)
        self.command("collect_session_garbage")
        self.command("clearsessions")
        self.command("check")

    def command(self, name: str, **options: Any) -> None:
        stdout, stderr = io.StringIO(), io.StringIO()
        call_command(name, verbosity=3, stdout=stdout, stderr=stderr, **options)
        self.output.add(stdout.getvalue())
        self.output.add(stderr.getvalue())


@pytest.fixture
def scenario(
    output: Output, known: Secrets, settings: Any, old_site: OldSite, db: None
) -> Scenario:
    is_new = django.VERSION >= (6,)
    settings.ADMINS = ["staff@example.com"] if is_new else [("Staff", "staff@example.com")]
    settings.ALLOWED_HOSTS = ["testserver"]
    return Scenario(output, known, settings, old_site)


def assert_nothing_leaked(output: Output, known: Secrets, capsys: Any) -> None:
    captured = capsys.readouterr()
    text = f"{output}\n{captured.out}\n{captured.err}"
    # Long bytes are printed on several lines; whoever reads them puts them together.
    joined = re.sub(r"(?:'|&#x27;)\s+b?(?:'|&#x27;)", "", text)
    found = [joined.find(form) for form in set(known.forms())]
    leaks = [joined[max(0, at - 300) : at + 100] for at in found if at >= 0]
    assert leaks == []


@pytest.mark.parametrize(
    ("storage", "cookie_format"), [("database", "token"), ("redis", "identifier")]
)
def test_nothing_but_the_cookie_tells_an_identifier_or_a_token(
    *,
    storage: str,
    cookie_format: str,
    scenario: Scenario,
    known: Secrets,
    output: Output,
    settings: Any,
    request: pytest.FixtureRequest,
    capsys: Any,
) -> None:
    """Attack: read logs, error mails, pages of a site left in DEBUG, or what commands print."""
    engine: dict[str, Any] = {}
    if storage == "redis":
        url = request.getfixturevalue("redis_server").url
        engine = {"BACKEND": "usersessions.RedisSessionBackend", "OPTIONS": {"url": url}}
    adopting = settings.USERSESSIONS["FE"]
    settings.USERSESSIONS = {"FE": {**adopting, **engine, "COOKIE_FORMAT": cookie_format}}
    with CaptureQueriesContext(connection):
        scenario.play()
    if storage == "redis":
        backend: Any = SessionManager.get_session_backend("FE")
        backend.close()
        request.getfixturevalue("redis_server").empty()
    assert len(known.found) > 30
    assert len(str(output)) > 1_000_000
    assert_nothing_leaked(output, known, capsys)
