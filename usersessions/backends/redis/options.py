"""The options that name a Redis, and what is wrong with those that do not."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from redis.connection import parse_url as untyped_parse_url

Node = tuple[str, int]


def _text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _whole(lowest: int, highest: int) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and lowest <= value <= highest


def _true_or_false(value: Any) -> bool:
    return isinstance(value, bool)


def _seconds(value: Any) -> bool:
    return type(value) in (int, float) and value > 0


def parse_url(url: str) -> dict[str, Any]:
    """Return what a URL says, in redis-py's words.

    :raises ValueError: it is none for Redis
    """
    parsed: dict[str, Any] = untyped_parse_url(url)  # type: ignore[no-untyped-call]
    parsed.pop("connection_class", None)
    return parsed


def _url(value: Any) -> bool:
    try:
        return _text(value) and all(
            name in _IN_URLS and OPTIONS[name][0](part)
            for name, part in parse_url(value).items()
            if name not in ("path", "db")
        )
    except ValueError:
        return False


def _nodes(value: Any) -> bool:
    return (
        isinstance(value, (list, tuple))
        and bool(value)
        and all(
            isinstance(node, (list, tuple))
            and len(node) == 2
            and _text(node[0])
            and _whole(1, 65535)(node[1])
            for node in value
        )
    )


_URL = (
    'a URL such as "redis://127.0.0.1:6379/0", "rediss://..." or "unix:///path?db=0" '
    "(other options stand beside it)"
)
_NODES = 'a list of (host, port), for example [("10.0.0.1", 26379)]'
_SECONDS = "a number of seconds above 0"
_FILE = "the path of a file"
_FLAG = "True or False"

#: Every option: which values are right, and what to say of others.
OPTIONS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "url": (_url, _URL),
    "host": (_text, "the name or address of a server"),
    "port": (_whole(1, 65535), "an integer from 1 to 65535"),
    "database": (_whole(0, 2**31), "an integer of at least 0"),
    "username": (_text, "a text that is not empty"),
    "password": (_text, "a text that is not empty"),
    "cluster": (_true_or_false, _FLAG),
    "nodes": (_nodes, _NODES),
    "sentinels": (_nodes, _NODES),
    "service_name": (_text, "the name that the sentinels give the server"),
    "sentinel_username": (_text, "a text that is not empty"),
    "sentinel_password": (_text, "a text that is not empty"),
    "ssl": (_true_or_false, _FLAG),
    "ssl_ca_certs": (_text, _FILE),
    "ssl_certfile": (_text, _FILE),
    "ssl_keyfile": (_text, _FILE),
    "ssl_cert_reqs": (
        lambda value: value in ("required", "optional", "none"),
        'one of "required", "optional", "none"',
    ),
    "ssl_check_hostname": (_true_or_false, _FLAG),
    "key_prefix": (
        lambda value: isinstance(value, str) and re.fullmatch(r"[\w.:-]+", value, re.A) is not None,
        'letters, digits and any of "_.:-"',
    ),
    "socket_timeout": (_seconds, _SECONDS),
    "socket_connect_timeout": (_seconds, _SECONDS),
    "health_check_interval": (_seconds, _SECONDS),
    "max_connections": (_whole(1, 2**31), "an integer of at least 1"),
}

#: Options that belong to one way of naming the servers, and make no sense with another.
_WAYS = {
    "url": ("host", "port", "database", "username", "password", "nodes", "sentinels"),
    "nodes": ("host", "port", "sentinels"),
    "sentinels": ("host", "port", "cluster"),
    "cluster": ("database",),
}

#: What may be in a URL, besides the path of a socket and the database.
_IN_URLS = {"host", "port", "username", "password"}

_NEEDED = (
    ("nodes", "cluster"),
    ("sentinels", "service_name"),
    ("service_name", "sentinels"),
    ("sentinel_username", "sentinels"),
    ("sentinel_password", "sentinels"),
    *((name, "ssl") for name in OPTIONS if name.startswith("ssl_")),
    ("ssl_keyfile", "ssl_certfile"),
)


def is_secure(options: Mapping[str, Any]) -> bool:
    """Return whether the connection is encrypted."""
    return bool(options.get("ssl")) or str(options.get("url")).startswith("rediss:")


def find_faults(options: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with options, each as the rest of a sentence after their setting."""
    for name, value in options.items():
        if name not in OPTIONS:
            known = ", ".join(f'"{option}"' for option in OPTIONS)
            yield f' has the unknown option "{name}"; known: {known}.'
        elif not OPTIONS[name][0](value):
            # Passwords must not be in a log, nor URLs with one.
            shown = "what it is" if "password" in name or name == "url" else repr(value)
            yield f'["{name}"] must be {OPTIONS[name][1]}, not {shown}.'
    yield from _find_contradictions(options)


def _find_contradictions(options: Mapping[str, Any]) -> Iterator[str]:
    given = {name for name in options if options[name] is not False or name.startswith("ssl_")}
    url = options.get("url")
    parsed = parse_url(str(url)) if _url(url) else {}
    if is_secure(options):
        given.add("ssl")
    if "path" in parsed and "ssl" in given:
        yield ' has "ssl", but "url" names a socket; leave one of them out.'
    if "cluster" in given and (parsed.get("db") or "path" in parsed):
        yield ' has "cluster", which has one database and no socket; "url" names another one.'
    for way, excluded in _WAYS.items():
        for name in sorted(given & set(excluded)) if way in given else ():
            yield f' has both "{way}" and "{name}"; leave one of them out.'
    for name, needed in _NEEDED:
        if name in given and needed not in given:
            yield f' has "{name}", which needs "{needed}" as well.'
