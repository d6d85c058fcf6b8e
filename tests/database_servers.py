"""A PostgreSQL and a MariaDB of the tests' own, which they may stop, kill and switch to reading."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.missing import report_missing
from tests.processes import PATIENCE, free_port, pause

NAME = "sessions"


class DatabaseServer(ABC):
    """A server process in a directory of its own, with an empty database ``sessions``."""

    #: The account that the server runs under where the tests run as root.
    account: str
    engine: str
    user: str

    def __init__(self) -> None:
        self.port = free_port()
        self.directory = Path(tempfile.mkdtemp(prefix="usersessions-"))
        self._is_root = os.geteuid() == 0
        if self._is_root:
            shutil.chown(self.directory, self.account)
        self._install()
        self.start()
        self._prepare()

    @property
    def settings(self) -> dict[str, Any]:
        """What ``DATABASES`` says of it."""
        return {
            "ENGINE": self.engine,
            "NAME": NAME,
            "USER": self.user,
            "PASSWORD": "pass-of-the-site",
            "HOST": "127.0.0.1",
            "PORT": str(self.port),
        }

    def start(self) -> None:
        self._launch()
        until = time.monotonic() + PATIENCE
        while True:
            try:
                self.connect().close()
                return
            except Exception as exc:
                if time.monotonic() > until:
                    log_text = (self.directory / "log").read_text(errors="replace")
                    raise TimeoutError(f"No answer from {self.engine}: {log_text}") from exc
                time.sleep(0.02)
                if self._process.poll() is not None:
                    # PostgreSQL does not start while processes of one that was killed are ending.
                    self._launch()

    def _launch(self) -> None:
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own command
                self._command(), stdout=log, stderr=log, **self._as_account
            )

    def kill(self) -> None:
        """As the machine it runs on would, were it switched off."""
        self._for_each_process(lambda pid: os.kill(pid, signal.SIGKILL))
        self._process.wait()

    def restart(self) -> None:
        self.kill()
        self.start()

    def pause(self) -> None:
        """Have it hang: it takes connections and requests, and answers none."""
        self._for_each_process(pause)

    def resume(self) -> None:
        self._for_each_process(lambda pid: os.kill(pid, signal.SIGCONT))

    def recover(self) -> None:
        """Run again, whatever was done to it."""
        self.resume()
        if self._process.poll() is not None:
            self.start()

    def close(self) -> None:
        self.resume()
        self.kill()
        shutil.rmtree(self.directory)

    def execute(self, *statements: str) -> None:
        connection = self.connect()
        try:
            for statement in statements:
                connection.cursor().execute(statement)
        finally:
            connection.close()

    @abstractmethod
    def connect(self) -> Any:
        """Return a connection of the administrator's."""

    @abstractmethod
    def _install(self) -> None: ...

    @abstractmethod
    def _prepare(self) -> None: ...

    @abstractmethod
    def _command(self) -> Sequence[str]: ...

    @property
    def _as_account(self) -> dict[str, Any]:
        if not self._is_root:
            return {}
        return {"user": self.account, "group": self.account, "extra_groups": []}

    def _run(self, *command: str) -> None:
        subprocess.run(  # noqa: S603 - our own command
            command, check=True, capture_output=True, cwd=self.directory, **self._as_account
        )

    def _for_each_process(self, do: Callable[[int], None]) -> None:
        for pid in [*self._children(), self._process.pid]:
            with suppress(ProcessLookupError):
                do(pid)

    def _children(self) -> Iterator[int]:
        pid = self._process.pid
        with suppress(OSError):
            yield from map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())


