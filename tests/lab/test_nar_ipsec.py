"""Two clients behind one address, each with IPsec to the same host outside, at the same time.

Stock strongSwan on both sides (draft 004, section 2.6.2). IKE leaves from a leased port, the SPIs
are leased ones; ESP and AH travel as they are, in tunnel and in transport mode.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from nar_bed import NarBed, Session, nar_bed

from gateway.lab.capture import Capture
from gateway.lab.inject import ip_packets
from gateway.lab.nar import ipsec, plan, roles, wires
from gateway.lab.nar.instrument import AH, ESP, ICMP, UDP
from gateway.lab.nar.programs import connected, datagram_socket, exchange
from gateway.lab.processes import wait_until
from gateway.lab.strongswan import StrongSwan

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.kernel_peer("strongSwan has plain ESP and AH by the kernel only"),
]

FIRST_SPI = {"x1": 0x4100_0000, "x2": 0x4200_0000}
CASES = [
    pytest.param((2, ESP, "ip-ip"), id="ikev2-esp-over-ip-ip"),
    pytest.param((1, ESP, "l2tp"), id="ikev1-esp-over-l2tp"),
    pytest.param((2, AH, "gre"), id="ikev2-ah-over-gre"),
    pytest.param((1, AH, "ip-ip"), id="ikev1-ah-over-ip-ip"),
]
TUNNEL = {ESP: "net", AH: "ahnet"}
TRANSPORT = {ESP: "host", AH: "ahhost"}
BEHIND = {ESP: ipsec.BEHIND_Y[1], AH: ipsec.BEHIND_Y_BY_AH[1]}
FRAGMENTATION_NEEDED = b"\x03\x04"
"""ICMP type and code."""
PORT = {ESP: ipsec.ESP_PORT, AH: ipsec.AH_PORT}


@dataclass
class Client:
    """One client with its charon."""

    session: Session
    lease: ipsec.IkeLease
    swan: StrongSwan

    def spi(self, name: str) -> int:
        """What its newest CHILD_SA of that name receives with; 0 while there is none."""
        sas = self.swan.list_sas()
        children = [one for sa in sas for one in sa.children if one.name == name]
        return next((one.spi_in for one in reversed(children) if one.state == "INSTALLED"), 0)

    def received_by(self, spi: int) -> int:
        """Packets that came in by it."""
        children = [one for sa in self.swan.list_sas() for one in sa.children]
        return sum(one.packets_in for one in children if one.spi_in == spi)


@dataclass
class Tunnels:
    """Both clients, connected in the same way."""

    bed: NarBed
    version: int
    protocol: int
    clients: dict[str, Client]
    seen_by_y: Capture
    seen_by: dict[str, Capture]

    def page(self, host: str) -> None:
        """A TCP connection through the tunnel, from the client's own address."""
        server = ("y", BEHIND[self.protocol], 9000)
        own = plan.ADDRESSES[host]
        with connected(self.bed.lab, (host, own, 0), server) as (near, far, seen):
            assert seen[0] == str(own)
            exchange(near, far, 40_000)

    def datagrams(self, host: str) -> None:
        """UDP in transport mode: y speaks with the shared address."""
        port, own = PORT[self.protocol], ipsec.client_port(host)
        with (
            datagram_socket(self.bed.lab, host, plan.NB, own) as near,
            datagram_socket(self.bed.lab, "y", plan.Y, port) as far,
        ):
            near.sendto(b"question", (str(plan.Y), port))
            assert far.recvfrom(100) == (b"question", (str(plan.NB), own))
            far.sendto(b"answer", (str(plan.NB), own))
            assert near.recvfrom(100) == (b"answer", (str(plan.Y), port))


@pytest.fixture(scope="module")
def bed() -> Iterator[NarBed]:
    with nar_bed() as bed:
        bed.start(roles.soho)
        yield bed


@pytest.fixture(scope="module")
def y(bed: NarBed) -> Iterator[StrongSwan]:
    swan = ipsec.start_server(bed.lab)
    yield swan
    print(f"--- charon on y\n{swan.log()[-5000:]}")
    swan.stop()


