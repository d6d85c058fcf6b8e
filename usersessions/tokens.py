"""The secrets of a session: its identifier, the hash that is stored, the token in the cookie."""

from __future__ import annotations

import hmac
import json
import re
import secrets
from base64 import urlsafe_b64decode
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import lru_cache

import jwt
from django.conf import settings
from django.utils.crypto import salted_hmac

ALGORITHM = "HS256"

#: No browser keeps a longer cookie; whoever sends one costs us no signature check.
MAX_TOKEN_LENGTH = 4096

_TOKEN = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+){2}")

#: A token as we write it: ``{"alg":"HS256","typ":"JWT"}`` or, as TYPO3, ``typ`` first; a payload;
#: a signature whose last two bits, which base64 carries beyond the 256, are 0. There is one
#: spelling of each token, and nothing to parse in the header, which is the sender's text.
_OUR_TOKEN = re.compile(
    r"(?:eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9|eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9)"
    r"\.[A-Za-z0-9_-]+"
    r"\.[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]"
)

#: All that our tokens, and TYPO3's, say; others may have to be asked whether they are still good.
_CLAIMS = {"identifier", "time", "scope"}
_IDENTIFIER = re.compile(r"[0-9a-f]{32}")


def new_identifier() -> str:
    """Return 32 lowercase hex digits, 128 bits from the system's CSPRNG (ASVS 5.0, 7.2.3)."""
    return secrets.token_hex(16)


def is_identifier(text: object) -> bool:
    return isinstance(text, str) and _IDENTIFIER.fullmatch(text) is not None


def looks_like_token(text: str) -> bool:
    """Return whether a text has the shape of a JWT: three parts of base64url."""
    return _TOKEN.fullmatch(text) is not None


@dataclass(frozen=True)
class Keys:
    """Derives what one login type needs from ``SECRET_KEY``, and from its fallbacks behind it.

    The login type's name goes into every key: a backend token is never a frontend token, and one
    identifier has different hashes in two tables.
    """

    login_type: str

    def ses_ids(self, identifier: str) -> tuple[str, ...]:
        """Return the hashes under which an identifier may be stored, the current one first."""
        return tuple(
            hmac.digest(key, identifier.encode(), "sha256").hex() for key in self._keys("ses_id")
        )

    def adopted_identifiers(self, old_key: str) -> tuple[str, ...]:
        """Return which identifier a session of another engine gets, the current one first."""
        return tuple(
            hmac.digest(key, old_key.encode(), "sha256").hex()[:32] for key in self._keys("adopt")
        )

    def token_keys(self) -> tuple[bytes, ...]:
        """Return the keys of the token's signature, the one that signs first."""
        return self._keys("token")

    def all_keys(self) -> tuple[bytes, ...]:
        """Return everything that is derived here, for those who must not show it."""
        return tuple(key for purpose in ("ses_id", "adopt", "token") for key in self._keys(purpose))

    def _keys(self, purpose: str) -> tuple[bytes, ...]:
        return tuple(
            _derive_key(secret, purpose, self.login_type)
            for secret in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)
        )


@lru_cache(maxsize=128)
def _derive_key(secret: str | bytes, purpose: str, login_type: str) -> bytes:
    return salted_hmac(
        f"usersessions.{purpose}", login_type, secret=secret, algorithm="sha256"
    ).digest()


@dataclass(frozen=True)
class CookieScope:
    """Where a token is good: one login type's keys, a domain, a path.

    Source: TYPO3 ``TYPO3\\CMS\\Core\\Http\\CookieScope``.
    """

    keys: Keys
    domain: str  #: lower case, no port, no leading dot
    host_only: bool  #: whether the cookie is sent to that very host only, not to its subdomains
    path: str = "/"
    allow_scopeless: bool = False  #: accept tokens without any scope (TYPO3 before 12.4.8)

    def sign(self, identifier: str, issued_at: int) -> str:
        """Return the token for an identifier: a JWT (RFC 7519) signed with HS256.

        :param issued_at: Unix seconds; written as RFC 3339, in UTC. For people and logs, as in
            TYPO3: nothing reads it back, the stored session alone says how long it lives
        """
        payload = {
            "identifier": identifier,
            "time": datetime.fromtimestamp(issued_at, timezone.utc).isoformat(),
            "scope": self._claim(),
        }
        return jwt.encode(payload, self.keys.token_keys()[0], algorithm=ALGORITHM)

    def resolve(self, token: str) -> str | None:
        """Return the identifier in a token that was signed for this scope, else None."""
        payload = _verified_payload(token, self.keys.token_keys())
        if payload is None or not self._covers(payload):
            return None
        return _identifier_in(payload)

    def is_current(self, token: str) -> bool:
        """Return whether a token is signed with ``SECRET_KEY`` itself, not with a fallback."""
        return _verified_payload(token, self.keys.token_keys()[:1]) is not None

    def _claim(self) -> dict[str, object]:
        return {"domain": self.domain, "hostOnly": self.host_only, "path": self.path}

    def _covers(self, payload: dict[str, object]) -> bool:
        if "scope" not in payload:
            return self.allow_scopeless
        return payload["scope"] == self._claim()


def resolve_unscoped(token: str, keys: Keys) -> str | None:
    """Return the identifier in a token of any scope, for callers who know no request.

    A token's signature still ties it to its login type.
    """
    payload = _verified_payload(token, keys.token_keys())
    return None if payload is None else _identifier_in(payload)


def _identifier_in(payload: dict[str, object]) -> str | None:
    identifier = payload.get("identifier")
    return identifier if isinstance(identifier, str) and is_identifier(identifier) else None


def _verified_payload(token: str, keys: Sequence[bytes]) -> dict[str, object] | None:
    """Return what a token says, None for any that was not signed with one of the keys.

    A forged one costs at most an HMAC over 4096 bytes for each key, compared in constant time. The
    payload is parsed after that. Its shape leaves nothing open that PyJWT would have to decide, so
    that this is done here; where other claims are in it, PyJWT decides.
    """
    if len(token) > MAX_TOKEN_LENGTH or _OUR_TOKEN.fullmatch(token) is None:
        return None
    signed, _, signature = token.rpartition(".")
    given = urlsafe_b64decode(f"{signature}=")
    for key in keys:
        if hmac.compare_digest(hmac.digest(key, signed.encode(), "sha256"), given):
            return _payload_in(token, key)
    return None


def _payload_in(token: str, key: bytes) -> dict[str, object] | None:
    """Return what a token says whose signature is right."""
    encoded = token.split(".")[1]
    try:
        payload = json.loads(urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)))
        if isinstance(payload, dict) and payload.keys() <= _CLAIMS:
            return payload
        return dict(jwt.decode(token, key, algorithms=[ALGORITHM]))
    except (jwt.PyJWTError, ValueError, TypeError, ArithmeticError, RecursionError):
        # Another part of the site may have signed anything with the same key: what a decoder
        # stumbles over (``exp`` as a list, thousands of brackets) is no token of ours.
        return None