class PostgresServer(DatabaseServer):
    account = user = "postgres"
    engine = "django.db.backends.postgresql"

    def __init__(self) -> None:
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
        if not found:
            report_missing("These tests need PostgreSQL, Debian's package postgresql.")
        self._programs = found[-1].parent
        try:
            import psycopg
            import psycopg_pool  # noqa: F401 - Django's pool needs it
        except ImportError:
            report_missing('These tests need psycopg: pip install "psycopg[binary,pool]".')
        self._driver = psycopg
        super().__init__()

    def connect(self, name: str = "postgres") -> Any:
        return self._driver.connect(
            host="127.0.0.1",
            port=self.port,
            user=self.user,
            dbname=name,
            autocommit=True,
            options="-c default_transaction_read_only=off",
        )

    def be_read_only(self, value: bool) -> None:
        """Refuse to write, as a standby does; for connections that are opened from now on."""
        self.execute(
            f"ALTER DATABASE {NAME} SET default_transaction_read_only = {'on' if value else 'off'}"
        )

    def _install(self) -> None:
        self._run(
            str(self._programs / "initdb"),
            *("--auth", "trust", "--username", self.user, "--no-sync"),
            *("--pgdata", str(self.directory / "data")),
        )

    def _command(self) -> Sequence[str]:
        return [
            *(str(self._programs / "postgres"), "-D", str(self.directory / "data")),
            *("-p", str(self.port), "-c", "listen_addresses=127.0.0.1"),
            # The machine stays up when the server is killed: what it has written is not lost.
            *("-c", "unix_socket_directories=", "-c", "fsync=off"),
        ]

    def _prepare(self) -> None:
        self.execute(f"CREATE DATABASE {NAME}")


class MariaDBServer(DatabaseServer):
    account = "mysql"
    engine = "django.db.backends.mysql"
    user = "site"

    def __init__(self) -> None:
        path = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin"
        installer = shutil.which("mariadb-install-db", path=path)
        program = shutil.which("mariadbd", path=path)
        if installer is None or program is None:
            report_missing("These tests need MariaDB, Debian's package mariadb-server.")
        self._installer, self._program = installer, program
        try:
            import MySQLdb
        except ImportError:
            report_missing("These tests need mysqlclient: pip install mysqlclient.")
        self._driver = MySQLdb
        super().__init__()

    def connect(self) -> Any:
        connection = self._driver.connect(
            unix_socket=str(self.directory / "socket"), user="admin", password=self._password
        )
        connection.autocommit(True)
        return connection

    def be_read_only(self, value: bool) -> None:
        """Refuse to write, as a replica does, for whoever has no special rights."""
        self.execute(f"SET GLOBAL read_only = {int(value)}")

    _password = "pass-of-the-administrator"

    @property
    def _first_statements(self) -> Path:
        return self.directory / "first.sql"

    def _install(self) -> None:
        self._run(
            self._installer,
            *(f"--datadir={self.directory / 'data'}", "--auth-root-authentication-method=normal"),
            *("--skip-test-db", "--skip-name-resolve"),
        )
        self._first_statements.write_text(
            f"CREATE USER IF NOT EXISTS admin@localhost IDENTIFIED BY '{self._password}';\n"
            "GRANT ALL ON *.* TO admin@localhost WITH GRANT OPTION;\n"
        )

    def _command(self) -> Sequence[str]:
        return [
            *(self._program, "--no-defaults", f"--datadir={self.directory / 'data'}"),
            *(f"--port={self.port}", "--bind-address=127.0.0.1", "--skip-name-resolve"),
            *(f"--socket={self.directory / 'socket'}", f"--pid-file={self.directory / 'pid'}"),
            *(f"--init-file={self._first_statements}", "--character-set-server=utf8mb4"),
            *("--innodb-buffer-pool-size=16M", "--innodb-flush-log-at-trx-commit=2"),
        ]

    def _prepare(self) -> None:
        self.execute(
            f"CREATE DATABASE {NAME}",
            f"CREATE USER {self.user}@'127.0.0.1' IDENTIFIED BY '{self.settings['PASSWORD']}'",
            f"GRANT ALL ON {NAME}.* TO {self.user}@'127.0.0.1'",
        )
