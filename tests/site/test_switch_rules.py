"""Who may switch to whom: by the function, by its URL and in the admin."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser, Group, Permission, User
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tests.factories import UserFactory
from tests.site.test_admin import refusals, users_of
from tests.site.test_admin import switch as switch_in_admin
from tests.site.test_switch_user import EVERYONE_MAY, post, refusal_of, switch_to
from tests.urls import visit
from usersessions.switching.rules import find_refusal, has_more_rights
from usersessions.test import Client

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.urls")]

LOG_IN = "Log in before you switch user."
MAY_NOT = "You may not switch user."
MORE = "You cannot switch to a user with more rights than yours."
SELF = "You cannot switch to yourself."
INACTIVE = "You cannot switch to a user who is not active."
ALREADY = "You have already switched user. Switch back first."
OTHER_TYPE = "Log in to BE itself to switch user there."
NO_STAFF = "This user may not enter the admin; switch in the frontend instead."

WORDS = {
    "-": None,
    "login": LOG_IN,
    "no": MAY_NOT,
    "more": MORE,
    "inactive": INACTIVE,
    "self": SELF,
}

#: A helper is a customer with a permission of a group, a manager is staff with a permission.
TARGETS = ("customer", "helper", "clerk", "manager", "superuser", "inactive", "self")

BY_DEFAULT = """
visitor     login  login  login  login  login  login     login
inactive    login  login  login  login  login  login     login
customer    no     no     no     no     no     inactive  self
helper      no     no     no     no     no     inactive  self
clerk       no     no     no     no     no     inactive  self
manager     no     no     no     no     no     inactive  self
superuser   -      -      -      -      -      inactive  self
"""

IF_EVERYONE_MAY = """
visitor     login  login  login  login  login  login     login
inactive    login  login  login  login  login  login     login
customer    -      more   more   more   more   inactive  self
helper      -      -      more   more   more   inactive  self
clerk       -      more   -      more   more   inactive  self
manager     -      -      -      -      more   inactive  self
superuser   -      -      -      -      -      inactive  self
"""


def read(table: str) -> dict[tuple[str, str], str | None]:
    """Return what a table says of each original user and target: None, or the refusal."""
    return {
        (original, target): WORDS[word]
        for original, *words in map(str.split, table.strip().splitlines())
        for target, word in zip(TARGETS, words, strict=True)
    }


ANSWERS = [
    pytest.param(*pair, refusal, read(IF_EVERYONE_MAY)[pair], id=f"{pair[0]} to {pair[1]}")
    for pair, refusal in read(BY_DEFAULT).items()
]
NAMES = ("original", "target", "by_default", "if_all_may")
answers = pytest.mark.parametrize(NAMES, ANSWERS)
#: Each original user, and each answer that there is, once.
each_answer = pytest.mark.parametrize(
    NAMES, {(each.values[0], *each.values[2:]): each for each in ANSWERS}.values()
)

WAYS = [("BE", "BE"), ("BE", "FE"), ("FE", "BE"), ("FE", "FE")]
PATHS = {"BE": "/admin/", "FE": "/"}


def make(kind: str, number: int = 1) -> Any:
    if kind == "visitor":
        return AnonymousUser()
    is_staff = kind in ("clerk", "manager", "superuser")
    user = UserFactory(
        username=f"{kind}{number}", is_staff=is_staff, is_superuser=kind == "superuser"
    )
    permission = Permission.objects.get(codename="view_user")
    if kind == "helper":
        group = Group.objects.get_or_create(name="helpers")[0]
        group.permissions.add(permission)
        user.groups.add(group)
    if kind == "manager":
        user.user_permissions.add(permission)
    return user


def make_pair(original: str, target: str) -> tuple[Any, Any]:
    user = make(original)
    if target == "self":
        return user, user if original != "visitor" else make("customer")
    return user, make(target, 2)


def log_in(client: Client, original: Any, target: Any, login_type: str = "FE") -> None:
    """Log in whoever can, and take away from the inactive, as the site's own code might."""
    if original.pk:
        client.force_login(original, login_type=login_type)
    for user in (original, target):
        if user.pk and user.username.startswith("inactive"):
            User.objects.filter(pk=user.pk).update(is_active=False)
            user.is_active = False


def who(client: Client, login_type: str) -> Any:
    return client.session(login_type).user_session.user_id


@pytest.mark.parametrize(("source", "login_type"), WAYS, ids=lambda name: name)
@answers
def test_who_may_switch_to_whom_from_which_session_to_which(
    settings: Any,
    original: str,
    target: str,
    by_default: str | None,
    if_all_may: str | None,
    source: str,
    login_type: str,
) -> None:
    """Attack: gain rights by switching to somebody who has more, on any way there is."""
    users = make_pair(original, target)
    # A customer's cookie never becomes a backend session.
    otherwise = OTHER_TYPE if (source, login_type) == ("FE", "BE") else None
    for policy, answer in (({}, by_default), (EVERYONE_MAY, if_all_may)):
        refusal = answer or otherwise
        settings.USERSESSIONS = {"BE": policy, "FE": policy}
        client = Client()
        log_in(client, *users, source)
        before = who(client, login_type)
        switch = switch_to(users[1], login_type=login_type)
        if refusal is None:
            visit(client, switch, PATHS[source])
            assert who(client, login_type) == users[1].pk
        else:
            assert refusal_of(client, switch, PATHS[source]) == refusal
            assert who(client, login_type) == before


