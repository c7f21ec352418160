"""Two strongSwan clients behind one address, our own gateway outside: native ESP for both."""

from collections.abc import Iterator

import pytest
from nar_bed import NarBed, Session, nar_bed

from gateway.lab.capture import Capture
from gateway.lab.inject import ip_packets
from gateway.lab.nar import ipsec, plan, roles, wires
from gateway.lab.nar.instrument import ESP, ICMP, UDP
from gateway.lab.nar.programs import connected, exchange
from gateway.lab.processes import wait_until
from gateway.lab.strongswan import StrongSwan

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.kernel_peer("strongSwan has plain ESP and AH by the kernel only"),
]

FIRST_SPI = {"x1": 0x4300_0000, "x2": 0x4400_0000}
INNER_SERVER = ipsec.BEHIND_Y[1]


class Client:
    """A session with its charon."""

    def __init__(self, bed: NarBed, host: str) -> None:
        self.host = host
        self.session: Session = bed.session(host)
        self.lease = ipsec.lease(self.session.control, FIRST_SPI[host])
        self.swan = StrongSwan(bed.lab, host, extra=self.lease.charon)
        self.swan.start()
        self.swan.load(ipsec.device_configuration(host, plan.NB))

    @property
    def inner(self) -> str:
        """Its address inside the tunnel."""
        (sa,) = self.swan.established()
        (address,) = sa.virtual_ips
        return address


@pytest.fixture(scope="module")
def bed() -> Iterator[NarBed]:
    with nar_bed() as bed:
        bed.start(roles.soho)
        bed.lab.run("y", ["ip", "address", "add", f"{INNER_SERVER}/32", "dev", "lo"])
        bed.start(roles.vpn_gateway, host="y")
        yield bed


@pytest.fixture(scope="module")
def wire(bed: NarBed) -> Capture:
    return bed.record("internet", "to-y")


@pytest.fixture(scope="module")
def clients(bed: NarBed, wire: Capture) -> Iterator[list[Client]]:
    found = [Client(bed, host) for host in FIRST_SPI]
    for client in found:
        client.swan.initiate("net")
    yield found
    for client in found:
        print(f"--- charon on {client.host}\n{client.swan.log()[-3000:]}")
        client.swan.stop()
        client.session.end()


def test_both_are_connected_at_the_same_time(bed: NarBed, clients: list[Client]) -> None:
    sas = bed.boxes["y"].call("ike-sas")["items"]
    assert len(sas) == 2
    assert len({client.inner for client in clients}) == 2
    for client in clients:
        server = ("y", INNER_SERVER, 9100)
        with connected(bed.lab, (client.host, client.inner, 0), server) as (near, far, seen):
            assert seen[0] == client.inner
            exchange(near, far, 40_000)


@pytest.mark.parametrize("who", ["client", "gateway"])
def test_rekeying_by_either_side(bed: NarBed, clients: list[Client], who: str) -> None:
    """The new SPIs are out of what the client leased; nobody falls back to UDP."""
    for client in clients:
        before = spi(client)
        if who == "client":
            client.swan.rekey(child="net")
        else:
            sas = bed.boxes["y"].call("ike-sas")["items"]
            (sa,) = [sa for sa in sas if ipsec.identity(client.host) in str(sa)]
            bed.boxes["y"].call("rekey", id=sa["id"], children=True)
        wait_until(
            lambda client=client, before=before: spi(client) not in {0, before},  # type: ignore[misc]
            10,
            f"{client.host} to have other keys",
        )
        assert spi(client) in client.lease.spis
        with connected(bed.lab, (client.host, client.inner, 0), ("y", INNER_SERVER, 9101)) as (
            near,
            far,
            _,
        ):
            exchange(near, far, 10_000)


def spi(client: Client) -> int:
    """The SPI that the client receives with; 0 while there is none."""
    children = [c for sa in client.swan.established() for c in sa.children]
    return next((c.spi_in for c in reversed(children) if c.state == "INSTALLED"), 0)


def test_on_the_wire(clients: list[Client], wire: Capture) -> None:
    packets = [p for p in ip_packets(wire.stop()) if p[9] != ICMP]
    assert {p[9] for p in packets} == {UDP, ESP}
    ike = {frozenset(wires.ports(p)) for p in packets if p[9] == UDP}
    assert ike == {frozenset({client.lease.port, 500}) for client in clients}


def test_tshark_finds_nothing_wrong(bed: NarBed, clients: list[Client]) -> None:
    assert bed.findings() == []
