"""The app's pages: ``path("usersessions/", include("usersessions.urls"))``."""

from django.urls import path

from . import views

app_name = "usersessions"
urlpatterns = [
    path("sessions/", views.OwnSessionsView.as_view(), name="own_sessions"),
    path("confirm/", views.ConfirmPasswordView.as_view(), name="confirm_password"),
    path("switch-user/", views.switch_user, name="switch_user"),
    path("exit-switch-user/", views.exit_switch_user, name="exit_switch_user"),
]
