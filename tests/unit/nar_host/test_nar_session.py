"""Sessions with a server on loopback; what they want of the host is only written down."""

import asyncio
import ssl
from collections.abc import Callable, Coroutine, Sequence
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from nar_server_double import ServerDouble

from gateway.domain.nar import Delivery, NarProtocol, NarTuple
from gateway.lab.pki import Authority
from gateway.nar.codec.leases import LeaseKey
from gateway.nar.codec.numbers import Notice
from gateway.nar_host import negotiation, spis
from gateway.nar_host.attachment import Attachment
from gateway.nar_host.command import RunOptions, lease_ports
from gateway.nar_host.failure import NarHostError, NarRefusedError, NarUnavailableError
from gateway.nar_host.record import Tunnel
from gateway.nar_host.registry import Registry
from gateway.nar_host.session import NarSession
from gateway.nar_host.status import session_json

Y, LOOPBACK = IPv4Address("198.51.100.7"), IPv4Address("127.0.0.1")
NB, NB2 = IPv4Address("192.0.2.1"), IPv4Address("192.0.2.2")
Used = list[tuple[IPv4Address | None, Tunnel | None, tuple[NarTuple, ...]]]


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> Used:
    """What sessions asked of the host, in their order."""
    found: Used = []

    def use(
        _self: Attachment,
        address: IPv4Address | None,
        tunnel: Tunnel | None,
        tuples: Sequence[NarTuple],
    ) -> None:
        found.append((address, tunnel, tuple(tuples)))

    monkeypatch.setattr(Attachment, "use", use)
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("gateway.nar_host.attachment.sweep", lambda *_: [])
    monkeypatch.setattr(negotiation, "FIRST_AGAIN_S", 0.01)
    return found


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "run")


Work = Callable[[ServerDouble, NarSession], Coroutine[Any, Any, None]]


def with_session(
    registry: Registry, work: Work, double: ServerDouble | None = None, **keys: Any
) -> list[str]:
    """Run ``work`` with a session; what was said meanwhile."""
    said: list[str] = []

    async def main() -> None:
        server = await (double or ServerDouble()).open()
        try:
            async with asyncio.timeout(20):
                async with NarSession(
                    f"127.0.0.1:{server.port}", registry=registry,
                    notify=lambda _, text: said.append(text), **keys,
                ) as session:  # fmt: skip
                    await work(server, session)
        finally:
            await server.close()

    asyncio.run(main())
    return said


async def until(condition: Callable[[], object]) -> None:
    while not condition():  # noqa: ASYNC110 - a bound is around it
        await asyncio.sleep(0.005)


def test_every_kind_of_lease_is_installed(used: Used, registry: Registry) -> None:
    async def work(_: ServerDouble, session: NarSession) -> None:
        leases = [
            await session.lease_esp(peer=Y),
            await session.lease_ah(peer=Y),
            await session.lease_udp(),
            await session.lease_tcp(Y, 80),
            await session.lease_tcp_server(port=20_100),
            await session.lease_icmp(peer=Y),
            await session.lease_tunnel(NarProtocol.GRE, inner=IPv4Address("10.9.9.9"), peer=Y),
        ]
        assert [one.tuple for one in leases] == list(used[-1][2])
        assert session.address == NB
        found = session_json(session)
        assert [one["protocol"] for one in found["leases"]] == [  # type: ignore[attr-defined]
            "esp", "ah", "udp", "tcp", "tcp", "icmp", "gre",
        ]  # fmt: skip
        await session.release(leases[0])
        assert leases[0].ended == "released"
        assert leases[0].tuple not in used[-1][2]

    with_session(registry, work)
    assert used[1][:2] == (NB, Tunnel(Delivery.IP_IP, LOOPBACK, LOOPBACK, 65_515))


def test_translated_needs_no_tunnel(used: Used, registry: Registry) -> None:
    async def work(_: ServerDouble, session: NarSession) -> None:
        await session.lease_esp(peer=Y)
        assert session.delivery is Delivery.TRANSLATED

    with_session(registry, work, delivery=Delivery.TRANSLATED)
    assert all(tunnel is None for _, tunnel, _ in used)


