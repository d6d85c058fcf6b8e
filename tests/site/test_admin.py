"""Who is logged in, and how to end it, in the admin; test_admin_storages asks all storages."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from tests.conftest import SessionQueries
from tests.contract.session_backend import second_database
from tests.factories import NOW, BackendSessionFactory, FrontendSessionFactory, UserFactory
from usersessions import SessionManager
from usersessions.models import BackendSession, FrontendSession
from usersessions.test import Client

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.urls_admin")]

#: The year 2100: whatever was used then is still good when this runs; 1970 is over.
FAR_FUTURE = 4_102_444_800


@pytest.fixture(autouse=True)
def _default_settings(settings: Any) -> None:
    settings.USERSESSIONS = {}


def list_url(model: type = FrontendSession) -> str:
    return reverse(f"admin:django_usersessions_{model.__name__.lower()}_changelist")


def detail_url(session: Any) -> str:
    name = type(session).__name__.lower()
    return reverse(f"admin:django_usersessions_{name}_change", args=[session.pk])


def text_of(fragment: str) -> str:
    return html.unescape(re.sub(r"<[^>]*>", "", fragment)).strip()


def rows_of(response: Any) -> list[dict[str, str]]:
    """Return the columns of each row of a list page, as a person reads them."""
    assert response.status_code == 200
    body = response.content.decode().partition("<tbody>")[2].partition("</tbody>")[0]
    return [
        {
            name: text_of(cell)
            for name, cell in re.findall(r'<t[dh] class="field-(\w+)[^"]*">(.*?)</t[dh]>', row)
        }
        for row in body.split("</tr>")[:-1]
    ]


def fields_of(response: Any) -> dict[str, str]:
    """Return the fields of a detail page, as a person reads them."""
    assert response.status_code == 200
    found = re.findall(
        r'class="form-row field-(\w+)">.*?<div class="readonly">(.*?)</div>',
        response.content.decode(),
        re.DOTALL,
    )
    return {name: text_of(field) for name, field in found}


def hashes_in(response: Any) -> set[str]:
    return {row["short_hash"] for row in rows_of(response)}


def run(client: Client, action: str, *sessions: Any, **data: Any) -> list[str]:
    """Run an action on these rows; return what the next page says."""
    answer = client.post(
        list_url(type(sessions[0])),
        {"action": action, "_selected_action": [session.pk for session in sessions], **data},
        follow=True,
    )
    return [str(message) for message in answer.context["messages"]]


# The list


def test_expiry_follows_the_settings(admin: Client, settings: Any) -> None:
    FrontendSessionFactory(ses_userid=7)
    settings.USERSESSIONS = {"FE": {"TIMEOUT": 3600}}
    [row] = rows_of(admin.get(list_url()))
    assert row["expires_at"] == "Jan. 1, 2025, 1 a.m."


def test_backend_list_shows_the_session_that_reads_it(admin: Client) -> None:
    [row] = rows_of(admin.get(list_url(BackendSession)))
    assert (row["user_name"], row["kind"]) == ("admin", "User")


@pytest.mark.parametrize("deleted", [False, True], ids=["users", "deleted-users"])
def test_list_costs_the_same_however_many_sessions_it_shows(admin: Client, deleted: bool) -> None:
    def add_sessions(number: int) -> None:
        for user in UserFactory.create_batch(number):
            FrontendSessionFactory(ses_userid=user.pk + 1_000_000 * deleted)

    costs = []
    for number in (1, 20):
        add_sessions(number)
        with CaptureQueriesContext(connection) as queries:
            admin.get(list_url())
        costs.append(len(queries))
    assert costs[0] == costs[1]


# Filters


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", {"a", "b", "c", "d"}),
        ("?kind=anonymous", {"a", "b"}),
        ("?kind=user", {"c", "d"}),
        ("?kind=permanent", {"d"}),
        ("?kind=nonsense", {"a", "b", "c", "d"}),
        ("?state=active", {"b", "d"}),
        ("?state=expired", {"a", "c"}),
        ("?kind=user&state=expired", {"c"}),
    ],
)
def test_filters(admin: Client, query: str, expected: set[str]) -> None:
    for letter, fields in {
        "a": {"ses_tstamp": 0},
        "b": {"ses_tstamp": FAR_FUTURE},
        "c": {"ses_tstamp": 0, "ses_userid": 7},
        "d": {"ses_tstamp": FAR_FUTURE, "ses_userid": 7, "ses_permanent": True},
    }.items():
        FrontendSessionFactory(ses_id=letter * 64, **fields)
    assert hashes_in(admin.get(list_url() + query)) == {letter * 8 for letter in expected}


def choices_of(response: Any, parameter: str) -> list[str]:
    [found] = [
        spec
        for spec in response.context["cl"].filter_specs
        if getattr(spec, "parameter_name", "") == parameter
    ]
    return [str(choice["display"]) for choice in found.choices(response.context["cl"])]


@pytest.mark.parametrize(
    ("model", "kinds"),
    [
        (FrontendSession, ["All", "Anonymous", "User", "Permanent"]),
        (BackendSession, ["All", "Anonymous", "User"]),
    ],
)
def test_kinds_on_offer(admin: Client, model: type, kinds: list[str]) -> None:
    assert choices_of(admin.get(list_url(model)), "kind") == kinds


def test_states_on_offer(admin: Client) -> None:
    assert choices_of(admin.get(list_url()), "state") == ["All", "Active", "Expired"]


def test_kind_that_a_table_does_not_know_is_ignored(admin: Client) -> None:
    """An address that was typed in by hand is no error page."""
    assert len(rows_of(admin.get(list_url(BackendSession) + "?kind=permanent"))) == 1


@pytest.mark.parametrize(
    ("fields", "state"),
    [
        pytest.param({"ses_userid": 7, "ses_tstamp": FAR_FUTURE}, "expired", id="user"),
        pytest.param({"ses_userid": 0, "ses_tstamp": FAR_FUTURE}, "active", id="visitor"),
    ],
)
def test_timeout_of_zero_expires_every_session_of_a_user(
    admin: Client, settings: Any, fields: dict[str, int], state: str
) -> None:
    settings.USERSESSIONS = {"FE": {"TIMEOUT": 0}}
    FrontendSessionFactory(**fields)
    assert len(rows_of(admin.get(list_url() + f"?state={state}"))) == 1


# A million sessions


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lists hold 4 sessions, 2 a page, as if these were 10,000 and 100."""
    monkeypatch.setattr("usersessions.admin.sessions.MAX_LISTED", 4)
    monkeypatch.setattr("usersessions.admin.sessions.UserSessionAdmin.list_per_page", 2)


