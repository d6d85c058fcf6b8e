"""The basket's pages. Changes are made by POST and answered with a redirect, even when refused."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST, require_safe

from ..basket import MAX_QUANTITY, Basket, QuantityTooHigh
from ..forms import QuantityForm
from ..models import Product


@require_safe
def show_basket(request: HttpRequest) -> HttpResponse:
    """Show the basket; writes only if it holds a product that is no longer sold."""
    if Basket(request.session).remove_unsold():
        messages.info(request, _("We removed items from your basket that we no longer sell."))
    return render(request, "shop/basket.html", {"max_quantity": MAX_QUANTITY})


@require_POST
def add_product(request: HttpRequest, slug: str) -> HttpResponse:
    """Put some of a product into the basket and go back to the page named by ``next``."""
    product = get_object_or_404(Product, slug=slug)
    form = QuantityForm(request.POST)
    if not form.is_valid():
        messages.error(request, form.problem)
        return _go_back(request)
    try:
        Basket(request.session).add(slug, form.cleaned_data["quantity"])
    except QuantityTooHigh:
        messages.error(
            request,
            _("The basket takes at most %(highest)d of “%(product)s”.")
            % {"highest": MAX_QUANTITY, "product": product},
        )
    else:
        messages.success(request, _("“%(product)s” is in your basket.") % {"product": product})
    return _go_back(request)


@require_POST
def update_product(request: HttpRequest, slug: str) -> HttpResponse:
    """Set the quantity of a product; 0 takes it out."""
    form = QuantityForm(request.POST, lowest=0)
    if form.is_valid():
        get_object_or_404(Product, slug=slug)
        Basket(request.session).set_quantity(slug, form.cleaned_data["quantity"])
        messages.success(request, _("Your basket is up to date."))
    else:
        messages.error(request, form.problem)
    return redirect("shop:basket")


@require_POST
def remove_product(request: HttpRequest, slug: str) -> HttpResponse:
    """Remove a product from the basket, if it is in there."""
    Basket(request.session).remove(slug)
    return redirect("shop:basket")


def _go_back(request: HttpRequest) -> HttpResponse:
    url = request.POST.get("next", "")
    if url_has_allowed_host_and_scheme(
        url, allowed_hosts={request.get_host()}, require_https=request.is_secure()
    ):
        return redirect(url)
    return redirect("shop:basket")