def test_what_the_server_imposes_is_followed_and_told(used: Used, registry: Registry) -> None:
    async def work(_: ServerDouble, session: NarSession) -> None:
        await session.lease_udp()

    said = with_session(registry, work, ServerDouble(impose=Delivery.L2TP))
    assert any("delivers by l2tp" in text for text in said)
    tunnel = next(tunnel for _, tunnel, _ in used if tunnel is not None)
    assert tunnel.delivery is Delivery.L2TP
    assert tunnel.l2tp is not None
    assert (tunnel.l2tp.tunnel_id, tunnel.l2tp.client) == (11, LOOPBACK)


def test_h77_an_spi_in_use_here_is_exchanged(
    used: Used, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spis, "used_here", lambda _: {0x4000_0001, 0x4000_0002})

    async def work(server: ServerDouble, session: NarSession) -> None:
        lease = await session.lease_esp(peer=Y)
        assert lease.value == 0x4000_0003
        assert server.taken == {(NarProtocol.ESP, 0x4000_0003)}

    said = with_session(registry, work)
    assert any("40000001 is in use on this host" in text for text in said)
    assert used[-1][2] == () or used[-1][2][0].value == 0x4000_0003


def test_spis_in_a_row(used: Used, registry: Registry) -> None:
    async def work(server: ServerDouble, session: NarSession) -> None:
        server.taken.add((NarProtocol.ESP, 0x4000_0003))
        row = await session.lease_spi_row(NarProtocol.ESP, 4, peer=Y)
        values = [one.value for one in row]
        assert values == list(range(values[0], values[0] + 4))
        assert len(session.leases) == 4

    with_session(registry, work)
    assert used


def test_after_a_broken_connection_everything_goes_on(used: Used, registry: Registry) -> None:
    async def work(server: ServerDouble, session: NarSession) -> None:
        lease = await session.lease_udp()
        count = len(used)
        server.drop()
        await until(lambda: not session.connected)
        await until(lambda: session.connected)
        assert not lease.ended
        assert len(used) == count
        await session.lease_udp()

    said = with_session(registry, work)
    assert any("connecting again" in text for text in said)


def test_another_address_of_the_server_is_followed(used: Used, registry: Registry) -> None:
    async def work(server: ServerDouble, session: NarSession) -> None:
        lease = await session.lease_udp()
        server.notice(Notice.ADDRESS_CHANGED, NB2)
        await until(lambda: lease.address == NB2)
        assert used[-1][0] == NB2

    assert any("192.0.2.2" in text for text in with_session(registry, work))


def test_a_lease_that_the_server_ends_is_taken_back(used: Used, registry: Registry) -> None:
    async def work(server: ServerDouble, session: NarSession) -> None:
        kept, lease = await session.lease_udp(), await session.lease_udp()
        server.notice(Notice.LEASE_ENDED, NB, LeaseKey.of(lease.tuple))
        await until(lambda: lease.ended)
        assert used[-1][2] == (kept.tuple,)
        server.notice(Notice.LEASE_ENDED, NB, LeaseKey.of(kept.tuple))
        with pytest.raises(NarUnavailableError, match="nothing is left"):
            await session.wait()
        assert used[-1][2] == ()

    assert any(text.startswith("lost UDP") for text in with_session(registry, work))


def test_another_address_of_this_host_is_followed(used: Used, registry: Registry) -> None:
    """The tunnel ends where the connection does."""
    moved = IPv4Address("127.0.0.2")

    async def work(server: ServerDouble, session: NarSession) -> None:
        await session.lease_udp()
        session.connected_from(moved, LOOPBACK)
        await session.lease_udp()
        tunnel = used[-1][1]
        assert tunnel is not None
        assert tunnel.local == moved
        assert server.requests

    assert any("this host's address is 127.0.0.2" in text for text in with_session(registry, work))


def test_h70_a_wrong_password_is_told(used: Used, registry: Registry) -> None:
    async def work(_: ServerDouble, _session: NarSession) -> None:
        raise AssertionError

    double = ServerDouble(password=b"right")
    with pytest.raises(NarRefusedError, match="refused the login of ann"):
        with_session(registry, work, double, user="ann", password="wrong")
    with pytest.raises(NarRefusedError, match="takes none of our logins"):
        with_session(registry, work, ServerDouble(password=b"right"))
    assert used == []


