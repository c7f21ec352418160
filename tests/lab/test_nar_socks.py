"""Stock SOCKS5 clients against the port where NAR is negotiated: a proxy for who knows no NAR.

curl, ncat, and ncat inside socat's TLS; RFC 1928 and RFC 1929. tshark reads all of it.
"""

# planes: portable

import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from nar_bed import NarBed, nar_bed

from gateway.lab.capture import Capture, dissect
from gateway.lab.nar import plan, programs, roles
from gateway.lab.nar.instrument import (
    BIND,
    CONNECT,
    NOT_ALLOWED,
    SUCCEEDED,
    UDP_ASSOCIATE,
    RawClient,
)
from gateway.lab.nar.names import NameServer
from gateway.lab.pki import Authority
from gateway.lab.processes import wait_until

pytestmark = pytest.mark.kernel

LUA = Path(__file__).with_name("nar.lua")
PAGE = "You have reached the intranet."
ANNA, OTTO = roles.USERS
NAME, LOCAL_NAME = "server.example.com", "inside.example.com"
TLS_ADDRESS = plan.POOL[1]
URL = f"http://{plan.Y}/"


def configuration(folder: Path, authority: Authority) -> str:
    """x1 needs no login; x2 does, and may send its password in the clear; TLS beside it."""
    rules = {
        "staff": {"groups": ["staff"], "proxy": True, "any_remote": True},
        "desk": {"clients": [f"{plan.X1}/32"], "proxy": True, "any_remote": True},
        "guests": {"groups": ["guests"], "any_remote": True},
    }
    clear = roles.server(
        "clear", rules=rules, trusted=[f"{plan.X1}/32"], backend="local", require_tls=False
    )
    sealed = roles.server(
        "sealed",
        rules=rules,
        listen=[f"{plan.NA}:1090"],
        tls_listen=[f"{plan.NA}:{plan.TLS_PORT}"],
        addresses=[str(TLS_ADDRESS)],
        trusted=[],
        backend="local",
        **roles.tls_files(folder, authority, plan.NA),
    )
    return roles.box(folder, clear, sealed) + roles.users(folder)


@pytest.fixture(scope="module")
def bed(authority: Authority) -> Iterator[NarBed]:
    with nar_bed() as bed:
        bed.start(configuration, authority)
        (bed.lab.folder / "ca.pem").write_bytes(authority.root.certificate_pem())
        yield bed


@pytest.fixture(scope="module", autouse=True)
def negotiation(bed: NarBed) -> Capture:
    return bed.record("n", "inside", "tcp port 1080 or udp")


def curl(bed: NarBed, host: str, *arguments: str) -> tuple[int, str]:
    """Exit status and what came; quick to give up."""
    argv = ["curl", "-sS", "--noproxy", "", "--max-time", "8", *arguments]
    done = bed.lab.run(host, argv, check=False)
    return done.returncode, done.stdout + done.stderr


def password_of(user: str) -> str:
    return roles.USERS[user][0]


def login(user: str) -> str:
    return f"{user}:{password_of(user)}"


def test_curl(bed: NarBed) -> None:
    status, text = curl(bed, "x1", "--socks5", str(plan.NA), URL)
    assert status == 0, text
    assert PAGE in text


def test_the_target_sees_the_box(bed: NarBed) -> None:
    with programs.stream_socket(bed.lab, "y", plan.Y, 8200) as listening:
        listening.listen()
        with RawClient(bed.lab, "x1") as client:
            assert client.hello() == 0
            reply = client.ask(CONNECT, plan.Y, 8200)
            assert reply.reply == SUCCEEDED
            far, seen = listening.accept()
            with far:
                assert seen == (str(plan.NB), reply.port)
                assert reply.address == plan.NB
                programs.exchange(client.socket, far)


def test_a_name_is_resolved_by_the_box(bed: NarBed) -> None:
    with NameServer(bed.lab, "n", {NAME: plan.Y}) as names:
        status, text = curl(bed, "x1", "--socks5-hostname", str(plan.NA), f"http://{NAME}/")
        assert status == 0, text
        assert PAGE in text
        assert NAME in names.asked


def test_h76_a_name_that_means_the_box_itself(bed: NarBed) -> None:
    """What a name stands for is looked at, not the name."""
    with NameServer(bed.lab, "n", {LOCAL_NAME: plan.NA}):
        status, text = curl(bed, "x1", "--socks5-hostname", str(plan.NA), f"http://{LOCAL_NAME}/")
        assert status == 97, text


def test_a_name_that_nobody_knows(bed: NarBed) -> None:
    with NameServer(bed.lab, "n", {}):
        status, text = curl(bed, "x1", "--socks5-hostname", str(plan.NA), "http://no.example.com/")
    assert status == 97, text


def test_curl_with_password(bed: NarBed) -> None:
    status, text = curl(bed, "x2", "--proxy-user", login(ANNA), "--socks5", str(plan.NA), URL)
    assert status == 0, text
    assert PAGE in text


def test_h70_wrong_password(bed: NarBed) -> None:
    status, text = curl(bed, "x2", "--proxy-user", f"{ANNA}:wrong", "--socks5", str(plan.NA), URL)
    assert status == 97, text
    assert PAGE not in text


def test_h69_no_password_where_one_is_needed(bed: NarBed) -> None:
    status, text = curl(bed, "x2", "--socks5", str(plan.NA), URL)
    assert status == 97, text


