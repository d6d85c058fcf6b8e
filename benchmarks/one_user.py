"""Does it take longer to list or to end one user's sessions when there are more of others?

Usage: ``python -m benchmarks.one_user ADDRESS...``, see README.md for what an address is.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable

from . import storages
from .report import print_table
from .storages import SESSIONS_A_USER, Storage

#: How many users are measured at each size; each once, since then they have no session.
ROUNDS = 300

SIZES = [10_000, 100_000, 1_000_000]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("addresses", nargs="+", metavar="ADDRESS")
    parser.add_argument("--sizes", nargs="+", type=int, default=SIZES, metavar="N")
    arguments = parser.parse_args()
    storages.set_up(arguments.addresses)
    rows = [_row(Storage(address), arguments.sizes) for address in arguments.addresses]
    sizes = [f"{size:,}" for size in arguments.sizes]
    header = ["Storage", *(f"list, {size}" for size in sizes), *(f"end, {size}" for size in sizes)]
    print_table([*header, "bytes a session"], rows)


def _row(storage: Storage, sizes: list[int]) -> list[str]:
    backend = storage.empty()
    empty = storage.size(backend)
    users: list[int] = []
    listing, ending = [], []
    stored = 0
    for size in sizes:
        users += storage.grow(backend, size - stored)
        taken = (storage.size(backend) - empty) / size
        chosen = random.sample(users, ROUNDS)
        listing.append(_median(lambda user: len(list(backend.get_by_user(user))), chosen))
        ending.append(_median(backend.remove_by_user, chosen))
        users = sorted(set(users) - set(chosen))
        stored = size - ROUNDS * SESSIONS_A_USER
    return [storage.name, *_ratios(listing), *_ratios(ending), f"{taken:,.0f}"]


def _median(operation: Callable[[int], int], users: list[int]) -> float:
    """Return the median time in microseconds."""
    times = []
    for user in users:
        start = time.perf_counter()
        count = operation(user)
        times.append((time.perf_counter() - start) * 1e6)
        assert count == SESSIONS_A_USER, f"User {user} has {count} sessions."
    return statistics.median(times)


def _ratios(medians: list[float]) -> list[str]:
    """Return the first as it is and the others beside it."""
    first, *others = medians
    return [f"{first:,.0f} µs", *(f"{median / first:.2f}" for median in others)]


if __name__ == "__main__":
    main()
