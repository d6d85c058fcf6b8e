"""What README.rst tells is so."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import docutils.core
import docutils.utils
import pytest
from django.apps import apps

import usersessions
from testproject import settings as demo_settings
from usersessions.defaults import BUILT_IN, SETTINGS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.rst").read_text()
PYTHON_BLOCKS = [
    "".join(line[4:] or "\n" for line in block.splitlines(keepends=True))
    for block in re.findall(r"\.\. code-block:: python\n\n((?:    .*\n|\n)+)", README)
]


def test_readme_and_changelog_are_sound_rst() -> None:
    for name in ("README.rst", "CHANGELOG.rst"):
        docutils.core.publish_doctree(
            (ROOT / name).read_text(),
            settings_overrides={
                "syntax_highlight": "none",  # else it asks for Pygments
                "report_level": docutils.utils.Reporter.INFO_LEVEL,
                "halt_level": docutils.utils.Reporter.INFO_LEVEL,
            },
        )


def test_ci_runs_the_test_command_exactly_as_written() -> None:
    command = 'python -m pip install -e ".[test]" && python -m pytest\n'
    assert f"\n    {command}" in README
    assert f"\n    {command}" in (ROOT / ".ci/run").read_text()


@pytest.mark.parametrize("block", PYTHON_BLOCKS, ids=range(len(PYTHON_BLOCKS)))
def test_python_blocks_run(block: str) -> None:
    before = dict(apps.all_models["shop"])
    try:
        exec(compile(block, "README.rst", "exec"), {"__name__": "readme"})  # noqa: S102
    finally:
        apps.all_models["shop"].clear()
        apps.all_models["shop"].update(before)
        apps.clear_cache()


def test_settings_shown_are_the_demo_sites() -> None:
    shown: dict[str, Any] = {}
    for block in PYTHON_BLOCKS[:2]:
        for statement in ast.parse(block).body:
            assert isinstance(statement, ast.Assign)
            name = ast.unparse(statement.targets[0])
            shown[name] = ast.literal_eval(statement.value)
    assert shown["USERSESSIONS"] == demo_settings.USERSESSIONS
    assert shown["SESSION_ENGINE"] == demo_settings.SESSION_ENGINE
    assert set(shown["INSTALLED_APPS"]) <= set(demo_settings.INSTALLED_APPS)
    assert set(shown["MIDDLEWARE"]) <= set(demo_settings.MIDDLEWARE)
    options = demo_settings.DATABASES["default"]["OPTIONS"]
    assert shown["DATABASES"]["default"]["OPTIONS"] == options


def test_every_setting_is_in_the_table() -> None:
    (table,) = re.findall(r"^Setting .*\n=.*\n((?:.*\n)+?)=", README, re.MULTILINE)
    assert set(re.findall(r"^``([A-Z_0-9]+)`` ", table, re.MULTILINE)) == set(SETTINGS)


@pytest.mark.parametrize("key", ["TIMEOUT", "MAX_DATA_SIZE", "ANONYMOUS_LIFETIME"])
def test_defaults_in_the_table_are_right(key: str) -> None:
    (row,) = re.findall(rf"^``{key}`` +(.+)", README, re.MULTILINE)
    for values in (BUILT_IN["FE"], {key: SETTINGS[key].default}):
        assert str(values.get(key, SETTINGS[key].default)) in row


@pytest.mark.parametrize("name", ["UserSession", "UserSessionManager", "SessionManager"])
def test_names_for_typo3_people_exist(name: str) -> None:
    (table,) = re.findall(rf"^TYPO3 ``{name}``.*\n=.*\n((?:.*\n)+?)=", README, re.MULTILINE)
    names = set()
    for line in table.splitlines():
        names |= set(re.findall(r"``([a-z]\w*)", line[57:]))
    owner = getattr(usersessions, name)
    known = set(dir(owner)) | set(getattr(owner, "__annotations__", {}))
    assert len(names) > 1
    assert names - {"session", "ses_id"} <= known


def test_tests_that_prove_asvs_requirements_exist() -> None:
    rows = README.split("OWASP ASVS 5.0\n---")[1].split("Contributing\n===")[0].split("   * - ")[2:]
    assert len(rows) > 20
    for row in rows:
        tests = re.findall(r"``([\w/]+\.py)::(\w+)``", row)
        assert tests, f"Nothing proves {row.splitlines()[0]}."
        for path, name in tests:
            assert f"def {name}(" in (ROOT / "tests" / path).read_text(), f"{path}::{name}"
