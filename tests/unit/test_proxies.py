"""Client addresses behind proxies: what is believed, and what is not."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest

from tests.site.test_middleware import put_basket, read_basket
from tests.urls import visit
from usersessions.proxies import TrustedProxies
from usersessions.test import Client

VICTIM, THIEF = "198.51.100.7", "203.0.113.9"
BALANCER, NGINX = "192.0.2.10", "10.0.0.5"


def a_request(remote_addr: str | None, **headers: str) -> HttpRequest:
    request = HttpRequest()
    if remote_addr is not None:
        request.META["REMOTE_ADDR"] = remote_addr
    for name, value in headers.items():
        request.META[f"HTTP_{name.upper()}"] = value
    return request


def through(remote_addr: str | None, written: str) -> HttpRequest:
    return a_request(remote_addr, x_forwarded_for=written)


ONE = [TrustedProxies(["10.0.0.0/8"]), TrustedProxies(count=1)]
TWO = [TrustedProxies(["192.0.2.0/24", "10.0.0.0/8"]), TrustedProxies(count=2)]
WAYS = ["networks", "count"]


# The client's address


@pytest.mark.parametrize("proxies", ONE, ids=WAYS)
@pytest.mark.parametrize(
    ("written", "address"),
    [
        pytest.param(THIEF, THIEF, id="ipv4"),
        pytest.param("2001:db8::9", "2001:db8::9", id="ipv6"),
        pytest.param("2001:DB8:0::9", "2001:db8::9", id="ipv6-spelt-otherwise"),
        pytest.param(f"{THIEF}:4711", THIEF, id="ipv4-and-port"),
        pytest.param("[2001:db8::9]:4711", "2001:db8::9", id="ipv6-and-port"),
        pytest.param("[2001:db8::9]", "2001:db8::9", id="ipv6-in-brackets"),
        pytest.param(f"::ffff:{THIEF}", THIEF, id="ipv4-mapped"),
        pytest.param(f"  {THIEF} ", THIEF, id="spaces"),
        pytest.param("192.168.1.20", "192.168.1.20", id="private"),
        pytest.param("10.1.2.3", "10.1.2.3", id="in-the-proxys-network"),
        pytest.param("127.0.0.1", "127.0.0.1", id="loopback"),
        pytest.param("fe80::1", "fe80::1", id="link-local"),
    ],
)
def test_what_the_proxy_wrote_is_the_clients_address(
    proxies: TrustedProxies, written: str, address: str
) -> None:
    assert proxies(through(NGINX, written)) == address


@pytest.mark.parametrize("proxies", TWO, ids=WAYS)
def test_two_proxies_wrote_two_addresses(proxies: TrustedProxies) -> None:
    assert proxies(through(NGINX, f"{THIEF}, {BALANCER}")) == THIEF


def test_order_of_the_networks_is_the_way_of_the_request() -> None:
    proxies = TrustedProxies(["10.0.0.0/8", "192.0.2.0/24"])
    assert proxies(through(NGINX, f"{THIEF}, {BALANCER}")) == NGINX
    assert proxies(through(BALANCER, f"{THIEF}, {NGINX}")) == THIEF


@pytest.mark.parametrize(
    ("network", "remote_addr"),
    [
        ("10.0.0.5", "10.0.0.5"),
        ("10.0.0.0/8", "::ffff:10.0.0.5"),
        ("2001:db8:1::/48", "2001:db8:1::5"),
        ("127.0.0.1", ""),
        ("127.0.0.1", None),
    ],
)
def test_proxy_is_known_by_address_by_network_and_as_a_socket(
    network: str, remote_addr: str | None
) -> None:
    """Behind a Unix socket is a process of this machine; servers give it no address."""
    assert TrustedProxies([network])(through(remote_addr, THIEF)) == THIEF


def test_header_can_be_another_one() -> None:
    proxies = TrustedProxies(["10.0.0.0/8"], header="X-Real-IP")
    assert proxies(a_request(NGINX, x_real_ip=THIEF, x_forwarded_for=VICTIM)) == THIEF


def test_forwarded_is_read_as_rfc_7239_has_it() -> None:
    proxies = TrustedProxies(["10.0.0.0/8"], header="Forwarded")
    written = f'for="[2001:db8::7]";proto=http, For="{THIEF}:4711";by=10.0.0.5;host=shop.example'
    assert proxies(a_request(NGINX, forwarded=written)) == THIEF


# What the sender claims


@pytest.mark.parametrize("proxies", ONE, ids=WAYS)
@pytest.mark.parametrize(
    "claimed",
    [
        VICTIM,
        f"{VICTIM}, 10.0.0.6",
        f"{VICTIM},{VICTIM},{VICTIM}",
        f"{VICTIM}, unknown",
        f"for={VICTIM}",
        f'"{VICTIM}',
        "",
        ",",
        "x" * 8000,
        ", ".join([VICTIM] * 5000),
        "\0",
    ],
    ids=lambda claimed: str(claimed)[:30],
)
def test_what_the_sender_wrote_in_front_is_not_read(proxies: TrustedProxies, claimed: str) -> None:
    """Attack: X-Forwarded-For with the victim's address; the proxy adds the sender's behind it."""
    assert proxies(through(NGINX, f"{claimed}, {THIEF}")) == THIEF


@pytest.mark.parametrize("proxies", TWO, ids=WAYS)
def test_sender_cannot_play_the_outer_proxy(proxies: TrustedProxies) -> None:
    """Attack: a chain that looks complete already."""
    assert proxies(through(NGINX, f"{VICTIM}, {BALANCER}, {THIEF}, {BALANCER}")) == THIEF


@pytest.mark.parametrize("proxies", ONE, ids=WAYS)
@pytest.mark.parametrize(
    "written",
    [
        "unknown",
        "_hidden",
        "unix:",
        f"{THIEF}:port",
        "203.0.113.999",
        "[2001:db8::9",
        "0.0.0.0",  # noqa: S104
        "224.0.0.1",
        "shop.example",
        "",
    ],
)
def test_proxy_that_cannot_tell_who_called_does_not_vouch_for_the_claim_in_front(
    proxies: TrustedProxies, written: str
) -> None:
    """Attack: the victim's address in front of what the proxy writes for an odd client.
    python-ipware by itself skips what is no address, and takes the claim."""
    assert proxies(through(NGINX, f"{VICTIM}, {written}")) == NGINX


@pytest.mark.parametrize(
    "header",
    ["x_real_ip", "x_client_ip", "client_ip", "cf_connecting_ip", "true_client_ip", "forwarded"],
)
def test_other_headers_are_not_read(header: str) -> None:
    """Attack: one of the 30 headers that python-ipware looks into by itself."""
    for proxies in ONE:
        assert proxies(a_request(NGINX, **{header: VICTIM, "x_forwarded_for": THIEF})) == THIEF
        assert proxies(a_request(NGINX, **{header: VICTIM})) == NGINX


def test_sender_who_comes_past_the_proxies_is_who_connected() -> None:
    """Attack: a forged chain, sent straight to the application's port. python-ipware by itself
    does not look at who has connected."""
    proxies = TrustedProxies(["10.0.0.0/8"])
    assert proxies(through(THIEF, f"{VICTIM}, {NGINX}")) == THIEF
    assert proxies(through(THIEF, VICTIM)) == THIEF


def test_sender_who_comes_past_the_outer_proxy_is_the_inner_one() -> None:
    proxies = TrustedProxies(["192.0.2.0/24", "10.0.0.0/8"])
    assert proxies(through(NGINX, f"{VICTIM}, {THIEF}")) == NGINX


@pytest.mark.parametrize("proxies", [*ONE, *TWO], ids=["one", "count-1", "two", "count-2"])
def test_request_without_the_header_comes_from_who_connected(proxies: TrustedProxies) -> None:
    """A health check of the proxy's own, say."""
    assert proxies(a_request(NGINX)) == NGINX
    assert proxies(a_request("")) == ""


