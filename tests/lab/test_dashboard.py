"""The dashboard of a running gateway in Chromium: a device connects, moves, and one fails."""

# planes: portable

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from gateway_bed import CONFIGURATION, PSK, RunningGateway, device_configuration
from playwright.sync_api import Page, expect, sync_playwright

from gateway.lab import netns, plan
from gateway.lab.processes import wait_until
from gateway.lab.strongswan import StrongSwan
from gateway.lab.topology import Lab

pytestmark = pytest.mark.kernel

WHO = "device@example.com"
PASSWORD = "correct horse battery staple"
BROWSER = Path("/usr/bin/chromium")
PATIENCE_MS = 90_000
"""A browser in the test kernel is slow."""
SHOTS = os.environ.get("DASHBOARD_SHOTS", "")
"""Folder for pictures of what was seen."""


class Bed:
    def __init__(self, lab: Lab, running: RunningGateway, swan: StrongSwan, page: Page) -> None:
        self.lab, self.running, self.swan, self.page = lab, running, swan, page
        self.faults: list[str] = []
        page.on("pageerror", lambda error: self.faults.append(str(error)))

    def ping(self) -> bool:
        argv = ["ping", "-n", "-q", "-c", "2", "-i", "0.1", "-W", "2", str(plan.SERVER)]
        return " 0% packet loss" in self.lab.run("device", argv, check=False).stdout

    def go(self, address: str) -> Page:
        self.page.evaluate("hash => { location.hash = hash }", address)
        self.page.wait_for_selector("main:not([aria-busy]) h1")
        return self.page

    def shot(self, name: str) -> None:
        if SHOTS:
            self.page.screenshot(path=f"{SHOTS}/{name}.png", full_page=True)


@pytest.fixture(scope="module")
def bed() -> Iterator[Bed]:
    if not BROWSER.exists():
        pytest.fail(f"{BROWSER} is missing: apt-get install chromium")
    lab = Lab("tdash-")
    lab.up(fresh=True)
    try:
        running = RunningGateway(lab)
        text = CONFIGURATION.format(
            folder=running.folder, outside=plan.GATEWAY_OUTSIDE, psk=PSK, extra=""
        )
        running.write_text(f'{text}\n[devices.laptop]\nidentity = "{WHO}"\n')
        browser = lab.folder / "browser"
        inside = " ".join(netns.inside(lab.namespace("gw"), [str(BROWSER)]))
        browser.write_text(f'#!/bin/sh\nexec {inside} "$@"\n')
        browser.chmod(0o700)
        swan = StrongSwan(lab, "device")
        try:
            running.start()
            swan.start()
            lab.move("access1")
            code = running.call("setup-code")["code"]
            with sync_playwright() as playwright:
                chromium = playwright.chromium.launch(
                    executable_path=browser,
                    args=["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"],
                    timeout=2 * PATIENCE_MS,
                )
                page = chromium.new_page(
                    ignore_https_errors=True, viewport={"width": 1280, "height": 900}
                )
                page.set_default_timeout(PATIENCE_MS)
                expect.set_options(timeout=PATIENCE_MS)
                page.goto(f"https://127.0.0.1:8443/#/setup?code={code}")
                yield Bed(lab, running, swan, page)
                chromium.close()
        finally:
            swan.stop()
            running.stop()
            print(f"--- gateway\n{running.output()[-8000:]}")
    finally:
        expect.set_options(timeout=5000)
        lab.down()


def test_a_device_connects_moves_and_fails_before_ones_eyes(bed: Bed) -> None:
    page = bed.page
    page.get_by_label("Your name").fill("ann")
    page.get_by_label("Password *", exact=True).fill(PASSWORD)
    page.get_by_label("Password again").fill(PASSWORD)
    page.get_by_role("button", name="Continue").click()
    page.get_by_role("heading", name="Overview").wait_for()
    page.get_by_text("Live", exact=True).wait_for()
    page.locator("details[data-id=places] summary").click()
    row = page.locator("details[data-id=places] tr", has_text="laptop")
    expect(row).to_have_count(0)

    bed.swan.load(device_configuration(encap=True))
    bed.swan.initiate("net")
    assert bed.ping()
    expect(row).to_contain_text("Anywhere on the internet")
    expect(row).to_contain_text("Outside, by VPN")
    expect(page.locator(".topology .device")).to_have_count(1)
    bed.shot("connected")

    bed.lab.move("access2")
    wait_until(bed.ping, 30, "packets from the new address")
    expect(page.locator("main .timeline").first).to_contain_text(re.compile("203.0.113.10"))
    bed.shot("moved")

    bed.go("#/device/laptop")
    expect(page.locator(".facts").first).to_contain_text(re.compile(r"203\.0\.113\.10:\d+"))
    expect(page.locator(".layers desc")).to_contain_text("VPN, ESP in UDP, aes_gcm_16_256")
    device = bed.running.call("device", name="laptop")
    expect(page.locator(".sum strong")).to_have_text(f"MTU {device['path_mtu']['inner']}")
    moves = page.get_by_role("table", name="Moves, the newest first")
    expect(moves).to_contain_text("198.51.100.10")
    expect(page.get_by_role("table", name="Child SAs")).to_contain_text(
        device["child_sas"][0]["spi_in"]
    )
    expect(page.get_by_role("heading", name="IKE SA, version 2")).to_be_visible()
    bed.shot("device")

    page.get_by_role("button", name="Disconnect").click()
    page.get_by_role("dialog").get_by_role("button", name="Disconnect").click()
    expect(page.get_by_role("button", name="Disconnect")).to_have_count(0)
    wait_until(lambda: not bed.swan.established(), 20, "the end of the device's session")

    bed.swan.load(device_configuration(encap=True, psk="another secret than the gateway has"))
    with pytest.raises(Exception, match=r"."):
        bed.swan.initiate("net")
    bed.go(f"#/failures?who={WHO}")
    failure = page.locator("main article").first
    expect(failure).to_contain_text(WHO)
    expect(failure).to_contain_text("What to do:")
    bed.shot("failure")
    assert bed.faults == []
