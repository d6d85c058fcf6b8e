"""Move the sessions of the engine that the site had, all at once instead of one by one."""

from __future__ import annotations

import sys
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser
from tqdm import tqdm

from ...adoption.adopter import UNADOPTABLE, prepare
from ...adoption.engines import OldSession, TableEngine, get_old_engine
from ...conf import get_adopting_types
from .. import arguments


class Command(BaseCommand):
    help = (
        "Moves the sessions of the engine that ADOPT_FROM names into the tables of the login "
        "types, batch by batch. Their old cookies go on working: nobody is logged out."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        arguments.add_batch_size(parser, "one transaction moves")
        parser.add_argument(
            "--dry-run", action="store_true", help="Only say how many sessions there are to move."
        )

    def handle(self, *, batch_size: int, dry_run: bool, verbosity: int, **options: Any) -> None:
        arguments.check_batch_size(batch_size)
        engine = _find_engine()
        unexpired, expired = engine.count()
        if dry_run:
            text = f"Up to {unexpired} sessions would be moved"
        else:
            moved, left = self._move(engine, batch_size, total=unexpired if verbosity else 0)
            text = f"{moved} sessions moved, {left} left where they are"
        if verbosity:
            self.stdout.write(f"{text}; {expired} have expired.")

    def _move(self, engine: TableEngine, batch_size: int, *, total: int) -> tuple[int, int]:
        shows_progress = total > 0 and self.stdout.isatty() and sys.stderr.isatty()
        moved = left = 0
        with tqdm(total=total, unit=" sessions", disable=not shows_progress) as progress:
            for batch in engine.move(self._take, batch_size):
                moved, left = moved + batch.moved, left + batch.left
                progress.update(batch.moved + batch.left)
        return moved, left

    def _take(self, old: OldSession) -> bool:
        try:
            new = prepare(old)
        except UNADOPTABLE as exc:
            self.stderr.write(f"A session stays where it is: {exc}")
            return False
        new.store()
        return new.has_takers


def _find_engine() -> TableEngine:
    login_types = get_adopting_types()
    if not login_types:
        raise CommandError(
            "No login type has ADOPT_FROM. Name the SESSION_ENGINE that the site had, for example "
            'USERSESSIONS = {"FE": {"ADOPT_FROM": "django.contrib.sessions.backends.db"}}.'
        )
    path = str(login_types[0].adopt_from)
    try:
        engine = get_old_engine(path)
    except ImproperlyConfigured as exc:
        raise CommandError(str(exc)) from exc
    if not isinstance(engine, TableEngine):
        raise CommandError(
            f"Nobody can list the sessions of {path!r}: they move one by one, as their cookies "
            "are presented."
        )
    return engine
