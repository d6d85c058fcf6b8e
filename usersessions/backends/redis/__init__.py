"""Sessions in Redis or Valkey; needs the extra ``redis``."""

from .backend import RedisSessionBackend

__all__ = ["RedisSessionBackend"]
