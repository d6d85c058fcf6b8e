"""``manage.py demo``: from a fresh clone to a running shop."""

from __future__ import annotations

import socket
from argparse import ArgumentTypeError
from typing import Any

from django.conf import settings
from django.contrib.auth.models import Permission, User
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

HOST = "127.0.0.1"

#: What the editor may do, as app label and codename.
EDITOR_PERMISSIONS = [
    ("shop", "view_product"),
    ("shop", "change_product"),
    ("django_usersessions", "view_backendsession"),
    ("django_usersessions", "view_frontendsession"),
]


class Command(BaseCommand):
    help = (
        "Prepare the database and the demo users, and serve the shop on this computer only. "
        "Works only with DEBUG, because the passwords are well known."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--port", type=_port, default=8000, help="Where to serve (default: %(default)s)."
        )
        parser.add_argument(
            "--no-serve", action="store_true", help="Prepare everything, but do not serve."
        )

    def handle(self, *, port: int, no_serve: bool, **options: Any) -> None:
        if not settings.DEBUG:
            raise CommandError(
                "The demo has users with well-known passwords and runs only with DEBUG. "
                "Unset DJANGO_DEBUG, or set it to 1, and start again."
            )
        if not no_serve:
            _refuse_unusable(port)
        call_command("migrate", interactive=False, verbosity=0)
        create_demo_users()
        self.stdout.write(_what_to_open(f"http://{HOST}:{port}"))
        if not no_serve:
            call_command("runserver", f"{HOST}:{port}", use_reloader=False)


def create_demo_users() -> None:
    """Make sure that the demo users exist and can log in with their name as the password.

    Users that exist already keep everything else, such as their rights.
    """
    with transaction.atomic():
        _create_or_let_in("admin", is_staff=True, is_superuser=True)
        editor, is_new = _create_or_let_in("editor", is_staff=True)
        if is_new:
            for app_label, codename in EDITOR_PERMISSIONS:
                editor.user_permissions.add(
                    Permission.objects.get(content_type__app_label=app_label, codename=codename)
                )
        _create_or_let_in("alice")
        _create_or_let_in("bob")


def _create_or_let_in(name: str, **rights: bool) -> tuple[User, bool]:
    user, is_new = User.objects.get_or_create(
        username=name, defaults={"email": f"{name}@example.com", **rights}
    )
    if not user.is_active or not user.check_password(name):
        user.is_active = True
        user.set_password(name)
        user.save()
    return user, is_new


def _what_to_open(site: str) -> str:
    rows = [
        ("OPEN", "LOG IN AS", "PASSWORD", "WHO"),
        (f"{site}/", "alice", "alice", "a customer"),
        (f"{site}/", "bob", "bob", "another customer"),
        (f"{site}/admin/", "admin", "admin", "superuser: sees all sessions, switches user"),
        (f"{site}/admin/", "editor", "editor", "staff: changes products, sees sessions"),
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=False)]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False))
        for row in rows
    )
    return "\n".join(["", *(line.rstrip() for line in lines), ""])


def _port(value: str) -> int:
    """Return the port that the argument names.

    :raises ArgumentTypeError: becomes the command's message
    """
    if not value.isdecimal() or not 1 <= int(value) <= 65535:
        raise ArgumentTypeError(f"must be a whole number from 1 to 65535, not {value!r}.")
    return int(value)


def _refuse_unusable(port: int) -> None:
    """Check the port before anything is printed; runserver would print its address first.

    :raises CommandError: the port is taken, or is not for this user
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As runserver does: otherwise a port is refused for a minute after the demo was stopped.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as exc:
            raise CommandError(
                f"Cannot serve on {HOST}:{port}: {exc.strerror}. "
                f"Choose another port, for example --port {8000 if port != 8000 else 8001}."
            ) from exc
