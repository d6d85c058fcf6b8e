"""End sessions before they expire: the command for emergencies."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser

from ...conf import get_adopting_types, get_login_types
from ...lifecycle.ending import AllSessions, Selection, SessionsOfUsers
from ...lifecycle.user_session_manager import UserSessionManager
from ...session.user_keys import UserId, to_user_id
from .. import arguments
from ..progress import progress_bar

CHOICES = "--user NAME, --user-id KEY, --anonymous, --all"


class Command(BaseCommand):
    help = (
        "Ends sessions, expired or not, and prints how many, for each login type. Needs one of: "
        f"{CHOICES}."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--user",
            action="append",
            dest="users",
            default=[],
            metavar="NAME",
            help="The sessions of the user with this login name, including those in which that "
            "user has switched to another one; may be repeated.",
        )
        parser.add_argument(
            "--user-id",
            action="append",
            dest="user_ids",
            default=[],
            metavar="KEY",
            help="The same by primary key, for users who may be deleted; may be repeated.",
        )
        parser.add_argument(
            "--anonymous", action="store_true", help="The sessions of visitors without login."
        )
        parser.add_argument(
            "--all", action="store_true", dest="everything", help="All sessions. Asks before."
        )
        parser.add_argument(
            "--except-user",
            action="append",
            dest="except_users",
            default=[],
            metavar="NAME",
            help="With --all: leave the sessions of this user; may be repeated.",
        )
        arguments.add_login_types(parser)
        arguments.add_batch_size(parser, "one step looks at or ends")
        parser.add_argument(
            "--dry-run", action="store_true", help="Only print how many sessions would be ended."
        )
        parser.add_argument(
            "--noinput",
            "--no-input",
            action="store_false",
            dest="interactive",
            help="Do not ask before ending all sessions.",
        )

    def handle(
        self,
        *,
        login_types: list[str] | None,
        batch_size: int,
        dry_run: bool,
        interactive: bool,
        verbosity: int,
        **options: Any,
    ) -> None:
        selection = _select(**options)
        names = list(dict.fromkeys(login_types or get_login_types()))
        managers = {name: UserSessionManager.create(name) for name in names}
        if dry_run:
            ended = {name: selection.count(manager) for name, manager in managers.items()}
        else:
            if options["everything"] and interactive:
                self._ask(selection, managers, options["except_users"])
            ended = dict.fromkeys(names, 0)
            # Twice, since requests go on: during the first round, a session may have got a new key,
            # or may have been switched from a session of a login type that came later.
            for title in ("{}", "{} again"):
                for name, manager in managers.items():
                    count = partial(selection.count_steps, manager)
                    with progress_bar(self, verbosity, count, title.format(name)) as progress:
                        for batch in selection.end(manager, batch_size):
                            ended[name] += batch.ended
                            progress.update(batch.seen)
        if verbosity:
            for name, number in ended.items():
                self.stdout.write(f"{name}: {number} sessions {'would be ' * dry_run}ended.")
            self._warn_of_old_sessions(names)

    def _ask(
        self,
        selection: Selection,
        managers: dict[str, UserSessionManager],
        except_users: Sequence[str],
    ) -> None:
        if not sys.stdin.isatty():
            raise CommandError(
                "Standard input is not a terminal, so the question cannot be asked: use --no-input."
            )
        counts = (f"{name} {selection.count(manager)}" for name, manager in managers.items())
        but = f" but those of {', '.join(except_users)}" if except_users else ""
        question = (
            f"This ends all sessions{but}: {', '.join(counts)}.\n"
            "Their users are logged out, including you if you use the admin. Visitors lose what "
            "their sessions hold, for example their baskets.\n"
            "Type 'yes' to end them: "
        )
        try:
            self.stdout.write(question, ending="")
            self.stdout.flush()
            answer = input()
        except (EOFError, KeyboardInterrupt):
            self.stdout.write()
            answer = ""
        if answer != "yes":
            raise CommandError("The answer was not 'yes': no session was ended.")

    def _warn_of_old_sessions(self, names: Sequence[str]) -> None:
        paths = {found.adopt_from for found in get_adopting_types() if found.name in names}
        for path in sorted(map(str, paths)):
            self.stderr.write(
                f"This does not include the sessions still kept by {path!r}, which move here when "
                "their old cookie is presented. Run adopt_sessions and then this command again, "
                "or remove ADOPT_FROM."
            )


def _select(
    *,
    users: Iterable[str],
    user_ids: Iterable[Any],
    anonymous: bool,
    everything: bool,
    except_users: Iterable[str],
    **options: Any,
) -> Selection:
    """Return which sessions are to end; looks up all users before any session ends.

    :raises CommandError: none of the choices is given, two exclude each other, or a user is unknown
    """
    by_user = "--user" if users else "--user-id"
    chosen = {by_user: users or user_ids, "--anonymous": anonymous, "--all": everything}
    given = [option for option, value in chosen.items() if value]
    if not given:
        raise CommandError(f"Choose which sessions to end, with one of: {CHOICES}.")
    if len(given) > 1:
        raise CommandError(f"{' and '.join(given)} exclude each other: choose one of them.")
    if except_users and not everything:
        raise CommandError(f"--except-user goes with --all, not with {given[0]}.")
    named = _find_users([*users, *except_users])
    if everything:
        return AllSessions(except_users=named)
    if anonymous:
        return AllSessions(anonymous=True)
    return SessionsOfUsers([*named, *map(_check_key, user_ids)])


def _find_users(names: Sequence[str]) -> list[UserId]:
    model = get_user_model()
    found, unknown = [], []
    for name in names:
        try:
            found.append(to_user_id(model._default_manager.get_by_natural_key(name).pk))
        except model.MultipleObjectsReturned as exc:
            raise CommandError(
                f"Several users are called {name!r}: use --user-id. No session was ended."
            ) from exc
        except (model.DoesNotExist, ValidationError, ValueError):  # or a name of a wrong form
            unknown.append(name)
    if unknown:
        raise CommandError(
            f"There is no user {', '.join(map(repr, unknown))}; name a deleted one by --user-id. "
            "No session was ended."
        )
    return found


def _check_key(key: Any) -> UserId:
    try:
        return to_user_id(key)
    except ValueError as exc:
        raise CommandError(
            f"--user-id must be the primary key of a user, not {key!r}. No session was ended."
        ) from exc
