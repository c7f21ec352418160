"""The firewall case (draft 004, section 1.2): an outside client, an inside host that knows no NAR.

`o` proves itself by TLS and a password, and gets a session with end-to-end characteristics with
`legacy`, which sees N's inside address.
"""

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from nar_bed import NarBed, Session, granted, leased, nar_bed

from gateway.lab.nar import plan, programs, roles
from gateway.lab.nar.instrument import BIND, CONNECT, ESP, NOT_ALLOWED, RawClient, leasing
from gateway.lab.nar.programs import RawSocket, connected, exchange
from gateway.lab.pki import Authority
from gateway.lab.processes import LabError

pytestmark = pytest.mark.kernel

ANNA, OTTO = roles.USERS
SERVER = (plan.NB, plan.FIREWALL_PORT)
NA, NB, LEGACY, O = plan.NA, plan.NB, plan.LEGACY, plan.O  # noqa: E741
YES = {"server": SERVER, "user": (ANNA, roles.USERS[ANNA][0])}


def configuration(folder: Path, authority: Authority) -> str:
    """Both servers in one box: SOHO for the inside, and the firewall's."""
    firewall = roles.firewall(folder, authority)
    return roles.box(folder, roles.server("soho"), firewall) + roles.users(folder)


@pytest.fixture(scope="module")
def bed(authority: Authority) -> Iterator[NarBed]:
    with nar_bed() as bed:
        bed.start(configuration, authority)
        bed.record("n", "outside")
        bed.record("n", "inside")
        yield bed
        assert bed.findings() == []


@pytest.fixture(scope="module")
def tls(authority: Authority) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=authority.root.certificate_pem().decode())
    context.check_hostname = False
    return context


@pytest.fixture(scope="module")
def session(bed: NarBed, tls: ssl.SSLContext) -> Iterator[Session]:
    with bed.session("o", "ip-ip", LEGACY, tls=tls, networks=[plan.INSIDE], **YES) as session:
        yield session


def test_the_firewall_lends_its_inside_address(session: Session) -> None:
    assert session.mode.address == NA


def test_from_the_client_to_the_legacy_host(bed: NarBed, session: Session) -> None:
    """It sees the firewall's inside address and answers on its own link."""
    port = leased(session.control.ask(CONNECT, LEGACY, 8600))
    with connected(bed.lab, ("o", NA, port), ("legacy", LEGACY, 8600)) as (near, far, seen):
        assert seen == (str(NA), port)
        exchange(near, far)


def test_end_to_end_means_unchanged(bed: NarBed, session: Session) -> None:
    spi = granted(session.control.ipsec(ESP))
    with RawSocket(bed.lab, "o", ESP) as o, RawSocket(bed.lab, "legacy", ESP) as legacy:
        inward = spi.to_bytes(4, "big") + bytes(4) + b"to the client".ljust(40, b".")
        assert programs.same_but_for_the_way(legacy.say(LEGACY, NA, inward), o.hears(inward))
        outward = (0xC0DE0003).to_bytes(4, "big") + bytes(4) + b"to legacy".ljust(40, b".")
        assert programs.same_but_for_the_way(o.say(NA, LEGACY, outward), legacy.hears(outward))


def test_from_the_legacy_host_to_the_client(bed: NarBed, session: Session) -> None:
    port = leased(session.control.ask(BIND, LEGACY))
    client, server = ("legacy", LEGACY, 0), ("o", NA, port)
    with connected(bed.lab, client, server) as (near, far, seen):
        assert seen[0] == str(LEGACY)
        exchange(near, far, 10_000)


def test_other_hosts_inside_stay_out_of_reach(bed: NarBed, tls: ssl.SSLContext) -> None:
    with pytest.raises(LabError, match=f"answered with {NOT_ALLOWED}"):
        leasing(bed.lab, "o", plan.X1, tls=tls, **YES)


def test_a_user_without_right(bed: NarBed, tls: ssl.SSLContext) -> None:
    otto = (OTTO, roles.USERS[OTTO][0])
    with pytest.raises(LabError, match=f"answered with {NOT_ALLOWED}"):
        leasing(bed.lab, "o", LEGACY, tls=tls, server=SERVER, user=otto)


def test_without_login(bed: NarBed, tls: ssl.SSLContext) -> None:
    with RawClient(bed.lab, "o", SERVER, tls=tls) as client:
        assert client.hello(0) == 0xFF


def test_without_tls(bed: NarBed) -> None:
    with RawClient(bed.lab, "o", SERVER) as client:
        client.send(b"\x05\x01\x02" + bytes(20))
        assert not client.ends().startswith(b"\x05")


def test_without_a_lease_nothing_passes(bed: NarBed, session: Session) -> None:
    """y pretends to be such a client: a tunnel from its own address, and from that of `o`."""
    packet = (0xC0DE0004).to_bytes(4, "big") + bytes(4) + b"no lease".ljust(40, b".")
    with RawSocket(bed.lab, "legacy", ESP) as legacy, RawSocket(bed.lab, "y", 4) as y:
        inner = programs.ip_packet(NA, LEGACY, ESP, packet)
        for source in (plan.Y, plan.X1):
            y.say(source, NB, inner)
        assert legacy.silence() == []


def test_the_inside_has_its_own_server_still(bed: NarBed, session: Session) -> None:
    with bed.session("x1") as inside:
        assert inside.mode.address == NB
        port = leased(inside.control.ask(CONNECT, plan.Y, 8601))
        with connected(bed.lab, ("x1", NB, port), ("y", plan.Y, 8601)) as (near, far, _):
            exchange(near, far, 10_000)
