"""Identifiers, their hashes, and cookie tokens: good ones, and all that might pass for one."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from dataclasses import replace
from typing import Any

import jwt
import pytest
from hypothesis import assume, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.factories import NOW
from usersessions import CookieScope
from usersessions.session.tokens import (
    Keys,
    _verified_payload,
    is_identifier,
    new_identifier,
    resolve_unscoped,
)

IDENTIFIER = "0123456789abcdef" * 2
SCOPE = CookieScope(Keys("FE"), "shop.example", host_only=True)
CLAIM = {"domain": "shop.example", "hostOnly": True, "path": "/"}
HEADER = {"alg": "HS256", "typ": "JWT"}
PAYLOAD = {"identifier": IDENTIFIER, "time": "2025-01-01T00:00:00+00:00", "scope": CLAIM}


@pytest.fixture(autouse=True)
def _current_key(settings: Any) -> None:
    settings.SECRET_KEY = "current"
    settings.SECRET_KEY_FALLBACKS = []


def a_token() -> str:
    return SCOPE.sign(IDENTIFIER, NOW)


def encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def forge(header: Any, payload: Any, key: bytes | None = None, digest: str = "sha256") -> str:
    """Return a token made by hand, with the site's own key unless told another one.

    Header and payload that are text are taken as they are.
    """
    parts = [
        part if isinstance(part, str) else json.dumps(part, separators=(",", ":"))
        for part in (header, payload)
    ]
    signed = ".".join(encode(part.encode()) for part in parts)
    key = SCOPE.keys.token_keys()[0] if key is None else key
    return f"{signed}.{encode(hmac.digest(key, signed.encode(), digest))}"


# Identifiers


def test_new_identifier_is_32_lowercase_hex_digits() -> None:
    assert all(is_identifier(new_identifier()) for _ in range(100))


def test_new_identifiers_differ() -> None:
    """Attack: guessing the identifier that the next visitor gets."""
    assert len({new_identifier() for _ in range(1000)}) == 1000


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        pytest.param("0123456789abcdef" * 2, True, id="32-hex-digits"),
        pytest.param("0" * 31, False, id="too-short"),
        pytest.param("0" * 33, False, id="too-long"),
        pytest.param("", False, id="empty"),
        pytest.param("A" * 32, False, id="upper-case"),
        pytest.param("g" * 32, False, id="no-hex"),
        pytest.param("0" * 32 + "\n", False, id="line-break"),
        pytest.param("٣" * 32, False, id="arabic-digits"),
        pytest.param(None, False, id="none"),
        pytest.param(b"0" * 32, False, id="bytes"),
        pytest.param(10**31, False, id="number"),
    ],
)
def test_identifier_is_told_from_other_text(text: object, is_one: bool) -> None:
    assert is_identifier(text) is is_one


# Hashes


def test_hash_is_the_one_that_is_in_the_tables_of_all_sites() -> None:
    """Another formula would log everybody out who updates."""
    assert Keys("FE").ses_ids(IDENTIFIER) == (
        "77f9a1e2e1a1af9dc00b4497c1ebb80b4266ad7c62bfd553a2448a3499ec9966",
    )


def test_hash_follows_the_documented_formula() -> None:
    key_of_salt = hashlib.sha256(b"usersessions.ses_id" + b"current").digest()
    key = hmac.digest(key_of_salt, b"FE", "sha256")
    expected = hmac.digest(key, IDENTIFIER.encode(), "sha256").hex()
    assert Keys("FE").ses_ids(IDENTIFIER) == (expected,)


def test_hashes_of_two_login_types_differ() -> None:
    """Attack: a visitor who writes a row of one table into the other."""
    assert Keys("FE").ses_ids(IDENTIFIER) != Keys("BE").ses_ids(IDENTIFIER)


def test_hashes_under_all_keys_come_with_the_current_one_first(settings: Any) -> None:
    settings.SECRET_KEY = "old"
    [old] = Keys("FE").ses_ids(IDENTIFIER)
    settings.SECRET_KEY = "older"
    [older] = Keys("FE").ses_ids(IDENTIFIER)
    settings.SECRET_KEY = "current"
    [current] = Keys("FE").ses_ids(IDENTIFIER)
    settings.SECRET_KEY_FALLBACKS = ["old", "older"]
    assert Keys("FE").ses_ids(IDENTIFIER) == (current, old, older)


def test_keys_of_tokens_and_hashes_differ() -> None:
    """Attack: a signature that is asked for to learn a hash, or the other way round."""
    [key] = Keys("FE").token_keys()
    assert (
        Keys("FE").ses_ids(IDENTIFIER)[0] != hmac.digest(key, IDENTIFIER.encode(), "sha256").hex()
    )


def test_secret_key_of_bytes_is_as_good_as_text(settings: Any) -> None:
    as_text = Keys("FE").ses_ids(IDENTIFIER)
    settings.SECRET_KEY = b"current"
    assert Keys("FE").ses_ids(IDENTIFIER) == as_text


# Tokens that are good


def test_token_says_identifier_time_and_scope() -> None:
    header, payload, _ = a_token().split(".")
    assert json.loads(decode(header)) == {"alg": "HS256", "typ": "JWT"}
    assert json.loads(decode(payload)) == {
        "identifier": IDENTIFIER,
        "time": "2025-01-01T00:00:00+00:00",
        "scope": {"domain": "shop.example", "hostOnly": True, "path": "/"},
    }


def test_token_is_signed_with_hs256() -> None:
    signed, _, signature = a_token().rpartition(".")
    [key] = Keys("FE").token_keys()
    assert decode(signature) == hmac.digest(key, signed.encode(), "sha256")


def test_token_made_by_hand_is_as_good() -> None:
    """What the tests below vary is otherwise good."""
    assert SCOPE.resolve(forge(HEADER, PAYLOAD)) == IDENTIFIER


def test_token_whose_header_is_typo3s_is_as_good() -> None:
    assert SCOPE.resolve(forge({"typ": "JWT", "alg": "HS256"}, PAYLOAD)) == IDENTIFIER


def test_old_token_is_good_as_long_as_its_session() -> None:
    assert SCOPE.resolve(SCOPE.sign(IDENTIFIER, 0)) == IDENTIFIER


@pytest.mark.parametrize("time", ["yesterday", "", None, 5, ["2025"], {}])
def test_time_is_for_people_and_decides_nothing(time: Any) -> None:
    assert SCOPE.resolve(forge(HEADER, {**PAYLOAD, "time": time})) == IDENTIFIER


def test_token_without_time_is_good() -> None:
    assert SCOPE.resolve(forge(HEADER, {"identifier": IDENTIFIER, "scope": CLAIM})) == IDENTIFIER


# Scope


@pytest.mark.parametrize(
    "scope",
    [
        pytest.param(replace(SCOPE, domain="evil.example"), id="other-host"),
        pytest.param(replace(SCOPE, domain="www.shop.example"), id="subdomain"),
        pytest.param(replace(SCOPE, domain="example"), id="parent-domain"),
        pytest.param(replace(SCOPE, domain=""), id="no-domain"),
        pytest.param(replace(SCOPE, host_only=False), id="not-host-only"),
        pytest.param(replace(SCOPE, path="/shop/"), id="other-path"),
        pytest.param(replace(SCOPE, keys=Keys("BE")), id="other-login-type"),
        pytest.param(
            replace(SCOPE, domain="evil.example", allow_scopeless=True), id="scopeless-allowed"
        ),
    ],
)
def test_token_is_good_in_its_own_scope_only(scope: CookieScope) -> None:
    """Attack: a cookie of one site, path or login type, moved to another that has the same key."""
    assert scope.resolve(a_token()) is None


def test_backend_token_is_never_a_frontend_token() -> None:
    """Attack: a customer's cookie under the name of the staff's, and the other way round."""
    backend = replace(SCOPE, keys=Keys("BE"))
    assert SCOPE.resolve(backend.sign(IDENTIFIER, NOW)) is None
    assert backend.resolve(backend.sign(IDENTIFIER, NOW)) == IDENTIFIER


WITHOUT_SCOPE = {"identifier": IDENTIFIER, "time": "2025-01-01T00:00:00+00:00"}


@pytest.mark.parametrize(("is_allowed", "expected"), [(False, None), (True, IDENTIFIER)])
def test_token_without_scope_is_good_only_where_allowed(
    is_allowed: bool, expected: str | None
) -> None:
    """Attack: a cookie from before scopes, moved to another site."""
    scope = replace(SCOPE, allow_scopeless=is_allowed)
    assert scope.resolve(forge(HEADER, WITHOUT_SCOPE)) == expected


@pytest.mark.parametrize("is_allowed", [False, True])
@pytest.mark.parametrize(
    "claim",
    [
        pytest.param(None, id="null"),
        pytest.param({}, id="empty"),
        pytest.param("shop.example", id="text"),
        pytest.param([CLAIM], id="list"),
        pytest.param({"domain": "shop.example", "path": "/"}, id="part-is-missing"),
        pytest.param({**CLAIM, "domain": ["shop.example"]}, id="domain-as-list"),
        pytest.param({**CLAIM, "hostOnly": "true"}, id="host-only-as-text"),
        pytest.param({**CLAIM, "port": 80}, id="part-too-many"),
        pytest.param({**CLAIM, "domain": "SHOP.example"}, id="domain-in-capitals"),
        pytest.param({**CLAIM, "domain": "shop.example."}, id="domain-with-dot"),
        pytest.param({**CLAIM, "domain": "shop.example:443"}, id="domain-with-port"),
        pytest.param({**CLAIM, "path": "/."}, id="path-spelt-otherwise"),
        pytest.param({**CLAIM, "path": ""}, id="no-path"),
    ],
)
def test_token_whose_scope_is_something_else_is_refused(claim: Any, is_allowed: bool) -> None:
    scope = replace(SCOPE, allow_scopeless=is_allowed)
    assert scope.resolve(forge(HEADER, {**PAYLOAD, "scope": claim})) is None


def test_token_of_any_scope_is_resolved_where_no_request_is_known() -> None:
    token = replace(SCOPE, domain="any.example", path="/x/").sign(IDENTIFIER, NOW)
    assert resolve_unscoped(token, Keys("FE")) == IDENTIFIER


@pytest.mark.parametrize(
    "token",
    [
        pytest.param(lambda: replace(SCOPE, keys=Keys("BE")).sign(IDENTIFIER, NOW), id="backend's"),
        pytest.param(lambda: forge(HEADER, {"scope": CLAIM}), id="without-identifier"),
        pytest.param(lambda: forge(HEADER, PAYLOAD, b"guessed"), id="other-key"),
        pytest.param(lambda: IDENTIFIER, id="identifier"),
        pytest.param(lambda: "", id="empty"),
    ],
)
def test_no_scope_does_not_mean_any_token(token: Any) -> None:
    """Attack: a forged cookie, handed to code that takes a session key."""
    assert resolve_unscoped(token(), Keys("FE")) is None


# Signature


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "nOnE", ""])
def test_unsigned_token_is_refused(algorithm: str) -> None:
    """Attack: ``alg: none`` (RFC 8725, 2.1): a token that says it needs no signature."""
    header = {**HEADER, "alg": algorithm}
    signed = forge(header, PAYLOAD)
    unsigned = signed[: signed.rindex(".") + 1]
    assert SCOPE.resolve(signed) is None
    assert SCOPE.resolve(unsigned) is None
    assert SCOPE.resolve(unsigned[:-1]) is None


@pytest.mark.parametrize(("algorithm", "digest"), [("HS384", "sha384"), ("HS512", "sha512")])
def test_token_with_another_algorithm_is_refused(algorithm: str, digest: str) -> None:
    token = forge({**HEADER, "alg": algorithm}, PAYLOAD, digest=digest)
    assert SCOPE.resolve(token) is None


@pytest.mark.parametrize(
    "header",
    [
        pytest.param({"typ": "JWT", "alg": ["HS256"]}, id="alg-list"),
        pytest.param({"typ": "JWT", "alg": {"HS256": 1}}, id="alg-object"),
        pytest.param({"typ": "JWT", "alg": 256}, id="alg-number"),
        pytest.param({"typ": "JWT", "alg": None}, id="alg-null"),
        pytest.param({"typ": "JWT", "alg": "hs256"}, id="alg-lower-case"),
        pytest.param({"typ": "JWT", "alg": "RS256"}, id="alg-of-public-keys"),
        pytest.param({"typ": "JWT"}, id="no-alg"),
        pytest.param({**HEADER, "kid": ["x"]}, id="kid-list"),
        pytest.param({**HEADER, "crit": ["x"]}, id="unknown-critical-extension"),
        pytest.param({**HEADER, "b64": False}, id="detached-payload"),
        pytest.param(["HS256"], id="list"),
        pytest.param("HS256", id="text"),
        pytest.param(256, id="number"),
        pytest.param(None, id="null"),
        pytest.param('"', id="no-json"),
        pytest.param("[" * 2500, id="deeply-nested-list"),
        pytest.param('{"alg":' * 400, id="deeply-nested-object"),
        pytest.param('{"alg":"HS256","x":' + "9" * 2500 + "}", id="huge-number-of-the-right-key"),
    ],
)
def test_header_is_the_senders_text_until_the_signature_is_checked(header: Any) -> None:
    """Attack: a header that the decoder stumbles over; in TYPO3 ``"alg": ["HS256"]`` is an error
    page for any client."""
    assert SCOPE.resolve(forge(header, PAYLOAD, b"guessed")) is None


EXTENDED_HEADERS = [
    pytest.param({**HEADER, "kid": "0"}, id="kid"),
    pytest.param({**HEADER, "jku": "https://evil.example/keys"}, id="jku"),
    pytest.param({**HEADER, "jwk": {"kty": "oct", "k": "AAAA"}}, id="jwk"),
    pytest.param({**HEADER, "x5u": "https://evil.example/certificate"}, id="x5u"),
    pytest.param({**HEADER, "x5c": ["AAAA"]}, id="x5c"),
    pytest.param({**HEADER, "zip": "DEF"}, id="zip"),
    pytest.param({**HEADER, "cty": "JWT"}, id="cty"),
    pytest.param({**HEADER, "typ": "JOSE"}, id="other-typ"),
    pytest.param({**HEADER, "crit": ["exp"], "exp": 0}, id="crit"),
    pytest.param({**HEADER, "crit": ["b64"], "b64": True}, id="crit-that-pyjwt-knows"),
    pytest.param({**HEADER, "b64": False}, id="b64"),
    pytest.param({"alg": "HS256"}, id="no-typ"),
    pytest.param('{"alg":"none","alg":"HS256","typ":"JWT"}', id="two-algs"),
    pytest.param('{"alg":"HS256","typ":"JWT","alg":"HS256"}', id="alg-twice"),
    pytest.param('{"alg": "HS256", "typ": "JWT"}', id="spaces"),
    pytest.param('{"\\u0061lg":"HS256","typ":"JWT"}', id="escapes"),
    pytest.param('\ufeff{"alg":"HS256","typ":"JWT"}', id="byte-order-mark"),
]


@pytest.mark.parametrize("header", EXTENDED_HEADERS)
def test_token_with_any_other_header_is_refused_though_the_signature_is_right(header: Any) -> None:
    """Attack: header parameters that name a key, a compression or an extension of the attacker's
    choice (RFC 8725, 3.10). We sign two headers, byte for byte; no other is even parsed."""
    assert SCOPE.resolve(forge(header, PAYLOAD)) is None


@pytest.mark.parametrize("key", [b"guessed", b"", b"current"])
def test_token_signed_with_another_key_is_refused(key: bytes) -> None:
    """Attack: a forged cookie. Not even SECRET_KEY itself signs tokens."""
    assert SCOPE.resolve(forge(HEADER, PAYLOAD, key)) is None


def test_token_of_another_site_is_refused(settings: Any) -> None:
    token = a_token()
    settings.SECRET_KEY = "another site's"
    assert SCOPE.resolve(token) is None


def test_every_cut_off_token_is_refused() -> None:
    token = a_token()
    assert [SCOPE.resolve(token[:length]) for length in range(len(token))] == [None] * len(token)


BASE64URL = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def test_signature_has_one_spelling(macs: list[int]) -> None:
    """Attack: the two bits at the end of the signature's base64 that mean nothing. PyJWT 2.10 takes
    all four spellings; a list of cookies that are no longer good would miss three of them."""
    token = a_token()
    macs.clear()
    place = BASE64URL.index(token[-1])
    assert place % 4 == 0
    others = [token[:-1] + BASE64URL[place + bits] for bits in (1, 2, 3)]
    assert len({decode(other.rpartition(".")[2]) for other in (token, *others)}) == 1
    assert [SCOPE.resolve(other) for other in others] == [None] * 3
    assert macs == []


def test_every_token_with_a_bit_flipped_is_refused() -> None:
    """Attack: an edited cookie."""
    token = a_token().encode()
    flipped = [
        (token[:place] + bytes([token[place] ^ bit]) + token[place + 1 :]).decode("latin-1")
        for place in range(len(token))
        for bit in (1, 2, 4, 8, 16, 32, 64, 128)
    ]
    assert [text for text in flipped if SCOPE.resolve(text) is not None] == []


def test_every_token_of_two_spliced_ones_is_refused() -> None:
    """Attack: payload of one genuine cookie, signature of another."""
    one, other = SCOPE.sign("0" * 32, NOW), SCOPE.sign("1" * 32, NOW)
    spliced = {one[:place] + other[place:] for place in range(len(one))} - {one, other}
    assert spliced
    assert [text for text in spliced if SCOPE.resolve(text) is not None] == []


# What a bad token costs


@pytest.fixture
def macs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many bytes each HMAC was computed over."""
    lengths: list[int] = []
    digest = hmac.digest

    def count_and_digest(key: bytes, message: bytes, name: str) -> bytes:
        lengths.append(len(message))
        return digest(key, message, name)

    monkeypatch.setattr(hmac, "digest", count_and_digest)
    return lengths


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What was parsed as JSON."""
    texts: list[Any] = []
    loads = json.loads

    def note_and_load(text: Any, *args: Any, **kwargs: Any) -> Any:
        texts.append(text)
        return loads(text, *args, **kwargs)

    monkeypatch.setattr(json, "loads", note_and_load)
    return texts


@pytest.mark.parametrize(
    "token",
    [
        pytest.param(lambda: "a" * 100_000, id="oversized"),
        pytest.param(lambda: padded(4098), id="oversized-and-signed"),
        pytest.param(lambda: forge({**HEADER, "alg": "none"}, PAYLOAD), id="alg-none"),
        pytest.param(lambda: forge({**HEADER, "alg": ["HS256"]}, PAYLOAD), id="alg-list"),
        pytest.param(lambda: forge("[" * 2500, PAYLOAD), id="deep-header"),
        pytest.param(lambda: forge({**HEADER, "kid": "k" * 2500}, PAYLOAD), id="long-header"),
        pytest.param(lambda: a_token()[:-1], id="cut-off"),
        pytest.param(lambda: a_token() + "A", id="longer-signature"),
        pytest.param(lambda: a_token() + "=", id="padding"),
    ],
)
def test_token_of_another_shape_costs_neither_hmac_nor_json(
    settings: Any, macs: list[int], parsed: list[Any], token: Any
) -> None:
    """Attack: many expensive cookies, to keep the site busy."""
    settings.SECRET_KEY_FALLBACKS = ["older", "oldest"]
    text = token()
    macs.clear()
    parsed.clear()
    assert SCOPE.resolve(text) is None
    assert (macs, parsed) == ([], [])


@pytest.mark.parametrize("fallbacks", [0, 1, 5])
def test_forged_token_costs_one_hmac_for_each_key_over_no_more_than_a_cookie(
    settings: Any, macs: list[int], parsed: list[Any], fallbacks: int
) -> None:
    """Attack: the longest cookie of the right shape; its payload is never parsed."""
    settings.SECRET_KEY_FALLBACKS = [f"key {number}" for number in range(fallbacks)]
    header, payload, signature = forge(HEADER, "[" * 2900, b"guessed").split(".")
    token = f"{header}.{payload.ljust(4096 - 81, 'A')}.{signature}"
    assert len(token) == 4096
    macs.clear()
    assert SCOPE.resolve(token) is None
    assert macs == [4096 - 44] * (fallbacks + 1)
    assert parsed == []


def test_good_token_costs_one_hmac(macs: list[int]) -> None:
    token = a_token()
    macs.clear()
    assert SCOPE.resolve(token) == IDENTIFIER
    assert macs == [len(token) - 44]


def test_token_is_parsed_only_where_it_is_spelt_in_another_way(parsed: list[Any]) -> None:
    parsed.clear()
    assert SCOPE.resolve(a_token()) == IDENTIFIER
    assert parsed == []
    assert SCOPE.resolve(forge(HEADER, json.dumps(PAYLOAD))) == IDENTIFIER
    assert parsed == [json.dumps(PAYLOAD)]


def test_signatures_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attack: a signature guessed byte by byte, by how long it takes to be refused."""
    compared = []
    compare_digest = hmac.compare_digest

    def note_and_compare(one: Any, other: Any) -> bool:
        compared.append({one, other})
        return compare_digest(one, other)

    monkeypatch.setattr(hmac, "compare_digest", note_and_compare)
    signed = a_token().rpartition(".")[0].encode()
    right = hmac.digest(SCOPE.keys.token_keys()[0], signed, "sha256")
    wrong = bytes([right[0] ^ 1]) + right[1:]
    assert SCOPE.resolve(f"{signed.decode()}.{encode(wrong)}") is None
    assert compared == [{right, wrong}]


