"""The gateway's address is no door: who has it, or seems to, gets only IPsec and IKE."""

import os
from collections.abc import Iterator
from dataclasses import replace

import pytest
from dataplane_bed import entered
from node_kernel_bed import (
    AWAY,
    CARE_OF,
    EXTERNAL_HOME,
    GATEWAY,
    HOME,
    NODE,
    PEERS,
    SETTINGS,
    NodeBed,
    external,
    node_bed,
    stack_cvc,
)

from gateway.dataplane.kernel.node import constants
from gateway.dataplane.kernel.node.node import KernelNode
from gateway.dataplane.node import HELD, LayerStack

pytestmark = pytest.mark.kernel

TEXT = b"plaintext of the user"
PORTS = (53, 434, 443, 500, 4500, 9999)


@pytest.fixture(scope="module")
def namespaces() -> Iterator[NodeBed]:
    with node_bed() as made:
        yield made


@pytest.fixture
def bed(namespaces: NodeBed) -> Iterator[NodeBed]:
    yield namespaces
    namespaces.clean()


def test_a_program_of_the_users_says_nothing_to_the_gateway(bed: NodeBed) -> None:
    capture = bed.capture(NODE, "w0")
    bed.start()
    for stack in (HELD, LayerStack(attachment=AWAY, home_address=HOME)):
        bed.apply(stack)
        for interface in ("", "w0"):
            with bed.udp(interface=interface) as made:
                for port in PORTS:
                    try:
                        made.sendto(TEXT, (str(GATEWAY), port))
                    except OSError:
                        continue
    assert [frame for frame in capture.read() if TEXT in frame] == []


def test_zero_overhead_switches_nothing_but_the_vpn(bed: NodeBed) -> None:
    bed.start()
    bed.vpn(EXTERNAL_HOME)
    bed.apply(stack_cvc(external(zero_overhead=GATEWAY)))
    capture = bed.capture(NODE, "w0")
    for interface in ("", constants.OUTER_IP_IP, "w0"):
        with bed.udp(interface=interface) as made:
            made.bind((str(EXTERNAL_HOME), 0))
            for port in PORTS:
                try:
                    made.sendto(TEXT, (str(GATEWAY), port))
                except OSError:
                    continue
    assert [frame for frame in capture.read() if TEXT in frame] == []


def test_what_seems_to_be_the_gateway_reaches_no_service(bed: NodeBed) -> None:
    bed.start()
    bed.apply(LayerStack(attachment=AWAY, home_address=HOME))
    with bed.udp(NODE) as service, bed.udp(PEERS) as forger, bed.udp(NODE) as ike:
        service.bind(("0.0.0.0", 5353))
        ike.bind(("0.0.0.0", 4500))
        forger.bind((str(GATEWAY), 4500))
        forger.sendto(b"who is there", (str(CARE_OF), 5353))
        forger.sendto(b"from the gateway", (str(CARE_OF), 4500))
        assert ike.recv(100) == b"from the gateway"
        service.setblocking(False)
        with pytest.raises(BlockingIOError):
            service.recv(100)


def test_a_second_node_changes_nothing_of_the_first(bed: NodeBed) -> None:
    bed.start()
    bed.apply(LayerStack(attachment=AWAY, home_address=HOME))
    second = KernelNode(replace(SETTINGS, peers=replace(SETTINGS.peers, gateways=())))
    # The device is taken by a process, so the second node is one.
    child = os.fork()
    if child == 0:
        code = 1
        try:
            with entered(NODE):
                try:
                    second.open()
                except OSError as error:
                    code = 0 if "mn0 is in use" in str(error) else 2
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    with bed.udp(mark=constants.NODE_VPN) as ike, bed.udp(PEERS) as gateway:
        gateway.bind((str(GATEWAY), 500))
        ike.bind((str(CARE_OF), 500))
        ike.sendto(b"IKE", (str(GATEWAY), 500))
        assert gateway.recv(100) == b"IKE"
