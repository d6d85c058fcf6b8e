"""What has been of interest: read from files, one each, by the long run and by the tests."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent / "corpus"


def _read(kind: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted((FOLDER / kind).iterdir())]


#: Cookie headers.
COOKIES = _read("cookies")

#: What may stand in ``ses_data``.
STORED = _read("stored")
