"""What becomes of sessions when their users change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.contrib.auth.signals import user_logged_in
from django.db import models
from django.db.models.signals import post_delete
from django.test import RequestFactory
from django.test.utils import isolate_apps

from tests.conftest import SessionQueries
from tests.factories import UserFactory
from tests.urls import visit
from usersessions import apps
from usersessions.models import BackendSession, FrontendSession
from usersessions.store import SessionStore
from usersessions.test import Client

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.urls")]


def session_count() -> int:
    return FrontendSession.objects.count() + BackendSession.objects.count()


@pytest.fixture
def sessions_of_alice(client: Client, other_client: Client, alice: Any) -> None:
    client.force_login(alice)
    client.force_login(alice, login_type="BE")
    other_client.force_login(alice)


def set_password(user: Any) -> None:
    user.set_password("new")
    user.save()


def deactivate(user: Any) -> None:
    user.is_active = False
    user.save(update_fields=["is_active"])


def delete(user: Any) -> None:
    user.delete()


def delete_by_queryset(user: Any) -> None:
    User.objects.filter(pk=user.pk).delete()


def save_all(user: Any) -> None:
    User.objects.get(pk=user.pk).save()


def upgrade_the_hash(user: Any) -> None:
    assert user.check_password(user.username)
    assert User.objects.get(pk=user.pk).password.startswith("scrypt$")


def load_raw(user: Any) -> None:
    """As fixtures are loaded."""
    user.set_password("new")
    user.save_base(raw=True)


Change = Callable[[Any], None]


@pytest.mark.usefixtures("sessions_of_alice")
class TestChangesThatEndSessions:
    @pytest.mark.parametrize("change", [set_password, deactivate, delete, delete_by_queryset])
    def test_change_ends_all_sessions_of_every_type(
        self, alice: Any, change: Change, django_capture_on_commit_callbacks: Any
    ) -> None:
        with django_capture_on_commit_callbacks(execute=True):
            change(alice)
        assert session_count() == 0

    def test_nothing_ends_before_the_change_is_committed(
        self, alice: Any, django_capture_on_commit_callbacks: Any
    ) -> None:
        with django_capture_on_commit_callbacks():
            set_password(alice)
        assert session_count() == 3

    @pytest.mark.parametrize("change", [save_all, upgrade_the_hash, load_raw])
    def test_other_change_ends_nothing(
        self, alice: Any, settings: Any, change: Change, django_capture_on_commit_callbacks: Any
    ) -> None:
        settings.PASSWORD_HASHERS = [
            "django.contrib.auth.hashers.ScryptPasswordHasher",
            "django.contrib.auth.hashers.MD5PasswordHasher",
        ]
        with django_capture_on_commit_callbacks(execute=True):
            change(alice)
        assert session_count() == 3

    def test_other_users_sessions_stay(
        self, bob: Any, django_capture_on_commit_callbacks: Any
    ) -> None:
        with django_capture_on_commit_callbacks(execute=True):
            set_password(bob)
        assert session_count() == 3

    @pytest.mark.parametrize(
        "fields", [["last_login"], ["first_name"], ["email", "last_name"]], ids=str
    )
    def test_other_saves_cost_nothing(
        self, alice: Any, fields: list[str], session_queries: SessionQueries
    ) -> None:
        alice.set_password("not saved")
        with session_queries:
            alice.save(update_fields=fields)
        assert session_queries.kinds == []
        assert session_count() == 3


@pytest.mark.django_db(transaction=True)
def test_password_change_without_new_hash_ends_the_session_on_the_next_request(
    client: Client, alice: Any
) -> None:
    client.force_login(alice)

    def change_password(request: Any) -> None:
        request.user.set_password("new")
        request.user.save()

    visit(client, change_password)
    assert visit(client, lambda request: request.user.username).content == b"''"
    assert session_count() == 0


def test_login_signal_without_session_login_binds_nothing(alice: Any) -> None:
    """Packages for API tokens send user_logged_in for a request with an anonymous session."""
    request = RequestFactory().get("/")
    request.session = SessionStore()
    user_logged_in.send(User, request=request, user=alice)
    assert request.session.user_session.is_anonymous


def test_login_signal_of_a_request_without_session_is_no_error(alice: Any) -> None:
    user_logged_in.send(User, request=RequestFactory().get("/"), user=alice)


def test_user_with_a_placeholders_key_can_be_deleted(
    alice: Any, client: Client, django_capture_on_commit_callbacks: Any
) -> None:
    visit(client, lambda request: request.session.update({"x": 1}))
    nobody = UserFactory(pk=-1)
    with django_capture_on_commit_callbacks(execute=True):
        nobody.delete()
    assert session_count() == 1


def test_no_receiver_listens_to_every_models_deletion() -> None:
    """One would take Django's fast deletes from every model of the site."""
    assert not post_delete.has_listeners(FrontendSession)
    assert post_delete.has_listeners(User)


@isolate_apps("tests")
def test_parents_that_lend_users_their_key_tell_of_them_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def make(name: str, parent: type[models.Model], **fields: Any) -> type[models.Model]:
        meta = type("Meta", (), {"app_label": "tests"})
        return type(name, (parent,), {"__module__": __name__, "Meta": meta, **fields})

    contact = make("Contact", models.Model)
    root = make("Root", contact)
    link = models.OneToOneField(contact, models.CASCADE, parent_link=True)
    helper = make("Helper", contact, number=models.AutoField(primary_key=True), link=link)
    for user_model, parents in ((make("Person", root), [root, contact]), (helper, [])):
        monkeypatch.setattr(apps, "get_user_model", lambda user_model=user_model: user_model)
        assert apps._user_models() == parents
