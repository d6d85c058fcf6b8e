"""Alice's browser with several tabs, her other devices, and the storages of her sessions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jwt
import pytest
from django.contrib import auth
from django.test import RequestFactory

from tests.conftest import Clock
from tests.places import place_of
from tests.serving import serving
from tests.urls import visit
from usersessions import SessionBackend, SessionManager, UserSessionManager
from usersessions.test import Client

#: Two sessions for one user at the most, and cookies that may outlive the browser.
POLICY = {"MAX_SESSIONS_PER_USER": 2, "PERMANENT_LOGIN": "opt-in", "GC_PROBABILITY": 0}

#: Of these, every test is one transaction; the cached database would not cache in there.
STORAGES = ["database", "redis", "cluster"]


def use_storage(name: str, request: pytest.FixtureRequest, settings: Any) -> Iterator[None]:
    """Have the site keep FE's sessions in the storage of this name."""
    with place_of(name, request, settings) as place:
        settings.USERSESSIONS = {"FE": {**place, **POLICY}}
        yield


class Scene:
    """Alice's browser, logged in, and what else there is.

    :ivar devices: alice's other ones, whose sessions are theirs to keep
    """

    def __init__(self, alice: Any, bob: Any, clock: Clock, settings: Any, commit: Any) -> None:
        self.alice, self.bob = alice, bob
        self.clock, self.settings = clock, settings
        self.commit = commit
        self.browser = Client()
        self.devices: list[Client] = []

    @property
    def backend(self) -> SessionBackend:
        return SessionManager.get_session_backend("FE")

    @property
    def manager(self) -> UserSessionManager:
        return UserSessionManager.create("FE", clock=self.clock)

    @property
    def cookie(self) -> str:
        return str(self.browser.cookies["fe_sessionid"].value)

    @property
    def another_tab(self) -> Client:
        client = Client()
        client.cookies["fe_sessionid"] = self.cookie
        return client

    def log_in(self, client: Client, *, is_permanent: bool = False) -> None:
        def view(request: Any) -> None:
            request.session.asked_permanent = is_permanent
            auth.login(request, self.alice)

        visit(client, lambda request: request.session.update({"basket": ["lamp"]}))
        visit(client, view)

    def add_device(self) -> Client:
        self.clock.forward(1)
        device = Client()
        self.log_in(device)
        self.devices.append(device)
        return device

    @contextmanager
    def elsewhere(self) -> Iterator[None]:
        """Be an administrator, whose request commits what it changes."""
        with serving(RequestFactory().get("/")), self.commit(execute=True):
            yield

    @property
    def stored(self) -> list[Any]:
        """What is stored, but for what other devices have."""
        theirs = {
            self.backend.hash(identifier_in(device.cookies["fe_sessionid"].value))
            for device in self.devices
        }
        return [record for record in self.backend.get_all() if record["ses_id"] not in theirs]


def identifier_in(token: str) -> str:
    return str(jwt.decode(token, options={"verify_signature": False})["identifier"])
