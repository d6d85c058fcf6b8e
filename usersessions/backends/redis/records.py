"""How a session is stored in Redis: a line of JSON, and ``ses_data`` as it is behind that."""

from __future__ import annotations

import json
from typing import Any, cast

from ...session.record import SessionRecord
from ...session.user_keys import stored_user_id

#: What a record holds where nothing else is said.
BLANK: SessionRecord = {
    "ses_iplock": "",
    "ses_userid": 0,
    "ses_tstamp": 0,
    "ses_data": b"",
    "ses_permanent": False,
}


def as_text(record: SessionRecord) -> bytes:
    """Return a record as it is stored."""
    return f"{_as_json(record)}\n".encode() + record["ses_data"]


def as_arguments(fields: SessionRecord) -> tuple[str, bytes]:
    """Return fields for a script: their JSON, and the data behind "=" if it is among them."""
    return _as_json(fields), b"=" + fields["ses_data"] if "ses_data" in fields else b""


def as_record(ses_id: str, text: bytes) -> SessionRecord:
    """Return a record from what is stored. What is no record has data that does not decode."""
    return parse(ses_id, text) or {**BLANK, "ses_id": ses_id, "ses_data": b"\0" + text}


def parse(ses_id: str, text: bytes) -> SessionRecord | None:
    """Return a record from what is stored; None if that is no record."""
    line, ending, data = text.partition(b"\n")
    if not ending:
        return None
    try:
        record = {**json.loads(line.decode()), "ses_id": ses_id, "ses_data": data}
        if isinstance(record["ses_userid"], str):
            record["ses_userid"] = stored_user_id(record["ses_userid"]) or 0
        elif type(record["ses_userid"]) is not int:
            return None
        is_record = all(
            type(record[name]) is type(value)
            for name, value in BLANK.items()
            if name != "ses_userid"
        )
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return cast("SessionRecord", record) if is_record else None


def _as_json(fields: SessionRecord) -> str:
    written: dict[str, Any] = {**fields}
    written.pop("ses_id", None)
    written.pop("ses_data", None)
    if "ses_userid" in fields:
        user_id = stored_user_id(fields["ses_userid"])
        # A number in Lua has 53 bits. An anonymous session's is small; a user's is stored as text.
        written["ses_userid"] = (fields["ses_userid"] or 0) if user_id is None else str(user_id)
    return json.dumps(written, ensure_ascii=False, separators=(",", ":"))
