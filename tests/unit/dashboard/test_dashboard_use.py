"""What people do with the dashboard: by keyboard, with 10,000 devices, at the first run."""

import fake_api
import fake_data
from conftest import Look
from playwright.sync_api import expect

MOST_ROWS = 80
"""Rows in the document, however long the list is."""


def test_ten_thousand_devices_are_a_window_of_rows(look: Look) -> None:
    visit = look(fake_api.usual(10_000))
    page = visit.go("#/devices")
    page.get_by_text("of 10\u202f000 loaded", exact=False).wait_for()
    rows = page.locator("tbody tr.fixed")
    assert 5 < rows.count() < MOST_ROWS
    assert page.locator("table.windowed").get_attribute("aria-rowcount") == "10001"
    before = rows.first.inner_text()
    for _ in range(6):
        loaded = page.locator(".list-status").inner_text()
        page.locator(".scroller").evaluate("one => one.scrollTop = one.scrollHeight")
        page.wait_for_function(
            "text => document.querySelector('.list-status').textContent !== text", arg=loaded
        )
        assert rows.count() < MOST_ROWS
    assert rows.first.inner_text() != before
    page.get_by_label("Search devices").fill("hugo-phone-799")
    expect(page.get_by_role("link", name="hugo-phone-7999")).to_be_visible()
    assert visit.complaints == []


def test_sorting_tells_readers_and_keeps_the_focus(look: Look) -> None:
    visit = look(fake_api.usual())
    page = visit.go("#/devices?sort=-traffic")
    first = page.locator("tbody tr.fixed a").first
    expect(first).to_have_text("dieter-laptop-59")
    heading = page.get_by_role("columnheader", name="Name")
    heading.get_by_role("button").click()
    expect(heading).to_have_attribute("aria-sort", "ascending")
    expect(heading.get_by_role("button")).to_be_focused()
    expect(first).to_have_text("ann-ipad-32")


def test_by_keyboard_alone(look: Look) -> None:
    visit = look(fake_api.usual())
    page = visit.go("#/")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("Tab")
    expect(page.locator("#skip")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main h1")).to_be_focused()
    assert page.url.endswith("#/")
    page.keyboard.press("Tab")
    opener = page.get_by_role("button", name="Add a device")
    expect(opener).to_be_focused()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_label("Name of the device")).to_be_focused()
    for _ in range(30):
        page.keyboard.press("Tab")
        inside = (
            "document.activeElement === document.body || !!document.activeElement.closest('dialog')"
        )
        assert page.evaluate(inside)
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    expect(opener).to_be_focused()


def test_the_menu_of_a_phone_by_keyboard(look: Look) -> None:
    visit = look(fake_api.usual(), width=360)
    page = visit.go("#/")
    menu = page.get_by_role("button", name="Menu")
    menu.focus()
    page.keyboard.press("Enter")
    expect(menu).to_have_attribute("aria-expanded", "true")
    expect(page.get_by_role("link", name="Overview")).to_be_focused()
    page.keyboard.press("Escape")
    expect(menu).to_be_focused()
    page.keyboard.press("Enter")
    page.get_by_role("link", name="Devices").press("Enter")
    page.get_by_role("heading", name="Devices", exact=True).wait_for()
    expect(page.locator("#nav")).not_to_be_visible()


def test_a_device_is_added_and_shown_with_link_and_code(look: Look) -> None:
    visit = look(fake_api.usual())
    page = visit.go("#/devices")
    page.get_by_role("button", name="Add a device").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="Add it").click()
    expect(dialog.get_by_text("Fill this in.")).to_be_visible()
    dialog.get_by_label("Name of the device").fill("ann-laptop-0")
    dialog.get_by_role("button", name="Add it").click()
    expect(dialog.get_by_text("There is a device ann-laptop-0 already.")).to_be_visible()
    expect(dialog.get_by_label("Name of the device")).to_be_focused()
    dialog.get_by_label("Name of the device").fill("new-phone")
    dialog.get_by_label("Android").check()
    dialog.get_by_role("button", name="Add it").click()
    expect(page.get_by_role("heading", name="new-phone is ready to be set up")).to_be_visible()
    expect(page.get_by_label("One-time link")).to_have_value(fake_api.QR_TEXT)
    assert (
        len(page.get_by_role("img", name="QR code of the link").locator("path").get_attribute("d"))
        > 400
    )
    assert visit.world.seen[-1] == (
        "POST",
        "/provision",
        {"name": "new-phone", "platform": "android"},
    )
    page.get_by_role("button", name="Done").click()
    page.get_by_label("Search devices").fill("new-phone")
    expect(page.get_by_role("link", name="new-phone")).to_be_visible()


