"""Connections that are lost when the server has done its work: nothing is half done."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.database_servers import DatabaseServer
from tests.redis_servers import RedisServer
from tests.system.outages.browser import (
    Browser,
    log_in,
    logging_in,
    logging_out,
    played,
    putting,
    reading,
    renewing,
)
from tests.system.outages.proxies import Proxy
from tests.system.outages.storages import (
    ClusterStorage,
    DatabaseStorage,
    RedisStorage,
    Storage,
    proxies_before,
    words_of,
)
from usersessions.backends.redis.scripts import INSERT

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.urls("tests.urls"),
    # redis-py lets go of a cluster's nodes during an outage without closing them.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@pytest.fixture
def storage(
    request: pytest.FixtureRequest, storage_name: str, db: None, settings: Any
) -> Iterator[Storage]:
    """A storage behind proxies, which ``losing()`` tells to lose an answer."""
    if storage_name == "cluster":
        with proxies_before(request.getfixturevalue("redis_cluster")) as proxies:
            cluster = ClusterStorage(request.getfixturevalue("redis_cluster"), proxies)
            cluster.proxies = proxies
            with cluster.in_use(settings):
                yield cluster
        return
    server: RedisServer | DatabaseServer = request.getfixturevalue(storage_name)
    proxy = Proxy(server.port)
    storage: Storage = (
        RedisStorage(server, proxy.port)
        if isinstance(server, RedisServer)
        else DatabaseStorage(server, proxy.port, CONN_MAX_AGE=None)
    )
    storage.proxies = [proxy]
    with storage.in_use(settings):
        yield storage
    proxy.close()


on_every_storage = pytest.mark.parametrize(
    "storage_name", ["redis_server", "cluster", "postgres", "mariadb"]
)


@on_every_storage
@played
async def test_lost_answer_to_a_reading_fails_one_request(
    storage: Storage, browser: Browser, alice: Any
) -> None:
    await log_in(browser, alice)
    with storage.losing_answer_to(storage.reads):
        await browser.fail(reading(), storage.errors)
    assert await browser.see(reading()) == "('alice', 'lamp')"


@on_every_storage
@played
async def test_change_whose_answer_is_lost_is_there_as_a_whole(
    storage: Storage, browser: Browser, alice: Any
) -> None:
    await log_in(browser, alice)
    with storage.losing_answer_to(storage.changes):
        await browser.fail(putting("mug"), storage.errors)
    assert await browser.see(reading()) == "('alice', 'mug')"


@on_every_storage
@played
async def test_logout_whose_answer_is_lost_has_ended_the_session(
    storage: Storage, browser: Browser, alice: Any
) -> None:
    await log_in(browser, alice)
    with storage.losing_answer_to(storage.ends):
        response = await browser.visit(logging_out())
    assert response.status_code == 500
    assert await browser.see(reading()) == "('', None)"
    assert await browser.call(list, storage.backend.get_all()) == []


@on_every_storage
@played
async def test_login_whose_answer_is_lost_is_a_login(
    storage: Storage, browser: Browser, alice: Any
) -> None:
    """Else the visitor would be left with an identifier under which nothing is stored any more."""
    await browser.see(putting("lamp"))
    with storage.losing_answer_to(storage.renews):
        assert await browser.see(logging_in(alice)) == "'in'"
    assert await browser.see(reading()) == "('alice', 'lamp')"
    assert len(await browser.call(list, storage.backend.get_all())) == 1


@on_every_storage
@played
async def test_renewal_whose_answer_is_lost_logs_nobody_out(
    storage: Storage, browser: Browser, alice: Any
) -> None:
    await log_in(browser, alice)
    before = browser.cookie
    with storage.losing_answer_to(storage.renews):
        await browser.see(renewing())
    assert browser.cookie != before
    assert await browser.see(reading()) == "('alice', 'lamp')"


@pytest.mark.parametrize("storage_name", ["cluster"])
@played
async def test_renewal_on_a_cluster_that_stops_half_way_leaves_the_old_session(
    storage: Storage, browser: Browser, alice: Any
) -> None:
    """What was stored under the new identifier nobody can present: its cookie was never sent."""
    await browser.see(putting("lamp"))
    with storage.losing_answer_to(words_of(INSERT)):
        await browser.fail(logging_in(alice), storage.errors)
    assert await browser.see(reading()) == "('', 'lamp')"
    await browser.see(logging_in(alice))
    assert await browser.see(reading()) == "('alice', 'lamp')"
    await browser.call(storage.backend.remove_by_user, alice.pk)
    assert await browser.call(list, storage.backend.get_all()) == []
