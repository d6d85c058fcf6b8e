"""End sessions that have not expired: the command for emergencies."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from tqdm import tqdm

from ...conf import get_adopting_types
from ...lifecycle.ending import AllSessions, Selection, SessionsOfUsers
from ...lifecycle.user_session_manager import UserSessionManager
from ...session.user_keys import UserId, to_user_id
from .. import arguments

CHOICES = "--user NAME, --user-id KEY, --anonymous, --all"


class Command(BaseCommand):
    help = (
        "Ends sessions at once, expired or not, and says how many of which login type. Needs one "
        f"of: {CHOICES}."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--user",
            action="append",
            dest="users",
            metavar="NAME",
            help="The sessions of the user with this login name, also those in which they have "
            "switched to somebody else; may be repeated.",
        )
        parser.add_argument(
            "--user-id",
            action="append",
            dest="user_ids",
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
            metavar="NAME",
            help="With --all: leave the sessions of this user; may be repeated.",
        )
        arguments.add_login_types(parser)
        arguments.add_batch_size(parser, "one step looks at or ends")
        parser.add_argument(
            "--dry-run", action="store_true", help="Only say how many sessions would be ended."
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
        login_types: Any,
        batch_size: int,
        dry_run: bool,
        interactive: bool,
        verbosity: int,
        **options: Any,
    ) -> None:
        arguments.check_batch_size(batch_size)
        names = arguments.choose_login_types(login_types)
        selection = _select(**options)
        managers = {name: UserSessionManager.create(name) for name in names}
        shows_progress = verbosity > 0 and self.stdout.isatty() and sys.stderr.isatty()
        if dry_run:
            ended = {name: selection.count(manager) for name, manager in managers.items()}
        else:
            if options["everything"] and interactive:
                self._ask(selection, managers, arguments.as_list(options["except_users"]))
            ended = dict.fromkeys(names, 0)
            # Twice, since requests go on meanwhile: the first time, a session may have been given a
            # new key, or been switched from one of a login type that was still to come.
            for title in ("{}", "{} again"):
                for name, manager in managers.items():
                    total = selection.count_steps(manager) if shows_progress else 0
                    with tqdm(
                        total=total, desc=title.format(name), unit=" sessions", disable=not total
                    ) as progress:
                        for batch in selection.end(manager, batch_size):
                            ended[name] += batch.ended
                            progress.update(batch.seen)
        if verbosity:
            for name, count in ended.items():
                self.stdout.write(f"{name}: {count} sessions {'would be ' * dry_run}ended.")
            self._warn_of_old_sessions(names)

    def _ask(
        self,
        selection: Selection,
        managers: dict[str, UserSessionManager],
        except_users: Sequence[str],
    ) -> None:
        if not sys.stdin.isatty():
            raise CommandError(
                "Nobody is there to be asked whether all sessions may end: use --no-input."
            )
        counts = (f"{name} {selection.count(manager)}" for name, manager in managers.items())
        but = f" but those of {', '.join(except_users)}" if except_users else ""
        question = (
            f"This ends all sessions{but}: {', '.join(counts)}.\n"
            "Whoever has one of them is logged out: you too, if you work in the admin with one. "
            "Visitors lose what theirs hold, for example their baskets.\n"
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
                f"Sessions that {path!r} still keeps are none of these: they move here when their "
                "old cookie is presented. Run adopt_sessions and then this command again, or take "
                "ADOPT_FROM away."
            )


def _select(
    *,
    users: Any,
    user_ids: Any,
    anonymous: bool,
    everything: bool,
    except_users: Any,
    **options: Any,
) -> Selection:
    """Return whose sessions are to end; all users are looked up before anything ends.

    :raises CommandError: that is not said, is a contradiction, or somebody is unknown
    """
    users, user_ids, except_users = map(arguments.as_list, (users, user_ids, except_users))
    by_user = "--user" if users else "--user-id"
    chosen = {by_user: users or user_ids, "--anonymous": anonymous, "--all": everything}
    given = [option for option, value in chosen.items() if value]
    if not given:
        raise CommandError(f"Say whose sessions to end, with one of: {CHOICES}.")
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
        except (model.DoesNotExist, ValidationError, ValueError):  # or no name could be like that
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
