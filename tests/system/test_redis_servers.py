"""Redis wherever it may be: by name, socket, TLS, sentinel or cluster, gone and back again."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.contract.session_backend import ALICE, IDENTIFIER, NEW_IDENTIFIER, a_record
from tests.redis_servers import (
    RedisCluster,
    RedisServer,
    RedisSessionBackend,
    WatchedServers,
    free_port,
    redis,
    wait_until,
)
from usersessions import SessionNotFound


def assert_works(backend: RedisSessionBackend) -> None:
    """Assert that a session can be stored and read."""
    backend.validate_configuration()
    backend.set(IDENTIFIER, a_record(ses_userid=ALICE))
    assert [record["ses_tstamp"] for record in backend.get_by_user(ALICE)] == [
        backend.get(IDENTIFIER)["ses_tstamp"]
    ]
    assert backend.remove_by_user(ALICE) == 1
    backend.close()


def test_server_by_url(redis_server: RedisServer) -> None:
    assert_works(RedisSessionBackend("FE", {"url": redis_server.url}))


def test_url_names_the_database(redis_server: RedisServer) -> None:
    backend = RedisSessionBackend("FE", {"url": redis_server.url.replace("/0", "/3")})
    backend.set(IDENTIFIER, a_record())
    assert redis_server.client.dbsize() == 0
    backend.remove(IDENTIFIER)
    backend.close()


def test_server_by_host_port_and_database(redis_server: RedisServer) -> None:
    options = {"host": "127.0.0.1", "port": redis_server.port, "database": 5}
    assert_works(RedisSessionBackend("FE", options))


def test_password_of_the_server(tmp_path: Path) -> None:
    server = RedisServer(tmp_path, "--requirepass", "secret", password="secret")
    options = {"host": "127.0.0.1", "port": server.port}
    try:
        assert_works(RedisSessionBackend("FE", {**options, "password": "secret"}))
        with pytest.raises(redis.AuthenticationError):
            RedisSessionBackend("FE", options).get(IDENTIFIER)
    finally:
        server.close()


def test_user_who_may_only_use_our_keys(redis_server: RedisServer) -> None:
    redis_server.client.execute_command(
        "ACL SETUSER shop on >secret ~shop:* +@read +@write +@scripting +@connection +time +info"
    )
    options: dict[str, Any] = {
        "host": "127.0.0.1",
        "port": redis_server.port,
        "username": "shop",
        "password": "secret",
    }
    try:
        assert_works(RedisSessionBackend("FE", {**options, "key_prefix": "shop"}))
        with pytest.raises(redis.exceptions.NoPermissionError):
            RedisSessionBackend("FE", options).get(IDENTIFIER)
    finally:
        redis_server.client.acl_deluser("shop")


def test_sites_with_other_prefixes_do_not_meet(redis_server: RedisServer) -> None:
    backends = [
        RedisSessionBackend("FE", {"url": redis_server.url, "key_prefix": prefix})
        for prefix in ("shop", "wiki")
    ]
    backends[0].set(IDENTIFIER, a_record(ses_userid=ALICE))
    assert list(backends[1].get_all()) == list(backends[1].get_by_user(ALICE)) == []
    assert backends[1].remove_by_user(ALICE) == 0
    assert backends[0].remove_by_user(ALICE) == 1


def test_login_types_do_not_meet(redis_server: RedisServer) -> None:
    backends = [RedisSessionBackend(name, {"url": redis_server.url}) for name in ("FE", "BE")]
    backends[0].set(IDENTIFIER, a_record(ses_userid=ALICE))
    assert list(backends[1].get_all()) == []
    assert backends[1].remove_by_user(ALICE) == 0
    assert backends[0].remove_by_user(ALICE) == 1


def test_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "s"
    server = RedisServer(tmp_path, "--unixsocket", str(path))
    try:
        assert_works(RedisSessionBackend("FE", {"url": f"unix://{path}?db=1"}))
    finally:
        server.close()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the certificate of 127.0.0.1, which its own key has signed, and another."""
    directory = tmp_path_factory.mktemp("certificates")
    for name in ("server", "other"):
        subprocess.run(  # noqa: S603
            [
                *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
                *("-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1"),
                *("-keyout", f"{name}.key", "-out", f"{name}.pem"),
            ],
            cwd=directory,
            check=True,
            capture_output=True,
        )
    return directory


