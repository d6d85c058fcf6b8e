"""One session in memory: data, flags, the stored form, and merging what others stored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jwt
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.conftest import Clock
from tests.factories import NOW
from usersessions import CookieScope, UserSession
from usersessions.session.data import CorruptSessionData
from usersessions.session.meta import is_well_formed
from usersessions.session.tokens import Keys

IDENTIFIER = "0123456789abcdef" * 2
NEW_IDENTIFIER = "fedcba9876543210" * 2
ALICE = 7

VECTORS = json.loads((Path(__file__).parents[2] / "typo3_vectors.json").read_text())["records"]

#: What the PHP-serialized text in the vectors' records says.
PHP = {
    None: {},
    "": {},
    'a:2:{s:4:"some";s:4:"data";s:10:"backuserid";i:1;}': {"some": "data", "backuserid": 1},
    'a:1:{s:1:"a";i:1;}': {"a": 1},
    'a:1:{s:6:"basket";a:1:{i:3;i:2;}}': {"basket": {"3": 2}},
    'a:1:{s:1:"x";i:1;}': {"x": 1},
    'a:2:{s:1:"x";i:1;s:1:"y";i:2;}': {"x": 1, "y": 2},
}


def from_php(value: Any) -> Any:
    """Return a value of the vectors as JSON has it, where all keys are text."""
    if value == []:
        return {}
    if isinstance(value, dict):
        return {str(key): from_php(inner) for key, inner in value["$map"]}
    return value


def as_bytes(data: Any) -> bytes:
    return json.dumps(data, separators=(",", ":")).encode()


def a_session(data: dict[str, Any] | None = None, **record: Any) -> UserSession:
    """Return a session that was read from the storage."""
    return UserSession.from_record(IDENTIFIER, {"ses_data": as_bytes(data or {}), **record})


def of_vector(vector: dict[str, Any], clock: Clock) -> UserSession:
    clock.now = vector["now"]
    if vector["constructor"] == "createNonFixated":
        return UserSession.non_fixated(vector["identifier"], clock=clock)
    record = from_php(vector["record"])
    if "ses_data" in record:
        record["ses_data"] = as_bytes(PHP[record["ses_data"]])
    session = UserSession.from_record(
        vector["identifier"], record, mark_as_new=vector["mark_as_new"], clock=clock
    )
    for change, *arguments in vector["changes"]:
        method = {"set": session.set, "override": session.override_data}[change]
        method(*map(from_php, arguments))
    return session


# What TYPO3 answers. There the stored record also has the identifier, as ses_id, and PHP's data.

ACCEPTED = [vector for vector in VECTORS if not vector["error"]]
REFUSED = [vector for vector in VECTORS if vector["error"]]


def by_name(vector: dict[str, Any]) -> str:
    return str(vector["name"]).replace(" ", "-")


@pytest.mark.parametrize("vector", ACCEPTED, ids=by_name)
def test_session_says_what_typo3_says(vector: dict[str, Any], clock: Clock) -> None:
    session = of_vector(vector, clock)
    expected = vector["get"]
    assert {name: getattr(session, name) for name in expected} == {
        **expected,
        "data": from_php(expected["data"]),
    }


@pytest.mark.parametrize("vector", ACCEPTED, ids=by_name)
def test_record_is_typo3s(vector: dict[str, Any], clock: Clock) -> None:
    expected = from_php(vector["to_array"])
    del expected["ses_id"]
    expected["ses_data"] = as_bytes(from_php(vector["get"]["data"]))
    assert of_vector(vector, clock).to_record() == expected


@pytest.mark.parametrize("vector", ACCEPTED, ids=by_name)
def test_session_needs_an_update_when_typo3_says_so(vector: dict[str, Any], clock: Clock) -> None:
    session = of_vector(vector, clock)
    answers = {}
    for row in vector["needs_update"]:
        clock.now = session.last_updated + row["seconds_after_last_updated"]
        answers[row["seconds_after_last_updated"]] = session.needs_update
    assert answers == {0: False, 60: False, 61: False, 62: True, 3600: True}
    assert answers == {
        row["seconds_after_last_updated"]: row["needs_update"] for row in vector["needs_update"]
    }


@pytest.mark.parametrize("vector", REFUSED, ids=by_name)
def test_what_typo3_refuses_is_refused(vector: dict[str, Any], clock: Clock) -> None:
    with pytest.raises(ValueError, match=r"^A session key must not be empty\.$"):
        of_vector(vector, clock)


# Data


def test_value_that_was_set_is_there() -> None:
    session = a_session()
    session.set("basket", [1])
    assert (session.get("basket"), session["basket"], "basket" in session) == ([1], [1], True)


def test_value_is_set_as_in_a_mapping() -> None:
    session = a_session()
    session["basket"] = [1]
    assert session.data == {"basket": [1]}


def test_missing_value_is_the_default() -> None:
    session = a_session()
    assert (session.get("basket"), session.get("basket", 0), "basket" in session) == (
        None,
        0,
        False,
    )


def test_missing_key_in_brackets_is_a_key_error() -> None:
    with pytest.raises(KeyError, match="basket"):
        a_session()["basket"]


@pytest.mark.parametrize("value", [1, 0, "", False, [], {}])
def test_any_value_but_none_is_kept(value: Any) -> None:
    session = a_session()
    session.set("x", value)
    assert session.data == {"x": value}


def test_none_removes_the_key() -> None:
    session = a_session({"x": 1, "y": 2})
    session.set("x", None)
    assert session.data == {"y": 2}


@pytest.mark.parametrize("value", [2, 1, None])
def test_set_counts_as_an_update(value: Any) -> None:
    session = a_session({"x": 1})
    session.set("x", value)
    assert session.data_was_updated


def test_session_that_was_only_read_is_not_updated() -> None:
    session = a_session({"x": 1})
    session.get("x")
    assert not session.data_was_updated


def test_deleted_key_is_gone_and_counts_as_an_update() -> None:
    session = a_session({"x": 1, "y": 2})
    del session["x"]
    assert (session.data, session.data_was_updated) == ({"y": 2}, True)


def test_deleting_a_missing_key_is_a_key_error_and_no_update() -> None:
    session = a_session()
    with pytest.raises(KeyError, match="x"):
        del session["x"]
    assert not session.data_was_updated


RESERVED = r"^The session key '_usersessions' is reserved for usersessions\.$"


@pytest.mark.parametrize("value", [{"login_at": 0}, None])
def test_key_of_the_app_itself_is_refused(value: Any) -> None:
    session = a_session()
    with pytest.raises(ValueError, match=RESERVED):
        session.set("_usersessions", value)
    assert not session.data_was_updated


def test_key_of_the_app_itself_put_in_by_force_is_not_stored() -> None:
    """Attack: a view that copies a form into the session, to prolong the login."""
    session = a_session()
    session.override_data({"_usersessions": {"login_at": 2_000_000_000}})
    with pytest.raises(ValueError, match=RESERVED):
        session.to_record()


@pytest.mark.parametrize(
    ("data", "is_update"),
    [
        pytest.param({"x": 1, "y": 2}, False, id="same"),
        pytest.param({"x": 1, "y": 3}, True, id="other-value"),
        pytest.param({"x": 1}, True, id="key-less"),
        pytest.param({"x": 1, "y": 2, "z": 3}, True, id="key-more"),
        pytest.param({"y": 2, "x": 1}, True, id="other-order"),
        pytest.param({"x": True, "y": 2}, True, id="true-is-not-1"),
        pytest.param({"x": 1.0, "y": 2}, True, id="float-is-not-int"),
        pytest.param({}, True, id="nothing"),
    ],
)
def test_override_replaces_all_and_counts_as_an_update_if_it_differs(
    data: dict[str, Any], is_update: bool
) -> None:
    session = a_session({"x": 1, "y": 2})
    session.override_data(data)
    assert as_bytes(session.data) == as_bytes(data)
    assert session.data_was_updated is is_update


def test_override_with_the_same_data_does_not_hide_an_update() -> None:
    session = a_session()
    session.set("x", 1)
    session.override_data({"x": 1})
    assert session.data_was_updated


def test_override_with_its_own_data_keeps_it() -> None:
    session = a_session({"x": 1})
    session.override_data(session.data)
    assert session.data == {"x": 1}


def test_override_reaches_whoever_holds_the_data() -> None:
    """``request.session`` holds the dict."""
    session = a_session({"x": 1})
    held = session.data
    session.override_data({"y": 2})
    assert held is session.data
    assert held == {"y": 2}


def test_overriding_data_is_copied() -> None:
    mine = {"x": 1}
    session = a_session()
    session.override_data(mine)
    mine["x"] = 2
    assert session.data == {"x": 1}


# Flags


@pytest.mark.parametrize("seconds", [0, 61, 61.5, 62])
def test_update_is_needed_after_more_than_61_seconds(clock: Clock, seconds: float) -> None:
    session = UserSession.from_record(IDENTIFIER, {"ses_tstamp": NOW}, clock=clock)
    clock.forward(seconds)
    assert session.needs_update is (seconds > 61)


@pytest.mark.parametrize(("data", "has_data"), [({}, False), ({"x": 0}, True)])
def test_session_knows_whether_it_has_data(data: dict[str, Any], has_data: bool) -> None:
    assert a_session(data).has_data is has_data


@pytest.mark.parametrize("user_id", [ALICE, None])
def test_session_without_user_is_anonymous(user_id: int | None) -> None:
    assert UserSession(IDENTIFIER, user_id=user_id).is_anonymous is (user_id is None)


def test_representation_hides_the_identifier_and_the_values() -> None:
    """A secret in a log or on a debug page is in the hands of whoever reads that."""
    session = a_session({"pin": "secret", "basket": [1]}, ses_userid=ALICE)
    assert repr(session) == "<UserSession user_id=7 keys=['basket', 'pin'] is_new=False>"


def test_representation_of_what_is_stored_hides_identifier_and_data() -> None:
    """Debug pages show local variables and their attributes."""
    session = a_session({"pin": "secret"}, ses_userid=ALICE, ses_tstamp=NOW)
    assert repr(session.stored) == f"<Stored user_id=7 timestamp={NOW}>"


# The stored form


def test_new_session_is_anonymous_empty_and_stored_nowhere(clock: Clock) -> None:
    clock.now = NOW + 0.9
    session = UserSession.non_fixated(IDENTIFIER, clock=clock)
    assert (session.last_updated, session.is_new, session.is_anonymous, session.stored) == (
        NOW,
        True,
        True,
        None,
    )


def test_new_sessions_share_no_data() -> None:
    UserSession(IDENTIFIER).set("x", 1)
    UserSession(IDENTIFIER).meta["login_at"] = 1
    session = UserSession(NEW_IDENTIFIER)
    assert (session.data, session.meta) == ({}, {})


def test_record_has_no_ses_id() -> None:
    """Only the backend makes the hash; the identifier must not get into a record."""
    record = a_session({"x": 1}, ses_id="hash", ses_iplock="192.0.2.0", ses_tstamp=5).to_record()
    assert record == {
        "ses_iplock": "192.0.2.0",
        "ses_userid": 0,
        "ses_tstamp": 5,
        "ses_data": b'{"x":1}',
    }


@pytest.mark.parametrize("is_permanent", [True, False])
def test_only_a_permanent_session_says_so_in_its_record(is_permanent: bool) -> None:
    record = a_session(ses_permanent=is_permanent).to_record()
    assert record.get("ses_permanent") == (True if is_permanent else None)
    assert ("ses_permanent" in record) is is_permanent


def test_data_as_postgresql_gives_it_is_read() -> None:
    session = UserSession.from_record(IDENTIFIER, {"ses_data": memoryview(b'{"x":1}')})
    assert session.data == {"x": 1}
    assert session.stored is not None
    assert session.stored.data == b'{"x":1}'


def test_what_the_app_remembers_is_no_part_of_the_data() -> None:
    session = a_session({"x": 1, "_usersessions": {"login_at": NOW}})
    assert (session.data, session.meta) == ({"x": 1}, {"login_at": NOW})


def test_what_the_app_remembers_is_stored_beside_the_data() -> None:
    session = a_session({"x": 1, "_usersessions": {"login_at": NOW}})
    assert session.to_record()["ses_data"] == as_bytes({"x": 1, "_usersessions": {"login_at": NOW}})


def test_what_the_app_remembers_is_not_data() -> None:
    """A session whose data is empty goes, whatever the app has noted of it."""
    assert not a_session({"_usersessions": {"user_agent": "Firefox"}}).has_data


def test_nothing_to_remember_takes_no_room() -> None:
    session = a_session({"x": 1, "_usersessions": {"login_at": NOW}})
    session.meta.clear()
    assert session.to_record()["ses_data"] == b'{"x":1}'


DOES_NOT_DECODE = "The stored session data does not decode."
NO_MAPPING = "The stored session data is not a mapping."


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        pytest.param(b"\xff\xfe", DOES_NOT_DECODE, id="binary"),
        pytest.param(b'{"x":1', DOES_NOT_DECODE, id="cut-off"),
        pytest.param(b'a:1:{s:1:"x";i:1;}', DOES_NOT_DECODE, id="php"),
        pytest.param(b"[" * 100_000, DOES_NOT_DECODE, id="too-deep"),
        pytest.param(b'["x"]', NO_MAPPING, id="list"),
        pytest.param(b"null", NO_MAPPING, id="null"),
        pytest.param(b'{"_usersessions":[]}', NO_MAPPING, id="list-in-reserved-key"),
        pytest.param(b'{"_usersessions":null}', NO_MAPPING, id="null-in-reserved-key"),
    ],
)
def test_corrupt_data_is_told_from_empty_data(stored: bytes, message: str) -> None:
    with pytest.raises(CorruptSessionData) as caught:
        UserSession.from_record(IDENTIFIER, {"ses_data": stored})
    assert str(caught.value) == message


class ReverseSerializer:
    """A serializer of a site's own, with errors of its own."""

    def dumps(self, obj: Any) -> bytes:
        return as_bytes(obj)[::-1]

    def loads(self, data: bytes) -> Any:
        if not data.startswith(b"}"):
            raise LookupError(data)
        return json.loads(data[::-1])


