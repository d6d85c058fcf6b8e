"""django-hijack: hijacking and releasing, in either login type and beside our own switching."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import Clock
from tests.factories import UserFactory
from tests.system.integration.conftest import fill_basket, has_basket, identifier_of, need, owners
from usersessions.models import FrontendSession
from usersessions.test import Client

need("hijack")

pytestmark = pytest.mark.django_db

NOTICE = "on behalf of"


def hijack(client: Client, user: Any, prefix: str = "/hijack/") -> Any:
    return client.post(f"{prefix}acquire/", {"user_pk": user.pk})


def release(client: Client, prefix: str = "/hijack/") -> Any:
    return client.post(f"{prefix}release/")


def name_on(client: Client) -> str:
    """Whose account the shop shows."""
    return str(client.get("/account/").context["user"])


@pytest.fixture
def staff_client(client: Client, superuser: Any) -> Client:
    """The browser of a superuser who is logged in to the shop and to the admin."""
    client.force_login(superuser)
    client.force_login(superuser, login_type="BE")
    return client


def test_hijacking_binds_the_session_to_the_user_under_a_new_identifier(
    staff_client: Client, superuser: Any, alice: Any
) -> None:
    before = identifier_of(staff_client)
    assert hijack(staff_client, alice).status_code == 302
    assert identifier_of(staff_client) != before
    assert owners() == {"BE": [superuser.pk], "FE": [alice.pk]}
    assert name_on(staff_client) == "alice"
    assert NOTICE in staff_client.get("/account/").content.decode()


def test_hijacked_session_counts_as_a_recent_login(
    clock: Clock, staff_client: Client, alice: Any
) -> None:
    """README warns of it: to Django, hijacking is a login. A switched session gets a 403."""
    clock.forward(301)
    assert not staff_client.get("/usersessions/sessions/").context["may_end"]
    hijack(staff_client, alice)
    assert staff_client.get("/usersessions/sessions/").context["may_end"]


def test_cookie_from_before_the_hijacking_is_worth_nothing(
    staff_client: Client, other_client: Client, alice: Any
) -> None:
    """Attack: keep the old cookie, to have the superuser's session and the customer's."""
    other_client.cookies["fe_sessionid"] = staff_client.cookies["fe_sessionid"].value
    hijack(staff_client, alice)
    assert other_client.get("/account/").status_code == 302


def test_release_ends_where_it_began(staff_client: Client, superuser: Any, alice: Any) -> None:
    hijack(staff_client, alice)
    during = identifier_of(staff_client)
    assert release(staff_client).status_code == 302
    assert identifier_of(staff_client) != during
    assert owners() == {"BE": [superuser.pk], "FE": [superuser.pk]}
    assert name_on(staff_client) == "admin"
    assert NOTICE not in staff_client.get("/account/").content.decode()


def test_hijackers_basket_is_lost_and_never_the_customers(staff_client: Client, alice: Any) -> None:
    """Django flushes when another user logs in; hijack carries its history across, no more."""
    fill_basket(staff_client)
    hijack(staff_client, alice)
    assert not has_basket(staff_client)
    fill_basket(staff_client)
    release(staff_client)
    assert not has_basket(staff_client)


def test_hijacking_below_a_prefix_takes_the_backend_session(
    staff_client: Client, superuser: Any, editor: Any
) -> None:
    hijack(staff_client, editor, "/admin/hijack/")
    assert owners() == {"BE": [editor.pk], "FE": [superuser.pk]}
    assert name_on(staff_client) == "admin"
    release(staff_client, "/admin/hijack/")
    assert owners() == {"BE": [superuser.pk], "FE": [superuser.pk]}


def test_superuser_of_the_backend_alone_cannot_hijack_in_the_frontend(
    client: Client, superuser: Any, alice: Any
) -> None:
    """The URL decides whose session it is; hijack's own button in the admin names one URL."""
    client.force_login(superuser, login_type="BE")
    users = client.get("/admin/auth/user/").content.decode()
    assert 'data-hijack-url="/hijack/acquire/"' in users
    response = hijack(client, alice)
    assert response.url.startswith("/account/login/")
    assert owners() == {"BE": [superuser.pk], "FE": []}


def test_expiry_of_its_own_goes_with_the_session(
    staff_client: Client, superuser: Any, alice: Any
) -> None:
    session = staff_client.session
    session.set_expiry(300)
    session.save()
    hijack(staff_client, alice)
    assert staff_client.session.get_expiry_age() == 300
    release(staff_client)
    assert staff_client.session.get_expiry_age() == 300


def test_switching_inside_of_a_hijacked_session_comes_back(
    staff_client: Client, superuser: Any, alice: Any
) -> None:
    other_superuser = UserFactory(username="root", is_superuser=True)
    hijack(staff_client, other_superuser)
    staff_client.post("/usersessions/switch-user/", {"user": alice.pk})
    assert release(staff_client).status_code == 403
    staff_client.post("/usersessions/exit-switch-user/")
    release(staff_client)
    assert owners()["FE"] == [superuser.pk]


def test_hijacking_inside_of_a_switched_session_forgets_who_is_behind_it(
    staff_client: Client, alice: Any
) -> None:
    """Why the README advises to offer one of the two."""
    other_superuser = UserFactory(username="root", is_superuser=True)
    staff_client.post("/usersessions/switch-user/", {"user": other_superuser.pk})
    hijack(staff_client, alice)
    release(staff_client)
    assert owners()["FE"] == [other_superuser.pk]
    assert "backuserid" not in staff_client.session


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("begin", "is_over"),
    [("/hijack/acquire/", False), ("/usersessions/switch-user/", True)],
    ids=["hijack", "ours"],
)
def test_deactivating_who_is_behind_it_ends_a_switched_session_but_not_a_hijacked_one(
    staff_client: Client, superuser: Any, alice: Any, begin: str, is_over: bool
) -> None:
    staff_client.post(begin, {"user_pk": alice.pk, "user": alice.pk})
    superuser.is_active = False
    superuser.save()
    assert (staff_client.get("/account/").status_code == 302) == is_over
    left = FrontendSession.objects.values_list("ses_userid", flat=True)
    assert list(left) == ([] if is_over else [alice.pk])
