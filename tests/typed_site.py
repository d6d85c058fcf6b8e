"""What a site with type hints writes: read by mypy in strict mode, never run.

Each ``assert_type()`` is a promise of the public API. Each ignored error is one that mypy must
find: strict mode has no ignores without need.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import AnonymousUser, User
from django.db import models
from django.http import HttpRequest, HttpResponse
from django.views.generic import View
from typing_extensions import assert_type

from usersessions import (  # type: ignore[attr-defined]
    CachedDatabaseSessionBackend,
    DatabaseSessionBackend,
    IpLocker,
    Misspelt,
    SessionBackend,
    SessionChanged,
    SessionDataTooLarge,
    SessionManager,
    SessionNotFound,
    SessionRecord,
    TooManySessions,
    UserSession,
    UserSessionManager,
    auth,
)
from usersessions.auth import OwnSession, RecentLoginRequiredMixin, recent_login_required
from usersessions.models import AbstractUserSession, FrontendSession
from usersessions.request.by_login_type import UserSessions
from usersessions.session.user_keys import UserId
from usersessions.signals import user_switched
from usersessions.store import SessionStore
from usersessions.test import AsyncClient, Client, ClientSession, make_login_cookie
from usersessions.views import ConfirmPasswordView, OwnSessionsView

__all__ = ["Misspelt"]


class SiteRequest(HttpRequest):
    """A request that has gone through ``UserSessionMiddleware``."""

    session: SessionStore
    user_sessions: UserSessions
    original_user: Any


# The session of a request


def use_session(request: SiteRequest) -> HttpResponse:
    request.session["basket"] = {"apple": 3}
    request.session.set_expiry(300)
    request.session.cycle_key()
    assert_type(request.session.user_session, UserSession)
    assert_type(request.session.session_key, str | None)
    assert_type(request.session.modified, bool)
    assert_type(request.session.load(), dict[str, Any])
    assert_type(request.session.exists("0" * 32), bool)
    assert_type(request.user_sessions["BE"], SessionStore)
    assert_type(SessionStore("0" * 32).identifiers, list[str])
    request.session.user_sesion  # type: ignore[attr-defined]  # noqa: B018
    return HttpResponse(request.session["basket"])


async def use_session_in_async_code(request: SiteRequest) -> None:
    await request.session.aset("basket", {"apple": 3})
    await request.session.asave()


# The sessions themselves


def use_managers(request: HttpRequest) -> None:
    manager = UserSessionManager.create("FE")
    assert_type(manager, UserSessionManager)
    assert_type(manager.backend, SessionBackend)
    assert_type(
        UserSessionManager.create("FE", lifetime=600, ip_locker=IpLocker(2)), UserSessionManager
    )
    UserSessionManager.create("FE", lifetim=600)  # type: ignore[call-arg]
    session = manager.create_from_request_or_anonymous(request)
    assert_type(session, UserSession)
    assert_type(manager.create_from_request_or_anonymous(request, "cookie"), UserSession)
    assert_type(manager.create_anonymous_session(), UserSession)
    assert_type(manager.create_session_from_storage(session.identifier), UserSession)
    assert_type(manager.fixate_anonymous_session(session, is_permanent=True), UserSession)
    assert_type(manager.elevate_to_fixated_user_session(session, 7), UserSession)
    assert_type(manager.regenerate_session(session.identifier, anonymous=True), UserSession)
    assert_type(manager.update_session(session), UserSession)
    assert_type(manager.update_session_timestamp(session), UserSession)
    assert_type(manager.has_expired(session), bool)
    assert_type(manager.will_expire(session, 60), bool)
    assert_type(manager.is_session_persisted(session), bool)
    assert_type(manager.collect_garbage(100), int)
    manager.remove_session(session)


def use_one(session: UserSession, request: SiteRequest) -> None:
    session["basket"] = {"apple": 3}
    session.set("basket", None)
    session.override_data({"basket": {}})
    assert_type(session.identifier, str)
    assert_type(session.user_id, UserId | None)
    assert_type(session.last_updated, int)
    assert_type(session.ip_lock, str)
    assert_type(session.get("basket", {}), Any)
    assert_type(session.data, dict[str, Any])
    assert_type(session.is_anonymous, bool)
    assert_type(session.is_new, bool)
    assert_type(session.is_permanent, bool)
    assert_type(session.has_data, bool)
    assert_type(session.data_was_updated, bool)
    assert_type(session.needs_update, bool)
    assert_type(session.to_record(), SessionRecord)
    assert_type(session.to_record()["ses_tstamp"], int)
    scope = request.session.login_type.cookie_scope(request)
    assert_type(session.get_jwt(scope), str)
    assert_type(UserSession.resolve_identifier_from_jwt("token", scope), str | None)
    assert_type(UserSession.from_record("0" * 32, session.to_record()), UserSession)
    session.last_updated = "now"  # type: ignore[assignment]


def end_sessions(user: User, session: UserSession) -> UserSession | None:
    assert_type(SessionManager.get_session_backend("FE"), SessionBackend)
    return SessionManager.invalidate_all_sessions_by_user_id("FE", user.pk, keep=session)


def catch_errors(session: UserSession) -> str:
    try:
        UserSessionManager.create("FE").update_session(session)
    except SessionDataTooLarge as error:
        return str(error)
    except TooManySessions as error:
        assert_type(error.limit, int)
        return error.login_type
    except SessionChanged as error:
        assert_type(error.record, SessionRecord)
        return error.login_type
    except SessionNotFound as error:
        return error.short_hash
    return ""


# Logging in, out and as somebody else


def log_in(request: HttpRequest, user: User) -> None:
    auth.login(request, user, login_type="BE", is_permanent=True)
    auth.login(request, user, "BE")  # type: ignore[call-arg]
    auth.logout(request, "BE")
    assert_type(auth.get_user(request, "BE"), AbstractBaseUser | AnonymousUser)


async def log_in_in_async_code(request: HttpRequest, user: User) -> None:
    await auth.alogin(request, user, login_type="BE")
    await auth.alogout(request, "BE")
    assert_type(await auth.aget_user(request, "BE"), AbstractBaseUser | AnonymousUser)


def use_own_sessions(request: HttpRequest) -> None:
    sessions = auth.own_sessions(request)
    assert_type(sessions, list[OwnSession])
    assert_type(sessions[0].ses_id, str)
    assert_type(auth.end_own_session(request, sessions[0].ses_id), bool)
    assert_type(auth.end_other_sessions(request, "FE"), int)
    assert_type(sessions[0].device, str)
    assert_type(sessions[0].logged_in_at, datetime | None)


# What only those may do who have logged in a short while ago


@recent_login_required
def change_email(request: HttpRequest, address: str) -> HttpResponse:
    assert_type(auth.is_login_recent(request), bool)
    assert_type(auth.is_login_recent(request, 60, login_type="BE"), bool)
    return HttpResponse(address)


@recent_login_required(max_age=60, login_type="BE", raise_exception=True)
async def show_codes(request: HttpRequest) -> HttpResponse:
    await auth.aconfirm_login(request, "BE")
    return HttpResponse()


@recent_login_required(maxage=60)  # type: ignore[call-overload,untyped-decorator]
def misspell(request: HttpRequest) -> HttpResponse:
    return HttpResponse()


class DeleteAccountView(RecentLoginRequiredMixin, View):
    max_age = 60

    def post(self, request: HttpRequest) -> HttpResponse:
        auth.confirm_login(request)
        return HttpResponse()


class LdapConfirmView(ConfirmPasswordView):
    template_name = "site/confirm.html"

    def has_password(self) -> bool:
        return True


def use_guarded_views(request: HttpRequest) -> None:
    assert_type(change_email(request, address="a@example.com"), HttpResponse)
    change_email(request)  # type: ignore[call-arg]
    OwnSessionsView.as_view(confirm_url="site:confirm", logged_out_page="/")


def switch(request: HttpRequest, customer: User) -> None:
    auth.switch_user(request, customer, login_type="FE")
    assert_type(auth.exit_switch_user(request), AbstractBaseUser | AnonymousUser)
    user_switched.connect(lambda **kwargs: None)


# What a site brings itself


class PartnerSession(AbstractUserSession):
    partner = models.CharField(max_length=10)

    class Meta(AbstractUserSession.Meta):
        app_label = "shop"
        db_table = "partner_sessions"


def use_models(session: PartnerSession) -> None:
    assert_type(session.partner, str)
    assert_type(session.ses_id, str)
    assert_type(session.short_hash, str)
    assert_type(FrontendSession.objects.get().ses_permanent, bool)


class TenantBackend(DatabaseSessionBackend):
    @property
    def database(self) -> str:
        return "tenant"


def use_cache(backend: CachedDatabaseSessionBackend) -> None:
    assert_type(backend.cache_alias, str)
    assert_type(backend.cache_timeout, int)
    assert_type(backend.database, str)


class ForgetfulBackend(SessionBackend):
    """Somebody else's storage: each hook with the types that the contract gives it."""

    def validate_configuration(self) -> None: ...

    def get_all(self) -> Iterator[SessionRecord]:
        yield {"ses_id": "0", "ses_userid": 7, "ses_tstamp": 0, "ses_data": b"{}"}

    def get_by_user(self, user_id: UserId, *, current: bool = False) -> Iterator[SessionRecord]:
        return self.get_all()

    def _read(self, ses_ids: Sequence[str], *, current: bool = False) -> SessionRecord | None:
        return None

    def _insert(self, ses_id: str, record: SessionRecord) -> bool:
        return False

    def _update(
        self, ses_ids: Sequence[str], values: SessionRecord, expected: SessionRecord
    ) -> bool:
        return False

    def _delete(self, ses_ids: Sequence[str], expected: SessionRecord) -> int:
        return 0

    def _delete_by_user(self, user_id: UserId, kept: Sequence[str]) -> int:
        return 0


class UnfinishedBackend(SessionBackend): ...


def use_backends() -> None:
    assert_type(ForgetfulBackend("SHOP", {"url": "memory:"}).get("0" * 32), SessionRecord)
    UnfinishedBackend("SHOP", {})  # type: ignore[abstract]


# Tests


def test_admin(superuser: User) -> None:
    client = Client()
    client.force_login(superuser, login_type="BE")
    assert_type(client.session, ClientSession)
    assert_type(client.session("BE").user_session, UserSession)
    assert_type(make_login_cookie(superuser, "http://localhost")["value"], str)
    assert client.get("/admin/").status_code == 200


async def test_admin_in_async_code(superuser: User) -> None:
    client = AsyncClient()
    await client.aforce_login(superuser, login_type="BE")
    assert_type(await client.asession("BE"), ClientSession)
    assert (await client.get("/admin/")).status_code == 200
