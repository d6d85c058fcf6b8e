"""What this suite does about tools that are not there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.missing import report_missing
from tests.processes import wait_until
from tests.redis_servers import RedisServer


def test_missing_tool_skips(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("USERSESSIONS_REQUIRE_ALL", raising=False)
    with pytest.raises(pytest.skip.Exception, match="needs a teapot"):
        report_missing("needs a teapot")


def test_missing_tool_fails_where_nothing_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USERSESSIONS_REQUIRE_ALL", "1")
    with pytest.raises(pytest.fail.Exception, match="needs a teapot"):
        report_missing("needs a teapot")


def test_waiting_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.processes.PATIENCE", 0)
    with pytest.raises(TimeoutError, match="in vain until the cows come home"):
        wait_until(lambda: False, "the cows come home")


@pytest.mark.parametrize("requires_all", [False, True], ids=["skipped", "failing"])
def test_tests_say_that_the_server_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, requires_all: bool
) -> None:
    monkeypatch.setattr("tests.redis_servers.SERVER", None)
    monkeypatch.setenv("USERSESSIONS_REQUIRE_ALL", "1" if requires_all else "")
    outcome: Any = pytest.fail.Exception if requires_all else pytest.skip.Exception
    with pytest.raises(outcome) as caught:
        RedisServer(tmp_path)
    assert str(caught.value) == "These tests need redis-server, Debian's package redis-server."


@pytest.mark.parametrize("requires_all", [False, True], ids=["skipped", "failing"])
def test_tests_say_that_the_package_is_missing(requires_all: bool) -> None:
    modules = [
        "tests/contract/test_redis.py",
        "tests/site/test_admin_storages.py",
        "tests/site/test_redis_requests.py",
        "tests/system/test_redis_servers.py",
    ]
    options = ["-q", "-rs", "-p", "no:cacheprovider", *modules]
    code = f"import sys; sys.modules['redis'] = None; import pytest; pytest.main({options})"
    done = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", code],
        env={**os.environ, "USERSESSIONS_REQUIRE_ALL": "1" if requires_all else ""},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "These tests need redis-py: install the extra [redis]." in done.stdout
    assert ("4 errors" if requires_all else "4 skipped") in done.stdout
