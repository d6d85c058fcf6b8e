"""What the tests' own servers share: ports, patience, and a process that hangs."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

#: Seconds that a server may take for what it has been told.
PATIENCE = 30


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(
    condition: Callable[[], Any],
    what: str,
    every: float = 0.02,
    ignoring: type[Exception] | tuple[()] = (),
) -> None:
    """Wait for what another process is about to do.

    :param every: seconds between two looks
    :param ignoring: what the condition raises while it does not hold yet
    """
    until = time.monotonic() + PATIENCE
    while True:
        with suppress(ignoring):
            if condition():
                return
        if time.monotonic() > until:
            raise TimeoutError(f"Waited {PATIENCE} s in vain until {what}.")
        time.sleep(every)


def pause(pid: int) -> None:
    """Stop a process, and return when none of its threads runs any longer.

    The signal goes to one thread, which stops the others when it is next run: on a busy machine
    they may answer a request meanwhile.
    """
    os.kill(pid, signal.SIGSTOP)
    wait_until(
        lambda: set(_states_of_threads(pid)) <= {"T", "Z"}, f"process {pid} stands", every=0.001
    )


def _states_of_threads(pid: int) -> list[str]:
    """Return the letters of ``/proc``; none where there is no such directory."""
    states = []
    for thread in Path(f"/proc/{pid}/task").glob("*/stat"):
        with suppress(OSError):  # the thread has ended
            states.append(thread.read_text().rpartition(")")[2].split()[0])
    return states
