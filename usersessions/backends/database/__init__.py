"""Sessions in a table of the database."""

from .backend import DatabaseSessionBackend

__all__ = ["DatabaseSessionBackend"]
