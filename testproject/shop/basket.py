"""The basket: a dict of quantities by slug in the session, and nothing in the database."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property

from django.contrib.sessions.backends.base import SessionBase

from .models import Product

SESSION_KEY = "basket"

#: How many of one product a basket may hold.
MAX_QUANTITY = 99


class QuantityTooHigh(ValueError):
    """The basket would hold more than ``MAX_QUANTITY`` of one product."""


@dataclass(frozen=True)
class BasketLine:
    """One product in the basket, at today's price."""

    product: Product
    quantity: int

    @property
    def total(self) -> Decimal:
        return self.product.price * self.quantity


class Basket:
    """The basket of one session; reads the session on first use.

    Looking into it never writes, so that a visitor who only looks has no session. With its last
    product the key leaves the session, which ends an otherwise empty one.
    """

    def __init__(self, session: SessionBase) -> None:
        self._session = session

    @property
    def quantities(self) -> dict[str, int]:
        """A copy of what is stored: quantities by slug, in the order in which they were added."""
        return dict(self._session.get(SESSION_KEY, {}))

    @property
    def count(self) -> int:
        """How many items are in the basket. Costs no query of its own."""
        return sum(self.quantities.values())

    @property
    def total(self) -> Decimal:
        return sum((line.total for line in self.lines), Decimal(0))

    @cached_property
    def lines(self) -> list[BasketLine]:
        """What is in the basket, without products that are no longer sold.

        Costs one query, none for an empty basket.
        """
        quantities = self.quantities
        if not quantities:
            return []
        products = {
            product.slug: product for product in Product.objects.filter(slug__in=quantities)
        }
        return [
            BasketLine(products[slug], quantity)
            for slug, quantity in quantities.items()
            if slug in products
        ]

    def add(self, slug: str, quantity: int = 1) -> None:
        """Put more of a product into the basket.

        :raises QuantityTooHigh: the basket stays as it was
        """
        self.set_quantity(slug, self.quantities.get(slug, 0) + quantity)

    def set_quantity(self, slug: str, quantity: int) -> None:
        """Set the quantity of a product; 0 removes it.

        :raises QuantityTooHigh: the basket stays as it was
        """
        if quantity > MAX_QUANTITY:
            raise QuantityTooHigh(quantity)
        if quantity < 1:
            self.remove(slug)
            return
        self._store({**self.quantities, slug: quantity})

    def remove(self, slug: str) -> None:
        """Take a product out; nothing is written if it is not in the basket."""
        quantities = self.quantities
        if quantities.pop(slug, None) is not None:
            self._store(quantities)

    def remove_unsold(self) -> bool:
        """Take out products that are no longer sold; return whether there were any."""
        sold = {line.product.slug: line.quantity for line in self.lines}
        if sold == self.quantities:
            return False
        self._store(sold)
        return True

    def _store(self, quantities: dict[str, int]) -> None:
        if quantities:
            self._session[SESSION_KEY] = quantities
        else:
            del self._session[SESSION_KEY]
        self.__dict__.pop("lines", None)
