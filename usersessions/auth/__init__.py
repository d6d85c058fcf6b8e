"""Logging in and out, confirming a login and switching user, for any login type."""

from .login import aget_user, alogin, alogout, get_user, login, logout
from .own_sessions import OwnSession, end_other_sessions, end_own_session, own_sessions
from .recent_login import (
    RecentLoginRequiredMixin,
    aconfirm_login,
    confirm_login,
    is_login_recent,
    recent_login_required,
)
from .switch_user import exit_switch_user, switch_user

__all__ = [
    "OwnSession",
    "RecentLoginRequiredMixin",
    "aconfirm_login",
    "aget_user",
    "alogin",
    "alogout",
    "confirm_login",
    "end_other_sessions",
    "end_own_session",
    "exit_switch_user",
    "get_user",
    "is_login_recent",
    "login",
    "logout",
    "own_sessions",
    "recent_login_required",
    "switch_user",
]
