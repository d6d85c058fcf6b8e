"""A customer's account: logging in and out, changing the password."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.auth import views as auth_views
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse_lazy
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from usersessions import auth

from ..forms import LoginForm


class LoginView(auth_views.LoginView):
    """Django's login page with "Remember me". The basket is kept."""

    form_class = LoginForm
    template_name = "shop/login.html"
    redirect_authenticated_user = True

    def form_valid(self, form: Any) -> HttpResponse:
        auth.login(self.request, form.get_user(), is_permanent=form.cleaned_data["remember_me"])
        return redirect(self.get_success_url())


class PasswordChangeView(auth_views.PasswordChangeView):
    """Changing the password, which logs out everywhere else."""

    template_name = "shop/password.html"
    success_url = reverse_lazy("shop:account")

    def form_valid(self, form: Any) -> HttpResponse:
        response = super().form_valid(form)
        messages.success(
            self.request, _("Your password has been changed. All your other sessions have ended.")
        )
        return response


@require_POST
def log_out(request: HttpRequest) -> HttpResponse:
    """End the frontend session; a login to the backend stays."""
    auth.logout(request)
    messages.success(request, _("You are logged out."))
    return redirect("shop:catalogue")


@require_safe
@never_cache
@login_required
def show_account(request: HttpRequest) -> HttpResponse:
    """Show links, and the user who is logged in to the backend in the same browser."""
    return render(request, "shop/account.html", {"backend_user": auth.get_user(request, "BE")})
