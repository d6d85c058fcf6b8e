"""django-axes: locking out, and its log of who logged in with which session."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import pytest

from tests.system.integration.conftest import fill_basket, has_basket, identifier_of, need, owners
from usersessions.test import Client

need("axes")

from axes.models import AccessLog

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _axes(settings: Any) -> None:
    settings.AXES_ENABLED = True


def log_in(client: Client, url: str = "/account/login/") -> int:
    return int(client.post(url, {"username": "alice", "password": "alice"}).status_code)


def mistype(client: Client) -> int:
    form = {"username": "alice", "password": "wrong"}
    return int(client.post("/account/login/", form).status_code)


def lock_out(client: Client) -> None:
    assert [mistype(client) for _ in range(3)] == [200, 200, 429]


def logs() -> list[tuple[str, bool]]:
    """The session of each login, the latest last, and whether it was logged out."""
    found = AccessLog.objects.order_by("pk")
    return [(log.session_hash, log.logout_time is not None) for log in found]


def hash_of(identifier: str) -> str:
    return sha256(identifier.encode()).hexdigest()


def test_locked_out_visitor_keeps_the_anonymous_session(client: Client, alice: Any) -> None:
    fill_basket(client)
    before = identifier_of(client)
    lock_out(client)
    assert log_in(client) == 429
    assert (identifier_of(client), owners()) == (before, {"BE": [], "FE": [0]})
    assert has_basket(client)


def test_lockout_ends_no_session(client: Client, other_client: Client, alice: Any) -> None:
    log_in(other_client)
    lock_out(client)
    assert other_client.get("/account/").status_code == 200
    assert owners()["FE"] == [alice.pk]


def test_lockout_counts_the_logins_of_every_type(client: Client, alice: Any) -> None:
    lock_out(client)
    assert log_in(client, "/admin/login/") == 429
    assert owners() == {"BE": [], "FE": []}


def test_wrong_confirmations_lock_out_as_wrong_logins_do(client: Client, alice: Any) -> None:
    """Attack: guess the password of whoever has left a browser logged in."""
    client.force_login(alice)
    typed = [{"password": password} for password in ("a", "b", "c", "alice")]
    answers = [client.post("/usersessions/confirm/", form).status_code for form in typed]
    assert answers == [200, 200, 429, 429]
    assert owners()["FE"] == [alice.pk]


def test_log_knows_the_session_and_its_logout(
    client: Client, other_client: Client, alice: Any
) -> None:
    fill_basket(client)
    log_in(client)
    log_in(other_client)
    mine, others = hash_of(identifier_of(client)), hash_of(identifier_of(other_client))
    assert logs() == [(mine, False), (others, False)]
    client.post("/account/logout/")
    assert logs() == [(mine, True), (others, False)]


def test_log_of_a_login_to_both_types_keeps_them_apart(client: Client, superuser: Any) -> None:
    form = {"username": "admin", "password": "admin"}
    client.post("/account/login/", form)
    client.post("/admin/login/?next=/admin/", form)
    client.post("/admin/logout/")
    assert [logged_out for _, logged_out in logs()] == [False, True]
    assert owners() == {"BE": [], "FE": [superuser.pk]}


def test_log_knows_the_new_identifier_of_a_second_login_by_the_same_user(
    client: Client, superuser: Any
) -> None:
    """Django does not renew there. We do, and before axes looks, whose receiver is older."""
    form = {"username": "admin", "password": "admin"}
    identifiers = []
    for _ in range(2):
        client.post("/admin/login/?next=/admin/", form)
        identifiers.append(identifier_of(client, "BE"))
    assert identifiers[0] != identifiers[1]
    assert [session for session, _ in logs()] == [hash_of(each) for each in identifiers]


def test_stored_hash_of_axes_is_no_key_to_a_session(
    client: Client, other_client: Client, alice: Any
) -> None:
    """Attack: the hash from a stolen table of axes as the cookie."""
    log_in(client)
    other_client.cookies["fe_sessionid"] = hash_of(identifier_of(client))
    assert other_client.get("/account/").status_code == 302
