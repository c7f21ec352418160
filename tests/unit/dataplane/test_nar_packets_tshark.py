"""tshark as the judge of what NAR's packet functions send: every checksum, every length."""

import json
import shutil
import struct
import subprocess
from pathlib import Path

import nar_packets as bed
import pytest
from nar_packets import INSIDE, NA, NB, OUTSIDE, XA, YB, incoming, mapping, outgoing, the_path

from gateway.domain.nar import Delivery

pytestmark = pytest.mark.skipif(not shutil.which("tshark"), reason="needs tshark")

RAW_IPV4 = 228
CHECKED = ("ip", "tcp", "udp", "icmp", "gre")
GOOD, NOT_THERE, UNVERIFIED = "1", "3", "2"


def dissected(packets: list[bytes], where: Path) -> list[dict[str, list[str]]]:
    """What tshark says of each: all values of every field, the innermost last."""
    file = where / "nar.pcap"
    octets = struct.pack("=IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 0xFFFF, RAW_IPV4)
    for packet in packets:
        octets += struct.pack("=IIII", 0, 0, len(packet), len(packet)) + packet
    file.write_bytes(octets)
    fields = ["ip.src", "ip.dst", "ip.proto", "ip.ttl", "_ws.malformed", "ip.bogus_ip_length"]
    fields += [f"{name}.checksum.status" for name in CHECKED]
    command = ["tshark", "-r", str(file), "-T", "json", "--no-duplicate-keys"]
    command += ["--disable-protocol", "dns", "--disable-protocol", "http"]
    for name in ("ip", "tcp", "udp"):
        command += ["-o", f"{name}.check_checksum:TRUE"]
    for field in fields:
        command += ["-e", field]
    shown = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    return [one["_source"].get("layers", {}) for one in json.loads(shown)]


def judge(packets: list[bytes], where: Path) -> list[dict[str, list[str]]]:
    found = dissected(packets, where)
    assert len(found) == len(packets)
    for packet, layers in zip(packets, found, strict=True):
        text = f"{packet.hex()}: {layers}"
        assert "_ws.malformed" not in layers, text
        assert set(layers["ip.checksum.status"]) == {GOOD}, text
        for name in ("tcp", "udp", "icmp", "gre"):
            # What is quoted cannot be verified where its end lacks.
            told = set(layers.get(f"{name}.checksum.status", ()))
            assert told <= {GOOD, NOT_THERE, UNVERIFIED}, text
    return found


@pytest.mark.parametrize("delivery", [Delivery.IP_IP, Delivery.GRE, Delivery.TRANSLATED])
def test_everything_that_is_sent(delivery: Delivery, tmp_path: Path) -> None:
    translated = delivery is Delivery.TRANSLATED
    packets: list[bytes] = []
    directions: list[str] = []
    for key in bed.TRANSLATABLE if translated else bed.ALL:
        path = the_path(mapping(key, delivery))
        source = XA if translated else NB
        mine = outgoing(key, source=source)
        told = bed.error_about(outgoing(key))
        for name, octets, interface in (
            ("to client", incoming(key), OUTSIDE),
            ("outside", mine if translated else bed.tunnelled(mine, delivery), INSIDE),
            ("to client", told, OUTSIDE),
        ):
            path.arrived(octets, interface)
            packets += bed.sent(path)
            directions.append(name)
    found = judge(packets, tmp_path)
    for name, layers in zip(directions, found, strict=True):
        ends = layers["ip.src"][0], layers["ip.dst"][0]
        if name == "outside":
            assert ends == (NB, YB)
        elif not translated:
            assert ends == (NA, XA)
            assert layers["ip.ttl"][0] == "64"
        else:
            assert ends[1] == XA


def test_the_judge_sees_what_is_wrong(tmp_path: Path) -> None:
    """A check that cannot fail is none: one wrong bit in each checksum."""
    for key, at, name in (
        (bed.TCP_ANY, 20 + 16, "tcp"),
        (bed.UDP_ANY, 20 + 6, "udp"),
        (bed.ECHO, 20 + 2, "icmp"),
        (bed.TCP_ANY, 10, "ip"),
    ):
        packet = bytearray(incoming(key))
        packet[at] ^= 1
        (layers,) = dissected([bytes(packet)], tmp_path)
        assert layers[f"{name}.checksum.status"] == ["0"], name
