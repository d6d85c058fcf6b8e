"""Sessions that are in no table: the same lists and actions in the admin as for those that are."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib import admin as django_admin
from django.db import connection
from django.http import HttpRequest
from django.test.utils import CaptureQueriesContext
from django.urls import path, reverse
from django.utils.html import escape
from django.utils.translation import override

from testproject.urls import urlpatterns as site_urlpatterns
from tests.factories import BackendSessionFactory, FrontendSessionFactory, UserFactory
from tests.redis_servers import RedisServer, redis
from tests.site.test_admin import FAR_FUTURE, fields_of, hashes_in, rows_of
from usersessions import DatabaseSessionBackend, SessionBackend, SessionManager, UserSessionManager
from usersessions.admin import UserSessionAdmin
from usersessions.models import BackendSession, FrontendSession
from usersessions.session.tokens import new_identifier
from usersessions.test import Client

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]

DICT = {"BACKEND": "tests.contract.test_base.MemoryBackend", "OPTIONS": {}}
SHOP = {"SHOP": {**DICT, "URL_PREFIXES": ["/shop/"]}}

NO_HASH = "0" * 64


class ReadingAdmin(UserSessionAdmin):
    """Ends nothing, whatever permissions say."""

    def has_end_permission(self, request: HttpRequest) -> bool:
        return False

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return True


class SparingAdmin(UserSessionAdmin):
    actions = ("end_selected_sessions",)


office = django_admin.AdminSite(name="office")
office.register(FrontendSession, SparingAdmin)
library = django_admin.AdminSite(name="library")
library.register(FrontendSession, ReadingAdmin)
library.register(BackendSession, django_admin.ModelAdmin)

urlpatterns = [
    path("admin/office/", office.urls),
    path("admin/library/", library.urls),
    *site_urlpatterns,
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.close()


@pytest.fixture
def in_redis(server: RedisServer) -> Iterator[dict[str, Any]]:
    """The settings of a login type on an empty server."""
    server.client.flushall()
    yield {
        "BACKEND": "usersessions.backends.redis.RedisSessionBackend",
        "OPTIONS": {"url": server.url},
    }
    SessionManager.get_session_backend("FE").close()  # type: ignore[attr-defined]


def keep_in(place: str, request: pytest.FixtureRequest, settings: Any) -> SessionBackend:
    places = {"table": {}, "dict": DICT}
    kept = places[place] if place in places else request.getfixturevalue("in_redis")
    settings.USERSESSIONS = {"FE": kept}
    return SessionManager.get_session_backend("FE")


@pytest.fixture(params=["dict", "redis"])
def storage(request: pytest.FixtureRequest, settings: Any) -> SessionBackend:
    """Where the sessions of FE are: with a third party, or in Redis."""
    return keep_in(request.param, request, settings)


@pytest.fixture(params=["table", "dict", "redis"])
def anywhere(request: pytest.FixtureRequest, settings: Any) -> SessionBackend:
    """Where the sessions of FE are, a table or not: what staff see is the same."""
    return keep_in(request.param, request, settings)


@pytest.fixture
def dicts(settings: Any) -> SessionBackend:
    """The sessions of FE with a third party; most pages are the same wherever they are."""
    settings.USERSESSIONS = {"FE": DICT}
    return SessionManager.get_session_backend("FE")


@pytest.fixture
def shop(settings: Any) -> SessionBackend:
    """A login type of the site's own, for which no model stands."""
    settings.USERSESSIONS = SHOP
    return SessionManager.get_session_backend("SHOP")


def put(backend: SessionBackend, **fields: Any) -> str:
    """Store a session; return its hash."""
    identifier = new_identifier()
    record = {"ses_iplock": "[DISABLED]", "ses_userid": 0, "ses_tstamp": FAR_FUTURE}
    backend.set(identifier, {**record, "ses_data": b"{}", **fields})  # type: ignore[typeddict-item]
    return backend.hash(identifier)


def ses_ids_in(backend: SessionBackend) -> set[str]:
    return {record["ses_id"] for record in backend.get_all()}


def list_url(name: str = "frontendsession", site: str = "admin") -> str:
    return reverse(f"admin:django_usersessions_{name}_changelist", current_app=site)


def detail_url(ses_id: str) -> str:
    return reverse("admin:django_usersessions_frontendsession_change", args=[ses_id])


