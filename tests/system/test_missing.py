"""What this suite does about tools that are not there."""

from __future__ import annotations

import pytest

from tests.missing import report_missing


def test_missing_tool_skips(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("USERSESSIONS_REQUIRE_ALL", raising=False)
    with pytest.raises(pytest.skip.Exception, match="needs a teapot"):
        report_missing("needs a teapot")


def test_missing_tool_fails_where_nothing_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USERSESSIONS_REQUIRE_ALL", "1")
    with pytest.raises(pytest.fail.Exception, match="needs a teapot"):
        report_missing("needs a teapot")
