"""Binding a session to the network that it was started from."""

from __future__ import annotations

import hashlib
import ipaddress

#: The lock of a session that may be used from everywhere.
DISABLED_LOCK = "[DISABLED]"

#: As wide as ``ses_iplock``: an IPv6 address with all its digits.
MAX_LENGTH = 39


class IpLocker:
    """Makes and checks IP locks: the leading parts of an address, the rest zeroed.

    :param lock_ip: parts of an IPv4 address that must stay the same, 0 (none) to 4 (all)
    :param lock_ipv6: 16-bit blocks of an IPv6 address that must stay the same, 0 to 8
    :raises ValueError: a number out of its range

    Source: TYPO3 ``TYPO3\\CMS\\Core\\Authentication\\IpLocker``. Unlike there, text that is no
    address is kept whole and only ever matches itself: in TYPO3 two different ``host:port`` values
    give the same empty lock.
    """

    def __init__(self, lock_ip: int = 4, lock_ipv6: int = 8) -> None:
        if not 0 <= lock_ip <= 4:
            raise ValueError(f"lock_ip must be an integer from 0 to 4, not {lock_ip}.")
        if not 0 <= lock_ipv6 <= 8:
            raise ValueError(f"lock_ipv6 must be an integer from 0 to 8, not {lock_ipv6}.")
        self.lock_ip = lock_ip
        self.lock_ipv6 = lock_ipv6
        #: Whether no address is ever looked at.
        self.is_disabled = not lock_ip and not lock_ipv6

    def get_session_ip_lock(self, ip_address: str) -> str:
        """Return the lock for an address, at most 39 characters.

        IPv6 in any spelling, IPv4-mapped too, is written out in full first.
        """
        if self.is_disabled:
            return DISABLED_LOCK
        try:
            address = ipaddress.ip_address(ip_address)
        except ValueError:
            return _lock_of_other_text(ip_address)
        if isinstance(address, ipaddress.IPv4Address):
            return _leading(str(address).split("."), self.lock_ip, ".", "0")
        if address.scope_id is not None:
            return _lock_of_other_text(ip_address)
        # Not ``exploded``: Python 3.13 writes an IPv4-mapped address in another way there.
        return _leading(address.packed.hex(":", 2).split(":"), self.lock_ipv6, ":", "0000")

    def validate_remote_address_against_session_ip_lock(
        self, ip_address: str, session_ip_lock: str
    ) -> bool:
        """Return whether a session with this lock may be used from this address."""
        if session_ip_lock == DISABLED_LOCK:
            return True
        return session_ip_lock == self.get_session_ip_lock(ip_address)


def _leading(parts: list[str], kept: int, separator: str, zero: str) -> str:
    if not kept:
        return DISABLED_LOCK
    return separator.join(parts[:kept] + [zero] * (len(parts) - kept))


def _lock_of_other_text(text: str) -> str:
    # The lock that matches everything must not be had by sending its text as an address; nor an
    # error by sending what not every database stores (NUL, halves of characters).
    if len(text) > MAX_LENGTH or text == DISABLED_LOCK or not text.isascii() or "\0" in text:
        return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:MAX_LENGTH]
    return text