def shop_url(*args: str, host: str = "backendsession", site: str = "admin") -> str:
    view = "login_type_session" if args else "login_type"
    name = f"admin:django_usersessions_{host}_{view}"
    return reverse(name, args=["SHOP", *args], current_app=site)


def messages_of(response: Any) -> list[tuple[str, str]]:
    return [(message.level_tag, str(message)) for message in response.context["messages"]]


def run(client: Client, action: str, *ses_ids: str, url: str = "") -> list[tuple[str, str]]:
    """Run an action on these sessions; return what the next page says."""
    data = {"action": action, "_selected_action": ses_ids}
    return messages_of(client.post(url or list_url(), data, follow=True))


def link_after(response: Any, text: str) -> str | None:
    """Return where the link with a text leads."""
    found = re.search(rf'<a href="([^"]*)"[^>]*>{text}</a>', response.content.decode())
    return found and found[1].replace("&amp;", "&")


def links_between_login_types(response: Any) -> dict[str, str | None]:
    """Return titles and addresses; the page that is shown has none."""
    row = response.content.decode().partition('<nav class="toplinks"')[2].partition("</nav>")[0]
    found = re.findall(r"<(?:a|span) ([^>]*)>([^<]*)</", row)
    links = {
        title: None if "aria-current" in attributes else attributes.split('"')[1]
        for attributes, title in found
    }
    assert len(links) == len(found)
    return links


# The list


def test_list_shows_a_session_in_words(admin: Client, anywhere: SessionBackend, alice: Any) -> None:
    ses_id = put(anywhere, ses_userid=alice.pk)
    assert rows_of(admin.get(list_url())) == [
        {
            "short_hash": ses_id[:8],
            "user_name": "alice",
            "kind": "User",
            "updated_at": "Jan. 1, 2100, midnight",
            "expires_at": "Jan. 1, 2100, 1:40 a.m.",
            "ses_iplock": "[DISABLED]",
        }
    ]


@pytest.mark.parametrize(
    ("fields", "name", "kind"),
    [
        pytest.param({}, "-", "Anonymous", id="anonymous"),
        pytest.param({"ses_userid": -1}, "-", "Anonymous", id="negative-id"),
        pytest.param({"ses_userid": 123_456}, "deleted user 123456", "User", id="deleted"),
        pytest.param(
            {"ses_userid": 123_456, "ses_permanent": True},
            "deleted user 123456",
            "Permanent",
            id="permanent",
        ),
    ],
)
def test_list_tells_whose_a_session_is(
    admin: Client, anywhere: SessionBackend, fields: dict[str, Any], name: str, kind: str
) -> None:
    put(anywhere, **fields)
    [row] = rows_of(admin.get(list_url()))
    assert (row["user_name"], row["kind"]) == (name, kind)


def test_session_without_ip_lock_shows_none(admin: Client, dicts: SessionBackend) -> None:
    put(dicts, ses_iplock="")
    [row] = rows_of(admin.get(list_url()))
    assert row["ses_iplock"] == "-"


def test_columns_are_headed_as_those_of_a_table(admin: Client, dicts: SessionBackend) -> None:
    put(dicts)
    headings = [
        re.findall(
            r'column-(\w+)[^"]*">.*?<div class="text"><(?:span|a)[^>]*>([^<]*)<',
            admin.get(list_url(name)).content.decode(),
            re.DOTALL,
        )
        for name in ("frontendsession", "backendsession")
    ]
    assert len(headings[0]) == 6
    assert headings[0] == headings[1]


def test_page_has_the_latest_session_first(admin: Client, anywhere: SessionBackend) -> None:
    ses_ids = [put(anywhere, ses_tstamp=FAR_FUTURE + late) for late in (0, 2, 1)]
    shown = [row["short_hash"] for row in rows_of(admin.get(list_url()))]
    assert shown == [ses_ids[index][:8] for index in (1, 2, 0)]