# PyJWT, whose answers ours are


def by_pyjwt(token: str) -> dict[str, Any] | None:
    try:
        return dict(jwt.decode(token, SCOPE.keys.token_keys()[0], algorithms=["HS256"]))
    except (jwt.PyJWTError, ValueError, TypeError, ArithmeticError, RecursionError):
        return None


SECONDS = st.sampled_from([0, NOW, 32503680000, 1e308, -1, "0", "x", None, [], True])
CLAIMS = st.fixed_dictionaries(
    {},
    optional={
        "identifier": st.sampled_from([IDENTIFIER, "x", 1, None]),
        "scope": st.sampled_from([PAYLOAD["scope"], {}, "x", None]),
        "time": SECONDS,
        **dict.fromkeys(["exp", "nbf", "iat"], SECONDS),
        **dict.fromkeys(["aud", "iss", "sub", "jti", "other"], st.sampled_from(["x", 1, [], {}])),
    },
)


@given(payload=CLAIMS | st.sampled_from(["[" * 2000, "[]", "1", "null", '"x"', "{", "NaN"]))
def test_signed_token_says_what_pyjwt_reads_in_it(payload: Any) -> None:
    token = forge(HEADER, payload)
    assert _verified_payload(token, SCOPE.keys.token_keys()) == by_pyjwt(token)


