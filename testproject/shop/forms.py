"""The forms of the shop, for quantities and for logging in."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib.auth.forms import AuthenticationForm
from django.utils.translation import gettext_lazy as _

from .basket import MAX_QUANTITY


class QuantityForm(forms.Form):
    """Checks a quantity, with one message for every mistake.

    :param lowest: 1 for adding a product, 0 where that removes it
    """

    quantity = forms.IntegerField()

    def __init__(self, *args: Any, lowest: int = 1, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        message = _("Please enter a whole number from %(lowest)d to %(highest)d.") % {
            "lowest": lowest,
            "highest": MAX_QUANTITY,
        }
        self.fields["quantity"] = forms.IntegerField(
            label=_("Quantity"),
            min_value=lowest,
            max_value=MAX_QUANTITY,
            initial=1,
            error_messages=dict.fromkeys(
                ["required", "invalid", "min_value", "max_value"], message
            ),
        )

    @property
    def problem(self) -> str:
        """What is wrong with the quantity, for the visitor; "" if it is valid."""
        return " ".join(str(error) for error in self.errors.get("quantity", []))


class LoginForm(AuthenticationForm):
    """Also asks whether the session may outlive the browser."""

    remember_me = forms.BooleanField(
        label=_("Remember me"),
        required=False,
        help_text=_("Stay logged in on this device when the browser is closed."),
    )