def title_of(response: Any) -> str:
    return text_of(re.findall("<h1>(.*?)</h1>", response.content.decode())[-1])


@pytest.mark.parametrize(
    ("number", "title", "pages"),
    [
        pytest.param(4, "Select frontend session to view", 2, id="all"),
        pytest.param(
            5, "More than 4 sessions: only the first 4 in this order are listed", 2, id="more"
        ),
    ],
)
def test_list_says_that_it_does_not_hold_all(
    admin: Client, listed: None, number: int, title: str, pages: int
) -> None:
    FrontendSessionFactory.create_batch(number)
    response = admin.get(list_url())
    assert (title_of(response), response.context["cl"].paginator.num_pages) == (title, pages)
    assert response.context["cl"].result_count == 4


def test_pages_of_a_long_list_hold_each_session_once(admin: Client, listed: None) -> None:
    """Also where all of them were used in the same second."""
    for letter in "abcde":
        FrontendSessionFactory(ses_id=letter * 64)
    pages = [hashes_in(admin.get(list_url() + query)) for query in ("", "?p=2")]
    assert len(pages[0] | pages[1]) == 4
    assert admin.get(list_url() + "?p=3").status_code == 302


def statements_for(client: Client, url: str) -> list[str]:
    """Return the statements on the table of frontend sessions that a page costs."""
    with CaptureQueriesContext(connection) as queries:
        assert client.get(url).status_code == 200
    return [query["sql"] for query in queries if "fe_sessions" in query["sql"]]


