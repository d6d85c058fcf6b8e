"""The packages that these tests use as a site would, and what a site has to list for each."""

from __future__ import annotations

from importlib.util import find_spec

#: By the name to import.
APPS = {
    "allauth": [
        "django.contrib.humanize",
        "allauth",
        "allauth.account",
        "allauth.headless",
        "allauth.socialaccount",
        "allauth.socialaccount.providers.dummy",
        "allauth.usersessions",
    ],
    "axes": ["axes"],
    "channels": ["channels"],
    "debug_toolbar": ["debug_toolbar"],
    "hijack": ["hijack", "hijack.contrib.admin"],
    "rest_framework": ["rest_framework"],
}


def is_installed(package: str) -> bool:
    return find_spec(package) is not None
