"""What people who look at a session's data get to see of it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.factories import NOW
from usersessions import CookieScope
from usersessions.admin.masking import mask_credentials
from usersessions.session.tokens import Keys

MASK = "********"


@pytest.mark.parametrize(
    "key",
    [
        "api",
        "API-KEY",
        "access_token",
        "_csrftoken",
        "stripe_key",
        "client_secret",
        "Password",
        "passwd",
        "old_pwd",
        "signature",
        "_auth_user_hash",
        "credentials",
        "auth_code",
        "authCode",
        "otp",
        "totp_device",
        "pin",
        "card_pin",
        "cvv",
        "cvc",
        "IBAN",
        "creditCardNumber",
    ],
)
def test_value_under_a_telling_key_is_masked(key: str) -> None:
    assert mask_credentials({key: "x", "basket": [1]}) == {key: MASK, "basket": [1]}


@pytest.mark.parametrize(
    "key",
    [
        "basket",
        "_auth_user_id",
        "_auth_user_backend",
        "_session_expiry",
        "backuserid",
        "language",
        "shipping",
        "pinned",
        "author",
        "",
    ],
)
def test_value_under_any_other_key_is_shown(key: str) -> None:
    assert mask_credentials({key: "x"}) == {key: "x"}


@pytest.mark.parametrize("value", ["", 0, None, True, ["x"], {"x": 1}], ids=repr)
def test_value_under_a_telling_key_is_masked_whatever_it_is(value: Any) -> None:
    """Whether there is one, and how long it is, is told to nobody."""
    assert mask_credentials({"password": value}) == {"password": MASK}


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("0123456789abcdef" * 2, id="identifier"),
        pytest.param("0123456789ABCDEF" * 4, id="upper-case-digest"),
        pytest.param(
            CookieScope(Keys("FE"), "shop.example", True).sign("0" * 32, NOW), id="cookie-token"
        ),
        pytest.param("eyJhbGciOiJub25lIn0.e30.", id="unsigned-token"),
        pytest.param("pbkdf2_sha256$1000000$salt$aGFzaA==", id="pbkdf2"),
        pytest.param("pbkdf2_sha1$1000000$salt$aGFzaA==", id="pbkdf2-sha1"),
        pytest.param("argon2$argon2id$v=19$m=102400,t=2,p=8$c2FsdA$aGFzaA", id="argon2"),
        pytest.param(
            "bcrypt_sha256$$2b$12$WApznUPhDubN0oeveSXHp.Rk0rMeVTiYn6oZ/dBwZ7G0XQ4cPzDkW",
            id="bcrypt-sha256",
        ),
        pytest.param(
            "bcrypt$$2b$12$WApznUPhDubN0oeveSXHp.Rk0rMeVTiYn6oZ/dBwZ7G0XQ4cPzDkW", id="bcrypt"
        ),
        pytest.param("scrypt$16384$salt$8$1$aGFzaA==", id="scrypt"),
        pytest.param("md5$salt$aGFzaA==", id="md5"),
    ],
)
def test_value_that_looks_like_a_credential_is_masked(value: str) -> None:
    assert mask_credentials({"note": value}) == {"note": MASK}


@pytest.mark.parametrize(
    "value",
    [
        "",
        "a teapot",
        "django.contrib.auth.backends.ModelBackend",
        "2025-01-01T00:00:00+00:00",
        "0123456789abcdef" * 2 + " or so",
        "0123456789abcde" * 2,
        "eyJ",
        "5$ or 6$",
        "$",
        5,
        1.5,
        True,
        None,
    ],
    ids=repr,
)
def test_any_other_value_is_shown(value: Any) -> None:
    assert mask_credentials({"note": value}) == {"note": value}


def test_credential_inside_of_other_data_is_masked() -> None:
    data = {"orders": [{"id": 1, "payment": {"card": "4111", "by": "alice"}}, "0" * 32]}
    assert mask_credentials(data) == {
        "orders": [{"id": 1, "payment": {"card": MASK, "by": "alice"}}, MASK]
    }


def test_keys_that_are_no_text_are_kept() -> None:
    assert mask_credentials({3: {"password": "x"}, None: "y"}) == {3: {"password": MASK}, None: "y"}


def test_tuple_is_shown_as_a_list() -> None:
    assert mask_credentials(("x", "0" * 32)) == ["x", MASK]


def test_data_itself_stays_as_it_is() -> None:
    data = {"password": "x", "list": ["0" * 32], "dict": {"pin": 1}}
    mask_credentials(data)
    assert data == {"password": "x", "list": ["0" * 32], "dict": {"pin": 1}}


def test_value_alone_is_masked_by_its_looks() -> None:
    assert (mask_credentials("0" * 32), mask_credentials("teapot")) == (MASK, "teapot")
