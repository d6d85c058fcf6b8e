"""IP locks: what they are made of, and whom they let in."""

from __future__ import annotations

import ipaddress
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from usersessions import IpLocker

VECTORS = json.loads((Path(__file__).parents[2] / "typo3_vectors.json").read_text())["ip_lock"]

# TYPO3 takes the nearest number; here a wrong number is a wrong setting.
OUT_OF_RANGE = [
    ("198.51.100.23", 5, 8),
    ("198.51.100.23", -1, 8),
    ("2001:db8:85a3:8d3:1319:8a2e:370:7344", 4, 9),
    ("2001:db8:85a3:8d3:1319:8a2e:370:7344", 4, -2),
]

# TYPO3 cuts what is no address at its dots ("10.1" then lets 10.1.2.3 in), makes it empty if it has
# a colon (any "host:port" then lets in any other), or fails. Here it is kept whole.
NO_ADDRESS = [
    ("", 3, 8),
    ("unknown", 2, 8),
    ("10.1", 2, 8),
    ("1.2.3.4.5", 2, 8),
    ("198.51.100.23:8080", 4, 8),
    ("fe80::1%eth0", 4, 8),
    ("fe80::1%eth0", 4, 2),
    ("[::1]", 4, 8),
]

Row = tuple[Any, ...]


def key(vector: dict[str, Any]) -> Row:
    return (vector["remote_addr"], vector["lock_ip"], vector["lock_ipv6"])


def by_key(vector: dict[str, Any]) -> str:
    lock = "" if vector["remote_addr"] is not None else f"-{vector['ip_lock']}"
    return "-".join(map(str, key(vector))) + lock


AS_IN_TYPO3 = [vector for vector in VECTORS if key(vector) not in OUT_OF_RANGE + NO_ADDRESS]
DIFFERENT = [vector for vector in VECTORS if key(vector) in OUT_OF_RANGE + NO_ADDRESS]


def locker_of(vector: dict[str, Any]) -> IpLocker:
    return IpLocker(vector["lock_ip"], vector["lock_ipv6"])


def test_every_row_that_differs_from_typo3_is_in_the_vectors() -> None:
    assert sorted(map(key, DIFFERENT)) == sorted(OUT_OF_RANGE + NO_ADDRESS)


@pytest.mark.parametrize(
    "vector", [row for row in AS_IN_TYPO3 if row["remote_addr"] is not None], ids=by_key
)
def test_lock_is_typo3s(vector: dict[str, Any]) -> None:
    assert locker_of(vector).get_session_ip_lock(vector["remote_addr"]) == vector["ip_lock"]


@pytest.mark.parametrize("vector", AS_IN_TYPO3, ids=by_key)
def test_lock_lets_in_whom_typo3_lets_in(vector: dict[str, Any]) -> None:
    locker = locker_of(vector)
    answers = {
        row["remote_addr"]: locker.validate_remote_address_against_session_ip_lock(
            row["remote_addr"], vector["ip_lock"]
        )
        for row in vector["validate"]
    }
    assert answers == {row["remote_addr"]: row["valid"] for row in vector["validate"]}