@given(payload=CLAIMS, place=st.integers(0, 500), letter=st.sampled_from("Aa_-9.="))
def test_changed_token_is_refused_where_pyjwt_refuses_it(
    payload: Any, place: int, letter: str
) -> None:
    token = forge(HEADER, payload)
    changed = token[: place % len(token)] + letter + token[place % len(token) + 1 :]
    found = _verified_payload(changed, SCOPE.keys.token_keys())
    assert found is None or found == by_pyjwt(changed)
    assert (found is None) or changed == token


# Length


def padded(length: int) -> str:
    """Return the longest good token of at most that many characters."""
    room = length - len(forge(HEADER, {**PAYLOAD, "pad": ""}))
    return max(
        (
            token
            for size in range(room * 3 // 4 - 3, room * 3 // 4 + 4)
            if len(token := forge(HEADER, {**PAYLOAD, "pad": "x" * size})) <= length
        ),
        key=len,
    )


def test_payload_of_a_length_that_no_bytes_have_is_refused() -> None:
    header = forge(HEADER, PAYLOAD).partition(".")[0]
    mac = hmac.digest(SCOPE.keys.token_keys()[0], f"{header}.AAAAA".encode(), "sha256")
    assert SCOPE.resolve(f"{header}.AAAAA.{encode(mac)}") is None


def test_token_of_4096_characters_is_read() -> None:
    token = padded(4096)
    assert len(token) >= 4095
    assert SCOPE.resolve(token) == IDENTIFIER


def test_longer_token_is_refused_unread() -> None:
    """Attack: megabytes of cookie, to have their signature computed."""
    token = padded(4098)
    assert len(token) > 4096
    assert SCOPE.resolve(token) is None


@pytest.mark.parametrize(
    "token",
    [
        pytest.param("", id="empty"),
        pytest.param(".", id="dot"),
        pytest.param("..", id="two-dots"),
        pytest.param("a.b.c", id="three-letters"),
        pytest.param("a.b.c.d.e", id="encrypted-token"),
        pytest.param("é.é.é", id="latin"),
        pytest.param("\U0001f36a.\U0001f36a.\U0001f36a", id="emoji"),
        pytest.param("\udcff.\udcff.\udcff", id="surrogates"),
        pytest.param("\0", id="nul"),
        pytest.param(IDENTIFIER, id="identifier"),
        pytest.param(f"{IDENTIFIER}.{'0' * 64}", id="signed-as-in-typo3-11"),
    ],
)
def test_text_that_is_no_token_is_refused(token: str) -> None:
    assert SCOPE.resolve(token) is None


@pytest.mark.parametrize("addition", ["é", "\udcff", "\n", " ", "=", ".", ".x", "\0"])
def test_good_token_with_something_behind_it_is_refused(addition: str) -> None:
    assert SCOPE.resolve(a_token() + addition) is None


# Payload


@pytest.mark.parametrize(
    "identifier",
    [
        pytest.param(None, id="null"),
        pytest.param(5, id="number"),
        pytest.param([IDENTIFIER], id="list"),
        pytest.param({"x": IDENTIFIER}, id="object"),
        pytest.param("", id="empty"),
        pytest.param(IDENTIFIER.upper(), id="upper-case"),
        pytest.param(IDENTIFIER[:-1], id="too-short"),
        pytest.param(IDENTIFIER + "0", id="too-long"),
        pytest.param(IDENTIFIER + "\n", id="line-break"),
    ],
)
def test_token_whose_identifier_is_none_is_refused(identifier: Any) -> None:
    assert SCOPE.resolve(forge(HEADER, {**PAYLOAD, "identifier": identifier})) is None


def test_token_without_identifier_is_refused() -> None:
    assert SCOPE.resolve(forge(HEADER, {"scope": CLAIM})) is None


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param([PAYLOAD], id="list"),
        pytest.param([["identifier", IDENTIFIER], ["scope", CLAIM]], id="list-of-pairs"),
        pytest.param("5", id="number"),
        pytest.param("null", id="null"),
        pytest.param("", id="nothing"),
        pytest.param("{", id="no-json"),
        pytest.param('{"a":' * 580, id="deeply-nested-object"),
        pytest.param(json.dumps({str(number): 0 for number in range(250)}), id="wide"),
        pytest.param('{"identifier":NaN,"scope":Infinity}', id="no-numbers"),
        pytest.param("[" * 2900, id="deeply-nested"),
        pytest.param({**PAYLOAD, "exp": "soon"}, id="expiry-as-text"),
        pytest.param({**PAYLOAD, "exp": [NOW]}, id="expiry-as-list"),
        pytest.param({**PAYLOAD, "exp": float("inf")}, id="expiry-never"),
        pytest.param({**PAYLOAD, "nbf": float("inf")}, id="not-before-ever"),
        pytest.param({**PAYLOAD, "exp": 0}, id="expired"),
        pytest.param({**PAYLOAD, "aud": "others"}, id="for-others"),
    ],
)
def test_signed_token_of_another_kind_is_refused(payload: Any) -> None:
    """Another part of the site may sign tokens of its own with the same key."""
    assert SCOPE.resolve(forge(HEADER, payload)) is None


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        ('{"identifier":"%s","identifier":"%s","scope":%s}', "1" * 32),
        ('{"identifier":"%s","identifier":["%s"],"scope":%s}', None),
        ('{"identifier":"%s","scope":0,"identifier":"%s","scope":%s}', "1" * 32),
    ],
)
def test_last_of_two_equal_keys_is_meant(payload: str, expected: str | None) -> None:
    """Whoever signs with our key means what every JSON parser of Python's reads."""
    text = payload % ("0" * 32, "1" * 32, json.dumps(CLAIM))
    assert SCOPE.resolve(forge(HEADER, text)) == expected