@pytest.mark.parametrize(
    "query",
    ["", "?p=2", "?kind=user", "?state=expired", "?kind=permanent&state=active", "?q=alice"],
)
@pytest.mark.parametrize("facets", ["", "_facets=True"])
def test_no_page_counts_the_table(
    admin: Client, listed: None, alice: Any, query: str, facets: str
) -> None:
    FrontendSessionFactory.create_batch(
        5, ses_userid=alice.pk, ses_tstamp=FAR_FUTURE, ses_permanent=True
    )
    FrontendSessionFactory.create_batch(5, ses_userid=alice.pk, ses_tstamp=0)
    address = list_url() + (query or "?") + (facets and f"&{facets}")
    for sql in statements_for(admin, address):
        assert "COUNT(" not in sql or "LIMIT 5)" in sql


def test_page_reads_the_data_of_its_own_sessions_alone(admin: Client, listed: None) -> None:
    FrontendSessionFactory.create_batch(4)
    reading = [sql for sql in statements_for(admin, list_url() + "?p=2") if "ses_data" in sql]
    assert len(reading) == 1
    assert "OFFSET" not in reading[0]


@pytest.mark.parametrize(
    ("query", "columns"),
    [
        pytest.param("", ["-ses_tstamp", "-ses_userid", "-ses_permanent", "-ses_id"], id="plain"),
        pytest.param("?o=4", ["ses_tstamp", "ses_userid", "ses_permanent", "ses_id"], id="time"),
        pytest.param("?o=4.1", ["ses_tstamp", "ses_userid", "ses_permanent", "ses_id"], id="both"),
        pytest.param("?o=1", ["ses_id"], id="hash"),
        pytest.param("?o=-1", ["-ses_id"], id="hash-backwards"),
        pytest.param(
            "?o=6", ["-ses_tstamp", "-ses_userid", "-ses_permanent", "-ses_id"], id="no-index"
        ),
    ],
)
def test_order_is_that_of_an_index(admin: Client, query: str, columns: list[str]) -> None:
    """To sort a million rows for a page takes seconds, also when the address was typed in."""
    FrontendSessionFactory.create_batch(2)
    response = admin.get(list_url() + query)
    assert list(response.context["cl"].queryset.query.order_by) == columns


def test_headings_offer_the_orders_that_an_index_has(admin: Client) -> None:
    FrontendSessionFactory()
    found = re.findall(r'"sortable column-(\w+)', admin.get(list_url()).content.decode())
    assert set(found) == {"short_hash", "updated_at"}


