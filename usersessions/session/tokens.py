"""The secrets of a session: its identifier, the hash that is stored, the token in the cookie."""

from __future__ import annotations

import hmac
import json
import re
import secrets
from base64 import urlsafe_b64encode
from binascii import a2b_base64
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cached_property, lru_cache

import jwt
from django.conf import settings
from django.core.signals import setting_changed
from django.utils.crypto import salted_hmac

ALGORITHM = "HS256"

#: No browser keeps a longer cookie, so a longer one is not worth a signature check.
MAX_TOKEN_LENGTH = 4096

#: How many characters Django demands of a session key.
SHORTEST_KEY = 8

_TOKEN = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+){2}")

#: ``{"alg":"HS256","typ":"JWT"}``, and what TYPO3 writes, with ``typ`` first.
_HEADER = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9"
_TYPO3_HEADER = "eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9"

#: A token as we write it, or TYPO3: the header; a payload; a signature whose last two bits, which
#: base64 carries beyond the 256, are 0. So each token has one spelling, and the header, which is
#: the sender's text, is never parsed.
_OUR_TOKEN = re.compile(
    rf"(?:{_HEADER}|{_TYPO3_HEADER})"
    r"\.([A-Za-z0-9_-]+)"
    r"\.([A-Za-z0-9_-]{42}[AEIMQUYcgkosw048])"
)

#: The claims of our tokens and TYPO3's. A token with others, such as ``exp``, is PyJWT's to check.
_CLAIMS = {"identifier", "time", "scope"}

#: From base64url to what the standard library decodes.
_TO_BASE64 = bytes.maketrans(b"-_", b"+/")

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
        digested = identifier.encode()
        keys = _derive_keys("ses_id", self.login_type)
        return tuple([hmac.digest(key, digested, "sha256").hex() for key in keys])

    def adopted_identifiers(self, old_key: str) -> tuple[str, ...]:
        """Return which identifier a session of another engine gets, the current one first."""
        return tuple(
            hmac.digest(key, old_key.encode(), "sha256").hex()[:32]
            for key in _derive_keys("adopt", self.login_type)
        )

    def token_keys(self) -> tuple[bytes, ...]:
        """Return the keys of the token's signature, the one that signs first."""
        return _derive_keys("token", self.login_type)

    def all_keys(self) -> tuple[bytes, ...]:
        """Return every derived key, for code that must not show any."""
        purposes = ("ses_id", "adopt", "token")
        return tuple(key for purpose in purposes for key in _derive_keys(purpose, self.login_type))


@lru_cache  # cleared when Django's test helpers change SECRET_KEY; no other code may change it
def _derive_keys(purpose: str, login_type: str) -> tuple[bytes, ...]:
    return tuple(
        salted_hmac(
            f"usersessions.{purpose}", login_type, secret=secret, algorithm="sha256"
        ).digest()
        for secret in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)
    )


def _reset(*, setting: str, **_: object) -> None:
    if setting.startswith("SECRET_KEY"):
        _derive_keys.cache_clear()


setting_changed.connect(_reset, dispatch_uid="usersessions.session.tokens")


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
        time = datetime.fromtimestamp(issued_at, timezone.utc).isoformat()
        signed = f"{_HEADER}.{_encoded(self._payload(identifier, time).encode())}"
        signature = hmac.digest(self.keys.token_keys()[0], signed.encode(), "sha256")
        return f"{signed}.{_encoded(signature)}"

    def resolve(self, token: str) -> str | None:
        """Return the identifier in a token that was signed for this scope, else None."""
        verified = _verify(token, self.keys.token_keys())
        if verified is None:
            return None
        if as_signed := self._as_signed.fullmatch(verified[0]):
            return as_signed[1].decode()
        payload = _parse(token, *verified)
        if payload is None or not self._covers(payload):
            return None
        return _identifier_in(payload)

    def is_current(self, token: str) -> bool:
        """Return whether a token is signed with ``SECRET_KEY`` itself, not with a fallback."""
        return _verified_payload(token, self.keys.token_keys()[:1]) is not None

    def _payload(self, identifier: str, time: str) -> str:
        claims = {"identifier": identifier, "time": time, "scope": self._claim}
        return json.dumps(claims, separators=(",", ":"))

    @cached_property
    def _as_signed(self) -> re.Pattern[bytes]:
        """What ``sign()`` writes for this scope: parsing it would tell nothing new."""
        text = re.escape(self._payload("IDENTIFIER", "TIME"))
        text = text.replace("IDENTIFIER", "([0-9a-f]{32})", 1).replace("TIME", "[0-9:T+-]+", 1)
        return re.compile(text.encode())

    @cached_property
    def _claim(self) -> dict[str, object]:
        return {"domain": self.domain, "hostOnly": self.host_only, "path": self.path}

    def _covers(self, payload: dict[str, object]) -> bool:
        if "scope" not in payload:
            return self.allow_scopeless
        return payload["scope"] == self._claim


