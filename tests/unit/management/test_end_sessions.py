"""The command for emergencies: ``end_sessions``."""

from __future__ import annotations

import io
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.core.management import CommandError, call_command

from tests.factories import BackendSessionFactory, FrontendSessionFactory
from tests.unit.management.conftest import Terminal
from tests.urls import visit
from usersessions import SessionManager, auth
from usersessions.models import BackendSession, FrontendSession
from usersessions.test import Client

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.urls")]

NO_TERMINAL = "Standard input is not a terminal, so the question cannot be asked: use --no-input."


def end(*arguments: str, **options: Any) -> str:
    out = io.StringIO()
    call_command("end_sessions", *arguments, stdout=out, **options)
    return out.getvalue()


def owners() -> tuple[list[int], list[int]]:
    """Return whose sessions are left: of the frontend, of the backend."""
    frontend, backend = (
        sorted(model.objects.values_list("ses_userid", flat=True))
        for model in (FrontendSession, BackendSession)
    )
    return frontend, backend


@pytest.fixture
def sessions(alice: Any, bob: Any, superuser: Any) -> None:
    """Two visitors, alice twice, bob once; the superuser in the frontend and in the backend."""
    for user_id in (0, 0, alice.pk, alice.pk, bob.pk, superuser.pk):
        FrontendSessionFactory(ses_userid=user_id)
    BackendSessionFactory(ses_userid=superuser.pk)


# By user


def test_sessions_of_a_user_end_in_every_login_type(
    sessions: None, alice: Any, bob: Any, superuser: Any
) -> None:
    assert end("--user", "admin") == "BE: 1 sessions ended.\nFE: 1 sessions ended.\n"
    assert owners() == ([0, 0, alice.pk, alice.pk, bob.pk], [])


def test_user_who_is_deleted_is_named_by_key(
    sessions: None, alice: Any, bob: Any, superuser: Any
) -> None:
    get_user_model()._default_manager.filter(pk=alice.pk).delete()
    assert end("--user-id", str(alice.pk), "--login-type=FE") == "FE: 2 sessions ended.\n"
    assert owners() == ([0, 0, bob.pk, superuser.pk], [superuser.pk])


def test_users_can_be_named_both_ways_at_once(
    sessions: None, alice: Any, bob: Any, superuser: Any
) -> None:
    end(f"--user-id={alice.pk}", "--user=bob")
    assert owners() == ([0, 0, superuser.pk], [superuser.pk])


# Switched sessions


@pytest.fixture
def switched(client: Client, superuser: Any, alice: Any) -> Client:
    """Where the superuser is alice, in the frontend."""
    client.force_login(superuser)
    visit(client, lambda request: auth.switch_user(request, alice))
    return client


def test_session_in_which_the_user_has_switched_to_somebody_else_ends_too(
    switched: Client, other_client: Client, alice: Any
) -> None:
    """Attack: switch with the stolen session, wait until the user's are ended, switch back."""
    other_client.force_login(alice)
    dry = end("--user=admin", "--dry-run")
    assert dry == "BE: 0 sessions would be ended.\nFE: 1 sessions would be ended.\n"
    assert end("--user=admin") == "BE: 0 sessions ended.\nFE: 1 sessions ended.\n"
    assert visit(switched, lambda request: request.user.get_username()).content == b"''"
    assert owners() == ([alice.pk], [])


@pytest.mark.parametrize("name", ["admin", "bob", "alice"])
def test_session_that_was_put_aside_for_a_switch_ends_too(
    client: Client, superuser: Any, alice: Any, bob: Any, name: str
) -> None:
    """The superuser of the backend is bob in the frontend, and has switched to alice there.

    Attack: come back from the switch to the session that was put aside, without a password.
    """
    client.force_login(superuser, login_type="BE")
    client.force_login(bob)
    visit(client, lambda request: auth.switch_user(request, alice, login_type="FE"), path="/admin/")
    assert owners() == ([alice.pk], [superuser.pk])
    assert end(f"--user={name}", "--login-type=FE") == "FE: 1 sessions ended.\n"
    assert owners() == ([], [superuser.pk])


