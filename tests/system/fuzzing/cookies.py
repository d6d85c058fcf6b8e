"""Cookie headers that are nearly right."""

from __future__ import annotations

import hmac
import json
from base64 import urlsafe_b64encode
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

from tests.system.fuzzing.corpus import COOKIES
from tests.system.fuzzing.site import CLAIM, IDENTIFIER, SCOPES
from usersessions.session.tokens import Keys

HEADER = {"alg": "HS256", "typ": "JWT"}

#: What each value of a token is exchanged for.
ODD_VALUES: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    2**64,
    1.5,
    float("inf"),
    "",
    "none",
    "HS512",
    "/",
    "\0",
    "é",
    "\U0001f36a",
    "'\"\\;,",
    IDENTIFIER.upper(),
    IDENTIFIER + "0",
    [],
    {},
    [IDENTIFIER],
    {"identifier": IDENTIFIER},
    [[[[[[]]]]]],
    CLAIM,
]
ODD_BYTES = [b"", b".", b"..", b";", b"; ", b"=", b'"', b"\\", b"%2E", b"\0", b"\n", b"\xff", b"A"]


def cookie_header(random: Random) -> bytes:
    """Return a Cookie header: noise, an edited genuine one, or one made of wrong parts."""
    return random.choice(_WAYS)(random)


def genuine(random: Random) -> bytes:
    """Return a token that the site has signed, mostly for here."""
    scope = random.choice(list(SCOPES.values()))
    elsewhere = [
        scope,
        scope,
        replace(scope, domain="other.example"),
        replace(scope, domain="www.shop.example"),
        replace(scope, host_only=False),
        replace(scope, path="/shop/"),
        replace(scope, keys=Keys("SHOP")),
    ]
    return random.choice(elsewhere).sign(f"{random.getrandbits(128):032x}", 0).encode()


def noise(random: Random) -> bytes:
    return _named(random, random.randbytes(random.randrange(200)))


def noise_that_looks_like_a_token(random: Random) -> bytes:
    letters = [urlsafe_b64encode(random.randbytes(random.randrange(120))) for _ in range(3)]
    return _named(random, b".".join(part.rstrip(b"=") for part in letters))


def edited(random: Random) -> bytes:
    """Return a genuine cookie, or one of the corpus, after a few small changes."""
    text = random.choice(COOKIES) if random.random() < 0.3 else _named(random, genuine(random))
    for _ in range(random.randint(1, 4)):
        text = _edit(random, text)
    return text


def spliced(random: Random) -> bytes:
    """Return parts of two genuine tokens as one."""
    one, other = genuine(random).split(b"."), genuine(random).split(b".")
    parts = [random.choice(pair) for pair in zip(one, other, strict=True)]
    return _named(random, b".".join(parts)) if parts != one else edited(random)


def forged(random: Random) -> bytes:
    """Return a well-made token with a wrong key, a wrong header or a wrong payload, or all."""
    scope = random.choice(list(SCOPES.values()))
    header: Any = dict(HEADER)
    payload: Any = {"identifier": IDENTIFIER, "time": "2025-01-01T00:00:00+00:00", "scope": CLAIM}
    key = random.choice([*scope.keys.token_keys(), b"", b"secret", Keys("SHOP").token_keys()[0]])
    for part in random.sample([header, payload, payload], random.randint(0, 2)):
        part[random.choice([*part, "exp", "nbf", "aud", "kid", "crit", "b64"])] = random.choice(
            ODD_VALUES
        )
    if random.random() < 0.2:
        payload = random.choice([*ODD_VALUES, [payload]])
    texts = [json.dumps(part, separators=(",", ":")).encode() for part in (header, payload)]
    if random.random() < 0.2:
        texts[1] = _edit(random, texts[1])
    signed = b".".join(urlsafe_b64encode(text).rstrip(b"=") for text in texts)
    digest = random.choice(["sha256", "sha256", "sha256", "sha384", "sha512", "md5"])
    mac = urlsafe_b64encode(hmac.digest(key, signed, digest)).rstrip(b"=")
    return _named(random, signed + b"." + random.choice([mac, mac, mac, b""]))


def oversized(random: Random) -> bytes:
    token = genuine(random)
    place = random.randrange(len(token))
    middle = random.choice([b"A", b".", b"=", b"%", token]) * random.randint(1, 1000)
    return _named(random, token[:place] + middle + token[place:])


def several(random: Random) -> bytes:
    """Return a header of more cookies than one, of the same name too."""
    ways = [noise, noise_that_looks_like_a_token, edited, spliced, forged]
    headers = [random.choice(ways)(random) for _ in range(random.randint(2, 5))]
    return random.choice([b"; ", b";", b",", b" "]).join(headers)


_WAYS: list[Callable[[Random], bytes]] = [
    noise,
    noise_that_looks_like_a_token,
    edited,
    edited,
    edited,
    spliced,
    forged,
    forged,
    oversized,
    several,
]


def _named(random: Random, value: bytes) -> bytes:
    return random.choice(list(SCOPES)).encode() + b"=" + value


def _edit(random: Random, text: bytes) -> bytes:
    start = random.randrange(len(text) + 1)
    end = min(len(text), start + random.choice([0, 1, 1, 2, 8, 40]))
    middle = random.choice(
        [
            b"",
            random.randbytes(end - start),
            bytes(octet ^ (1 << random.randrange(8)) for octet in text[start:end]),
            text[start:end] * 2,
            text[start:end].swapcase(),
            random.choice(ODD_BYTES),
        ]
    )
    return text[:start] + middle + text[end:]
