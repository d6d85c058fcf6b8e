"""Adopting the sessions of a site's previous engine, so that users stay logged in."""

from .adopter import adopt_old_session, presents_old_cookie
from .engines import get_old_engine

__all__ = ["adopt_old_session", "get_old_engine", "presents_old_cookie"]