def test_a_password_lets_in(used: Used, registry: Registry) -> None:
    async def work(_: ServerDouble, session: NarSession) -> None:
        await session.lease_udp()

    with_session(registry, work, ServerDouble(password=b"right"), user="ann", password="right")
    assert used


def test_a_refusal_is_an_error_in_words(used: Used, registry: Registry) -> None:
    async def work(server: ServerDouble, session: NarSession) -> None:
        server.any_remote = False
        with pytest.raises(NarRefusedError, match="rules do not allow"):
            await session.lease_tcp_server()
        await session.lease_tcp_server(remote=Y)

    with_session(registry, work)
    assert used


def test_a_host_that_cannot_do_its_part_ends_the_session(
    used: Used, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def use(*_: object) -> None:
        raise NarHostError("the kernel has no IP-in-IP")

    monkeypatch.setattr(Attachment, "use", use)

    async def work(_: ServerDouble, session: NarSession) -> None:
        await session.lease_udp()

    double = ServerDouble()
    with pytest.raises(NarHostError, match="no IP-in-IP"):
        with_session(registry, work, double)
    assert used == []
    assert double.taken == set(), "given back all the same"


def test_not_root_is_said_before_anything_is_asked(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(NarHostError, match="run as root"):
        asyncio.run(NarSession("127.0.0.1:9", registry=registry).open())


@pytest.mark.parametrize(
    ("server", "words"),
    [("127.0.0.1:9", "nothing listens there"), ("no-such-name.invalid", "no such name")],
)
def test_no_such_server_is_told(used: Used, registry: Registry, server: str, words: str) -> None:
    with pytest.raises(NarUnavailableError, match=words):
        asyncio.run(NarSession(server, registry=registry).open())
    assert used == []
    with registry.locked():
        assert registry.living() == []


def test_tls_is_verified(used: Used, registry: Registry, tmp_path: Path) -> None:
    authority, stranger = Authority("lab"), Authority("another")
    issued = authority.issue("nar.example", addresses=[LOOPBACK])
    certificate, key = issued.write(tmp_path, "server")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    trusted, other = tmp_path / "ca.pem", tmp_path / "other.pem"
    trusted.write_bytes(authority.root.certificate_pem())
    other.write_bytes(stranger.root.certificate_pem())

    async def once(ca: Path, *, tls: bool = True) -> None:
        server = await ServerDouble().open(ssl=context if tls else None)
        try:
            name = f"127.0.0.1:{server.port}"
            async with NarSession(name, tls=True, ca=ca, registry=registry) as session:
                await session.lease_udp()
        finally:
            await server.close()

    asyncio.run(once(trusted))
    with pytest.raises(NarUnavailableError, match=r"not trusted.*--ca"):
        asyncio.run(once(other))
    with pytest.raises(NarUnavailableError, match="whether it speaks TLS there"):
        asyncio.run(once(trusted, tls=False))
    with pytest.raises(NarHostError, match="no certificates"):
        asyncio.run(once(tmp_path / "missing.pem"))
    assert used


def test_a_command_gets_ports_in_a_row_for_tcp_and_udp(used: Used, registry: Registry) -> None:
    async def work(server: ServerDouble, session: NarSession) -> None:
        server.taken.add((NarProtocol.UDP, 20_001))
        ports = await lease_ports(session, RunOptions(("true",), 4, udp=True))
        assert ports == list(range(ports[0], ports[0] + 4))
        held = {(one.tuple.protocol, one.value) for one in session.leases}
        assert held == {(p, n) for p in (NarProtocol.TCP, NarProtocol.UDP) for n in ports}

    with_session(registry, work)
    assert used


def test_a_command_without_a_peer_is_told_what_the_rule_lacks(
    used: Used, registry: Registry
) -> None:
    async def work(server: ServerDouble, session: NarSession) -> None:
        server.any_remote = False
        with pytest.raises(NarRefusedError, match="any_remote; or name the other side: --peer"):
            await lease_ports(session, RunOptions(("true",), 2))
        ports = await lease_ports(session, RunOptions(("true",), 2, peers=(Y, NB2)))
        assert len(ports) == 2
        assert {one.tuple.remote for one in session.leases} == {Y, NB2}

    double = ServerDouble()
    double.shared_with.add(NB2)
    with_session(registry, work, double)
    assert used