def test_a_user_who_may_not_use_the_proxy(bed: NarBed) -> None:
    status, text = curl(bed, "x2", "--proxy-user", login(OTTO), "--socks5", str(plan.NA), URL)
    assert status == 97, text
    with RawClient(bed.lab, "x2") as client:
        assert client.hello(2) == 2
        assert client.login(OTTO.encode(), password_of(OTTO).encode()) == 0
        assert client.ask(CONNECT, plan.Y, 80).reply == NOT_ALLOWED


def test_ncat(bed: NarBed) -> None:
    argv = ["ncat", "--proxy", f"{plan.NA}:1080", "--proxy-type", "socks5", str(plan.Y), "80"]
    done = bed.lab.run("x1", argv, stdin="GET / HTTP/1.0\r\n\r\n", timeout_s=10)
    assert PAGE in done.stdout


def test_ncat_with_password_in_socats_tls(bed: NarBed, authority: Authority) -> None:
    ca = bed.lab.folder / "ca.pem"
    target = f"OPENSSL:{plan.NA}:{plan.TLS_PORT},cafile={ca},commonname={plan.NA}"
    socat = bed.lab.spawn(
        "x2",
        ["socat", "-d", "-d", "TCP-LISTEN:1070,bind=127.0.0.1,reuseaddr,fork", target],
        "socat",
    )
    try:
        wait_until(lambda: "listening on" in socat.output(), 10, "socat")
        argv = ["ncat", "--proxy", "127.0.0.1:1070", "--proxy-type", "socks5"]
        argv += ["--proxy-auth", login(ANNA), str(plan.Y), "80"]
        done = bed.lab.run("x2", argv, stdin="GET / HTTP/1.0\r\n\r\n", timeout_s=10)
        assert PAGE in done.stdout, (done, socat.output())
    finally:
        socat.stop()


def test_a_password_is_not_taken_in_the_clear(bed: NarBed, authority: Authority) -> None:
    """The server that wants TLS does not offer logins without it."""
    with RawClient(bed.lab, "x2", (plan.NA, 1090)) as client:
        assert client.hello(0, 2) == 0xFF
        client.ends()
    trusting = ssl.create_default_context(cadata=authority.root.certificate_pem().decode())
    trusting.check_hostname = False
    with RawClient(bed.lab, "x2", (plan.NA, plan.TLS_PORT), tls=trusting) as client:
        assert client.hello(0, 2) == 2


def test_bind(bed: NarBed) -> None:
    """Two replies: where it listens, who came (RFC 1928 section 6)."""
    with RawClient(bed.lab, "x1") as client:
        client.hello()
        first = client.ask(BIND, plan.Y)
        assert first.reply == SUCCEEDED
        with programs.stream_socket(bed.lab, "y", plan.Y) as far:
            far.connect((str(plan.NB), first.port))
            second = client.reply()
            assert (second.reply, second.address) == (SUCCEEDED, plan.Y)
            assert second.port == far.getsockname()[1]
            programs.exchange(client.socket, far, 10_000)


def test_udp_associate(bed: NarBed) -> None:
    lab = bed.lab
    with (
        RawClient(lab, "x1") as client,
        programs.datagram_socket(lab, "x1", plan.X1) as own,
        programs.datagram_socket(lab, "x2", plan.X2) as stranger,
        programs.datagram_socket(lab, "y", plan.Y, 5300) as far,
    ):
        client.hello()
        reply = client.ask(UDP_ASSOCIATE)
        assert (reply.reply, reply.address) == (SUCCEEDED, plan.NA)
        relay = (str(reply.address), reply.port)
        header = b"\0\0\0\x01" + plan.Y.packed + (5300).to_bytes(2, "big")
        stranger.sendto(header + b"from a stranger", relay)
        own.sendto(b"\0\0\x01" + header[3:] + b"a fragment", relay)
        own.sendto(header + b"question", relay)
        data, seen = far.recvfrom(100)
        assert (data, seen[0]) == (b"question", str(plan.NB))
        far.sendto(b"answer", seen)
        assert own.recvfrom(100) == (header + b"answer", relay)
        client.close()
        wait_until(lambda: _refused(own, relay, header), 5, "the relay to end")


def _refused(own: socket.socket, relay: tuple[str, int], header: bytes) -> bool:
    own.connect(relay)
    own.settimeout(0.2)
    try:
        own.send(header + b"late")
        own.recv(100)
    except TimeoutError:
        return False
    except ConnectionRefusedError:
        return True
    return False


def test_h76_targets_that_nobody_may_reach_through_the_box(bed: NarBed) -> None:
    for target in ("127.0.0.1", "169.254.169.254", plan.NB, plan.NA, "0.0.0.0", "224.0.0.1"):
        with RawClient(bed.lab, "x1") as client:
            client.hello()
            assert client.ask(CONNECT, target, 80).reply == NOT_ALLOWED, target


def test_nar_and_socks_at_the_same_port(bed: NarBed) -> None:
    """While one client is in NAR mode, curl on the same host uses the proxy."""
    with bed.session("x1") as session:
        assert session.control.ask(CONNECT, plan.Y, 8300).reply == SUCCEEDED
        status, text = curl(bed, "x1", "--interface", str(plan.X1), "--socks5", str(plan.NA), URL)
        assert status == 0, text


def test_tshark_reads_it(bed: NarBed, negotiation: Capture) -> None:
    """Last in this file: by Wireshark's own dissector, and by ours for NAR's messages."""
    pcap = negotiation.stop()
    rows = dissect(pcap, "socks || _ws.malformed", ["frame.protocols", "_ws.malformed"])
    assert len(rows) > 30
    assert [row for row in rows if row[1]] == []
    bad = dissect(pcap, "_ws.malformed || nar.malformed", ["frame.number"], lua=LUA)
    assert bad == []
