"""What people read, in German and in French; Contributing in README.rst says how to refresh it.

As with Django itself, what developers read is English: checks, commands, exceptions.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from gettext import GNUTranslations
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.urls import reverse
from django.utils.translation import ngettext, override

import usersessions
from tests.factories import FrontendSessionFactory
from tests.missing import report_missing
from usersessions.test import Client

PACKAGE = Path(usersessions.__file__).parent
LANGUAGES = ["de", "fr"]


@pytest.fixture
def gettext() -> None:
    """The tools of that name."""
    shutil.which("msgfmt") or report_missing("needs gettext: see Contributing in README.rst")


def catalogue_of(language: str, suffix: str, package: Path = PACKAGE) -> Path:
    return package / "locale" / language / "LC_MESSAGES" / f"django.{suffix}"


def texts_in(compiled: Path) -> dict[Any, str]:
    """Return the translations of a compiled catalogue; a plural's keys are (text, number)."""
    with compiled.open("rb") as file:
        return GNUTranslations(file)._catalog  # type: ignore[attr-defined]


# The catalogues


@pytest.fixture
def refreshed(gettext: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the package, whose catalogues have just been refreshed from its source."""
    copy = shutil.copytree(PACKAGE, tmp_path / "usersessions")
    monkeypatch.chdir(copy)
    call_command("makemessages", locale=LANGUAGES, add_location="file", no_wrap=True, verbosity=0)
    return copy


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_text_is_translated_and_no_other(language: str, refreshed: Path) -> None:
    found = {}
    for flaw in ("--untranslated", "--only-fuzzy", "--only-obsolete"):
        command = ["msgattrib", flaw, catalogue_of(language, "po", refreshed)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
        found[flaw] = done.stdout
    assert found == {"--untranslated": "", "--only-fuzzy": "", "--only-obsolete": ""}


@pytest.mark.usefixtures("gettext")
@pytest.mark.parametrize("language", LANGUAGES)
def test_compiled_catalogue_is_that_of_the_source(language: str, tmp_path: Path) -> None:
    compiled = tmp_path / "django.mo"
    command = ["msgfmt", "--check", "-o", compiled, catalogue_of(language, "po")]
    subprocess.run(command, check=True)  # noqa: S603
    assert texts_in(catalogue_of(language, "mo")) == texts_in(compiled)


@pytest.mark.parametrize("language", LANGUAGES)
def test_translations_have_the_same_placeholders(language: str) -> None:
    def placeholders(text: str) -> list[str]:
        return sorted(re.findall(r"%\(\w+\)\w|%\w|\{\w*\}", text))

    texts = texts_in(catalogue_of(language, "mo"))
    originals = {key: key[0] if isinstance(key, tuple) else key for key in texts}
    assert ["{}"] in map(placeholders, texts.values())
    assert {key: placeholders(text) for key, text in texts.items()} == {
        key: placeholders(original) for key, original in originals.items()
    }


# The pages

WORDS_OF_THE_LIST = {
    "de": [
        "Benutzersitzungen",
        "Frontend-Sitzungen",
        "Suche nach Name oder ID eines Benutzers.",
        "Nach Status",
        "Abgelaufen",
        "Ausgewählte Sitzungen beenden",
        "Letzte Aktualisierung",
        "gelöschter Benutzer 7",
    ],
    "fr": [
        "Sessions des utilisateurs",
        "Sessions frontend",
        "Par état",
        "Expirée",
        "Fermer les sessions sélectionnées",
        "Dernière mise à jour",
        "utilisateur supprimé 7",
    ],
}


@pytest.fixture
def admin(client: Client, superuser: Any, settings: Any) -> Iterator[Client]:
    """The superuser's browser, logged in to the backend of a site of several languages."""
    settings.USERSESSIONS = {}
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "django.middleware.locale.LocaleMiddleware"]
    client.force_login(superuser, login_type="BE")
    with override("en"):  # what the requests switch on is switched off again
        yield client


def words_on(response: Any) -> str:
    assert response.status_code == 200
    return " ".join(re.sub(r"<[^>]*>", " ", response.content.decode()).split())


@pytest.mark.django_db
@pytest.mark.parametrize("language", LANGUAGES)
def test_list_of_sessions_is_in_the_browsers_language(language: str, admin: Client) -> None:
    FrontendSessionFactory(ses_userid=7)
    url = reverse("admin:django_usersessions_frontendsession_changelist")
    shown = words_on(admin.get(url, headers={"accept-language": language}))
    assert [words for words in WORDS_OF_THE_LIST[language] if words not in shown] == []


WORDS_OF_OWN_SESSIONS = {
    "de": [
        "Wo Sie angemeldet sind",
        "Seit der Anmeldung vergangen: 0\xa0Minuten",
        "Gerade in Benutzung",
        "Unbekanntes Gerät",
        "Überall abmelden",
    ],
    "fr": [
        "Où vous êtes connecté",
        "Connexion il y a 0\xa0minute",
        "En cours",
        "Appareil inconnu",
        "Se déconnecter partout",
    ],
}
WORDS_OF_CONFIRMING = {
    "de": ["Bestätigen Sie Ihre Anmeldung", "Passwort", "Bitte versuchen Sie es noch einmal."],
    "fr": ["Confirmez votre connexion", "Mot de passe", "Veuillez réessayer."],
}


@pytest.mark.django_db
@pytest.mark.parametrize("language", LANGUAGES)
def test_pages_about_ones_own_sessions_are_in_the_browsers_language(
    language: str, admin: Client, alice: Any
) -> None:
    admin.force_login(alice)
    headers = {"accept-language": language}
    sessions = admin.get("/usersessions/sessions/", headers=headers)
    confirm = admin.post("/usersessions/confirm/", {"password": "wrong"}, headers=headers)
    for page, words_of in ((sessions, WORDS_OF_OWN_SESSIONS), (confirm, WORDS_OF_CONFIRMING)):
        shown = page.content.decode()
        assert [words for words in words_of[language] if words not in shown] == []


@pytest.mark.parametrize(
    ("language", "number", "told"),
    [
        ("de", 0, "0 Sitzungen wurden beendet."),
        ("de", 1, "1 Sitzung wurde beendet."),
        ("de", 2, "2 Sitzungen wurden beendet."),
        ("fr", 0, "0 session a été fermée."),
        ("fr", 1, "1 session a été fermée."),
        ("fr", 2, "2 sessions ont été fermées."),
    ],
)
def test_numbers_are_told_in_good_grammar(language: str, number: int, told: str) -> None:
    with override(language):
        text = ngettext("%d session was ended.", "%d sessions were ended.", number)
    assert text % number == told


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("language", "reason"),
    [
        ("de", "Sie können nicht zu sich selbst wechseln."),
        ("fr", "Vous ne pouvez pas basculer vers vous-même."),
    ],
)
def test_refusal_to_switch_user_is_told_in_the_browsers_language(
    language: str, reason: str, admin: Client, superuser: Any, settings: Any
) -> None:
    settings.ROOT_URLCONF = "tests.urls_admin"
    answer = admin.post(
        reverse("staff:auth_user_changelist"),
        {"action": "switch_user_BE", "_selected_action": [superuser.pk]},
        headers={"accept-language": language},
        follow=True,
    )
    assert [str(message) for message in answer.context["messages"]] == [reason]
