"""What the shop sells. Baskets are no model: they live in the session."""

from __future__ import annotations

from django.db import models
from django.urls import reverse
from django.utils.translation import gettext_lazy as _


class Drawing(models.TextChoices):
    """The pictures that come with the shop, as ``static/shop/drawings/<value>.svg``."""

    BACKPACK = "backpack", _("Backpack")
    BOX = "box", _("Box")
    CLOCK = "clock", _("Clock")
    LAMP = "lamp", _("Lamp")
    MUG = "mug", _("Mug")
    NOTEBOOK = "notebook", _("Notebook")
    PENCILS = "pencils", _("Pencils")
    PLANT = "plant", _("Plant")
    TEAPOT = "teapot", _("Teapot")


class Product(models.Model):
    """A thing to put into the basket, which knows it by its slug."""

    name = models.CharField(_("name"), max_length=80)
    slug = models.SlugField(_("slug"), max_length=80, unique=True)
    description = models.TextField(_("description"))
    price = models.DecimalField(_("price"), max_digits=8, decimal_places=2, help_text=_("In euros"))
    drawing = models.CharField(
        _("drawing"), max_length=20, choices=Drawing.choices, default=Drawing.BOX
    )

    class Meta:
        ordering = ["name"]
        verbose_name = _("product")
        verbose_name_plural = _("products")

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("shop:product", args=[self.slug])

    @property
    def drawing_path(self) -> str:
        """Where the drawing is among the static files."""
        return f"shop/drawings/{self.drawing}.svg"
