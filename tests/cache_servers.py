"""Cache servers that belong to a test: it may kill them."""

from __future__ import annotations

import getpass
import shutil
import socket
import subprocess
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.missing import report_missing


class CacheServer(ABC):
    """A server on a socket in the file system, where nobody else looks for one."""

    program: str
    #: The path of Django's cache that talks to it.
    cache: str

    def __init__(self, directory: Path) -> None:
        self.path = directory / f"{self.program}.sock"
        self._program = shutil.which(self.program) or report_missing(
            f"{self.program} is not installed."
        )
        self.start()

    @property
    def settings(self) -> dict[str, Any]:
        """What ``CACHES`` says of it."""
        return {"BACKEND": self.cache, "LOCATION": self.location}

    @property
    @abstractmethod
    def location(self) -> str:
        """What ``LOCATION`` says of it."""

    @abstractmethod
    def _arguments(self) -> list[str]:
        """Return what the program must be told."""

    def start(self) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - our own command
            [self._program, *self._arguments()], stdout=subprocess.DEVNULL
        )
        while not self._is_ready():
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=0.01)
            assert self._process.returncode is None, f"{self.program} does not start"

    def _is_ready(self) -> bool:
        with socket.socket(socket.AF_UNIX) as client:
            return client.connect_ex(str(self.path)) == 0

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(timeout=30)


class RedisServer(CacheServer):
    program = "redis-server"
    cache = "django.core.cache.backends.redis.RedisCache"

    @property
    def location(self) -> str:
        return f"unix://{self.path}"

    def _arguments(self) -> list[str]:
        return [
            "--port",
            "0",
            "--unixsocket",
            str(self.path),
            "--save",
            "",
            "--loglevel",
            "warning",
        ]


class MemcachedServer(CacheServer):
    program = "memcached"
    cache = "django.core.cache.backends.memcached.PyMemcacheCache"

    @property
    def settings(self) -> dict[str, Any]:
        # Its client asks a server that was down once a minute unless told.
        return {**super().settings, "OPTIONS": {"dead_timeout": 0, "retry_attempts": 0}}

    @property
    def location(self) -> str:
        return f"unix:{self.path}"

    def _arguments(self) -> list[str]:
        return ["-s", str(self.path), "-u", getpass.getuser()]
