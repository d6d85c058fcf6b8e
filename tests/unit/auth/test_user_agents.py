"""Which device a session belongs to, in people's words."""

from __future__ import annotations

import pytest
from django.utils.translation import override

from usersessions.auth.user_agents import describe_device

WINDOWS = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko)"
IPHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15"


@pytest.mark.parametrize(
    ("user_agent", "device"),
    [
        (f"{WINDOWS} Chrome/140.0 Safari/537.36", "Chrome on Windows"),
        (f"{WINDOWS} Chrome/140.0 Safari/537.36 Edg/140.0", "Edge on Windows"),
        (f"{IPHONE} Version/18.0 Mobile/15E148 Safari/604.1", "Safari on iPhone"),
        ("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/1 Firefox/140", "Firefox on Linux"),
        ("curl/8.5.0", "curl"),
        ("Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7)", "Mac"),
        ("", "Unknown device"),
        ("<script>", "Unknown device"),
    ],
)
def test_device_is_named_by_what_people_know(user_agent: str, device: str) -> None:
    assert describe_device(user_agent) == device


def test_device_is_named_in_the_readers_language() -> None:
    with override("de"):
        assert describe_device(f"{WINDOWS} Chrome/140.0") == "Chrome unter Windows"