def test_user_who_comes_back_while_sessions_are_looked_through_is_caught(
    switched: Client, superuser: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attack: a script that switches and comes back, again and again."""
    backend = SessionManager.get_session_backend("FE")
    get_all = backend.get_all
    came_back = []

    def get_all_slowly() -> Any:
        if not came_back:
            came_back.append(visit(switched, auth.exit_switch_user))
            return iter([])
        return get_all()

    monkeypatch.setattr(backend, "get_all", get_all_slowly)
    assert end("--user=admin", "--login-type=FE") == "FE: 1 sessions ended.\n"
    assert owners() == ([], [])


def test_user_who_switches_from_a_session_of_a_later_login_type_is_caught(
    client: Client, superuser: Any, alice: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attack: keep a way in, through the backend session whose turn to end has not come yet."""
    client.force_login(superuser, login_type="BE")
    backend = SessionManager.get_session_backend("BE")
    remove_by_user = backend.remove_by_user
    switched: list[bool] = []

    def remove_late(user_id: Any) -> int:
        if not switched:
            switched.append(True)
            visit(
                client,
                lambda request: auth.switch_user(request, alice, login_type="FE"),
                path="/admin/",
            )
        return remove_by_user(user_id)

    monkeypatch.setattr(backend, "remove_by_user", remove_late)
    assert end("--user=admin", "--login-type=FE", "--login-type=BE") == (
        "FE: 1 sessions ended.\nBE: 1 sessions ended.\n"
    )
    assert owners() == ([], [])


def test_session_with_corrupt_data_has_nobody_behind_it(alice: Any, superuser: Any) -> None:
    FrontendSessionFactory(ses_userid=alice.pk, ses_data=b"{")
    assert end("--user=admin") == "BE: 0 sessions ended.\nFE: 0 sessions ended.\n"
    assert end("--user=alice") == "BE: 0 sessions ended.\nFE: 1 sessions ended.\n"


# Anonymous


def test_anonymous_sessions_end_without_a_question(
    sessions: None, alice: Any, bob: Any, superuser: Any
) -> None:
    assert end("--anonymous") == "BE: 0 sessions ended.\nFE: 2 sessions ended.\n"
    assert owners() == ([alice.pk, alice.pk, bob.pk, superuser.pk], [superuser.pk])


# All


def test_all_sessions_end(sessions: None) -> None:
    assert end("--all", "--no-input") == "BE: 1 sessions ended.\nFE: 6 sessions ended.\n"
    assert owners() == ([], [])


@pytest.mark.parametrize(
    ("arguments", "output", "left"),
    [
        (["--login-type=BE"], "BE: 1 sessions ended.\n", (6, 0)),
        (["--login-type=FE", "--login-type", "FE"], "FE: 6 sessions ended.\n", (0, 1)),
        (
            ["--login-type=FE", "--login-type=BE"],
            "FE: 6 sessions ended.\nBE: 1 sessions ended.\n",
            (0, 0),
        ),
    ],
    ids=["backend", "twice-the-same", "both"],
)
def test_login_types_can_be_picked(
    sessions: None, arguments: list[str], output: str, left: tuple[int, int]
) -> None:
    assert end("--all", "--noinput", *arguments) == output
    assert tuple(map(len, owners())) == left


def test_excepted_users_stay(sessions: None, bob: Any, superuser: Any) -> None:
    output = end("--all", "--no-input", "--except-user=admin", "--except-user", "bob")
    assert output == "BE: 0 sessions ended.\nFE: 4 sessions ended.\n"
    assert owners() == ([bob.pk, superuser.pk], [superuser.pk])


def test_session_in_which_somebody_has_switched_to_an_excepted_user_ends(
    switched: Client, other_client: Client, alice: Any
) -> None:
    """Attack: outlive the end of all sessions, as a user who may stay."""
    other_client.force_login(alice)
    arguments = ["--all", "--except-user=alice", "--login-type=FE"]
    assert end(*arguments, "--dry-run") == "FE: 1 sessions would be ended.\n"
    assert end(*arguments, "--no-input") == "FE: 1 sessions ended.\n"
    assert visit(switched, lambda request: request.user.get_username()).content == b"''"
    assert owners() == ([alice.pk], [])


def test_session_in_which_one_excepted_user_has_switched_to_another_stays(
    switched: Client, alice: Any
) -> None:
    end("--all", "--except-user=alice", "--except-user=admin", "--no-input")
    assert owners() == ([alice.pk], [])


def test_session_in_which_an_excepted_user_has_switched_to_somebody_else_ends(
    switched: Client,
) -> None:
    end("--all", "--except-user=admin", "--no-input")
    assert owners() == ([], [])


def test_session_that_was_renewed_while_others_ended_goes_all_the_same(
    client: Client, alice: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attack: keep a stolen session by having it renewed to a hash that has been passed."""
    client.force_login(alice)
    backend = SessionManager.get_session_backend("FE")
    delete_by_key = backend.delete_by_key
    renewed = []

    def renew_first(*args: Any) -> int:
        if not renewed:
            renewed.append(visit(client, lambda request: request.session.cycle_key()))
        return delete_by_key(*args)

    monkeypatch.setattr(backend, "delete_by_key", renew_first)
    monkeypatch.setattr(backend, "hash", lambda identifier: "0" * 64)
    assert end("--all", "--no-input", "--login-type=FE") == "FE: 1 sessions ended.\n"
    assert owners() == ([], [])


def test_million_sessions_end_in_batches_and_constant_memory() -> None:
    """A tenth of them here: memory does not grow with their number."""
    for start in range(0, 100_000, 10_000):
        FrontendSession.objects.bulk_create(
            FrontendSession(ses_id=f"{number:064x}", ses_userid=number % 2 * 7, ses_data=b"{}")
            for number in range(start, start + 10_000)
        )
    tracemalloc.start()
    try:
        assert end("--anonymous", "--login-type=FE") == "FE: 50000 sessions ended.\n"
        assert end("--user-id=7", "--login-type=FE") == "FE: 50000 sessions ended.\n"
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 5_000_000


@pytest.mark.parametrize(
    ("arguments", "batches"),
    [([], [5]), (["--batch-size", "2"], [2, 2, 1])],
    ids=["default", "two"],
)
def test_batch_size_limits_each_step(
    arguments: list[str], batches: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    FrontendSessionFactory.create_batch(5)
    backend: Any = SessionManager.get_session_backend("FE")
    delete, seen = backend.delete_by_key, []
    monkeypatch.setattr(
        backend, "delete_by_key", lambda ids, *args: seen.append(len(ids)) or delete(ids, *args)
    )
    end("--all", "--no-input", *arguments)
    assert seen == batches


# --dry-run


@pytest.mark.parametrize(
    ("arguments", "frontend", "backend"),
    [
        (["--user=alice"], 2, 0),
        (["--user=alice", "--user=admin"], 3, 1),
        (["--anonymous"], 2, 0),
        (["--all"], 6, 1),
        (["--all", "--except-user=alice"], 4, 1),
    ],
)
def test_dry_run_only_counts_and_does_not_ask(
    sessions: None, arguments: list[str], frontend: int, backend: int
) -> None:
    before = owners()
    assert end(*arguments, "--dry-run") == (
        f"BE: {backend} sessions would be ended.\nFE: {frontend} sessions would be ended.\n"
    )
    assert owners() == before
    assert end(*arguments, "--no-input") == (
        f"BE: {backend} sessions ended.\nFE: {frontend} sessions ended.\n"
    )


# From code


@pytest.mark.parametrize(
    ("options", "left"),
    [
        pytest.param({"user": ["alice", "bob"]}, 3, id="names"),
        pytest.param({"user_id": [0]}, None, id="key-of-nobody"),
        pytest.param({"anonymous": True, "login_type": ("FE",)}, 4, id="login-types"),
        pytest.param({"all": True, "interactive": False}, 0, id="all"),
        pytest.param(
            {"all": True, "interactive": False, "except_user": {"bob"}}, 1, id="all-but-one"
        ),
        pytest.param({"user": [], "all": False}, None, id="nobody"),
    ],
)
def test_code_passes_values_of_its_own(
    sessions: None, options: dict[str, Any], left: int | None
) -> None:
    if left is None:
        with pytest.raises(CommandError):
            end(**options)
        left = 6
    else:
        end(**options)
    assert FrontendSession.objects.count() == left


def test_code_passes_a_key_as_it_is(sessions: None, alice: Any) -> None:
    end(user_id=[alice.pk])
    assert alice.pk not in owners()[0]


# Wrong input

SAY_WHOSE = (
    "Choose which sessions to end, with one of: --user NAME, --user-id KEY, --anonymous, --all."
)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param([], SAY_WHOSE, id="nothing"),
        pytest.param(["--login-type=FE", "--no-input"], SAY_WHOSE, id="login-type-alone"),
        pytest.param(["--except-user=alice"], SAY_WHOSE, id="exception-alone"),
        pytest.param(
            ["--user=alice", "--all"],
            "--user and --all exclude each other: choose one of them.",
            id="user-and-all",
        ),
        pytest.param(
            ["--user-id=1", "--anonymous"],
            "--user-id and --anonymous exclude each other: choose one of them.",
            id="key-and-anonymous",
        ),
        pytest.param(
            ["--all", "--anonymous", "--user=alice"],
            "--user and --anonymous and --all exclude each other: choose one of them.",
            id="three",
        ),
        pytest.param(
            ["--user=alice", "--except-user=bob"],
            "--except-user goes with --all, not with --user.",
            id="exception-to-user",
        ),
        pytest.param(
            ["--user-id=1", "--except-user=bob"],
            "--except-user goes with --all, not with --user-id.",
            id="exception-to-key",
        ),
        pytest.param(
            ["--anonymous", "--except-user=bob"],
            "--except-user goes with --all, not with --anonymous.",
            id="exception-to-anonymous",
        ),
        pytest.param(
            ["--user=alice", "--user=mallory"],
            "There is no user 'mallory'; name a deleted one by --user-id. No session was ended.",
            id="unknown-user",
        ),
        pytest.param(
            ["--user=carol", "--user="],
            "There is no user 'carol', ''; name a deleted one by --user-id. No session was ended.",
            id="unknown-users",
        ),
        pytest.param(
            ["--all", "--no-input", "--except-user=mallory"],
            "There is no user 'mallory'; name a deleted one by --user-id. No session was ended.",
            id="unknown-exception",
        ),
        pytest.param(
            ["--user=alice", "--user-id=alice"],
            "--user-id must be the primary key of a user, not 'alice'. No session was ended.",
            id="name-as-key",
        ),
        pytest.param(
            ["--user-id=0"],
            "--user-id must be the primary key of a user, not '0'. No session was ended.",
            id="key-of-nobody",
        ),
        pytest.param(["--all"], NO_TERMINAL, id="nobody-to-ask"),
    ],
)
def test_wrong_input_ends_nothing_and_says_what_would_be_right(
    sessions: None, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("yes\n"))
    before = owners()
    with pytest.raises(CommandError) as caught:
        end(*arguments)
    assert str(caught.value) == message
    assert owners() == before


def test_name_that_several_users_have_ends_nothing(
    sessions: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the site's own user model does not make names unique."""
    get_user_model()._default_manager.filter(username="bob").update(first_name="Al")
    get_user_model()._default_manager.filter(username="alice").update(first_name="Al")
    monkeypatch.setattr(get_user_model(), "USERNAME_FIELD", "first_name")
    before = owners()
    with pytest.raises(CommandError) as caught:
        end("--user=Al")
    assert str(caught.value) == (
        "Several users are called 'Al': use --user-id. No session was ended."
    )
    assert owners() == before


# The question


QUESTION = (
    "This ends all sessions: BE 1, FE 6.\n"
    "Their users are logged out, including you if you use the admin. Visitors lose what their "
    "sessions hold, for example their baskets.\n"
    "Type 'yes' to end them: "
)


def test_yes_ends_all_sessions(sessions: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal("yes\n"))
    assert end("--all") == f"{QUESTION}BE: 1 sessions ended.\nFE: 6 sessions ended.\n"
    assert owners() == ([], [])


def test_question_says_what_ends_and_what_does_not(
    sessions: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal("yes\n"))
    output = end("--all", "--login-type=FE", "--except-user=alice", "--except-user=bob")
    assert output.startswith("This ends all sessions but those of alice, bob: FE 3.\n")


@pytest.mark.parametrize("answer", ["no\n", "\n", "y\n", "Yes\n", "yes please\n", ""])
def test_any_other_answer_ends_nothing(
    sessions: None, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    out = io.StringIO()
    before = owners()
    with pytest.raises(CommandError) as caught:
        call_command("end_sessions", "--all", stdout=out)
    assert str(caught.value) == "The answer was not 'yes': no session was ended."
    assert out.getvalue() == QUESTION + ("" if answer else "\n")
    assert owners() == before


def test_interrupted_question_ends_nothing(sessions: None, monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted(Terminal):
        def readline(self, *args: Any) -> str:
            raise KeyboardInterrupt

    monkeypatch.setattr(sys, "stdin", Interrupted())
    before = owners()
    with pytest.raises(CommandError, match="no session was ended"):
        end("--all")
    assert owners() == before


# Sessions that have not moved in yet


def test_sessions_that_have_not_moved_in_are_told_of(
    old_site: Any, alice: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    old_site.store_session(alice)
    end("--user=alice")
    assert capsys.readouterr().err == (
        "This does not include the sessions still kept by 'django.contrib.sessions.backends.db', "
        "which move here when their old cookie is presented. Run adopt_sessions and then this "
        "command again, or remove ADOPT_FROM.\n"
    )
    end("--user=alice", verbosity=0)
    assert capsys.readouterr().err == ""


# Storages


def test_storage_of_somebody_elses_is_emptied_as_well(settings: Any, alice: Any) -> None:
    settings.USERSESSIONS = {
        "FE": {"BACKEND": "tests.contract.test_base.MemoryBackend", "OPTIONS": {}}
    }
    backend = SessionManager.get_session_backend("FE")
    for number in range(4):
        record: Any = {"ses_userid": number % 2 * alice.pk, "ses_tstamp": 0, "ses_data": b"{}"}
        backend.set(f"{number:032x}", record)
    assert end("--anonymous", "--login-type=FE") == "FE: 2 sessions ended.\n"
    assert end("--user=alice", "--login-type=FE") == "FE: 2 sessions ended.\n"
    assert list(backend.get_all()) == []


# The progress bar; more of it in test_every_command


@pytest.mark.parametrize(
    ("arguments", "bars"),
    [
        pytest.param(["--all", "--no-input"], ["BE: 100%", "| 1/1 [", "FE: 100%", "| 6/6 ["]),
        pytest.param(["--user=alice", "--login-type=FE"], ["FE: 100%", "| 6/6 ["]),
        pytest.param(["--anonymous"], ["FE: 100%", "| 2/2 ["]),
        pytest.param(
            ["--all", "--no-input", "--except-user=bob", "--login-type=FE"],
            ["FE: 100%", "| 6/6 [", "FE again: 100%", "| 1/1 ["],
        ),
    ],
    ids=["all", "user", "anonymous", "all-but-one"],
)
def test_terminal_shows_the_progress(
    sessions: None, monkeypatch: pytest.MonkeyPatch, arguments: list[str], bars: list[str]
) -> None:
    errors = Terminal()
    monkeypatch.setattr(sys, "stderr", errors)
    call_command("end_sessions", *arguments, stdout=Terminal())
    for end_of_bar in bars:
        assert end_of_bar in errors.getvalue()


# A real process


def test_script_is_told_to_use_no_input_and_then_needs_no_terminal(
    commands_of_a_site: Callable[..., list[str]],
) -> None:
    command = commands_of_a_site("end_sessions", "--all")
    done = [
        subprocess.run(  # noqa: S603
            [*command, *more], input="yes\n", capture_output=True, text=True, check=False
        )
        for more in ([], ["--no-input"])
    ]
    assert [(one.returncode, one.stdout, one.stderr) for one in done] == [
        (1, "", f"CommandError: {NO_TERMINAL}\n"),
        (0, "BE: 0 sessions ended.\nFE: 3 sessions ended.\n", ""),
    ]
