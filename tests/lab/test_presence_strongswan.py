"""Appendices A to C of draft 000 with strongSwan devices behind NATs."""

import signal
from collections.abc import Iterator

import pytest
from interop_bed import psk_connection
from presence_devices import (
    ADDRESS,
    DEVICES,
    GATEWAY_INSIDE,
    NAT2_PUBLIC,
    SERVER,
    SHOWN_SERVER,
    Bed,
    presence,
)

from gateway.lab import plan
from gateway.lab.processes import wait_until

pytestmark = pytest.mark.kernel

ECHO = """
import socket, sys, threading
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("", int(sys.argv[1]))); s.listen(); print("ready")
def serve(c, a):
    c.sendall(f"{sys.argv[2]} {a[0]} {a[1]}\\n".encode())
    while data := c.recv(99): c.sendall(data)
while True: threading.Thread(target=serve, args=s.accept(), daemon=True).start()
"""
CALL = """
import json, socket, sys
s = socket.create_connection((sys.argv[1], int(sys.argv[2])), 5)
print(json.dumps(s.recv(99).decode().split()))
"""
KEEP_TALKING = """
import socket, sys, time
s = socket.create_connection((sys.argv[1], int(sys.argv[2])), 5); s.settimeout(20)
s.recv(99); print("ready")
for number in range(100000):
    s.sendall(b"x"); assert s.recv(9) == b"x"; print("turn", number); time.sleep(0.2)
"""
FTPD = """
import socket, threading
data = b"from the server" * 100
def serve(c):
    say = lambda text: c.sendall(text.encode() + b"\\r\\n")
    say("220 ready"); waiting = None; to = None
    for line in c.makefile():
        word, _, rest = line.strip().partition(" ")
        if word == "PORT":
            v = rest.split(","); to = (".".join(v[:4]), int(v[4]) * 256 + int(v[5])); say("200 ok")
        elif word == "PASV":
            waiting = socket.socket(); waiting.bind((c.getsockname()[0], 0)); waiting.listen()
            host, port = waiting.getsockname()
            say(f"227 Entering Passive Mode ({host.replace('.', ',')},{port >> 8},{port & 255})")
        elif word == "RETR":
            say("150 here it comes")
            if waiting: d, _ = waiting.accept()
            else:
                d = socket.socket(); d.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                d.bind((c.getsockname()[0], 20)); d.settimeout(10); d.connect(to)
            d.sendall(data); d.close(); waiting = None; say("226 done")
        elif word == "QUIT": say("221 bye"); break
        else: say("200 ok")
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("", 21)); s.listen(); print("ready")
while True: threading.Thread(target=serve, args=(s.accept()[0],), daemon=True).start()
"""
FTP = """
import ftplib, json, sys
ftp = ftplib.FTP(sys.argv[1], "ann", "secret", timeout=10); ftp.set_pasv(sys.argv[2] == "passive")
found = []; ftp.retrbinary("RETR file", found.append); ftp.quit()
print(json.dumps(sum(map(len, found))))
"""
SDP = """
def message(first, address, port, extra=""):
    sdp = (f"v=0\\r\\no=- 1 1 IN IP4 {address}\\r\\ns=-\\r\\nc=IN IP4 {address}\\r\\nt=0 0\\r\\n"
           f"m=audio {port} RTP/AVP 0\\r\\n")
    return (f"{first}\\r\\n{extra}Call-ID: one@call\\r\\nCSeq: 1 INVITE\\r\\n"
            f"Content-Type: application/sdp\\r\\n"
            f"Content-Length: {len(sdp)}\\r\\n\\r\\n{sdp}").encode()
"""
PHONE = (
    SDP
    + """
import re, socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("10.1.0.10", 5060)); print("ready")
while True:
    data, caller = s.recvfrom(4000); text = data.decode()
    head = "".join(re.findall("(?m)^(?:Via|From|To):.*\\n", text))
    s.sendto(message("SIP/2.0 200 OK", "10.1.0.10", 16384, head), caller)
    host = re.search("c=IN IP4 (\\\\S+)", text)[1]
    port = int(re.search("m=audio (\\\\d+)", text)[1])
    voice = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); voice.bind(("10.1.0.10", 16384))
    voice.sendto(f"hello {host}".encode(), (host, port)); voice.close()
"""
)
CALLER = (
    SDP
    + """
import json, socket, sys
own, server = sys.argv[1:]
voice = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); voice.bind((own, 4000))
voice.settimeout(8)
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind((own, 5060)); s.settimeout(8)
head = (f"Via: SIP/2.0/UDP {own}:5060;branch=z9hG4bK1\\r\\nFrom: <sip:ann@{own}>;tag=1\\r\\n"
        f"To: <sip:bob@{server}>\\r\\nContact: <sip:ann@{own}:5060>\\r\\n")
s.sendto(message(f"INVITE sip:bob@{server} SIP/2.0", own, 4000, head), (server, 5060))
answer = s.recv(4000).decode().splitlines()[0]
print(json.dumps([answer, voice.recvfrom(99)[0].decode()]))
"""
)


