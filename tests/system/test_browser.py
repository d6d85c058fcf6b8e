"""A person's browser in the demo shop and its admin."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from threading import Barrier
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.signals import user_logged_in

from testproject import settings as demo_settings
from tests.factories import UserFactory
from tests.missing import report_missing
from usersessions.models import BackendSession, FrontendSession
from usersessions.store import SessionStore

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

CHROMIUM_OPTIONS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--window-size=1280,900",
]

Open = Callable[[], Any]


@pytest.fixture
def open_browser() -> Iterator[Open]:
    """Start Chromium, with an empty profile each time."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    try:
        from selenium import webdriver
    except ImportError:
        webdriver = None
    if not (chromium and driver and webdriver):
        report_missing("needs selenium, chromium and chromedriver: see Contributing in README.rst")
    browsers = []

    def open_one() -> Any:
        options = webdriver.ChromeOptions()
        options.binary_location = chromium
        for option in CHROMIUM_OPTIONS:
            options.add_argument(option)
        browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
        browser.implicitly_wait(10)
        browsers.append(browser)
        return browser

    yield open_one
    for browser in browsers:
        browser.quit()


@pytest.fixture
def url(live_server: Any, settings: Any, products: Any) -> str:
    settings.USERSESSIONS = demo_settings.USERSESSIONS
    for name in ("alice", "bob"):
        UserFactory(username=name)
    UserFactory(username="admin", is_staff=True, is_superuser=True)
    return str(live_server.url)


def press(browser: Any, selector: str) -> None:
    """Click, and wait for the page that comes."""
    page = browser.find_element("tag name", "html")
    browser.find_element("css selector", selector).click()
    _wait_for_the_page_after(page)


def _wait_for_the_page_after(page: Any) -> None:
    from selenium.webdriver.support.expected_conditions import staleness_of
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(page.parent, 10).until(staleness_of(page))


def fill(browser: Any, **values: str) -> None:
    for name, value in values.items():
        browser.find_element("name", name).send_keys(value)


def fill_basket(browser: Any, url: str) -> None:
    browser.get(f"{url}/product/desk-lamp/")
    press(browser, "main form button")


def log_in(browser: Any, url: str, name: str) -> None:
    browser.get(f"{url}/account/login/")
    fill(browser, username=name, password=name)
    press(browser, "main form button")


def enter_admin(browser: Any, url: str) -> None:
    browser.get(f"{url}/admin/")
    fill(browser, username="admin", password="admin")
    press(browser, "[type=submit]")


def text_of(browser: Any, url: str) -> str:
    browser.get(url)
    return str(browser.find_element("tag name", "body").text)


def test_editor_and_customer_share_a_browser(open_browser: Open, url: str) -> None:
    browser = open_browser()
    browser.get(url)
    assert browser.get_cookies() == []

    fill_basket(browser, url)
    cookie = browser.get_cookie("fe_sessionid")
    assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (True, "Lax", "/")
    assert "expiry" not in cookie

    browser.get(f"{url}/account/login/")
    fill(browser, username="alice", password="alice")
    browser.find_element("name", "remember_me").click()
    press(browser, "main form button")
    assert "expiry" in browser.get_cookie("fe_sessionid")
    assert browser.get_cookie("fe_sessionid")["value"] != cookie["value"]
    assert "Desk lamp" in text_of(browser, f"{url}/basket/")

    enter_admin(browser, url)
    assert browser.get_cookie("be_sessionid")["sameSite"] == "Strict"
    account = text_of(browser, f"{url}/account/")
    assert "logged in as alice" in account
    assert "backend as admin" in account

    browser.get(f"{url}/admin/")
    press(browser, "#logout-form button")
    assert BackendSession.objects.count() == 0
    assert "logged in as alice" in text_of(browser, f"{url}/account/")

    press(browser, "header form button")
    assert FrontendSession.objects.count() == 0
    assert browser.get_cookie("fe_sessionid") is None


def test_login_form_that_is_sent_twice_logs_in_with_the_basket(
    open_browser: Open, url: str
) -> None:
    both_are_here = Barrier(2, timeout=30)

    def wait_for_the_other(**_: Any) -> None:
        both_are_here.wait()

    user_logged_in.connect(wait_for_the_other)
    try:
        _send_the_login_form_twice(open_browser(), url)
    finally:
        user_logged_in.disconnect(wait_for_the_other)
    assert FrontendSession.objects.count() == 1


