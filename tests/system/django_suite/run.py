"""Runs Django's tests in this process.

``python -m tests.system.django_suite.run FOLDER LABEL ...``
"""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

import django

OURS = "usersessions.middleware.UserSessionMiddleware"


def run(folder: Path, labels: list[str]) -> int:
    """Run tests of Django's; return how many failed.

    :param folder: ``tests`` of Django's source
    :param labels: modules in there, or in this checkout
    """
    sys.path.insert(0, str(folder))
    os.chdir(folder)
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.system.django_suite.settings"
    tempfile.tempdir = os.environ["TMPDIR"] = tempfile.mkdtemp(prefix="django_")
    atexit.register(shutil.rmtree, tempfile.tempdir)
    runtests = import_module("runtests")
    runtests.ALWAYS_MIDDLEWARE[0] = OURS
    runtests.ALWAYS_INSTALLED_APPS += ["usersessions", "tests.system.django_suite"]
    _set_up_with_our_middleware()
    return int(runtests.django_tests(**_OPTIONS, test_labels=labels))


def _set_up_with_our_middleware() -> None:
    """Have ``django.setup()`` put ours in the place of Django's, wherever a test imports it."""
    set_up = django.setup

    def setup(*args: Any, **kwargs: Any) -> None:
        set_up(*args, **kwargs)
        ours = import_module("usersessions.middleware").UserSessionMiddleware
        import_module("django.contrib.sessions.middleware").SessionMiddleware = ours
        import_module("auth_tests.settings").AUTH_MIDDLEWARE[0] = OURS

    django.setup = setup


_OPTIONS: dict[str, Any] = {
    "verbosity": 1,
    "interactive": False,
    "failfast": False,
    "keepdb": False,
    "reverse": False,
    "debug_sql": False,
    "parallel": 1,
    "tags": None,
    "exclude_tags": ["selenium"],
    "test_name_patterns": None,
    "start_at": None,
    "start_after": None,
    "pdb": False,
    "buffer": False,
    "timing": False,
    "shuffle": False,
}

if __name__ == "__main__":
    sys.exit(bool(run(Path(sys.argv[1]), sys.argv[2:])))
