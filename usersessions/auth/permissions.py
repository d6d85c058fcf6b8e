"""Who may switch to whom: the default of ``SWITCH_PERMISSION``."""

from __future__ import annotations

from typing import Any

from ..switching.rules import has_more_rights

__all__ = ["has_more_rights", "superusers_may_switch"]


def superusers_may_switch(*, original_user: Any, target_user: Any) -> bool:
    """Allow superusers to switch. A callable of your own takes the same arguments.

    It is called at the switch and on each request of the switched session, which ends once the
    result is False. Some switches are refused in any case: to oneself, to an inactive user, to a
    user with more rights, and from a session that is switched already.
    """
    return bool(original_user.is_superuser)