@pytest.fixture(scope="module")
def tls_server(certificates: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    port = free_port()
    server = RedisServer(
        tmp_path_factory.mktemp("tls"),
        *("--tls-port", str(port), "--tls-auth-clients", "optional"),
        *("--tls-cert-file", str(certificates / "server.pem")),
        *("--tls-key-file", str(certificates / "server.key")),
        *("--tls-ca-cert-file", str(certificates / "server.pem")),
    )
    yield port
    server.close()


def test_tls_by_options(tls_server: int, certificates: Path) -> None:
    options = {
        "host": "127.0.0.1",
        "port": tls_server,
        "ssl": True,
        "ssl_ca_certs": str(certificates / "server.pem"),
        "ssl_certfile": str(certificates / "server.pem"),
        "ssl_keyfile": str(certificates / "server.key"),
    }
    assert_works(RedisSessionBackend("FE", options))


def test_tls_by_url(tls_server: int, certificates: Path) -> None:
    options = {
        "url": f"rediss://127.0.0.1:{tls_server}/0",
        "ssl_ca_certs": str(certificates / "server.pem"),
    }
    assert_works(RedisSessionBackend("FE", options))


def test_tls_without_looking_at_certificates(tls_server: int) -> None:
    options = {"url": f"rediss://127.0.0.1:{tls_server}", "ssl_cert_reqs": "none"}
    assert_works(RedisSessionBackend("FE", options))


@pytest.mark.parametrize("more", [{"ssl_ca_certs": "other.pem"}, {}], ids=["other-ca", "no-ca"])
def test_server_that_nobody_vouches_for_is_refused(
    tls_server: int, certificates: Path, more: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attack: somebody on the way answers in the server's place."""
    monkeypatch.chdir(certificates)
    options = {"url": f"rediss://127.0.0.1:{tls_server}", **more}
    backend = RedisSessionBackend("FE", options)
    backend.validate_configuration()
    with pytest.raises(redis.ConnectionError, match="certificate verify failed"):
        backend.get(IDENTIFIER)


def test_replica_that_the_sentinel_promotes_is_used_without_a_restart(tmp_path: Path) -> None:
    servers = WatchedServers(tmp_path)
    options = {
        "sentinels": [("127.0.0.1", servers.sentinel.port)],
        "service_name": servers.name,
        "database": 1,
    }
    backend = RedisSessionBackend("FE", options)
    try:
        backend.set(IDENTIFIER, a_record())
        assert servers.primary.client.wait(1, 5000) == 1
        servers.fail_over()
        assert backend.get(IDENTIFIER)["ses_data"] == a_record()["ses_data"]
        assert_works_once_more(backend)
    finally:
        backend.close()
        servers.close()


def test_late_answer_behind_a_sentinel_is_nobody_elses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was asked for one visitor must not be read as the answer to another one's question."""
    primary = RedisServer(tmp_path)
    settings = tmp_path / "sentinel.conf"
    settings.write_text(f"sentinel monitor sessions 127.0.0.1 {primary.port} 1\n")
    sentinel = RedisServer(tmp_path, "--sentinel", settings=settings)
    options = {
        "sentinels": [("127.0.0.1", sentinel.port)],
        "service_name": "sessions",
        "socket_timeout": 3,
    }
    backend = RedisSessionBackend("FE", options)
    send = redis.connection.AbstractConnection.send_packed_command

    def send_and_resume(self: Any, *args: Any, **options: Any) -> None:
        send(self, *args, **options)
        primary.resume()

    try:
        for identifier, data in ((IDENTIFIER, b"mine"), (NEW_IDENTIFIER, b"theirs")):
            backend.set(identifier, a_record(ses_data=data))
        primary.pause()
        with pytest.raises(redis.TimeoutError):
            backend.get(IDENTIFIER)
        # Both answers come while the second one is waited for.
        monkeypatch.setattr(
            redis.connection.AbstractConnection, "send_packed_command", send_and_resume
        )
        assert backend.get(NEW_IDENTIFIER)["ses_data"] == b"theirs"
        assert backend.get(IDENTIFIER)["ses_data"] == b"mine"
    finally:
        primary.resume()
        backend.close()
        sentinel.close()
        primary.close()


def assert_works_once_more(backend: RedisSessionBackend) -> None:
    assert backend.remove(IDENTIFIER)
    assert_works(backend)


def test_sentinels_may_have_passwords_of_their_own(tmp_path: Path) -> None:
    settings = tmp_path / "sentinel.conf"
    server = RedisServer(tmp_path, "--requirepass", "of-server", password="of-server")
    settings.write_text(
        f"sentinel monitor sessions 127.0.0.1 {server.port} 1\n"
        "sentinel auth-pass sessions of-server\nrequirepass of-sentinel\n"
    )
    sentinel = RedisServer(tmp_path, "--sentinel", settings=settings, password="of-sentinel")
    options = {
        "sentinels": [("127.0.0.1", sentinel.port)],
        "service_name": "sessions",
        "password": "of-server",
        "sentinel_username": "default",
        "sentinel_password": "of-sentinel",
    }
    try:
        assert_works(RedisSessionBackend("FE", options))
    finally:
        sentinel.close()
        server.close()


@pytest.mark.parametrize("by", ["nodes", "url", "host"])
def test_cluster_by_one_of_its_nodes(redis_cluster: RedisCluster, by: str) -> None:
    host, port = redis_cluster.addresses[1]
    named: dict[str, Any] = {
        "nodes": {"nodes": [("127.0.0.1", 1), (host, port)]},
        "url": {"url": f"redis://{host}:{port}"},
        "host": {"host": host, "port": port},
    }[by]
    assert_works(RedisSessionBackend("FE", {"cluster": True, **named}))


# One connection after another


def test_server_that_was_restarted_is_used_again(tmp_path: Path) -> None:
    server = RedisServer(tmp_path)
    backend = RedisSessionBackend("FE", {"url": server.url})
    try:
        backend.set(IDENTIFIER, a_record())
        server.restart()
        backend.update(IDENTIFIER, {"ses_data": b"new"})
        assert backend.get(IDENTIFIER)["ses_data"] == b"new"
        server.kill()
        with pytest.raises(redis.ConnectionError):
            backend.get(IDENTIFIER)
        server.start()
        assert backend.get(IDENTIFIER)["ses_data"] == b"new"
    finally:
        server.close()


def test_closed_backend_connects_again(redis_server: RedisServer) -> None:
    backend = RedisSessionBackend(
        "FE", {"host": "127.0.0.1", "port": redis_server.port, "database": 9}
    )
    backend.close()
    for _ in range(2):
        with pytest.raises(SessionNotFound):
            backend.get(IDENTIFIER)
        assert "9" in databases_in_use(redis_server)
        backend.close()
        wait_until(lambda: "9" not in databases_in_use(redis_server), "the connection is closed")


def databases_in_use(server: RedisServer) -> set[str]:
    return {client["db"] for client in server.client.client_list()}
