"""The settings: defaults, what is refused and with which words, and what follows from them."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import pytest
from django.core.exceptions import DisallowedHost, ImproperlyConfigured
from django.core.signing import JSONSerializer
from django.http import HttpRequest
from django.test import RequestFactory

from tests.serving import serving
from usersessions import CookieScope, DatabaseSessionBackend, IpLocker
from usersessions.conf import (
    LoginType,
    SettingError,
    UnknownLoginType,
    find_setting_errors,
    get_adopting_types,
    get_default_login_type,
    get_engine_login_type,
    get_login_type,
    get_login_types,
    remote_addr,
)
from usersessions.lifecycle.current_request import get_current_request
from usersessions.request.by_login_type import get_login_type_for
from usersessions.session.tokens import Keys

DATABASE = "usersessions.backends.database.DatabaseSessionBackend"
SHOP = {"BACKEND": DATABASE, "OPTIONS": {"model": "shop.ShopSession"}}


@pytest.fixture(autouse=True)
def _no_settings(settings: Any) -> None:
    settings.USERSESSIONS = {}


def a_request(path: str = "/", **meta: Any) -> HttpRequest:
    return RequestFactory(**meta).get(path)


# Defaults

DEFAULTS = {
    "backend": DATABASE,
    "serializer": "django.core.signing.JSONSerializer",
    "max_data_size": 1_048_576,
    "lifetime": 0,
    "anonymous_lifetime": 86400,
    "max_lifetime": 0,
    "max_sessions_per_user": 0,
    "confirm_max_age": 300,
    "max_sessions_reached": "end-oldest",
    "gc_probability": 1,
    "lock_ip": 0,
    "lock_ipv6": 0,
    "client_ip": "usersessions.conf.remote_addr",
    "cookie_domain": None,
    "cookie_path": "/",
    "cookie_secure": False,
    "cookie_format": "token",
    "cookie_allow_scopeless": False,
    "switch_permission": "usersessions.auth.permissions.superusers_may_switch",
    "switch_max_seconds": 0,
    "adopt_from": None,
}
BACKEND_DEFAULTS = {
    **DEFAULTS,
    "name": "BE",
    "options": {"model": "django_usersessions.BackendSession"},
    "timeout": 28800,
    "permanent_login": "never",
    "cookie_name": "be_sessionid",
    "cookie_samesite": "Strict",
    "url_prefixes": ["/admin/"],
}
FRONTEND_DEFAULTS = {
    **DEFAULTS,
    "name": "FE",
    "options": {"model": "django_usersessions.FrontendSession"},
    "timeout": 6000,
    "permanent_login": "opt-in",
    "cookie_name": "fe_sessionid",
    "cookie_samesite": "Lax",
    "url_prefixes": [],
}


@pytest.mark.parametrize("defaults", [BACKEND_DEFAULTS, FRONTEND_DEFAULTS], ids=["BE", "FE"])
def test_login_type_has_its_defaults(defaults: dict[str, Any]) -> None:
    assert asdict(get_login_type(defaults["name"])) == defaults


def test_site_without_the_setting_has_the_defaults(settings: Any) -> None:
    del settings.USERSESSIONS
    assert asdict(get_login_type("FE")) == FRONTEND_DEFAULTS


def test_setting_of_one_login_type_leaves_its_others_and_the_other_type(settings: Any) -> None:
    settings.USERSESSIONS = {"BE": {"TIMEOUT": 60}}
    assert asdict(get_login_type("BE")) == {**BACKEND_DEFAULTS, "timeout": 60}
    assert asdict(get_login_type("FE")) == FRONTEND_DEFAULTS


def test_login_type_of_the_sites_own_has_the_common_defaults(settings: Any) -> None:
    settings.USERSESSIONS = {"Shop": SHOP}
    assert asdict(get_login_type("Shop")) == {
        **FRONTEND_DEFAULTS,
        "name": "Shop",
        "options": {"model": "shop.ShopSession"},
        "cookie_name": "shop_sessionid",
    }


def test_login_types_come_in_the_sites_order_the_built_in_ones_behind(settings: Any) -> None:
    settings.USERSESSIONS = {"SHOP": SHOP, "FE": {}}
    assert list(get_login_types()) == ["SHOP", "FE", "BE"]


def test_settings_are_read_once() -> None:
    assert get_login_type("FE") is get_login_type("FE")


def test_changed_settings_are_read_again(settings: Any) -> None:
    before = get_login_type("FE")
    settings.USERSESSIONS = {"FE": {"TIMEOUT": 60}}
    assert (before.timeout, get_login_type("FE").timeout) == (6000, 60)


@pytest.mark.parametrize(
    ("setting", "given", "name", "found"),
    [
        ("SESSION_COOKIE_DOMAIN", ".example.com", "cookie_domain", ".example.com"),
        ("SESSION_COOKIE_DOMAIN", "", "cookie_domain", None),
        ("SESSION_COOKIE_PATH", "/shop/", "cookie_path", "/shop/"),
        ("SESSION_COOKIE_SECURE", True, "cookie_secure", True),
        ("SESSION_COOKIE_SAMESITE", "Strict", "cookie_samesite", "Strict"),
        ("SESSION_COOKIE_SAMESITE", False, "cookie_samesite", "Lax"),
    ],
)
def test_what_the_site_says_of_djangos_session_cookie_goes_for_ours(
    settings: Any, setting: str, given: Any, name: str, found: Any
) -> None:
    setattr(settings, setting, given)
    assert getattr(get_login_type("FE"), name) == found


def test_settings_of_a_login_type_come_before_those_of_djangos_cookie(settings: Any) -> None:
    settings.SESSION_COOKIE_SECURE = True
    settings.SESSION_COOKIE_SAMESITE = "Lax"
    settings.USERSESSIONS = {"FE": {"COOKIE_SECURE": False}}
    assert get_login_type("FE").cookie_secure is False
    assert get_login_type("BE").cookie_samesite == "Strict"


def test_change_of_another_setting_changes_nothing(settings: Any) -> None:
    before = get_login_type("FE")
    settings.SESSION_SAVE_EVERY_REQUEST = True
    assert get_login_type("FE") is before


def test_login_type_cannot_be_changed() -> None:
    with pytest.raises(AttributeError, match=r"^cannot assign to field 'timeout'$"):
        get_login_type("FE").timeout = 60  # type: ignore[misc]


# Values that are right and wrong. On BE, so that every prefix leaves FE to the other paths.


def a_callable(*args: Any, **kwargs: Any) -> str:
    return "192.0.2.1"


class MarkedSerializer(JSONSerializer):
    """A serializer of the site's own."""


