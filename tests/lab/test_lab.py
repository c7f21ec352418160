"""The lab itself: it comes up, carries real tunnels, and goes away without a trace."""

import os
import random
import signal
import subprocess
import sys
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from gateway.lab import inject, netns, plan
from gateway.lab.capture import judge
from gateway.lab.impair import Fault, start_impairment, stop_impairment
from gateway.lab.measured import start_download, start_receiver, start_sender
from gateway.lab.pki import Authority
from gateway.lab.processes import LabError, start_time, wait_until
from gateway.lab.topology import RUN_FOLDER, Lab
from tests.lab.conftest import StartLibreswan, StartStrongSwan

pytestmark = pytest.mark.kernel

GATEWAY = """
connections { remote-access {
    version = 2
    local_addrs = 192.0.2.1
    proposals = aes256gcm16-prfsha256-x25519
    pools = inner
    local { auth = pubkey
        certs = gateway.crt
        id = gateway.example.com }
    remote { auth = pubkey
        cacerts = ca0.crt }
    children { intranet {
        local_ts = 10.1.0.0/24
        esp_proposals = aes128gcm16 } }
} }
pools { inner { addrs = 10.7.0.0/24 } }
"""

DEVICE = """
connections { home {
    version = 2
    remote_addrs = 192.0.2.1
    proposals = aes256gcm16-prfsha256-x25519
    vips = 0.0.0.0
    encap = ENCAP
    mobike = MOBIKE
    local { auth = pubkey
        certs = device.crt
        id = device@example.com }
    remote { auth = pubkey
        id = gateway.example.com }
    children { intranet {
        remote_ts = 10.1.0.0/24
        esp_proposals = aes128gcm16 } }
} }
"""

LIBRESWAN_DEVICE = """
conn home
    ikev2=insist
    left=198.51.100.10
    leftid=device@example.com
    leftmodecfgclient=yes
    leftsubnet=0.0.0.0/0
    leftcert=device
    right=192.0.2.1
    rightid=@gateway.example.com
    rightsubnet=10.1.0.0/24
    rightca=%same
    authby=ecdsa
    narrowing=yes
    ike=aes_gcm256-sha2_256;dh31
    esp=aes_gcm128
"""

PAGE = "http://10.1.0.10/"


def page(lab: Lab) -> str:
    return lab.run("device", ["curl", "-s", "-m", "10", PAGE], check=False).stdout


def connected(
    lab: Lab,
    authority: Authority,
    strongswan: StartStrongSwan,
    *,
    encap: str = "no",
    mobike: str = "yes",
) -> None:
    gateway, device = strongswan("gw"), strongswan("device")
    gateway.load(
        GATEWAY, authorities=[authority.root], credentials={"gateway": authority.gateway()}
    )
    device.load(
        DEVICE.replace("ENCAP", encap).replace("MOBIKE", mobike),
        authorities=[authority.root],
        credentials={"device": authority.device()},
    )
    device.initiate("intranet")


def test_every_network_reaches_the_gateway_and_none_the_intranet(lab: Lab) -> None:
    for access in plan.ACCESSES:
        lab.move(access)
        assert lab.access() == [access]
        assert lab.run("device", ["ping", "-c1", "-W5", str(plan.GATEWAY_OUTSIDE)]).returncode == 0
        assert page(lab) == ""
    assert "You have reached" in lab.run("gw", ["curl", "-s", "-m", "10", PAGE]).stdout


def test_overlapping_move_keeps_both_interfaces_until_detached(lab: Lab) -> None:
    lab.attach("access2")
    assert lab.access() == ["access1", "access2"]
    assert set(lab.addresses("device")) == {"access1", "access2"}
    lab.detach("access2")
    assert lab.access() == ["access1"]
    assert "access1" in lab.run("device", ["ip", "route", "get", str(plan.GATEWAY_OUTSIDE)]).stdout