@pytest.fixture(scope="module")
def bed() -> Iterator[Bed]:
    with presence() as made:
        made.serve("server", ECHO, 8080, "intranet", name="echo")
        for host in DEVICES:
            made.connect(host)
        yield made
        assert not made.gateway.events("internal_error")
        assert not made.gateway.events("presence_refused")


def target(host: str) -> str:
    return SHOWN_SERVER if host == "device2" else SERVER


def test_behind_two_nats_with_one_network_and_a_lan_like_the_intranet(bed: Bed) -> None:
    for host in DEVICES:
        assert bed.ping(host, target(host)), host
    seen = {host: bed.ask(host, CALL, target(host), 8080) for host in DEVICES}
    assert [one[0] for one in seen.values()] == ["intranet"] * 3
    assert seen["device"][1] == seen["device2"][1] == GATEWAY_INSIDE
    assert seen["device3"][1] in {f"10.1.0.{last}" for last in range(40, 44)}
    sessions = bed.gateway.call("napt-sessions")["items"]
    assert {one["identity"]: one["addresses"] for one in sessions} == {
        f"{host}@example.com": [ADDRESS[host]] for host in DEVICES
    }
    assert len({one["zone"] for one in sessions}) == 3


def test_packets_at_the_four_points_are_those_of_appendix_a(bed: Bed) -> None:
    host, address, natted = str(plan.SERVER), "10.1.0", NAT2_PUBLIC
    with (
        bed.captured("outside", f"host {natted} and udp[8:4] != 0", 2) as outer,
        bed.captured("gw0", "icmp", 2) as tunnel,
        bed.captured("inside", "icmp", 2) as inner,
    ):
        argv = ["ping", "-n", "-q", "-c", "1", "-W", "3", host]
        bed.lab.run("device3", argv)
    gateway = str(plan.GATEWAY_OUTSIDE)
    ends = [[end.rpartition(".")[0] for end in line.split(" > ")] for line in outer]
    assert ends == [[natted, gateway], [gateway, natted]]
    assert tunnel == [f"{ADDRESS['device3']} > {host}", f"{host} > {ADDRESS['device3']}"]
    seen_as = inner[0].split(" > ")[0]
    assert seen_as.startswith(f"{address}.4")
    assert inner == [f"{seen_as} > {host}", f"{host} > {seen_as}"]


def test_files_by_ftp_active_and_passive(bed: Bed) -> None:
    bed.serve("server", FTPD, name="ftpd")
    for how in ("passive", "active"):
        assert bed.ask("device", FTP, SERVER, how) == 1500, how


def test_a_call_by_sip(bed: Bed) -> None:
    bed.serve("server", PHONE, name="phone")
    answer, voice = bed.ask("device", CALLER, ADDRESS["device"], SERVER)
    assert answer == "SIP/2.0 200 OK"
    assert voice == f"hello {GATEWAY_INSIDE}"


