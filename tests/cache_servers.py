"""Cache servers that belong to a test: it may kill them."""

from __future__ import annotations

import getpass
import shutil
import socket
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.missing import report_missing

CACHES = "django.core.cache.backends"


class CacheServer:
    """A Redis or a Memcached on a socket in the file system, where nobody else looks for one.

    :ivar settings: what ``CACHES`` says of it
    """

    def __init__(self, name: str, directory: Path) -> None:
        self._path = str(directory / f"{name}.sock")
        self.settings: dict[str, Any]
        if name == "redis":
            command = ["redis-server", "--port", "0", "--unixsocket", self._path, "--save", ""]
            cache = f"{CACHES}.redis.RedisCache"
            self.settings = {"BACKEND": cache, "LOCATION": f"unix://{self._path}"}
        else:
            command = ["memcached", "-s", self._path, "-u", getpass.getuser()]
            self.settings = {
                "BACKEND": f"{CACHES}.memcached.PyMemcacheCache",
                "LOCATION": f"unix:{self._path}",
                # Its client asks a server that was down once a minute unless told.
                "OPTIONS": {"dead_timeout": 0, "retry_attempts": 0},
            }
        shutil.which(command[0]) or report_missing(f"{command[0]} is not installed.")
        self._command = command
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - our own command
            self._command, stdout=subprocess.DEVNULL
        )
        while not self._is_ready():
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=0.01)
            assert self._process.returncode is None, f"{self._command[0]} does not start"

    def _is_ready(self) -> bool:
        with socket.socket(socket.AF_UNIX) as client:
            return client.connect_ex(self._path) == 0

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(timeout=30)