# Key rotation


def test_token_of_a_fallback_key_is_good(settings: Any) -> None:
    token = a_token()
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "new", ["older", "current"]
    assert SCOPE.resolve(token) == IDENTIFIER


def test_token_of_a_key_that_was_dropped_is_refused(settings: Any) -> None:
    """Attack: a forged cookie, after the old key has leaked."""
    token = a_token()
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "new", ["older"]
    assert SCOPE.resolve(token) is None


def test_new_tokens_are_signed_with_the_current_key(settings: Any) -> None:
    settings.SECRET_KEY_FALLBACKS = ["old"]
    token = a_token()
    settings.SECRET_KEY_FALLBACKS = []
    assert SCOPE.resolve(token) == IDENTIFIER


def test_fallback_key_of_one_login_type_is_none_of_another(settings: Any) -> None:
    token = replace(SCOPE, keys=Keys("BE")).sign(IDENTIFIER, NOW)
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "new", ["current"]
    assert SCOPE.resolve(token) is None


def test_token_of_another_kind_signed_with_a_fallback_key_is_refused(settings: Any) -> None:
    token = forge(HEADER, {**PAYLOAD, "exp": 0})
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "new", ["current"]
    assert SCOPE.resolve(token) is None


# Anything


@given(
    token=st.text()
    | st.text('.-_=abcdefgh0123456789ABC{}[]"', max_size=200)
    # As servers hand over what was sent.
    | st.binary().map(lambda octets: octets.decode("latin-1"))
)
def test_nothing_that_was_not_signed_is_accepted(token: str) -> None:
    assert SCOPE.resolve(token) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
