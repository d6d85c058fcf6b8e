"""Whose address a request comes from, at a site that is behind proxies of its own."""

from __future__ import annotations

from collections.abc import Sequence

from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest

#: Stands for whoever is behind a Unix socket, which has no address: a process of this machine.
LOOPBACK = "127.0.0.1"

#: What python-ipware is shown instead of the request's headers, so that it believes no other.
CHAIN = "CHAIN"


class TrustedProxies:
    """A ``CLIENT_IP`` that follows a header back to the client, through known proxies only.

    :param networks: the proxies in the order in which a request passes them, one entry for each: an
        address or a network such as ``"10.0.0.0/8"``
    :param count: how many proxies there are, where their addresses are not known. Only for a site
        that nobody can reach past them: whoever connects is believed to be the last one
    :param header: what the proxies write, each the address that it was called from, at the end
    :raises ImproperlyConfigured: python-ipware is missing, or not exactly one of ``networks`` and
        ``count`` is given, or wrong

    What the client has put into the header stands in front of what the proxies wrote, and is not
    read. A request whose way does not fit counts as one of whoever connected (``REMOTE_ADDR``):
    that is the client itself, or the last proxy, whose lock then lets in all who come like that.
    """

    def __init__(
        self,
        networks: Sequence[str] = (),
        *,
        count: int | None = None,
        header: str = "X-Forwarded-For",
    ) -> None:
        if isinstance(networks, str) or bool(networks) == (count is not None):
            raise ImproperlyConfigured(
                "TrustedProxies needs either a list of the networks of your proxies or their "
                'count, as in TrustedProxies(["10.0.0.0/8"]) or TrustedProxies(count=1).'
            )
        if count == 0:
            raise ImproperlyConfigured(
                "TrustedProxies(count=0) trusts no proxy; leave CLIENT_IP out instead."
            )
        try:
            # Only sites behind proxies have the package.
            from python_ipware import IpWare  # noqa: PLC0415
        except ImportError as exc:
            raise ImproperlyConfigured(
                "usersessions.proxies.TrustedProxies needs the package python-ipware: "
                "install django-usersession-manager[proxies]."
            ) from exc
        try:
            self._ipware = IpWare(precedence=(CHAIN,), proxy_count=count, proxy_list=list(networks))
        except ValueError as exc:
            raise ImproperlyConfigured(f"TrustedProxies: {exc}") from exc
        self.count = len(networks) or count or 0
        self.header = header

    def __call__(self, request: HttpRequest) -> str:
        """Return the address of the client, of whoever connected where that cannot be told."""
        connected = str(request.META.get("REMOTE_ADDR", ""))
        written = request.headers.get(self.header, "").split(",")
        # One entry by each proxy. python-ipware would skip those that are no addresses and take the
        # client's own instead, and would not look at who has connected.
        chain = [*written[-self.count :], connected or LOOPBACK]
        address, _ = self._ipware.get_client_ip({CHAIN: ",".join(chain)}, strict=True)
        return connected if address is None else str(address)
