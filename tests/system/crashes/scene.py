"""The browsers, and the people of a site whose processes are killed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from django.contrib.auth import get_user_model
from django.contrib.auth.hashers import make_password
from django.test import RequestFactory

from tests.system.crashes.killing import EVERYWHERE, End, Moments, run_process
from tests.system.crashes.operations import NOBODY, OPERATIONS, Operation, View, showing
from tests.system.crashes.storages import DatabaseStorage
from tests.urls import visit
from usersessions import SessionManager, UserSession, UserSessionManager
from usersessions.backends.base import SessionBackend
from usersessions.conf import get_login_type
from usersessions.session.user_keys import stored_user_id
from usersessions.test import Client

#: When sessions that are over were used last, in Unix seconds.
EXPIRED = 1_000_000_000


class Found(NamedTuple):
    """A session that somebody can use."""

    name: str  #: "old" or "new"
    page: str  #: what it shows
    browser: Client


class Scene:
    """Two browsers at a site, which begins anew for each crash."""

    def __init__(self, storage: DatabaseStorage, settings: Any) -> None:
        self.storage = storage
        self.settings = settings
        self._password = make_password("old")
        self.browser, self.elsewhere = Client(), Client()
        self.storage.use(settings)

    def configure(self, **options: Any) -> None:
        """Change settings of the login types."""
        self.storage.close()
        self.storage.use(self.settings, **options)

    @property
    def operations(self) -> list[Operation]:
        """Those to kill in: all of them on the database, and everywhere if that was asked for."""
        takes_all = EVERYWHERE or not self.storage.is_apart
        return [operation for operation in OPERATIONS if takes_all or operation.is_basic]

    @property
    def backend(self) -> SessionBackend:
        return SessionManager.get_session_backend("FE")

    def crashes(self, prepare: Callable[[], Any], work: Callable[[], Any]) -> Iterator[End]:
        """Do some work in processes that are killed, each at the next moment, until one is not.

        What they have left is seen by this process, which has none of their connections.
        """
        # Once without being killed: what a process caches is there, and coverage sees the work.
        self._begin(prepare)
        with Moments().counted(self.storage.senders):
            work()
        moment, was_killed = 0, True
        while was_killed:
            moment += 1
            self._begin(prepare)
            self.storage.disconnect()
            end = run_process(lambda last=moment: self._work(work, last))
            self.storage.settle()
            yield end
            self.storage.assert_tidy()
            was_killed = end.was_killed

    def _begin(self, prepare: Callable[[], Any]) -> None:
        self.storage.empty()
        get_user_model().objects.update(password=self._password, is_active=True)
        self.browser, self.elsewhere = Client(), Client()
        prepare()

    def _work(self, work: Callable[[], Any], last: int) -> None:  # pragma: no cover - is killed
        for name in ("FE", "BE"):  # connect, and be greeted
            SessionManager.get_session_backend(name).count_all()
        with Moments(last).counted(self.storage.senders):
            work()

    # What browsers do and see

    def visit(self, *views: View) -> None:
        for view in views:
            self.visit_with(self.browser, view)

    @staticmethod
    def visit_with(browser: Client, view: View) -> None:
        assert visit(browser, view).status_code == 200

    @staticmethod
    def page(browser: Client) -> str:
        shown = visit(browser, showing)
        assert shown.status_code == 200
        return str(shown.content.decode().strip("'"))

    def found(self, end: End) -> list[Found]:
        """Return the sessions that the cookies name which there were, or were about to be sent."""
        cookies = [("old", self.browser)]
        cookies += [("new", self.browser_with(identifier)) for identifier in end.identifiers]
        shown = [Found(name, self.page(browser), browser) for name, browser in cookies]
        return [found for found in shown if found.page != NOBODY]

    @staticmethod
    def browser_with(identifier: str) -> Client:
        """Return one that has been sent the cookie of this session."""
        browser, login_type = Client(), get_login_type("FE")
        scope = login_type.cookie_scope(RequestFactory().get("/"))
        browser.cookies[login_type.cookie_name] = UserSession.non_fixated(identifier).get_jwt(scope)
        return browser

    # What the storage knows

    def owned(self) -> dict[Any, set[str]]:
        """Return the hashes of each user's sessions, of nobody's under None; all are listed."""
        owned: dict[Any, set[str]] = defaultdict(set)
        for record in self.backend.get_all():
            owned[stored_user_id(record["ses_userid"])].add(record["ses_id"])
        users = {user_id: found for user_id, found in owned.items() if user_id is not None}
        self.storage.assert_listed(users)
        return owned

    def store_expired(self, number: int, user_id: Any) -> None:
        for _ in range(number):
            session = UserSessionManager.create("FE").create_anonymous_session()
            record = {**session.to_record(), "ses_userid": user_id or 0, "ses_tstamp": EXPIRED}
            self.backend.set(session.identifier, record)

    def count_expired(self) -> int:
        return sum(record["ses_tstamp"] == EXPIRED for record in self.backend.get_all())
