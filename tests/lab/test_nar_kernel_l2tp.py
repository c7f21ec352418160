"""End-to-end delivery by L2TPv3: the kernel at both ends, or a forwarder at both."""

# planes: kernel portable

import socket
from collections.abc import Iterator

import pytest
from dataplane_bed import entered, inside, run
from mobility_kernel_bed import Capture, ip
from nar_kernel_bed import (
    CLIENTS,
    CN,
    NA,
    NB,
    NB2,
    OUTSIDE,
    SERVER,
    XA,
    XA2,
    YB,
    NarKernelBed,
    esp,
    forwarded,
    lease,
    nar_kernel_bed,
    udp,
)

from gateway.dataplane.portable.tunnel_link import TunnelKind, TunnelLink
from gateway.dataplane.portable.wire import links
from gateway.domain.nar import Delivery, L2tpSession, NarProtocol
from gateway.lab import planes

pytestmark = pytest.mark.kernel

P = NarProtocol
FIRST = L2tpSession(XA, 101, 201, 301, 401, b"server's", b"client's")
SECOND = L2tpSession(XA2, 102, 202, 302, 402, b"server 2", b"client 2")


class Client:
    """The other end, made with iproute2."""

    def __init__(self, session: L2tpSession, name: str) -> None:
        self.session, self.name = session, name
        if planes.portable():
            self._make_in_user_space()
        else:
            self._make()
        self.capture = Capture(CLIENTS, name)

    def _make(self) -> None:
        one, name = self.session, self.name
        # iproute2's "cookie" is what it sends, as the kernel has it.
        inside(
            CLIENTS, "ip", "l2tp", "add", "tunnel", "tunnel_id", one.peer_tunnel_id,
            "peer_tunnel_id", one.tunnel_id, "encap", "udp", "local", one.client, "remote", NA,
            "udp_sport", 1701, "udp_dport", 1701,
        )  # fmt: skip
        inside(
            CLIENTS, "ip", "l2tp", "add", "session", "tunnel_id", one.peer_tunnel_id,
            "session_id", one.peer_session_id, "peer_session_id", one.session_id, "name", name,
            "cookie", one.cookie.hex(), "peer_cookie", one.peer_cookie.hex(),
        )  # fmt: skip
        mac = ":".join(f"{octet:02x}" for octet in one.link_address)
        inside(CLIENTS, "ip", "link", "set", name, "address", mac, "arp", "off", "up")

    def _make_in_user_space(self) -> None:
        one = self.session
        link = TunnelLink(
            self.name, TunnelKind.L2TP, local=one.client, remote=NA, local_port=1701,
            remote_port=1701, session=one.peer_session_id, peer_session=one.session_id,
            cookie=one.peer_cookie, peer_cookie=one.cookie, link_address=one.link_address,
        )  # fmt: skip
        with entered(CLIENTS):
            links.make_pair(self.name, 1438)
            self._forwarder = planes.plane().forwarder()
            self._forwarder.set_tunnel(link)
            assert self._forwarder.commit() == ([], [])

    def send(self, packet: bytes) -> None:
        with entered(CLIENTS):
            raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        with raw:
            raw.bind((self.name, 0))
            raw.send(self.session.link_address * 2 + b"\x08\0" + packet)

    def close(self) -> None:
        self.capture.close()
        if planes.portable():
            with entered(CLIENTS):
                self._forwarder.remove_tunnel(self.name)
                self._forwarder.commit()
                self._forwarder.close(keep=False)
                links.delete(self.name)
            return
        inside(CLIENTS, "ip", "l2tp", "del", "tunnel", "tunnel_id", self.session.peer_tunnel_id)


def interfaces() -> list[str]:
    """Of the server's sessions."""
    found = inside(SERVER, "ip", "-br", "link").split("\n")
    return sorted(line.split("@")[0].split()[0] for line in found if line.startswith("nar-l2tp-"))