@pytest.mark.parametrize(
    ("lock_ip", "lock_ipv6", "message"),
    [
        (5, 8, r"^lock_ip must be an integer from 0 to 4, not 5\.$"),
        (-1, 8, r"^lock_ip must be an integer from 0 to 4, not -1\.$"),
        (4, 9, r"^lock_ipv6 must be an integer from 0 to 8, not 9\.$"),
        (4, -2, r"^lock_ipv6 must be an integer from 0 to 8, not -2\.$"),
    ],
)
def test_number_out_of_range_is_refused(lock_ip: int, lock_ipv6: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        IpLocker(lock_ip, lock_ipv6)


@pytest.mark.parametrize(("address", "lock_ip", "lock_ipv6"), NO_ADDRESS)
def test_text_that_is_no_address_is_kept_whole(address: str, lock_ip: int, lock_ipv6: int) -> None:
    assert IpLocker(lock_ip, lock_ipv6).get_session_ip_lock(address) == address


@pytest.mark.parametrize(
    "vector", [vector for vector in DIFFERENT if key(vector) in NO_ADDRESS], ids=by_key
)
def test_text_that_is_no_address_lets_in_nobody_else(vector: dict[str, Any]) -> None:
    """Attack: a stolen cookie, sent through a proxy that writes ``host:port`` as the address."""
    locker = locker_of(vector)
    lock = locker.get_session_ip_lock(vector["remote_addr"])
    others = {row["remote_addr"] for row in vector["validate"]} | {"198.51.100.24:8080"}
    let_in = {
        address
        for address in {vector["remote_addr"], *others}
        if locker.validate_remote_address_against_session_ip_lock(address, lock)
    }
    assert let_in == {vector["remote_addr"]}


def test_locker_locks_to_the_whole_address_by_default() -> None:
    locker = IpLocker()
    assert locker.get_session_ip_lock("198.51.100.23") == "198.51.100.23"
    assert locker.get_session_ip_lock("::1") == "0000:0000:0000:0000:0000:0000:0000:0001"


def test_sender_cannot_choose_the_lock_that_lets_everybody_in() -> None:
    """Attack: ``[DISABLED]`` in a header that a trusting ``CLIENT_IP`` reads, to have a victim's
    session open to everybody."""
    lock = IpLocker().get_session_ip_lock("[DISABLED]")
    assert not IpLocker().validate_remote_address_against_session_ip_lock("192.0.2.1", lock)
    assert IpLocker().validate_remote_address_against_session_ip_lock("[DISABLED]", lock)


def test_long_texts_that_begin_alike_are_told_apart() -> None:
    """Attack: text beyond the column's 39 characters, for the database to cut off."""
    one, other = "x" * 50, "x" * 51
    lock = IpLocker().get_session_ip_lock(one)
    assert not IpLocker().validate_remote_address_against_session_ip_lock(other, lock)


@pytest.mark.parametrize("text", ["\0", "198.51.100.23\0", "\ud800", "é", "\U0001f36a", "x" * 40])
def test_lock_is_text_that_every_database_stores(text: str) -> None:
    """Attack: an address in a header that a trusting ``CLIENT_IP`` reads, to have an error page
    of the database, or of the encoding, for each visit."""
    lock = IpLocker().get_session_ip_lock(text)
    assert re.fullmatch("[0-9a-f]{39}", lock)
    assert IpLocker().validate_remote_address_against_session_ip_lock(text, lock)


def test_disabled_lock_lets_everybody_in_whatever_the_settings_are() -> None:
    """A session from before ``LOCK_IP`` was raised goes on."""
    locker = IpLocker(4, 8)
    assert locker.validate_remote_address_against_session_ip_lock("192.0.2.1", "[DISABLED]")


# Any address

ipv4 = st.ip_addresses(v=4)
ipv6 = st.ip_addresses(v=6)
blocks = st.integers(0, 8)


def blocks_of(address: ipaddress.IPv6Address) -> list[str]:
    digits = f"{int(address):032x}"
    return [digits[start : start + 4] for start in range(0, 32, 4)]


@st.composite
def spellings(draw: st.DrawFn, address: ipaddress.IPv6Address) -> str:
    """Return one of the ways in which RFC 4291 lets an IPv6 address be written."""
    parts = [
        part if draw(st.booleans()) else part.lstrip("0") or "0" for part in blocks_of(address)
    ]
    if draw(st.booleans()):
        parts[6:] = [str(ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF))]
    text = ":".join(parts)
    zeros = [number for number, part in enumerate(parts) if not part.strip("0")]
    if zeros and draw(st.booleans()):
        first = draw(st.sampled_from(zeros))
        lasts = [end for end in zeros if {*range(first, end + 1)} <= {*zeros} and end >= first]
        last = draw(st.sampled_from(lasts))
        text = ":".join(parts[:first]) + "::" + ":".join(parts[last + 1 :])
    return text.upper() if draw(st.booleans()) else text


@given(data=st.data(), address=ipv6, lock_ipv6=blocks)
@example(data=None, address=ipaddress.IPv6Address("::ffff:198.51.100.23"), lock_ipv6=8)
@example(data=None, address=ipaddress.IPv6Address("2001:db8::1:0:0:1"), lock_ipv6=6)
def test_all_spellings_of_an_ipv6_address_have_the_same_lock(
    data: st.DataObject | None, address: ipaddress.IPv6Address, lock_ipv6: int
) -> None:
    locker = IpLocker(4, lock_ipv6)
    spelling = data.draw(spellings(address)) if data else str(address).upper()
    in_full = ":".join(blocks_of(address))
    assert locker.get_session_ip_lock(spelling) == locker.get_session_ip_lock(in_full)


