"""The filter that writes prices as the shop's visitors read them."""

from __future__ import annotations

from decimal import Decimal

from django import template
from django.utils.formats import number_format
from django.utils.translation import gettext as _

register = template.Library()


@register.filter
def euros(amount: Decimal) -> str:
    """Write an amount with two decimals, as the active language does."""
    return _("€%(amount)s") % {"amount": number_format(amount, decimal_pos=2, force_grouping=True)}