def _send_the_login_form_twice(browser: Any, url: str) -> None:
    fill_basket(browser, url)
    browser.get(f"{url}/account/login/")
    fill(browser, username="alice", password="alice")
    page = browser.find_element("tag name", "html")
    browser.execute_script(
        # The first one waits for the second, however slow the machine is.
        "const form = document.querySelector('main form');"
        "form.submit(); setTimeout(() => form.submit(), 500);"
    )
    _wait_for_the_page_after(page)
    assert "Desk lamp" in text_of(browser, f"{url}/basket/")
    assert "logged in as alice" in text_of(browser, f"{url}/account/")


def test_customer_ends_the_sessions_on_other_devices_after_confirming(
    open_browser: Open, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    phone, desktop = open_browser(), open_browser()
    log_in(phone, url, "alice")
    log_in(desktop, url, "alice")
    later = time.time() + 301
    monkeypatch.setattr(SessionStore, "clock", staticmethod(lambda: later))
    desktop.get(f"{url}/account/")
    press(desktop, "main a[href$='/sessions/']")
    press(desktop, "main p a")
    fill(desktop, password="alice")
    press(desktop, "main form button")
    press(desktop, "button[value=others]")
    assert "1 other session has ended." in desktop.find_element("tag name", "main").text
    assert "logged in as alice" in text_of(desktop, f"{url}/account/")
    assert "logged in as alice" not in text_of(phone, f"{url}/account/")


def test_superuser_sees_the_shop_as_a_customer_and_comes_back(open_browser: Open, url: str) -> None:
    from selenium.webdriver.support.ui import Select

    browser = open_browser()
    fill_basket(browser, url)
    enter_admin(browser, url)
    browser.get(f"{url}/admin/auth/user/")
    alice = get_user_model().objects.get(username="alice")
    browser.find_element("css selector", f"[name=_selected_action][value='{alice.pk}']").click()
    Select(browser.find_element("name", "action")).select_by_value("switch_user_FE")
    press(browser, "[name=index]")
    assert "logged in as alice" in text_of(browser, f"{url}/account/")
    assert "Desk lamp" not in text_of(browser, f"{url}/basket/")

    press(browser, "form[action='/usersessions/exit-switch-user/'] button")
    assert "Desk lamp" in text_of(browser, f"{url}/basket/")
    assert browser.get_cookie("be_sessionid") is not None
    assert FrontendSession.objects.get().ses_userid == 0


def test_sessions_of_a_customer_in_another_storage_end_in_the_admin(
    open_browser: Open, url: str, settings: Any
) -> None:
    from selenium.webdriver.support.ui import Select

    settings.USERSESSIONS = {
        **settings.USERSESSIONS,
        "FE": {"BACKEND": "tests.contract.test_base.MemoryBackend", "OPTIONS": {}},
    }
    phone, office = open_browser(), open_browser()
    log_in(phone, url, "alice")
    enter_admin(office, url)
    assert "alice" in text_of(office, f"{url}/admin/django_usersessions/frontendsession/")
    fill(office, q="alice")
    press(office, "#changelist-search [type=submit]")
    office.find_element("id", "action-toggle").click()
    assert "1 of 1 selected" in office.find_element("class name", "action-counter").text
    Select(office.find_element("name", "action")).select_by_value("end_selected_sessions")
    press(office, "[name=index]")
    assert "1 session was ended." in office.find_element("class name", "messagelist").text
    assert "0 sessions on this page" in office.find_element("class name", "paginator").text
    assert "logged in as alice" not in text_of(phone, f"{url}/account/")


def test_live_login_takes_people_in_without_a_form(
    open_browser: Open, url: str, usersessions_live_login: Any
) -> None:
    browser = open_browser()
    browser.get(url)
    for name, login_type in (("alice", "FE"), ("admin", "BE")):
        user = get_user_model().objects.get(username=name)
        browser.add_cookie(usersessions_live_login(user, login_type))
    account = text_of(browser, f"{url}/account/")
    assert "logged in as alice" in account
    assert "backend as admin" in account

    press(browser, "header form button")
    assert browser.get_cookie("fe_sessionid") is None
    log_in(browser, url, "bob")
    assert "logged in as bob" in text_of(browser, f"{url}/account/")
