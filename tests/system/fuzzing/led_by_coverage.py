"""The same sites, with atheris to look for bytes that take a way through the code not seen yet.

``python -m tests.system.fuzzing.led_by_coverage 600`` does so for ten minutes, and leaves what
breaks the site in a file. Needs the package atheris (extra ``fuzzing``).
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from random import Random
from typing import Any

import atheris

from tests.system.fuzzing import set_up
from tests.system.fuzzing.corpus import FOLDER

#: Whose ways are looked at: ours, and what reads cookies, tokens and data for us.
PACKAGES = ["usersessions", "jwt", "django.http.cookie", "http.cookies", "json"]


def run_atheris(seconds: str) -> None:
    """Fuzz for a time, and leave the process.

    The first byte decides: "c" a Cookie header, "s" stored data, else choices for ``cookies``.
    """
    with atheris.instrument_imports(include=PACKAGES):
        set_up()
        from tests.system.fuzzing.cookies import cookie_header
        from tests.system.fuzzing.site import Site
        from tests.system.fuzzing.stored_data import open_stored_site

    def run_one(data: bytes) -> None:
        kind, rest = data[:1], data[1:]
        if kind == b"s":
            stored_site.use(rest)
        else:
            site.visit(rest if kind == b"c" else cookie_header(Chosen(rest)))

    with tempfile.TemporaryDirectory() as found:
        for kind in ("cookies", "stored"):
            for path in (FOLDER / kind).iterdir():
                seed = kind[:1].encode() + path.read_bytes()
                Path(found, f"{kind}-{path.name}").write_bytes(seed)
        atheris.Setup([sys.argv[0], f"-max_total_time={seconds}", "-max_len=5000", found], run_one)
        with open_stored_site() as stored_site:
            site = Site()  # on the same storage: two kinds of settings would change for each run
            atheris.Fuzz()


class Chosen(Random):
    """Makes every choice as the bytes say; where they end, the first of all."""

    def __new__(cls, data: bytes) -> Any:
        return super().__new__(cls)

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self._bits = int.from_bytes(data, "little")

    def getrandbits(self, k: int) -> int:
        bits = self._bits & ((1 << k) - 1)
        self._bits >>= k
        return bits

    def random(self) -> float:
        return self.getrandbits(8) / 256


if __name__ == "__main__":
    run_atheris(sys.argv[1])
