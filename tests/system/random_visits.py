"""A small site whose visitors do anything, at any moment, with several tabs and stolen cookies."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from django.contrib import auth
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory
from django.utils.functional import SimpleLazyObject

from tests.conftest import Clock
from tests.factories import NOW
from tests.system.visits_model import LINE, LOGIN, NOBODY, Held, Model
from usersessions.auth import end_other_sessions, exit_switch_user, switch_user
from usersessions.backends.base import SessionBackend
from usersessions.conf import get_login_type
from usersessions.lifecycle.user_session_manager import UserSessionManager
from usersessions.middleware import UserSessionMiddleware
from usersessions.session.data import decode
from usersessions.store import Written

BROWSERS = 2
COOKIE = "fe_sessionid"


class Site:
    """The site, its visitors' cookies and the model of what they were told.

    :param users: by name; ``root`` may switch to the others
    :param seed: decides what they do, and what else is left to chance
    """

    def __init__(
        self, backend: SessionBackend, users: dict[str, Any], clock: Clock, seed: int
    ) -> None:
        self.backend, self.users, self.clock = backend, users, clock
        backend.remove_by_ses_id([record["ses_id"] for record in backend.get_all()])
        clock.now = NOW
        self.names = {user.pk: name for name, user in users.items()}
        self.chance = random.Random(seed)  # noqa: S311
        self.model = Model()
        self.cookies: list[dict[str, str]] = [{} for _ in range(BROWSERS)]
        self.old_cookies = [""]
        self.log: list[str] = []
        #: Logins whose answer has come.
        self.acknowledged: set[int] = set()
        self.stores_in_steps = getattr(getattr(backend, "redis", None), "is_cluster", False)

    #: What may happen, and how often.
    ACTIONS = {
        "write": 30,
        "delete": 8,
        "read": 10,
        "log_in": 12,
        "log_out": 8,
        "cycle_key": 8,
        "switch": 8,
        "end_others": 3,
        "revoke": 3,
        "collect": 3,
        "wait": 4,
    }

    def worker(self, number: int, actions: int) -> Callable[[], None]:
        """Return somebody who does so many things, one after the other."""

        def work() -> None:
            for _ in range(actions):
                name, act = self._choose()
                self.log.append(f"{number}: {name}")
                self.log.append(f"{number}: ended, {act()}")

        return work

    def _choose(self) -> tuple[str, Callable[[], str | None]]:
        """Return something that somebody does, chosen now, and how to call it."""
        [name] = self.chance.choices(list(self.ACTIONS), list(self.ACTIONS.values()))
        self.model.counts[name] += 1
        action = getattr(self, name)
        if name in ("revoke", "collect", "wait"):
            return name, action
        browser = self.chance.randrange(BROWSERS)
        user = self.chance.choice(list(self.users))
        is_thief = self.chance.random() < 0.1
        stolen = self.chance.choice(self.old_cookies[-6:])
        has_basket = self.chance.random() < 0.5
        told = f"{name} in browser {browser}, {user}, {'stolen' if is_thief else ''}"
        return told, lambda: self._visit(
            browser, lambda request: action(request, user, has_basket), stolen if is_thief else None
        )

    def _visit(self, browser: int, view: Any, stolen: str | None) -> str:
        """Send a request and take its cookie; a thief's answers are the thief's.

        Return what it was about, for the log.
        """
        jar = dict(self.cookies[browser]) if stolen is None else {COOKIE: stolen}
        began = self.model.next()
        self.clock.forward(0.01)
        request = RequestFactory().get("/")
        request.COOKIES.update(jar)
        acknowledge: Callable[[], None] = lambda: None  # noqa: E731
        seen = ""

        def get_response(request: HttpRequest) -> HttpResponse:
            nonlocal acknowledge, seen
            request.user = SimpleLazyObject(lambda: auth.get_user(request))
            request.began = began
            self._refuse_the_dead(request)
            before = request.session
            seen = f"{self._owner_of(request)} {before.get(LOGIN)} in line {before.get(LINE)}"
            acknowledge = view(request)
            return HttpResponse()

        response = UserSessionMiddleware(get_response)(request)
        acknowledge()
        seen += f"; saved: {request.session.written}, cookies: {[*response.cookies]}"
        if stolen is None and COOKIE in response.cookies:
            value = response.cookies[COOKIE].value
            self.cookies[browser] = {COOKIE: value} if value else {}
            self.old_cookies.append(value)
        return f"{seen}, then line {request.session.get(LINE)}"

    def _refuse_the_dead(self, request: Any) -> None:
        login = request.session.get(LOGIN)
        if request.session.user_session.user_id is not None:
            ended_at = self.model.ended.get(login, request.began)
            assert ended_at >= request.began, f"login {login} has ended, and is let in"

    # What a request may do; each returns what was acknowledged once the answer is there.

    def write(self, request: Any, user: str, has_basket: bool) -> Callable[[], None]:
        session = request.session
        owner = self._owner_of(request)
        session.setdefault(LINE, self.model.next())
        key = f"{owner}:{self.model.next()}"
        session[key] = 1
        return self._if_saved(request, lambda: self.model.note_write(session[LINE], owner, [key]))

    def delete(self, request: Any, user: str, has_basket: bool) -> Callable[[], None]:
        session = request.session
        keys = sorted(key for key in session.keys() if ":" in key)  # noqa: SIM118
        chosen = keys if has_basket else keys[:1]
        for key in chosen:
            del session[key]
        return self._if_saved(request, lambda: self.model.note_deletion(session[LINE], chosen))

    def read(self, request: Any, user: str, has_basket: bool) -> Callable[[], None]:
        return lambda: None

    def log_in(self, request: Any, user: str, has_basket: bool) -> Callable[[], None]:
        session = request.session
        ending = self._ending(request)
        before = self._owner_of(request)
        switched = (session[LOGIN], session[LINE]) if request.original_user else None
        parent = session.get(LINE) if before in (NOBODY, user) and not switched else None
        keys = []
        if before == NOBODY and has_basket:
            keys.append(f"{NOBODY}:{self.model.next()}")
            session[keys[0]] = 1
        auth.login(request, self.users[user], "django.contrib.auth.backends.ModelBackend")
        session[LOGIN], session[LINE] = self.model.next(), self.model.next()
        line = session[LINE]

        def note() -> None:
            self.acknowledged.add(session[LOGIN])
            self.model.note_login(parent, line, user, keys)
            if switched:  # which ends the switch, with what was done in it
                self.model.note_end(*switched)

        saved = self._if_saved(request, note)
        return lambda: (ending(), saved())

    def log_out(self, request: Any, user: str, has_basket: bool) -> Callable[[], None]:
        ending = self._ending(request)
        auth.logout(request)
        return ending

    def cycle_key(self, request: Any, user: str, has_basket: bool) -> Callable[[], None]:
        if request.session.get(LINE):
            request.session.cycle_key()
        return lambda: None

    def switch(self, request: Any, user: str, has_basket: bool) -> Callable[[], None]:
        session, login, line = request.session, request.session.get(LOGIN), None
        if request.original_user:
            line = session[LINE]
            exit_switch_user(request)
            return self._if_saved(request, lambda: self.model.note_exit(login, line, session[LINE]))
        target = "bob" if user == "root" else user
        if self._owner_of(request) != "root":
            return lambda: None
        parent = session[LINE]
        switch_user(request, self.users[target])
        session[LOGIN], session[LINE] = self.model.next(), self.model.next()
        line = session[LINE]

        def note() -> None:
            self.acknowledged.add(session[LOGIN])
            self.model.note_switch(login, parent, request.began, line, target)

        return self._if_saved(request, note)

    def end_others(self, request: Any, user: str, has_basket: bool) -> Callable[[], None]:
        owner, own = self._owner_of(request), request.session.get(LOGIN)
        if owner == NOBODY:
            return lambda: None
        logins = self._logins_of(owner) - {own}
        end_other_sessions(request)
        self.model.note_revocation(owner, logins, request.began)
        return lambda: None

    def _owner_of(self, request: Any) -> str:
        return self.names.get(request.session.user_session.user_id, NOBODY)

    def _if_saved(self, request: Any, note: Callable[[], None]) -> Callable[[], None]:
        def acknowledge() -> None:
            if request.session.written is Written.DATA:
                self.model.counts["acknowledged"] += 1
                note()
            else:
                self.model.counts["refused"] += 1

        return acknowledge

    def _ending(self, request: Any) -> Callable[[], None]:
        """Return what notes that the request's session has ended, if it has deleted one.

        A logout that met no session any more, since another tab had renewed it, has ended none.
        """
        session = request.session
        login, line = session.get(LOGIN), session.get(LINE)
        identifier = session.user_session.stored_identifier
        return lambda: (
            self.model.note_end(login, line)
            if session.changes and session.changes.has_removed(identifier)
            else None
        )

    # What somebody else does

    def revoke(self) -> None:
        owner = self.chance.choice(list(self.users))
        logins, began = self._logins_of(owner), self.model.next()
        self.backend.remove_by_user(self.users[owner].pk)
        self.model.note_revocation(owner, logins, began)

    def collect(self) -> None:
        self.model.note_collection()
        UserSessionManager(get_login_type("FE"), clock=self.clock).collect_garbage(100)

    def wait(self) -> None:
        self.clock.forward(self.chance.choice([62, 2000]))

    def _logins_of(self, owner: str) -> set[int]:
        """Return the logins of a user that are stored by now, and are to end.

        In a cluster, a login that is under way may be stored, refused and stored anew: until it is
        acknowledged, it may come after whatever ends it.
        """
        records = self.backend.get_by_user(self.users[owner].pk)
        stored = {each.data[LOGIN] for each in map(self._held, records)}
        return stored & self.acknowledged if self.stores_in_steps else stored

    # What is there afterwards

    def _held(self, record: Any) -> Held:
        data, _ = decode(record["ses_data"], get_login_type("FE").make_serializer())
        return Held(self.names.get(record["ses_userid"], NOBODY), data, is_aside=False)

    def check(self) -> None:
        held = []
        for record in self.backend.get_all():
            own = self._held(record)
            named = own.data.get(auth.SESSION_KEY, 0)
            assert str(named) == str(record["ses_userid"]), f"{own.owner} is taken for {named}"
            held.append(own)
            _, meta = decode(record["ses_data"], get_login_type("FE").make_serializer())
            if aside := meta.get("aside"):
                owner = self.names.get(int(aside["user_id"]), NOBODY)
                held.append(Held(owner, aside["data"], is_aside=True))
        self.model.check(held)
