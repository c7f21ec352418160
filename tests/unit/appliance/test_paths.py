"""What `mtu` answers, and where path tests come from."""

from ipaddress import IPv4Address, ip_address
from typing import Any

import pytest

from gateway.appliance.observation.device import ChildFacts, Device, SessionFacts
from gateway.appliance.remote_access.device_mtu import mtu_of, outer_ends
from gateway.appliance.remote_access.path_test import Target, _answer, choose_source
from gateway.dataplane.kernel.ways import Way
from gateway.domain.path_search import PathSearch


def device(**changes: Any) -> Device:
    values: dict[str, Any] = {
        "spis": "a_b",
        "id": "a_b",
        "connection": "road",
        "user": "",
        "local": "192.0.2.1:4500",
        "outer": "198.51.100.10:4500",
        "natted": False,
        "inner": ("10.9.0.1",),
        "mobike": True,
        "since_s": 0.0,
    }
    session = SessionFacts(**{**values, **changes})
    udp = bool(changes.get("natted"))
    session.children[1] = ChildFacts(1, 2, "aes_gcm_16_256", udp, False, False, "10.9.0.1/32")
    found = Device(1, "phone", "phone@example.com")
    found.sessions["a_b"] = session
    return found


def test_the_interface_gives_the_path() -> None:
    found = mtu_of(device(), Way("outside", 1500, 0), 1400)
    assert (found["path"], found["path_source"]) == (1500, "interface")
    assert (found["inner"], found["effective"]) == (1446, 1400)
    assert found["steps"][-1]["left"] == found["inner"]
    assert sum(step["octets"] for step in found["steps"]) == 1500 - 1446
    assert found["warnings"] == []


def test_what_icmp_has_said_counts_and_is_explained() -> None:
    found = mtu_of(device(), Way("outside", 1500, 1300), 1400)
    assert (found["path"], found["path_source"]) == (1300, "measured")
    assert found["effective"] == found["inner"] == 1246
    assert found["mss_ipv4"] == 1206
    assert "1300" in found["warnings"][0]
    assert "set mtu = 1246" in found["warnings"][1]


def test_ipv6_inside_of_a_tunnel_that_is_too_narrow_is_pointed_out() -> None:
    found = mtu_of(device(inner=("10.9.0.1", "fd00:9::1")), Way("outside", 1300, 0), 1400)
    assert any("IPv6 needs 1280" in one for one in found["warnings"])
    assert found["mss_ipv6"] == 1220


def test_without_a_route_the_usual_path_is_assumed() -> None:
    found = mtu_of(device(), None, 1400)
    assert (found["path"], found["path_source"]) == (1500, "assumed")
    assert "no route" in found["warnings"][0]


def test_a_device_that_is_not_connected_gets_the_usual_arithmetic() -> None:
    found = mtu_of(Device(1, "phone", "phone@example.com"), None, 1400)
    assert not found["connected"]
    assert found["inner"] == 1438
    assert "not connected" in found["warnings"][0]


@pytest.mark.parametrize(
    ("local", "outer", "ends"),
    [
        ("192.0.2.1:4500", "198.51.100.10:4500", ("192.0.2.1", "198.51.100.10")),
        ("[2001:db8::1]:4500", "[2001:db8::2]:4500", ("2001:db8::1", "2001:db8::2")),
    ],
)
def test_the_ends_of_the_outermost_layer(local: str, outer: str, ends: tuple[str, str]) -> None:
    found = outer_ends(device(local=local, outer=outer))
    assert found == (ip_address(ends[0]), ip_address(ends[1]))
    assert outer_ends(Device(1, "phone", "x")) is None


OWN = [ip_address(one) for one in ("127.0.0.1", "192.0.2.1", "10.1.0.1", "10.2.0.1", "fd00:1::1")]


@pytest.mark.parametrize(
    ("selectors", "address", "source"),
    [
        (["10.1.0.0/24"], "10.9.0.1", "10.1.0.1"),
        (["0.0.0.0/0"], "10.9.0.1", "10.1.0.1"),
        (["10.2.0.0-10.2.0.255[proto 6]"], "10.9.0.1", "10.2.0.1"),
        (["10.1.0.0/24", "fd00:1::/64"], "fd00:9::1", "fd00:1::1"),
        (["10.3.0.0/24"], "10.9.0.1", None),
        (["nonsense", "a-b"], "10.9.0.1", None),
        (["192.0.2.1/32"], "10.9.0.1", "192.0.2.1"),
    ],
)
def test_probes_come_from_where_the_selectors_allow(
    selectors: list[str], address: str, source: str | None
) -> None:
    found = choose_source(OWN, selectors, ip_address(address), "192.0.2.1")
    assert found == (None if source is None else ip_address(source))


def _summary(arrives: int, *, said_by: str = "") -> tuple[bool, str]:
    host = IPv4Address("10.9.0.1")
    target = Target("phone", IPv4Address("10.1.0.1"), host, "gw0", 0, 1400, 1400)
    search = PathSearch(128, 1400, likely=(1400,))
    while sizes := search.next_round():
        for size in sizes:
            if size <= arrives:
                search.arrived(size, 0.01)
            elif said_by:
                search.refused(size, said_by, arrives)
    found = _answer(target, search)
    return found["ok"], found["summary"]


def test_the_summary_says_what_to_do() -> None:
    assert _summary(1400) == (True, "packets of up to 1400 octets arrive, as promised")
    ok, text = _summary(1300)
    assert not ok
    assert "set mtu = 1300" in text
    assert "192.0.2.2 says so by ICMP" in _summary(1300, said_by="192.0.2.2")[1]
    assert "does not answer ping" in _summary(0)[1]
    assert "192.0.2.2 says that all sizes" in _summary(0, said_by="192.0.2.2")[1]