def tunnels() -> list[str]:
    """The server's, as they are on the wire."""
    if not planes.portable():
        return inside(SERVER, "ip", "l2tp", "show", "tunnel").splitlines()[:3]
    with entered(SERVER):
        forwarder = planes.plane().forwarder()
        try:
            return [str(one) for one in forwarder.tunnels() if one.name == "nar-l2tp-00012d"]
        finally:
            forwarder.close(keep=True)


@pytest.fixture(scope="module")
def module_bed() -> Iterator[NarKernelBed]:
    with nar_kernel_bed() as bed:
        with entered(CLIENTS):
            # The tunnel's socket is the kernel's: here the clients' stack takes part.
            run("nft", "insert rule ip mute c udp sport 1701 accept")
        bed.start()
        yield bed


@pytest.fixture
def bed(module_bed: NarKernelBed) -> Iterator[NarKernelBed]:
    module_bed.forget()
    yield module_bed
    module_bed.clear()
    with entered(SERVER):
        for client in (XA, XA2):
            module_bed.running.remove_l2tp(client)
        assert module_bed.running.commit() == []


def test_two_clients_both_ways(bed: NarKernelBed) -> None:
    bed.open_l2tp(FIRST)
    bed.open_l2tp(SECOND)
    clients = [Client(FIRST, "one"), Client(SECOND, "two")]
    try:
        bed.set(
            lease(P.UDP, 20_001, Delivery.L2TP, peer=YB),
            lease(P.ESP, 0x4000_0001, Delivery.L2TP, peer=YB, address=NB2),
            lease(P.UDP, 20_002, Delivery.L2TP, peer=YB, client=XA2),
        )
        for number, packet in enumerate(
            (udp(YB, 9, NB, 20_001), udp(YB, 9, NB, 20_002), esp(YB, NB2, 0x4000_0001))
        ):
            bed.send(OUTSIDE, packet)
            bed.arrives(clients[number % 2].capture, forwarded(packet), str(number))
        for client, packet in (
            (clients[0], udp(NB, 20_001, YB, 9)),
            (clients[1], udp(NB, 20_002, YB, 9)),
            (clients[0], esp(NB2, YB, 77)),
        ):
            client.send(packet)
            bed.arrives(bed.y, forwarded(packet))
        before = bed.counters()
        clients[0].send(udp(NB, 20_002, YB, 9, b"another's"))
        clients[0].send(udp(CN, 20_001, YB, 9, b"spoofed"))
        clients[0].send(udp(NB, 20_001, YB, 9, b"last"))
        bed.arrives(bed.y, forwarded(udp(NB, 20_001, YB, 9, b"last")))
        assert bed.counted("spoofed", before, 2) == 2
    finally:
        for client in clients:
            client.close()


def test_long_packets_are_answered(bed: NarKernelBed) -> None:
    bed.open_l2tp(FIRST)
    client = Client(FIRST, "one")
    try:
        bed.set(lease(P.UDP, 20_001, Delivery.L2TP, peer=YB))
        fits = udp(YB, 9, NB, 20_001, b"x" * (1438 - 28), fragment=0x4000)
        bed.send(OUTSIDE, fits)
        bed.arrives(client.capture, forwarded(fits))
        bed.send(OUTSIDE, udp(YB, 9, NB, 20_001, b"x" * (1439 - 28), fragment=0x4000))
        error = bed.wait(bed.y, lambda one: one.octets[20:22] == b"\x03\x04", "an error")
        assert int.from_bytes(error.octets[26:28], "big") == 1438
        assert error.transport_is_right
    finally:
        client.close()


