"""Move all sessions of the previous session engine at once."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser

from ...adoption.adopter import UNADOPTABLE, prepare
from ...adoption.engines import OldSession, TableEngine, get_old_engine
from ...adoption.new_session import store_missing
from ...conf import get_adopting_types
from .. import arguments
from ..progress import progress_bar


class Command(BaseCommand):
    help = (
        "Moves the sessions of the engine that ADOPT_FROM names into the tables of the login "
        "types, batch by batch. Their old cookies remain valid: all users stay logged in."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        arguments.add_batch_size(parser, "one transaction moves")
        parser.add_argument(
            "--dry-run", action="store_true", help="Only print how many sessions there are to move."
        )

    def handle(self, *, batch_size: int, dry_run: bool, verbosity: int, **options: Any) -> None:
        engine = _find_engine()
        unexpired, expired = engine.count()
        if dry_run:
            text = f"Up to {unexpired} sessions would be moved"
        else:
            moved = left = 0
            with progress_bar(self, verbosity, lambda: unexpired) as progress:
                for batch in engine.move(self._take, batch_size):
                    moved, left = moved + batch.moved, left + batch.left
                    progress.update(batch.moved + batch.left)
            text = f"{moved} sessions moved, {left} left where they are"
        if verbosity:
            self.stdout.write(f"{text}; {expired} have expired.")

    def _take(self, old: OldSession) -> bool:
        try:
            new = prepare(old)
        except UNADOPTABLE as exc:
            self.stderr.write(f"A session was not moved: {exc}")
            return False
        store_missing(new)
        return bool(new)


def _find_engine() -> TableEngine:
    login_types = get_adopting_types()
    if not login_types:
        raise CommandError(
            "No login type has ADOPT_FROM. Set it to the site's previous SESSION_ENGINE, for "
            'example USERSESSIONS = {"FE": {"ADOPT_FROM": "django.contrib.sessions.backends.db"}}.'
        )
    path = str(login_types[0].adopt_from)
    try:
        engine = get_old_engine(path)
    except ImproperlyConfigured as exc:
        raise CommandError(str(exc)) from exc
    if not isinstance(engine, TableEngine):
        raise CommandError(
            f"The sessions of {path!r} cannot be listed. Each one moves when a request presents "
            "its cookie."
        )
    return engine