def test_serializer_of_the_sites_own_reads_and_writes() -> None:
    session = UserSession(IDENTIFIER, data={"x": 12}, serializer=ReverseSerializer())
    record = session.to_record()
    assert record["ses_data"] == b'}21:"x"{'
    again = UserSession.from_record(IDENTIFIER, record, serializer=ReverseSerializer())
    assert again.data == {"x": 12}


def test_error_of_a_sites_own_serializer_means_corrupt_data() -> None:
    with pytest.raises(CorruptSessionData) as caught:
        UserSession.from_record(IDENTIFIER, {"ses_data": b"{}"}, serializer=ReverseSerializer())
    assert str(caught.value) == DOES_NOT_DECODE


def circular() -> list[Any]:
    circle: list[Any] = []
    circle.append(circle)
    return circle


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        pytest.param(object(), "Object of type object is not JSON serializable", id="object"),
        pytest.param({"deep": {1, 2}}, "Object of type set is not JSON serializable", id="set"),
        pytest.param(circular(), "Circular reference detected", id="circular"),
    ],
)
def test_value_that_cannot_be_stored_is_named_by_its_key(value: Any, reason: str) -> None:
    session = a_session({"good": 1})
    session.set("bad", value)
    with pytest.raises(TypeError) as caught:
        session.to_record()
    assert str(caught.value) == f"The session value under 'bad' cannot be stored: {reason}"


