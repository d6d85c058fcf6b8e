"""Who may switch to whom: the default of ``SWITCH_PERMISSION``."""

from __future__ import annotations

from typing import Any

from ..switching.rules import has_more_rights

__all__ = ["has_more_rights", "superusers_may_switch"]


def superusers_may_switch(*, original_user: Any, target_user: Any) -> bool:
    """Allow superusers to switch. A callable of yours has the same arguments.

    It is asked at the switch and again on each request of the switched session, which ends as soon
    as the answer is no. Whatever it answers, nobody can switch to themselves, to an inactive user,
    to a user with more rights, or from a session that is switched already.
    """
    return bool(original_user.is_superuser)
