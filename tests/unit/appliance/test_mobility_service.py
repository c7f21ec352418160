"""Which agent gets which datagram, and in what order its outputs are carried out."""

import socket
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv4Network
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.appliance.link_socket import FromLink
from gateway.appliance.mobility_service import MobilityService
from gateway.dataplane.mobility import MobilityRefusal
from gateway.domain.endpoint import Endpoint, Path
from gateway.domain.event import Event
from gateway.domain.mobility import HomeNetwork, MobilityBinding, Tunnel, Visitor
from gateway.mip_agents.outputs import (
    Forget,
    Keep,
    Link,
    RemoveBinding,
    RemoveVisitor,
    SetBinding,
    SetVisitor,
    Transmit,
    TransmitAdvertisement,
)

HA = IPv4Address("10.1.0.1")
COA = IPv4Address("10.3.0.1")
HOME = IPv4Address("10.60.0.5")
NODE = IPv4Address("198.51.100.9")
NETWORK = HomeNetwork("staff", IPv4Network("10.60.0.0/24"), "home0")
LO = socket.if_nametoindex("lo")
BINDING = MobilityBinding(
    home_agent=HA,
    home_address=HOME,
    home_network=NETWORK,
    tunnels=(Tunnel(HA, NODE),),
    co_located=True,
    reverse=True,
    broadcasts=False,
    max_packet_octets=1400,
)
VISITOR = Visitor(HOME, HA, Tunnel(COA, HA), "eth2", b"\2\0\0\0\0\1")


def path(local: str | IPv4Address, remote: str | IPv4Address = NODE) -> Path:
    return Path(Endpoint(IPv4Address(local), 434), Endpoint(IPv4Address(remote), 1434))


class FakeAgent:
    def __init__(self, **policy: object) -> None:
        self.policy = SimpleNamespace(**policy)
        self.calls: list[tuple[Any, ...]] = []
        self.outputs: list[Any] = []
        self.timer: float | None = None
        self.counters: dict[str, int] = {}

    def receive(
        self, message: bytes, path: Path, now: float, link: Link | None = None, **known: int
    ) -> None:
        self.calls.append(("receive", message, path, link, *known.values()))

    def solicited(self, message: bytes, source: IPv4Address, link: Link, now: float) -> None:
        self.calls.append(("solicited", message, source, link))

    def binding_refused(self, home_address: IPv4Address, reason: str, now: float) -> None:
        self.calls.append(("refused", home_address, reason))

    def visitor_refused(
        self, home_agent: IPv4Address, home_address: IPv4Address, reason: str, now: float
    ) -> None:
        self.calls.append(("visitor_refused", home_agent, home_address, reason))

    def handle_timer(self, now: float) -> None:
        self.calls.append(("timer", now))
        self.timer = None

    def next_timer(self) -> float | None:
        return self.timer

    def take_outputs(self) -> list[Any]:
        taken, self.outputs = self.outputs, []
        return taken

    def close(self, now: float) -> None:
        self.calls.append(("close",))


class World:
    """Dataplane, sockets and store at once: one list shows the order of everything."""

    def __init__(self) -> None:
        self.done: list[tuple[Any, ...]] = []
        self.refusals: list[MobilityRefusal] = []
        self.fail: OSError | None = None
        self.from_link: list[FromLink] = []
        self.own: IPv4Address | None = IPv4Address("10.4.0.1")

    def __getattr__(self, name: str) -> Callable[..., None]:
        if name.startswith("_"):
            raise AttributeError(name)

        def record(*values: object) -> None:
            self.done.append((name, *values))

        return record

    def commit(self) -> list[MobilityRefusal]:
        self.done.append(("commit",))
        refused, self.refusals = self.refusals, []
        return refused

    def send(self, *values: object) -> OSError | None:
        self.done.append(("send", *values))
        return self.fail

    def advertise(self, *values: object) -> OSError | None:
        self.done.append(("advertise", *values))
        return self.fail

    def read(self, _count: object) -> Iterator[FromLink]:
        yield from self.from_link

    def address(self) -> IPv4Address | None:
        return self.own


