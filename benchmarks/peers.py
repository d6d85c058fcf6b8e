"""Time per request beside Django's session engines, django-user-sessions and django-qsessions.

Usage: ``python -m benchmarks.peers ADDRESS... --redis redis://host/1``, see README.md. Writes
RESULTS.md.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import Any

from redis import Redis

from .peer_site import serve
from .report import print_table
from .storages import Storage

RESULTS = Path(__file__).with_name("RESULTS.md")

SCENARIOS = {
    "no_cookie": "no cookie, read",
    "untouched": "session not touched",
    "forged": "forged cookie, read",
    "read": "1 KB of data, one key read",
    "change": "1 KB of data, one key changed",
    "user": "logged-in request",
    "login": "login with a basket",
    "logout": "logout",
}

#: What is measured beside each other, with the one that the others are ratios to first.
KINDS = {
    "in the database": ["Django `db`", "usersessions", "django-user-sessions", "django-qsessions"],
    "in the database, with Redis as cache": [
        "Django `cached_db`",
        "usersessions, cached",
        "django-qsessions, cached",
    ],
    "in Redis, and in cookies": [
        "Django `cache`",
        "usersessions, Redis",
        "Django `signed_cookies`",
    ],
}

#: Requests that are thrown away before the first round, of each scenario.
WARM_UP = 30


class Peer:
    """A session engine in its own process.

    :param checkout: the folder that ``usersessions`` is imported from; "": this one
    """

    def __init__(
        self, name: str, database: str, redis: str, *, is_async: bool, checkout: str
    ) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        arguments = (theirs, name, database, redis, is_async)
        self._process = context.Process(
            target=serve, args=arguments, kwargs={"checkout": checkout}, daemon=True
        )
        self._process.start()
        theirs.close()
        self._pipe.recv()  # it is ready
        self.name = f"{name}, before" if checkout else name
        self.times: dict[str, list[float]] = {scenario: [] for scenario in SCENARIOS}

    def ask(self, method: str, *arguments: Any) -> Any:
        self._pipe.send((method, arguments))
        return self._pipe.recv()

    def stop(self) -> None:
        with suppress(BrokenPipeError):  # it has failed, and said why
            self._pipe.send(None)
        self._process.join()

    def median(self, scenario: str) -> float:
        return statistics.median(self.times[scenario])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("addresses", nargs="+", metavar="ADDRESS", help="of SQL databases")
    parser.add_argument("--redis", required=True, help="address of a Redis, which is emptied")
    parser.add_argument("--rounds", type=int, default=25, metavar="N")
    parser.add_argument("--requests", type=int, default=20, metavar="N", help="in a round")
    parser.add_argument(
        "--against",
        default="",
        metavar="PATH",
        help="another checkout of this project, measured in the same turns and written nowhere",
    )
    arguments = parser.parse_args()
    results = Path(os.devnull) if arguments.against else RESULTS
    with results.open("w") as file, redirect_stdout(_Tee(sys.stdout, file)):
        _measure_all(arguments)


def _measure_all(arguments: argparse.Namespace) -> None:
    sys.stdout.write("# Results of `python -m benchmarks.peers`\n\n")
    for is_async in (False, True):
        for address in arguments.addresses:
            for kind, names in KINDS.items():
                title = f"{Storage(address).name}, {'ASGI' if is_async else 'WSGI'}"
                sys.stdout.write(f"## {title}: sessions {kind}\n\n")
                with _peers(names, address, arguments, is_async=is_async) as peers:
                    _measure(peers, arguments.rounds, arguments.requests)
                    _report(peers, is_async)


@contextmanager
def _peers(
    names: list[str], database: str, arguments: argparse.Namespace, *, is_async: bool
) -> Iterator[list[Peer]]:
    Redis.from_url(arguments.redis).flushdb()
    wanted = [(name, "") for name in names]
    if arguments.against:
        ours = [name for name in names if name.startswith("usersessions")]
        wanted = [
            (names[0], ""),
            *((name, checkout) for name in ours for checkout in ("", arguments.against)),
        ]
    with ExitStack() as stack:
        peers = []
        for name, checkout in wanted:
            peers.append(
                Peer(name, database, arguments.redis, is_async=is_async, checkout=checkout)
            )
            stack.callback(peers[-1].stop)
        yield peers


def _measure(peers: list[Peer], rounds: int, requests: int) -> None:
    """Have the peers take turns, so that what the machine does besides hits all alike."""
    for number in range(-1, rounds):
        for scenario in SCENARIOS:
            # Not always the same one first.
            for peer in peers[number % len(peers) :] + peers[: number % len(peers)]:
                times = peer.ask("run", scenario, WARM_UP if number < 0 else requests)
                if number >= 0:
                    peer.times[scenario] += times


def _report(peers: list[Peer], is_async: bool) -> None:
    first, *others = peers
    rows = [
        [
            title,
            f"{first.median(scenario) * 1e6:,.0f} µs",
            *(_ratio(peer, first, scenario) for peer in others),
        ]
        for scenario, title in SCENARIOS.items()
    ]
    if not is_async:
        rows += [
            [f"{title}: sends", *(peer.ask("count", scenario) for peer in peers)]
            for scenario, title in SCENARIOS.items()
        ]
        rows.append(["bytes of a session", *(f"{peer.ask('size'):,}" for peer in peers)])
    print_table(["", *(peer.name for peer in peers)], rows)
    sys.stdout.write("\n")


def _ratio(peer: Peer, first: Peer, scenario: str) -> str:
    return f"{peer.median(scenario) / first.median(scenario):.2f}"


class _Tee:
    """Writes to several files at once."""

    def __init__(self, *files: Any) -> None:
        self._files = files

    def write(self, text: str) -> None:
        for file in self._files:
            file.write(text)
            file.flush()

    def writelines(self, lines: Iterable[str]) -> None:
        self.write("".join(lines))

    def flush(self) -> None: ...


if __name__ == "__main__":
    main()
