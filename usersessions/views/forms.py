"""The form that asks for the current user's password."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib.auth import authenticate
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _
from django.views.decorators.debug import sensitive_variables


class ConfirmPasswordForm(forms.Form):
    """Checks a password with the site's authentication backends, as Django's login form does.

    So backends and receivers of ``user_login_failed`` can count failures and lock users out.

    :param user: the current user
    """

    error_messages = {"invalid_password": _("This is not your password. Please try again.")}

    password = forms.CharField(
        label=_("Password"),
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "current-password", "autofocus": True}),
    )

    def __init__(self, *args: Any, request: HttpRequest, user: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.request = request
        self.user = user

    @sensitive_variables()
    def clean_password(self) -> str:
        password: str = self.cleaned_data["password"]
        # Always "username", as from Django's login form, whatever USERNAME_FIELD is.
        found: Any = authenticate(
            self.request, username=self.user.get_username(), password=password
        )
        if found is None or found.pk != self.user.pk or not found.is_active:
            raise forms.ValidationError(
                self.error_messages["invalid_password"], code="invalid_password"
            )
        return password
