"""What every test here needs: its package, the shop's basket, and whose sessions there are."""

from __future__ import annotations

from typing import Any

import pytest
from django.conf import settings

from tests.missing import report_missing
from tests.system.integration.packages import is_installed
from usersessions.models import BackendSession, FrontendSession
from usersessions.test import Client

SETTINGS = "tests.system.integration.settings"


def need(package: str) -> None:
    """Skip the module unless it runs with this directory's settings and has its package."""
    if settings.SETTINGS_MODULE != SETTINGS:
        pytest.skip(
            f"runs by itself: python -m pytest --ds={SETTINGS} tests/system/integration",
            allow_module_level=True,
        )
    if not is_installed(package):
        report_missing(f'needs {package}: python -m pip install -e ".[test,integration]"')


@pytest.fixture(autouse=True)
def _shop(products: None) -> None:
    """The shop has something to sell."""


def fill_basket(client: Client) -> None:
    assert client.post("/basket/add/desk-lamp/", {"quantity": "1"}).status_code == 302


def has_basket(client: Client) -> bool:
    return bool(client.get("/basket/").context["basket"].count)


def owners() -> dict[str, list[int]]:
    """Whose sessions are stored, by login type; 0 is an anonymous visitor."""
    models: dict[str, Any] = {"BE": BackendSession, "FE": FrontendSession}
    return {
        name: list(model.objects.order_by("ses_userid").values_list("ses_userid", flat=True))
        for name, model in models.items()
    }


def identifier_of(client: Client, login_type: str = "FE") -> str:
    key = client.session(login_type).session_key
    assert key is not None
    return key
