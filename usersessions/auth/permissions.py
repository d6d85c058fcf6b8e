"""Who may switch to whom: the default of ``SWITCH_PERMISSION``."""

from __future__ import annotations

from typing import Any


def superusers_may_switch(*, original_user: Any, target_user: Any) -> bool:
    """Allow superusers to switch. A callable of yours has the same arguments.

    Whatever it answers, nobody can switch to themselves, to an inactive user, to a user with more
    rights, or from a session that is switched already.
    """
    return bool(original_user.is_superuser)


def has_more_rights(*, original_user: Any, target_user: Any) -> bool:
    """Return whether switching would give the original user rights that they do not have."""
    if original_user.is_superuser:
        return False
    if target_user.is_superuser or (target_user.is_staff and not original_user.is_staff):
        return True
    return not target_user.get_all_permissions() <= original_user.get_all_permissions()