@each_answer
def test_url_refuses_as_the_function_does(
    settings: Any, original: str, target: str, by_default: str | None, if_all_may: str | None
) -> None:
    users = make_pair(original, target)
    for policy, refusal in (({}, by_default), (EVERYONE_MAY, if_all_may)):
        settings.USERSESSIONS = {"FE": policy}
        client = Client()
        log_in(client, *users)
        before = who(client, "FE")
        response = post(client, "switch-user", user=users[1].pk)
        assert response.status_code == (403 if refusal else 302)
        assert who(client, "FE") == (before if refusal else users[1].pk)


@pytest.mark.urls("tests.urls_admin")
@pytest.mark.parametrize("login_type", ["BE", "FE"])
@each_answer
def test_admin_refuses_as_the_function_does(
    client: Client,
    settings: Any,
    original: str,
    target: str,
    by_default: str | None,
    if_all_may: str | None,
    login_type: str,
) -> None:
    settings.USERSESSIONS = {"BE": EVERYONE_MAY, "FE": EVERYONE_MAY}
    settings.LOGIN_REDIRECT_URL = "/account/"
    user, found = make_pair(original, target)
    log_in(client, user, found, "BE")
    response = switch_in_admin(client, login_type, found)
    before = {"BE": user.pk, "FE": None}
    if original not in ("manager", "superuser"):  # may not see the list of users
        assert response.status_code == (403 if original == "clerk" else 302)
        assert response.get("Location", "login").count("login") == 1
        assert users_of(client)["FE"] is None
        return
    if login_type == "BE" and not found.is_staff:
        if_all_may = NO_STAFF
    if if_all_may is None:
        assert response.status_code == 302
        assert users_of(client) == {**before, login_type: found.pk}
    else:
        assert refusals(client, response) == [("error", if_all_may)]
        assert users_of(client) == before


# No switch inside a switch


def log_in_to_both(client: Client, user: Any) -> None:
    for login_type in ("BE", "FE"):
        client.force_login(user, login_type=login_type)


SWITCHED = {
    "BE to BE": [("BE", "BE")],
    "BE to FE": [("BE", "FE")],
    "FE to FE": [("FE", "FE")],
    "both, BE last": [("FE", "FE"), ("BE", "BE")],
}


@pytest.mark.parametrize(
    ("before", "way", "refusal"),
    [
        ("BE to BE", ("BE", "BE"), ALREADY),
        ("BE to BE", ("BE", "FE"), ALREADY),
        ("BE to BE", ("FE", "BE"), ALREADY),
        ("BE to BE", ("FE", "FE"), None),  # from a login of its own
        ("BE to FE", ("BE", "BE"), None),  # ends the frontend's, see test_switch_check
        ("BE to FE", ("BE", "FE"), ALREADY),
        ("BE to FE", ("FE", "BE"), SELF),  # the frontend's user is the target
        ("BE to FE", ("FE", "FE"), ALREADY),
        ("FE to FE", ("BE", "BE"), None),
        ("FE to FE", ("BE", "FE"), ALREADY),
        ("FE to FE", ("FE", "BE"), SELF),
        ("FE to FE", ("FE", "FE"), ALREADY),
        ("both, BE last", ("BE", "BE"), ALREADY),
        ("both, BE last", ("BE", "FE"), ALREADY),
        ("both, BE last", ("FE", "BE"), ALREADY),
        ("both, BE last", ("FE", "FE"), ALREADY),
    ],
    ids=lambda value: " to ".join(value) if isinstance(value, tuple) else str(value),
)
def test_no_switch_inside_a_switch(
    client: Client, before: str, way: tuple[str, str], refusal: str | None
) -> None:
    """Attack: a switch inside a switch, to lose the trace of who it was."""
    first, second = make("superuser", 2), make("superuser", 3)
    log_in_to_both(client, make("superuser"))
    for source, login_type in SWITCHED[before]:
        visit(client, switch_to(first, login_type=login_type), PATHS[source])
    source, login_type = way
    target = first if refusal == SELF else second
    switch = switch_to(target, login_type=login_type)
    if refusal is None:
        visit(client, switch, PATHS[source])
        assert who(client, login_type) == second.pk
    else:
        assert refusal_of(client, switch, PATHS[source]) == refusal


def test_superuser_whom_somebody_else_has_switched_to_gives_no_way_into_the_backend(
    client: Client,
) -> None:
    """Attack: from the frontend as another superuser into that one's backend."""
    client.force_login(make("superuser"))
    visit(client, switch_to(make("superuser", 2)))
    refusal = refusal_of(client, switch_to(make("clerk"), login_type="BE"))
    assert refusal == ALREADY


# Rights


@pytest.mark.parametrize("target", ["customer", "helper", "clerk", "manager", "superuser"])
def test_superuser_is_compared_without_a_query(
    target: str, django_assert_num_queries: Callable[[int], Any]
) -> None:
    users = {"original_user": make("superuser"), "target_user": make(target, 2)}
    with django_assert_num_queries(0):
        assert not has_more_rights(**users)


@pytest.mark.parametrize(
    ("target", "cost"), [("customer", 2), ("helper", 4), ("clerk", 2), ("superuser", 0)]
)
def test_comparing_permissions_costs(target: str, cost: int) -> None:
    users = {"original_user": make("manager"), "target_user": make(target, 2)}
    with CaptureQueriesContext(connection) as queries:
        has_more_rights(**users)
    assert len(queries) == cost


def test_policy_is_not_asked_where_the_answer_is_no_anyway() -> None:
    """A policy that looks users up must not be a way to probe for them."""
    user = make("superuser")
    nobody, inactive = AnonymousUser(), UserFactory(is_active=False)
    for original, target in [(user, user), (user, inactive), (nobody, user), (inactive, user)]:
        assert find_refusal(
            original_user=original,
            target_user=target,
            may_switch=lambda **users: pytest.fail(f"The policy was asked for {users}."),
        )
