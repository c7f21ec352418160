"""tshark judges what tunnel links send."""

import json
import shutil
import struct
import subprocess
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from gateway.dataplane.packet.ipv4 import with_checksum
from gateway.dataplane.portable.tunnel_link import TunnelKind, TunnelLink
from gateway.dataplane.portable.tunnels.engine import TunnelEngine
from gateway.domain.checksum import internet_checksum

HERE, THERE = IPv4Address("192.0.2.1"), IPv4Address("192.0.2.2")
INNER_ENDS = ["10.0.0.1", "10.0.0.2"]
LINK = TunnelLink("t0", TunnelKind.IP_IP, local=HERE, remote=THERE)
LINKS = {
    "ip-ip": LINK,
    "gre": replace(LINK, kind=TunnelKind.GRE),
    "minimal": replace(LINK, kind=TunnelKind.MINIMAL),
    "mip-udp": replace(LINK, kind=TunnelKind.MIP_UDP, local_port=434, remote_port=434),
}
RAW_IPV4 = 228
FIELDS = ("ip.src", "ip.dst", "ip.proto", "ip.checksum.status", "udp.checksum.status",
          "icmp.checksum.status", "ip.len", "_ws.malformed", "_ws.expert.message")  # fmt: skip


def inner(size: int) -> bytes:
    body = bytes((8, 0, 0, 0, 0, 1, 0, 1)) + bytes(size)
    body = body[:2] + internet_checksum(body).to_bytes(2, "big") + body[4:]
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 7, 0, 63, 1, 0)
    ends = b"".join(IPv4Address(one).packed for one in INNER_ENDS)
    return with_checksum(head + ends) + body


def dissected(packets: list[bytes], where: Path) -> list[dict[str, list[str]]]:
    file = where / "tunnels.pcap"
    octets = struct.pack("=IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 0xFFFF, RAW_IPV4)
    for packet in packets:
        octets += struct.pack("=IIII", 0, 0, len(packet), len(packet)) + packet
    file.write_bytes(octets)
    command = ["tshark", "-r", str(file), "-T", "json", "--no-duplicate-keys"]
    command += ["-o", "ip.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE"]
    for field in FIELDS:
        command += ["-e", field]
    shown = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    return [one["_source"].get("layers", {}) for one in json.loads(shown)]


@pytest.mark.skipif(not shutil.which("tshark"), reason="needs tshark")
@pytest.mark.parametrize("name", LINKS)
def test_tshark_reads_what_is_sent(name: str, tmp_path: Path) -> None:
    link = LINKS[name]
    engine = TunnelEngine()
    assert engine.set_tunnel(link) is None
    for size in (0, 1, 56, 1400):
        engine.leaving("t0", [(inner(size), 0)])
    # The kernel fills the header's checksum in.
    packets = [with_checksum(octets) for octets, _ in engine.sends]
    for packet, layers in zip(packets, dissected(packets, tmp_path), strict=True):
        assert "_ws.malformed" not in layers, layers
        assert set(layers["ip.checksum.status"]) == {"1"}
        assert (layers["ip.src"][0], layers["ip.dst"][0]) == (str(HERE), str(THERE))
        assert int(layers["ip.len"][0]) == len(packet)
        if name != "minimal":  # of which tshark reads the forwarding header only
            assert layers["icmp.checksum.status"] == ["1"]
            assert [layers["ip.src"][-1], layers["ip.dst"][-1]] == INNER_ENDS
