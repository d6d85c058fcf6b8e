"""The end of a request: what the storage must be told of its sessions, and which cookies go out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Any

from django.conf import settings
from django.contrib.sessions.backends.base import UpdateError
from django.core.handlers.exception import response_for_exception
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils.cache import patch_vary_headers

from ..backends.errors import SessionNotUpdated
from ..backends.transactions import transaction_depth
from ..lifecycle.limit import TooManySessions
from ..session.meta import ADOPTED_AT
from ..session.user_session import UserSession
from ..store import KeyUse, SessionStore, Written, rollbacks, saving, switch
from .cookies import has_old_signature, is_cookie_due, send_cookie
from .old_cookie import delete_old_cookie

logger = logging.getLogger("usersessions.middleware")
store_logger = logging.getLogger("usersessions.store")


class Step(Enum):
    """Something that the storage must be told at the end of a request."""

    REPEAT_REMOVALS = "ends again what a rolled-back transaction may have brought back"
    END_SWITCH = "ends a switched session that may not go on"
    READ = "reads a session that is to be saved and was not asked for, then goes on"
    SAVE = "stores the session"
    END_EMPTIED = "ends a session whose data has become empty"
    TOUCH = "notes that the session is in use, under the current SECRET_KEY"
    NOTE_ARRIVAL = "notes that the browser has the cookie of an adopted session"


def plan(store: SessionStore, *, may_store: bool = True) -> list[Step]:
    """Return what the storage must be told of a session, in order; nothing for most requests.

    :param may_store: False after a failure: changes are forgotten, what was ended stays ended
    """
    steps = []
    session = store.loaded
    if store.changes:
        steps.append(Step.REPEAT_REMOVALS)
        if session is not None and (may_store or session.is_new):
            store.notice_rollback()
    if store.refused_switch is not None:
        steps.append(Step.END_SWITCH)
    if session is None:
        if may_store and store.is_saved_unread:
            steps.append(Step.READ)
    elif session.stored is None and not session.data and store.key_use is not KeyUse.CREATED:
        pass  # nothing was stored, and there is nothing to store
    elif may_store and not (store.changes and store.has_ended):
        steps += _storing_steps(store, session)
    return steps


def _storing_steps(store: SessionStore, session: UserSession) -> list[Step]:
    steps = []
    if store.written is Written.DATA:
        # By the view itself: what it changed afterwards, in place too, is not saved yet.
        has_changes = not session.is_as_stored
    else:
        saves_always = settings.SESSION_SAVE_EVERY_REQUEST and session.stored is not None
        has_changes = saves_always or store.modified
    if has_changes:
        if session.data or store.key_use is KeyUse.CREATED or not store.modified:
            steps.append(Step.SAVE)
        else:
            return [Step.END_EMPTIED]
    elif session.stored is not None and (
        store.manager.expiry.is_touch_due(session)
        or (settings.SECRET_KEY_FALLBACKS and has_old_signature(store))
    ):
        steps.append(Step.TOUCH)
    if session.meta.get(ADOPTED_AT) == 0 and session.identifier == store.presented_key:
        steps.append(Step.NOTE_ARRIVAL)
    return steps


def needs_storage(request: HttpRequest, response: HttpResponseBase) -> bool:
    """Return whether ``finish_sessions()`` may block, so that async code runs it in a thread."""
    may_store = response.status_code < 500
    return any(
        # What the view saved may have left garbage to collect.
        store.written is Written.DATA or plan(store, may_store=may_store)
        for store in _stores(request)
    )


def finish_sessions(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
    """Store the request's sessions and send their cookies; return the response.

    Costs one query for each session that was changed, or last updated more than 61 s ago.
    """
    sessions: Any = request.user_sessions  # type: ignore[attr-defined]
    if sessions.has_spent_old_cookie:
        delete_old_cookie(response)
    failure: Exception | None = None
    finished = []
    for store in _stores(request):
        if not store.accessed and not store.is_saved_unread:
            continue
        try:
            if _finish(request, response, store):
                finished.append(store)
        except TooManySessions as exc:
            failure = failure or exc
            finished.append(store)
        except Exception as exc:  # the other sessions must be finished all the same
            if failure is not None:
                logger.error("Another session of the request failed.", exc_info=failure)
            failure = exc
    return response if failure is None else _answer_failure(request, failure, finished)


def _stores(request: HttpRequest) -> list[SessionStore]:
    sessions: Any = request.user_sessions  # type: ignore[attr-defined]
    stores: list[SessionStore] = [*sessions.opened.values()]
    session = getattr(request, "session", None)
    # A test or a decorator may have put a session of its own in the place of ours.
    if isinstance(session, SessionStore) and session not in stores:
        stores.append(session)
    return stores


def _finish(request: HttpRequest, response: HttpResponseBase, store: SessionStore) -> bool:
    """Store one session and its cookie; return False if another request has ended it."""
    _vary_on_cookie(response)
    steps = plan(store, may_store=response.status_code < 500)
    if Step.SAVE in steps:
        # A host that Django does not allow gets its 400 before anything is stored for it.
        store.cookie_scope(request)
    try:
        for step in steps:
            _STEPS[step](store)
    except UpdateError:
        logger.info("A %s session ended while a request used it.", store.login_type.name)
        return False
    session = store.loaded
    is_new = session is not None and session.is_new and session.stored is not None
    if is_new or store.has_ended_cookie or store.written is not Written.NOTHING:
        send_cookie(request, response, store)
    if store.written is Written.DATA:
        _collect_some_garbage(store)
    return True


def _answer_failure(
    request: HttpRequest, failure: Exception, finished: list[SessionStore]
) -> HttpResponseBase:
    is_refusal = isinstance(failure, TooManySessions)
    if not is_refusal and not any(map(is_cookie_due, finished)):
        raise failure
    # Their new identifiers are stored: without their cookies people would be logged out.
    answer = _error_page(request, failure)
    for store in finished:
        _vary_on_cookie(answer)
        send_cookie(request, answer, store)
    return answer


def _error_page(request: HttpRequest, failure: Exception) -> HttpResponse:
    try:
        raise failure  # Django and error trackers ask for the exception that is being handled
    except Exception as exc:
        answer: HttpResponse = response_for_exception(request, exc)
        return answer


def _vary_on_cookie(response: HttpResponseBase) -> None:
    # Most responses have no Vary yet: nothing to take apart and put together.
    if "Vary" in response.headers:
        patch_vary_headers(response, ("Cookie",))
    else:
        response.headers["Vary"] = "Cookie"


def _collect_some_garbage(store: SessionStore) -> None:
    backend, probability = store.manager.backend, store.login_type.gc_probability
    if not probability or backend.drops_expired or transaction_depth(backend):
        return
    try:
        store.manager.collect_garbage(probability, max_batches=1)
    except Exception:
        # The visitor's session is stored: the answer with its cookie must go out.
        logger.exception("Collecting expired %s sessions failed.", store.login_type.name)


# The steps


def _repeat_removals(store: SessionStore) -> None:
    assert store.changes is not None
    store.changes.repeat_removals()


def _end_switch(store: SessionStore) -> None:
    with _best_effort(store):
        switch.end_refused(store)


def _read(store: SessionStore) -> None:
    store.keys()  # reads it
    for step in plan(store):
        _STEPS[step](store)


def _save(store: SessionStore) -> None:
    saving.write(store)


def _end_emptied(store: SessionStore) -> None:
    session = store.user_session
    identifier = session.stored_identifier
    try:
        is_gone = store.manager.saver.remove_emptied(session)
    except SessionNotUpdated as exc:
        raise UpdateError from exc
    if is_gone:
        rollbacks.note_removal(store, identifier)
        store.use(None)
    else:
        saving.write(store)


def _touch(store: SessionStore) -> None:
    session, manager = store.user_session, store.manager
    with _best_effort(store):
        store.loaded = manager.update_session_timestamp(session)
        is_touched = store.loaded is not session
        if not is_touched and has_old_signature(store):
            seen = session.last_updated
            # Unchanged, under the hash that SECRET_KEY gives the identifier.
            is_touched = manager.backend.touch(session.identifier, seen, seen=seen)
        if is_touched and store.written is Written.NOTHING:
            store.written = Written.TOUCH


def _note_arrival(store: SessionStore) -> None:
    with _best_effort(store):
        store.manager.saver.note_arrival(store.user_session)


_STEPS: dict[Step, Callable[[SessionStore], None]] = {
    Step.REPEAT_REMOVALS: _repeat_removals,
    Step.END_SWITCH: _end_switch,
    Step.READ: _read,
    Step.SAVE: _save,
    Step.END_EMPTIED: _end_emptied,
    Step.TOUCH: _touch,
    Step.NOTE_ARRIVAL: _note_arrival,
}


@contextmanager
def _best_effort(store: SessionStore) -> Iterator[None]:
    """Write what the visitor did not ask for: if that fails, the page goes out all the same.

    A storage that can only be read goes on showing pages.
    """
    try:
        yield
    except Exception:
        if transaction_depth(store.manager.backend):
            raise  # it is broken, and not ours to end
        store_logger.exception("The use of a %s session was not noted.", store.login_type.name)