def test_remapped_nat_shows_another_address_and_port(lab: Lab) -> None:
    lab.move("nat")

    def seen() -> tuple[str, str]:
        capture = lab.capture("gw", "outside", "mapping", "udp and port 7777")
        script = "import socket; s=socket.socket(type=socket.SOCK_DGRAM); s.bind(('', 4500));"
        script += f"s.sendto(b'hello', ('{plan.GATEWAY_OUTSIDE}', 7777))"
        lab.run("device", [sys.executable, "-c", script])
        wait_until(lambda: capture.path.stat().st_size > 24, 10, "the datagram")
        packet = next(inject.ip_packets(capture.stop()))
        capture.path.unlink()
        return str(IPv4Address(packet[12:16])), str(int.from_bytes(packet[20:22], "big"))

    first = seen()
    address, (low, high) = lab.remap_nat()
    second = seen()
    assert first[0] != second[0] == str(address)
    assert low <= int(second[1]) <= high
    assert first[1] != second[1]


def test_tunnel_between_two_strongswans_survives_a_mobike_move(
    lab: Lab, authority: Authority, strongswan: StartStrongSwan
) -> None:
    capture = lab.capture("internet", "dmz", "mobike")
    connected(lab, authority, strongswan)
    assert "You have reached" in page(lab)
    download = start_download(lab, f"{PAGE}stream?rate=200000")
    download.wait_for("bytes", 50_000)
    lab.move("access2", make_before_break=True)
    before = download.latest("bytes")
    download.wait_for("bytes", before + 200_000)
    result = download.stop()
    assert result["error"] is None
    assert result["max_gap_ms"] > 0
    pcap = capture.stop()
    assert judge(pcap) == []
    packets = inject.esp_packets(pcap, plan.GATEWAY_OUTSIDE)
    sources = {str(IPv4Address(packet[12:16])) for packet in packets}
    assert sources == {"198.51.100.10", "203.0.113.10"}


@pytest.mark.kernel_peer("strongSwan has native ESP by the kernel only")
def test_rewritten_source_shows_native_esp_from_a_new_address(
    lab: Lab, authority: Authority, strongswan: StartStrongSwan
) -> None:
    connected(lab, authority, strongswan, mobike="no")
    assert "You have reached" in page(lab)
    capture = lab.capture("internet", "dmz", "moved", "ip proto 50")
    lab.rewrite_source(IPv4Address("198.51.100.77"))
    # The other way the gateway still sends to the old address, which is not rewritten.
    assert "You have reached" in page(lab)
    packets = inject.esp_packets(capture.stop(), plan.GATEWAY_OUTSIDE)
    assert {str(IPv4Address(packet[12:16])) for packet in packets} == {"198.51.100.77"}


def test_replayed_packet_from_the_attacker_arrives_as_sent(
    lab: Lab, authority: Authority, strongswan: StartStrongSwan
) -> None:
    connected(lab, authority, strongswan, encap="yes")
    capture = lab.capture("internet", "dmz", "taken")
    assert "You have reached" in page(lab)
    packets = inject.esp_packets(capture.stop(), plan.GATEWAY_OUTSIDE)
    assert [inject.esp_sequence(packet) for packet in packets] == list(range(1, len(packets) + 1))
    watched = lab.capture("gw", "outside", "watched", f"src host {plan.ATTACKER}")
    stolen = inject.with_source(packets[-1], plan.ATTACKER)
    inject.send(lab, "attacker", stolen)
    inject.send(lab, "attacker", inject.with_sequence(stolen, 1000))
    wait_until(lambda: watched.path.stat().st_size > 24 + 2 * len(stolen), 10, "both packets")
    arrived = list(inject.ip_packets(watched.stop()))
    assert [inject.esp_sequence(packet) for packet in arrived] == [len(packets), 1000]


def test_numbered_stream_counts_what_a_lossy_network_drops(lab: Lab) -> None:
    lab.run("device", ["ping", "-c1", "-W5", str(plan.GATEWAY_OUTSIDE)])  # ARP before the losses
    lab.set_delay("access1", 4, loss_percent=20)
    receiver = start_receiver(lab, "gw", "192.0.2.1:9000", idle_s=1)
    sender = start_sender(lab, "device", "192.0.2.1:9000", rate=200, seconds=2)
    sent = sender.result()["sent"]
    result = receiver.result()
    assert 0 < result["lost"] < sent
    assert result["received"] + result["lost"] == result["highest"] + 1 <= sent


