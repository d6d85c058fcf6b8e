"""How results are printed: Markdown, with what they were measured on."""

from __future__ import annotations

import platform
import sqlite3
import sys
from collections.abc import Sequence
from datetime import date
from importlib.metadata import PackageNotFoundError, version

import django

PACKAGES = ("psycopg", "mysqlclient", "redis")


def print_table(
    header: Sequence[str], rows: Sequence[Sequence[str]], circumstances: str = ""
) -> None:
    """Print a table and, above it, the date, the versions and what else matters."""
    sys.stdout.write(f"{_versions()} {circumstances}\n\n")
    for row in (header, ["---"] * len(header), *rows):
        sys.stdout.write(f"| {' | '.join(row)} |\n")


def _versions() -> str:
    found = [f"Python {platform.python_version()}", f"Django {django.__version__}"]
    for package in PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return f"{date.today()}: {', '.join(found)}, SQLite {sqlite3.sqlite_version}."