NO_NUMBERS = [None, "5", [], 1.5, True]
CHOSEN_WRONGLY = ["", "Always", None, True, 0, ["never"]]

#: Settings that take any number from 0 on, and what is said of the number.
NUMBERS = {
    "MAX_DATA_SIZE": "bytes; 0 means no limit",
    "TIMEOUT": "seconds",
    "LIFETIME": "seconds",
    "ANONYMOUS_LIFETIME": "seconds",
    "MAX_LIFETIME": "seconds",
    "MAX_SESSIONS_PER_USER": "0 means any number",
    "CONFIRM_MAX_AGE": "seconds",
    "SWITCH_MAX_SECONDS": "seconds",
}
GOOD: dict[str, list[Any]] = {
    **{key: [0, 1, 10**9] for key in NUMBERS},
    "BACKEND": [DATABASE],
    "OPTIONS": [{}, {"model": "shop.ShopSession"}],
    "SERIALIZER": [
        "django.core.signing.JSONSerializer",
        "django.contrib.sessions.serializers.JSONSerializer",
    ],
    "MAX_SESSIONS_REACHED": ["end-oldest", "refuse-login"],
    "PERMANENT_LOGIN": ["never", "opt-in", "opt-out", "always"],
    "GC_PROBABILITY": [0, 1, 100, 0.0, 0.5, 100.0],
    "LOCK_IP": [0, 1, 2, 3, 4],
    "LOCK_IPV6": [0, 1, 8],
    "CLIENT_IP": ["usersessions.conf.remote_addr", a_callable],
    "COOKIE_NAME": ["sid", "__Host-be", "s" * 256],
    "COOKIE_DOMAIN": [None, "example.org", ".example.org", "." + "d" * 253, "127.0.0.1"],
    "COOKIE_PATH": ["/", "/shop", "/shop/", "/a b/%C3%A9/~", "/" + "p" * 1023],
    "COOKIE_SECURE": [True, False],
    "COOKIE_SAMESITE": ["Strict", "Lax", "None"],
    "COOKIE_FORMAT": ["token", "identifier"],
    "COOKIE_ALLOW_SCOPELESS": [True, False],
    "URL_PREFIXES": [[], ["/admin/"], ("/admin/", "/staff/"), ["/"]],
    "ADOPT_FROM": [None, "django.contrib.sessions.backends.db"],
    "SWITCH_PERMISSION": ["usersessions.auth.permissions.superusers_may_switch", a_callable],
}
BAD: dict[str, list[Any]] = {
    **{key: [-1, *NO_NUMBERS] for key in NUMBERS},
    "BACKEND": [None, "", 5, ["x"], "DatabaseSessionBackend", "no.such.Backend"],
    "OPTIONS": [None, [], "model", [("model", "x")]],
    "SERIALIZER": [None, "", "json", "no.such.Serializer", 5],
    "MAX_SESSIONS_REACHED": ["refuse", "", None, True, ["end-oldest"]],
    "PERMANENT_LOGIN": CHOSEN_WRONGLY,
    "GC_PROBABILITY": [-1, 101, -0.1, 100.1, float("nan"), float("inf"), None, "1", True],
    "LOCK_IP": [-1, 5, *NO_NUMBERS],
    "LOCK_IPV6": [-1, 9, *NO_NUMBERS],
    "CLIENT_IP": [None, "", "remote_addr", "usersessions.conf.no_such_function", 5],
    "COOKIE_NAME": ["", None, 5, b"sid", "s" * 257, "s id", "sid\n", "s;", "séance"],
    "COOKIE_DOMAIN": ["", 5, b"example.org", False, "d" * 254, "a.org; Path=/x", "bücher.example"],
    "COOKIE_PATH": ["", "shop/", None, 5, b"/", "/" + "p" * 1024, "/; Secure", "/\n", "/é/"],
    "COOKIE_SECURE": [None, "True", 1, 0],
    "COOKIE_SAMESITE": ["strict", "", None, False, ["Lax"]],
    "COOKIE_FORMAT": ["jwt", "", None, ["token"]],
    "COOKIE_ALLOW_SCOPELESS": [None, "False", 1, 0],
    "URL_PREFIXES": ["/admin/", ["admin/"], ["/admin/", ""], [None], None, {"/admin/"}],
    "ADOPT_FROM": ["", 5, True],
    "SWITCH_PERMISSION": [None, "", "no.such.function", True],
}
MUST_BE = {
    **{key: f"an integer of at least 0 ({what})" for key, what in NUMBERS.items()},
    "BACKEND": "the dotted path of a SessionBackend class",
    "OPTIONS": "a dict for the backend",
    "SERIALIZER": "the dotted path of a class with dumps() and loads()",
    "MAX_SESSIONS_REACHED": 'one of "end-oldest", "refuse-login"',
    "PERMANENT_LOGIN": 'one of "never", "opt-in", "opt-out", "always"',
    "GC_PROBABILITY": "a number from 0 to 100 (percent)",
    "LOCK_IP": "an integer from 0 to 4",
    "LOCK_IPV6": "an integer from 0 to 8",
    "CLIENT_IP": "a callable or the dotted path of one",
    "COOKIE_NAME": "a cookie's name (up to 256 letters and digits, no spaces)",
    "COOKIE_DOMAIN": "None (host-only) or a domain in ASCII",
    "COOKIE_PATH": 'a path that starts with "/", of up to 1024 ASCII characters without ";"',
    "COOKIE_SECURE": "True (always) or False (when the request is secure)",
    "COOKIE_SAMESITE": 'one of "Strict", "Lax", "None"',
    "COOKIE_FORMAT": 'one of "token", "identifier"',
    "COOKIE_ALLOW_SCOPELESS": "True or False",
    "URL_PREFIXES": 'a list of path prefixes that start with "/"',
    "ADOPT_FROM": "None or the dotted path of the site's previous SESSION_ENGINE",
    "SWITCH_PERMISSION": "a callable or the dotted path of one",
}


