"""Delete expired sessions: the command for cron."""

from __future__ import annotations

import time
from math import inf
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connections

from ...backends.base import SessionBackend
from ...backends.database.backend import DatabaseSessionBackend
from ...backends.selection import Expired
from ...backends.session_manager import SessionManager
from ...conf import get_login_types
from ...lifecycle.user_session_manager import UserSessionManager
from .. import arguments
from ..progress import progress_bar


class Command(BaseCommand):
    help = "Deletes expired sessions in batches and prints how many, for each login type."

    #: The clock that limits a run, and what waits between batches, both in seconds.
    clock = staticmethod(time.monotonic)
    sleep = staticmethod(time.sleep)

    def add_arguments(self, parser: CommandParser) -> None:
        arguments.add_login_types(parser)
        arguments.add_batch_size(parser, "one statement deletes")
        parser.add_argument(
            "--max-seconds",
            type=arguments.number(
                float, lambda seconds: 0 < seconds < inf, "a number of seconds above 0"
            ),
            metavar="N",
            help="Stop after this many seconds. Default: when nothing is left.",
        )
        parser.add_argument(
            "--pause",
            type=arguments.number(
                float, lambda seconds: 0 <= seconds < inf, "a number of seconds, 0 or more"
            ),
            default=0.0,
            metavar="SECONDS",
            help="Wait this long between two batches, so that replicas and vacuum keep up; for "
            "example 0.1. Default: %(default)s.",
        )
        parser.add_argument(
            "--dry-run", action="store_true", help="Only print how many sessions have expired."
        )
        parser.add_argument(
            "--database",
            metavar="ALIAS",
            help="The database to collect in. Default: the one that keeps the sessions.",
        )

    def handle(
        self,
        *,
        login_types: list[str] | None,
        max_seconds: float | None,
        database: str | None,
        dry_run: bool,
        verbosity: int,
        **options: Any,
    ) -> None:
        if database is not None and database not in connections:
            raise CommandError(
                f"There is no database {database!r}; choose from: {', '.join(connections)}."
            )
        deadline = inf if max_seconds is None else self.clock() + max_seconds
        for name in dict.fromkeys(login_types or get_login_types()):
            backend = _on_database(SessionManager.get_session_backend(name), database)
            manager = UserSessionManager.create(name, backend=backend)
            is_stopped = False
            if dry_run:
                count = backend.count_all(Expired.after(*manager.expiry.retention))
            else:
                count, is_stopped = self._collect(manager, deadline, verbosity, **options)
            if verbosity:
                self.stdout.write(_report(backend, count, would="would be " * dry_run))
                if is_stopped:
                    self.stdout.write(
                        f"Stopped for --max-seconds {max_seconds:g}; the next run goes on."
                    )
            if is_stopped:
                return

    def _collect(
        self,
        manager: UserSessionManager,
        deadline: float,
        verbosity: int,
        *,
        batch_size: int,
        pause: float,
        **options: Any,
    ) -> tuple[int, bool]:
        """Return how many sessions were deleted, and whether the deadline stopped that."""
        # One time for counting and deleting, so that the bar ends at its total.
        expired = Expired.after(*manager.expiry.retention, now=int(time.time()))
        backend = manager.backend
        count = 0
        with progress_bar(
            self, verbosity, lambda: backend.count_all(expired), backend.login_type
        ) as progress:
            for deleted in backend.remove_all(expired, batch_size):
                count += deleted
                progress.update(deleted)
                if self.clock() + pause >= deadline:
                    return count, True
                if pause:
                    self.sleep(pause)
        return count, False


def _report(backend: SessionBackend, count: int, would: str) -> str:
    if backend.drops_expired:
        return (
            f"{backend.login_type}: the storage drops expired sessions itself; "
            f"{count} entries {would or 'were '}deleted from users' lists."
        )
    return f"{backend.login_type}: {count} expired sessions {would}deleted."


def _on_database(backend: SessionBackend, alias: str | None) -> SessionBackend:
    if alias is None:
        return backend
    if not isinstance(backend, DatabaseSessionBackend):
        raise CommandError(
            f"{backend.login_type} keeps its sessions in no database: omit --database, or choose "
            "other types with --login-type."
        )
    table = backend.model._meta.db_table
    if table not in connections[alias].introspection.table_names():
        raise CommandError(f"The database {alias!r} has no table {table!r}.")
    return type(backend)(backend.login_type, {**backend.options, "using": alias})
