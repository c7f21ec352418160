"""The pages of a real gateway: its core, store, control socket and API; only the kernel is absent.

The first run is done as somebody new would do it, then every page is looked at.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from gateway.control.client import ControlClient

sys.path.append(str(Path(__file__).resolve().parents[1] / "api"))
import live_gateway
from live_gateway import Live, running

PASSWORD = "correct horse battery staple"
REFUSED = "Failed to load resource"
"""The browser's own line for each answer of 400 and above."""
PAGES = (
    "#/",
    "#/devices",
    "#/device/anns-phone",
    "#/users",
    "#/sas/ike",
    "#/sas/child",
    "#/mobility/bindings",
    "#/mobility/visitors",
    "#/mobility/networks",
    "#/nar/clients",
    "#/nar/mappings",
    "#/nar/audit",
    "#/pools",
    "#/failures/logins",
    "#/failures/registrations",
    "#/config",
    "#/config/pools",
    "#/config/connections/devices",
    "#/config/radius?new=1",
    "#/config/nar?new=1",
    "#/audit",
    "#/settings/access",
    "#/settings/certificates",
    "#/settings/backup",
    "#/settings/gateway",
)


@pytest.fixture(scope="module")
def empty_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """As an install leaves it: nothing that a device could connect to."""
    kept = live_gateway.CONFIGURATION
    without = re.sub(r"\[pools\.road\].*?(?=\[provisioning\])", "", kept, flags=re.DOTALL)
    live_gateway.CONFIGURATION = without
    try:
        with running(Path(tmp_path_factory.mktemp("dashboard")), tls=True) as live:
            yield live
    finally:
        live_gateway.CONFIGURATION = kept


def asked(live: Live, op: str, **arguments: Any) -> Any:
    """What the control socket says, as root."""
    with ControlClient(live.folder / "run" / "control.sock") as control:
        return control.call(op, **arguments)


class Visitor:
    def __init__(self, browser: Browser, live: Live) -> None:
        self.live = live
        context = browser.new_context(
            ignore_https_errors=True,  # the certificate is its own
            viewport={"width": 1280, "height": 900},
            accept_downloads=True,
        )
        self.page: Page = context.new_page()
        self.complaints: list[str] = []
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", self._said)

    def _said(self, message: object) -> None:
        text, kind = getattr(message, "text", ""), getattr(message, "type", "")
        if kind in {"error", "warning"} and REFUSED not in text:
            self.complaints.append(text)

    def go(self, address: str) -> Page:
        self.page.goto("about:blank")
        self.page.goto(f"{self.live.base}/{address}")
        self.page.wait_for_selector("main:not([aria-busy]) h1")
        return self.page


@pytest.fixture(scope="module")
def visitor(chromium: Browser, empty_gateway: Live) -> Visitor:
    """Has done the first run."""
    visitor = Visitor(chromium, empty_gateway)
    code = asked(empty_gateway, "setup-code")["code"]
    page = visitor.go(f"#/setup?code={code}")
    page.get_by_label("Your name").fill("ann")
    page.get_by_label("Password *", exact=True).fill(PASSWORD)
    page.get_by_label("Password again").fill(PASSWORD)
    page.get_by_role("button", name="Continue").click()
    page.get_by_role("heading", name="What devices get").wait_for()
    page.get_by_label("Inner addresses").fill("10.77.0.0/33")
    page.get_by_role("button", name="Continue").click()
    expect(page.locator(".wrong", has_text="10.77.0.0/33")).to_be_visible()
    page.get_by_label("Inner addresses").fill("10.77.0.0/24")
    page.get_by_role("button", name="Continue").click()
    page.get_by_role("heading", name="How devices prove who they are").wait_for()
    page.get_by_role("button", name="Continue").click()
    page.get_by_role("button", name="Set it up").click()
    page.get_by_label("Name of the device").fill("anns-phone")
    page.get_by_label("Android").check()
    page.get_by_role("button", name="Add it").click()
    expect(page.get_by_role("img", name="QR code of the link")).to_be_visible(timeout=30_000)
    assert "/d/" in page.get_by_label("One-time link").input_value()
    page.get_by_role("button", name="Go to the overview").click()
    page.get_by_role("heading", name="Overview").wait_for()
    return visitor


@pytest.mark.parametrize("address", PAGES)
def test_every_page_of_a_real_gateway(visitor: Visitor, address: str) -> None:
    visitor.complaints.clear()
    page = visitor.go(address)
    page.wait_for_load_state("load")
    expect(page.locator("main .note.bad")).to_have_count(0)
    assert visitor.complaints == []