def cases(values: dict[str, list[Any]]) -> list[Any]:
    return [
        pytest.param(key, value, id=f"{key}-{getattr(value, '__name__', repr(value))}")
        for key, candidates in values.items()
        for value in candidates
    ]


def wrong(key: str, value: Any) -> SettingError:
    return SettingError(
        "usersessions.E003",
        f'USERSESSIONS["BE"]["{key}"] must be {MUST_BE[key]}, not {value!r}.',
        f"The default is {BACKEND_DEFAULTS[key.lower()]!r}.",
    )


def test_every_setting_has_its_cases() -> None:
    settings = {key.upper() for key in BACKEND_DEFAULTS if key != "name"}
    assert set(GOOD) == set(BAD) == set(MUST_BE) == settings


@pytest.mark.parametrize(("key", "value"), cases(GOOD))
def test_right_value_is_taken(settings: Any, key: str, value: Any) -> None:
    settings.USERSESSIONS = {"BE": {key: value}}
    assert find_setting_errors() == []
    assert getattr(get_login_type("BE"), key.lower()) == value


@pytest.mark.parametrize(("key", "value"), cases(BAD))
def test_wrong_value_is_refused_with_what_would_be_right(
    settings: Any, key: str, value: Any
) -> None:
    settings.USERSESSIONS = {"BE": {key: value}}
    assert find_setting_errors() == [wrong(key, value)]


