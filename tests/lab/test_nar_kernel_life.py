"""Starting, stopping, dying, starting over, other settings, and ten thousand mappings."""

# planes: kernel portable

import contextlib
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from dataplane_bed import entered, inside, run, wait_for
from nar_kernel_bed import (
    CLIENTS,
    NA,
    NB,
    NB2,
    OUTSIDE,
    SERVER,
    SETTINGS,
    SOHO,
    XA,
    XA2,
    YB,
    YB2,
    NarKernelBed,
    ah,
    esp,
    forwarded,
    lease,
    nar_kernel_bed,
    tcp,
    udp,
    wrap,
)

from gateway.dataplane.interface import DataplaneUnavailableError
from gateway.dataplane.kernel.nar import missing, ruleset
from gateway.dataplane.kernel.nar.below import Words
from gateway.dataplane.kernel.nar.dataplane import KernelNar
from gateway.dataplane.kernel.netlink import NetlinkSocket
from gateway.dataplane.kernel.ruleset import RulesetRefusedError, run_nft
from gateway.dataplane.nar import NarSettings
from gateway.domain.child_sa import (
    ANY_IPV4,
    ChildSa,
    Encryption,
    EspKeys,
    EspSuite,
    Integrity,
)
from gateway.domain.endpoint import Endpoint
from gateway.domain.nar import Delivery, NarMapping, NarProtocol
from gateway.lab import planes

pytestmark = pytest.mark.kernel

P = NarProtocol
RESERVED = Path("/proc/sys/net/ipv4/ip_local_reserved_ports")


@pytest.fixture(scope="module")
def module_bed() -> Iterator[NarKernelBed]:
    with nar_kernel_bed() as bed:
        yield bed


@pytest.fixture
def bed(module_bed: NarKernelBed) -> Iterator[NarKernelBed]:
    module_bed.forget()
    yield module_bed
    if module_bed.nar is None:
        module_bed.start()
    module_bed.stop()


GCM = EspSuite(Encryption.AES_GCM_16, 128, Integrity.NONE, esn=True)


def picture() -> str:
    """Everything in the server's namespace that we could have touched, without counters."""
    with entered(SERVER):
        found = RESERVED.read_text("ascii") + run(
            "sh",
            "-c",
            "nft -t list ruleset; ip rule; ip route show table all type unicast; "
            "ip route show table all type blackhole; ip -br link; ip -br address",
        )
    # What tells packets that user space decided about is another secret at each start.
    return re.sub(r"ether saddr [0-9a-f:]{17}", "ether saddr SECRET", found)


def test_closing_leaves_what_was_there_before(bed: NarKernelBed) -> None:
    with entered(SERVER):
        RESERVED.write_text("8080,25000-25010\n", "ascii")
    before = picture()
    bed.start()
    bed.set(lease(P.UDP, 20_001), lease(P.UDP, 20_002, Delivery.GRE, client=XA2))
    with entered(SERVER):
        assert RESERVED.read_text("ascii").strip() == "8080,20000-29999"
    bed.stop()
    assert picture() == before
    with entered(SERVER):
        RESERVED.write_text("\n", "ascii")


def test_a_restart_keeps_reserved_ports_of_others(bed: NarKernelBed) -> None:
    with entered(SERVER):
        RESERVED.write_text("8080\n", "ascii")
    bed.start()
    bed.stop(keep=True)
    bed.start()
    with entered(SERVER):
        assert RESERVED.read_text("ascii").strip() == "8080,20000-29999"
        # Somebody reserves another one meanwhile.
        RESERVED.write_text("8080,9090,20000-29999\n", "ascii")
        bed.running.reconfigure(replace(SETTINGS, servers=(replace(SOHO, ports=()),)))
        assert RESERVED.read_text("ascii").strip() == "8080,9090"
    bed.stop()
    with entered(SERVER):
        assert RESERVED.read_text("ascii").strip() == "8080,9090"
        RESERVED.write_text("\n", "ascii")