HEADERS = st.dictionaries(
    st.sampled_from(["alg", "typ", "kid", "crit", "b64", "zip", "jku"]),
    st.sampled_from(["HS256", "none", "RS256", ["HS256"], ["b64"], True, False]) | JSON,
)


@given(header=HEADERS | JSON, payload=JSON)
def test_nothing_that_looks_like_a_token_is_accepted(header: Any, payload: Any) -> None:
    assert SCOPE.resolve(forge(json.dumps(header), json.dumps(payload), b"guessed")) is None


@given(header=HEADERS, payload=JSON)
def test_nothing_that_was_signed_for_something_else_is_accepted(header: Any, payload: Any) -> None:
    assert SCOPE.resolve(forge(json.dumps(header), json.dumps(payload))) is None


@given(data=st.data())
@hypothesis_settings(max_examples=500)
def test_payload_of_another_spelling_says_what_json_reads_in_it(data: st.DataObject) -> None:
    """What ``sign()`` has written is not parsed; what looks much like it must be."""
    scope = data.draw(st.sampled_from([SCOPE, replace(SCOPE, path='/a.b*(IDENTIFIER)\\d"TIMEé/')]))
    claim = {**CLAIM, "path": scope.path}
    text = json.dumps({**PAYLOAD, "scope": claim}, separators=(",", ":"))
    start = data.draw(st.integers(0, len(text)))
    removed = data.draw(st.integers(0, 2))
    added = data.draw(st.text('"\\ {}:,.*0aTZé\n', max_size=2))
    token = forge(HEADER, text[:start] + added + text[start + removed :])
    said = by_pyjwt(token) or {}
    identifier = said.get("identifier")
    is_good = said.get("scope") == claim and is_identifier(identifier)
    assert scope.resolve(token) == (identifier if is_good else None)


@given(data=st.data())
@hypothesis_settings(max_examples=300)
def test_token_with_one_other_character_leads_nowhere_else(data: st.DataObject) -> None:
    """Attack: a cookie changed bit by bit."""
    token = a_token()
    position = data.draw(st.integers(0, len(token) - 1))
    character = data.draw(
        st.sampled_from("ABCXYZabcxyz0189-_.=") | st.characters(exclude_categories=["Cs"])
    )
    assume(character != token[position])
    changed = token[:position] + character + token[position + 1 :]
    assert SCOPE.resolve(changed) is None


def test_token_with_any_flipped_bit_of_its_signature_is_refused() -> None:
    signed, _, signature = a_token().rpartition(".")
    octets = decode(signature)
    flipped = [
        bytes([*octets[:place], octets[place] ^ (1 << bit), *octets[place + 1 :]])
        for place in range(len(octets))
        for bit in range(8)
    ]
    assert {SCOPE.resolve(f"{signed}.{encode(other)}") for other in flipped} == {None}
