"""``gateway nar lease``, ``run``, ``list`` and ``release``, as far as no kernel is needed."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.cli import exits, nar_client_run
from gateway.cli.nar_client_advice import advice, lease_table
from gateway.cli.nar_client_lease import Wish
from gateway.cli.nar_client_options import Access, WrongOptionError, status_of
from gateway.domain.nar import Delivery, NarProtocol, NarTuple
from gateway.nar.client_outputs import Lease
from gateway.nar_host.failure import NarHostError, NarRefusedError, NarUnavailableError
from gateway.nar_host.held_lease import HeldLease

ROOT = Path(__file__).resolve().parents[3]
DOUBLE = ROOT / "tests" / "unit" / "nar_host" / "nar_server_double.py"
NB, Y, XA = IPv4Address("203.0.113.5"), IPv4Address("198.51.100.7"), IPv4Address("192.168.1.20")


def access(**keys: Any) -> Access:
    fixed: dict[str, Any] = {
        "server": "nar.example", "user": None, "password_file": None, "tls": None, "ca": None,
    }  # fmt: skip
    return Access(**{**fixed, **keys})


@pytest.mark.parametrize(
    ("server", "tls", "shown"),
    [
        ("nar.example", False, "nar.example:1080"),
        ("nar.example", True, "nar.example:1081"),
        ("192.168.1.1:7", True, "192.168.1.1:7"),
    ],
)
def test_a_server_has_a_port(server: str, tls: bool, shown: str) -> None:
    assert str(access(server=server, tls=tls).name()) == shown


@pytest.mark.parametrize("server", ["", ":1080", "a:0", "a:65536", "a:x", "::1", "a b", "a:\uff11"])
def test_a_server_that_is_none_is_refused(server: str) -> None:
    with pytest.raises(WrongOptionError, match=r"--server.*HOST"):
        access(server=server).name()


def test_one_delivery_only() -> None:
    assert access(gre=True).delivery() is Delivery.GRE
    with pytest.raises(WrongOptionError, match="exclude each other"):
        access(gre=True, translated=True).delivery()


def test_passwords_come_from_files_and_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "password"
    file.write_text("first line\r\nsecond\n")
    assert access(tls=True, user="ann", password_file=file).password() == b"first line"
    monkeypatch.setenv("GATEWAY_NAR_PASSWORD", "from outside")
    assert access(tls=True, user="ann").password() == b"from outside"
    assert "GATEWAY_NAR_PASSWORD" not in os.environ, "no command that is run sees it"
    assert access().password() is None
    with pytest.raises(WrongOptionError, match="--password-file FILE"):
        access(tls=True, user="ann").password()
    file.write_text("x" * 256)
    with pytest.raises(WrongOptionError, match="1 to 255 octets"):
        access(tls=True, user="ann", password_file=file).password()
    with pytest.raises(WrongOptionError, match="needs --user"):
        access(password_file=file).password()


def test_no_password_leaves_in_the_clear_unasked(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("secret\n")
    with pytest.raises(WrongOptionError, match=r"--user ann without TLS.*add --tls, or --no-tls"):
        access(user="ann", password_file=file).password()
    assert access(user="ann", password_file=file, tls=False).password() == b"secret"
    assert access(user="ann", password_file=file, ca=file).password() == b"secret"
    assert access(user="ann", password_file=file, ca=file, tls=False).name().tls
    assert not access().name().tls


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        (Wish("ssh"), "KIND is ike"),
        (Wish("icmp"), "needs --peer"),
        (Wish("ipip", peer="198.51.100.7"), "needs --inner"),
        (Wish("gre", peer="198.51.100.7", inner="x"), "--inner 'x': give an IPv4 address"),
        (Wish("icmp", peer="198.51.100.7", count=2), "--count does not go with icmp"),
        (Wish("esp", remote_port=7), "--remote-port does not go with esp"),
        (Wish("tcp", remote_port=7), "--remote-port needs --peer"),
        (Wish("tcp", peer="host.example"), "--peer 'host.example': give an IPv4 address"),
        (Wish("esp", spi="255"), "give 0x100 to 0xffffffff"),
        (Wish("esp", spi="zero"), "give 0x100 to 0xffffffff"),
    ],
)
def test_h74_wishes_that_make_no_sense_are_refused(wish: Wish, words: str) -> None:
    with pytest.raises(WrongOptionError, match=words):
        wish.check()


def test_a_peer_of_ipsec_may_have_a_name() -> None:
    Wish("esp", peer="host.example", spi="0x40000001").check()


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        (nar_client_run.Wish(()), "no command"),
        (nar_client_run.Wish(("true",), ("x",)), "--peer 'x'"),
        (nar_client_run.Wish(("true",), dns="x"), "--dns .*host, keep"),
        (nar_client_run.Wish(("true",), run_as="nobody there"), "no such user"),
    ],
)
def test_commands_that_make_no_sense_are_refused(wish: nar_client_run.Wish, words: str) -> None:
    with pytest.raises(WrongOptionError, match=words):
        wish.options()


def test_what_goes_wrong_has_its_status() -> None:
    assert status_of(NarRefusedError("no")) == exits.FAILED
    assert status_of(NarUnavailableError("no")) == exits.UNAVAILABLE
    assert status_of(NarHostError("no", 1)) == exits.NO_PERMISSION
    assert status_of(NarHostError("no", 17)) == exits.OS_ERROR


def session(delivery: Delivery = Delivery.IP_IP) -> Any:
    return SimpleNamespace(
        server="nar.example:1080", number=1, lease_s=600, delivery=delivery, address=NB,
        client_address=XA,
    )  # fmt: skip


def held(protocol: NarProtocol, value: int, **keys: Any) -> HeldLease:
    one = NarTuple(protocol, NB, value, keys.pop("remote", None), keys.pop("remote_port", None))
    return HeldLease(1, Lease(one, Delivery.IP_IP, **keys))


def test_strongswan_is_told_port_spis_and_address() -> None:
    leases = [held(NarProtocol.UDP, 20_010, peer=Y)]
    leases += [held(NarProtocol.ESP, 0x4000_0001 + at, peer=Y) for at in range(4)]
    text = lease_table(session(), leases)
    for line in ("port = 20010", "spi_min = 0x40000001", "spi_max = 0x40000004"):
        assert f"    {line}\n" in text
    assert "local_addrs = 203.0.113.5" in text
    assert "UDP       203.0.113.5  port 20010      198.51.100.7  ip-ip     narc-1\n" in text
    assert "src 198.51.100.7 dst 203.0.113.5 proto esp spi 0x40000001" in text


def test_translated_programs_use_the_hosts_own_address() -> None:
    leases = [held(NarProtocol.UDP, 20_010, client_port=500), held(NarProtocol.ESP, 0x4000_0001)]
    found = advice(session(Delivery.TRANSLATED), leases)
    assert "local_addrs = 192.168.1.20" in found["swanctl.conf, in the connection"]
    assert "  port = 500" in found["strongswan.conf"]
    assert "tunnel mode only" in found["Note"][0]


def test_tunnels_and_pings_are_shown_as_commands() -> None:
    inner = int(IPv4Address("10.9.9.9"))
    found = advice(session(), [held(NarProtocol.GRE, inner, remote=Y)])
    assert "mode gre local 203.0.113.5 remote 198.51.100.7" in found["Tunnel"][0]
    found = advice(session(), [held(NarProtocol.ICMP, 49_152, remote=Y)])
    assert found["ping"] == ["ping -I 203.0.113.5 -e 49152 198.51.100.7"]


@pytest.fixture
def server() -> Iterator[str]:
    """A NAR server on loopback, as a process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    argv = [sys.executable, str(DOUBLE), "127.0.0.1", str(port), "192.0.2.1"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield f"127.0.0.1:{port}"
        process.terminate()


def test_a_translated_lease_in_the_background(server: str, tmp_path: Path) -> None:
    """Leased, listed, released; what could not be leased is told before it returns."""
    environment = {**os.environ, "GATEWAY_NAR_RUN_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}

    def gateway(*argv: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "gateway", "nar", *argv],
            env=environment, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip

    lease = ("lease", "udp", "--server", server, "--translated", "--background")
    done = gateway(*lease, "--count", "2", "--json")
    assert done.returncode == 0, done.stderr
    ports = [one["port"] for one in json.loads(done.stdout)["leases"]]
    assert ports == [20_000, 20_001]
    listed = gateway("list")
    assert "udp 20000-20001" in listed.stdout, listed.stderr
    wrong = gateway("lease", "udp", "--server", "127.0.0.1:9", "--translated", "--background")
    assert wrong.returncode == exits.UNAVAILABLE
    assert "nothing listens there" in wrong.stderr
    ended = gateway("release", "1")
    assert (ended.returncode, ended.stdout) == (0, "released session 1\n"), ended.stderr