def test_note_of_the_app_that_cannot_be_stored_is_no_fault_of_the_data() -> None:
    session = a_session({"good": 1})
    session.meta["bad"] = object()
    with pytest.raises(TypeError) as caught:
        session.to_record()
    assert (
        str(caught.value)
        == "The session data cannot be stored: Object of type object is not JSON serializable"
    )


JSON_DATA = st.dictionaries(
    st.text().filter(lambda key: key != "_usersessions"),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=8,
    ),
)


@given(data=JSON_DATA, meta=st.dictionaries(st.text(), st.integers() | st.text()))
def test_any_data_comes_back_as_it_was_stored(data: dict[str, Any], meta: dict[str, Any]) -> None:
    assume(is_well_formed(data, meta))
    session = UserSession(IDENTIFIER, data=data, meta=meta)
    again = UserSession.from_record(IDENTIFIER, session.to_record())
    # As text: to Python 1 == True == 1.0, and dicts of another order are equal.
    assert (repr(again.data), repr(again.meta)) == (repr(data), repr(meta))


# Tokens


SCOPE = CookieScope(Keys("FE"), "shop.example", host_only=True)


def test_token_leads_back_to_the_identifier() -> None:
    token = a_session().get_jwt(SCOPE)
    assert UserSession.resolve_identifier_from_jwt(token, SCOPE) == IDENTIFIER


