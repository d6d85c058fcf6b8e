"""SQLite has one writer at a time: sessions wait for their turn, and nobody's save is lost."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import OperationalError, connection, transaction

from tests.factories import UserFactory
from tests.racing_requests import at_once, cookies_of, serve
from usersessions.store import SessionStore

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(
        "connection.vendor != 'sqlite'", reason="others lock rows instead of the database"
    ),
]


@pytest.fixture(params=["DEFERRED", "IMMEDIATE"])
def transaction_mode(request: pytest.FixtureRequest) -> Iterator[str]:
    options = connection.settings_dict["OPTIONS"]
    connection.close()
    before, options["transaction_mode"] = options["transaction_mode"], request.param
    yield request.param
    connection.close()
    options["transaction_mode"] = before


def put(key: str) -> Any:
    def view(request: Any) -> None:
        request.session[key] = 1

    return view


def test_nothing_is_lost_beside_others_who_write(transaction_mode: str) -> None:
    cookies = cookies_of(serve(put("first")))

    def work(worker: int) -> None:
        for number in range(15):
            serve(put(f"{worker}.{number}"), cookies)

    def write_something_else() -> None:
        for _ in range(15):
            with transaction.atomic():
                UserFactory()

    workers = [lambda worker=worker: work(worker) for worker in range(6)]
    at_once([*workers, write_something_else, write_something_else])
    response = serve(lambda request: len(request.session.items()), cookies)
    assert response.content == b"91"


@pytest.mark.parametrize("transaction_mode", ["DEFERRED"], indirect=True)
def test_transaction_whose_snapshot_is_too_old_fails_as_such_and_can_be_repeated(
    transaction_mode: str,
) -> None:
    """README advises IMMEDIATE, which waits instead."""
    theirs = SessionStore()
    theirs["basket"] = 1
    theirs.save()
    theirs["theirs"] = 2

    def save_elsewhere() -> None:
        theirs.save()
        connection.close()

    mine = SessionStore(theirs.session_key)

    @transaction.atomic
    def save_late() -> None:
        mine["mine"] = mine["basket"] + 2
        with ThreadPoolExecutor() as executor:
            executor.submit(save_elsewhere).result(timeout=30)
        mine.save()

    with pytest.raises(OperationalError, match="database is locked"):
        save_late()
    with transaction.atomic():
        mine.save()
    assert dict(SessionStore(theirs.session_key).items()) == {"basket": 1, "theirs": 2, "mine": 3}
