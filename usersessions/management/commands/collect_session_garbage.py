"""Delete expired sessions: the command for cron."""

from __future__ import annotations

import sys
import time
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connections
from tqdm import tqdm

from ...backends.base import BATCH_SIZE, SessionBackend
from ...backends.database import DatabaseSessionBackend
from ...conf import get_login_types
from ...session_manager import SessionManager
from ...user_session_manager import UserSessionManager
from .. import arguments


class Command(BaseCommand):
    help = "Deletes expired sessions, batch by batch, and says how many of which login type went."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--login-type",
            action="append",
            dest="login_types",
            metavar="NAME",
            help="Only this login type, for example FE; may be repeated. Default: all.",
        )
        parser.add_argument(
            "--batch-size",
            type=arguments.batch_size,
            default=BATCH_SIZE,
            metavar="N",
            help="How many sessions one statement deletes at the most. Default: %(default)s.",
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
        dry_run: bool,
        database: str | None,
        verbosity: int,
        **options: Any,
    ) -> None:
        for name in login_types or []:
            if name not in get_login_types():
                raise CommandError(
                    f"There is no login type {name!r}; choose from: {', '.join(get_login_types())}."
                )
        if database is not None and database not in connections:
            raise CommandError(
                f"There is no database {database!r}; choose from: {', '.join(connections)}."
            )
        arguments.check_batch_size(batch_size)
        for name in dict.fromkeys(login_types or get_login_types()):
            backend = _on_database(SessionManager.get_session_backend(name), database)
            manager = UserSessionManager.create(name, backend=backend)
            if dry_run:
                count = backend.count_garbage(*manager.garbage_limits)
                text = f"{name}: {count} expired sessions would be deleted."
            else:
                count = self._collect(name, manager, batch_size, verbosity)
                text = f"{name}: {count} expired sessions deleted."
            if verbosity:
                self.stdout.write(text)

    def _collect(
        self, name: str, manager: UserSessionManager, batch_size: int, verbosity: int
    ) -> int:
        # One moment for counting and deleting, so that the bar ends where it said it would.
        now = int(time.time())
        shows_progress = verbosity > 0 and self.stdout.isatty() and sys.stderr.isatty()
        backend, limits = manager.backend, manager.garbage_limits
        total = backend.count_garbage(*limits, now=now) if shows_progress else 0
        count = 0
        with tqdm(total=total, desc=name, unit=" sessions", disable=not total) as progress:
            for deleted in backend.iter_garbage(*limits, now=now, batch_size=batch_size):
                count += deleted
                progress.update(deleted)
        return count


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
