"""Pages for sites to include: confirming a login, one's own sessions, switching user."""

from .confirm_password import ConfirmPasswordView
from .own_sessions import OwnSessionsView
from .switch_user import exit_switch_user, switch_user

__all__ = ["ConfirmPasswordView", "OwnSessionsView", "exit_switch_user", "switch_user"]
