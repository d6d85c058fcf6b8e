"""URLs of switching user: ``path("usersessions/", include("usersessions.urls"))``."""

from django.urls import path

from . import views

app_name = "usersessions"
urlpatterns = [
    path("switch-user/", views.switch_user, name="switch_user"),
    path("exit-switch-user/", views.exit_switch_user, name="exit_switch_user"),
]
