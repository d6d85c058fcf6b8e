"""The shop's side of the admin: products, and users whom a superuser can switch to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.contrib.auth import get_user_model
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin

from usersessions.admin import SwitchUserAdminMixin

from .models import Product

if TYPE_CHECKING:
    ProductModelAdmin = admin.ModelAdmin[Product]
    UserModelAdmin = DjangoUserAdmin[Any]
else:
    ProductModelAdmin, UserModelAdmin = admin.ModelAdmin, DjangoUserAdmin

User = get_user_model()
if admin.site.is_registered(User):
    admin.site.unregister(User)


@admin.register(User)
class UserAdmin(SwitchUserAdminMixin, UserModelAdmin):
    """Django's admin of users, with an action for switching to one."""


@admin.register(Product)
class ProductAdmin(ProductModelAdmin):
    """What editors may change of the shop."""

    list_display = ("name", "price", "slug")
    prepopulated_fields = {"slug": ["name"]}
    search_fields = ("name", "description")
