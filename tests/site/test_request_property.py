"""Whatever a view does to its session, in whatever order, the next request finds what it left."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from django.contrib import auth
from django.contrib.sessions.backends.base import UpdateError
from django.db import transaction
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tests.factories import UserFactory
from tests.urls import visit
from usersessions.models import FrontendSession
from usersessions.test import Client

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.urls")]

KEYS = st.sampled_from(["a", "b"])
STEPS = st.deferred(
    lambda: st.one_of(
        st.tuples(st.just("set"), KEYS, st.integers(0, 3)),
        st.tuples(st.just("pop"), KEYS),
        st.tuples(st.just("change in place"), st.integers(0, 3)),
        st.tuples(st.just("login"), st.sampled_from(["alice", "bob"])),
        st.tuples(
            st.sampled_from(
                [
                    "read",
                    "clear",
                    "save",
                    "load",
                    "cycle key",
                    "create",
                    "flush",
                    "delete",
                    "logout",
                ]
            )
        ),
        st.tuples(st.just("transaction"), st.booleans(), st.lists(STEPS, max_size=3)),
    )
)


def take(request: Any, step: tuple[Any, ...], people: dict[str, Any]) -> None:
    session, (name, *values) = request.session, step
    if name == "set":
        session[values[0]] = values[1]
    elif name == "pop":
        session.pop(values[0], None)
    elif name == "change in place":
        session.setdefault("nested", {})["x"] = values[0]
        session.modified = True
    elif name == "login":
        auth.login(request, people[values[0]])
    elif name == "logout":
        auth.logout(request)
    elif name == "delete":
        session.delete()
        request.has_deleted = True
    elif name == "save":
        # Django's contract: a deleted session is not saved again.
        with suppress(UpdateError if hasattr(request, "has_deleted") else ()):
            session.save()
    elif name == "transaction":
        with transaction.atomic():
            for inner in values[1]:
                take(request, inner, people)
            transaction.set_rollback(values[0])
    else:
        {
            "read": session.get_expiry_age,
            "clear": session.clear,
            "load": session.load,
            "cycle key": session.cycle_key,
            "create": session.create,
            "flush": session.flush,
        }[name]()


def contents(request: Any) -> str:
    return json.dumps(dict(request.session.items()), sort_keys=True)


def flat(steps: list[Any]) -> Iterator[str]:
    for name, *values in steps:
        yield name
        if name == "transaction":
            yield from flat(values[1])


@settings(
    deadline=None,
    max_examples=300,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(requests=st.lists(st.lists(STEPS, max_size=6), min_size=1, max_size=3))
def test_next_request_finds_what_the_last_one_left(requests: list[list[Any]], db: None) -> None:
    with transaction.atomic():
        people = {name: UserFactory(username=name) for name in ("alice", "bob")}
        client = Client()
        for steps in requests:
            left: list[str] = []

            def view(request: Any, steps: Any = steps, left: Any = left) -> None:
                for step in steps:
                    take(request, step, people)
                left.append(contents(request))

            visit(client, view)
            # Who deletes the session and then changes it has no session that could keep that.
            if "delete" not in flat(steps):
                found = visit(client, contents).content.decode()
                assert found == repr(left[0])
        for row in FrontendSession.objects.all():
            named = json.loads(bytes(row.ses_data)).get(auth.SESSION_KEY, "0")
            assert row.ses_userid == int(named)
        transaction.set_rollback(True)


#: Steps that reach the storage at once, by their nature.
AT_ONCE = {"save", "create", "flush", "delete", "logout"}


@settings(
    deadline=None,
    max_examples=200,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(before=st.lists(STEPS, max_size=4), steps=st.lists(STEPS, max_size=6))
def test_view_that_fails_leaves_the_session_as_it_was(
    before: list[Any], steps: list[Any], db: None
) -> None:
    names = list(flat(steps))
    # A login over another user's ends the session of the one before at once, too.
    assume(not AT_ONCE & set(names) and names.count("login") < 2)
    with transaction.atomic():
        people = {name: UserFactory(username=name) for name in ("alice", "bob")}
        client = Client(raise_request_exception=False)

        def fill(request: Any) -> None:
            for step in before:
                take(request, step, people)

        def fail(request: Any) -> None:
            for step in steps:
                take(request, step, people)
            raise RuntimeError

        visit(client, fill)
        was = visit(client, contents).content
        assume(b"_auth_user_id" not in was or "login" not in names)
        response = visit(client, fail)
        assert response.status_code == 500
        assert "fe_sessionid" not in response.cookies
        assert visit(client, contents).content == was
        transaction.set_rollback(True)
