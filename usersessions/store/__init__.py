"""``SESSION_ENGINE = "usersessions.store"``: ``request.session``, Django's session contract."""

from .session_store import SessionStore
from .state import KeyUse, Written

__all__ = ["KeyUse", "SessionStore", "Written"]
