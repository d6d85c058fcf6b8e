"""Where a Redis may be, and what is said of options that name none."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured

from tests.contract.session_backend import ALICE, IDENTIFIER, NEW_IDENTIFIER, a_record
from tests.redis_servers import (
    OPTIONS,
    RedisCluster,
    RedisServer,
    RedisSessionBackend,
    WatchedServers,
    free_port,
    redis,
    wait_until,
)
from usersessions import SessionNotFound

README = Path(__file__).parents[4] / "README.rst"
SETTING = 'USERSESSIONS["FE"]["OPTIONS"]'
URL = "redis://127.0.0.1:6379/0"


def assert_works(backend: RedisSessionBackend) -> None:
    """Assert that a session can be stored and read."""
    backend.validate_configuration()
    backend.set(IDENTIFIER, a_record(ses_userid=ALICE))
    assert [record["ses_tstamp"] for record in backend.get_by_user(ALICE)] == [
        backend.get(IDENTIFIER)["ses_tstamp"]
    ]
    assert backend.remove_by_user(ALICE) == 1
    backend.close()


def faults_of(**options: Any) -> list[str]:
    try:
        RedisSessionBackend("FE", options).validate_configuration()
    except ImproperlyConfigured as exc:
        return [line.removeprefix(SETTING) for line in str(exc).splitlines()]
    return []


# Options


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"url": URL},
        {"url": "redis://someone:secret@example.com"},
        {"url": "rediss://example.com/1", "ssl_ca_certs": "/ca.pem"},
        {"url": "unix:///run/redis.sock?db=2"},
        {"host": "example.com", "port": 1, "database": 0, "username": "x", "password": "y"},
        {"host": "example.com", "ssl": True, "ssl_certfile": "/c", "ssl_keyfile": "/k"},
        {"ssl": True, "ssl_cert_reqs": "none", "ssl_check_hostname": False},
        {"cluster": True, "nodes": [("a", 1), ["b", 65535]], "ssl": False},
        {"cluster": True, "url": URL},
        {"cluster": True, "host": "example.com"},
        {"cluster": False, "database": 3},
        {"sentinels": [("a", 1)], "service_name": "x", "database": 3},
        {
            "sentinels": (("a", 1),),
            "service_name": "x",
            "sentinel_username": "x",
            "sentinel_password": "y",
        },
        {"key_prefix": "shop-1.x:y_z"},
        {"socket_timeout": 0.5, "socket_connect_timeout": 3, "health_check_interval": 30},
        {"max_connections": 1},
    ],
    ids=repr,
)
def test_right_options_are_right(options: dict[str, Any]) -> None:
    assert faults_of(**options) == []


A_URL = (
    'a URL such as "redis://127.0.0.1:6379/0", "rediss://..." or "unix:///path?db=0" '
    "(other options stand beside it), not what it is."
)
A_LIST = 'a list of (host, port), for example [("10.0.0.1", 26379)]'


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("url", "127.0.0.1:6379", A_URL),
        ("url", "http://:secret@example.com", A_URL),
        ("url", "redis://:secret@example.com:port", A_URL),
        ("url", "redis://:secret@example.com?decode_responses=1", A_URL),
        ("url", "redis://:secret@example.com?db=first", A_URL),
        ("url", "rediss://:secret@example.com?ssl_cert_reqs=none", A_URL),
        ("url", "", A_URL),
        ("url", None, A_URL),
        ("host", "", "the name or address of a server, not ''."),
        ("port", 0, "an integer from 1 to 65535, not 0."),
        ("port", "6379", "an integer from 1 to 65535, not '6379'."),
        ("port", True, "an integer from 1 to 65535, not True."),
        ("database", -1, "an integer of at least 0, not -1."),
        ("username", 5, "a text that is not empty, not 5."),
        ("password", b"secret", "a text that is not empty, not what it is."),
        ("cluster", 1, "True or False, not 1."),
        ("ssl", "yes", "True or False, not 'yes'."),
        ("ssl_cert_reqs", "maybe", """one of "required", "optional", "none", not 'maybe'."""),
        ("ssl_check_hostname", None, "True or False, not None."),
        ("key_prefix", "", """letters, digits and any of "_.:-", not ''."""),
        ("key_prefix", "*", """letters, digits and any of "_.:-", not '*'."""),
        ("key_prefix", "{x}", """letters, digits and any of "_.:-", not '{x}'."""),
        ("key_prefix", 1, """letters, digits and any of "_.:-", not 1."""),
        ("socket_timeout", 0, "a number of seconds above 0, not 0."),
        ("socket_connect_timeout", True, "a number of seconds above 0, not True."),
        ("health_check_interval", "1", "a number of seconds above 0, not '1'."),
        ("max_connections", 0, "an integer of at least 1, not 0."),
    ],
)
def test_wrong_value_is_named_with_what_would_be_right(name: str, value: Any, wanted: str) -> None:
    """Whoever reads a log learns no password."""
    partners = {"ssl": True} if name.startswith("ssl_") else {}
    assert faults_of(**{**partners, name: value}) == [f'["{name}"] must be {wanted}']


@pytest.mark.parametrize("name", ["nodes", "sentinels"])
@pytest.mark.parametrize(
    "value", ["10.0.0.1:1", [], [("10.0.0.1",)], ["ab"], [("", 1)], [("10.0.0.1", "1")]], ids=repr
)
def test_nodes_are_pairs_of_host_and_port(name: str, value: Any) -> None:
    partners = {"nodes": {"cluster": True}, "sentinels": {"service_name": "x"}}[name]
    expected = [f'["{name}"] must be {A_LIST}, not {value!r}.']
    assert faults_of(**{**partners, name: value}) == expected


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("service_name", "the name that the sentinels give the server, not 1."),
        ("sentinel_username", "a text that is not empty, not 1."),
        ("sentinel_password", "a text that is not empty, not what it is."),
    ],
)
def test_wrong_names_and_passwords_of_sentinels_are_named(name: str, wanted: str) -> None:
    options = {"sentinels": [("a", 1)], "service_name": "x", name: 1}
    assert faults_of(**options) == [f'["{name}"] must be {wanted}']


@pytest.mark.parametrize("name", ["ssl_ca_certs", "ssl_certfile", "ssl_keyfile"])
def test_files_are_paths(name: str) -> None:
    options = {"ssl": True, "ssl_certfile": "/c", name: 1}
    assert faults_of(**options) == [f'["{name}"] must be the path of a file, not 1.']


def test_unknown_option_is_named_with_those_that_there_are() -> None:
    [fault] = faults_of(passwort="secret")
    assert fault == (
        ' has the unknown option "passwort"; known: "url", "host", "port", "database", "username", '
        '"password", "cluster", "nodes", "sentinels", "service_name", "sentinel_username", '
        '"sentinel_password", "ssl", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile", '
        '"ssl_cert_reqs", "ssl_check_hostname", "key_prefix", "socket_timeout", '
        '"socket_connect_timeout", "health_check_interval", "max_connections".'
    )


A_NODE = [("10.0.0.1", 6379)]


@pytest.mark.parametrize(
    ("options", "pairs"),
    [
        ({"url": URL, "host": "a", "port": 1}, ["url host", "url port"]),
        ({"url": URL, "database": 0}, ["url database"]),
        ({"url": URL, "username": "a", "password": "b"}, ["url password", "url username"]),
        ({"url": URL, "nodes": A_NODE, "cluster": True}, ["url nodes"]),
        ({"url": URL, "sentinels": A_NODE, "service_name": "x"}, ["url sentinels"]),
        ({"cluster": True, "nodes": A_NODE, "host": "a"}, ["nodes host"]),
        ({"cluster": True, "database": 1}, ["cluster database"]),
        ({"sentinels": A_NODE, "service_name": "x", "port": 1}, ["sentinels port"]),
        ({"sentinels": A_NODE, "service_name": "x", "cluster": True}, ["sentinels cluster"]),
    ],
)
def test_options_that_contradict_each_other_are_named(
    options: dict[str, Any], pairs: list[str]
) -> None:
    assert faults_of(**options) == [
        ' has both "{}" and "{}"; leave one of them out.'.format(*pair.split()) for pair in pairs
    ]


@pytest.mark.parametrize("url", ["redis://example.com/1", "unix:///run/redis.sock"])
def test_cluster_has_one_database_and_no_socket(url: str) -> None:
    expected = ' has "cluster", which has one database and no socket; "url" names another one.'
    assert faults_of(url=url, cluster=True) == [expected]


def test_socket_needs_no_tls() -> None:
    expected = ' has "ssl", but "url" names a socket; leave one of them out.'
    assert faults_of(url="unix:///run/redis.sock", ssl=True) == [expected]


@pytest.mark.parametrize(
    ("options", "name", "needed"),
    [
        ({"nodes": A_NODE}, "nodes", "cluster"),
        ({"nodes": A_NODE, "cluster": False}, "nodes", "cluster"),
        ({"sentinels": A_NODE}, "sentinels", "service_name"),
        ({"service_name": "x"}, "service_name", "sentinels"),
        ({"sentinel_username": "x"}, "sentinel_username", "sentinels"),
        ({"sentinel_password": "x"}, "sentinel_password", "sentinels"),
        ({"ssl_ca_certs": "/x"}, "ssl_ca_certs", "ssl"),
        ({"ssl_check_hostname": False, "ssl": False}, "ssl_check_hostname", "ssl"),
        ({"ssl_keyfile": "/x", "ssl": True}, "ssl_keyfile", "ssl_certfile"),
    ],
)
def test_option_without_its_partner_is_named(
    options: dict[str, Any], name: str, needed: str
) -> None:
    assert faults_of(**options) == [f' has "{name}", which needs "{needed}" as well.']


def test_all_faults_are_told_at_once() -> None:
    assert len(faults_of(port=0, database=-1, ssl_keyfile="/x")) == 4


def test_every_option_is_in_the_table_of_the_readme() -> None:
    (table,) = re.findall(r"^Option .*\n=.*\n((?:.*\n)+?)=", README.read_text(), re.MULTILINE)
    names = {name for row in table.splitlines() for name in re.findall(r"``(\w+)``", row[:30])}
    assert names == set(OPTIONS)


@pytest.mark.django_db
def test_system_check_tells_of_wrong_options(settings: Any) -> None:
    settings.USERSESSIONS = {
        "FE": {"BACKEND": "usersessions.RedisSessionBackend", "OPTIONS": {"port": 0}}
    }
    assert [
        (error.id, error.msg, error.hint)
        for error in run_checks()
        if error.id == "usersessions.E007"
    ] == [
        (
            "usersessions.E007",
            f'{SETTING}["port"] must be an integer from 1 to 65535, not 0.',
            "Correct the backend's OPTIONS.",
        )
    ]


def test_missing_package_says_what_to_install() -> None:
    code = "import sys; sys.modules['redis'] = None; from usersessions import RedisSessionBackend"
    done = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.stderr.splitlines()[-1] == (
        "django.core.exceptions.ImproperlyConfigured: RedisSessionBackend needs redis-py: "
        "install django-usersession-manager[redis]."
    )


# Servers


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


# Machines without Redis


def test_waiting_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.processes.PATIENCE", 0)
    with pytest.raises(TimeoutError, match="in vain until the cows come home"):
        wait_until(lambda: False, "the cows come home")


@pytest.mark.parametrize("requires_all", [False, True], ids=["skipped", "failing"])
def test_tests_say_that_the_server_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, requires_all: bool
) -> None:
    monkeypatch.setattr("tests.redis_servers.SERVER", None)
    monkeypatch.setenv("USERSESSIONS_REQUIRE_ALL", "1" if requires_all else "")
    outcome: Any = pytest.fail.Exception if requires_all else pytest.skip.Exception
    with pytest.raises(outcome) as caught:
        RedisServer(tmp_path)
    assert str(caught.value) == "These tests need redis-server, Debian's package redis-server."


@pytest.mark.parametrize("requires_all", [False, True], ids=["skipped", "failing"])
@pytest.mark.parametrize(
    "name",
    [
        "unit/backends/redis/test_connection",
        "contract/test_redis",
        "site/test_redis_requests",
        "site/test_admin_storages",
    ],
)
def test_tests_say_that_the_package_is_missing(name: str, requires_all: bool) -> None:
    code = (
        "import sys; sys.modules['redis'] = None; import pytest; "
        f"pytest.main(['-q', '-rs', '-p', 'no:cacheprovider', 'tests/{name}.py'])"
    )
    done = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", code],
        env={**os.environ, "USERSESSIONS_REQUIRE_ALL": "1" if requires_all else ""},
        cwd=README.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "These tests need redis-py: install the extra [redis]." in done.stdout
    assert ("1 error" if requires_all else "1 skipped") in done.stdout