def test_token_says_when_it_was_made(clock: Clock) -> None:
    clock.now = NOW + 61.9
    token = UserSession(IDENTIFIER, clock=clock).get_jwt(SCOPE)
    payload = jwt.decode(token, options={"verify_signature": False})
    assert payload["time"] == "2025-01-01T00:01:01+00:00"


def test_cookie_that_is_no_token_leads_nowhere() -> None:
    """Attack: a guessed identifier in place of a signed token."""
    assert UserSession.resolve_identifier_from_jwt(IDENTIFIER, SCOPE) is None


# Renewing and storing


def renewed(session: UserSession) -> UserSession:
    return session.renewed(NEW_IDENTIFIER, user_id=ALICE)


def test_renewed_session_has_a_new_identifier_and_all_else() -> None:
    session = a_session(
        {"x": 1, "_usersessions": {"login_at": 3}},
        ses_iplock="192.0.2.0",
        ses_tstamp=5,
        ses_permanent=True,
    )
    new = renewed(session)
    assert (new.identifier, new.user_id, new.is_new) == (NEW_IDENTIFIER, ALICE, True)
    assert {**session.to_record(), "ses_userid": ALICE} == new.to_record()
    assert new.stored == session.stored


def test_renewed_session_shares_the_data() -> None:
    session = a_session({"x": 1})
    new = renewed(session)
    assert new.data is session.data


