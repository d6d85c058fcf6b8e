"""Short runs, and all that has been of interest before."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from django.http import HttpResponse
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.system.fuzzing import site as site_module
from tests.system.fuzzing import stored_data
from tests.system.fuzzing.cookies import cookie_header, genuine
from tests.system.fuzzing.corpus import FOLDER
from tests.system.fuzzing.site import IDENTIFIER, SCOPES, Broken, Site, open_site
from tests.system.fuzzing.stored_data import StoredSite, open_stored_site, stored_bytes
from tests.urls import visit
from usersessions.backends.base import SessionBackend
from usersessions.test import Client

ROOT = Path(__file__).parents[3]
DATABASE = "usersessions.backends.database.DatabaseSessionBackend"

pytestmark = pytest.mark.django_db

quickly = hypothesis_settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(autouse=True)
def _no_warnings_of_bad_data(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR, "django.security.SuspiciousSession")


@pytest.fixture
def site() -> Iterator[Site]:
    with open_site() as site:
        yield site


@pytest.fixture(params=[stored_data.MEMORY, DATABASE], ids=["memory", "database"])
def stored_site(request: pytest.FixtureRequest) -> Iterator[StoredSite]:
    with open_stored_site(request.param) as site:
        yield site


# Cookies


@pytest.mark.parametrize("name", sorted(path.name for path in (FOLDER / "cookies").iterdir()))
def test_cookie_of_the_corpus_is_nobodys(site: Site, name: str) -> None:
    """Attack: all that has been tried before."""
    assert site.visit((FOLDER / "cookies" / name).read_bytes())


parts = st.one_of(
    st.sampled_from(["eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9", "e30", "", "bnVsbA", "W10"]),
    st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_", max_size=60),
)
values = st.one_of(
    st.binary(),
    st.text().map(lambda text: text.encode(errors="surrogatepass")),
    st.lists(parts, min_size=2, max_size=4).map(lambda found: ".".join(found).encode()),
)


@given(name=st.sampled_from(sorted(SCOPES)), value=values, before=values)
@quickly
def test_random_cookie_is_nobodys(site: Site, name: str, value: bytes, before: bytes) -> None:
    assert site.visit(before + b"; " + name.encode() + b"=" + value)


@given(random=st.randoms(use_true_random=False))
@quickly
def test_edited_spliced_and_forged_cookie_is_nobodys(site: Site, random: Random) -> None:
    """Attack: genuine tokens of other places, parts of two, wrong parts under the right key."""
    site.visit(cookie_header(random))


@given(
    one=st.integers(0, 2**32),
    other=st.integers(0, 2**32),
    start=st.integers(0, 400),
    end=st.integers(0, 400),
)
@quickly
def test_piece_of_one_genuine_token_in_another_is_nobodys(
    site: Site, one: int, other: int, start: int, end: int
) -> None:
    host, guest = genuine(Random(one)), genuine(Random(other))
    site.visit(b"fe_sessionid=" + host[:start] + guest[start:end] + host[end:])


# Stored data


@pytest.mark.parametrize("name", sorted(path.name for path in (FOLDER / "stored").iterdir()))
def test_stored_data_of_the_corpus_is_read_or_left_alone(
    stored_site: StoredSite, name: str
) -> None:
    stored_site.use((FOLDER / "stored" / name).read_bytes())


@given(stored=st.one_of(st.binary(), st.randoms(use_true_random=False).map(stored_bytes)))
@quickly
def test_random_stored_data_is_read_or_left_alone(stored_site: StoredSite, stored: bytes) -> None:
    """Corrupt bytes give an anonymous session and stay for inspection; no request fails."""
    stored_site.use(stored)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@pytest.mark.urls("tests.urls")
@given(data=st.dictionaries(st.text().map("k{}".format), json_values, min_size=1))
@hypothesis_settings(quickly, max_examples=30)
def test_random_data_is_the_same_after_save_and_reload(data: dict[str, Any]) -> None:
    client = Client()
    visit(client, lambda request: request.session.update(data))
    assert visit(client, lambda request: dict(request.session)).content == repr(data).encode()


# The runs


def test_run_says_what_it_found() -> None:
    command = [sys.executable, "-m", "tests.system.fuzzing", "--cookies", "1000", "--stored", "50"]
    done = subprocess.run(  # noqa: S603 - our own command
        command, cwd=ROOT, capture_output=True, text=True, check=True
    )
    cookies, stored = done.stdout.splitlines()
    assert cookies.startswith("1000 cookies in ")
    assert "none accepted, no exception, no query, no cookie set." in cookies
    assert stored.startswith("50 stored sessions in ")


def test_run_makes_up_the_same_again() -> None:
    one, other = Random(5), Random(5)
    assert [cookie_header(one) for _ in range(50)] == [cookie_header(other) for _ in range(50)]


def test_genuine_cookie_is_not_sent(site: Site) -> None:
    token = SCOPES["fe_sessionid"].sign(IDENTIFIER, 0).encode()
    assert not site.visit(b"fe_sessionid=" + token)


@pytest.fixture
def _nothing_is_genuine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site_module, "is_genuine", lambda name, token: False)


@pytest.mark.usefixtures("_nothing_is_genuine")
def test_run_would_find_a_cookie_that_leads_to_a_query(site: Site) -> None:
    token = SCOPES["fe_sessionid"].sign(IDENTIFIER, 0).encode()
    with pytest.raises(
        Broken, match=r"^AssertionError: A query\. Keep it in tests/system/fuzzing/"
    ):
        site.visit(b"fe_sessionid=" + token)


@pytest.mark.usefixtures("_nothing_is_genuine")
def test_run_would_find_a_cookie_that_is_accepted() -> None:
    with open_stored_site() as stored:
        stored.use(b'{"a":1}')
        token = SCOPES["fe_sessionid"].sign(IDENTIFIER, 0).encode()
        with pytest.raises(Broken, match=r"^The answer is 418"):
            Site().visit(b"fe_sessionid=" + token)


def test_run_would_find_an_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(backend: Any, *args: Any, **kwargs: Any) -> None:
        raise RuntimeError("found")

    with open_stored_site() as stored:
        monkeypatch.setattr(SessionBackend, "update", fail)
        with pytest.raises(stored_data.Broken, match=r"^RuntimeError: found\. Keep it in tests/"):
            stored.use(b'{"a":1}')


def test_run_would_find_data_that_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    def empty(middleware: Any, request: Any) -> HttpResponse:
        return HttpResponse()

    with open_stored_site() as stored:
        monkeypatch.setattr(stored_data.UserSessionMiddleware, "__call__", empty)
        with pytest.raises(stored_data.Broken, match=r"^It became "):
            stored.use(b'{"a":1}')
