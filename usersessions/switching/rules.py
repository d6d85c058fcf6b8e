"""Who may switch to whom: asked at the switch, and on each request of the switched session."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.utils.translation import gettext as _


def find_refusal(
    *, original_user: Any, target_user: Any, may_switch: Callable[..., bool]
) -> str | None:
    """Return why the original user may not act as the target user; None: they may.

    :param may_switch: the site's ``SWITCH_PERMISSION``; even if it agrees, users cannot switch to
        themselves, to an inactive user or to a user with more rights

    Costs no query where the original user is a superuser, else what comparing permissions costs.
    """
    users = {"original_user": original_user, "target_user": target_user}
    if not original_user.is_authenticated or not original_user.is_active:
        return _("Log in before you switch user.")
    if original_user.pk == target_user.pk:
        return _("You cannot switch to yourself.")
    if not target_user.is_active:
        return _("You cannot switch to a user who is not active.")
    if not may_switch(**users):
        return _("You may not switch user.")
    if has_more_rights(**users):
        return _("You cannot switch to a user with more rights than yours.")
    return None


def has_more_rights(*, original_user: Any, target_user: Any) -> bool:
    """Return whether switching would give the original user rights that they do not have.

    Rights are those to be staff or superuser, and permissions, of the user's own and of groups,
    from every authentication backend; permissions for single objects are not looked at. With
    Django's backend two queries for a target without permissions, four for others.
    """
    if original_user.is_superuser:
        return False
    if target_user.is_superuser or (target_user.is_staff and not original_user.is_staff):
        return True
    permissions = target_user.get_all_permissions()
    return bool(permissions) and not permissions <= original_user.get_all_permissions()