class Bed:
    def __init__(self) -> None:
        self.home = FakeAgent(name="inner", address=HA, networks=(NETWORK,))
        self.lan = FakeAgent(name="lan", care_of_address=COA, interface="eth2", through_vpn=False)
        self.vpn = FakeAgent(
            name="vpn", care_of_address=IPv4Address("10.1.0.9"), interface="lo", through_vpn=True
        )
        self.world = World()
        self.events: list[Event] = []
        self.now = 5.0
        self.alarms: list[tuple[float, Callable[[], None]]] = []
        self.service = MobilityService(
            (self.home,),  # type: ignore[arg-type]
            (self.lan, self.vpn),  # type: ignore[arg-type]
            self.world,  # type: ignore[arg-type]
            sockets=self.world,  # type: ignore[arg-type]
            links={"eth2": self.world},  # type: ignore[dict-item]
            records=self.world,  # type: ignore[arg-type]
            clock=lambda: self.now,
            call_at=self.call_at,
            emit=self.events.append,
        )

    def call_at(self, at: float, call: Callable[[], None]) -> Any:
        entry = (at, call)
        self.alarms.append(entry)
        return SimpleNamespace(cancel=lambda: self.alarms.remove(entry))


@pytest.fixture
def bed() -> Bed:
    return Bed()


def test_datagrams_go_to_the_agent_they_were_sent_to(bed: Bed) -> None:
    bed.service.receive(
        [
            (b"\1home", path(HA), LO),
            (b"\3reply", path(COA, HA), LO),
            (b"\1vpn", path("10.1.0.9", HOME), LO),
            (b"\1everybody", path("10.60.0.255"), LO),
            (b"\1nobody", path("192.0.2.200"), LO),
        ]
    )
    heard = [(one, call[1]) for one in (bed.home, bed.lan, bed.vpn) for call in one.calls]
    assert heard == [
        (bed.home, b"\1home"),
        (bed.home, b"\1everybody"),
        (bed.lan, b"\3reply"),
        (bed.vpn, b"\1vpn"),
    ]
    assert bed.vpn.calls[0][3] == Link("lo")
    assert bed.service.counters["not_for_us"] == 1


def test_a_request_on_a_visited_link_comes_once_with_its_link_address(bed: Bed) -> None:
    bed.service._interfaces[7] = Link("eth2")
    bed.service.receive([(b"\1request", path(COA, HOME), 7), (b"\3reply", path(COA, HA), 7)])
    assert [call[1] for call in bed.lan.calls] == [b"\3reply"]
    mac = b"\2\0\0\0\0\1"
    bed.world.from_link = [
        FromLink(mac, path("10.4.0.1", HOME), message=b"\1to our address", ttl=255),
        FromLink(mac, path("224.0.0.11", HOME), message=b"\1to all agents"),
        FromLink(mac, path("203.0.113.5", HOME), message=b"\1passing through"),
        FromLink(mac, path(COA, HOME), message=b"\3forged reply"),
        FromLink(mac, path("224.0.0.2", HOME), solicitation=b"\x0a"),
    ]
    bed.lan.calls.clear()
    bed.service.link_readable("eth2")
    assert bed.lan.calls == [
        ("receive", b"\1to our address", path("10.4.0.1", HOME), Link("eth2", mac), 255),
        ("receive", b"\1to all agents", path("10.4.0.1", HOME), Link("eth2", mac), 0),
        ("solicited", b"\x0a", HOME, Link("eth2", mac)),
    ]


def test_a_home_agent_is_asked_directly_from_a_visited_link_too(bed: Bed) -> None:
    bed.service._interfaces[7] = Link("eth2")
    bed.service.receive([(b"\1request", path(HA), 7)])
    assert len(bed.home.calls) == 1


