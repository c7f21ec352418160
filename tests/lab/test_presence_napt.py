"""Appendix A in the real kernel: devices with the same address behind one of the gateway's."""

# planes: kernel portable

from collections.abc import Iterator
from ipaddress import ip_address, ip_network

import pytest
from dataplane_bed import entered, inside
from presence_bed import (
    DEVICES,
    GATEWAY,
    HOST,
    INSIDE,
    INTRANET,
    OTHER_HOST,
    OUTER,
    OWN,
    OWN6,
    SHOWN,
    ZONES,
    Bed,
)

from gateway.dataplane.kernel.presence.dataplane import KernelPresence
from gateway.dataplane.presence import Member, Napt, PresenceSettings, Redirect, Translation
from gateway.lab.kernel import has_esp

pytestmark = pytest.mark.kernel

SETTINGS = PresenceSettings(
    tunnel="gw0",
    outside_interfaces=("out1",),
    forwards_ipv6=True,
    napts=(Napt(any_source=(INSIDE,)),),
    translations=((Translation(INSIDE, SHOWN),),),
    redirects=(
        Redirect(6, None, (8001, 8001), 80),
        Redirect(6, ip_address("10.1.0.50"), (9000, 9009), 80, (ip_network("10.1.0.7/32"),)),
        Redirect(17, None, (7000, 7099), 7000),
    ),
)

SERVER = """
import socket, sys, threading
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind((sys.argv[1], int(sys.argv[2]))); s.listen(); print("ready")
while True:
    c, a = s.accept()
    c.sendall(f"{sys.argv[3]} {a[0]} {a[1]}".encode()); c.close()
"""
CLIENT = """
import json, socket, sys
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind((sys.argv[1], int(sys.argv[4]))); s.settimeout(5)
try:
    s.connect((sys.argv[2], int(sys.argv[3])))
    print(json.dumps(s.recv(99).decode().split()))
except OSError as error:
    print(json.dumps([]))
"""
ANSWERER = """
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind((sys.argv[1], 2049))
t = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); t.bind((sys.argv[2], 2049)); print("ready")
while True:
    data, address = s.recvfrom(99); t.sendto(data + str(address[1]).encode(), address)
"""
ASKER = """
import json, socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind((sys.argv[1], 799)); s.settimeout(5)
found = []
for _ in range(2):
    s.sendto(sys.argv[3].encode(), (sys.argv[2], 2049)); found.append(s.recvfrom(99))
print(json.dumps([[data.decode(), *address] for data, address in found]))
"""


SERVER6, CLIENT6 = (
    one.replace("socket.socket()", "socket.socket(socket.AF_INET6)") for one in (SERVER, CLIENT)
)


@pytest.fixture(scope="module")
def bed() -> Iterator[Bed]:
    with Bed() as made:
        made.start(SETTINGS)
        for name in DEVICES:
            made.connect(name)
        yield made


def test_two_devices_with_one_address_and_port_reach_the_same_server(bed: Bed) -> None:
    bed.serve(INTRANET, SERVER, HOST, 80, "intranet")
    for name in DEVICES:
        assert bed.ping(name)
    found = [bed.ask(name, CLIENT, OWN, HOST, 80, 4444) for name in DEVICES]
    assert [one[:2] for one in found] == [["intranet", "10.1.0.1"]] * 2
    assert found[0][2] == "4444"
    assert found[1][2] != "4444"


def test_packets_at_each_point_are_those_of_figure_a(bed: Bed) -> None:
    with (
        bed.capture(GATEWAY, "a1", "esp", packets=2) as outer,
        bed.capture(INTRANET, "in0", "icmp", packets=2) as inner,
    ):
        assert bed.ping("pre-a", count=1)
    addresses = [line.removeprefix("IP ").split(":")[0] for line in outer]
    assert addresses == [f"{OUTER['pre-a']} > 192.0.2.1", f"192.0.2.1 > {OUTER['pre-a']}"]
    clear = [line.removeprefix("IP ").split(":")[0] for line in inner]
    assert clear == [f"10.1.0.1 > {HOST}", f"{HOST} > 10.1.0.1"]


def test_answers_from_another_address_reach_the_device_that_asked(bed: Bed) -> None:
    bed.serve(INTRANET, ANSWERER, HOST, OTHER_HOST)
    found = [bed.ask(name, ASKER, OWN, HOST, name) for name in DEVICES]
    ports = set()
    for name, answers in zip(DEVICES, found, strict=True):
        for text, address, port in answers:
            assert text.startswith(name)
            ports.add(text.removeprefix(name))
            assert (address, port) == (OTHER_HOST, 2049)
    assert len(ports) == 2
    assert all(int(port) < 1024 for port in ports), "reserved ports stay reserved"


def test_redirects_lead_to_the_device_and_follow_it(bed: Bed) -> None:
    for name in DEVICES:
        bed.serve(name, SERVER, OWN, 80, name)
    assert bed.ask(INTRANET, CLIENT, HOST, "10.1.0.1", 8001, 0) == []
    for name in (*DEVICES, DEVICES[0]):
        bed.lead(0, Member((OWN,), ZONES[name]))
        assert bed.ask(INTRANET, CLIENT, HOST, "10.1.0.1", 8001, 0)[:2] == [name, HOST]
    bed.lead(0, None)
    assert bed.ask(INTRANET, CLIENT, HOST, "10.1.0.1", 8001, 0) == []