@pytest.mark.parametrize("is_update", [True, False])
def test_renewing_does_not_forget_an_update(is_update: bool) -> None:
    session = a_session({"x": 1})
    if is_update:
        session.set("x", 2)
    assert renewed(session).data_was_updated is is_update


def test_renewing_leaves_the_old_object_alone() -> None:
    session = a_session()
    renewed(session)
    assert (session.identifier, session.user_id, session.is_new) == (IDENTIFIER, None, False)


@pytest.mark.parametrize(
    ("session", "is_renewed", "stored_identifier"),
    [
        pytest.param(UserSession(IDENTIFIER), False, IDENTIFIER, id="not-stored"),
        pytest.param(
            renewed(UserSession(IDENTIFIER)), False, NEW_IDENTIFIER, id="renewed-but-not-stored"
        ),
        pytest.param(a_session(), False, IDENTIFIER, id="stored"),
        pytest.param(renewed(a_session()), True, IDENTIFIER, id="stored-and-renewed"),
    ],
)
def test_renewed_means_stored_under_another_identifier(
    session: UserSession, is_renewed: bool, stored_identifier: str
) -> None:
    assert (session.is_renewed, session.stored_identifier) == (is_renewed, stored_identifier)


def test_stored_session_knows_what_is_stored() -> None:
    session = renewed(a_session({"x": 1}))
    session.set("x", 2)
    record = {**session.to_record(), "ses_tstamp": NOW, "ses_iplock": "192.0.2.0"}
    stored = session.as_stored(record)
    assert stored.stored == (NEW_IDENTIFIER, ALICE, NOW, b'{"x":2}')
    assert (stored.last_updated, stored.ip_lock) == (NOW, "192.0.2.0")
    assert (stored.is_renewed, stored.data_was_updated) == (False, False)