def test_fragments_of_any_size(bed: NarKernelBed) -> None:
    bed.open_l2tp(FIRST)
    client = Client(FIRST, "one")
    try:
        bed.set(lease(P.UDP, 20_001, Delivery.L2TP, peer=YB))
        whole = udp(YB, 9, NB, 20_001, bytes(range(256)) * 19)
        for size in (1480, 576):
            pieces = range(0, len(whole) - 20, size)
            for at in pieces:
                more = 0x2000 if at + size < len(whole) - 20 else 0
                part = whole[20 + at : 20 + at + size]
                bed.send(OUTSIDE, ip(YB, NB, 17, part, fragment=more | at // 8))
            found: dict[int, bytes] = {}
            while sum(map(len, found.values())) < len(whole) - 20:
                piece = bed.wait(client.capture, lambda one: one.is_fragment, "a fragment")
                frames = client.capture.frames
                frames.remove(next(one for one in frames if one[:28] == piece.octets[:28]))
                found[int.from_bytes(piece.octets[6:8], "big") & 0x1FFF] = piece.inner
            assert b"".join(found[at] for at in sorted(found)) == whole[20:]
            client.capture.read()
            client.capture.frames.clear()
        back = udp(NB, 20_001, YB, 9, bytes(range(256)) * 19)
        for at in range(0, len(back) - 20, 1416):
            more = 0x2000 if at + 1416 < len(back) - 20 else 0
            part = back[20 + at : 20 + at + 1416]
            client.send(ip(NB, YB, 17, part, fragment=more | at // 8))
        found = {}
        while sum(map(len, found.values())) < len(back) - 20:
            piece = bed.wait(bed.y, lambda one: one.source == NB and one.is_fragment, "a fragment")
            bed.y.frames.remove(next(f for f in bed.y.frames if f[:28] == piece.octets[:28]))
            found[int.from_bytes(piece.octets[6:8], "big") & 0x1FFF] = piece.inner
        assert b"".join(found[at] for at in sorted(found)) == back[20:]
    finally:
        client.close()


def test_a_wrong_cookie_opens_nothing(bed: NarKernelBed) -> None:
    bed.open_l2tp(FIRST)
    stranger = Client(L2tpSession(XA, 101, 201, 301, 401, b"guessed!", b"client's"), "one")
    try:
        bed.set(lease(P.UDP, 20_001, Delivery.L2TP, peer=YB), lease(P.UDP, 20_009))
        before = bed.counters()
        stranger.send(udp(NB, 20_001, YB, 9, b"guessed"))
        stranger.send(udp(NB, 20_001, YB, 9, b"guessed"))
        bed.send(OUTSIDE, udp(YB, 9, NB, 20_009))
        bed.tunnelled(forwarded(udp(YB, 9, NB, 20_009)))
        assert bed.counted("tunnel_l2tp", before, 2) == 2
        assert bed.counted("from_client", before) == 0
    finally:
        stranger.close()


def test_a_mapping_needs_its_session(bed: NarKernelBed) -> None:
    refused = bed.commit(lease(P.UDP, 20_001, Delivery.L2TP))
    assert [str(one.tuple.value) for one in refused] == ["20001"]
    assert "L2TP session" in refused[0].reason


def test_sessions_survive_a_restart_and_vanish_with_their_client(bed: NarKernelBed) -> None:
    bed.open_l2tp(FIRST)
    bed.open_l2tp(SECOND)
    mapping = lease(P.UDP, 20_001, Delivery.L2TP, peer=YB)
    client = Client(FIRST, "one")
    try:
        bed.set(mapping)
        assert len(interfaces()) == 2
        before = tunnels()
        bed.stop(keep=True)
        bed.send(OUTSIDE, udp(YB, 9, NB, 20_001, b"meanwhile"))
        bed.arrives(client.capture, forwarded(udp(YB, 9, NB, 20_001, b"meanwhile")))
        bed.start()
        bed.open_l2tp(FIRST)
        assert bed.commit(mapping) == []
        bed.send(OUTSIDE, udp(YB, 9, NB, 20_001, b"again"))
        bed.arrives(client.capture, forwarded(udp(YB, 9, NB, 20_001, b"again")))
        assert tunnels() == before
        assert interfaces() == ["nar-l2tp-00012d"]
        # The other one comes back later, as it was: it is made anew.
        bed.open_l2tp(SECOND)
        bed.set(lease(P.UDP, 20_002, Delivery.L2TP, peer=YB, client=XA2))
        other = Client(SECOND, "two")
        try:
            bed.send(OUTSIDE, udp(YB, 9, NB, 20_002))
            bed.arrives(other.capture, forwarded(udp(YB, 9, NB, 20_002)))
        finally:
            other.close()
    finally:
        client.close()
