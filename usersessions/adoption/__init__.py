"""Taking over the sessions of the engine that a site had before, so that nobody is logged out."""

from .adopter import adopt_old_session, presents_old_cookie
from .engines import get_old_engine

__all__ = ["adopt_old_session", "get_old_engine", "presents_old_cookie"]
