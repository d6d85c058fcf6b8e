"""django-debug-toolbar: what its panels show of our sessions, which it leaves as they are."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

import pytest

from tests.conftest import SessionQueries
from tests.system.integration.conftest import fill_basket, identifier_of, need, owners
from usersessions.test import Client

need("debug_toolbar")

from debug_toolbar.store import get_store

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _toolbar(settings: Any) -> Any:
    settings.DEBUG = True
    get_store().clear()
    yield
    get_store().clear()


def request_id_of(response: Any) -> str:
    (found,) = re.findall(r'data-request-id="([^"]+)"', response.content.decode())
    return str(found)


def panel(client: Client, response: Any, name: str) -> str:
    """The content of a panel, fetched as the toolbar's script does."""
    fields = {"request_id": request_id_of(response), "panel_id": name}
    return unescape(str(client.get("/__debug__/render_panel/", fields).json()["content"]))


def session_statements(client: Client, response: Any) -> list[str]:
    """The statements on session tables that the SQL panel shows."""
    shown = re.findall(r'"djDebugUncollapsed">(.*?)</span>', panel(client, response, "SQLPanel"))
    return [sql for sql in (re.sub("<[^>]*>", "", html) for html in shown) if "e_sessions" in sql]


def kinds(statements: list[str]) -> list[str]:
    return [sql.split()[0] for sql in statements]


def test_toolbar_is_on_the_page_of_a_visitor_without_session(client: Client) -> None:
    response = client.get("/")
    assert 'id="djDebug"' in response.content.decode()
    assert session_statements(client, response) == []
    assert "fe_sessionid" not in response.cookies
    assert owners() == {"BE": [], "FE": []}


def test_sql_panel_shows_our_statements_and_no_identifier(client: Client, alice: Any) -> None:
    client.force_login(alice)
    response = client.get("/usersessions/sessions/")
    found = session_statements(client, response)
    assert kinds(found) == ["SELECT", "SELECT"]  # the session, and the list of the user's sessions
    assert 'WHERE "ses_id" =' in found[0]
    assert identifier_of(client) not in panel(client, response, "SQLPanel")


def test_sql_panel_shows_the_writes_of_requests_without_a_page(client: Client, alice: Any) -> None:
    fill_basket(client)
    client.post("/account/login/", {"username": "alice", "password": "alice"})
    client.post("/account/logout/")
    store = get_store()
    found = [
        query["sql"]
        for request_id in store.request_ids()
        for query in store.panel(request_id, "SQLPanel")["queries"]
    ]
    statements = [sql for sql in found if "e_sessions" in sql]
    assert kinds(statements) == ["INSERT", "SELECT", "UPDATE", "SELECT", "DELETE"]
    assert b"desk-lamp".hex().upper() in statements[0]


def test_request_panel_shows_the_data_of_the_session(client: Client, alice: Any) -> None:
    client.force_login(alice)
    fill_basket(client)
    shown = panel(client, client.get("/basket/"), "RequestPanel")
    assert "'basket'" in shown
    assert "desk-lamp" in shown
    assert alice.get_session_auth_hash() not in shown


def test_toolbars_own_requests_leave_the_session_alone(
    client: Client, alice: Any, session_queries: SessionQueries
) -> None:
    client.force_login(alice)
    response = client.get("/account/")
    with session_queries:
        panel(client, response, "SQLPanel")
    assert session_queries.kinds == []


def test_toolbar_reads_the_session_where_the_page_does_not(
    client: Client, session_queries: SessionQueries, settings: Any
) -> None:
    """Count queries without the toolbar: its request panel costs one, after the response."""
    fill_basket(client)
    with session_queries:
        response = client.get("/nothing/")
    assert session_queries.kinds == ["SELECT"]
    assert (response.status_code, len(response.cookies)) == (404, 0)
    settings.INTERNAL_IPS = []
    with session_queries:
        client.get("/nothing/")
    assert session_queries.kinds == []


def test_request_panel_hides_session_cookies_with_our_filter(client: Client, editor: Any) -> None:
    """Attack: read the toolbar's history, which keeps the requests of everybody."""
    client.force_login(editor)
    client.force_login(editor, login_type="BE")
    shown = panel(client, client.get("/account/"), "RequestPanel")
    for name in ("be_sessionid", "fe_sessionid"):
        assert name in shown
        assert client.cookies[name].value not in shown
