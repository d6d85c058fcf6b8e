"""A site whose paths begin with the language."""

from django.conf.urls.i18n import i18n_patterns
from django.http import HttpResponse
from django.urls import path

urlpatterns = i18n_patterns(path("admin/", lambda request: HttpResponse()))
