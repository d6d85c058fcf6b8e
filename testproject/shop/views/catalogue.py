"""Looking at products, which costs a visitor no session."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_safe

from ..forms import QuantityForm
from ..models import Product


@require_safe
def show_catalogue(request: HttpRequest) -> HttpResponse:
    """Show all products, each with a button that puts one into the basket."""
    return render(request, "shop/catalogue.html", {"products": Product.objects.all()})


@require_safe
def show_product(request: HttpRequest, slug: str) -> HttpResponse:
    """Show one product; 404 if it is not sold."""
    product = get_object_or_404(Product, slug=slug)
    return render(request, "shop/product.html", {"product": product, "form": QuantityForm()})
