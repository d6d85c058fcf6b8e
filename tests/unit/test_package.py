"""What the package shows to the world."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from django.core.management import call_command

import usersessions


@pytest.mark.parametrize("name", usersessions.__all__)
def test_public_names_exist_and_are_documented(name: str) -> None:
    assert getattr(usersessions, name).__doc__


def test_type_checkers_know_the_same_names() -> None:
    stub = ast.parse(Path(usersessions.__file__).with_suffix(".pyi").read_text())
    names = [alias.asname for line in stub.body for alias in line.names]  # type: ignore[attr-defined]
    assert sorted(map(str, names)) == sorted(usersessions.__all__)


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'usersessions' has no attribute 'Nothing'"):
        usersessions.Nothing  # noqa: B018


def test_demo_site_passes_all_checks() -> None:
    call_command("check", fail_level="WARNING")


@pytest.mark.django_db
def test_models_and_migrations_agree() -> None:
    call_command("makemigrations", check=True, dry_run=True, verbosity=0)
