"""A dataplane is handed over to the next process: nothing is lost, nothing foreign is touched."""

# planes: kernel portable

import dataclasses
import re
import subprocess
from collections.abc import Iterator, Sequence
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from dataplane_bed import (
    CBC_384,
    CHACHA,
    DEVICE,
    GATEWAY,
    GCM,
    GCM_ESN,
    INTRANET_HOST,
    INTRANET_NET,
    POOL,
    Bed,
    child_sa,
    entered,
    inside,
)

from gateway.dataplane.interface import SaExpired
from gateway.dataplane.kernel.settings import KernelSettings
from gateway.domain.child_sa import ChildSa, EspKeys, EspSuite, TrafficSelector
from gateway.domain.endpoint import Endpoint
from gateway.lab import planes

pytestmark = pytest.mark.kernel
# clock: real (packets must have time to be lost)

NO_KEYS = EspKeys(b"")
HALF_S = 100
"""Packets at 5 ms."""


@pytest.fixture
def bed() -> Iterator[Bed]:
    with Bed() as made:
        yield made


def remembered(sa: ChildSa, **changes: Any) -> ChildSa:
    """As a record has it: without keys."""
    return dataclasses.replace(sa, keys_in=NO_KEYS, keys_out=NO_KEYS, **changes)


def hand_over(bed: Bed, children: Sequence[tuple[ChildSa, bool]], **changes: Any) -> list[int]:
    """The next process takes over; the SPIs that it misses."""
    with entered(GATEWAY):
        if bed.dataplane is not None:
            bed.dataplane.close(keep=True)
        fields: dict[str, Any] = {
            "inner_networks": (POOL,),
            "protected_networks": (INTRANET_NET,),
            "outside_interfaces": ("out1",),
        }
        bed.dataplane = planes.dataplane(KernelSettings(**{**fields, **changes}))
        bed.dataplane.start(adopt=True)
        return bed.dataplane.adopt(children)


def traffic(bed: Bed, count: int = HALF_S) -> subprocess.Popen[str]:
    with entered(DEVICE):
        return subprocess.Popen(
            ["ping", "-n", "-c", str(count), "-i", "0.005", "-W", "1", "-I", "10.9.0.1",
             str(INTRANET_HOST)], stdout=subprocess.PIPE, text=True)  # fmt: skip


def lost_packets(ping: subprocess.Popen[str], count: int = HALF_S) -> int:
    out = ping.communicate(timeout=60)[0]
    return count - int(out.split(" received")[0].split()[-1])


def known_esp() -> str:
    """What the kernel dataplane's ruleset knows of SAs that may move."""
    return inside(GATEWAY, "nft", "list", "set", "inet", "gateway", "known_esp", check=False)


def flush(sa: ChildSa) -> None:
    """Somebody removes the inbound half; and has an SA of his own, where the kernel can."""
    if planes.portable():
        with entered(GATEWAY):
            view = planes.plane().forwarder()
            view.remove(sa.spi_in)
            view.commit()
            view.close(keep=True)
        return
    inside(GATEWAY, "ip", "xfrm", "state", "add", "src", "203.0.113.1", "dst", "203.0.113.2",
           "proto", "esp", "spi", "0x77", "reqid", "12", "mode", "tunnel", "aead",
           "rfc4106(gcm(aes))", "0x" + "07" * 20, "128")  # fmt: skip
    inside(GATEWAY, "ip", "xfrm", "state", "delete", "dst", "192.0.2.1", "proto", "esp", "spi",
           hex(sa.spi_in))  # fmt: skip


def without_index(text: str) -> str:
    """Interfaces that were made again have another number, the far end another address."""
    return re.sub(r"^\d+: |link-netnsid \d+", "", text, flags=re.MULTILINE)


def picture() -> str:
    """Everything in the gateway's kernel that is not counted; policies in any order."""
    commands = ["ip -d link show gw0", "ip route", "nft -s list ruleset"]
    policies = inside(GATEWAY, "ip", "xfrm", "policy").split("\nsrc ")
    rest = [inside(GATEWAY, *command.split()) for command in commands]
    return "\n".join([*rest, *sorted(one.removeprefix("src ").strip() for one in policies)])


@pytest.mark.parametrize(
    "suite", [GCM, GCM_ESN, CHACHA, CBC_384], ids=["gcm", "gcm_esn", "chacha", "cbc_esn"]
)
def test_twenty_hand_overs_lose_no_packet(bed: Bed, suite: EspSuite) -> None:
    sa = child_sa(suite, follow_endpoint=True)
    dataplane = bed.start()
    dataplane.install_child_sa(sa)
    assert dataplane.commit() == []
    bed.device_states(sa)
    assert bed.ping()
    before = picture()
    ping = traffic(bed)
    for _ in range(5):
        assert hand_over(bed, [(remembered(sa), True)]) == []
    assert lost_packets(ping) == 0
    assert picture() == before
    # It can still move, with keys that only the kernel had, and sequence numbers go on.
    moved = Endpoint(ip_address("192.0.2.11"), 4500)
    assert bed.dataplane is not None
    bed.dataplane.move_child_sa(sa.spi_in, sa.local, moved, udp_encapsulation=False)
    with entered(GATEWAY):
        assert bed.dataplane.commit() == []
    sent = bed.dataplane.usage(sa.spi_in)
    assert sent is not None
    assert sent.packets_in >= HALF_S
    bed.device_states(sa, "192.0.2.11")
    bed.dataplane.remove_child_sa(sa.spi_in)
    with entered(GATEWAY):
        assert bed.dataplane.commit() == []
    assert "spi" not in bed.states()