@pytest.fixture(scope="module", params=CASES)
def tunnels(request: pytest.FixtureRequest, bed: NarBed, y: StrongSwan) -> Iterator[Tunnels]:
    version, protocol, delivery = request.param
    seen_by_y = bed.record("y", "uplink")
    seen_by = {host: bed.record("lan", f"to-{host}") for host in FIRST_SPI}
    clients: dict[str, Client] = {}
    try:
        for host, spi in FIRST_SPI.items():
            session = bed.session(host, delivery)
            lease = ipsec.lease(session.control, spi, protocol=protocol)
            swan = ipsec.start_client(bed.lab, host, lease, plan.NB, version=version)
            clients[host] = Client(session, lease, swan)
        for name in (TUNNEL[protocol], TRANSPORT[protocol]):
            for client in clients.values():
                client.swan.initiate(name)
        yield Tunnels(bed, version, protocol, clients, seen_by_y, seen_by)
    finally:
        for host, client in clients.items():
            print(f"--- charon on {host}\n{client.swan.log()[-3000:]}")
            client.swan.stop()
            client.session.end()
        wait_until(lambda: not y.established(), 10, "y to have forgotten both")


def test_both_have_a_tunnel_at_the_same_time(tunnels: Tunnels) -> None:
    for host in tunnels.clients:
        tunnels.page(host)


def test_both_have_transport_mode_at_the_same_time(tunnels: Tunnels) -> None:
    for host in tunnels.clients:
        tunnels.datagrams(host)


def test_y_knows_two_peers_at_one_address(tunnels: Tunnels, y: StrongSwan) -> None:
    remotes = {sa.remote for sa in y.established()}
    ports = {client.lease.port for client in tunnels.clients.values()}
    assert remotes == {f"{plan.NB}:{port}" for port in ports}
    assert len(remotes) == 2


def test_no_side_encapsulates(tunnels: Tunnels, y: StrongSwan) -> None:
    sides = [*y.list_sas(), *(sa for c in tunnels.clients.values() for sa in c.swan.list_sas())]
    assert not [child for sa in sides for child in sa.children if child.encapsulated]


def test_rekeying_stays_within_what_was_leased(tunnels: Tunnels) -> None:
    name = TUNNEL[tunnels.protocol]
    for _ in range(2):
        for host, client in tunnels.clients.items():
            before = client.spi(name)
            client.swan.rekey(child=name)
            wait_until(
                lambda client=client, before=before: client.spi(name) not in {0, before},  # type: ignore[misc]
                10,
                f"{host} to have rekeyed",
            )
            assert client.spi(name) in client.lease.spis
            # y may still answer by the one before: it has the new one with the third message.
            wait_until(
                lambda host=host, client=client: (  # type: ignore[misc]
                    tunnels.page(host) or client.received_by(client.spi(name))
                ),
                10,
                f"{host} to be answered by the new one",
            )


def test_on_the_wire(tunnels: Tunnels) -> None:
    """Last of a case: what y really saw, and that nobody got what was another's."""
    seen = [p for p in ip_packets(tunnels.seen_by_y.stop()) if plan.NB in wires.addresses(p)]
    # N itself says from its own address what does not fit into its tunnels.
    seen = [p for p in seen if p[9] != ICMP or wires.payload(p)[:2] != FRAGMENTATION_NEEDED]
    assert {p[9] for p in seen} == {UDP, tunnels.protocol}
    ike = {frozenset(wires.ports(p)) for p in seen if p[9] == UDP}
    assert ike == {frozenset({client.lease.port, 500}) for client in tunnels.clients.values()}
    inward = {wires.spi(p) for p in seen if p[9] != UDP and wires.addresses(p)[0] == plan.Y}
    for host, client in tunnels.clients.items():
        own = inward & set(client.lease.spis)
        assert len(own) >= 4  # of both modes, and of what came by rekeying
        inward -= own
        for other, capture in tunnels.seen_by.items():
            received = {wires.spi(p) for p in ip_packets(capture.stop())}
            assert bool(received & own) == (other == host)
    assert inward == set()


def test_tshark_finds_nothing_wrong(bed: NarBed) -> None:
    assert bed.findings() == []
