"""On a link that is not proven no address is a door: not the gateway's, not a direct network's."""

import os
import socket
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Network

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
    STRANGER,
    NodeBed,
    external,
    node_bed,
    stack_cvc,
    stack_vc,
)

from gateway.dataplane.kernel.node import constants
from gateway.dataplane.node import HELD, LayerStack
from gateway.lab import planes

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


def test_what_is_opened_inside_is_not_open_to_a_direct_network(bed: NodeBed) -> None:
    everywhere = IPv4Network("0.0.0.0/0")
    bed.start(replace(SETTINGS, accept_inside=(("udp", 5353, everywhere), ("tcp", 22, everywhere))))
    bed.vpn(CARE_OF)
    bed.apply(replace(stack_vc(), direct_networks=(IPv4Network(f"{STRANGER}/32"),)))
    assert bed.ping(STRANGER)
    with bed.udp(NODE) as service, bed.udp(PEERS) as stranger, bed.udp(PEERS) as curious:
        service.bind(("0.0.0.0", 5353))
        stranger.bind((str(STRANGER), 4000))
        curious.bind((str(STRANGER), 4001))
        curious.sendto(b"who is there", (str(CARE_OF), 5353))
        service.sendto(b"a question", (str(STRANGER), 4000))
        question, back = stranger.recvfrom(100)
        assert question == b"a question"
        stranger.sendto(b"an answer", back)
        assert service.recv(100) == b"an answer"
    with entered(NODE):
        server = socket.create_server(("0.0.0.0", 22))
    with entered(PEERS):
        client = socket.socket()
    client.settimeout(0.5)
    client.bind((str(STRANGER), 0))
    with server, client, pytest.raises(TimeoutError):
        client.connect((str(CARE_OF), 22))


def test_a_second_node_changes_nothing_of_the_first(bed: NodeBed) -> None:
    bed.start()
    bed.apply(LayerStack(attachment=AWAY, home_address=HOME))
    second = planes.node(replace(SETTINGS, peers=replace(SETTINGS.peers, gateways=())))
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
