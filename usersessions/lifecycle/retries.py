"""How often anything is tried again that meets concurrent requests."""

from __future__ import annotations

#: Each attempt is lost to a request that has got further, so that a second or third one mostly
#: succeeds; a storage without locks waits at random in between. Twenty are some seconds of waiting.
ATTEMPTS = 20