# In the settings


@pytest.mark.django_db
@pytest.mark.urls("tests.urls")
def test_lock_is_that_of_the_client_and_not_of_the_proxy(client: Client, settings: Any) -> None:
    """Attack: a stolen cookie, sent through the same proxy with the victim's address claimed."""
    proxies = TrustedProxies(["10.0.0.0/8"])
    settings.USERSESSIONS = {"FE": {"LOCK_IP": 4, "CLIENT_IP": proxies}}
    victim = {"REMOTE_ADDR": NGINX, "HTTP_X_FORWARDED_FOR": VICTIM}
    visit(client, put_basket, **victim)
    assert visit(client, read_basket, **victim).content == b"{'apple': 3}"
    for claim in (THIEF, f"{VICTIM}, {THIEF}", f"{VICTIM}, unknown"):
        thief = {"REMOTE_ADDR": NGINX, "HTTP_X_FORWARDED_FOR": claim}
        assert visit(client, read_basket, **thief).content == b"None"


@pytest.mark.parametrize(
    ("arguments", "options"),
    [((), {}), (([],), {}), ((["10.0.0.0/8"],), {"count": 1}), (("10.0.0.0/8",), {})],
    ids=["neither", "no-networks", "both", "text"],
)
def test_either_networks_or_count_must_be_given(arguments: Any, options: Any) -> None:
    with pytest.raises(ImproperlyConfigured) as caught:
        TrustedProxies(*arguments, **options)
    assert str(caught.value) == (
        "TrustedProxies needs either a list of the networks of your proxies or their count, as in "
        'TrustedProxies(["10.0.0.0/8"]) or TrustedProxies(count=1).'
    )


def test_count_of_none_is_refused() -> None:
    with pytest.raises(ImproperlyConfigured) as caught:
        TrustedProxies(count=0)
    assert str(caught.value) == (
        "TrustedProxies(count=0) trusts no proxy; leave CLIENT_IP out instead."
    )


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ((["10.0.0.0/99"],), {}),
        ((["nginx"],), {}),
        (([""],), {}),
        (([5],), {}),
        ((), {"count": -1}),
        ((), {"count": "1"}),
        ((), {"count": True}),
    ],
    ids=str,
)
def test_wrong_networks_and_counts_are_refused(arguments: Any, options: Any) -> None:
    with pytest.raises(ImproperlyConfigured, match=r"^TrustedProxies: .*proxy_(list|count)"):
        TrustedProxies(*arguments, **options)


def test_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "python_ipware", None)
    with pytest.raises(ImproperlyConfigured) as caught:
        TrustedProxies(count=1)
    assert str(caught.value) == (
        "usersessions.proxies.TrustedProxies needs the package python-ipware: "
        "install django-usersession-manager[proxies]."
    )