KEPT = (
    lease(P.UDP, 20_001),
    lease(P.TCP, 20_002, Delivery.GRE, remote=YB, remote_port=80, client=XA2),
    lease(P.UDP, 20_003, Delivery.TRANSLATED, client_port=53),
    lease(P.ESP, 0x4000_0001, peer=YB),
    lease(P.AH, 0x4000_0002),
    lease(P.ICMP, 0xC001, remote=YB, address=NB2),
    lease(P.IP_IP, int(IPv4Address("203.0.113.7")), Delivery.TRANSLATED, remote=YB),
    lease(P.GRE, int(IPv4Address("203.0.113.7")), remote=YB2),
    lease(P.TCP, 20_004, remote=YB),
    lease(P.TCP, 20_005),
    lease(P.UDP, 20_006, remote_port=53, peer=YB),
)
"""One of each kind."""


@contextlib.contextmanager
def other_process(*mappings: NarMapping, settings: NarSettings = SETTINGS) -> Iterator[int]:
    """A dataplane in a process that only a signal ends."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            with entered(SERVER):
                nar = planes.nar(settings)
                nar.start()
                for mapping in mappings:
                    nar.set_mapping(mapping)
                nar.alive()
                os.write(writer, b"refused" if nar.commit() else b"ready")
            signal.pause()
        finally:
            os._exit(1)
    os.close(writer)
    try:
        with os.fdopen(reader, "rb") as answers:
            assert answers.read(5) == b"ready"
            yield child
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_h72_nothing_is_lost_while_a_process_dies_and_another_starts(bed: NarKernelBed) -> None:
    with other_process(*KEPT):
        bed.send(OUTSIDE, udp(YB, 1, NB, 20_001))
        bed.tunnelled(forwarded(udp(YB, 1, NB, 20_001)))
    sent = 0
    going = threading.Event()
    going.set()

    def keep_sending() -> None:
        nonlocal sent
        while going.is_set():
            bed.send(OUTSIDE, udp(YB, 2, NB, 20_001, sent.to_bytes(4, "big")))
            bed.send(CLIENTS, wrap(XA, NA, udp(NB, 20_001, YB, 2, sent.to_bytes(4, "big"))))
            sent += 1
            time.sleep(0.002)

    sender = threading.Thread(target=keep_sending)
    sender.start()
    try:
        wait_for(lambda: sent > 20, "packets")
        bed.start()
        with entered(SERVER):
            for mapping in KEPT:
                bed.running.set_mapping(mapping)
            assert bed.running.adopt() == {mapping.tuple for mapping in KEPT}
            batch = bed.running._batch
            assert bed.running.commit() == []
            assert not batch
            now = sent
        wait_for(lambda: sent > now + 20, "packets")
    finally:
        going.clear()
        sender.join()
    bed.send(OUTSIDE, udp(YB, 1, NB, 20_001, b"last"))
    bed.tunnelled(forwarded(udp(YB, 1, NB, 20_001, b"last")))
    arrived = {one.octets[48:52] for one in bed.x.packets() if one.octets[40:42] == b"\0\2"}
    assert len(arrived) == sent
    bed.send(CLIENTS, wrap(XA, NA, udp(NB, 20_001, YB, 3, b"last")))
    bed.wait(bed.y, lambda one: one.octets[22:24] == b"\0\3", "the last one")
    arrived = {one.octets[28:32] for one in bed.y.packets() if one.octets[22:24] == b"\0\2"}
    assert len(arrived) == sent


def test_adopted_elements_are_left_alone(
    bed: NarKernelBed, monkeypatch: pytest.MonkeyPatch
) -> None:
    bed.start()
    bed.set(*KEPT)
    handles = inside(SERVER, "nft", "-a", "-t", "list", "table", "ip", "gateway_nar")
    bed.stop(keep=True)
    bed.start()
    assert (
        inside(SERVER, "nft", "-a", "-t", "list", "table", "ip", "gateway_nar").splitlines()[:40]
        == (handles.splitlines()[:40])
    )
    with entered(SERVER):
        for mapping in KEPT:
            bed.running.set_mapping(mapping)
        requests: list[bytes] = []
        transact = NetlinkSocket.transact

        def counting(self: NetlinkSocket, given: list[bytes], **more: int) -> object:
            requests.extend(given)
            return transact(self, given, **more)

        monkeypatch.setattr(NetlinkSocket, "transact", counting)
        assert bed.running.commit() == []
        assert requests == []


def test_what_nobody_set_is_gone_after_the_first_commit(bed: NarKernelBed) -> None:
    bed.start()
    bed.set(*KEPT)
    bed.stop(keep=True)
    nar = bed.start()
    with entered(SERVER):
        nar.set_mapping(KEPT[3])
        # Another client has the port now, and marks stay with those who had them.
        nar.set_mapping(replace(KEPT[0], client=XA2))
        assert nar.adopt() == {mapping.tuple for mapping in KEPT}
        assert nar.commit() == []
    bed.send(OUTSIDE, udp(YB, 1, NB, 20_001))
    bed.tunnelled(forwarded(udp(YB, 1, NB, 20_001)), client=XA2)
    bed.send(OUTSIDE, ah(YB, NB, 0x4000_0002))
    bed.send(OUTSIDE, tcp(YB, 80, NB, 20_002, flags=2))
    bed.wait(bed.y, lambda one: one.protocol == 6 and one.octets[33] & 4 == 4, "a reset")
    bed.stop(keep=True)
    nar = bed.start()
    assert nar.adopt() == {KEPT[3].tuple, KEPT[0].tuple}


def test_without_anybody_alive_the_box_takes_over(bed: NarKernelBed) -> None:
    bed.start(dead_after_s=1.0)
    bed.set(lease(P.TCP, 20_001), lease(P.UDP, 20_002, Delivery.TRANSLATED))
    bed.send(OUTSIDE, tcp(YB, 80, NB, 20_001, flags=2))
    bed.tunnelled(forwarded(tcp(YB, 80, NB, 20_001, flags=2)))

    def box_answers() -> bool:
        bed.send(OUTSIDE, tcp(YB, 80, NB, 20_001, flags=2))
        return any(one.protocol == 6 and one.octets[33] & 4 for one in bed.y.packets())

    wait_for(box_answers, "a reset by the box", 5)
    bed.forget()
    inner = tcp(NB, 20_001, YB, 80)
    bed.send(CLIENTS, wrap(XA, NA, inner))
    bed.send(CLIENTS, udp(XA, 20_002, YB, 9))
    bed.arrives(bed.y, forwarded(udp(XA, 20_002, YB, 9)))  # routed as anybody's
    assert [one for one in bed.y.packets() if one.protocol == 6 and one.source == NB] == []
    with entered(SERVER):
        bed.running.alive()
    bed.send(CLIENTS, wrap(XA, NA, inner))
    bed.arrives(bed.y, forwarded(inner))
    for _ in range(3):
        with entered(SERVER):
            bed.running.alive()
        bed.send(OUTSIDE, tcp(YB, 80, NB, 20_001))
        bed.tunnelled(forwarded(tcp(YB, 80, NB, 20_001)))
        bed.forget()


def test_other_addresses_interfaces_and_sizes(bed: NarKernelBed) -> None:
    bed.start()
    here, there = lease(P.UDP, 20_001), lease(P.UDP, 20_001, Delivery.GRE, address=NB2)
    bed.set(here, there)
    before = inside(SERVER, "nft", "-a", "-t", "list", "table", "ip", "gateway_nar")
    with entered(SERVER):
        server = replace(SOHO, addresses=(NB,), ports=(range(40_000, 40_100),))
        bed.running.reconfigure(replace(SETTINGS, servers=(server,), mtu=1400))
        assert RESERVED.read_text("ascii").strip() == "40000-40099"
        refused = bed.commit(there)
    assert "192.0.2.77" in refused[0].reason
    bed.send(OUTSIDE, udp(YB, 9, NB2, 20_001))
    bed.send(OUTSIDE, udp(YB, 9, NB, 20_001))
    bed.tunnelled(forwarded(udp(YB, 9, NB, 20_001)))
    assert [one for one in bed.x.packets() if one.protocol == 47] == []
    bed.send(OUTSIDE, udp(YB, 9, NB, 20_001, b"x" * 1400, fragment=0x4000))
    error = bed.wait(bed.y, lambda one: one.octets[20:22] == b"\x03\x04", "an error")
    assert int.from_bytes(error.octets[26:28], "big") == 1400
    # The rules are those that they were.
    after = inside(SERVER, "nft", "-a", "-t", "list", "table", "ip", "gateway_nar")
    assert [line for line in after.splitlines() if "chain" in line] == [
        line for line in before.splitlines() if "chain" in line
    ]
    with entered(SERVER):
        bed.running.reconfigure(replace(SETTINGS, servers=(replace(SOHO, client_interfaces=()),)))
    bed.forget()
    bed.send(CLIENTS, wrap(XA, NA, udp(NB, 20_001, YB, 9, b"no client's link")))
    with entered(SERVER):
        bed.running.reconfigure(SETTINGS)
    bed.send(CLIENTS, wrap(XA, NA, udp(NB, 20_001, YB, 9, b"again")))
    bed.arrives(bed.y, forwarded(udp(NB, 20_001, YB, 9, b"again")))
    assert [one for one in bed.y.packets() if one.source == NB and one.protocol == 17] == []


def test_a_mapping_is_replaced_and_removed(bed: NarKernelBed) -> None:
    bed.start()
    for mapping, delivery, client in (
        (lease(P.UDP, 20_001), Delivery.IP_IP, XA),
        (lease(P.UDP, 20_001, Delivery.GRE), Delivery.GRE, XA),
        (lease(P.UDP, 20_001, Delivery.GRE, client=XA2), Delivery.GRE, XA2),
        (lease(P.UDP, 20_001, Delivery.GRE, client=XA2, peer=YB), Delivery.GRE, XA2),
    ):
        bed.set(mapping)
        bed.forget()
        bed.send(OUTSIDE, udp(YB, 9, NB, 20_001))
        bed.tunnelled(forwarded(udp(YB, 9, NB, 20_001)), delivery, client)
    bed.send(CLIENTS, wrap(XA2, NA, udp(NB, 20_001, YB2, 9), Delivery.GRE))
    bed.send(CLIENTS, wrap(XA2, NA, udp(NB, 20_001, YB, 9), Delivery.GRE))
    bed.arrives(bed.y, forwarded(udp(NB, 20_001, YB, 9)))
    assert [one for one in bed.y.packets() if one.destination == YB2] == []
    # Two SPIs to one peer: the second one still may send when the first one ends.
    first, second = (lease(P.ESP, spi, peer=YB) for spi in (0x4000_0001, 0x4000_0002))
    bed.set(first, second)
    with entered(SERVER):
        bed.running.remove_mapping(first.tuple)
        assert bed.running.commit() == []
    bed.send(CLIENTS, wrap(XA, NA, esp(NB, YB, 9)))
    bed.arrives(bed.y, forwarded(esp(NB, YB, 9)))
    bed.clear()
    with entered(SERVER):
        left = {
            name: bed.running._foundation.sets.read(name)
            for name in ("udp_any", "esp_spi", "client_address", "tunnels_gre", "own_ipsec")
        }
    assert left == {name: {} for name in left}
    assert bed.running._mappings.wanted() == bed.running._constant


@pytest.mark.parametrize(
    ("mapping", "why"),
    [
        (replace(lease(P.UDP, 20_001), server="other"), "no server other"),
        (lease(P.UDP, 20_001, address=YB), "does not lend 192.0.2.9"),
        (lease(P.AH, 0x4000_0001, Delivery.TRANSLATED), "AH cannot be translated"),
        (lease(P.ICMP, 0xC001), "needs a remote"),
        (lease(P.IP_IP, 1), "needs a remote"),
        (lease(P.UDP, 20_001, client_port=5), "only translated"),
    ],
)
def test_what_cannot_be_is_refused(bed: NarKernelBed, mapping: NarMapping, why: str) -> None:
    bed.start()
    (refusal,) = bed.commit(mapping)
    assert refusal.tuple == mapping.tuple
    assert why in refusal.reason
    assert bed.commit() == []


def test_h74_what_the_box_has_is_occupied(bed: NarKernelBed) -> None:
    nar = bed.start()
    with entered(SERVER), socket.socket() as listening, socket.socket() as anywhere:
        listening.bind((str(NB), 20_080))
        listening.listen()
        anywhere.bind(("0.0.0.0", 20_081))
        assert nar.occupied(P.TCP, NB, 20_080)
        assert nar.occupied(P.TCP, NB, 20_081)
        # An address of a pool is none of the box's: its sockets hear nothing of it.
        assert not nar.occupied(P.TCP, NB2, 20_081)
        assert nar.hold_port(P.TCP, NB2, 20_081)
        nar.free_port(P.TCP, NB2, 20_081)
        assert not nar.occupied(P.TCP, NB, 20_082)
        assert not nar.occupied(P.UDP, NB, 20_080)
        assert nar.hold_port(P.TCP, NB, 20_090)
        assert nar.hold_port(P.TCP, NB, 20_090)
        assert not nar.occupied(P.TCP, NB, 20_090)
        assert not nar.hold_port(P.TCP, NB, 20_080)
        with socket.socket() as late, pytest.raises(OSError, match="in use"):
            late.bind((str(NB), 20_090))
        nar.free_port(P.TCP, NB, 20_090)
        with socket.socket() as again:
            again.bind((str(NB), 20_090))


def test_h73_an_spi_of_the_box_is_occupied(bed: NarKernelBed) -> None:
    nar = bed.start()
    if planes.portable():
        _occupied_by_the_forwarder(nar)
        return
    inside(SERVER, "ip", "xfrm", "state", "add", "src", YB, "dst", NB, "proto", "esp",
           "spi", "0x40000009", "reqid", "1", "mode", "transport", "aead", "rfc4106(gcm(aes))",
           "0x" + "07" * 20, "128")  # fmt: skip
    try:
        with entered(SERVER):
            assert nar.occupied(P.ESP, NB, 0x4000_0009)
            assert not nar.occupied(P.AH, NB, 0x4000_0009)
            assert not nar.occupied(P.ESP, NB, 0x4000_000A)
            assert not nar.occupied(P.ESP, NB2, 0x4000_0009)
    finally:
        inside(SERVER, "ip", "xfrm", "state", "flush")


def _occupied_by_the_forwarder(nar: KernelNar) -> None:
    """An SA in user space has its SPI whatever its address is."""
    with entered(SERVER):
        forwarder = planes.plane().forwarder()
        everywhere = (ANY_IPV4,)
        keys = EspKeys(b"k" * 20)
        sa = ChildSa(
            0x4000_0009, 0x1234, 1, GCM, keys, keys, Endpoint(NB, 500), Endpoint(YB, 500), False,
            everywhere, everywhere,
        )  # fmt: skip
        forwarder.install(sa, outbound=True)
        assert forwarder.commit() == ([], [])
        try:
            assert nar.occupied(P.ESP, NB, 0x4000_0009)
            assert not nar.occupied(P.AH, NB, 0x4000_0009)
            assert not nar.occupied(P.ESP, NB, 0x4000_000A)
        finally:
            forwarder.remove(sa.spi_in)
            forwarder.commit()
            forwarder.close(keep=False)


def test_a_second_process_leaves_the_first_one_alone(bed: NarKernelBed) -> None:
    bed.start()
    bed.set(*KEPT)
    before = picture()
    with entered(SERVER):
        second = planes.nar(SETTINGS)
        with pytest.raises(DataplaneUnavailableError, match=r"(queue|group) 4759"):
            second.start()
        second.close(keep=False)
    assert picture() == before
    bed.send(OUTSIDE, udp(YB, 1, NB, 20_001))
    bed.tunnelled(forwarded(udp(YB, 1, NB, 20_001)))


def test_a_start_that_fails_leaves_what_an_earlier_process_left(
    bed: NarKernelBed, monkeypatch: pytest.MonkeyPatch
) -> None:
    bed.start()
    bed.set(*KEPT)
    bed.stop(keep=True)
    before = picture()

    def fails(*_: object, **__: object) -> None:
        raise OSError("no more memory")

    with monkeypatch.context() as patched:
        patched.setattr("gateway.dataplane.kernel.nar.dataplane.SlowPath", fails)
        with pytest.raises(DataplaneUnavailableError, match="no more memory"):
            bed.start()
    assert picture() == before
    bed.send(OUTSIDE, udp(YB, 1, NB, 20_001))
    bed.tunnelled(forwarded(udp(YB, 1, NB, 20_001)))


def test_a_foreign_interface_of_our_name_is_left_alone(bed: NarKernelBed) -> None:
    inside(SERVER, "ip", "link", "add", "nar-gre", "type", "bridge")
    try:
        with pytest.raises(DataplaneUnavailableError, match="nar-gre exists and is not ours"):
            bed.start()
        assert "nar-gre" in inside(SERVER, "ip", "-br", "link")
    finally:
        inside(SERVER, "ip", "link", "del", "nar-gre")


def counting_requests(
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[], tuple[int, int]]:
    """System calls and requests that netlink sockets made since."""
    calls = sent = 0
    exchange = NetlinkSocket._exchange

    def counted(self: NetlinkSocket, requests: list[bytes], *rest: object) -> None:
        nonlocal calls, sent
        calls += 1
        sent += len(requests)
        exchange(self, requests, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(NetlinkSocket, "_exchange", counted)
    return lambda: (calls, sent)


def test_ten_thousand_mappings(bed: NarKernelBed, monkeypatch: pytest.MonkeyPatch) -> None:
    bed.start()
    rules = rule_count()
    made = counting_requests(monkeypatch)
    clients = [IPv4Address("10.0.0.2") + number for number in range(200)]
    mappings = [
        lease(P.UDP, 20_000 + number, client=clients[number % 200]) for number in range(10_000)
    ]
    bed.set(*mappings)
    calls, sent = made()
    # Two elements for each, three for each client, and the two ends of each transaction.
    assert sent <= 20_000 + 600 + 200
    assert calls <= 120
    assert rule_count() == rules
    for number in (0, 5_001, 9_800):
        bed.send(OUTSIDE, udp(YB, 9, NB, 20_000 + number))
        bed.tunnelled(forwarded(udp(YB, 9, NB, 20_000 + number)), client=clients[number % 200])
    bed.stop(keep=True)
    nar = bed.start()
    with entered(SERVER):
        for mapping in mappings:
            nar.set_mapping(mapping)
        calls, sent = made()
        assert nar.commit() == []
        assert made()[1] == sent


def rule_count() -> int:
    with entered(SERVER):
        return len(run("nft", "-t", "list", "table", "ip", "gateway_nar").splitlines())


def test_the_ruleset_is_loaded_again_when_it_is_another(
    bed: NarKernelBed, monkeypatch: pytest.MonkeyPatch
) -> None:
    bed.start()
    bed.set(KEPT[0])
    bed.stop(keep=True)
    render = ruleset.render

    def changed(settings: NarSettings, words: Words, reserved: Iterable[range] = ()) -> str:
        text = render(settings, words, reserved)
        return text[: text.rindex("add chain")] + "add chain ip gateway_nar version_other\n"

    monkeypatch.setattr(ruleset, "render", changed)
    bed.start()
    bed.set(KEPT[0])
    bed.send(OUTSIDE, udp(YB, 1, NB, 20_001))
    bed.tunnelled(forwarded(udp(YB, 1, NB, 20_001)))


def test_what_the_kernel_lacks_is_named(bed: NarKernelBed, monkeypatch: pytest.MonkeyPatch) -> None:
    with entered(SERVER):
        assert missing.missing() == []
    before = picture()

    def refuse(text: str) -> str:
        if "queue num" in text or "log group" in text:
            raise RulesetRefusedError("Error: Could not process rule: No such file or directory")
        return run_nft(text)

    with monkeypatch.context() as patched:
        patched.setattr(ruleset, "run_nft", refuse)
        patched.setattr(missing, "run_nft", refuse)
        with pytest.raises(DataplaneUnavailableError, match=r"lacks NF(QUEUE|LOG)"):
            bed.start()
    assert picture() == before