def test_object_that_was_stored_knows_what_is_stored_too() -> None:
    """Who goes on with it must not overwrite what other requests store from now on."""
    session = a_session({"x": 1})
    stored = session.as_stored({"ses_data": b'{"x":2}', "ses_tstamp": NOW})
    assert session.stored == stored.stored == (IDENTIFIER, None, NOW, b'{"x":2}')


@pytest.mark.parametrize("is_new", [True, False])
def test_storing_does_not_decide_whether_the_cookie_is_due(is_new: bool) -> None:
    session = UserSession(IDENTIFIER, is_new=is_new)
    assert session.as_stored(session.to_record()).is_new is is_new


def test_touch_changes_nothing_but_the_time_of_what_is_stored() -> None:
    session = a_session({"x": 1}, ses_userid=ALICE, ses_tstamp=5, ses_iplock="192.0.2.0")
    touched = session.as_stored({"ses_tstamp": NOW})
    assert touched.stored == (IDENTIFIER, ALICE, NOW, b'{"x":1}')
    assert (touched.last_updated, touched.ip_lock) == (NOW, "192.0.2.0")


def test_touch_does_not_count_as_storing_the_data() -> None:
    session = a_session({"x": 1})
    session.set("x", 2)
    assert session.as_stored({"ses_tstamp": NOW}).data_was_updated


def test_session_that_was_stored_nowhere_is_stored_with_the_record() -> None:
    session = UserSession(IDENTIFIER, data={"x": 1})
    assert session.as_stored({"ses_tstamp": NOW}).stored == (IDENTIFIER, None, NOW, b"")


def test_session_read_beside_has_its_data_and_no_identifier() -> None:
    session = UserSession(IDENTIFIER, serializer=ReverseSerializer())
    other = session.read_beside({"ses_userid": ALICE, "ses_data": b'}1:"x"{'})
    assert (other.identifier, other.user_id, other.data) == ("", ALICE, {"x": 1})


# Merging with what another request has stored meanwhile; test_saving has the rule


@pytest.mark.parametrize(("is_renewed", "login_at"), [(False, 2), (True, 1)])
def test_what_the_app_remembers_goes_with_the_login(is_renewed: bool, login_at: int) -> None:
    session = a_session({"_usersessions": {"login_at": 0}})
    if is_renewed:
        session = renewed(session)
    session.meta = {"login_at": 1}
    session.merge({"ses_data": as_bytes({"_usersessions": {"login_at": 2}})})
    assert (session.meta, session.data) == ({"login_at": login_at}, {})


def test_merge_starts_the_next_one_from_what_is_stored_now() -> None:
    session = a_session({"x": 1})
    session.merge(
        {"ses_userid": ALICE, "ses_tstamp": NOW, "ses_data": memoryview(b'{"x":2}')}  # type: ignore[typeddict-item]
    )
    assert session.stored == (IDENTIFIER, ALICE, NOW, b'{"x":2}')


def test_merge_leaves_a_renewed_session_stored_under_its_old_identifier() -> None:
    session = renewed(a_session({"x": 1}))
    session.merge({"ses_data": b'{"x":2}'})
    assert session.is_renewed
    assert session.stored is not None
    assert session.stored.identifier == IDENTIFIER


def test_merge_reaches_whoever_holds_the_data() -> None:
    """``request.session`` holds the dict."""
    session = a_session({"x": 1})
    held = session.data
    session.merge({"ses_data": b'{"x":2}'})
    assert held == {"x": 2}


def test_merge_with_emptied_data_deletes_what_is_not_mine() -> None:
    session = a_session({"x": 1})
    session.set("y", 2)
    session.merge({})
    assert session.data == {"y": 2}


def test_merge_with_corrupt_data_is_an_error() -> None:
    session = a_session({"x": 1})
    with pytest.raises(CorruptSessionData) as caught:
        session.merge({"ses_data": b"["})
    assert str(caught.value) == DOES_NOT_DECODE


def test_merge_compares_with_the_sites_own_serializer() -> None:
    session = UserSession.from_record(
        IDENTIFIER, {"ses_data": b'}1:"x"{'}, serializer=ReverseSerializer()
    )
    session.merge({"ses_data": b'}2:"x"{'})
    assert session.data == {"x": 2}
