"""How far a request has gone with its session."""

from __future__ import annotations

from enum import Enum


class KeyUse(Enum):
    """Who may know the key of the session."""

    FREE = "no code, until the session is stored"
    CLAIMED = "the view: saving must store the session under this key"
    CREATED = "the view, since create() stored the session: it stays although it is empty"


class Written(Enum):
    """What this request has stored of the session."""

    NOTHING = "nothing"
    TOUCH = "that it is in use"
    DATA = "its data"
