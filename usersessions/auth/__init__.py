"""Logging in, logging out and switching user, for any login type."""

from .login_types import aget_user, alogin, alogout, get_user, login, logout
from .own_sessions import OwnSession, end_other_sessions, end_own_session, own_sessions
from .switch_user import exit_switch_user, switch_user

__all__ = [
    "OwnSession",
    "aget_user",
    "alogin",
    "alogout",
    "end_other_sessions",
    "end_own_session",
    "exit_switch_user",
    "get_user",
    "login",
    "logout",
    "own_sessions",
    "switch_user",
]
