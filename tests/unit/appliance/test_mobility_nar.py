"""Visitors whose tunnels NAR delivers: which side has a tuple, and what becomes of a refusal."""

from collections.abc import Callable
from ipaddress import IPv4Address
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.appliance.mobility import Mobility
from gateway.appliance.mobility_service import MobilityService, tunnel_tuple
from gateway.dataplane.mobility import MobilityRefusal
from gateway.domain.endpoint import Endpoint, Path
from gateway.domain.event import Event
from gateway.domain.mobility import Encapsulation, Tunnel, Visitor
from gateway.domain.nar import Delivery, NarMapping, NarProtocol, NarTuple
from gateway.mip_agents.outputs import (
    Output,
    RemoveNarMapping,
    RemoveVisitor,
    SetNarMapping,
    SetVisitor,
    Transmit,
)

NB, HA = IPv4Address("203.0.113.1"), IPv4Address("192.0.2.2")
HOME, XA = IPv4Address("192.0.2.100"), IPv4Address("10.50.0.11")
KEY = NarTuple(NarProtocol.IP_IP, NB, int(HOME), HA)
MAPPING = NarMapping("soho", KEY, XA, Delivery.TRANSLATED, peer=HA)
REPLY = Transmit(b"reply", Path(Endpoint(NB, 434), Endpoint(XA, 4000)))


def visitor(encapsulation: Encapsulation = Encapsulation.IP_IP, udp_port: int = 0) -> Visitor:
    return Visitor(HOME, HA, Tunnel(NB, HA, encapsulation, udp_port), "inside", b"\2\0\0\0\0\1")


class Agent:
    def __init__(self) -> None:
        self.policy = SimpleNamespace(name="hall", care_of_address=NB, interface="inside")
        self.outputs: list[Output] = []
        self.refused: list[tuple[Any, ...]] = []
        self.counters: dict[str, int] = {}

    def take_outputs(self) -> list[Output]:
        taken, self.outputs = self.outputs, []
        return taken

    def next_timer(self) -> None:
        return None

    def visitor_refused(self, *what: Any) -> None:
        self.refused.append(what)


class World:
    """Both dataplanes and the sockets: one list shows the order."""

    def __init__(self) -> None:
        self.done: list[tuple[Any, ...]] = []
        self.why: str | None = None

    def set_foreign_mapping(self, mapping: NarMapping) -> str | None:
        self.done.append(("nar", mapping))
        return self.why

    def remove_foreign_mapping(self, key: NarTuple) -> None:
        self.done.append(("nar gone", key))

    def set_visitor(self, one: Visitor) -> None:
        self.done.append(("visitor", one))

    def remove_visitor(self, *key: IPv4Address) -> None:
        self.done.append(("visitor gone", *key))

    def commit(self) -> list[MobilityRefusal]:
        return []

    def send(self, message: bytes, *_: object) -> None:
        self.done.append(("send", message))


class Bed:
    def __init__(self) -> None:
        self.agent, self.world = Agent(), World()
        self.events: list[Event] = []
        self.service = MobilityService(
            (),
            (self.agent,),  # type: ignore[arg-type]
            self.world,  # type: ignore[arg-type]
            sockets=self.world,  # type: ignore[arg-type]
            links={},
            records=self.world,  # type: ignore[arg-type]
            clock=lambda: 5.0,
            call_at=lambda _at, _call: SimpleNamespace(cancel=lambda: None),
            emit=self.events.append,
        )
        self.service.nar = self.world

    def does(self, *outputs: Output) -> list[tuple[Any, ...]]:
        self.agent.outputs = list(outputs)
        self.world.done.clear()
        self.service.flush()
        return self.world.done


@pytest.fixture
def bed() -> Bed:
    return Bed()


def test_nar_delivers_before_the_reply_leaves(bed: Bed) -> None:
    assert bed.does(REPLY, SetNarMapping(MAPPING)) == [("nar", MAPPING), ("send", b"reply")]
    assert bed.does(RemoveNarMapping(KEY)) == [("nar gone", KEY)]
    assert bed.agent.refused == []


def test_what_nar_refuses_is_no_visit(bed: Bed) -> None:
    bed.world.why = "it is leased"
    bed.does(SetNarMapping(MAPPING))
    assert bed.agent.refused == [(HA, HOME, "it is leased", 5.0)]
    assert bed.service.counters["refusals"] == 1


def test_without_a_nar_server(bed: Bed) -> None:
    bed.service.nar = None
    bed.does(SetNarMapping(MAPPING), RemoveNarMapping(KEY))
    ((_, _, why, _),) = bed.agent.refused
    assert why == "no NAR server runs here"


@pytest.mark.parametrize(
    ("one", "key"),
    [
        (visitor(), KEY),
        (visitor(Encapsulation.GRE), NarTuple(NarProtocol.GRE, NB, int(HOME), HA)),
        (visitor(Encapsulation.MINIMAL), None),
        (visitor(udp_port=434), None),
    ],
)
def test_h77_tunnels_of_ordinary_visitors(bed: Bed, one: Visitor, key: NarTuple | None) -> None:
    assert tunnel_tuple(one) == key
    bed.does(SetVisitor(one))
    asked = key or KEY
    assert bed.service.visiting(asked) is (key is not None)
    others = [
        NarTuple(asked.protocol, NB, int(HOME) + 1, HA),
        NarTuple(asked.protocol, NB, int(HOME), IPv4Address("192.0.2.3")),
        NarTuple(asked.protocol, IPv4Address("203.0.113.2"), int(HOME), HA),
        NarTuple(NarProtocol.ESP, NB, int(HOME)),
    ]
    assert not any(map(bed.service.visiting, others))
    bed.does(RemoveVisitor(HA, HOME))
    assert not bed.service.visiting(asked)


def test_h77_another_encapsulation_frees_the_tuple(bed: Bed) -> None:
    bed.does(SetVisitor(visitor()))
    bed.does(SetVisitor(visitor(Encapsulation.MINIMAL)))
    assert not bed.service.visiting(KEY)


def test_h77_two_kinds_of_visits_do_not_mix(bed: Bed) -> None:
    bed.does(SetVisitor(visitor()))
    bed.does(SetNarMapping(MAPPING))
    ((_, _, why, _),) = bed.agent.refused
    assert "another visitor" in why
    # The very node that changes over gives the first up in the same round.
    bed.agent.refused.clear()
    done = bed.does(RemoveVisitor(HA, HOME), SetNarMapping(MAPPING))
    assert done == [("visitor gone", HA, HOME), ("nar", MAPPING)]
    assert bed.agent.refused == []


def test_both_sides_meet() -> None:
    """What core.py joins: each foreign agent, and the NAR servers, ask the other side."""
    asked: dict[str, Callable[[NarTuple], object]] = {}

    def agent_respects(leased: Callable[[NarTuple], object]) -> None:
        asked["agent"] = leased

    def nar_respects(visiting: Callable[[NarTuple], object]) -> None:
        asked["nar"] = visiting

    mobility = Mobility.__new__(Mobility)
    service = SimpleNamespace(nar=None, visiting=lambda _: True)
    mobility.service = service  # type: ignore[assignment]
    mobility.foreign_agents = {"hall": SimpleNamespace(respect=agent_respects)}  # type: ignore[dict-item]
    nar = SimpleNamespace(leased_to=lambda _: "10.50.0.12", respect=nar_respects)
    mobility.meet(nar)  # type: ignore[arg-type]
    assert service.nar is nar
    assert asked["agent"](KEY) == "10.50.0.12"
    assert asked["nar"](KEY) is True