def resolve_key(key_or_token: str | None, keys: Keys) -> str | None:
    """Return the identifier that a caller of ``SessionStore`` means; None: it can be no key.

    :param key_or_token: an identifier, a token of any scope, or another text of at least 8
        characters, which Django takes for a key too, although nothing may be stored under it
    """
    if not key_or_token or is_identifier(key_or_token):
        return key_or_token or None
    if looks_like_token(key_or_token):
        return resolve_unscoped(key_or_token, keys)
    return key_or_token if len(key_or_token) >= SHORTEST_KEY else None


def resolve_unscoped(token: str, keys: Keys) -> str | None:
    """Return the identifier in a token of any scope, for callers without a request.

    A token's signature still ties it to its login type.
    """
    payload = _verified_payload(token, keys.token_keys())
    return None if payload is None else _identifier_in(payload)


def _identifier_in(payload: dict[str, object]) -> str | None:
    identifier = payload.get("identifier")
    return identifier if isinstance(identifier, str) and is_identifier(identifier) else None


def _encoded(part: bytes) -> str:
    """Return a part of a token as base64url without padding (RFC 7515, section 2)."""
    return urlsafe_b64encode(part).rstrip(b"=").decode()


def _decoded(part: str) -> bytes:
    # More padding than needed does no harm, and the standard library's urlsafe_b64decode() takes
    # four calls of its own.
    return a2b_base64(part.encode().translate(_TO_BASE64) + b"==")


def _verify(token: str, keys: Sequence[bytes]) -> tuple[bytes, bytes] | None:
    """Return what a token says, unread, and the key that signed it; None if none of the keys did.

    A forged one costs at most an HMAC over 4096 bytes for each key, compared in constant time.
    """
    if len(token) > MAX_TOKEN_LENGTH or (parts := _OUR_TOKEN.fullmatch(token)) is None:
        return None
    signed = token[: parts.end(1)].encode()
    given = _decoded(parts[2])
    for key in keys:
        if hmac.compare_digest(hmac.digest(key, signed, "sha256"), given):
            try:
                return _decoded(parts[1]), key
            except ValueError:  # of a length that no bytes have
                return None
    return None


def _verified_payload(token: str, keys: Sequence[bytes]) -> dict[str, object] | None:
    """Return what a token says, None for any that was not signed with one of the keys."""
    verified = _verify(token, keys)
    return None if verified is None else _parse(token, *verified)


def _parse(token: str, payload: bytes, key: bytes) -> dict[str, object] | None:
    """Return what a token says whose signature is right.

    Its shape leaves nothing open that PyJWT would have to decide, so that this is done here; where
    other claims are in it, PyJWT decides.
    """
    try:
        claims = json.loads(payload.decode())
        if isinstance(claims, dict) and claims.keys() <= _CLAIMS:
            return claims
        return dict(jwt.decode(token, key, algorithms=[ALGORITHM]))
    except (jwt.PyJWTError, ValueError, TypeError, ArithmeticError, RecursionError):
        # Another part of the site may have signed anything with the same key: what a decoder
        # stumbles over (``exp`` as a list, thousands of brackets) is no token of ours.
        return None
