"""The commands for cron: ``collect_session_garbage``, and Django's ``clearsessions``."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, connections

from tests.contract.session_backend import second_database
from tests.factories import BackendSessionFactory, FrontendSessionFactory
from usersessions import SessionManager
from usersessions.management.commands.collect_session_garbage import Command
from usersessions.models import BackendSession, FrontendSession

pytestmark = pytest.mark.django_db

#: The year 2100: whatever was used then is still good when this runs; 1970 is over.
FAR_FUTURE = 4_102_444_800


@pytest.fixture(autouse=True)
def _default_settings(settings: Any) -> None:
    settings.USERSESSIONS = {}


def collect(*arguments: str, **options: Any) -> str:
    out = io.StringIO()
    call_command("collect_session_garbage", *arguments, stdout=out, **options)
    return out.getvalue()


def fill(*, frontend: int, backend: int = 0) -> None:
    """Store so many expired sessions, and one more in each table that has not expired."""
    FrontendSessionFactory.create_batch(frontend, ses_tstamp=0)
    BackendSessionFactory.create_batch(backend, ses_tstamp=0, ses_userid=7)
    FrontendSessionFactory(ses_tstamp=FAR_FUTURE)
    BackendSessionFactory(ses_tstamp=FAR_FUTURE, ses_userid=7)


def left() -> tuple[int, int]:
    return FrontendSession.objects.count(), BackendSession.objects.count()


def deletes_during(*arguments: str) -> list[int]:
    """Return how many sessions each DELETE of a collection named."""
    deletes: list[int] = []

    def note(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if sql.startswith("DELETE"):
            deletes.append(len(params) - 1)
        return execute(sql, params, many, context)

    with connection.execute_wrapper(note):
        collect(*arguments)
    return deletes


# What goes


def test_expired_sessions_of_every_login_type_go() -> None:
    fill(frontend=3, backend=2)
    assert collect() == "BE: 2 expired sessions deleted.\nFE: 3 expired sessions deleted.\n"
    assert left() == (1, 1)


def test_nothing_to_collect_is_said_too() -> None:
    assert collect() == "BE: 0 expired sessions deleted.\nFE: 0 expired sessions deleted.\n"


def test_users_and_visitors_go_by_their_own_limits(settings: Any) -> None:
    settings.USERSESSIONS = {"FE": {"TIMEOUT": FAR_FUTURE}}
    FrontendSessionFactory(ses_tstamp=0)
    users = FrontendSessionFactory(ses_tstamp=0, ses_userid=7)
    collect()
    assert FrontendSession.objects.get() == users


@pytest.mark.parametrize(
    ("arguments", "output", "remaining"),
    [
        (["--login-type", "FE"], "FE: 3 expired sessions deleted.\n", (1, 3)),
        (["--login-type", "BE"], "BE: 2 expired sessions deleted.\n", (4, 1)),
        (
            ["--login-type", "FE", "--login-type", "BE"],
            "FE: 3 expired sessions deleted.\nBE: 2 expired sessions deleted.\n",
            (1, 1),
        ),
        (
            ["--login-type", "FE", "--login-type", "FE"],
            "FE: 3 expired sessions deleted.\n",
            (1, 3),
        ),
    ],
    ids=["frontend", "backend", "both", "twice-the-same"],
)
def test_login_types_can_be_picked(
    arguments: list[str], output: str, remaining: tuple[int, int]
) -> None:
    fill(frontend=3, backend=2)
    assert collect(*arguments) == output
    assert left() == remaining


def test_dry_run_only_counts() -> None:
    fill(frontend=3, backend=2)
    assert collect("--dry-run") == (
        "BE: 2 expired sessions would be deleted.\nFE: 3 expired sessions would be deleted.\n"
    )
    assert left() == (4, 3)


@pytest.mark.parametrize(
    ("arguments", "deletes"),
    [([], [5]), (["--batch-size", "2"], [2, 2, 1]), (["--batch-size=1"], [1] * 5)],
    ids=["default", "two", "one"],
)
def test_batch_size_limits_each_delete(arguments: list[str], deletes: list[int]) -> None:
    fill(frontend=5)
    assert deletes_during(*arguments) == deletes
    assert left() == (1, 1)


def test_collection_of_100_000_sessions_takes_the_expired_ones_in_batches() -> None:
    """A table that nobody has tidied up for a year fills neither memory nor the lock table."""
    for start in range(0, 100_000, 10_000):
        FrontendSession.objects.bulk_create(
            FrontendSession(
                ses_id=f"{number:064x}",
                ses_userid=number // 2 % 2 * 7,
                ses_tstamp=number if number % 2 else FAR_FUTURE,
                ses_data=b'{"basket":[1]}',
            )
            for number in range(start, start + 10_000)
        )
    tracemalloc.start()
    try:
        deletes = deletes_during("--login-type", "FE")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (sum(deletes), max(deletes)) == (50_000, 500)
    assert peak < 5_000_000
    assert FrontendSession.objects.count() == 50_000
    assert not FrontendSession.objects.filter(ses_tstamp__lt=FAR_FUTURE).exists()


# --database


def test_other_database_is_collected_alone(tmp_path: Path) -> None:
    fill(frontend=3)
    with second_database(tmp_path / "second.sqlite3") as alias:
        FrontendSession.objects.using(alias).bulk_create(
            FrontendSessionFactory.build_batch(2, ses_tstamp=0)
        )
        assert collect("--login-type=FE", f"--database={alias}") == (
            "FE: 2 expired sessions deleted.\n"
        )
        assert not FrontendSession.objects.using(alias).exists()
    assert left() == (4, 1)


def test_database_of_a_storage_that_has_none_is_refused(settings: Any) -> None:
    settings.USERSESSIONS = {
        "FE": {"BACKEND": "tests.contract.test_base.MemoryBackend", "OPTIONS": {}}
    }
    backend = SessionManager.get_session_backend("FE")
    backend.set("0" * 32, {"ses_userid": 7, "ses_tstamp": 0})
    with pytest.raises(CommandError, match=r"^FE keeps its sessions in no database: omit"):
        collect("--login-type=FE", "--database=default")
    assert len(list(backend.get_all())) == 1


def test_database_without_the_table_is_refused(tmp_path: Path) -> None:
    with second_database(tmp_path / "empty.sqlite3") as alias:
        with connections[alias].cursor() as cursor:
            cursor.execute("DROP TABLE fe_sessions")
        with pytest.raises(CommandError, match="has no table 'fe_sessions'"):
            collect("--login-type=FE", f"--database={alias}")


# --max-seconds and --pause


@pytest.fixture
def time_passes(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """Each batch takes ten seconds; yield the pauses that the command makes."""
    pauses: list[float] = []
    deletes: list[str] = []

    def note(execute: Any, sql: str, *rest: Any) -> Any:
        deletes.extend(["DELETE"] * sql.startswith("DELETE"))
        return execute(sql, *rest)

    monkeypatch.setattr(Command, "clock", lambda _: 10.0 * len(deletes) + sum(pauses))
    monkeypatch.setattr(Command, "sleep", lambda _, seconds: pauses.append(seconds))
    with connection.execute_wrapper(note):
        yield pauses


@pytest.mark.parametrize(
    ("arguments", "output", "remaining"),
    [
        pytest.param(
            ["--max-seconds=1"],
            "BE: 2 expired sessions deleted.\nStopped for --max-seconds 1; the next run goes on.\n",
            (6, 2),
            id="one-batch",
        ),
        pytest.param(
            ["--max-seconds", "30"],
            "BE: 3 expired sessions deleted.\nFE: 2 expired sessions deleted.\n"
            "Stopped for --max-seconds 30; the next run goes on.\n",
            (4, 1),
            id="in-the-middle",
        ),
        pytest.param(
            ["--max-seconds=50.5"],
            "BE: 3 expired sessions deleted.\nFE: 5 expired sessions deleted.\n",
            (1, 1),
            id="long-enough",
        ),
        pytest.param(
            ["--max-seconds=30", "--pause=6"],
            "BE: 3 expired sessions deleted.\n"
            "Stopped for --max-seconds 30; the next run goes on.\n",
            (6, 1),
            id="pauses-count",
        ),
    ],
)
def test_command_stops_after_the_batch_during_which_the_time_is_over(
    time_passes: list[float], arguments: list[str], output: str, remaining: tuple[int, int]
) -> None:
    fill(frontend=5, backend=3)
    assert collect("--batch-size=2", *arguments) == output
    assert left() == remaining


def test_command_that_was_stopped_goes_on_next_time(time_passes: list[float]) -> None:
    fill(frontend=5, backend=3)
    for _ in range(5):
        collect("--batch-size=2", "--max-seconds=1")
    assert left() == (1, 1)


def test_pause_is_made_after_each_batch(time_passes: list[float]) -> None:
    fill(frontend=5)
    collect("--batch-size=2", "--pause", "0.25")
    assert time_passes == [0.25] * 3
    assert left() == (1, 1)


def test_no_pause_is_made_that_would_end_too_late(time_passes: list[float]) -> None:
    fill(frontend=5)
    collect("--batch-size=2", "--max-seconds=60", "--pause=50")
    assert time_passes == []
    assert left() == (4, 1)


# Wrong input


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(
            ["--login-type", "FE", "--login-type", "fe"],
            "Error: argument --login-type: must be one of BE, FE, not 'fe'",
            id="one-unknown-login-type",
        ),
        pytest.param(
            ["--database", "nowhere"],
            "There is no database 'nowhere'; choose from: default.",
            id="unknown-database",
        ),
        pytest.param(
            ["--max-seconds", "soon"],
            "Error: argument --max-seconds: must be a number of seconds above 0, not 'soon'",
            id="end-is-no-number",
        ),
        pytest.param(
            ["--max-seconds", "0"],
            "Error: argument --max-seconds: must be a number of seconds above 0, not '0'",
            id="end-at-once",
        ),
        pytest.param(
            ["--pause", "long"],
            "Error: argument --pause: must be a number of seconds, 0 or more, not 'long'",
            id="pause-is-no-number",
        ),
        pytest.param(
            ["--pause=-1"],
            "Error: argument --pause: must be a number of seconds, 0 or more, not '-1'",
            id="negative-pause",
        ),
        pytest.param(
            ["--max-seconds=inf"],
            "Error: argument --max-seconds: must be a number of seconds above 0, not 'inf'",
            id="endless",
        ),
        pytest.param(
            ["--pause=nan"],
            "Error: argument --pause: must be a number of seconds, 0 or more, not 'nan'",
            id="pause-is-not-a-number",
        ),
    ],
)
def test_wrong_input_deletes_nothing_and_says_what_would_be_right(
    arguments: list[str], message: str
) -> None:
    fill(frontend=3, backend=2)
    with pytest.raises(CommandError) as caught:
        collect(*arguments)
    assert str(caught.value) == message
    assert left() == (4, 3)


# A real process


def test_real_terminal_shows_the_progress(
    commands_of_a_site: Callable[..., list[str]],
) -> None:
    site = commands_of_a_site("collect_session_garbage")
    # Windows has none of these.
    pty, fcntl, termios = map(pytest.importorskip, ("pty", "fcntl", "termios"))
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    try:
        subprocess.run(site, stdout=slave, stderr=slave, check=True)  # noqa: S603
        screen = os.read(master, 4096)
    finally:
        os.close(slave)
        os.close(master)
    assert b"FE: 100%" in screen
    assert b"FE: 3 expired sessions deleted." in screen


# clearsessions


def test_djangos_command_collects_every_login_type() -> None:
    fill(frontend=3, backend=2)
    call_command("clearsessions")
    assert left() == (1, 1)


def test_djangos_command_comes_with_us() -> None:
    """Also on a site that has not installed ``django.contrib.sessions``."""
    from django.core.management import get_commands

    assert get_commands()["clearsessions"] == "usersessions"
