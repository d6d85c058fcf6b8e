"""Keeping identifiers, tokens and keys out of Django's error pages and mails."""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import lru_cache
from pprint import pformat
from types import FrameType
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from django.conf import settings
from django.http import HttpRequest
from django.utils.module_loading import import_string
from django.views.debug import SafeExceptionReporterFilter

from ..conf import get_login_types
from .old_cookie import get_old_key

if TYPE_CHECKING:
    FilterBase = SafeExceptionReporterFilter
else:
    FilterBase = object

#: An identifier; a JWT, also without its last parts. Anywhere in a text: in what an object shows of
#: itself, in bytes, in a URL. A longer run of hex digits is a hash, which opens nothing.
_SECRET = re.compile(r"(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])|eyJ[\w-]{10,}(?:\.[\w-]*)*")

#: The password in a URL such as ``redis://default:password@example.com``.
_URL_PASSWORD = re.compile(r"(?<=://)([^/@:\s]*):[^/@\s]+@")

#: What is shorter may be a word like any other: stars in its place would only tell it.
_SHORTEST_SECRET = 8


class HidesSessions(FilterBase):
    """Masks session cookies, and identifiers and tokens wherever something has one in it.

    Django's filter knows ``SESSION_COOKIE_NAME`` alone. In variables, where that one masks nothing
    with DEBUG, it also masks ``SECRET_KEY``, what is derived from it, and the passwords of the
    storages. Laid over the site's ``DEFAULT_EXCEPTION_REPORTER_FILTER``.
    """

    def cleanse_setting(self, key: Any, value: Any) -> Any:
        if any(key == login_type.cookie_name for login_type in get_login_types().values()):
            return self.cleansed_substitute
        cleansed = super().cleanse_setting(key, value)
        return _mask(cleansed) if type(cleansed) is str else cleansed

    def get_traceback_frame_variables(self, request: Any, tb_frame: FrameType) -> Any:
        found = super().get_traceback_frame_variables(request, tb_frame)
        secrets = _secrets_of(request)
        return [(name, _WithoutSecrets(value, secrets)) for name, value in found]


class _WithoutSecrets:
    """Prints a variable with stars in the place of every secret in its text."""

    def __init__(self, value: Any, secrets: Collection[str]) -> None:
        self._value = value
        self._secrets = secrets

    def __repr__(self) -> str:
        # On one line: a secret that is broken into several would not be found.
        text = pformat(self._value, width=sys.maxsize)
        masked = _mask(text, self._secrets)
        return pformat(self._value) if masked == text else masked


def _mask(text: str, secrets: Iterable[str] = ()) -> str:
    stars = SafeExceptionReporterFilter.cleansed_substitute
    for secret in secrets:
        text = text.replace(secret, stars)
    return _SECRET.sub(stars, _URL_PASSWORD.sub(rf"\1:{stars}@", text))


def _secrets_of(request: HttpRequest | None) -> set[str]:
    """Return the secrets that have no shape by which one would know them, as they are printed."""
    found: list[str | bytes] = [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]
    for login_type in get_login_types().values():
        found += login_type.keys.all_keys()
        found += _passwords_in(login_type.options)
    for cache in settings.CACHES.values():
        found += _passwords_in(cache.get("OPTIONS", {}))
        locations = cache.get("LOCATION", "")
        listed = locations if isinstance(locations, (list, tuple)) else [locations]
        for location in re.split("[,;]", ",".join(map(str, listed))):
            found += _passwords_in({"url": location})
    found.append((request and get_old_key(request)) or "")
    return {_as_printed(secret) for secret in found if len(secret) >= _SHORTEST_SECRET}


def _passwords_in(options: Mapping[str, Any]) -> Iterator[str]:
    for name, value in options.items():
        if isinstance(value, str) and "password" in name.lower():
            yield value
        elif name == "url":
            with suppress(ValueError):  # none of ours: the report must go out all the same
                yield unquote(urlsplit(str(value)).password or "")


def _as_printed(secret: str | bytes) -> str:
    return repr(secret).removeprefix("b")[1:-1]


class SessionReporterFilter(HidesSessions, SafeExceptionReporterFilter):
    """For ``DEFAULT_EXCEPTION_REPORTER_FILTER``: what packages ask that have no request at hand."""


@lru_cache
def get_reporter_filter(path: str) -> Any:
    """Return the site's filter of error reports, with ours laid over it, for one request.

    :param path: ``DEFAULT_EXCEPTION_REPORTER_FILTER``
    """
    found = import_string(path)
    if not issubclass(found, HidesSessions):
        found = type("SessionReporterFilter", (HidesSessions, found), {})
    return found()
