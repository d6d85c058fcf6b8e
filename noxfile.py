"""What ``nox`` runs: the tests on every Python and Django that pyproject.toml names and on the
oldest packages that it allows, Django's own tests, and a site that has nothing but the wheel.

``nox -l`` lists the sessions, ``nox -j 2`` runs two at a time. A Python that this machine does not
have is skipped by name.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import dedent
from zipfile import ZipFile

import nox

nox.needs_version = ">=2026.8.10"
nox.options.allow_parallel = True
nox.options.error_on_missing_interpreters = False
nox.options.download_python = "never"

# pyenv's own commands refuse to run a version that it has not switched on.
PYENV = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
os.environ["PATH"] = os.pathsep.join(
    [*map(str, PYENV.glob("versions/3.*/bin")), os.environ["PATH"]]
)

DISTRIBUTIONS = Path("dist").absolute()
PROJECT = nox.project.load_toml("pyproject.toml")["project"]
EXTRAS = PROJECT["optional-dependencies"]
REQUIREMENTS = [
    *PROJECT["dependencies"],
    *EXTRAS["redis"],
    *EXTRAS["proxies"],
    *EXTRAS["test"],
]
SUPPORTED = [name.split(" :: ")[1:] for name in PROJECT["classifiers"]]
PYTHONS = [name[-1] for name in SUPPORTED if name[0] == "Python" and "." in name[-1]]
DJANGOS = [name[-1] for name in SUPPORTED if name[0] == "Django" and "." in name[-1]]

#: What starts servers of its own runs once, on the oldest packages, besides in ``.ci/run``.
TESTS_WITH_SERVERS = [
    "tests/contract/test_redis.py",
    "tests/site/test_redis_requests.py",
]

MYPY_INI = """\
[mypy]
plugins = mypy_django_plugin.main
[mypy.plugins.django-stubs]
django_settings_module = mysite.settings
[mypy-mysite.*]
ignore_errors = True
"""

#: Where Django wants a later Python than we do.
OLDEST_PYTHON = {"6.0": "3.12", "6.1": "3.12"}


def _number(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def _one_python_for(django: str) -> str:
    """Return the Python that runs this if it may, else the latest that we support."""
    oldest = _number(OLDEST_PYTHON.get(django, PYTHONS[0]))
    return "{}.{}".format(*sys.version_info) if sys.version_info >= oldest else PYTHONS[-1]


@nox.session(requires=["distributions"])
@nox.parametrize(
    ("python", "django"),
    [
        nox.param(python, django, id=f"python{python}-django{django}")
        for django in DJANGOS
        for python in PYTHONS
        if _number(python) >= _number(OLDEST_PYTHON.get(django, "3.0"))
    ],
)
def tests(session: nox.Session, django: str) -> None:
    """All tests but tests/system and those that need a server."""
    _test(session, *REQUIREMENTS, f"django=={django}.*", ignored=TESTS_WITH_SERVERS)


@nox.session(requires=["distributions"], tags=["ci"])
@nox.parametrize(
    ("python", "django"),
    [nox.param(_one_python_for(django), django, id=f"django{django}") for django in DJANGOS],
)
def djangos_own_tests(session: nox.Session, django: str) -> None:
    """Django's tests with our engine and middleware in place, on one Python."""
    _install(session, *EXTRAS["test"], f"django=={django}.*")
    session.run("python", "-m", "tests.system.django_suite")


@nox.session(python=PYTHONS[0], requires=["distributions"], tags=["ci"])
def oldest(session: nox.Session) -> None:
    """What README.rst's command runs, with the oldest version of everything that is allowed."""
    _test(session, *(requirement.replace(">=", "==") for requirement in REQUIREMENTS))


def _install(session: nox.Session, *requirements: str) -> None:
    # Not "-e .", for two sessions at once would write into the tree. The tests take the package
    # from there all the same, but what pytest finds as its plugin must be installed.
    session.install(*requirements, *map(str, DISTRIBUTIONS.glob("*.whl")))


def _test(session: nox.Session, *requirements: str, ignored: Sequence[str] = ()) -> None:
    _install(session, *requirements)
    arguments = [*(f"--ignore={path}" for path in ignored), *session.posargs]
    session.run("python", "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments)


@nox.session(tags=["ci"])
def distributions(session: nox.Session) -> None:
    """Build the source distribution and the wheel, and look what is in them."""
    session.install("build")
    shutil.rmtree(DISTRIBUTIONS, ignore_errors=True)
    with TemporaryDirectory() as directory:
        source, of_tree = Path(directory, "source"), Path(directory, "of-tree")
        ignored = [line.strip("/") for line in Path(".gitignore").read_text().split()]
        shutil.copytree(".", source, ignore=shutil.ignore_patterns(".git", *ignored))
        files = {str(path.relative_to(source)) for path in source.rglob("*") if path.is_file()}
        build = ("python", "-m", "build", source)
        session.run(*build, "--outdir", DISTRIBUTIONS, silent=True)  # the wheel from the sdist
        session.run(*build, "--outdir", of_tree, "--wheel", silent=True)
        if _wheel_in(DISTRIBUTIONS) != _wheel_in(of_tree):
            session.error("The wheels made of the tree and of the source distribution differ.")
    package = {name for name in files if name.startswith("usersessions/")}
    installed = {name for name in _wheel_in(DISTRIBUTIONS) if ".dist-info/" not in name}
    _compare(session, "the wheel", installed, package)
    (sdist,) = DISTRIBUTIONS.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        packed = {name.partition("/")[2] for name in archive.getnames()}
    _compare(session, "the source distribution", packed & files, files - {".gitignore"})


def _wheel_in(directory: Path) -> dict[str, int]:
    """Return the checksums of what is in a wheel, by name."""
    (wheel,) = directory.glob("*.whl")
    with ZipFile(wheel) as archive:
        return {member.filename: member.CRC for member in archive.infolist()}


def _compare(session: nox.Session, where: str, found: set[str], wanted: set[str]) -> None:
    if found != wanted:
        session.error(f"Wrongly in or not in {where}: {', '.join(sorted(found ^ wanted))}.")


@nox.session(requires=["distributions"], tags=["ci"])
def wheel(session: nox.Session) -> None:
    """Make a site of nothing but the wheel and the quick start of README.rst; use and type it."""
    session.install(*map(str, DISTRIBUTIONS.glob("*.whl")))
    blocks = re.findall(
        r"code-block:: python\n\n((?:    .*\n|\n)+)", Path("README.rst").read_text()
    )
    with TemporaryDirectory() as site:
        shutil.copy(".ci/site_tests.py", Path(site, "tests.py"))
        shutil.copy("tests/typed_site.py", site)
        with session.chdir(site):
            _make_and_use_site(session, "".join(map(dedent, blocks[:2])))


def _make_and_use_site(session: nox.Session, settings: str) -> None:
    session.run("django-admin", "startproject", "mysite", ".")
    with Path("mysite/settings.py").open("a") as file:
        file.write(settings)
    for command in ("check --fail-level WARNING", "migrate", "collect_session_garbage", "test"):
        session.run("python", "manage.py", *command.split())
    session.install(*(tool for tool in EXTRAS["dev"] if tool.startswith(("mypy", "django-stubs"))))
    Path("mypy.ini").write_text(MYPY_INI)
    session.run("mypy", "--strict", "typed_site.py")