@pytest.mark.parametrize(
    ("key", "value"),
    cases(
        {
            "BACKEND": [
                DatabaseSessionBackend,
                a_callable,
                "math.pi",
                "os.path.join",
                "io.BytesIO",
            ],
            "SERIALIZER": ["math.pi", "json.dumps", "io.BytesIO"],
            "CLIENT_IP": ["math.pi", "usersessions.conf"],
            "SWITCH_PERMISSION": ["math.pi"],
        }
    ),
)
def test_path_of_something_else_is_refused(settings: Any, key: str, value: Any) -> None:
    """It would be found out by the first request, as an error that names no setting."""
    settings.USERSESSIONS = {"BE": {key: value}}
    assert find_setting_errors() == [wrong(key, value)]


@pytest.mark.parametrize("key", ["timeout", 5, None])
def test_key_that_is_nearly_one_is_refused(settings: Any, key: Any) -> None:
    settings.USERSESSIONS = {"FE": {key: 60}}
    [error] = find_setting_errors()
    assert (error.id, error.message) == (
        "usersessions.E002",
        f'USERSESSIONS["FE"]["{key}"] is not a setting of usersessions.',
    )


@pytest.mark.parametrize(
    ("login_types", "number", "message", "hint"),
    [
        *(
            pytest.param(
                value,
                "E001",
                f"USERSESSIONS must be a dict with a key per login type, not {kind}.",
                'For example USERSESSIONS = {"FE": {"TIMEOUT": 6000}}.',
                id=f"{kind}-for-all",
            )
            for value, kind in [(None, "NoneType"), ([], "list"), ("FE", "str"), (5, "int")]
        ),
        *(
            pytest.param(
                {"FE": value},
                "E001",
                f'USERSESSIONS["FE"] must be a dict of settings, not {kind}.',
                'For example {"FE": {"TIMEOUT": 6000}}.',
                id=f"{kind}-for-a-login-type",
            )
            for value, kind in [(None, "NoneType"), ([], "list"), (6000, "int")]
        ),
        *(
            pytest.param(
                {name: SHOP},
                "E001",
                f"USERSESSIONS has the key {name!r}, which cannot name a login type.",
                'Use letters, digits and underscores, as in "BE" or "SHOP".',
                id=f"name-{name!r}",
            )
            for name in ["", "my shop", "1", 'F"E', 5, None]
        ),
        pytest.param(
            {"FE": {"COOKIE_AGE": 5}},
            "E002",
            'USERSESSIONS["FE"]["COOKIE_AGE"] is not a setting of usersessions.',
            f"Remove it, or use one of: {', '.join(sorted(GOOD))}.",
            id="unknown-key",
        ),
        pytest.param(
            {"SHOP": {**SHOP, "TIMEOUT": -1}},
            "E003",
            'USERSESSIONS["SHOP"]["TIMEOUT"] must be an integer of at least 0 (seconds), not -1.',
            "The default is 6000.",
            id="hint-for-a-login-type-of-the-sites-own",
        ),
        pytest.param(
            {"SHOP": {}},
            "E004",
            'USERSESSIONS["SHOP"]["BACKEND"] is missing.',
            "A login type of your own names its storage, for example "
            f'"BACKEND": "{DATABASE}", "OPTIONS": {{"model": "shop.ShopSession"}}.',
            id="no-backend",
        ),
        *(
            pytest.param(
                login_types,
                "E005",
                f'USERSESSIONS["{second}"]["COOKIE_NAME"] is {cookie!r}, '
                f'which is also the cookie of "{first}".',
                "Give each login type a cookie name of its own.",
                id=f"cookie-{cookie}-of-{first}",
            )
            for login_types, second, cookie, first in [
                ({"BE": {"COOKIE_NAME": "fe_sessionid"}}, "FE", "fe_sessionid", "BE"),
                ({"FE": {"COOKIE_NAME": "x"}, "BE": {"COOKIE_NAME": "x"}}, "BE", "x", "FE"),
                ({"fe": SHOP}, "FE", "fe_sessionid", "fe"),
            ]
        ),
        pytest.param(
            {"FE": {"URL_PREFIXES": ["/shop/"]}},
            "E006",
            "Every login type has URL_PREFIXES, so none serves the other paths.",
            'Leave URL_PREFIXES out of one login type, usually "FE".',
            id="unserved-paths",
        ),
    ],
)
def test_wrong_setting_is_refused_with_a_way_out(
    settings: Any, login_types: Any, number: str, message: str, hint: str
) -> None:
    settings.USERSESSIONS = login_types
    assert find_setting_errors() == [SettingError(f"usersessions.{number}", message, hint)]