def test_blocking_asks_first(look: Look) -> None:
    visit = look(fake_api.usual())
    page = visit.go("#/device/grace-laptop-6")
    page.get_by_role("button", name="Block").click()
    expect(page.get_by_role("button", name="Cancel")).to_be_focused()
    page.keyboard.press("Escape")
    assert not visit.world.seen
    page.get_by_role("button", name="Block").click()
    page.get_by_role("dialog").get_by_role("button", name="Block").click()
    expect(page.get_by_role("button", name="Unblock")).to_be_visible()
    assert [seen[:2] for seen in visit.world.seen] == [("POST", "/devices/grace-laptop-6/block")]


def test_a_move_is_shown_and_told_as_it_happens(look: Look) -> None:
    visit = look(fake_api.usual())
    page = visit.go("#/")
    page.get_by_text("Live", exact=True).wait_for()
    page.locator("details[data-id=places] summary").click()
    row = page.locator("details[data-id=places] tr", has_text="ann-laptop-16")
    expect(row).to_contain_text("FA cafe")
    device = next(one for one in visit.world.devices if one["name"] == "ann-laptop-16")
    device |= {"where": "inside", "place": "intranet", "mode": "c"}
    visit.world.say("binding_changed", "ann-laptop-16 moved inside", device="ann-laptop-16")
    expect(row).to_contain_text("On the intranet")
    expect(page.locator("main .timeline")).to_contain_text("ann-laptop-16 moved inside")
    expect(page.locator("#announce")).to_contain_text("moved inside")
    assert "On the intranet: 9" in page.locator(".topology desc").text_content()


def test_without_events_it_asks_now_and_then(look: Look) -> None:
    world = fake_api.usual()
    world.broken["/events"] = fake_api.FaultError(503, "too many listeners")
    visit = look(world)
    page = visit.page
    page.route("**/api/v1/events", lambda route: route.fulfill(status=503, body=""))
    visit.go("#/devices")
    page.get_by_text("Updated every few seconds").wait_for()
    page.get_by_label("Search devices").fill("newcomer")
    page.get_by_text("Nothing found").wait_for()
    world.devices.append(fake_data.device(3, name="newcomer"))
    expect(page.get_by_role("link", name="newcomer")).to_be_visible(timeout=15_000)


def test_why_a_device_cannot_connect(look: Look) -> None:
    visit = look(fake_api.usual())
    page = visit.go("#/failures")
    page.get_by_label("Name, user or address").fill("hugo")
    expect(page.get_by_text("Devices that match")).to_be_visible()
    expect(page.get_by_text("What to do:").first).to_be_visible()
    expect(page.get_by_text("aes128-sha1-modp1024, 3des-sha1-modp1024").first).to_be_visible()


def test_a_change_is_tried_out_then_saved(look: Look) -> None:
    visit = look(fake_api.usual())
    page = visit.go("#/config/pools/staff")
    page.get_by_label("Network").fill("nonsense")
    page.get_by_role("button", name="Check and save").click()
    network = page.get_by_label("Network")
    expect(network).to_have_attribute("aria-invalid", "true")
    expect(page.locator(".wrong", has_text="must be a network")).to_be_visible()
    expect(network).to_be_focused()
    network.fill("10.84.0.0/22")
    page.get_by_role("button", name="Check and save").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("1 session ends")
    expect(dialog).to_contain_text("ann@example.com")
    assert visit.world.objects["pools"]["staff"]["document"]["network"] == "10.83.112.0/22"
    dialog.get_by_role("button", name="Save and end these sessions").click()
    page.get_by_role("heading", name="Pools", exact=True).wait_for()
    assert visit.world.objects["pools"]["staff"]["document"]["network"] == "10.84.0.0/22"


def test_two_who_change_the_same_lose_nothing(look: Look) -> None:
    visit = look(fake_api.usual())
    page = visit.go("#/config/pools/staff")
    one = visit.world.objects["pools"]["staff"]
    one["document"] = {**one["document"], "reserved": ["10.83.112.1"]}
    one["version"] += 1
    page.get_by_label("Network").fill("10.85.0.0/22")
    page.get_by_role("button", name="Check and save").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Somebody else changed this")
    expect(dialog).to_contain_text("10.83.112.1")
    dialog.get_by_role("button", name="Keep my changes").click()
    expect(page.get_by_label("Network")).to_have_value("10.85.0.0/22")
    expect(page.get_by_label("Never given out")).to_have_value("10.83.112.1")
    page.get_by_role("button", name="Check and save").click()
    page.get_by_role("dialog").get_by_role("button", name="Save").click()
    page.get_by_role("heading", name="Pools", exact=True).wait_for()
    assert one["document"] == {
        "network": "10.85.0.0/22",
        "dns": ["10.1.0.53"],
        "reserved": ["10.83.112.1"],
    }


