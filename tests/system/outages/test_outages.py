"""What visitors see of a storage that goes away, and that they are still logged in afterwards."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import redis

from tests.system.outages.browser import (
    Browser,
    log_in,
    logging_in,
    logging_out,
    looking_elsewhere,
    played,
    putting,
    reading,
)
from tests.system.outages.storages import PASSWORD, Storage

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.urls("tests.urls"),
    # redis-py lets go of a cluster's nodes during an outage without closing them.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@played
async def test_pages_fail_while_the_storage_is_down_and_visitors_stay_logged_in(
    storage: Storage, browser: Browser, alice: Any
) -> None:
    await log_in(browser, alice)
    await browser.call(storage.server.kill)
    for views in (reading(), putting("mug"), logging_out(), logging_in(alice)):
        await browser.fail(views, storage.errors)
        assert await browser.see(looking_elsewhere()) == "'news'"
    await browser.call(storage.server.recover)
    assert await browser.see(reading()) == "('alice', 'lamp')"
    assert await browser.see(putting("clock")) == "'clock'"
    assert await browser.see(reading()) == "('alice', 'clock')"


@pytest.mark.parametrize("storage", ["redis", "postgresql", "mariadb"], indirect=True)
@played
async def test_storage_that_goes_away_within_a_request_keeps_what_it_had(
    storage: Storage, browser: Browser, alice: Any
) -> None:
    await browser.see(putting("lamp"))
    await browser.fail(putting("mug", storage.server.kill), storage.errors)
    await browser.call(storage.server.recover)
    assert await browser.see(reading()) == "('', 'lamp')"
    await browser.fail(logging_in(alice, storage.server.kill), storage.errors)
    await browser.call(storage.server.recover)
    assert await browser.see(reading()) == "('', 'lamp')"
    assert len(await browser.call(list, storage.backend.get_all())) == 1


@pytest.mark.parametrize(
    ("storage", "most_failures"),
    # What looks at its connections before it uses them needs no request that fails.
    [("redis", 0), ("cluster", 1), ("pool", 0), ("postgresql", 1), ("mariadb", 1)],
    indirect=["storage"],
)
@played
async def test_connections_from_before_a_restart_fail_one_request_at_the_most(
    storage: Storage, browser: Browser, alice: Any, most_failures: int
) -> None:
    await log_in(browser, alice)
    await browser.call(storage.server.restart)
    for _ in range(most_failures):
        await browser.visit(reading())
    assert await browser.see(reading()) == "('alice', 'lamp')"


@pytest.mark.parametrize("storage", ["redis", "mariadb"], indirect=True)
@played
async def test_server_that_hangs_is_waited_for_as_long_as_its_timeout_says(
    storage: Storage, browser: Browser, alice: Any
) -> None:
    await log_in(browser, alice)
    storage.server.pause()
    await browser.fail(reading(), storage.errors)
    await browser.call(storage.server.recover)
    assert await browser.see(reading()) == "('alice', 'lamp')"


@pytest.mark.parametrize("storage", ["postgresql"], indirect=True)
@played
async def test_statement_that_waits_for_a_lock_ends_as_the_timeout_says(
    storage: Storage, browser: Browser, alice: Any
) -> None:
    await log_in(browser, alice)
    connection = storage.server.connect("sessions")
    connection.autocommit = False
    connection.execute("LOCK TABLE fe_sessions")
    await browser.fail(reading(), storage.errors)
    connection.close()
    assert await browser.see(reading()) == "('alice', 'lamp')"


@pytest.mark.parametrize("storage", ["redis", "cluster"], indirect=True)
@played
async def test_answer_that_comes_too_late_is_nobody_elses(
    storage: Storage, browser: Browser, alice: Any
) -> None:
    """What was asked for one visitor must not be read as the answer to another one's question."""
    other = Browser(is_async=browser.is_async)
    await log_in(browser, alice)
    await other.see(putting("mug"))
    storage.server.pause()
    await browser.fail(reading(), storage.errors)
    storage.server.resume()
    for _ in range(2):
        assert await other.see(reading()) == "('', 'mug')"
        assert await browser.see(reading()) == "('alice', 'lamp')"


@pytest.mark.parametrize("storage", ["redis", "cluster"], indirect=True)
@pytest.mark.parametrize("browser", [True], ids=["asgi"], indirect=True)
@played
async def test_answer_to_a_visitor_who_has_left_is_nobody_elses(
    storage: Storage, browser: Browser, alice: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Browser(is_async=True)
    await log_in(browser, alice)
    await other.see(putting("mug"))
    loop, was_asked = asyncio.get_running_loop(), asyncio.Event()
    send = redis.connection.AbstractConnection.send_packed_command

    def send_and_tell(*args: Any, **options: Any) -> None:
        send(*args, **options)
        loop.call_soon_threadsafe(was_asked.set)

    storage.server.pause()
    with monkeypatch.context() as patch:
        patch.setattr(redis.connection.AbstractConnection, "send_packed_command", send_and_tell)
        visit = asyncio.ensure_future(browser.visit(reading()))
        await was_asked.wait()
    visit.cancel()
    storage.server.resume()
    await asyncio.wait([visit])
    for _ in range(2):
        assert await other.see(reading()) == "('', 'mug')"
        assert await browser.see(reading()) == "('alice', 'lamp')"


@pytest.mark.parametrize("storage", ["redis", "postgresql", "mariadb"], indirect=True)
@pytest.mark.parametrize("browser", [False], ids=["wsgi"], indirect=True)
@played
async def test_logs_of_an_outage_have_no_secrets(
    storage: Storage, browser: Browser, alice: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever reads the log must not be able to log in."""
    caplog.set_level("DEBUG")
    await log_in(browser, alice)
    identifier = await browser.call(lambda: browser.client.session.session_key)
    await browser.call(storage.server.kill)
    await browser.fail(reading(), storage.errors)
    await browser.call(storage.server.recover)
    assert "Internal Server Error" in caplog.text
    for secret in (identifier, browser.cookie, PASSWORD):
        assert secret not in caplog.text
