"""Telling of both ends of a switch: in the log, and by a signal."""

from __future__ import annotations

import logging

from django.contrib.auth import get_user_model
from django.dispatch import Signal
from django.http import HttpRequest

from ..signals import user_switched
from .state import SwitchUsers

logger = logging.getLogger("usersessions.auth")


def announce(
    signal: Signal, request: HttpRequest | None, users: SwitchUsers, login_type: str
) -> None:
    """Log one end of a switch and send its signal.

    :param request: None when the session was used outside of one
    """
    logger.info(
        "%s: user %s behind user %s in a %s session.",
        "Switched" if signal is user_switched else "Switched back",
        getattr(users.original_user, "pk", None),
        getattr(users.target_user, "pk", None),
        login_type,
    )
    signal.send(sender=get_user_model(), request=request, login_type=login_type, **users._asdict())
