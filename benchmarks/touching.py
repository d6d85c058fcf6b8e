"""What a site in use writes: every session again, at most every 61 seconds.

Usage: ``python -m benchmarks.touching ADDRESS... [--sessions N]``, see README.md.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time

from django.db import connections

from . import storages
from .report import print_table
from .storages import SESSIONS_A_USER, Storage

#: How often every session is touched.
TIMES = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("addresses", nargs="+", metavar="ADDRESS")
    parser.add_argument("--sessions", type=int, default=100_000, metavar="N")
    arguments = parser.parse_args()
    storages.set_up(arguments.addresses)
    rows = [_row(Storage(address), arguments.sessions) for address in arguments.addresses]
    print_table(["Storage", "a touch", "touches a second", "size afterwards", "HOT"], rows)


def _row(storage: Storage, sessions: int) -> list[str]:
    backend = storage.empty()
    users = storage.grow(backend, sessions)
    before = storage.size(backend)
    times = []
    for _ in range(TIMES):
        random.shuffle(users)
        for user in users[: sessions // SESSIONS_A_USER]:
            for record in backend.get_by_user(user):
                values = {"ses_id": record["ses_id"], "ses_tstamp": record["ses_tstamp"] + 62}
                start = time.perf_counter()
                # What touch() does, but for the identifier, which nobody knows here.
                backend._update([record["ses_id"]], values, {"ses_tstamp": record["ses_tstamp"]})
                times.append(time.perf_counter() - start)
    grown = storage.size(backend) / before
    median = statistics.median(times)
    hot = _hot_share(storage)
    return [
        storage.name,
        f"{median * 1e6:,.0f} µs",
        f"{len(times) / sum(times):,.0f}",
        f"{grown:.2f}",
        hot,
    ]


def _hot_share(storage: Storage) -> str:
    """Return how many of PostgreSQL's updates touched no index."""
    if not storage.name.startswith("PostgreSQL"):
        return "-"
    connection = connections[storage.address]
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_force_next_flush()")
        cursor.execute(
            "SELECT n_tup_hot_upd, n_tup_upd FROM pg_stat_user_tables WHERE relname = 'fe_sessions'"
        )
        hot, updated = cursor.fetchone()
    return f"{hot / max(updated, 1):.0%}"


if __name__ == "__main__":
    main()
