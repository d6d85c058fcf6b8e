"""The client's address, for a site behind proxies of its own."""

from __future__ import annotations

from collections.abc import Sequence

from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest

#: Used for a connection by a Unix socket, which has no address.
LOOPBACK = "127.0.0.1"

#: The only header that python-ipware gets to see; it is made here.
CHAIN = "CHAIN"


class TrustedProxies:
    """A ``CLIENT_IP`` that follows a header back to the client, through known proxies only.

    :param networks: an address or a network such as ``"10.0.0.0/8"`` for each proxy, in the order
        in which a request passes them
    :param count: the number of proxies, if their addresses are not known. Only for a site that
        cannot be reached without them: the address that connects is taken for the last proxy
    :param header: to its end each proxy appends the address that connected to it
    :raises ImproperlyConfigured: python-ipware is missing, or not exactly one of ``networks`` and
        ``count`` is given, or it is wrong

    The client may have sent the header, too: its part precedes the proxies' and is ignored. For a
    request that did not pass these proxies, the address that connected counts (``REMOTE_ADDR``):
    the client's, or the last proxy's. A session locked to the latter is open to all such requests.
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
        """Return the client's address; if the header does not tell it, the one that connected."""
        connected = str(request.META.get("REMOTE_ADDR", ""))
        written = request.headers.get(self.header, "").split(",")
        # One entry of each proxy, and the address that connected, which python-ipware would not
        # check. Given the whole header, it would replace invalid entries by the client's own.
        chain = [*written[-self.count :], connected or LOOPBACK]
        address, _ = self._ipware.get_client_ip({CHAIN: ",".join(chain)}, strict=True)
        return connected if address is None else str(address)