def test_session_that_a_storage_gives_twice_is_shown_once(
    admin: Client, dicts: SessionBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(dicts)
    record = next(dicts.get_all())
    monkeypatch.setattr(dicts, "get_page", lambda start, limit: ([record, record], ""))
    assert len(rows_of(admin.get(list_url()))) == 1


def test_empty_storage_is_an_empty_list(admin: Client, storage: SessionBackend) -> None:
    response = admin.get(list_url())
    assert rows_of(response) == []
    assert "0 sessions on this page" in response.content.decode()


def test_next_pages_lead_to_every_session(
    admin: Client, storage: SessionBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(UserSessionAdmin, "list_per_page", 3)
    ses_ids = {put(storage)[:8] for _ in range(30)}
    following: str | None = "?"
    found, pages = set(), 0
    while following is not None:
        response = admin.get(list_url() + following)
        found |= hashes_in(response)
        pages += 1
        assert (link_after(response, "First page") == "?") is (pages > 1)
        following = link_after(response, "Next page")
    assert found == ses_ids
    assert pages > 3


@pytest.mark.parametrize(
    "start", ["junk", "1", "99999999999999999999999", "0" * 5000, "9" * 30 + "@", "1:forged", "\0"]
)
def test_page_that_was_never_named_is_the_first(
    admin: Client, storage: SessionBackend, start: str
) -> None:
    """Whatever somebody writes into the address, no storage gets to see it."""
    put(storage)
    assert len(rows_of(admin.get(list_url(), {"start": start}))) == 1


def test_name_of_a_page_is_none_in_another_login_type(
    admin: Client, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.USERSESSIONS = {"FE": DICT, **SHOP}
    monkeypatch.setattr(UserSessionAdmin, "list_per_page", 1)
    for name in ("FE", "SHOP"):
        put(SessionManager.get_session_backend(name), ses_userid=1)
        put(SessionManager.get_session_backend(name), ses_userid=2)
    second_page = link_after(admin.get(list_url()), "Next page")
    first, other = admin.get(shop_url()), admin.get(shop_url() + str(second_page))
    assert rows_of(first) == rows_of(other)


def test_list_costs_one_query_for_all_users_of_a_page(
    admin: Client, anywhere: SessionBackend
) -> None:
    costs = []
    for number in (1, 20):
        for user in UserFactory.create_batch(number):
            put(anywhere, ses_userid=user.pk)
        with CaptureQueriesContext(connection) as queries:
            admin.get(list_url())
        costs.append([query["sql"] for query in queries if "auth_user" in query["sql"]])
    assert [len(queries) for queries in costs] == [2, 2]  # who asks, and whose sessions there are


def test_page_of_sessions_in_redis_costs_two_commands(
    admin: Client, settings: Any, in_redis: dict[str, Any], server: RedisServer
) -> None:
    settings.USERSESSIONS = {"FE": in_redis}
    for _ in range(5):
        put(SessionManager.get_session_backend("FE"))
    server.client.config_resetstat()
    assert len(rows_of(admin.get(list_url()))) == 5
    counted = server.client.info("commandstats")
    calls = {name: counted[f"cmdstat_{name}"]["calls"] for name in ("scan", "mget")}
    assert calls == {"scan": 1, "mget": 1}


# Search


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("alice", {"alice"}),
        ("LIC", {"alice"}),
        ("nobody", set()),
        ("", {"alice", "bob", "-", "deleted user 123456"}),
        ("123456", {"deleted user 123456"}),
        ("0", set()),
        ("-1", set()),
        ("9" * 30, set()),
    ],
)
def test_search_finds_users_by_name_and_by_id(
    admin: Client, anywhere: SessionBackend, alice: Any, bob: Any, text: str, expected: set[str]
) -> None:
    for user_id in (alice.pk, bob.pk, 0, 123_456):
        put(anywhere, ses_userid=user_id)
    rows = rows_of(admin.get(list_url(), {"q": text}))
    assert {row["user_name"] for row in rows} == expected


def test_search_with_a_character_that_no_name_has_says_so(
    admin: Client, dicts: SessionBackend
) -> None:
    response = admin.get(list_url(), {"q": "\0"})
    assert messages_of(response) == [("error", "Null characters are not allowed.")]


def test_search_that_finds_very_many_sessions_says_so(
    admin: Client, dicts: SessionBackend, monkeypatch: pytest.MonkeyPatch, alice: Any
) -> None:
    monkeypatch.setattr("usersessions.admin.other_storages.MAX_SESSIONS_FOUND", 2)
    for _ in range(3):
        put(dicts, ses_userid=alice.pk)
    response = admin.get(list_url(), {"q": "alice"})
    assert len(rows_of(response)) == 2
    assert messages_of(response) == [
        ("warning", "More than 2 sessions match; not all of them are shown.")
    ]


def test_user_name_is_shown_as_text(admin: Client, anywhere: SessionBackend) -> None:
    """Stored XSS: a name that a customer chose must not run in the browser of staff."""
    script = "<script>alert(1)</script>"
    ses_id = put(anywhere, ses_userid=UserFactory(username=script).pk, ses_iplock=script)
    for url in (list_url(), list_url() + "?q=script", detail_url(ses_id)):
        body = admin.get(url).content.decode()
        assert script not in body
        assert escape(script) in body


def test_searched_text_is_shown_as_text(admin: Client, dicts: SessionBackend) -> None:
    """Reflected XSS: nor must what a link to the list puts into the box."""
    script = '"><script>alert(1)</script>'
    body = admin.get(list_url(), {"q": script, "start": script}).content.decode()
    assert "<script>alert" not in body


# The page on one session


def test_detail_page_shows_what_is_stored(
    admin: Client, anywhere: SessionBackend, alice: Any
) -> None:
    data = {"basket": [1], "api_key": "s3cret", "_usersessions": {"user_agent": "Firefox <3"}}
    ses_id = put(anywhere, ses_userid=alice.pk, ses_data=json.dumps(data).encode())
    response = admin.get(detail_url(ses_id))
    assert fields_of(response) == {
        "short_hash": ses_id[:8],
        "user_name": "alice",
        "kind": "User",
        "updated_at": "Jan. 1, 2100, midnight",
        "expires_at": "Jan. 1, 2100, 1:40 a.m.",
        "ses_iplock": "[DISABLED]",
        "browser": "Firefox <3",
        "data": '{\n  "basket": [\n    1\n  ],\n  "api_key": "********"\n}',
    }
    assert "s3cret" not in response.content.decode()


def test_detail_page_says_that_data_does_not_decode(
    admin: Client, anywhere: SessionBackend
) -> None:
    ses_id = put(anywhere, ses_data=b"[1]")
    fields = fields_of(admin.get(detail_url(ses_id)))
    assert (fields["data"], fields["browser"], fields["expires_at"]) == (
        "The data cannot be decoded.",
        "-",
        "-",
    )


@pytest.mark.parametrize("ses_id", [NO_HASH, "junk", "*", "_2A"], ids=["unknown", "a", "b", "c"])
def test_session_that_is_not_there_is_as_missing_as_any_object(
    admin: Client, anywhere: SessionBackend, ses_id: str
) -> None:
    put(anywhere)
    response = admin.get(detail_url(ses_id), follow=True)
    assert response.redirect_chain == [("/admin/", 302)]
    [(level, text)] = messages_of(response)
    assert level == "warning"
    assert text.startswith("frontend session with ID")


@pytest.mark.parametrize("page", ["list", "search", "detail", "after-action"])
def test_identifier_is_nowhere(
    admin: Client, anywhere: SessionBackend, alice: Any, page: str
) -> None:
    """Staff must not be able to take a session over: no page tells identifier or token."""
    manager = UserSessionManager.create("FE")
    session = manager.elevate_to_fixated_user_session(manager.create_anonymous_session(), alice.pk)
    ses_id = anywhere.hash(session.identifier)
    response: Any = {
        "list": lambda: admin.get(list_url()),
        "search": lambda: admin.get(list_url(), {"q": "alice"}),
        "detail": lambda: admin.get(detail_url(ses_id)),
        "after-action": lambda: admin.post(
            list_url(),
            {"action": "end_selected_sessions", "_selected_action": [ses_id]},
            follow=True,
        ),
    }[page]()
    scope = manager.login_type.cookie_scope(response.wsgi_request)
    body = response.content.decode()
    assert response.status_code == 200
    assert session.identifier not in body
    assert session.get_jwt(scope).rpartition(".")[0] not in body


# Ending sessions


def test_selected_sessions_end(admin: Client, anywhere: SessionBackend) -> None:
    first, second, third = (put(anywhere, ses_userid=7) for _ in range(3))
    said = run(admin, "end_selected_sessions", first, third, first)
    assert said == [("success", "2 sessions were ended.")]
    assert ses_ids_in(anywhere) == {second}


def test_session_that_was_ended_is_logged_out(
    admin: Client, other_client: Client, alice: Any, anywhere: SessionBackend
) -> None:
    other_client.force_login(alice, login_type="FE")
    run(admin, "end_selected_sessions", *ses_ids_in(anywhere))
    assert other_client.session("FE").user_session.is_anonymous


def test_all_sessions_of_these_users_end_in_every_login_type(
    admin: Client, anywhere: SessionBackend, alice: Any, bob: Any
) -> None:
    picked, visitor, _ = (put(anywhere, ses_userid=user_id) for user_id in (alice.pk, 0, alice.pk))
    bobs = put(anywhere, ses_userid=bob.pk)
    BackendSessionFactory(ses_userid=alice.pk)
    said = run(admin, "end_all_sessions_of_users", picked, visitor, NO_HASH)
    assert said == [("success", "3 sessions were ended.")]
    assert ses_ids_in(anywhere) == {visitor, bobs}
    assert not BackendSession.objects.filter(ses_userid=alice.pk).exists()


@pytest.mark.parametrize("user_id", [0, -1])
def test_all_sessions_of_nobody_are_not_those_of_all_visitors(
    admin: Client, anywhere: SessionBackend, user_id: int
) -> None:
    """Picking a visitor must not empty every basket of the site."""
    visitors = {put(anywhere, ses_userid=user_id) for _ in range(2)}
    said = run(admin, "end_all_sessions_of_users", *visitors)
    assert said == [("success", "0 sessions were ended.")]
    assert ses_ids_in(anywhere) == visitors


def test_action_comes_back_to_the_same_page(admin: Client, dicts: SessionBackend) -> None:
    response = admin.post(list_url() + "?q=alice", {"action": "end_selected_sessions"})
    assert (response.status_code, response["Location"]) == (302, list_url() + "?q=alice")


def test_actions_are_offered_as_those_of_a_table(admin: Client, dicts: SessionBackend) -> None:
    put(dicts)
    offered = [
        [(value, str(label)) for value, label in found.fields["action"].choices]
        for found in (
            admin.get(list_url(name)).context["action_form"]
            for name in ("frontendsession", "backendsession")
        )
    ]
    assert offered[0][1:] == [
        ("end_selected_sessions", "End selected sessions"),
        ("end_all_sessions_of_users", "End all sessions of these users"),
    ]
    assert offered[0] == offered[1]


def test_page_tells_how_many_sessions_are_selected(admin: Client, dicts: SessionBackend) -> None:
    put(dicts)
    put(dicts)
    assert "0 of 2 selected" in admin.get(list_url()).content.decode()


def test_boxes_name_sessions_by_their_hashes(admin: Client, storage: SessionBackend) -> None:
    ses_ids = {put(storage) for _ in range(2)}
    boxes = r'name="_selected_action" value="([^"]*)" class="action-select"'
    assert set(re.findall(boxes, admin.get(list_url()).content.decode())) == ses_ids


NOTHING_SELECTED = (
    "Items must be selected in order to perform actions on them. No items have been changed."
)


@pytest.mark.parametrize(
    ("action", "selected", "told"),
    [
        ("end_selected_sessions", [], NOTHING_SELECTED),
        ("end_selected_sessions", ["junk", "*", "\0"], NOTHING_SELECTED),
        ("delete_selected", [NO_HASH], "No action selected."),
        ("junk", [NO_HASH], "No action selected."),
        ("", [NO_HASH], "No action selected."),
    ],
)
def test_wrong_form_ends_nothing_and_says_why(
    admin: Client, storage: SessionBackend, action: str, selected: list[str], told: str
) -> None:
    put(storage)
    assert run(admin, action, *selected) == [("warning", told)]
    assert len(ses_ids_in(storage)) == 1


def test_form_of_another_site_ends_nothing(anywhere: SessionBackend, superuser: Any) -> None:
    """CSRF: a page elsewhere must not end sessions with the cookies of staff."""
    client = Client(enforce_csrf_checks=True)
    client.force_login(superuser, login_type="BE")
    ses_id = put(anywhere)
    data = {"action": "end_selected_sessions", "_selected_action": [ses_id]}
    assert client.post(list_url(), data).status_code == 403
    assert ses_ids_in(anywhere) == {ses_id}


# Permissions


@pytest.mark.parametrize(
    ("permission", "sees", "ends"),
    [
        pytest.param("view_user", False, False, id="none"),
        pytest.param("add_frontendsession", False, False, id="add"),
        pytest.param("delete_backendsession", False, False, id="those-of-the-other-type"),
        pytest.param("view_frontendsession", True, False, id="view"),
        pytest.param("change_frontendsession", True, False, id="change-is-to-view"),
        pytest.param("delete_frontendsession", True, True, id="delete"),
    ],
)
def test_permissions_are_those_of_the_model(
    staff: Callable[..., Client], anywhere: SessionBackend, permission: str, sees: bool, ends: bool
) -> None:
    client = staff(permission)
    ses_id = put(anywhere)
    status = 200 if sees else 403
    assert client.get(list_url()).status_code == status
    assert client.get(detail_url(ses_id)).status_code == status
    assert ('name="action"' in client.get(list_url()).content.decode()) is ends
    # Django's own list shows itself again.
    refused = 200 if sees and isinstance(anywhere, DatabaseSessionBackend) else 403
    for action in ("end_all_sessions_of_users", "end_selected_sessions"):
        data = {"action": action, "_selected_action": [ses_id]}
        assert client.post(list_url(), data).status_code == (302 if ends else refused)
    assert (ses_ids_in(anywhere) == set()) is ends


def test_index_leads_to_sessions_wherever_they_are(
    staff: Callable[..., Client], dicts: SessionBackend
) -> None:
    body = staff("view_frontendsession").get(reverse("admin:index")).content.decode()
    assert list_url() in body
    assert list_url("backendsession") not in body


def test_sessions_of_a_type_that_one_may_not_end_stay(
    staff: Callable[..., Client], superuser: Any, settings: Any
) -> None:
    """Attack: end the superuser's backend session with a right to frontend sessions alone."""
    settings.USERSESSIONS = {"BE": DICT, "FE": DICT}
    client = staff("delete_frontendsession")
    frontend, backend = map(SessionManager.get_session_backend, ("FE", "BE"))
    picked, kept = put(frontend, ses_userid=superuser.pk), put(backend, ses_userid=superuser.pk)
    said = run(client, "end_all_sessions_of_users", picked)
    assert said == [("success", "1 session was ended.")]
    assert kept in ses_ids_in(backend)


def test_backend_sessions_without_a_table_end_by_the_permission_of_their_model(
    staff: Callable[..., Client], alice: Any, settings: Any
) -> None:
    settings.USERSESSIONS = {"BE": DICT}
    client = staff("delete_frontendsession", "delete_backendsession")
    backend = SessionManager.get_session_backend("BE")
    ended = put(backend, ses_userid=alice.pk)
    picked = FrontendSessionFactory(ses_userid=alice.pk)
    said = run(client, "end_all_sessions_of_users", picked.pk)
    assert said == [("success", "2 sessions were ended.")]
    assert ended not in ses_ids_in(backend)


def test_admins_own_rule_for_ending_goes_for_storages_too(
    admin: Client, dicts: SessionBackend, alice: Any
) -> None:
    ses_id = put(dicts, ses_userid=alice.pk)
    url = list_url(site="library")
    assert admin.get(url).context["action_form"] is None
    data = {"action": "end_selected_sessions", "_selected_action": [ses_id]}
    assert admin.post(url, data).status_code == 403
    assert ses_ids_in(dicts) == {ses_id}


def test_admins_own_rule_holds_when_sessions_end_from_another_page(
    admin: Client, settings: Any, alice: Any
) -> None:
    """Attack: end from the shop's page what the page of the frontend refuses to end."""
    settings.USERSESSIONS = SHOP
    shop = SessionManager.get_session_backend("SHOP")
    picked = put(shop, ses_userid=alice.pk)
    FrontendSessionFactory(ses_userid=alice.pk)
    url = shop_url(host="frontendsession", site="library")
    assert run(admin, "end_all_sessions_of_users", picked, url=url) == [
        ("success", "1 session was ended.")
    ]
    assert FrontendSession.objects.exists()


# Login types for which no model stands


def test_superuser_sees_and_ends_the_sessions_of_a_type_without_model(
    admin: Client, shop: SessionBackend, alice: Any
) -> None:
    ses_id = put(shop, ses_userid=alice.pk)
    [row] = rows_of(admin.get(shop_url()))
    assert (row["short_hash"], row["user_name"]) == (ses_id[:8], "alice")
    assert fields_of(admin.get(shop_url(ses_id)))["user_name"] == "alice"
    said = run(admin, "end_selected_sessions", ses_id, url=shop_url())
    assert said == [("success", "1 session was ended.")]
    assert ses_ids_in(shop) == set()


def test_page_of_a_type_without_model_bears_its_name(admin: Client, shop: SessionBackend) -> None:
    listed = admin.get(shop_url())
    assert listed.context["title"] == "Select SHOP session to view"
    assert "SHOP sessions" in listed.content.decode().partition("breadcrumbs")[2]
    shown = admin.get(shop_url(put(shop)))
    assert shown.context["title"] == "View SHOP session"
    assert link_after(shown, "SHOP sessions") == shop_url()
    assert link_after(shown, "Close") == shop_url()


def test_sessions_of_a_type_without_model_are_for_superusers_alone(
    staff: Callable[..., Client], shop: SessionBackend
) -> None:
    """Attack: permissions for the tables that are not even those of this login type."""
    tables = [
        f"{verb}_{model}session" for verb in ("view", "delete") for model in ("back", "front")
    ]
    client = staff(*(name.replace("session", "endsession") for name in tables))
    ses_id = put(shop)
    assert client.get(list_url()).status_code == 200
    assert client.get(shop_url()).status_code == 403
    assert client.get(shop_url(ses_id)).status_code == 403
    data = {"action": "end_selected_sessions", "_selected_action": [ses_id]}
    assert client.post(shop_url(), data).status_code == 403
    assert ses_ids_in(shop) == {ses_id}


@pytest.mark.parametrize("login_type", ["FE", "NONSENSE"])
def test_only_types_without_model_have_pages_below_another(
    admin: Client, dicts: SessionBackend, login_type: str
) -> None:
    """Attack: reach the frontend's sessions with the permission for those of the backend."""
    assert admin.get(f"{list_url('backendsession')}of/{login_type}/").status_code == 404


def test_built_in_type_whose_table_is_anothers_is_for_superusers(
    staff: Callable[..., Client], settings: Any
) -> None:
    """Attack: a permission for the shop's table must not open what the frontend keeps elsewhere."""
    settings.USERSESSIONS = {
        "FE": DICT,
        "SHOP": {
            "BACKEND": "usersessions.backends.database.DatabaseSessionBackend",
            "OPTIONS": {"model": "django_usersessions.FrontendSession"},
            "URL_PREFIXES": ["/shop/"],
        },
    }
    put(SessionManager.get_session_backend("FE"))
    row = FrontendSessionFactory()
    client = staff("view_frontendsession", "delete_frontendsession")
    assert hashes_in(client.get(list_url())) == {row.short_hash}
    assert client.get(f"{list_url()}of/FE/").status_code == 403


# From one login type to another


def test_links_lead_from_each_login_type_to_the_others(admin: Client, settings: Any) -> None:
    settings.USERSESSIONS = {"FE": DICT, **SHOP}
    for shown, url, host in (
        ("Frontend sessions", list_url(), "frontendsession"),
        ("Backend sessions", list_url("backendsession"), "backendsession"),
        ("SHOP sessions", shop_url(), "backendsession"),
    ):
        assert links_between_login_types(admin.get(url)) == {
            "Frontend sessions": list_url(),
            "SHOP sessions": shop_url(host=host),
            "Backend sessions": list_url("backendsession"),
            shown: None,
        }


def test_links_lead_only_where_the_person_may_go(
    staff: Callable[..., Client], settings: Any
) -> None:
    settings.USERSESSIONS = {"FE": DICT, **SHOP}
    client = staff("view_frontendsession")
    assert links_between_login_types(client.get(list_url())) == {}
    client = staff("view_frontendsession", "view_backendsession")
    assert set(links_between_login_types(client.get(list_url()))) == {
        "Backend sessions",
        "Frontend sessions",
    }


def test_login_types_that_share_a_table_have_one_link(admin: Client, settings: Any) -> None:
    settings.USERSESSIONS = {
        "FE": {"OPTIONS": {"model": "django_usersessions.BackendSession"}},
        **SHOP,
    }
    links = links_between_login_types(admin.get(list_url("backendsession")))
    assert set(links) == {"Backend sessions", "SHOP sessions"}


# Other admin sites


def test_site_of_ones_own_shows_sessions_within_itself(
    admin: Client, settings: Any, alice: Any
) -> None:
    settings.USERSESSIONS = {"FE": DICT, **SHOP}
    ses_id = put(SessionManager.get_session_backend("FE"), ses_userid=alice.pk)
    response = admin.get(list_url(site="office"))
    assert len(rows_of(response)) == 1
    assert links_between_login_types(response) == {
        "Frontend sessions": None,
        "SHOP sessions": shop_url(host="frontendsession", site="office"),
    }
    links = re.findall(r'(?:href|action)="(/admin/[^"]*)"', response.content.decode())
    assert f"/admin/office/django_usersessions/frontendsession/{ses_id}/change/" in links
    assert [link for link in links if not link.startswith("/admin/office/")] == []


def test_site_of_ones_own_offers_the_actions_that_its_admin_has(
    admin: Client, dicts: SessionBackend
) -> None:
    put(dicts)
    choices = admin.get(list_url(site="office")).context["action_form"].fields["action"].choices
    assert [value for value, _ in choices if value] == ["end_selected_sessions"]


def test_admin_that_knows_nothing_of_sessions_is_not_linked(
    admin: Client, shop: SessionBackend
) -> None:
    response = admin.get(list_url(site="library"))
    assert set(links_between_login_types(response)) == {"Frontend sessions", "SHOP sessions"}


def test_users_sessions_end_where_the_site_does_not_show_them(
    admin: Client, settings: Any, alice: Any
) -> None:
    """The delete permission counts, as the site has no admin for the model to ask."""
    settings.USERSESSIONS = SHOP
    picked = put(SessionManager.get_session_backend("SHOP"), ses_userid=alice.pk)
    BackendSessionFactory(ses_userid=alice.pk)
    url = shop_url(host="frontendsession", site="library")
    said = run(admin, "end_all_sessions_of_users", picked, url=url)
    assert said == [("success", "2 sessions were ended.")]


def test_site_without_the_model_leaves_the_others_as_they_are(
    admin: Client, superuser: Any, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.USERSESSIONS = {"BE": DICT, **SHOP}
    admin.force_login(superuser, login_type="BE")  # into the storage that has just been set
    monkeypatch.delitem(django_admin.site._registry, BackendSession)
    links = links_between_login_types(admin.get(list_url()))
    assert set(links) == {"Frontend sessions", "SHOP sessions"}


# A storage that is down


def test_storage_that_is_down_is_an_error_of_its_page_alone(
    admin: Client, settings: Any, tmp_path: Any
) -> None:
    server = RedisServer(tmp_path)
    settings.USERSESSIONS = {
        "FE": {
            "BACKEND": "usersessions.backends.redis.RedisSessionBackend",
            "OPTIONS": {"url": server.url},
        }
    }
    backend = SessionManager.get_session_backend("FE")
    ses_id = put(backend)
    server.close()
    backend.close()  # type: ignore[attr-defined]
    for url in (list_url(), detail_url(ses_id)):
        with pytest.raises(redis.ConnectionError):
            admin.get(url)
    assert admin.get(reverse("admin:index")).status_code == 200
    assert set(links_between_login_types(admin.get(list_url("backendsession")))) == {
        "Backend sessions",
        "Frontend sessions",
    }


# In other languages


@pytest.mark.parametrize(
    ("language", "words"),
    [
        ("de", ["SHOP-Sitzungen", "2 Sitzungen auf dieser Seite", "Ausgewählte Sitzungen beenden"]),
        ("fr", ["Sessions SHOP", "2 sessions sur cette page", "Fermer les sessions sélectionnées"]),
    ],
)
def test_list_is_in_the_browsers_language(
    admin: Client, shop: SessionBackend, settings: Any, language: str, words: list[str]
) -> None:
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "django.middleware.locale.LocaleMiddleware"]
    put(shop)
    put(shop)
    with override("en"):  # what the request switches on is switched off again
        response = admin.get(shop_url(), headers={"accept-language": language})
    shown = " ".join(re.sub(r"<[^>]*>", " ", response.content.decode()).split())
    assert [text for text in words if text not in shown] == []