def test_wrong_login_type_is_not_blamed_for_unserved_paths(settings: Any) -> None:
    settings.USERSESSIONS = {"FE": {"TIMEOUT": -1}}
    assert [error.id for error in find_setting_errors()] == ["usersessions.E003"]


def test_all_errors_are_found_at_once(settings: Any) -> None:
    settings.USERSESSIONS = {
        "FE": {"LOCK_IP": 5, "NO_SUCH": 1},
        "SHOP": {"TIMEOUT": -1},
        "my shop": {},
        "ONE": {**SHOP, "COOKIE_NAME": "x"},
        "TWO": {**SHOP, "COOKIE_NAME": "x"},
    }
    assert [error.id for error in find_setting_errors()] == [
        "usersessions.E003",
        "usersessions.E002",
        "usersessions.E003",
        "usersessions.E004",
        "usersessions.E001",
        "usersessions.E005",
    ]


def test_code_that_asks_for_login_types_is_told_all_that_is_wrong(settings: Any) -> None:
    settings.USERSESSIONS = {"FE": {"LOCK_IP": 5}, "BE": None}
    with pytest.raises(ImproperlyConfigured) as caught:
        get_login_types()
    assert str(caught.value) == (
        'USERSESSIONS["FE"]["LOCK_IP"] must be an integer from 0 to 4, not 5. The default is 0.\n'
        'USERSESSIONS["BE"] must be a dict of settings, not NoneType. '
        'For example {"BE": {"TIMEOUT": 6000}}.'
    )


def test_unknown_login_type_is_a_key_error_that_names_the_known_ones() -> None:
    with pytest.raises(KeyError) as caught:
        get_login_type("XX")
    assert isinstance(caught.value, UnknownLoginType)
    assert caught.value.name == "XX"
    assert str(caught.value) == "There is no login type 'XX'; USERSESSIONS knows: 'BE', 'FE'."


# Which login type serves a request