def test_secrets_that_are_stored_stay_without_being_shown(look: Look) -> None:
    visit = look(fake_api.usual())
    page = visit.go("#/config/connections/staff")
    expect(page.get_by_label("Shared secret")).to_have_value("")
    page.get_by_label("Who may connect").fill("*@example.org")
    page.get_by_role("button", name="Check and save").click()
    page.get_by_role("dialog").get_by_role("button", name="Save").click()
    page.get_by_role("heading", name="Connections", exact=True).wait_for()
    assert visit.world.seen[-1][2] == {"remote_id": "*@example.org"}


def test_entries_of_entries_are_added_by_name(look: Look) -> None:
    visit = look(fake_api.usual())
    page = visit.go("#/config/radius?new=1")
    page.get_by_label("Name *").fill("office")
    page.get_by_label("Name of a new entry of Servers").fill("first")
    page.get_by_role("button", name="Add", exact=True).click()
    page.get_by_label("Address *").fill("10.1.0.10")
    page.get_by_label("Secret", exact=True).fill("s3cret")
    page.get_by_role("button", name="Check and save").click()
    page.get_by_role("dialog").get_by_role("button", name="Save").click()
    page.get_by_role("heading", name="Radius", exact=True).wait_for()
    assert visit.world.seen[-1][2] == {
        "name": "office",
        "document": {"servers": {"first": {"address": "10.1.0.10", "secret": "s3cret"}}},
    }


def test_what_the_file_has_is_not_changed_here(look: Look) -> None:
    page = look(fake_api.usual()).go("#/config/connections/branch")
    expect(page.get_by_text("This comes from gateway.toml")).to_be_visible()
    expect(page.get_by_label("Who may connect")).to_be_disabled()
    assert page.get_by_role("button", name="Delete").count() == 0


def test_a_token_is_shown_once(look: Look) -> None:
    visit = look(fake_api.usual())
    page = visit.go("#/settings/access")
    page.get_by_role("button", name="New token").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name").fill("ansible")
    dialog.get_by_label("Role").select_option("operator")
    dialog.get_by_role("button", name="Make it").click()
    expect(page.get_by_label("Token", exact=True)).to_have_value("gw_" + "S" * 43)
    page.get_by_role("button", name="I have stored it").click()
    expect(page.get_by_role("cell", name="ansible", exact=True)).to_be_visible()
    assert "SSSS" not in page.content()


def test_the_first_run_from_the_code_to_the_first_device(look: Look) -> None:
    visit = look(fake_api.first_run())
    page = visit.go(f"#/setup?code={fake_api.CODE}")
    expect(page.get_by_label("Code")).to_have_value(fake_api.CODE)
    page.get_by_label("Your name").fill("ann")
    page.get_by_label("Password *", exact=True).fill(fake_api.PASSWORD)
    page.get_by_label("Password again").fill("another")
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_text("The two passwords differ.")).to_be_visible()
    page.get_by_label("Password again").fill(fake_api.PASSWORD)
    page.get_by_role("button", name="Continue").click()
    page.get_by_role("heading", name="What devices get").wait_for()
    assert fake_api.CODE not in page.url
    expect(page.get_by_label("Inner addresses")).to_have_value("10.83.112.0/22")
    page.get_by_label("Inner addresses").fill("all of them")
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_text("must be a network")).to_be_visible()
    page.get_by_label("Inner addresses").fill("10.77.0.0/22")
    page.get_by_role("button", name="Continue").click()
    page.get_by_role("heading", name="How devices prove who they are").wait_for()
    page.get_by_role("button", name="Continue").click()
    page.get_by_role("heading", name="All together").wait_for()
    page.get_by_role("button", name="Set it up").click()
    page.get_by_role("heading", name="Your first device").wait_for()
    page.get_by_label("Name of the device").fill("anns-phone")
    page.get_by_role("button", name="Add it").click()
    expect(page.get_by_role("img", name="QR code of the link")).to_be_visible()
    page.get_by_role("button", name="Go to the overview").click()
    page.get_by_role("heading", name="Overview").wait_for()
    sent = {path: body for method, path, body in visit.world.seen if method == "POST"}
    assert sent["/setup/basics"]["pool"] == "10.77.0.0/22"
    assert "dry_run" not in sent["/setup/basics"]
    refused = "Failed to load resource"  # the browser's line for each answer of 400 and above
    assert [one for one in visit.complaints if refused not in one] == []


def test_dark_and_light_by_the_switch_stay(look: Look) -> None:
    visit = look(fake_api.usual(), theme="light")
    page = visit.go("#/")
    page.get_by_role("button", name="Use dark colours").click()
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    page = visit.go("#/devices")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
