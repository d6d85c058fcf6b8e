"""Masking credentials in session data that the admin shows."""

from __future__ import annotations

import re
from typing import Any

MASK = "********"

_SECRET_KEY = re.compile(
    r"api|token|key|secret|pass|pwd|signature|hash|credential|authori[sz]ation|auth_?code|oauth|"
    r"bearer|jwt|cookie|session_?id|otp|pin$|pin_?code|cvv|cvc|iban|card",
    re.IGNORECASE,
)

#: A JWT anywhere, a hashed password of Django's, or a long run of hex digits.
_SECRET_VALUE = re.compile(
    r"(?s:.*)eyJ[\w-]+\.[\w-]+\.[\w-]*(?s:.*)|[a-z0-9_]+\$[^$]*\$[^$]+(\$.+)?|[0-9a-fA-F]{32,}"
)


def mask_credentials(value: Any, key: str = "") -> Any:
    """Return a copy of session data in which keys and values that look like credentials are masked.

    Looks into dicts and lists. It is a guess, and masks too much rather than too little.
    """
    if key and _SECRET_KEY.search(key):
        return MASK
    if isinstance(value, dict):
        return {name: mask_credentials(inner, str(name)) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [mask_credentials(inner) for inner in value]
    if isinstance(value, str) and _SECRET_VALUE.fullmatch(value):
        return MASK
    return value