def test_the_dataplane_is_ready_before_the_reply_leaves(bed: Bed) -> None:
    reply = Transmit(b"reply", path(HA))
    told = Event("registered", "text")
    bed.home.outputs = [reply, told, Keep("k", b"r"), SetBinding(BINDING)]
    bed.service.flush()
    assert bed.world.done == [
        ("keep", "binding:inner", "k", b"r"),
        ("set_binding", BINDING),
        ("commit",),
        ("send", b"reply", path(HA)),
    ]
    assert bed.events == [told]


def test_every_output_reaches_its_verb(bed: Bed) -> None:
    bed.home.outputs = [RemoveBinding(HA, HOME), Forget("k")]
    bed.lan.outputs = [SetVisitor(VISITOR), RemoveVisitor(HA, HOME)]
    bed.service.flush()
    assert bed.world.done == [
        ("remove_binding", HA, HOME),
        ("forget", "binding:inner", "k"),
        ("set_visitor", VISITOR),
        ("remove_visitor", HA, HOME),
        ("commit",),
    ]


def test_renewals_alone_commit_nothing(bed: Bed) -> None:
    bed.home.outputs = [Keep("k", b"r"), Transmit(b"reply", path(HA))]
    bed.service.flush()
    assert ("commit",) not in bed.world.done


def test_refusals_go_back_to_the_agent(bed: Bed) -> None:
    bed.world.refusals = [MobilityRefusal(HA, HOME, "no room")]
    bed.home.outputs = [SetBinding(BINDING)]
    bed.service.flush()
    assert bed.home.calls == [("refused", HOME, "no room")]
    assert bed.lan.calls == [("visitor_refused", HA, HOME, "no room")]


def test_replies_and_advertisements_leave_by_their_link(bed: Bed) -> None:
    mac = b"\2\0\0\0\0\1"
    bed.lan.outputs = [
        Transmit(b"reply", path(COA, HOME), Link("eth2", mac)),
        TransmitAdvertisement(b"all", Link("eth2")),
        TransmitAdvertisement(b"one", Link("eth2", mac), HOME),
    ]
    bed.vpn.outputs = [
        Transmit(b"through", path("10.1.0.9", HOME), Link("lo")),
        TransmitAdvertisement(b"nobody hears it", Link("lo")),
    ]
    bed.service.flush()
    own = bed.world.own
    assert bed.world.done == [
        ("send", b"reply", path(COA, HOME), mac),
        ("advertise", b"all", own, IPv4Address("224.0.0.1"), b""),
        ("advertise", b"one", own, HOME, mac),
        ("send", b"through", path("10.1.0.9", HOME), LO),
    ]


def test_what_cannot_be_sent_is_one_event(bed: Bed) -> None:
    bed.world.fail = OSError(101, "Network is unreachable")
    bed.home.outputs = [Transmit(b"reply", path(HA))]
    bed.lan.outputs = [TransmitAdvertisement(b"all", Link("eth2"))]
    bed.service.flush()
    assert [one.name for one in bed.events] == ["send_failed", "send_failed"]
    assert "198.51.100.9:1434: Network is unreachable" in bed.events[0].text
    assert bed.service.counters["sends_refused"] == 2


def test_an_interface_without_address_says_so(bed: Bed) -> None:
    bed.world.own = None
    bed.lan.outputs = [TransmitAdvertisement(b"all", Link("eth2"))]
    bed.service.flush()
    assert "eth2 has no IPv4 address" in bed.events[0].text


def test_one_timer_serves_all_agents(bed: Bed) -> None:
    bed.home.timer, bed.lan.timer = 9.0, 7.0
    bed.service.flush()
    [(at, call)] = bed.alarms
    assert at == 7.0
    bed.alarms.clear()
    bed.now = 7.0
    call()
    assert ("timer", 7.0) in bed.home.calls
    assert ("timer", 7.0) in bed.lan.calls
    bed.home.timer = 8.0
    bed.service.flush()
    assert bed.alarms[-1][0] == 8.0
    bed.service.stop()
    assert not bed.alarms
