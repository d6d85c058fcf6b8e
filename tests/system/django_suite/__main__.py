"""Fetches the source of the installed Django from the package index and runs its tests with us.

The tests of the admin run on the login type BE, all others on FE.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import django

FRONTEND = [
    "sessions_tests",
    "tests.system.django_suite.contract",
    "auth_tests",
    "messages_tests",
    "csrf_tests",
    "test_client",
    "test_client_regress",
    "flatpages_tests",
    "view_tests",
]
BACKEND = ["admin_views", "admin_changelist", "admin_default_site", "admin_docs"]


def fetch_tests(folder: Path) -> Path:
    """Download Django's source into a folder and return where its tests are."""
    wanted = f"django=={django.get_version()}"
    options = ["--quiet", "--no-deps", "--no-binary", ":all:", "--dest", str(folder)]
    run_python("-m", "pip", "download", *options, wanted).check_returncode()
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as source:
        source.extractall(folder, filter="data")
    (tests,) = folder.glob("*/tests")
    return tests


def run_python(*arguments: str, **variables: str) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, **variables}
    return subprocess.run([sys.executable, *arguments], env=environment, check=False)  # noqa: S603


def main() -> int:
    failures = 0
    with tempfile.TemporaryDirectory() as name:
        tests = str(fetch_tests(Path(name)))
        for login_type, labels in (("FE", FRONTEND), ("BE", BACKEND)):
            sys.stdout.write(
                f"Django {django.get_version()} on {login_type}: {', '.join(labels)}\n"
            )
            sys.stdout.flush()
            failures += run_python(
                *("-m", "tests.system.django_suite.run", tests, *labels),
                DJANGO_SUITE_LOGIN_TYPE=login_type,
                PYTHONPATH=str(Path.cwd()),
            ).returncode
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main())
