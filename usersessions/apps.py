"""The configuration of the app."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig, apps
from django.contrib.auth import get_user_model
from django.contrib.auth.signals import user_logged_in
from django.db.models.signals import post_delete, post_save
from django.utils.translation import gettext_lazy as _


class UserSessionsConfig(AppConfig):
    name = "usersessions"
    # Not "usersessions" or "user_sessions": those labels are allauth's and Jazzband's.
    label = "django_usersessions"
    verbose_name = _("User sessions")
    default_auto_field = "django.db.models.BigAutoField"

    def import_models(self) -> None:
        super().import_models()
        # Imported here because it needs models. Connected before ready(), so that the receivers of
        # other apps run later, and see the session under its new identifier.
        from .receivers import elevate_on_login  # noqa: PLC0415

        user_logged_in.connect(elevate_on_login, dispatch_uid="usersessions.login")

    def ready(self) -> None:
        # Imported here because these modules need the user model or its settings.
        from . import checks, receivers  # noqa: PLC0415
        from .signals import user_switched, user_switched_back  # noqa: PLC0415

        checks.register()
        for signal in (user_switched, user_switched_back):
            signal.connect(receivers.log_switch, dispatch_uid="usersessions.log_switch")
        for model in _user_models():
            # Always with a sender: a receiver for all models would disable Django's fast deletes
            # for the whole site.
            post_save.connect(
                receivers.end_sessions_on_change, model, dispatch_uid=f"usersessions.{model}"
            )
            post_delete.connect(
                receivers.end_sessions_on_deletion, model, dispatch_uid=f"usersessions.{model}"
            )


def _user_models() -> list[type]:
    """Return the models whose objects are users, any of which may be the sender of a signal.

    They are the user model, its proxies and children, and the parents that share its key.
    """
    models: list[type] = [
        model for model in apps.get_models() if issubclass(model, get_user_model())
    ]
    link: Any = get_user_model()._meta.pk.remote_field
    while link is not None and link.parent_link:
        models.append(link.model)
        link = link.model._meta.pk.remote_field
    return models
