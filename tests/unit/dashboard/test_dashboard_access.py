"""Remote access in the dashboard: leases are given free, rules and paths tried out."""

import fake_api
import pytest
from conftest import Look
from playwright.sync_api import expect


def test_a_kept_address_is_given_free_after_a_question(look: Look) -> None:
    world = fake_api.usual()
    visit = look(world)
    page = visit.go("#/pools/leases")
    page.get_by_role("button", name="10.83.112.3", exact=True).click()
    page.get_by_role("button", name="Give free").click()
    page.get_by_role("dialog").get_by_role("button", name="Give free").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert ("DELETE", "/leases/staff/10.83.112.3") in [seen[:2] for seen in world.seen]
    page.get_by_role("button", name="10.83.112.2", exact=True).click()  # in use: nothing to free
    expect(page.get_by_role("dialog")).to_be_visible()
    assert page.get_by_role("button", name="Give free").count() == 0
    assert visit.complaints == []


def test_an_operator_may_and_a_reader_may_not(look: Look) -> None:
    for role, buttons in (("operator", 1), ("read-only", 0)):
        world = fake_api.usual()
        world.role = role
        page = look(world).go("#/pools/leases")
        page.get_by_role("button", name="10.83.112.3", exact=True).click()
        expect(page.get_by_role("dialog")).to_be_visible()
        assert page.get_by_role("button", name="Give free").count() == buttons


def test_what_has_to_be_entered_inside_is_on_the_pools_page(look: Look) -> None:
    page = look(fake_api.usual()).go("#/pools")
    page.get_by_text("ip route add 10.83.112.0/22 via 10.1.0.1").wait_for()
    page.get_by_text("to do", exact=True).wait_for()


@pytest.mark.parametrize("address", ["#/rules/test", "#/device/grace-laptop-6"])
def test_may_it_reach_that(look: Look, address: str) -> None:
    visit = look(fake_api.usual())
    page = visit.go(address)
    if address == "#/rules/test":
        page.get_by_role("button", name="May it?").click()
        page.get_by_text("Fill this in.").first.wait_for()
        page.get_by_label("Device").fill("grace-laptop-6")
    else:
        page.get_by_text("May it reach that?").click()
    page.get_by_label("Address of the other side").fill("10.1.0.10")
    page.get_by_role("button", name="May it?").click()
    page.get_by_text("it allows tcp 443", exact=False).wait_for()
    page.get_by_label("Port").fill("22")
    page.get_by_role("button", name="May it?").click()
    page.get_by_text("it allows other things", exact=False).wait_for()
    page.get_by_text("as if it connected now", exact=False).wait_for()
    page.get_by_label("Protocol").select_option("1")
    assert not page.get_by_label("Port").is_visible()
    assert visit.complaints == []


def test_what_is_typed_stays_when_the_page_is_updated(look: Look) -> None:
    visit = look(fake_api.usual())
    page = visit.go("#/device/grace-laptop-6")
    page.get_by_text("May it reach that?").click()
    page.get_by_label("Address of the other side").fill("10.1.0.99")
    visit.world.say("endpoint_moved", "somebody moved")
    with page.expect_response("**/api/v1/devices/grace-laptop-6/rules"):
        visit.world.say("endpoint_moved", "somebody moved again")
    assert page.get_by_label("Address of the other side").input_value() == "10.1.0.99"


def test_a_path_is_tested_with_its_probes(look: Look) -> None:
    world = fake_api.usual()
    visit = look(world)
    page = visit.go("#/device/grace-laptop-6")
    page.get_by_role("button", name="Test the path").click()
    page.get_by_text("set dataplane.mtu = 1300", exact=False).wait_for()
    page.get_by_role("dialog").get_by_text("no answer").wait_for()
    assert ("POST", "/devices/grace-laptop-6/path-test") in [seen[:2] for seen in world.seen]
    assert visit.complaints == []


def test_a_device_without_rules_and_mtu_says_so_quietly(look: Look) -> None:
    world = fake_api.usual()
    for what in ("rules", "mtu"):
        path = f"/devices/grace-laptop-6/{what}"
        world.broken[path] = fake_api.FaultError(404, "device = grace: there is no such device")
    page = look(world).go("#/device/grace-laptop-6")
    page.get_by_text("there is no such device").wait_for()
    assert page.get_by_role("alert").count() == 0
    assert page.get_by_role("button", name="Test the path").count() == 0


def test_public_dns_is_asked_when_one_wants(look: Look) -> None:
    visit = look(fake_api.usual())
    page = visit.go("#/names")
    page.get_by_text("host-0.devices.example.com").wait_for()
    page.get_by_role("button", name="Ask public DNS").click()
    page.get_by_text("IN KX 10 gw.example.com.", exact=False).wait_for()
    page.get_by_text("Sign the zone", exact=False).wait_for()
    assert visit.complaints == []


def test_without_names_the_page_says_what_to_configure(look: Look) -> None:
    page = look(fake_api.World()).go("#/names")
    page.get_by_text("No names are kept here").wait_for()
    assert page.get_by_role("alert").count() == 0


def test_a_list_that_nothing_is_configured_for_is_empty(look: Look) -> None:
    world = fake_api.usual()
    world.broken["/redirects"] = fake_api.FaultError(404, "nothing is configured that needs it")
    page = look(world).go("#/rules/forwards")
    page.get_by_text("No port forwards").wait_for()
    assert page.get_by_role("alert").count() == 0


def test_a_rule_is_made_with_the_form_of_its_schema(look: Look) -> None:
    world = fake_api.usual()
    visit = look(world)
    page = visit.go("#/rules")
    page.get_by_role("link", name="Add a rule").click()
    page.get_by_role("heading", name="New: Rules").wait_for()
    page.get_by_label("Name").first.fill("web")
    page.get_by_label("Protocols").fill("tcp")
    page.get_by_label("Ports", exact=True).fill("443\n8000-8099")
    page.get_by_role("button", name="Check and save").click()
    page.get_by_role("dialog").wait_for()
    bodies = [seen[2] for seen in world.seen if seen[1].startswith("/config/rules")]
    document = bodies[0]["document"]  # type: ignore[index, call-overload]
    assert document["ports"] == ["443", "8000-8099"]
    assert document["protocols"] == ["tcp"]
