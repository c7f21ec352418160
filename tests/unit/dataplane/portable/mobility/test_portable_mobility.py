"""Mobility on link pairs: its rules, its tunnel links, and what user space reads from them."""

import socket
import struct
from dataclasses import dataclass, field
from ipaddress import IPv4Address

import pytest

from gateway.dataplane.kernel.mobility import constants, ruleset
from gateway.dataplane.kernel.nfqueue import LOCAL_OUT, POSTROUTING, PREROUTING
from gateway.dataplane.mobility import MobilitySettings
from gateway.dataplane.packet import marks
from gateway.dataplane.portable.mobility import queue as mobility_queue
from gateway.dataplane.portable.mobility.links import tunnel_links
from gateway.dataplane.portable.mobility.queue import BySide, SlowLinks
from gateway.dataplane.portable.mobility.wording import wording
from gateway.dataplane.portable.tunnels.engine import TunnelEngine

SETTINGS = MobilitySettings(outside_interfaces=("eth0",))


@pytest.mark.parametrize("offload", [True, False])
def test_the_rules_of_the_kernel_queue_and_those_of_user_space_log(offload: bool) -> None:
    settings = MobilitySettings(offload=offload)
    queued = ruleset.render(settings)
    logged = ruleset.render(settings, (), wording(settings.queue_number))
    assert "queue num 4758" in queued
    assert "log group" not in queued
    assert "queue num" not in logged
    assert "rt ipsec" not in logged
    assert logged.count("log group 4758") >= queued.count("queue num 4758") - 1
    assert queued.split()[-1] != logged.split()[-1]


def test_what_is_given_back_from_outside_is_still_outside() -> None:
    logged = ruleset.render(SETTINGS, (), wording(SETTINGS.queue_number))
    assert f'elements = {{ "eth0", "{constants.BACK_OUTSIDE}" }}' in logged
    assert constants.BACK_OUTSIDE not in ruleset.render(SETTINGS)


def test_a_forwarder_takes_the_links() -> None:
    engine = TunnelEngine()
    assert [engine.set_tunnel(link) for link in tunnel_links()] == [None] * 5
    protocols, ports = engine.wanted()
    assert protocols == {4, 47}
    assert ports == {constants.FOU_PORT}


class Sent:
    """A packet socket with one packet that waits."""

    def __init__(self, octets: bytes, mark: int) -> None:
        self.octets, self.mark = octets, mark

    def recvmsg(self, *_: int) -> tuple[bytes, list[tuple[int, int, bytes]], int, None]:
        if not self.octets:
            raise BlockingIOError
        octets, self.octets = self.octets, b""
        told = struct.pack("=I", self.mark)
        return octets, [(socket.SOL_SOCKET, 36, told)], 0, None

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("mark", "before"),
    [
        (marks.SLOW, 0),
        (marks.SLOW + 1, marks.SENT + 1),
        (marks.SLOW + marks.MAX_NESTING, marks.SENT + marks.MAX_NESTING),
        (marks.SLOW_REVERSE, marks.REVERSE),
    ],
)
def test_marks_of_what_is_left_to_the_slow_path(mark: int, before: int) -> None:
    links = SlowLinks([])
    packet = b"\x45" + bytes(19)
    links.sockets = [Sent(packet, mark), Sent(b"\x60" + bytes(39), mark)]  # type: ignore[list-item]
    assert links.receive(8) == [(0, POSTROUTING, before, 0, packet)]
    engine = TunnelEngine()
    for link in tunnel_links():
        engine.set_tunnel(link)
    engine.leaving(constants.SEND_IP_IP, [(packet, mark)])
    assert engine.sends == []


@dataclass
class Way:
    given: list[tuple[int, int]] = field(default_factory=list)
    forgotten: int = 0

    def forget(self) -> None:
        self.forgotten += 1

    def give_back(self, hook: int, device: int, _octets: bytes, _mark: int) -> None:
        self.given.append((hook, device))

    def close(self) -> None:
        pass


def test_sides(monkeypatch: pytest.MonkeyPatch) -> None:
    inside, outside = Way(), Way()
    both = BySide(inside, outside, ("eth0",))  # type: ignore[arg-type]
    names = {1: "lo", 2: "eth0", 3: "eth1"}
    monkeypatch.setattr(both, "_name", lambda device: names.get(device, ""))
    for hook, device in ((PREROUTING, 2), (PREROUTING, 3), (PREROUTING, 9), (POSTROUTING, 2)):
        both.give_back(hook, device, b"", 0)
    assert outside.given == [(PREROUTING, 2)]
    assert inside.given == [(PREROUTING, 3), (PREROUTING, 9), (LOCAL_OUT, 2)]
    both.use(("eth1",))
    assert inside.forgotten == outside.forgotten == 1
    both.give_back(PREROUTING, 3, b"", 0)
    assert outside.given[-1] == (PREROUTING, 3)
    both.close()


def test_names_are_asked_for() -> None:
    both = BySide(Way(), Way(), ())  # type: ignore[arg-type]
    assert both._name(1) == "lo"
    assert both._name(999_999) == ""
    both.close()


def test_the_filter_lets_only_marked_packets_through() -> None:
    """What the program says, without a kernel."""

    def passes(mark: int) -> bool:
        load, mask, compare, *_ = mobility_queue._SLOW_ONLY
        assert (load[0], mask[0], compare[0]) == (0x20, 0x54, 0x15)
        return mark & mask[3] == compare[3]

    assert all(passes(marks.SLOW + more) for more in range(16))
    assert not any(passes(mark) for mark in (0, marks.HOME, marks.SENT + 1, marks.REVERSE))


def test_the_dummy_address_is_what_links_send_to() -> None:
    assert {link.remote for link in tunnel_links() if link.sends} == {IPv4Address("192.0.0.8")}