@pytest.mark.parametrize("action", ["drop", "duplicate", "hold", "corrupt"])
def test_impaired_handshake_is_repaired_by_retransmission(
    lab: Lab, authority: Authority, strongswan: StartStrongSwan, action: str
) -> None:
    faults = [Fault(action, "to-gateway", 1, exchange=35)]  # type: ignore[arg-type]
    running = start_impairment(lab, faults)
    connected(lab, authority, strongswan)
    assert "You have reached" in page(lab)
    messages = stop_impairment(lab, running)
    requests = [m for m in messages if m["exchange"] == 35 and m["direction"] == "to-gateway"]
    assert requests[0]["action"] == action
    assert len(requests) == (1 if action == "duplicate" else 2)


@pytest.mark.kernel_peer("libreswan has the kernel's ESP only")
def test_libreswan_as_client_loads_the_page(
    lab: Lab, authority: Authority, strongswan: StartStrongSwan, libreswan: StartLibreswan
) -> None:
    gateway, device = strongswan("gw"), libreswan("device")
    gateway.load(
        GATEWAY, authorities=[authority.root], credentials={"gateway": authority.gateway()}
    )
    device.load(
        LIBRESWAN_DEVICE, authorities=[authority.root], credentials={"device": authority.device()}
    )
    device.initiate("home")
    assert "lease=10.7.0.1/32" in device.traffic()
    assert "You have reached" in page(lab)


def test_down_leaves_no_namespace_process_or_file() -> None:
    lab = Lab("away-")
    lab.up(fresh=True)
    sleeper = lab.spawn("gw", ["sleep", "1000"], "sleeper")
    stubborn = lab.spawn("gw", ["sh", "-c", "trap '' TERM; while :; do sleep 1; done"], "stubborn")
    server = lab.processes.running()["intranet"]
    with pytest.raises(LabError, match="up already"):
        lab.up()
    lab.down()
    assert netns.existing("away-") == []
    assert not (RUN_FOLDER / "away").exists()
    assert [start_time(pid) for pid in (sleeper.pid, stubborn.pid, server)] == [None] * 3
    lab.down()  # a second time: nothing to do, no complaint
    assert not lab.is_up()
    with pytest.raises(LabError, match="gateway lab up"):
        lab.exec("gw", ["true"])


UP_AND_WAIT = """
import sys, time
from gateway.lab.topology import Lab
print("begun", flush=True)
with Lab("killed-"):
    print("up", flush=True)
    time.sleep(1000)
"""


def started_lab() -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", UP_AND_WAIT],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )


def processes_of_killed_lab() -> list[int]:
    return netns.processes_in(netns.existing("killed-"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("moment", range(3))
def test_signal_at_any_moment_leaves_nothing(number: signal.Signals, moment: int) -> None:
    # The moment is counted in namespaces that exist by then, not in time.
    wanted = random.Random(f"{number} {moment}").randint(0, len(plan.HOSTS))
    process = started_lab()
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    wait_until(lambda: len(netns.existing("killed-")) >= wanted, 60, "the building to begin")
    process.send_signal(number)
    process.send_signal(number)  # an impatient second one does not stop the cleaning
    assert process.wait(60) != 0
    process.stdout.close()
    assert netns.existing("killed-") == []
    assert not (RUN_FOLDER / "killed").exists()


def test_down_clears_what_a_killed_process_left() -> None:
    process = started_lab()
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    assert process.stdout.readline() == "up\n"
    process.kill()
    process.wait(60)
    process.stdout.close()
    left = processes_of_killed_lab()
    assert left
    Lab("killed-").down()
    assert netns.existing("killed-") == []
    assert [start_time(pid) for pid in left] == [None] * len(left)
    assert not (RUN_FOLDER / "killed").exists()
