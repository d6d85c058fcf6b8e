"""The pages of one login type in an admin site: their URLs, and who may see and end sessions."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from django.urls import reverse
from django.utils.text import capfirst
from django.utils.translation import gettext

from .session_models import model_of


class SessionPage:
    """The pages of one login type in one admin site.

    :param login_type: its name
    :param host: the ``UserSessionAdmin`` that shows login types without a model
    """

    def __init__(self, login_type: str, host: Any) -> None:
        self.login_type = login_type
        self.model = model_of(login_type)
        #: The ``UserSessionAdmin`` that shows the sessions; None: the site does not show them.
        self.model_admin = host if self.model is None else _admin_of(self.model, host.admin_site)

    def has_view_permission(self, request: HttpRequest) -> bool:
        """Return whether the user may see the sessions; without a model, superusers may."""
        if self.model is None:
            return _is_superuser(request)
        return self.model_admin is not None and self.model_admin.has_view_permission(request)

    def has_end_permission(self, request: HttpRequest) -> bool:
        """Return whether the user may end the sessions, whether or not the site shows them.

        The model's admin decides; if there is none, the model's delete permission; without a model,
        only superusers may.
        """
        if self.model is None:
            return _is_superuser(request)
        if self.model_admin is None:
            return may_end(request.user, self.model)
        return bool(self.model_admin.has_end_permission(request))

    @property
    def url(self) -> str:
        """The URL of the list."""
        return self._reverse("login_type" if self.model is None else "changelist")

    def url_of(self, ses_id: str) -> str:
        """Return the URL of the page of one session."""
        return self._reverse("login_type_session" if self.model is None else "change", ses_id)

    def _reverse(self, view: str, *args: str) -> str:
        if self.model is None:
            args = (self.login_type, *args)
        opts, site = self.model_admin.opts, self.model_admin.admin_site
        name = f"admin:{opts.app_label}_{opts.model_name}_{view}"
        return reverse(name, args=args, current_app=site.name)

    # Attributes of a model's options that Django's templates use

    @property
    def app_label(self) -> str:
        return str(self.model_admin.opts.app_label)

    @property
    def app_config(self) -> Any:
        return self.model_admin.opts.app_config

    @property
    def verbose_name(self) -> str:
        if self.model is None:
            return gettext("{} session").format(self.login_type)
        return str(self.model._meta.verbose_name)

    @property
    def verbose_name_plural(self) -> str:
        if self.model is None:
            return gettext("{} sessions").format(self.login_type)
        return str(self.model._meta.verbose_name_plural)

    @property
    def title(self) -> str:
        return str(capfirst(self.verbose_name_plural))


def may_end(user: Any, model: type[Any]) -> bool:
    """Return whether a user has the permission to delete a model's objects."""
    return bool(user.has_perm(f"{model._meta.app_label}.delete_{model._meta.model_name}"))


def _admin_of(model: type[Any], site: Any) -> Any:
    found = site.get_model_admin(model) if site.is_registered(model) else None
    # A site may have registered an admin class that cannot end sessions.
    return found if hasattr(found, "has_end_permission") else None


def _is_superuser(request: HttpRequest) -> bool:
    return bool(request.user.is_superuser)
