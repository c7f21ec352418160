"""Who invents foreign agents on a link fills no log."""

import random
from dataclasses import replace
from ipaddress import IPv4Address

from gateway.domain.event import Event, Severity
from gateway.mip_agents.advertisement import AgentAdvertisement, AgentFlag, RouterAddress
from gateway.mobile_node.agents import AgentListener

PACKETS = 500
FIRST = IPv4Address("203.0.113.1")
PLAIN = AgentAdvertisement(
    1, 600, AgentFlag.FOREIGN_AGENT, (FIRST,), 30, (RouterAddress(FIRST),), (24,)
)


def flood(*, leaving: bool) -> list[Event]:
    listener = AgentListener("eth0", random=random.Random(3).randbytes)
    listener.start(100.0)
    said: list[Event] = []
    for number in range(PACKETS):
        station = number.to_bytes(6)
        for one in (PLAIN, replace(PLAIN, lifetime_s=0)) if leaving else (PLAIN,):
            listener.receive(one.serialize(), FIRST + number % 100, station, 100.0 + number / 100)
        said += [one for one in listener.take_outputs() if isinstance(one, Event)]
    return [one for one in said if one.severity is not Severity.DEBUG]


def test_invented_agents_are_a_few_lines() -> None:
    assert len(flood(leaving=False)) <= 20


def test_agents_that_come_and_go_are_a_few_lines() -> None:
    assert len(flood(leaving=True)) <= 20