def test_default_login_type_is_the_first_without_prefixes(settings: Any) -> None:
    settings.USERSESSIONS = {"API": {**SHOP, "URL_PREFIXES": ["/api/"]}, "SHOP": SHOP, "FE": {}}
    assert get_default_login_type().name == "SHOP"


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/", "FE"),
        ("/admin/", "BE"),
        ("/admin/auth/user/", "BE"),
        ("/staff", "BE"),
        ("/staffroom/", "BE"),
        ("/admin", "FE"),
        ("/administration/", "FE"),
        ("/shop/admin/", "FE"),
        ("//admin/", "FE"),
        ("/ADMIN/", "FE"),
        ("/de/admin/", "FE"),
    ],
)
def test_path_decides_the_login_type(settings: Any, path: str, name: str) -> None:
    settings.USERSESSIONS = {"BE": {"URL_PREFIXES": ["/admin/", "/staff"]}}
    request = a_request()
    request.path_info = path
    assert get_login_type_for(request).name == name


@pytest.mark.parametrize(
    ("order", "name"), [(["API", "BE"], "API"), (["BE", "API"], "BE")], ids=["API-BE", "BE-API"]
)
def test_first_of_two_login_types_that_claim_a_path_gets_it(
    settings: Any, order: list[str], name: str
) -> None:
    login_types = {
        "API": {**SHOP, "URL_PREFIXES": ["/admin/api/"]},
        "BE": {"URL_PREFIXES": ["/admin/"]},
    }
    settings.USERSESSIONS = {key: login_types[key] for key in order}
    assert get_login_type_for(a_request("/admin/api/x")).name == name


def test_mount_point_of_the_site_is_not_part_of_the_path() -> None:
    request = a_request("/admin/", SCRIPT_NAME="/mounted")
    assert request.path == "/mounted/admin/"
    assert get_login_type_for(request).name == "BE"


LANGUAGE_PATHS = [
    ("/admin/", "BE"),
    ("/de/admin/", "BE"),
    ("/pt-br/admin/", "BE"),
    ("/de/admin/auth/user/", "BE"),
    ("/de/", "FE"),
    ("/de/shop/admin/", "FE"),
    ("/xx/admin/", "FE"),
    ("/de/de/admin/", "FE"),
    ("/deadmin/", "FE"),
]


@pytest.mark.parametrize(("path", "name"), LANGUAGE_PATHS)
def test_language_prefix_is_not_part_of_the_path(settings: Any, path: str, name: str) -> None:
    settings.ROOT_URLCONF = "tests.urls_i18n"
    settings.LANGUAGES = [("de", "German"), ("pt-br", "Brazilian Portuguese")]
    settings.LANGUAGE_CODE = "de"
    assert get_login_type_for(a_request(path)).name == name


def test_urls_of_the_request_decide_whether_there_is_a_language_prefix(settings: Any) -> None:
    settings.ROOT_URLCONF = "tests.urls"
    request = a_request("/de/admin/")
    assert get_login_type_for(request).name == "FE"
    request.urlconf = "tests.urls_i18n"  # type: ignore[attr-defined]
    assert get_login_type_for(request).name == "BE"


def test_owner_of_djangos_session_cookie_is_the_type_of_stores_made_without_one(
    settings: Any,
) -> None:
    settings.SESSION_COOKIE_NAME = "be_sessionid"
    assert get_engine_login_type().name == "BE"


def test_default_login_type_is_that_of_stores_made_without_one_otherwise(settings: Any) -> None:
    settings.SESSION_COOKIE_NAME = "sessionid"
    settings.USERSESSIONS = {"BE": {}, "SHOP": SHOP}
    assert get_engine_login_type().name == "SHOP"


# Which login types take over the sessions of the engine that the site had

ENGINE = "django.contrib.sessions.backends.db"