def test_a_redirect_follows_its_device(bed: Bed) -> None:
    bed.serve("device3", ECHO, 22, "third", name="sshd3")
    bed.serve("device2", ECHO, 22, "second", name="sshd2")
    assert bed.ask("server", CALL, GATEWAY_INSIDE, 2222)[0] == "third"
    (redirect,) = bed.gateway.call("redirects")["items"]
    assert redirect["state"] == "active"
    assert redirect["leads_to"] == f"{ADDRESS['device3']}:22"
    assert redirect["connections"] == 1
    assert redirect["packets"] > 4
    # The same identity from another place, with another address.
    bed.disconnect("device3")
    wait_until(
        lambda: bed.gateway.call("redirects")["items"][0]["state"] == "waiting", 10, "nobody"
    )
    bed.disconnect("device2")
    bed.connect("device2", device_id="device3@example.com", remote_ts="10.1.0.0/24")
    assert bed.ask("server", CALL, GATEWAY_INSIDE, 2222)[0] == "second"
    bed.disconnect("device2")
    bed.connect("device2")
    bed.connect("device3")
    assert bed.ask("server", CALL, GATEWAY_INSIDE, 2222)[0] == "third"


def test_connections_outlive_the_process(bed: Bed) -> None:
    talks = [
        bed.serve(host, KEEP_TALKING, target(host), 8080, name=f"talk-{host}") for host in DEVICES
    ]
    bed.gateway.signal(signal.SIGTERM)
    wait_until(lambda: not bed.gateway.running(), 20, "the end of the gateway")
    bed.gateway.start()
    turns = [talk.output().count("turn") for talk in talks]
    for talk, turn in zip(talks, turns, strict=True):
        wait_until(lambda: talk.output().count("turn") > turn + 5, 20, "more")  # noqa: B023
        assert talk.running()
    for host in DEVICES:
        assert bed.ping(host, target(host))
    assert bed.ask("server", CALL, GATEWAY_INSIDE, 2222)[0] == "third"
    for talk in talks:
        talk.stop()


def test_packets_at_the_four_points_are_those_of_appendix_b(bed: Bed) -> None:
    bed.disconnect("device3")
    bed.connect("device3", device_id="four@example.com", vips=True)
    (found,) = bed.swans["device3"].established()
    (inner_address,) = (one.partition("/")[0] for one in found.virtual_ips)
    with (
        bed.captured("outside", f"host {NAT2_PUBLIC} and udp[8:4] != 0", 2) as outer,
        bed.captured("inside", "icmp", 2) as inner,
    ):
        bed.lab.run("device3", ["ping", "-n", "-q", "-c", "1", "-W", "3", SERVER])
    ends = [[end.rpartition(".")[0] for end in line.split(" > ")] for line in outer]
    gateway = str(plan.GATEWAY_OUTSIDE)
    assert ends == [[NAT2_PUBLIC, gateway], [gateway, NAT2_PUBLIC]]
    assert inner == [f"{inner_address} > {SERVER}", f"{SERVER} > {inner_address}"]


def test_a_start_without_redirects_leaves_none_of_an_earlier_process(bed: Bed) -> None:
    def rules() -> str:
        return bed.lab.run("gw", ["nft", "list", "ruleset"]).stdout

    assert "2222" in rules()
    bed.gateway.hand_over()
    before = bed.gateway.config.read_text()
    try:
        bed.gateway.write_text(
            before.partition("[connections.one]")[0]
            + psk_connection("four", remote_id="four@example.com")
        )
        bed.gateway.start()
        assert "2222" not in rules()
        assert bed.gateway.call("redirects")["items"] == []
    finally:
        bed.gateway.hand_over()
        bed.gateway.write_text(before)
        bed.gateway.start()
    assert "2222" in rules()
