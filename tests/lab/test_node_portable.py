"""A mobile node whose packets the forwarder carries: what it can besides, and when it dies."""

# planes: portable

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from dataplane_bed import entered
from node_kernel_bed import (
    CARE_OF,
    EXTERNAL_AGENT,
    EXTERNAL_HOME,
    GATEWAY,
    HOME,
    HOST,
    INTERNAL_AGENT,
    NODE,
    STRANGER,
    VPN_INNER,
    NodeBed,
    external,
    internal,
    node_bed,
    stack_c,
    stack_cvc,
    stack_vc,
)

from gateway.dataplane.kernel.node import constants
from gateway.domain.mobility import Encapsulation
from gateway.lab import planes
from gateway.lab.mobility.wires import read
from gateway.lab.processes import wait_until

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(not planes.portable(), reason="of the portable dataplane"),
]
SECRET = b"what the user says"


@pytest.fixture(scope="module")
def namespaces() -> Iterator[NodeBed]:
    # No kernel has minimal encapsulation.
    with node_bed(user_peers=True) as made:
        yield made


@pytest.fixture
def bed(namespaces: NodeBed) -> Iterator[NodeBed]:
    yield namespaces
    namespaces.clean()


def processes(name: str) -> list[int]:
    """Of the forwarder whose sockets are in a network namespace."""
    inode = Path(f"/run/netns/{name}").stat().st_ino
    found = []
    for one in Path("/proc").glob("[0-9]*"):
        try:
            words = (one / "cmdline").read_bytes()
            there = (one / "ns/net").stat().st_ino
        except OSError:
            continue
        if there == inode and b"portable.worker" in words:
            found.append(int(one.name))
    return found


def end_forwarder(name: str) -> None:
    for process in processes(name):
        os.kill(process, signal.SIGKILL)
    wait_until(lambda: not processes(name), 5, "the end of the forwarder")


def say_everything(bed: NodeBed) -> None:
    """To everybody, by every way that the stack has."""
    for target in (HOST, STRANGER, INTERNAL_AGENT, EXTERNAL_AGENT, GATEWAY):
        for interface in ("", "w0", "mn-vpn", "mn-i-ipip", "mn-x-ipip"):
            for source in (None, HOME, CARE_OF, EXTERNAL_HOME, VPN_INNER):
                with bed.udp() as made:
                    try:
                        if interface:
                            made.setsockopt(1, 25, interface.encode())
                        if source is not None:
                            made.bind((str(source), 0))
                        made.sendto(SECRET, (str(target), 9))
                    except OSError:
                        continue


def test_minimal_encapsulation_at_both_layers(bed: NodeBed) -> None:
    bed.start()
    bed.vpn(EXTERNAL_HOME)
    minimal = Encapsulation.MINIMAL
    bed.agent_end("xt", EXTERNAL_AGENT, CARE_OF, EXTERNAL_HOME, minimal)
    bed.agent_end("it", INTERNAL_AGENT, VPN_INNER, HOME, minimal)
    bed.apply(stack_cvc(external(encapsulation=minimal), internal(encapsulation=minimal)))
    capture = bed.capture(NODE, "w0")
    assert bed.ping(HOST), bed.counters()
    packets = [packet.octets for packet in capture.packets()]
    assert {octets[9] for octets in packets} == {55}
    assert {octets[20] for octets in packets} == {50}, "it carries ESP, and says so"


def test_a_device_changes_its_encapsulation_in_place(bed: NodeBed) -> None:
    bed.start()
    bed.permit("w0")
    bed.agent_end("it", INTERNAL_AGENT, CARE_OF, HOME)
    bed.apply(stack_c())
    assert bed.ping(HOST)
    bed.agent_end("it", INTERNAL_AGENT, CARE_OF, HOME, Encapsulation.MINIMAL)
    bed.apply(stack_c(encapsulation=Encapsulation.MINIMAL))
    assert bed.ping(HOST)


def test_without_the_forwarder_nothing_leaves_and_with_the_next_one_all_goes_on(
    bed: NodeBed,
) -> None:
    bed.start()
    bed.vpn(EXTERNAL_HOME)
    bed.agent_end("xt", EXTERNAL_AGENT, CARE_OF, EXTERNAL_HOME)
    bed.agent_end("it", INTERNAL_AGENT, VPN_INNER, HOME)
    bed.apply(stack_cvc())
    assert bed.ping(HOST)
    end_forwarder(NODE)
    capture = bed.capture(NODE, "w0")
    say_everything(bed)
    assert not bed.ping(HOST)
    assert [frame for frame in capture.read() if SECRET in frame] == []
    assert [read(p.octets).shape for p in capture.packets() if p.octets[9] in {4, 47, 50, 55}] == []
    with entered(NODE):
        planes.plane(constants.XFRM_INTERFACE).look_after()
    bed.vpn(EXTERNAL_HOME)
    assert bed.ping(HOST), "its links were told again"


def test_nothing_leaves_in_the_clear_when_the_forwarder_dies_under_load(bed: NodeBed) -> None:
    bed.start()
    bed.vpn(CARE_OF)
    bed.agent_end("it", INTERNAL_AGENT, VPN_INNER, HOME)
    bed.apply(stack_vc())
    assert bed.ping(HOST)
    capture = bed.capture(NODE, "w0")
    with bed.udp() as made:
        for number in range(2000):
            made.sendto(SECRET * 10, (str(HOST), 9))
            if number == 1000:
                for process in processes(NODE):
                    os.kill(process, signal.SIGKILL)
    assert [frame for frame in capture.read() if SECRET in frame] == []