@pytest.mark.parametrize(
    ("login_types", "adopting"),
    [
        pytest.param({}, [], id="nobody"),
        pytest.param({"FE": {"ADOPT_FROM": ENGINE}}, ["FE", "BE"], id="frontend"),
        pytest.param({"BE": {}, "FE": {"ADOPT_FROM": ENGINE}}, ["FE", "BE"], id="default-first"),
        pytest.param(
            {"BE": {"ADOPT_FROM": None}, "FE": {"ADOPT_FROM": ENGINE}}, ["FE"], id="frontend-only"
        ),
        pytest.param({"BE": {"ADOPT_FROM": ENGINE}}, ["BE"], id="backend-only"),
        pytest.param(
            {"FE": {"ADOPT_FROM": ENGINE}, "SHOP": {**SHOP, "URL_PREFIXES": ["/shop/"]}},
            ["FE", "BE"],
            id="not-a-type-of-the-sites-own",
        ),
        pytest.param(
            {"SHOP": {**SHOP, "ADOPT_FROM": ENGINE}}, ["SHOP", "BE", "FE"], id="default-of-its-own"
        ),
    ],
)
def test_built_in_types_adopt_from_where_the_default_type_does(
    settings: Any, login_types: Any, adopting: list[str]
) -> None:
    settings.USERSESSIONS = login_types
    assert [found.name for found in get_adopting_types()] == adopting
    assert {found.adopt_from for found in get_adopting_types()} <= {ENGINE}


# What follows from the settings of one login type


@pytest.fixture
def frontend() -> LoginType:
    return get_login_type("FE")


@pytest.mark.parametrize(
    ("timeout", "lifetime", "user_lifetime"),
    [
        pytest.param(6000, 0, 6000, id="timeout-alone"),
        pytest.param(6000, 86400, 86400, id="longer-lifetime-lifts-it"),
        pytest.param(6000, 60, 6000, id="shorter-lifetime-does-not-lower-it"),
        pytest.param(0, 86400, 0, id="no-lifetime-lifts-a-timeout-of-0"),
        pytest.param(0, 0, 0, id="neither"),
    ],
)
def test_users_session_lives_as_long_as_timeout_and_lifetime_say(
    frontend: LoginType, timeout: int, lifetime: int, user_lifetime: int
) -> None:
    assert replace(frontend, timeout=timeout, lifetime=lifetime).user_lifetime == user_lifetime


@pytest.mark.parametrize(
    ("permanent_login", "not_asked", "no", "yes"),
    [
        ("never", False, False, False),
        ("opt-in", False, False, True),
        ("opt-out", True, False, True),
        ("always", True, True, True),
    ],
)
@pytest.mark.parametrize("lifetime", [86400, 0])
def test_login_is_permanent_as_the_settings_and_the_person_say(
    frontend: LoginType, permanent_login: str, not_asked: bool, no: bool, yes: bool, lifetime: int
) -> None:
    login_type = replace(frontend, permanent_login=permanent_login, lifetime=lifetime)
    answers = [login_type.allows_permanent(asked) for asked in (None, False, True)]
    assert answers == ([not_asked, no, yes] if lifetime else [False, False, False])


def test_keys_are_those_of_the_login_type(frontend: LoginType) -> None:
    assert frontend.keys == Keys("FE")


def test_ip_locker_follows_the_settings(frontend: LoginType) -> None:
    locker = replace(frontend, lock_ip=2, lock_ipv6=4).ip_locker
    assert isinstance(locker, IpLocker)
    assert (locker.lock_ip, locker.lock_ipv6) == (2, 4)


def test_serializer_is_made_from_the_settings(frontend: LoginType) -> None:
    login_type = replace(frontend, serializer="tests.unit.test_conf.MarkedSerializer")
    assert isinstance(login_type.make_serializer(), MarkedSerializer)


@pytest.mark.parametrize("client_ip", ["tests.unit.test_conf.a_callable", a_callable])
def test_client_address_is_what_the_callable_says(frontend: LoginType, client_ip: Any) -> None:
    assert replace(frontend, client_ip=client_ip).get_client_ip(a_request()) == "192.0.2.1"


def test_client_address_is_that_of_the_connection(frontend: LoginType) -> None:
    """Attack: X-Forwarded-For with the address of the person whose cookie was stolen."""
    request = a_request(
        REMOTE_ADDR="203.0.113.9", HTTP_X_FORWARDED_FOR="198.51.100.1", HTTP_FORWARDED="for=::1"
    )
    assert frontend.get_client_ip(request) == "203.0.113.9"


