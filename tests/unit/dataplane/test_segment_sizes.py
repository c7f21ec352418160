"""Which devices have a segment size of their own, and what is written when that changes."""

from collections.abc import Sequence
from dataclasses import replace
from ipaddress import IPv4Address, ip_address
from typing import Any, cast

import pytest

from gateway.dataplane.kernel.child import InstalledChild
from gateway.dataplane.kernel.nft_elements import ElementChange, SetElements
from gateway.dataplane.kernel.segment_sizes import MSS4, MSS6, SegmentSizes
from gateway.dataplane.kernel.ways import Question, Way, Ways
from gateway.domain.child_sa import (
    ChildSa,
    Encryption,
    EspKeys,
    EspSuite,
    Integrity,
    Mode,
    TrafficSelector,
)
from gateway.domain.endpoint import Endpoint

GCM = EspSuite(Encryption.AES_GCM_16, 256, Integrity.NONE, esn=True)
CBC = EspSuite(Encryption.AES_CBC, 256, Integrity.HMAC_SHA2_512_256, esn=False)
DEVICE = ip_address("10.9.0.1")
DEVICE6 = ip_address("fd00:9::1")


class Kernel:
    """Both the maps and the ways."""

    def __init__(self, link: int = 1500) -> None:
        self.link: int | None = link
        self.maps: dict[tuple[str, bytes], int] = {}
        self.writes = 0

    def of(self, questions: Sequence[Question]) -> list[Way | None]:
        way = None if self.link is None else Way("outside", self.link, 0)
        return [way for _ in questions]

    def read(self, name: str) -> dict[bytes, bytes]:
        return {
            key: value.to_bytes(2, "big") for (of, key), value in self.maps.items() if of == name
        }

    def apply(self, changes: Sequence[ElementChange]) -> None:
        self.writes += 1
        for one in changes:
            if one.add:
                assert (one.name, one.key) not in self.maps, "the kernel refuses another value"
                self.maps[one.name, one.key] = int.from_bytes(one.data or b"", "big")
            else:
                del self.maps[one.name, one.key]


def sizes(kernel: Kernel, mtu: int = 1400) -> SegmentSizes:
    stands_in = cast("Any", kernel)
    return SegmentSizes(cast("SetElements", stands_in), cast("Ways", stands_in), mtu)


def child(number: int = 1, suite: EspSuite = CBC, **changes: Any) -> InstalledChild:
    sa = ChildSa(
        spi_in=0x1000 + number,
        spi_out=0x2000 + number,
        reqid=number,
        suite=suite,
        keys_in=EspKeys(b""),
        keys_out=EspKeys(b""),
        local=Endpoint(ip_address("2001:db8::1"), 4500),
        remote=Endpoint(ip_address("2001:db8::2"), 4500),
        udp_encapsulation=True,
        local_ts=(TrafficSelector(IPv4Address(0), IPv4Address(2**32 - 1)),),
        remote_ts=(TrafficSelector.of_address(DEVICE), TrafficSelector.of_address(DEVICE6)),
    )
    return InstalledChild(replace(sa, **changes), [])


def test_most_devices_need_none() -> None:
    kernel = Kernel()
    segments = sizes(kernel)
    segments.look_at(child(suite=GCM))
    segments.commit()
    assert not kernel.maps
    assert not kernel.writes


def test_a_heavy_suite_by_ipv6_gets_smaller_segments() -> None:
    kernel = Kernel()
    segments = sizes(kernel)
    segments.look_at(child())
    segments.commit()
    # 1500 - 40 - 8 - 8 - 16 - 32 = 1396: 1392 in blocks of 16, two less for the trailer.
    assert kernel.maps == {(MSS4, DEVICE.packed): 1350, (MSS6, DEVICE6.packed): 1330}
    segments.forget(0x1001)
    segments.commit()
    assert not kernel.maps


def test_a_narrow_link_makes_all_smaller() -> None:
    kernel = Kernel(link=1300)
    segments = sizes(kernel)
    segments.look_at(child(suite=GCM))
    segments.commit()
    assert kernel.maps[MSS4, DEVICE.packed] == 1300 - 40 - 8 - 8 - 8 - 16 - 2 - 40
    # IPv6 needs 1280 whatever the tunnel carries: then it is fragmented outside.
    assert kernel.maps[MSS6, DEVICE6.packed] == 1280 - 60


def test_during_a_rekeying_the_smaller_counts_and_nothing_is_refused() -> None:
    kernel = Kernel()
    segments = sizes(kernel, mtu=1450)
    segments.look_at(child(1, GCM))
    segments.commit()
    before = kernel.maps[MSS4, DEVICE.packed]
    segments.look_at(child(2, CBC))
    segments.commit()
    assert kernel.maps[MSS4, DEVICE.packed] < before
    segments.forget(0x1002)
    segments.commit()
    assert kernel.maps[MSS4, DEVICE.packed] == before


def test_a_move_is_looked_at_anew() -> None:
    kernel = Kernel()
    segments = sizes(kernel)
    one = child()
    segments.look_at(one)
    segments.commit()
    one.remote = Endpoint(ip_address("192.0.2.10"), 4500)
    one.local = Endpoint(ip_address("192.0.2.1"), 4500)
    one.udp_encapsulation = False
    segments.look_at(one)
    segments.commit()
    # 20 octets less of IP and 8 of UDP leave more than the interface's MTU.
    assert not kernel.maps


def test_what_an_earlier_process_left_is_compared() -> None:
    kernel = Kernel()
    kernel.maps = {(MSS4, DEVICE.packed): 1350, (MSS4, b"\x0a\x09\x00\x63"): 1200}
    segments = sizes(kernel)
    segments.adopt()
    segments.look_at(child())
    segments.commit()
    assert kernel.maps == {(MSS4, DEVICE.packed): 1350, (MSS6, DEVICE6.packed): 1330}


@pytest.mark.parametrize(
    "changes",
    [
        {"mode": Mode.TRANSPORT},
        {"remote": Endpoint(ip_address("127.64.0.1"), 4500)},
    ],
    ids=["transport mode", "by TCP"],
)
def test_who_does_not_pass_the_interface_or_comes_by_tcp(changes: dict[str, Any]) -> None:
    kernel = Kernel()
    segments = sizes(kernel)
    segments.look_at(child(**changes))
    segments.commit()
    assert not kernel.maps


def test_without_a_route_nothing_is_written() -> None:
    kernel = Kernel()
    kernel.link = None
    segments = sizes(kernel)
    segments.look_at(child())
    segments.commit()
    assert not kernel.writes
