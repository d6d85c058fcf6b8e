"""What every page of the shop shows."""

from __future__ import annotations

from django.http import HttpRequest

from .basket import Basket


def basket(request: HttpRequest) -> dict[str, Basket]:
    """Give templates the basket; the session is read only where a template uses it."""
    return {"basket": Basket(request.session)}
