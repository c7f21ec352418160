"""What pools say of their leases: what is refused, and what a reload does."""

import pytest
from config_workshop import MINIMAL, Workshop

from gateway.config.difference import difference
from gateway.config.to_policy import pools

ARP = 'advertise = "proxy-arp"\ninside_interface = "eth1"'


def refusals(workshop: Workshop, lines: str, more: str = "") -> list[str]:
    return workshop.complaints(workshop.added("pools.staff", lines) + more)


def test_all_of_it(workshop: Workshop) -> None:
    text = workshop.added(
        "pools.staff",
        'lease_s = 60\nstatic = { ada = "10.83.112.9", "Printer.Example.com" = "10.83.112.10" }\n'
        + ARP,
    )
    pool = pools(workshop.load(text))["staff"]
    assert pool.lease_s == 60.0
    assert str(pool.lease("ada")) == "10.83.112.9"
    assert str(pool.lease("bob", device="Printer.Example.com")) == "10.83.112.10"
    assert (pool.static, pools(workshop.load(MINIMAL))["staff"].lease_s) == (2, 86_400.0)


@pytest.mark.parametrize(
    ("lines", "key", "words"),
    [
        ('static = { ada = "10.9.0.1" }', "static.ada", "not in the pool's network 10.83.112.0/22"),
        ('static = { ada = "10.83.112.0" }', "static.ada", "first or last address"),
        ('static = { a = "10.83.112.9", b = "10.83.112.9" }', "static.b", "is a's already"),
        ('static = { ada = "phone" }', "static.ada", "not an IP address"),
        ('advertise = "proxy-arp"', "inside_interface", "is required"),
        ('inside_interface = "eth1"', "inside_interface", 'only with advertise = "proxy-arp"'),
        (ARP.replace("eth1", "gw0"), "inside_interface", "nobody is behind it"),
        (ARP.replace("eth1", "lo"), "inside_interface", "nobody is behind it"),
        ('advertise = "bgp"', "advertise", "frr"),
        ("lease_s = -1", "lease_s", "0"),
    ],
)
def test_what_is_refused(workshop: Workshop, lines: str, key: str, words: str) -> None:
    found = refusals(workshop, lines)
    assert any(f"pools.staff.{key}" in one and words in one for one in found), found


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ('[dataplane]\noutside_interfaces = ["eth1"]\n', "dataplane.outside_interfaces"),
        (
            '[translations.t]\nnetwork = "10.83.112.0/24"\nshown_as = "10.5.0.0/24"\n',
            "translations.t.network",
        ),
        (
            '[translations.t]\nnetwork = "10.5.0.0/24"\nshown_as = "10.83.112.0/24"\n',
            "translations.t.shown_as",
        ),
        ('[napt.n]\naddresses = ["10.83.112.4-10.83.112.7"]\n', "napt.n.addresses"),
        ('[bridges.b]\ninterface = "br0"\naddress = "10.83.112.1"\n', "bridges.b.address"),
    ],
)
def test_other_tables_have_no_addresses_of_the_pool(
    workshop: Workshop, more: str, words: str
) -> None:
    found = refusals(workshop, ARP, f"\n{more}")
    assert any(one.startswith("pools.staff.") or "pools.staff." in one for one in found)
    assert any(words in one for one in found), found


def test_a_reload_says_what_becomes_of_sessions(workshop: Workshop) -> None:
    before = workshop.load(MINIMAL)
    lines = f'lease_s = 60\nstatic = {{ ada = "10.83.112.9" }}\n{ARP}'
    effects = {
        one.key: one.effect
        for one in difference(before, workshop.load(workshop.added("pools.staff", lines)))
    }
    assert effects["pools.staff.lease_s"].startswith("from now on")
    assert "disconnected" in effects["pools.staff.static"]
    assert not any("DELETE" in one for one in effects.values())
    moved = workshop.load(MINIMAL.replace("10.83.112.0/22", "10.83.116.0/22"))
    assert "DELETE" in next(one.effect for one in difference(before, moved))
