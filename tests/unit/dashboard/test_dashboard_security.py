"""The dashboard with hostile names, sessions that end, and links that are no links."""

import fake_api
import fake_data
import pytest
from conftest import Look

EVERYWHERE = [
    "#/",
    "#/devices",
    "#/users",
    "#/sas/ike",
    "#/sas/child",
    "#/mobility/bindings",
    "#/pools/leases",
    "#/pools/history",
    "#/rules/forwards",
    "#/rules/napt",
    "#/names",
    "#/failures",
    "#/failures/registrations",
    "#/config/users",
    "#/config/devices",
    "#/audit",
    "#/settings/access",
    "#/settings/certificates",
]


def test_h78_names_that_are_markup_stay_text(look: Look) -> None:
    visit = look(fake_api.hostile())
    for address in EVERYWHERE:
        page = visit.go(address)
        page.get_by_text("<img src=x", exact=False).first.wait_for(state="attached")
        page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
        assert page.evaluate("window.pwned") is None, address
        assert page.locator("main img, main script, main iframe").count() == 0, address
    assert visit.complaints == []


def test_h78_the_page_of_a_hostile_device(look: Look) -> None:
    visit = look(fake_api.hostile())
    page = visit.go("#/devices")
    page.locator("tbody a").first.click()
    page.wait_for_selector("text=Layers and MTU")
    assert page.evaluate("window.pwned") is None
    assert page.locator("main img, main script").count() == 0
    assert fake_data.HOSTILE in page.locator("main h1").inner_text()
    assert visit.complaints == []


def test_h78_hostile_events_stay_text(look: Look) -> None:
    visit = look(fake_api.usual())
    page = visit.go("#/")
    page.get_by_text("Live", exact=True).wait_for()
    visit.world.say("endpoint_moved", fake_data.HOSTILE, device=fake_data.HOSTILE)
    page.locator("main .timeline", has_text="<img src=x").wait_for()
    assert page.evaluate("window.pwned") is None


@pytest.mark.parametrize("link", ["javascript:window.pwned=1", "data:text/html,x"])
def test_h78_a_bundle_link_that_is_a_script_is_not_shown(look: Look, link: str) -> None:
    visit = look(fake_api.usual())
    page = visit.go("#/")
    shown = page.evaluate(
        """async link => {
            const { linkView } = await import(new URL('js/provision.js', location.href));
            const view = linkView({ url: link, qr_svg: '<svg onload="window.pwned=1"/>' });
            document.body.append(view);
            return [view.querySelector('input').value, view.querySelectorAll('svg').length];
        }""",
        link,
    )
    assert shown == ["", 0]
    assert page.evaluate("window.pwned") is None


def test_a_session_that_ended_leads_to_the_login_and_back(look: Look) -> None:
    world = fake_api.usual()
    visit = look(world)
    page = visit.go("#/devices")
    world.logged_in = False
    page.get_by_role("link", name="Users").click()
    page.get_by_role("heading", name="Log in to the gateway").wait_for()
    page.get_by_label("Name").fill("ann")
    page.get_by_label("Password").fill("wrong")
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("alert").wait_for()
    page.get_by_label("Password").fill(fake_api.PASSWORD)
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("heading", name="Users", exact=True).wait_for()


def test_logging_out_needs_the_token_and_ends_the_session(look: Look) -> None:
    world = fake_api.usual()
    page = look(world).go("#/")
    page.get_by_role("button", name="Log out").click()
    page.get_by_role("heading", name="Log in to the gateway").wait_for()
    assert not world.logged_in