def test_another_version_of_the_rules_replaces_them_with_their_peers(bed: Bed) -> None:
    sa = child_sa(follow_endpoint=True, vpn_fa=False)
    dataplane = bed.start()
    dataplane.install_child_sa(sa)
    assert dataplane.commit() == []
    bed.device_states(sa)
    ping = traffic(bed)
    for mtu in (1380, 1400):  # the size of TCP segments is in the rules
        assert hand_over(bed, [(remembered(sa), True)], mtu=mtu) == []
        assert "192.0.2.10 . " in known_esp() or planes.portable()
    assert lost_packets(ping) == 0


def test_what_no_record_knows_is_removed_and_what_is_gone_is_told(bed: Bed) -> None:
    kept, unknown, flushed = (
        child_sa(
            spi_in=0x1001 + n,
            spi_out=0x2001 + n,
            reqid=n + 1,
            remote_ts=(TrafficSelector.of_address(ip_address(f"10.9.0.{n + 1}")),),
            follow_endpoint=True,
        )
        for n in range(3)
    )
    behind = child_sa(
        spi_in=0x1009,
        spi_out=0x2009,
        reqid=9,
        remote_ts=(TrafficSelector.of_network(ip_network("172.20.0.0/24")),),
    )
    dataplane = bed.start()
    for sa in (kept, unknown, flushed, behind):
        dataplane.install_child_sa(sa)
    assert dataplane.commit() == []
    flush(flushed)
    lost = hand_over(bed, [(remembered(kept), True), (remembered(flushed), True)])
    assert lost == [flushed.spi_in]
    states = bed.states()
    assert states.count("proto esp") == (2 if planes.portable() else 3)
    if not planes.portable():
        assert "spi 0x00000077" in states
        policies = inside(GATEWAY, "ip", "xfrm", "policy")
        assert policies.count("dir out") == 1
        assert "dst 10.9.0.1/32" in policies
    routes = inside(GATEWAY, "ip", "route")
    assert "172.20.0.0/24" not in routes
    assert "10.9.0.0/16" in routes
    if not planes.portable():
        assert known_esp().count(" . ") == 2  # its type, and one element


def test_a_flushed_kernel_is_built_anew(bed: Bed) -> None:
    sa = child_sa(follow_endpoint=True)
    dataplane = bed.start()
    dataplane.install_child_sa(sa)
    assert dataplane.commit() == []
    before = picture()
    for command in ("nft delete table inet gateway", "ip link del gw0"):
        inside(GATEWAY, *command.split())
    if planes.portable():
        # The forwarder ends with its interface, and no number may be used twice.
        assert hand_over(bed, [(remembered(sa), True)]) == [sa.spi_in]
        assert without_index(picture()) == without_index(before)
        return
    inside(GATEWAY, "ip", "xfrm", "policy", "flush")
    assert hand_over(bed, [(remembered(sa), True)]) == []
    assert picture().partition(":")[2] == before.partition(":")[2]  # the index is another one
    bed.device_states(sa)
    assert bed.ping()
    inside(GATEWAY, "ip", "xfrm", "state", "flush")
    assert hand_over(bed, [(remembered(sa), True)]) == [sa.spi_in]
    assert inside(GATEWAY, "ip", "xfrm", "policy").count("dir out") == 0


def test_the_kernel_follows_a_record_that_knows_a_later_address(bed: Bed) -> None:
    sa = child_sa(follow_endpoint=True)
    dataplane = bed.start()
    dataplane.install_child_sa(sa)
    assert dataplane.commit() == []
    bed.device_states(sa)
    assert bed.ping()
    moved = Endpoint(ip_address("192.0.2.12"), 4500)
    assert hand_over(bed, [(remembered(sa, remote=moved), True)]) == []
    states = bed.states()
    assert "dst 192.0.2.12" in states
    assert "dst 192.0.2.10" not in states


def test_a_rekeying_is_taken_over_at_every_step(bed: Bed) -> None:
    old = child_sa(follow_endpoint=True)
    new = child_sa(follow_endpoint=True, spi_in=0x1002, spi_out=0x2002)
    dataplane = bed.start()
    dataplane.install_child_sa(old)
    dataplane.install_child_sa(new, outbound=False)
    assert dataplane.commit() == []
    bed.device_states(old)
    assert hand_over(bed, [(remembered(old), True), (remembered(new), False)]) == []
    assert bed.ping()
    assert bed.dataplane is not None
    bed.dataplane.activate_outbound(new.spi_in)
    with entered(GATEWAY):
        assert bed.dataplane.commit() == []
    # The old one's outbound half is gone by now, though its record does not say so.
    assert hand_over(bed, [(remembered(old), True), (remembered(new), True)]) == []
    bed.device_states(new)
    assert bed.ping()
    bed.dataplane.remove_child_sa(old.spi_in)
    with entered(GATEWAY):
        assert bed.dataplane.commit() == []
    assert bed.ping()
    assert bed.states().count("proto esp") == 2


def test_a_record_of_other_algorithms_is_not_its_sa(bed: Bed) -> None:
    sa = child_sa(GCM)
    dataplane = bed.start()
    dataplane.install_child_sa(sa)
    assert dataplane.commit() == []
    assert hand_over(bed, [(remembered(sa, suite=CBC_384), True)]) == [sa.spi_in]
    assert "proto esp" not in bed.states()


def test_a_limit_that_was_reached_meanwhile_is_an_event(bed: Bed) -> None:
    sa = child_sa(soft_packets=2, hard_packets=1000)
    dataplane = bed.start()
    dataplane.install_child_sa(sa)
    assert dataplane.commit() == []
    bed.device_states(sa)
    assert bed.ping(3)
    assert hand_over(bed, [(remembered(sa), True)]) == []
    assert bed.dataplane is not None
    assert bed.dataplane.read_events() == [SaExpired(sa.spi_in, hard=False)]
