"""The shop's place in the demo site."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class ShopConfig(AppConfig):
    name = "testproject.shop"
    verbose_name = _("Shop")
