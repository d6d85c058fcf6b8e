"""Delete expired sessions: the command for cron."""

from __future__ import annotations

import sys
import time
from math import inf
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connections
from tqdm import tqdm

from ...backends.base import SessionBackend
from ...backends.database.backend import DatabaseSessionBackend
from ...backends.session_manager import SessionManager
from ...lifecycle.user_session_manager import UserSessionManager
from .. import arguments


class Command(BaseCommand):
    help = "Deletes expired sessions, batch by batch, and says how many of which login type went."

    #: What tells and passes the time, in seconds.
    clock = staticmethod(time.monotonic)
    sleep = staticmethod(time.sleep)

    def add_arguments(self, parser: CommandParser) -> None:
        arguments.add_login_types(parser)
        arguments.add_batch_size(parser, "one statement deletes")
        parser.add_argument(
            "--max-seconds",
            type=arguments.seconds,
            metavar="N",
            help="Stop once so many seconds are over. Default: when nothing is left.",
        )
        parser.add_argument(
            "--pause",
            type=arguments.seconds,
            default=0.0,
            metavar="SECONDS",
            help="Wait so long between two batches, for replicas and vacuum to keep up; for "
            "example 0.1. Default: %(default)s.",
        )
        parser.add_argument(
            "--dry-run", action="store_true", help="Only say how many sessions would go."
        )
        parser.add_argument(
            "--database",
            metavar="ALIAS",
            help="The database to collect in. Default: where the sessions are kept.",
        )

    def handle(
        self,
        *,
        login_types: list[str] | None,
        batch_size: int,
        max_seconds: float | None,
        pause: float,
        dry_run: bool,
        database: str | None,
        verbosity: int,
        **options: Any,
    ) -> None:
        names = arguments.choose_login_types(login_types)
        if database is not None and database not in connections:
            raise CommandError(
                f"There is no database {database!r}; choose from: {', '.join(connections)}."
            )
        arguments.check_batch_size(batch_size)
        arguments.check_max_seconds(max_seconds)
        arguments.check_pause(pause)
        deadline = inf if max_seconds is None else self.clock() + max_seconds
        for name in names:
            backend = _on_database(SessionManager.get_session_backend(name), database)
            manager = UserSessionManager.create(name, backend=backend)
            is_stopped = False
            if dry_run:
                count = backend.count_garbage(*manager.expiry.retention)
                text = f"{name}: {count} expired sessions would be deleted."
            else:
                count, is_stopped = self._collect(
                    manager, batch_size, pause=pause, deadline=deadline, verbosity=verbosity
                )
                text = f"{name}: {count} expired sessions deleted."
            if backend.drops_expired:
                went = "would go" if dry_run else "went"
                text = (
                    f"{name}: the storage drops expired sessions itself; "
                    f"{count} entries {went} from users' lists."
                )
            if verbosity:
                self.stdout.write(text)
                if is_stopped:
                    self.stdout.write(
                        f"Stopped for --max-seconds {max_seconds:g}; what is left goes next time."
                    )
            if is_stopped:
                return

    def _collect(
        self,
        manager: UserSessionManager,
        batch_size: int,
        *,
        pause: float,
        deadline: float,
        verbosity: int,
    ) -> tuple[int, bool]:
        """Return how many sessions went, and whether the time was over before the end was seen."""
        # One moment for counting and deleting, so that the bar ends where it said it would.
        now = int(time.time())
        shows_progress = verbosity > 0 and self.stdout.isatty() and sys.stderr.isatty()
        backend, limits = manager.backend, manager.expiry.retention
        total = backend.count_garbage(*limits, now=now) if shows_progress else 0
        count = 0
        with tqdm(
            total=total, desc=backend.login_type, unit=" sessions", disable=not total
        ) as progress:
            for deleted in backend.iter_garbage(*limits, now=now, batch_size=batch_size):
                count += deleted
                progress.update(deleted)
                if self.clock() + pause >= deadline:
                    return count, True
                if pause:
                    self.sleep(pause)
        return count, False


def _on_database(backend: SessionBackend, alias: str | None) -> SessionBackend:
    if alias is None:
        return backend
    if not isinstance(backend, DatabaseSessionBackend):
        raise CommandError(
            f"{backend.login_type} keeps its sessions in no database: leave --database out, or "
            "choose other types with --login-type."
        )
    table = backend.model._meta.db_table
    if table not in connections[alias].introspection.table_names():
        raise CommandError(f"The database {alias!r} has no table {table!r}.")
    return type(backend)(backend.login_type, {**backend.options, "using": alias})
