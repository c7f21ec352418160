"""A node's tunnel devices become links of the forwarder, made once and changed in place."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address

import pytest

from gateway.dataplane.interface import Refusal
from gateway.dataplane.kernel.node import constants, tunnels
from gateway.dataplane.kernel.node.tunnel_devices import NoSuchTunnelError
from gateway.dataplane.node import NodeTunnel
from gateway.dataplane.portable.forwarder import ForwarderUnavailableError, RefusedTunnel
from gateway.dataplane.portable.node import tunnels as portable
from gateway.dataplane.portable.node.tunnels import PortableTunnels, link_of
from gateway.dataplane.portable.tunnel_link import TunnelKind, TunnelLink
from gateway.domain.mobility import Encapsulation

LAYER = NodeTunnel(
    IPv4Address("203.0.113.5"), IPv4Address("198.51.100.2"), IPv4Address("192.0.2.10"), True
)


def device(**changes: object) -> tunnels.TunnelDevice:
    return tunnels.device(replace(LAYER, **changes), inner=False, link=3)  # type: ignore[arg-type]


@dataclass
class FakeForwarder:
    """Serves what it is told when it is committed, refuses what it is told to refuse."""

    served: dict[str, TunnelLink] = field(default_factory=dict)
    refuses: str = ""
    gone: bool = False
    closed: list[bool] = field(default_factory=list)
    queue: list[Callable[[], object]] = field(default_factory=list)

    def set_tunnel(self, link: TunnelLink) -> None:
        self.queue.append(lambda: self.served.__setitem__(link.name, link))

    def remove_tunnel(self, name: str) -> None:
        self.queue.append(lambda: self.served.pop(name, None))

    def tunnels(self) -> Sequence[TunnelLink]:
        return list(self.served.values())

    def commit(self) -> tuple[list[Refusal], list[RefusedTunnel]]:
        if self.gone:
            raise ForwarderUnavailableError("the forwarder has ended")
        queue, self.queue = self.queue, []
        if self.refuses and queue:
            return [], [RefusedTunnel("mn-x-ipip", self.refuses)]
        for work in queue:
            work()
        return [], []

    def close(self, *, keep: bool) -> None:
        self.closed.append(keep)


@dataclass
class FakeKernel:
    """The pairs of devices, and what is asked of rtnetlink."""

    made: dict[str, int] = field(default_factory=dict)
    groups: set[int] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)

    def make_pair(self, name: str, mtu: int, group: int = 0) -> int:
        self.made[name] = mtu
        self.groups.add(group)
        return 7

    def check(self, what: str, requests: Sequence[bytes], *ignore: int) -> None:
        self.asked.append(what)

    def close(self) -> None:
        self.asked.append("close")


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> FakeKernel:
    fake = FakeKernel()
    monkeypatch.setattr(portable.links, "make_pair", fake.make_pair)
    monkeypatch.setattr(portable, "NetlinkSocket", lambda family: fake)
    return fake


def opened(forwarder: FakeForwarder) -> PortableTunnels:
    made = PortableTunnels(lambda: forwarder)  # type: ignore[arg-type, return-value]
    made.open()
    return made


@pytest.mark.parametrize(
    ("changes", "kind", "name"),
    [
        ({}, TunnelKind.IP_IP, constants.OUTER_IP_IP),
        ({"encapsulation": Encapsulation.MINIMAL}, TunnelKind.MINIMAL, constants.OUTER_IP_IP),
        ({"encapsulation": Encapsulation.GRE}, TunnelKind.GRE, constants.OUTER_GRE),
        ({"udp_port": 2434}, TunnelKind.GRE_UDP, constants.OUTER_GRE),
    ],
)
def test_each_encapsulation_has_its_link(
    changes: dict[str, object], kind: TunnelKind, name: str
) -> None:
    link = link_of(device(**changes))
    assert (link.name, link.kind) == (name, kind)
    assert (link.local, link.remote) == (LAYER.care_of_address, LAYER.home_agent)
    assert (link.mark, link.below) == (constants.NODE_LINK, 3)
    ports = (434, 2434) if "udp_port" in changes else (0, 0)
    assert (link.local_port, link.remote_port) == ports


def test_what_rfc_3519_has_besides_ip_in_ip_is_refused(kernel: FakeKernel) -> None:
    made = opened(FakeForwarder())
    with pytest.raises(NoSuchTunnelError, match="gre in UDP"):
        made.check(device(udp_port=434, encapsulation=Encapsulation.GRE))
    made.check(device(encapsulation=Encapsulation.MINIMAL))


def test_a_device_is_made_once_and_changed_in_place(kernel: FakeKernel) -> None:
    forwarder = FakeForwarder()
    made = opened(forwarder)
    made.make(device())
    assert kernel.made == {"mn-x-ipip": 1400}
    assert kernel.groups == {constants.DEVICE_GROUP}
    moved = IPv4Address("192.0.2.99")
    made.change(device(care_of_address=moved, max_packet_octets=1380), 7)
    assert kernel.made == {"mn-x-ipip": 1400}, "no second one"
    assert kernel.asked == ["mn-x-ipip"], "its MTU"
    assert forwarder.served["mn-x-ipip"].local == moved
    made.delete("mn-x-ipip", 7)
    assert forwarder.served == {}
    assert kernel.asked == ["mn-x-ipip"] * 2


def test_a_device_that_is_gone_is_only_forgotten(kernel: FakeKernel) -> None:
    made = opened(FakeForwarder())
    made.delete("mn-x-ipip", 0)
    assert kernel.asked == []


def test_links_of_an_earlier_node_are_served_no_more_but_those_of_others_are(
    kernel: FakeKernel,
) -> None:
    other = TunnelLink("mob-ipip", TunnelKind.IP_IP)
    forwarder = FakeForwarder({"mob-ipip": other, "mn-x-ipip": link_of(device())})
    opened(forwarder)
    assert set(forwarder.served) == {"mob-ipip"}


def test_what_is_refused_and_a_forwarder_that_is_gone_are_errors_with_reasons(
    kernel: FakeKernel,
) -> None:
    forwarder = FakeForwarder()
    made = opened(forwarder)
    forwarder.refuses = "no raw socket"
    with pytest.raises(OSError, match="mn-x-ipip: no raw socket"):
        made.make(device())
    forwarder.refuses, forwarder.gone = "", True
    with pytest.raises(OSError, match="has ended"):
        made.make(device())


def test_closing_gives_the_forwarder_up_also_when_it_is_gone(kernel: FakeKernel) -> None:
    forwarder = FakeForwarder()
    made = opened(forwarder)
    made.make(device())
    forwarder.gone = True
    made.close()
    assert forwarder.closed == [False]
    assert kernel.asked[-1] == "close"
