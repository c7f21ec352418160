"""Both dataplanes seal the same packets: headers and sizes outside, octets inside.

tshark reads what either sends, and decrypts it with the keys.
"""

# planes: portable-guest

import socket
import struct
import subprocess
import time
from pathlib import Path

import pytest
from dataplane_bed import (
    CBC,
    CBC_384,
    CBC_512,
    CHACHA,
    DEVICE,
    GATEWAY,
    GCM,
    GCM_ESN,
    INTRANET,
    Bed,
    child_sa,
    entered,
)
from mobility_kernel_bed import ip, send_raw

from gateway.domain.child_sa import ChildSa, EspSuite, Integrity
from gateway.lab import planes
from gateway.lab.capture import dissect

pytestmark = pytest.mark.kernel

SUITES = {
    "gcm": GCM,
    "gcm-esn": GCM_ESN,
    "chacha-esn": CHACHA,
    "cbc-256": CBC,
    "cbc-384-esn": CBC_384,
    "cbc-512-esn": CBC_512,
}
SIZES = (0, 1, 2, 3, 15, 16, 17, 100, 1300)
DONT_FRAGMENT = 0x4000
SOON_S = 5.0
OUTSIDE = ["ip.len", "ip.dsfield", "ip.flags", "ip.frag_offset", "ip.ttl", "ip.proto", "ip.src",
           "ip.dst", "udp.srcport", "udp.dstport", "udp.length", "udp.checksum", "esp.spi",
           "esp.sequence"]  # fmt: skip
INSIDE = ["esp.pad_len", "esp.protocol", "data.data"]
PCAP = struct.pack("=IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 101)
CIPHERS = {"gcm": "AES-GCM with 16 octet ICV [RFC4106]", "cbc": "AES-CBC [RFC3602]"}
DIGESTS = {
    Integrity.NONE: "NULL",
    Integrity.HMAC_SHA2_256_128: "HMAC-SHA-256-128 [RFC4868]",
}


def sent(suite: EspSuite, *, udp: bool, into: Path) -> Path:
    """What the gateway sends to the device for packets from the intranet, as a capture."""
    sa = child_sa(suite, udp_encapsulation=udp)
    with Bed() as bed:
        dataplane = bed.start()
        dataplane.install_child_sa(sa)
        assert dataplane.commit() == []
        with entered(DEVICE):
            frames = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
        with frames, bed.udp_encap_socket(GATEWAY, "192.0.2.1", 4500):
            frames.bind(("out0", 0x0800))
            frames.settimeout(SOON_S)
            with into.open("wb") as out:
                out.write(PCAP)
                for packet in originals():
                    send_raw(INTRANET, packet)
                    sealed = next_esp(frames)
                    now = time.time_ns() // 1000
                    lengths = (len(sealed), len(sealed))
                    out.write(struct.pack("=IIII", now // 10**6, now % 10**6, *lengths) + sealed)
    return into


def originals() -> list[bytes]:
    """Datagrams of many sizes, with and without leave to cut them up, one of them marked."""
    found = []
    for size in SIZES:
        for fragment in (0, DONT_FRAGMENT):
            datagram = struct.pack("!HHHH", 9, 9000, 8 + size, 0) + bytes(
                i & 255 for i in range(size)
            )
            found.append(ip("10.1.0.2", "10.9.0.1", 17, datagram, fragment=fragment))
    marked = bytearray(found[-1])
    marked[1] = 0xB8 | 1  # expedited, and able to hear of congestion
    marked[10:12] = bytes(2)  # the kernel fills in the checksum
    return [*found, bytes(marked)]


def next_esp(frames: socket.socket) -> bytes:
    """The next packet for the device, from its IPv4 header on."""
    while True:
        packet = frames.recv(70000)[14:]
        if packet[12:16] == bytes((192, 0, 2, 1)) and packet[9] in {17, 50}:
            return packet[: struct.unpack_from("!H", packet, 2)[0]]


def decryption(sa: ChildSa) -> list[str]:
    """Preferences with which tshark decrypts what the gateway sends; none for what it cannot."""
    kind = "gcm" if sa.suite is GCM else "cbc" if sa.suite is CBC else ""
    if not kind:
        return []
    keys = sa.keys_out
    digest = f"0x{keys.integrity.hex()}" if keys.integrity else ""
    row = ("IPv4", "192.0.2.1", "192.0.2.10", f"0x{sa.spi_out:08x}", CIPHERS[kind],
           f"0x{keys.encryption.hex()}", DIGESTS[sa.suite.integrity], digest)  # fmt: skip
    words = ",".join(f'"{one}"' for one in row)
    return ["esp.enable_encryption_decode:TRUE", f"uat:esp_sa:{words}"]


@pytest.mark.parametrize(
    ("suite", "udp"), [*((suite, False) for suite in SUITES), ("gcm", True), ("cbc-256", True)]
)
def test_the_same_packets(
    suite: str, udp: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = {}
    keys = decryption(child_sa(SUITES[suite]))
    fields = OUTSIDE + (INSIDE if keys else [])
    for kind in planes.KINDS:
        monkeypatch.setenv(planes.VARIABLE, kind)
        pcap = sent(SUITES[suite], udp=udp, into=tmp_path / f"{kind}.pcap")
        rows[kind] = dissect(pcap, "esp", fields, preferences=keys)
    assert len(rows["kernel"]) == len(originals())
    assert rows["portable"] == rows["kernel"]
    if keys:
        carried = [row[-1] for row in rows["portable"]]
        assert carried == [one[28:].hex() for one in originals()]


def test_tshark_can_decrypt() -> None:
    """Or the comparison of what is inside would be one of nothing with nothing."""
    version = subprocess.run(["tshark", "-v"], capture_output=True, text=True, check=True).stdout
    assert "with Gcrypt" in version
