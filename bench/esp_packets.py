"""What the portable dataplane's ESP costs for each packet, without sockets: microseconds.

``python -m bench.esp_packets`` prints one line for each suite.
"""

import os
import statistics
import time
from collections.abc import Callable, Sequence
from ipaddress import ip_address, ip_network

from bench.measure import Bar, Result
from gateway.dataplane.packet.ipv4 import build
from gateway.dataplane.portable.esp.engine import EspEngine
from gateway.domain.child_sa import (
    ChildSa,
    Encryption,
    EspKeys,
    EspSuite,
    Integrity,
    TrafficSelector,
)
from gateway.domain.endpoint import Endpoint

OCTETS = 1400
BATCH = 64
ROUNDS = 150
LINK = "gw0"
SUITES = (
    EspSuite(Encryption.AES_GCM_16, 128, Integrity.NONE, esn=True),
    EspSuite(Encryption.AES_GCM_16, 256, Integrity.NONE, esn=False),
    EspSuite(Encryption.CHACHA20_POLY1305, 256, Integrity.NONE, esn=True),
    EspSuite(Encryption.AES_CBC, 256, Integrity.HMAC_SHA2_256_128, esn=True),
)
_MAC_OCTETS = {Integrity.NONE: 0, Integrity.HMAC_SHA2_256_128: 32}


def both_ends(suite: EspSuite, *, udp: bool = False) -> tuple[ChildSa, ChildSa]:
    """A child SA as its two ends have it."""
    salt = 4 if suite.encryption.is_aead else 0
    ours, theirs = (
        EspKeys(os.urandom(suite.key_bits // 8 + salt), os.urandom(_MAC_OCTETS[suite.integrity]))
        for _ in range(2)
    )
    here, there = (Endpoint(ip_address(one), 4500) for one in ("192.0.2.1", "198.51.100.7"))
    near = (TrafficSelector.of_network(ip_network("10.1.0.0/16")),)
    far = (TrafficSelector.of_address(ip_address("10.9.0.5")),)
    return (
        ChildSa(1, 2, 7, suite, ours, theirs, here, there, udp, near, far),
        ChildSa(2, 1, 7, suite, theirs, ours, there, here, udp, far, near),
    )


def microseconds(suite: EspSuite, *, udp: bool = False) -> tuple[float, float]:
    """For one packet to be sealed and to be opened: the median of batches."""
    ends = [EspEngine(LINK, 0, 1, os.urandom) for _ in range(2)]
    for engine, sa in zip(ends, both_ends(suite, udp=udp), strict=True):
        refused = engine.install(sa, outbound=True)
        if refused is not None:
            raise ValueError(refused)
    near, far = ip_address("10.1.0.1"), ip_address("10.9.0.5")
    packets = [(build(near, far, 17, os.urandom(OCTETS - 20)), 0)] * BATCH  # type: ignore[arg-type]
    spent: tuple[list[float], list[float]] = ([], [])
    for number in range(ROUNDS):
        start = time.perf_counter()
        ends[0].advance(number)
        ends[0].leaving(LINK, packets)
        sealed = time.perf_counter()
        ends[1].advance(number)
        ends[1].arrived(ends[0].sends)
        opened = time.perf_counter()
        spent[0].append(sealed - start)
        spent[1].append(opened - sealed)
        if len(ends[1].delivers) != BATCH:
            raise ValueError(f"packets were lost: {ends[1].counters}")
        ends[0].sends.clear()
        ends[1].delivers.clear()
    seal, opening = (statistics.median(one) * 1e6 / BATCH for one in spent)
    return seal, opening


def run(say: Callable[[str], None]) -> Sequence[Result]:
    """A bar for the usual suite; the others stand beside it."""
    results = []
    for suite in SUITES:
        seal, opening = microseconds(suite)
        say(f"{suite}: {seal:.2f} and {opening:.2f} us")
        bar = Bar(4.0, at_least=False) if suite is SUITES[0] else None
        results.append(
            Result(f"esp_packets.seal_{suite.encryption.value}_{suite.key_bits}", seal, "us", bar)
        )
        results.append(
            Result(
                f"esp_packets.open_{suite.encryption.value}_{suite.key_bits}", opening, "us", bar
            )
        )
    return results


if __name__ == "__main__":
    run(print)
