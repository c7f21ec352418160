"""Every page of the dashboard: it shows its data, its console is silent, axe finds nothing."""

import re
from pathlib import Path

import fake_api
import pytest
from axe_playwright_python.sync_playwright import Axe
from conftest import Look

FOLDER = fake_api.DASHBOARD
PAGES = {
    "#/": "Overview",
    "#/devices": "Devices",
    "#/device/grace-laptop-6": "grace-laptop-6",
    "#/users": "Users",
    "#/sas/ike": "Security associations",
    "#/sas/child": "Security associations",
    "#/mobility/bindings": "Bindings and visitors",
    "#/mobility/visitors": "Bindings and visitors",
    "#/mobility/networks": "Bindings and visitors",
    "#/nar/clients": "Address reuse",
    "#/nar/mappings": "Address reuse",
    "#/nar/audit": "Address reuse",
    "#/pools": "Address pools",
    "#/pools/leases": "Address pools",
    "#/pools/history": "Address pools",
    "#/rules": "Rules",
    "#/rules/test": "Rules",
    "#/rules/forwards": "Rules",
    "#/rules/napt": "Rules",
    "#/names": "Names",
    "#/config/rules?new=1": "New: Rules",
    "#/config/redirects?new=1": "New: Redirects",
    "#/failures": "Why can't this device connect?",
    "#/failures/registrations": "Why can't this device connect?",
    "#/config": "Configuration",
    "#/config/connections": "Connections",
    "#/config/connections/staff": "staff",
    "#/config/radius?new=1": "New: Radius",
    "#/audit": "Audit",
    "#/settings/access": "Settings",
    "#/settings/certificates": "Settings",
    "#/settings/backup": "Settings",
    "#/settings/gateway": "Settings",
    "#/nowhere": "There is no such page",
}
GRAVE = {"serious", "critical"}
LOOKS = [(1280, "light"), (360, "dark")]
"""Both widths and both sets of colours, each page twice."""


@pytest.mark.parametrize(("width", "theme"), LOOKS)
def test_every_page_renders_and_axe_finds_nothing(look: Look, width: int, theme: str) -> None:
    visit = look(fake_api.usual(), width=width, theme=theme)
    axe = Axe()
    faults = []
    for address, heading in PAGES.items():
        page = visit.go(address)
        page.wait_for_function(
            "text => document.querySelector('main h1').textContent === text", arg=heading
        )
        page.wait_for_function("document.documentElement.dataset.theme")
        assert page.evaluate("document.documentElement.dataset.theme") == theme
        wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert wide <= 0, f"{address} is {wide} px too wide"
        page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
        for found in axe.run(page).response["violations"]:
            if found["impact"] in GRAVE:
                where = [node["html"][:160] for node in found["nodes"][:3]]
                faults.append(f"{address}: {found['id']}: {found['help']}: {where}")
    assert not faults, "\n".join(faults)
    assert visit.complaints == []


def test_axe_on_what_opens(look: Look) -> None:
    visit = look(fake_api.usual(), width=360)
    page = visit.go("#/devices")
    page.get_by_role("button", name="Add a device").click()

    page.get_by_role("dialog").wait_for()
    violations = Axe().run(page).response["violations"]
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Menu").click()
    violations += Axe().run(page).response["violations"]
    assert [found["id"] for found in violations if found["impact"] in GRAVE] == []


@pytest.mark.parametrize(
    "address",
    [
        "#/",
        "#/devices",
        "#/users",
        "#/sas",
        "#/mobility",
        "#/nar",
        "#/pools",
        "#/pools/leases",
        "#/pools/history",
        "#/rules",
        "#/rules/forwards",
        "#/rules/napt",
        "#/failures",
    ],
)
def test_what_is_empty_says_what_to_do(look: Look, address: str) -> None:
    world = fake_api.World()
    visit = look(world)
    page = visit.go(address)
    page.locator(".empty").first.wait_for()
    assert len(page.locator(".empty .soft").first.inner_text()) > 20
    assert visit.complaints == []


def test_an_error_says_what_happened_and_the_page_recovers(look: Look) -> None:
    world = fake_api.usual()
    world.broken["/devices"] = fake_api.FaultError(503, "The core does not answer; start it again.")
    visit = look(world)
    page = visit.go("#/devices")
    alert = page.get_by_role("alert")
    alert.wait_for()
    assert "start it again" in alert.inner_text()
    world.broken.clear()
    alert.get_by_role("button", name="Try again").click()
    page.get_by_role("link", name="ann-laptop-0").wait_for()
    assert page.get_by_role("alert").count() == 0


def test_read_only_sees_no_buttons_that_are_refused(look: Look) -> None:
    world = fake_api.usual()
    world.role = "read-only"
    visit = look(world)
    page = visit.go("#/device/grace-laptop-6")
    page.get_by_text("Layers and MTU").wait_for()
    for verb in (
        "Disconnect",
        "Block",
        "Revoke",
        "New bundle",
        "Rotate secret",
        "Rekey",
        "Test the path",
    ):
        assert page.get_by_role("button", name=verb, exact=True).count() == 0
    page = visit.go("#/config/pools/staff")
    assert page.get_by_role("button", name="Check and save").count() == 0
    assert visit.complaints == []


def test_files_are_small_and_need_nobody_else() -> None:
    files = [path for path in FOLDER.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 300_000
    for path in files:
        text = path.read_text()
        assert "innerHTML" not in text, path
        assert "outerHTML" not in text, path
        assert "insertAdjacentHTML" not in text, path
        assert "eval(" not in text, path
        outside = set(re.findall(r"https?://[\w.]+", text)) - {"http://www.w3.org"}
        assert not outside, f"{path}: {outside}"
    page = (FOLDER / "index.html").read_text()
    assert not re.findall(r"<script(?![^>]*src=)", page)
    assert not re.findall(r"<style|style=|\son\w+=", page)


def test_what_the_first_page_preloads_is_there_and_all_it_needs(look: Look) -> None:
    visit = look(fake_api.usual())
    asked: list[str] = []
    visit.page.on("request", lambda request: asked.append(request.url))
    visit.go("#/")
    scripts = {Path(url).name for url in asked if url.endswith(".js")}
    text = (FOLDER / "index.html").read_text()
    preloaded = {Path(found).name for found in re.findall(r'href="([^"]+\.js)"', text)}
    assert preloaded <= scripts
    assert scripts - preloaded == {"theme.js"}
    assert all(url.startswith(visit.api.url) for url in asked)
