"""Home agent and foreign agent end and start again under a mobile node's traffic."""

from collections.abc import Iterator
from ipaddress import IPv4Address

import pytest
from mobility_bed import I_HA, I_HOA, SERVER, MobilityBed, mobility_bed

from gateway.lab.mobility import plan
from gateway.lab.processes import Process, wait_until

pytestmark = pytest.mark.kernel
# clock: real (packets must have time to be lost)

PLAIN = plan.ACCESSES["plain"]
COUNT = 3000
WAYS = (("keep", False), ("kill", True), ("keep", False))


@pytest.fixture(scope="module")
def bed() -> Iterator[MobilityBed]:
    with mobility_bed() as bed:
        bed.inside_home_agent()
        bed.foreign_agent("ifa")
        yield bed


class Echoes:
    """Numbered echo requests from the device, each of which has to be answered."""

    def __init__(self, bed: MobilityBed, source: IPv4Address) -> None:
        argv = ["ping", "-n", "-i", "0.02", "-c", str(COUNT), "-W", "2", "-I", str(source)]
        bed._number += 1
        self._process: Process = bed.lab.spawn("device", [*argv, str(SERVER)], f"p{bed._number}")
        wait_until(lambda: self.answered() > 10, 20, "the first answers")

    def answered(self) -> int:
        return self._process.output().count("icmp_seq=")

    def goes_on(self) -> None:
        seen = self.answered()
        wait_until(lambda: self.answered() > seen + 20, 20, "more answers")

    def missing(self) -> list[int]:
        """Numbers below the last one that was answered without an answer."""
        self._process.stop()
        lines = self._process.output().splitlines()
        seen = {int(line.split("icmp_seq=")[1].split()[0]) for line in lines if "icmp_seq=" in line}
        return sorted(set(range(1, max(seen) + 1)) - seen)


def test_bindings_of_a_home_agent_go_on(bed: MobilityBed) -> None:
    node = bed.node("i", default_route=False)
    bed.lab.move("plain")
    answer = node.co_located(PLAIN)
    assert answer.accepted
    echoes = Echoes(bed, I_HOA)
    for _, kill in WAYS:
        bed.restart("iha", kill=kill, keep=not kill)
        echoes.goes_on()
    assert echoes.missing() == []
    # A request of before is a replay still (RFC 5944 section 5.7), a new one is welcome.
    assert node.ask(answer.request, I_HA, tries=1).reply.code == 133
    assert node.co_located(PLAIN).accepted
    assert bed.ping("device", SERVER, source=I_HOA)

    def deregistered() -> bool:
        return node.ask(node.request(PLAIN.device.ip, lifetime_s=0), I_HA).accepted

    wait_until(deregistered, 10, "the deregistration")
    bed.drop_nodes()


def test_visitors_of_a_foreign_agent_go_on(bed: MobilityBed) -> None:
    node = bed.node("i", default_route=False)
    bed.lab.enter_link("ifalink")
    assert node.by_agent("ifalink")[0].accepted
    echoes = Echoes(bed, I_HOA)
    for _, kill in WAYS:
        bed.restart("ifa", kill=kill, keep=not kill)
        echoes.goes_on()
        (visitor,) = bed.boxes["ifa"].call("visitors")["items"]
        assert visitor["home_address"] == str(I_HOA)
    assert echoes.missing() == []
    assert node.by_agent("ifalink")[0].accepted
    assert bed.ping("device", SERVER, source=I_HOA)
    # At the end they are told, and nothing is left.
    bed.restart("ifa")
    assert bed.boxes["ifa"].call("visitors")["items"] == []
