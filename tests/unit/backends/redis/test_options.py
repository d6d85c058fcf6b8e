"""What is said of options that name no Redis."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured

from tests.redis_servers import (
    OPTIONS,
    RedisSessionBackend,
)

README = Path(__file__).parents[4] / "README.rst"
SETTING = 'USERSESSIONS["FE"]["OPTIONS"]'
URL = "redis://127.0.0.1:6379/0"


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