def test_order_that_a_site_gives_its_own_list_stays(
    admin: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("usersessions.admin.sessions.UserSessionAdmin.ordering", ("ses_iplock",))
    FrontendSessionFactory()
    response = admin.get(list_url())
    assert set(response.context["cl"].queryset.query.order_by) == {"ses_iplock", "-pk"}


@pytest.mark.parametrize(
    ("action", "sessions_left"),
    [("end_selected_sessions", 2), ("end_all_sessions_of_users", 2)],
)
def test_action_on_all_pages_is_for_the_sessions_that_are_listed(
    admin: Client, listed: None, action: str, sessions_left: int
) -> None:
    """What the page says it selects, "all 4", is what goes: the latest."""
    sessions = [
        FrontendSessionFactory(ses_tstamp=NOW + number, ses_userid=number + 1000)
        for number in range(6)
    ]
    assert run(admin, action, sessions[0], select_across="1") == ["4 sessions were ended."]
    assert set(FrontendSession.objects.all()) == set(sessions[:sessions_left])


# The detail page


@pytest.mark.parametrize(
    ("user_id", "name"), [(0, "-"), (123_456, "deleted user 123456")], ids=["nobody", "deleted"]
)
def test_detail_page_of_a_session_without_user(admin: Client, user_id: int, name: str) -> None:
    fields = fields_of(admin.get(detail_url(FrontendSessionFactory(ses_userid=user_id))))
    assert (fields["user_name"], fields["browser"], fields["data"]) == (name, "-", "{}")


def test_detail_page_shows_data_as_text(admin: Client) -> None:
    """Stored XSS: what a visitor put into their session must not run in the browser of staff."""
    script = "<script>alert(1)</script>"
    data = {"name": script, "_usersessions": {"user_agent": script}}
    session = FrontendSessionFactory(ses_data=json.dumps(data).encode())
    response = admin.get(detail_url(session))
    assert script not in response.content.decode()
    assert (json.loads(fields_of(response)["data"]), fields_of(response)["browser"]) == (
        {"name": script},
        script,
    )


class ReversedJson:
    """A site's own serializer."""

    def dumps(self, obj: Any) -> bytes:
        return json.dumps(obj).encode()[::-1]

    def loads(self, data: bytes) -> Any:
        return json.loads(data[::-1])


def test_detail_page_reads_what_the_serializer_of_the_settings_wrote(
    admin: Client, settings: Any
) -> None:
    settings.USERSESSIONS = {"FE": {"SERIALIZER": f"{__name__}.ReversedJson"}}
    session = FrontendSessionFactory(ses_data=ReversedJson().dumps({"basket": [1]}))
    assert json.loads(fields_of(admin.get(detail_url(session)))["data"]) == {"basket": [1]}


# The identifier


def test_own_cookie_is_nowhere(admin: Client) -> None:
    """Not even one's own: a page may be saved or shown to others."""
    token = admin.cookies["be_sessionid"].value
    identifier = admin.session("BE").session_key
    session = BackendSession.objects.get()
    page = detail_url(session)
    for url in (list_url(BackendSession), page, page.replace("/change/", "/history/")):
        body = admin.get(url).content.decode()
        assert session.short_hash in body
        assert token not in body
        assert str(identifier) not in body


# Ending sessions


def test_ending_the_own_session_logs_out(admin: Client) -> None:
    run(admin, "end_selected_sessions", BackendSession.objects.get())
    assert not BackendSession.objects.exists()
    assert admin.get(list_url()).status_code == 302


def test_many_sessions_end_in_chunks(admin: Client, session_queries: SessionQueries) -> None:
    """No statement takes more parameters than a database allows."""
    sessions = FrontendSession.objects.bulk_create(FrontendSessionFactory.build_batch(501))
    with session_queries:
        said = run(admin, "end_selected_sessions", sessions[0], select_across="1")
    assert said == ["501 sessions were ended."]
    assert session_queries.kinds.count("DELETE") == 2
    assert not FrontendSession.objects.exists()


# A table that no login type uses


@pytest.fixture
def unused(settings: Any) -> Any:
    """A row of a table whose login type has moved to another table."""
    settings.USERSESSIONS = {"FE": {"OPTIONS": {"model": "django_usersessions.BackendSession"}}}
    return FrontendSessionFactory(ses_userid=7, ses_tstamp=0)


def test_unused_table_has_no_expiry(admin: Client, unused: Any) -> None:
    [row] = rows_of(admin.get(list_url()))
    assert row["expires_at"] == "-"


@pytest.mark.parametrize("state", ["active", "expired"])
def test_unused_table_is_not_filtered_by_state(admin: Client, unused: Any, state: str) -> None:
    assert len(rows_of(admin.get(list_url() + f"?state={state}"))) == 1


def test_data_of_an_unused_table_is_read_as_json(admin: Client, unused: Any) -> None:
    assert fields_of(admin.get(detail_url(unused)))["data"] == "{}"


def test_unused_table_can_be_tidied_up(admin: Client, unused: Any) -> None:
    assert run(admin, "end_selected_sessions", unused) == ["1 session was ended."]
    assert not FrontendSession.objects.exists()


# Permissions


def test_customers_do_not_get_in(client: Client, alice: Any) -> None:
    client.force_login(alice, login_type="FE")
    assert client.get(list_url()).status_code == 302


@pytest.mark.parametrize("way", ["add", "change", "delete", "delete-action"])
def test_sessions_are_neither_made_nor_changed_nor_deleted_as_objects(
    admin: Client, way: str
) -> None:
    """Not even by a superuser: nobody can make a session for somebody else."""
    session = FrontendSessionFactory(ses_userid=7)
    add_url = reverse("admin:django_usersessions_frontendsession_add")
    delete_url = reverse("admin:django_usersessions_frontendsession_delete", args=[session.pk])
    response = {
        "add": lambda: admin.post(add_url, {"ses_id": "0" * 64, "ses_userid": 7}),
        "change": lambda: admin.post(detail_url(session), {"ses_userid": 8}),
        "delete": lambda: admin.post(delete_url, {"post": "yes"}),
        "delete-action": lambda: admin.post(
            list_url(),
            {"action": "delete_selected", "_selected_action": [session.pk], "post": "yes"},
        ),
    }[way]()
    assert response.status_code == (302 if way == "delete-action" else 403)
    assert FrontendSession.objects.values_list("ses_id", "ses_userid").get() == (session.pk, 7)


# Switching user


USERS = "staff:auth_user_changelist"


def switch(client: Client, login_type: str, *users: Any, **data: Any) -> Any:
    return client.post(
        reverse(USERS),
        {
            "action": f"switch_user_{login_type}",
            "_selected_action": [user.pk for user in users],
            **data,
        },
    )


def users_of(client: Client) -> dict[str, int | None]:
    """Return who the browser is logged in as, by login type."""
    return {name: client.session(name).user_session.user_id for name in ("BE", "FE")}


def refusals(client: Client, response: Any) -> list[tuple[str, str]]:
    """Return the messages of the list to which a refused action comes back."""
    assert (response.status_code, response["Location"]) == (302, reverse(USERS))
    messages = client.get(reverse(USERS)).context["messages"]
    return [(message.level_tag, str(message)) for message in messages]


def test_each_login_type_has_its_switch_action(admin: Client) -> None:
    choices = admin.get(reverse(USERS)).context["action_form"].fields["action"].choices
    assert [
        (value, str(label)) for value, label in choices if value.startswith("switch_user_")
    ] == [
        ("switch_user_BE", "Switch to this user (BE)"),
        ("switch_user_FE", "Switch to this user (FE)"),
    ]


def test_switching_in_the_frontend_shows_the_shop_as_the_customer(
    admin: Client, alice: Any, superuser: Any, settings: Any
) -> None:
    settings.LOGIN_REDIRECT_URL = "/account/"
    response = switch(admin, "FE", alice)
    assert (response.status_code, response["Location"]) == (302, "/account/")
    assert users_of(admin) == {"BE": superuser.pk, "FE": alice.pk}
    assert admin.session("FE")["backuserid"] == superuser.pk


def test_switching_in_the_backend_shows_the_admin_as_the_colleague(
    admin: Client, editor: Any, superuser: Any
) -> None:
    response = switch(admin, "BE", editor)
    assert (response.status_code, response["Location"]) == (302, "/admin/")
    assert users_of(admin) == {"BE": editor.pk, "FE": None}
    assert admin.session("BE")["backuserid"] == superuser.pk


def test_switched_session_offers_no_switch_actions(admin: Client, superuser: Any) -> None:
    switch(admin, "BE", UserFactory(is_staff=True, is_superuser=True))
    choices = admin.get(reverse(USERS)).context["action_form"].fields["action"].choices
    assert [value for value, _ in choices if value.startswith("switch_user_")] == []


@pytest.mark.parametrize("number", [2, 3])
@pytest.mark.parametrize("login_type", ["BE", "FE"])
def test_switching_needs_exactly_one_user(
    admin: Client, superuser: Any, login_type: str, number: int
) -> None:
    response = switch(admin, login_type, *UserFactory.create_batch(number, is_staff=True))
    assert refusals(admin, response) == [("error", "Select exactly one user to switch to.")]
    assert users_of(admin) == {"BE": superuser.pk, "FE": None}


def test_switching_to_a_user_who_is_gone_meanwhile_is_refused(
    admin: Client, superuser: Any
) -> None:
    gone = UserFactory()
    selected = [gone.pk]
    gone.delete()
    response = switch(admin, "FE", _selected_action=selected)
    assert refusals(admin, response) == [("error", "Select exactly one user to switch to.")]
    assert users_of(admin) == {"BE": superuser.pk, "FE": None}


def test_staff_without_the_right_to_switch_are_refused(
    staff: Callable[..., Client], editor: Any, alice: Any
) -> None:
    """Who may look at users may not become one of them."""
    client = staff("view_user")
    response = switch(client, "FE", alice)
    assert refusals(client, response) == [("error", "You may not switch user.")]
    assert users_of(client) == {"BE": editor.pk, "FE": None}


def test_switch_actions_leave_djangos(admin: Client) -> None:
    choices = admin.get(reverse(USERS)).context["action_form"].fields["action"].choices
    assert "delete_selected" in [value for value, _ in choices]
    assert User.objects.count() == 1


def test_staff_end_sessions_of_those_login_types_only_that_they_may_end(
    staff: Callable[..., Client], superuser: Any
) -> None:
    """Attack: end the superuser's backend session with a right to frontend sessions alone."""
    client = staff("delete_frontendsession")
    backend_session = BackendSessionFactory(ses_userid=superuser.pk)
    picked = FrontendSessionFactory(ses_userid=superuser.pk)
    assert run(client, "end_all_sessions_of_users", picked) == ["1 session was ended."]
    assert BackendSession.objects.filter(pk=backend_session.pk).exists()


def test_search_that_finds_very_many_users_says_so(
    admin: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("usersessions.admin.user_search.MAX_USERS_FOUND", 2)
    for user in UserFactory.create_batch(3):
        FrontendSessionFactory(ses_userid=user.pk)
    response = admin.get(list_url() + "?q=user")
    assert len(rows_of(response)) == 2
    assert [str(message) for message in response.context["messages"]] == [
        "More than 2 users match; not all of their sessions are shown."
    ]


def test_time_that_no_calendar_knows_is_not_shown(admin: Client) -> None:
    FrontendSessionFactory(ses_tstamp=10**15)
    (row,) = rows_of(admin.get(list_url()))
    assert (row["updated_at"], row["expires_at"]) == ("-", "-")


@pytest.mark.parametrize("is_superuser", [True, False], ids=["superuser", "staff"])
def test_superusers_alone_end_a_users_sessions_in_storages_without_a_table_too(
    staff: Callable[..., Client], editor: Any, alice: Any, settings: Any, is_superuser: bool
) -> None:
    client = staff("delete_frontendsession")
    User.objects.filter(pk=editor.pk).update(is_superuser=is_superuser)
    settings.USERSESSIONS = {
        "SHOP": {"BACKEND": "tests.contract.test_base.MemoryBackend", "URL_PREFIXES": ["/shop/"]}
    }
    backend = SessionManager.get_session_backend("SHOP")
    backend.set("0" * 32, {"ses_userid": alice.pk, "ses_tstamp": 0, "ses_data": b"{}"})
    picked = FrontendSessionFactory(ses_userid=alice.pk)
    said = run(client, "end_all_sessions_of_users", picked)
    assert said == ["2 sessions were ended." if is_superuser else "1 session was ended."]
    assert len(list(backend.get_all())) == (0 if is_superuser else 1)


def test_sessions_on_a_database_of_their_own_are_listed(
    admin: Client, settings: Any, tmp_path: Path
) -> None:
    with second_database(tmp_path / "sessions.sqlite3") as alias:
        settings.USERSESSIONS = {
            "FE": {"OPTIONS": {"model": "django_usersessions.FrontendSession", "using": alias}}
        }
        SessionManager.get_session_backend("FE").set("0" * 32, {"ses_data": b"{}"})
        assert len(rows_of(admin.get(list_url()))) == 1
