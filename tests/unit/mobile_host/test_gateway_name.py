"""Where the gateway is, while the switch is closed."""

import asyncio
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import cast

import pytest

from gateway.config.profile import GatewayPart, ProcessPart, Profile
from gateway.domain.event import Event
from gateway.domain.mobility_credential import MobilityCredential, MobilityGrant
from gateway.mobile_host.gateway_name import PAUSE_S, GatewayName
from gateway.mobile_host.leases import Leases
from gateway.mobile_host.portal import PortalProbe
from gateway.mobile_host.terms import Terms
from gateway.mobile_host.unlock import Lock
from gateway.mobile_node.inputs import LinkState

FIRST, SECOND = IPv4Address("192.0.2.1"), IPv4Address("192.0.2.2")
LINKS = [(2, LinkState("eth0", carrier=True)), (3, LinkState("eth1", carrier=True))]


class Bed:
    def __init__(self, root: Path, address: str = "gw.example.com") -> None:
        profile = Profile(profile=ProcessPart(state_dir=root), gateway=GatewayPart(address=address))
        lock = cast("Lock", None)
        self.terms = Terms(profile, lock, lambda: 0.0)
        self.asked: list[str] = []
        self.answers: dict[str, list[IPv4Address]] = {}
        self.events: list[Event] = []
        probe = cast("PortalProbe", self)
        self.name = GatewayName(self.terms, probe, Leases(root), self.events.append)

    async def resolve(
        self, interface: str, name: str, servers: Sequence[IPv4Address]
    ) -> list[IPv4Address] | None:
        self.asked.append(f"{interface} {name}")
        return self.answers.get(interface)

    def ask(self) -> bool:
        return asyncio.run(self.name.ask_on(LINKS))


@pytest.fixture
def bed(tmp_path: Path) -> Bed:
    return Bed(tmp_path)


def test_an_address_is_known_and_never_asked_for(tmp_path: Path) -> None:
    bed = Bed(tmp_path, str(FIRST))
    bed.name.recall()
    assert bed.name.address == FIRST
    bed.name.doubted()
    assert not bed.name.wanted(0.0)


def test_a_name_is_asked_for_on_the_links_and_remembered(bed: Bed, tmp_path: Path) -> None:
    bed.name.recall()
    assert bed.name.address is None
    assert bed.name.wanted(0.0)
    bed.answers["eth1"] = [FIRST]
    assert bed.ask()
    assert bed.asked == ["eth0 gw.example.com", "eth1 gw.example.com"]
    assert bed.terms.gateway == FIRST
    again = Bed(tmp_path)
    again.name.recall()
    assert again.name.address == FIRST
    assert not again.name.wanted(0.0)


def test_nobody_knows(bed: Bed) -> None:
    assert not bed.ask()
    assert bed.name.wanted(0.0)


AGENT = IPv4Address("10.2.0.1")


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "0.0.0.0", "224.0.0.1", "169.254.169.254", "255.255.255.255", str(AGENT)],
)
def test_answers_where_no_gateway_can_be(tmp_path: Path, address: str) -> None:
    bed = Bed(tmp_path)
    grant = MobilityGrant(True, AGENT, IPv4Address("10.2.0.50"), IPv4Network("10.2.0.0/24"))
    bed.terms.credentials = (MobilityCredential(grant, 4711, bytes(32)),)
    bed.answers["eth0"] = [IPv4Address(address)]
    assert not bed.ask()
    assert bed.terms.gateway is None
    bed.answers["eth0"] = [IPv4Address(address), FIRST]
    assert bed.ask()
    assert bed.terms.gateway == FIRST


def test_an_address_where_nobody_answers_is_asked_for_anew_now_and_then(bed: Bed) -> None:
    bed.answers["eth0"] = [FIRST]
    bed.ask()
    assert not bed.name.wanted(100.0)
    bed.name.doubted()
    assert bed.name.wanted(100.0)
    assert not bed.name.wanted(100.0 + PAUSE_S / 2)
    assert bed.name.wanted(100.0 + 2 * PAUSE_S)
    bed.answers["eth0"] = [SECOND]
    assert bed.ask()
    assert bed.terms.gateway == SECOND
    bed.name.confirmed()
    assert not bed.name.wanted(1000.0)


def test_the_known_one_of_several_is_kept(bed: Bed) -> None:
    bed.answers["eth0"] = [FIRST]
    bed.ask()
    bed.answers["eth0"] = [SECOND, FIRST]
    assert not bed.ask()
    assert bed.terms.gateway == FIRST