def test_a_redirect_of_ports_at_an_address_of_its_own_is_for_its_sources_only(bed: Bed) -> None:
    bed.serve("pre-b", SERVER, OWN, 83, "third")
    bed.lead(1, Member((OWN,), ZONES["pre-b"]))
    assert bed.ask(INTRANET, CLIENT, HOST, "10.1.0.50", 9003, 0)[:2] == ["third", HOST]
    assert bed.ask(INTRANET, CLIENT, OTHER_HOST, "10.1.0.50", 9003, 0) == []
    assert bed.presence is not None
    with entered(GATEWAY):
        use = bed.presence.uses()[1]
    assert use.connections == 1
    assert use.packets > 3
    assert use.octets > 100


def test_a_network_under_other_addresses(bed: Bed) -> None:
    bed.put("pre-b", Member((OWN,), ZONES["pre-b"], translations=0))
    assert bed.ping("pre-b", "10.99.0.7")
    assert not bed.ping("pre-a", "10.99.0.7")
    found = bed.ask("pre-b", CLIENT, OWN, "10.99.0.7", 80, 0)
    assert found[:2] == ["intranet", "10.1.0.1"]
    bed.put("pre-b", Member((OWN,), ZONES["pre-b"]))
    assert not bed.ping("pre-b", "10.99.0.7")


def test_a_session_that_ended_reaches_nobody(bed: Bed) -> None:
    assert bed.ping("pre-a")
    assert bed.presence is not None
    bed.presence.forget(ZONES["pre-a"])
    bed.put("pre-a", None)
    assert not bed.ping("pre-a")
    assert bed.ping("pre-b")
    assert bed.counters()["presence_foreign"] > 0
    bed.put("pre-a", Member((OWN,), ZONES["pre-a"]))
    assert bed.ping("pre-a")


def test_the_next_process_goes_on_with_what_is_there(bed: Bed) -> None:
    assert bed.presence is not None
    bed.put("pre-a", Member((OWN,), ZONES["pre-a"], translations=0))
    before = inside(GATEWAY, "nft", "-a", "list", "table", "inet", "gateway_presence")
    with entered(GATEWAY):
        bed.presence.close(keep=True)
        bed.presence = KernelPresence(SETTINGS)
        bed.presence.open(adopt=True)
        assert bed.ping("pre-a")
        bed.presence.put("pre-a", Member((OWN,), ZONES["pre-a"]))
        bed.presence.put("pre-b", Member((OWN,), ZONES["pre-b"]))
        assert bed.presence.settle() == []
    after = inside(GATEWAY, "nft", "-a", "list", "table", "inet", "gateway_presence")
    assert (
        before.split("chain pre_raw")[1].split()[:4] == after.split("chain pre_raw")[1].split()[:4]
    )
    assert bed.ping("pre-a")
    assert bed.ping("pre-b")
    assert not bed.ping("pre-a", "10.99.0.7")


def test_the_next_process_with_other_rules_lets_nobody_s_address_out(bed: Bed) -> None:
    assert bed.presence is not None
    other = PresenceSettings(tunnel="gw0", napts=(Napt(ports=(30_000, 30_999)),))
    with entered(GATEWAY):
        bed.presence.close(keep=True)
        bed.presence = KernelPresence(other)
        bed.presence.open(adopt=True)
        found = bed.ask("pre-a", CLIENT, OWN, HOST, 80, 0)
        assert found[1] == "10.1.0.1"
        for name in DEVICES:
            bed.presence.put(name, Member((OWN,), ZONES[name]))
        assert bed.presence.settle() == []
    found = bed.ask("pre-a", CLIENT, OWN, HOST, 80, 0)
    assert 30_000 <= int(found[2]) <= 30_999
    with entered(GATEWAY):
        members = {name: Member((OWN,), ZONES[name]) for name in DEVICES}
        bed.presence.reconfigure(SETTINGS, members, (None, None, None))


def test_devices_with_one_ipv6_address(bed: Bed) -> None:
    bed.serve(INTRANET, SERVER6, "fd01::7", 80, "intranet")
    for name in DEVICES:
        bed.connect(name, own=OWN6, spi=0x10, member=Member((OWN, OWN6), ZONES[name]))
        if has_esp():
            inside(name, "ip", "route", "add", "fd01::/64", "dev", "out0", "src", OWN6)
    found = [bed.ask(name, CLIENT6, OWN6, "fd01::7", 80, 4444) for name in DEVICES]
    assert [one[:2] for one in found] == [["intranet", "fd01::1"]] * 2
    assert found[0][2] != found[1][2]
    bed.serve("pre-b", SERVER6, OWN6, 80, "second")
    bed.lead(0, Member((OWN, OWN6), ZONES["pre-b"]))
    assert bed.ask(INTRANET, CLIENT6, "fd01::7", "fd01::1", 8001, 0)[:2] == ["second", "fd01::7"]


def test_other_settings_take_the_place_of_the_rules_with_everybody_in(bed: Bed) -> None:
    assert bed.presence is not None
    ranges = ((ip_address("10.1.0.20"), ip_address("10.1.0.23")),)
    other = PresenceSettings(tunnel="gw0", napts=(Napt(ranges, (20_000, 20_999)),))
    members = {name: Member((OWN,), ZONES[name]) for name in DEVICES}
    with entered(GATEWAY):
        bed.presence.reconfigure(other, members, ())
    found = bed.ask("pre-a", CLIENT, OWN, HOST, 80, 0)
    assert ip_address(found[1]) in [ip_address(f"10.1.0.{last}") for last in range(20, 24)]
    assert 20_000 <= int(found[2]) <= 20_999
    assert bed.ping("pre-b")
    with entered(GATEWAY):
        bed.presence.reconfigure(SETTINGS, members, (None, None, None))
