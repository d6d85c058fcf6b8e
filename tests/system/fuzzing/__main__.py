"""Runs many cookies, and much stored data, through the middleware in this process.

They are made up, the same ones for the same ``--seed``.
``python -m tests.system.fuzzing.led_by_coverage`` has atheris look for others.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from random import Random

from tests.system.fuzzing import set_up


def fuzz_cookies(count: int, random: Random) -> str:
    """Send Cookie headers until ``count`` of them had nothing genuine in them."""
    from tests.system.fuzzing.cookies import cookie_header
    from tests.system.fuzzing.site import open_site

    start, sent, genuine = time.monotonic(), 0, 0
    with open_site() as site:
        while sent < count:
            if site.visit(cookie_header(random)):
                sent += 1
            else:
                genuine += 1
    return (
        f"{sent} cookies in {time.monotonic() - start:.0f} s: none accepted, no exception, no "
        f"query, no cookie set. {genuine} more came out genuine and were not sent."
    )


def fuzz_stored_data(count: int, random: Random) -> str:
    """Have sessions read and written to whose stored data is anything."""
    from tests.system.fuzzing.stored_data import open_stored_site, stored_bytes

    start, readable = time.monotonic(), 0
    with open_stored_site() as site:
        for _ in range(count):
            readable += site.use(stored_bytes(random))
    return (
        f"{count} stored sessions in {time.monotonic() - start:.0f} s: no exception; {readable} "
        f"were read and written to, {count - readable} were anonymous and left as they were."
    )


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser("python -m tests.system.fuzzing", description=__doc__)
    parser.add_argument("--cookies", type=int, default=1_000_000, help="how many; 1000000")
    parser.add_argument("--stored", type=int, default=20_000, help="how many; 20000")
    parser.add_argument("--seed", type=int, default=0, help="of what is made up; 0")
    options = parser.parse_args(arguments)
    set_up()
    random = Random(options.seed)
    for report in (fuzz_cookies, fuzz_stored_data):
        count = options.cookies if report is fuzz_cookies else options.stored
        sys.stdout.write(report(count, random) + "\n")
        sys.stdout.flush()


main(sys.argv[1:])