def test_client_on_a_unix_socket_has_no_address() -> None:
    assert remote_addr(HttpRequest()) == ""


@pytest.mark.parametrize("permission", ["tests.unit.test_conf.a_callable", a_callable])
def test_switching_is_allowed_as_the_callable_says(frontend: LoginType, permission: Any) -> None:
    login_type = replace(frontend, switch_permission=permission)
    assert login_type.may_switch(original_user="admin", target_user="alice") is True


def test_callable_that_decides_on_switching_is_told_who(frontend: LoginType) -> None:
    told = {}
    replace(frontend, switch_permission=told.update).may_switch(original_user=1, target_user=2)
    assert told == {"original_user": 1, "target_user": 2}


# The scope of tokens


@pytest.mark.parametrize(
    ("cookie_domain", "host", "domain", "host_only"),
    [
        pytest.param(None, "shop.example", "shop.example", True, id="host-only"),
        pytest.param(None, "shop.example:8000", "shop.example", True, id="port"),
        pytest.param(None, "Shop.EXAMPLE", "shop.example", True, id="upper-case"),
        pytest.param(None, "shop.example.", "shop.example", True, id="dot-of-the-root"),
        pytest.param(None, "192.0.2.1:8000", "192.0.2.1", True, id="ipv4"),
        pytest.param(None, "[2001:DB8::1]", "[2001:db8::1]", True, id="ipv6"),
        pytest.param(None, "[::1]:8000", "[::1]", True, id="ipv6-with-port"),
        pytest.param("example.org", "shop.example.org", "example.org", False, id="domain"),
        pytest.param(".example.org", "shop.example.org", "example.org", False, id="leading-dot"),
        pytest.param("Example.ORG", "shop.example.org", "example.org", False, id="upper-domain"),
    ],
)
def test_token_is_bound_to_the_domain(
    settings: Any,
    frontend: LoginType,
    cookie_domain: str | None,
    host: str,
    domain: str,
    host_only: bool,
) -> None:
    settings.ALLOWED_HOSTS = ["*"]
    login_type = replace(frontend, cookie_domain=cookie_domain)
    assert login_type.cookie_scope(a_request(HTTP_HOST=host)) == CookieScope(
        Keys("FE"), domain, host_only, path="/", allow_scopeless=False
    )


def test_token_is_bound_to_the_path_and_follows_the_setting_on_scopes(frontend: LoginType) -> None:
    login_type = replace(frontend, cookie_path="/shop/", cookie_allow_scopeless=True)
    assert login_type.cookie_scope(a_request()) == CookieScope(
        Keys("FE"), "testserver", True, path="/shop/", allow_scopeless=True
    )


def test_host_that_django_refuses_has_no_scope(settings: Any, frontend: LoginType) -> None:
    """Attack: a Host header of the sender's choice, to get a token for another site."""
    settings.ALLOWED_HOSTS = ["shop.example"]
    with pytest.raises(DisallowedHost):
        frontend.cookie_scope(a_request(HTTP_HOST="evil.example"))


def test_configured_domain_does_not_depend_on_the_host(settings: Any, frontend: LoginType) -> None:
    settings.ALLOWED_HOSTS = ["shop.example"]
    login_type = replace(frontend, cookie_domain="shop.example")
    scope = login_type.cookie_scope(a_request(HTTP_HOST="evil.example"))
    assert (scope.domain, scope.host_only) == ("shop.example", False)


# The request that is being served


def test_no_request_is_served_outside_of_one() -> None:
    assert get_current_request() is None


def test_request_is_the_current_one_while_it_is_served() -> None:
    outer, inner = a_request(), a_request()
    with serving(outer):
        with serving(inner):
            assert get_current_request() is inner
        assert get_current_request() is outer
    assert get_current_request() is None


def test_request_that_failed_is_no_longer_the_current_one() -> None:
    """Else the next task of the thread would act on another visitor's session."""
    with pytest.raises(LookupError), serving(a_request()):
        raise LookupError
    assert get_current_request() is None