@st.composite
def neighbours(draw: st.DrawFn, addresses: st.SearchStrategy[Any]) -> tuple[Any, Any]:
    """Return two addresses, often ones that differ in a few of their last bits only."""
    one = draw(addresses)
    if draw(st.booleans()):
        return one, draw(addresses)
    other = int(one) ^ draw(st.integers(0, (1 << draw(st.integers(0, one.max_prefixlen))) - 1))
    return one, type(one)(other)


@given(pair=neighbours(ipv4), lock_ip=st.integers(1, 4))
def test_ipv4_lock_lets_in_the_addresses_that_begin_alike(
    pair: tuple[ipaddress.IPv4Address, ipaddress.IPv4Address], lock_ip: int
) -> None:
    one, other = pair
    locker = IpLocker(lock_ip, 8)
    lock = locker.get_session_ip_lock(str(one))
    shift = 8 * (4 - lock_ip)
    begin_alike = int(one) >> shift == int(other) >> shift
    assert locker.validate_remote_address_against_session_ip_lock(str(other), lock) is begin_alike


@given(pair=neighbours(ipv6), lock_ipv6=st.integers(1, 8))
def test_ipv6_lock_lets_in_the_addresses_that_begin_alike(
    pair: tuple[ipaddress.IPv6Address, ipaddress.IPv6Address], lock_ipv6: int
) -> None:
    one, other = pair
    locker = IpLocker(4, lock_ipv6)
    lock = locker.get_session_ip_lock(str(one))
    shift = 16 * (8 - lock_ipv6)
    begin_alike = int(one) >> shift == int(other) >> shift
    assert locker.validate_remote_address_against_session_ip_lock(str(other), lock) is begin_alike


def is_address(text: str) -> bool:
    try:
        return "%" not in text and bool(ipaddress.ip_address(text).version)
    except ValueError:
        return False


no_address = st.one_of(
    st.text(max_size=60),
    st.text("0123456789.:%[]", max_size=60),
    st.builds("{}:{}".format, ipv4, st.integers(0, 65535)),
    st.builds("{}%{}".format, ipv6, st.sampled_from(["eth0", "eth1", "1"])),
    st.just("[DISABLED]"),
).filter(lambda text: not is_address(text))


@given(one=no_address, other=no_address, lock_ip=st.integers(0, 4), lock_ipv6=blocks)
@example(one="198.51.100.23:8080", other="203.0.113.9:443", lock_ip=4, lock_ipv6=8)
@example(one="unknown", other="", lock_ip=2, lock_ipv6=8)
def test_two_texts_that_are_no_addresses_never_match(
    one: str, other: str, lock_ip: int, lock_ipv6: int
) -> None:
    assume(one != other)
    assume(lock_ip or lock_ipv6)
    locker = IpLocker(lock_ip, lock_ipv6)
    lock = locker.get_session_ip_lock(one)
    assert not locker.validate_remote_address_against_session_ip_lock(other, lock)


@given(text=no_address, address=ipv4 | ipv6, lock_ip=st.integers(1, 4), lock_ipv6=st.integers(1, 8))
def test_text_that_is_no_address_and_an_address_never_match(
    text: str, address: Any, lock_ip: int, lock_ipv6: int
) -> None:
    locker = IpLocker(lock_ip, lock_ipv6)
    lock_of_text = locker.get_session_ip_lock(text)
    lock_of_address = locker.get_session_ip_lock(str(address))
    assert not locker.validate_remote_address_against_session_ip_lock(str(address), lock_of_text)
    assert not locker.validate_remote_address_against_session_ip_lock(text, lock_of_address)


@given(
    text=st.text(max_size=300) | ipv4.map(str) | ipv6.map(str) | no_address,
    lock_ip=st.integers(0, 4),
    lock_ipv6=blocks,
)
@example(text="x" * 40, lock_ip=4, lock_ipv6=8)
def test_lock_fits_into_its_column(text: str, lock_ip: int, lock_ipv6: int) -> None:
    assert len(IpLocker(lock_ip, lock_ipv6).get_session_ip_lock(text)) <= 39
