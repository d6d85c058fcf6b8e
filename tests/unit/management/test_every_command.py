"""What the commands share: progress for people, silence for cron, and the words on wrong input."""

from __future__ import annotations

import io
import sys
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from tests.factories import FrontendSessionFactory
from tests.old_engines import OldSite
from tests.unit.management.conftest import Terminal
from usersessions.models import FrontendSession

pytestmark = pytest.mark.django_db

XX_IS_NONE = "Error: argument --login-type: must be one of FE, BE, not 'XX'"

COMMANDS = {
    "adopt_sessions": ([], "| 1/1 [", 4),
    "collect_session_garbage": ([], "| 3/3 [", 0),
    "end_sessions": (["--anonymous"], "| 3/3 [", 0),
}
every_command = pytest.mark.parametrize("command", COMMANDS)


@pytest.fixture(autouse=True)
def _sessions(old_site: OldSite, alice: Any) -> None:
    """Three visitors' sessions that have expired, and one of alice that has not moved in."""
    FrontendSessionFactory.create_batch(3, ses_tstamp=0)
    old_site.store_session(alice)


def run(command: str, *more: str, **options: Any) -> str:
    out = io.StringIO()
    call_command(command, *COMMANDS[command][0], *more, **{"stdout": out, **options})
    return out.getvalue()


def assert_done(command: str) -> None:
    assert FrontendSession.objects.count() == COMMANDS[command][2]


@every_command
def test_terminal_shows_the_progress(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    screen, errors = Terminal(), Terminal()
    monkeypatch.setattr(sys, "stderr", errors)
    run(command, stdout=screen)
    assert "%" not in screen.getvalue()
    for end_of_bar in ("100%", COMMANDS[command][1]):
        assert end_of_bar in errors.getvalue()


@every_command
@pytest.mark.parametrize(
    ("stdout", "stderr", "verbosity"),
    [
        pytest.param(io.StringIO, io.StringIO, 1, id="cron"),
        pytest.param(io.StringIO, Terminal, 1, id="output-to-a-file"),
        pytest.param(Terminal, io.StringIO, 1, id="errors-to-a-file"),
        pytest.param(Terminal, Terminal, 0, id="silent"),
    ],
)
def test_progress_is_for_terminals_only(
    command: str,
    monkeypatch: pytest.MonkeyPatch,
    stdout: type[io.StringIO],
    stderr: type[io.StringIO],
    verbosity: int,
) -> None:
    errors = stderr()
    monkeypatch.setattr(sys, "stderr", errors)
    run(command, stdout=stdout(), verbosity=verbosity)
    assert "%" not in errors.getvalue()
    assert_done(command)


@every_command
@pytest.mark.parametrize("dry_run", [False, True])
def test_verbosity_zero_is_silent(
    command: str, dry_run: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(command, verbosity=0, dry_run=dry_run) == ""
    assert capsys.readouterr() == ("", "")
    assert FrontendSession.objects.count() == (3 if dry_run else COMMANDS[command][2])


@every_command
@pytest.mark.parametrize("size", ["0", "-1", "many"])
def test_batch_size_is_a_number_of_sessions(command: str, size: str) -> None:
    with pytest.raises(CommandError) as caught:
        run(command, f"--batch-size={size}")
    assert str(caught.value) == (
        f"Error: argument --batch-size: must be a whole number of at least 1, not '{size}'"
    )
    assert FrontendSession.objects.count() == 3


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("adopt_sessions", "Error: unrecognized arguments: --login-type=XX"),
        ("collect_session_garbage", XX_IS_NONE),
        ("end_sessions", XX_IS_NONE),
    ],
)
def test_login_type_has_to_be_there(command: str, message: str) -> None:
    with pytest.raises(CommandError) as caught:
        run(command, "--login-type=XX")
    assert str(caught.value) == message
    assert FrontendSession.objects.count() == 3
