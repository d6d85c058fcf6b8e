"""What visitors do, and what their browsers show before and after."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.contrib.auth import get_user_model, login, logout, update_session_auth_hash
from django.core.management import call_command

from usersessions import SessionManager, UserSessionManager, auth

View = Callable[[Any], Any]

NOBODY = "visitor:"


def user(name: str) -> Any:
    return get_user_model().objects.get(username=name)


def showing(request: Any) -> str:
    """Say who is there, on behalf of whom, and what is in the basket."""
    name = request.user.username or "visitor"  # first: this may end the session
    behind = f" for {request.original_user}" if request.original_user else ""
    return " ".join([f"{name}{behind}:", *request.session.get("basket", [])])


def putting(thing: str) -> View:
    def view(request: Any) -> None:
        request.session["basket"] = [*request.session.get("basket", []), thing]

    return view


def emptying(request: Any) -> None:
    del request.session["basket"]


def logging_in(name: str) -> View:
    return lambda request: login(request, user(name))


def logging_out(request: Any) -> None:
    logout(request)


def renewing(request: Any) -> None:
    request.session.cycle_key()


def renewing_by_manager(request: Any) -> None:
    session = UserSessionManager.create("FE").regenerate_session(request.session.session_key)
    request.session.continue_with(session)


def ending_others(request: Any) -> None:
    auth.end_other_sessions(request)


def ending_others_by_manager(request: Any) -> None:
    kept = SessionManager.invalidate_all_sessions_by_user_id(
        "FE", request.user.pk, keep=request.session.user_session
    )
    request.session.continue_with(kept)


def changing_password(request: Any) -> None:
    request.user.set_password("new")
    request.user.save()
    update_session_auth_hash(request, request.user)


def switching_to(name: str) -> View:
    return lambda request: auth.switch_user(request, user(name))


def exiting(request: Any) -> None:
    auth.exit_switch_user(request)


# What ends alice's sessions, in no request of hers


def ending_by_command() -> None:
    call_command("end_sessions", "--user", "alice", verbosity=0)


def deactivating() -> None:
    alice = user("alice")
    alice.is_active = False
    alice.save()


@dataclass(frozen=True)
class Operation:
    """One request that changes a browser's session.

    :ivar name: tells a failing test's reader which one it was
    :ivar before: what the browser has done
    :ivar view: what the request does
    :ivar old: what the page shows before; ``NOBODY``: there is no session
    :ivar new: what it shows afterwards
    :ivar keeps_identifier: the session is the same one before and after
    :ivar ends_first: the old session ends before the new one begins: there may be none
    :ivar is_basic: unlike any other one to the storage
    """

    name: str
    before: list[View]
    view: View
    old: str
    new: str
    keeps_identifier: bool = False
    ends_first: bool = False
    is_basic: bool = False

    @property
    def is_renewal(self) -> bool:
        """Whether a session goes on under another identifier."""
        has_both = NOBODY not in (self.old, self.new)
        return has_both and not self.keeps_identifier and not self.ends_first


LAMP = putting("lamp")
OF_ALICE = [LAMP, logging_in("alice")]
SWITCHED = [LAMP, logging_in("admin"), switching_to("alice")]

OPERATIONS = [
    Operation("first data", [], LAMP, NOBODY, "visitor: lamp", is_basic=True),
    Operation(
        "more data", [LAMP], putting("pen"), "visitor: lamp", "visitor: lamp pen",
        keeps_identifier=True, is_basic=True,
    ),
    Operation("no data any more", [LAMP], emptying, "visitor: lamp", NOBODY, is_basic=True),
    Operation("login", [LAMP], logging_in("alice"), "visitor: lamp", "alice: lamp", is_basic=True),
    Operation("login without session", [], logging_in("alice"), NOBODY, "alice:"),
    Operation("login again", OF_ALICE, logging_in("alice"), "alice: lamp", "alice: lamp"),
    Operation(
        "login as another", OF_ALICE, logging_in("bob"), "alice: lamp", "bob:", ends_first=True
    ),
    Operation("new identifier", OF_ALICE, renewing, "alice: lamp", "alice: lamp", is_basic=True),
    Operation("regenerate", OF_ALICE, renewing_by_manager, "alice: lamp", "alice: lamp"),
    Operation("end others", OF_ALICE, ending_others, "alice: lamp", "alice: lamp"),
    Operation("keep one", OF_ALICE, ending_others_by_manager, "alice: lamp", "alice: lamp"),
    Operation(
        "switch", SWITCHED[:-1], switching_to("alice"), "admin: lamp", "alice for admin:",
        is_basic=True,
    ),
    Operation("exit", SWITCHED, exiting, "alice for admin:", "admin: lamp"),
    Operation("logout", OF_ALICE, logging_out, "alice: lamp", NOBODY, is_basic=True),
    Operation("logout from switched", SWITCHED, logging_out, "alice for admin:", NOBODY),
]  # fmt: skip
