"""``SESSION_ENGINE = "usersessions.store"``: ``request.session``, Django's session contract."""

from .session_store import SessionStore

__all__ = ["SessionStore"]