def test_the_session_is_a_cookie_that_scripts_cannot_read(visitor: Visitor) -> None:
    page = visitor.go("#/")
    (cookie,) = page.context.cookies()
    assert cookie["name"].startswith("__Host-")
    assert (cookie["httpOnly"], cookie["secure"], cookie["sameSite"]) == (True, True, "Strict")
    assert page.evaluate("document.cookie") == ""


def test_a_pool_is_changed_and_two_do_not_overwrite_each_other(visitor: Visitor) -> None:
    page = visitor.go("#/config/pools/devices")
    page.get_by_label("Name servers").fill("not an address")
    page.get_by_role("button", name="Check and save").click()
    expect(page.get_by_label("Name servers")).to_have_attribute("aria-invalid", "true")
    page.get_by_label("Name servers").fill("10.1.0.53")
    asked(
        visitor.live,
        "object-merge",
        kind="pools",
        name="devices",
        document={"reserved": ["10.77.0.9"]},
    )
    page.get_by_role("button", name="Check and save").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="Save", exact=True).or_(
        dialog.get_by_role("button", name="Keep my changes")
    ).click()
    expect(page.get_by_label("Never given out")).to_have_value("10.77.0.9")
    page.get_by_role("button", name="Check and save").click()
    page.get_by_role("dialog").get_by_role("button", name="Save", exact=True).click()
    page.get_by_role("heading", name="Address pools", exact=True).wait_for()
    stored = asked(visitor.live, "object", kind="pools", name="devices")["document"]
    assert stored["dns"] == ["10.1.0.53"]
    assert stored["reserved"] == ["10.77.0.9"]
    page = visitor.go("#/audit")
    expect(page.locator("main article").first).to_contain_text("pools/devices")
    expect(page.locator("main article").first).to_contain_text("ann")


def test_a_user_is_made_and_the_password_is_never_shown(visitor: Visitor) -> None:
    page = visitor.go("#/config/users?new=1")
    page.get_by_label("Name *").fill("ben")
    page.get_by_label("Password").fill("a secret of Ben's")
    page.get_by_role("button", name="Check and save").click()
    page.get_by_role("dialog").get_by_role("button", name="Save").click()
    page.get_by_role("link", name="ben").click()
    page.get_by_text("Stored and never shown.").wait_for()
    assert "a secret of Ben's" not in page.content()
    assert "scrypt" not in page.content()


def test_a_device_is_blocked_and_let_in_again(visitor: Visitor) -> None:
    page = visitor.go("#/device/anns-phone")
    page.get_by_role("button", name="Block").click()
    page.get_by_role("dialog").get_by_role("button", name="Block").click()
    page.get_by_role("button", name="Unblock").click()
    expect(page.get_by_role("button", name="Block", exact=True)).to_be_visible()
    page = visitor.go("#/audit")
    expect(page.locator("main article").first).to_contain_text("Device unblock")


def test_a_device_that_is_added_elsewhere_appears(visitor: Visitor) -> None:
    page = visitor.go("#/devices")
    page.get_by_label("Search devices").fill("elsewhere")
    page.get_by_text("Nothing found").wait_for()
    asked(
        visitor.live,
        "object-create",
        kind="devices",
        name="elsewhere",
        document={"identity": "elsewhere@example.com"},
    )
    expect(page.get_by_role("link", name="elsewhere")).to_be_visible(timeout=40_000)


def test_a_token_works_until_it_is_deleted(visitor: Visitor) -> None:
    page = visitor.go("#/settings/access")
    page.get_by_role("button", name="New token").click()
    page.get_by_role("dialog").get_by_label("Name").fill("ansible")
    page.get_by_role("button", name="Make it").click()
    token = page.get_by_label("Token", exact=True).input_value()
    with visitor.live.client(token) as client:
        assert client.get("/api/v1/devices").status_code == 200
        assert client.post("/api/v1/reload").status_code == 403
        page.get_by_role("button", name="I have stored it").click()
        page.get_by_role("button", name="Delete token ansible").click()
        page.get_by_role("dialog").get_by_role("button", name="Delete").click()
        expect(page.get_by_role("button", name="Delete token ansible")).to_have_count(0)
        assert client.get("/api/v1/devices").status_code == 401


def test_the_export_is_a_file(visitor: Visitor) -> None:
    page = visitor.go("#/settings/backup")
    page.get_by_label("Passphrase").fill("a long enough passphrase")
    with page.expect_download() as download:
        page.get_by_role("button", name="Export everything").click()
    assert download.value.path().stat().st_size > 500


def test_zz_logging_out(visitor: Visitor) -> None:
    page = visitor.go("#/")
    page.get_by_role("button", name="Log out").click()
    page.get_by_role("heading", name="Log in to the gateway").wait_for()
    page.get_by_label("Name").fill("ann")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("heading", name="Overview").wait_for()
