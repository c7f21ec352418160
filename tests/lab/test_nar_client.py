"""`gateway nar lease`, `run`, `list` and `release` on a host, with a gateway as the NAR server."""

# planes: kernel portable

import itertools
import json
import re
import select
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from nar_bed import NarBed, nar_bed

from gateway.lab import netns, planes
from gateway.lab.kernel import missing_features
from gateway.lab.mobility.user_tunnel import make_tunnel
from gateway.lab.nar import plan, roles
from gateway.lab.nar.programs import RawSocket, datagram_socket, ip_packet, udp
from gateway.lab.processes import Process, wait_until

pytestmark = pytest.mark.kernel

NB, Y, NA = plan.NB, plan.Y, plan.NA
KEY = "0x" + "5c" * 20
FETCH = f"curl -sS --max-time 10 http://{Y}/"
PAGE = "You have reached the intranet"
ENDS_S = 30.0
NUMBERS = itertools.count(1)
of_the_kernel = pytest.mark.skipif(
    bool(missing_features()), reason="SAs of the kernel's, by `ip xfrm`"
)


@pytest.fixture(scope="module")
def bed() -> Iterator[NarBed]:
    with nar_bed() as bed:
        bed.start(roles.soho, lease_s=20)
        yield bed


class Client:
    """`gateway nar` on a host of the lab."""

    def __init__(self, bed: NarBed, host: str = "x1") -> None:
        self.lab, self.host = bed.lab, host

    def start(self, *argv: object) -> Process:
        name = f"nar-{self.host}-{next(NUMBERS)}"
        words = ["nar", *map(str, argv)]
        if argv[0] in {"lease", "run"}:
            words[2:2] = ["--dataplane", planes.wanted()]
        return self.lab.spawn_gateway(self.host, words, name)

    def done(self, *argv: object) -> tuple[int, str]:
        process = self.start(*argv)
        status = process.wait(ENDS_S)
        return status, process.output()

    def run(self, *argv: object) -> tuple[int, str]:
        return self.done("run", "--server", NA, *argv)

    def hold(self, *argv: object) -> tuple[Process, dict[str, Any]]:
        """A lease in the foreground, once it was told."""
        process = self.start("lease", *argv, "--server", NA, "--json")
        wait_until(lambda: told(process) or not process.running(), ENDS_S, "the lease")
        return process, json.loads(process.output()[process.output().index("{") :])

    def sessions(self) -> list[dict[str, Any]]:
        status, text = self.done("list", "--json")
        assert status == 0, text
        found: list[dict[str, Any]] = json.loads(text)["sessions"]
        return found

    def ip(self, *argv: str) -> str:
        return self.lab.run(self.host, ["ip", *argv]).stdout

    def left(self) -> list[str]:
        """What is there of ours in the kernel."""
        links = [line for line in self.ip("-o", "link").splitlines() if "narc-" in line]
        rules = [line for line in self.ip("rule").splitlines() if "proto 72" in line]
        routes = self.ip("route", "show", "table", "all", "proto", "72").splitlines()
        return links + rules + routes


def told(process: Process) -> bool:
    """A whole JSON object is out."""
    return process.output().rstrip().endswith("\n}")


@pytest.fixture
def x1(bed: NarBed) -> Iterator[Client]:
    """Afterwards nothing of ours is left on the host, and nothing is lent."""
    client = Client(bed)
    yield client
    status, text = client.done("release", "--all")
    assert (status, client.left()) == (0, []), text
    wait_until(lambda: not bed.mappings(), 10, "nothing is lent any more")


@pytest.mark.parametrize("delivery", ["ip-ip", "gre", "l2tp"])
def test_a_command_has_the_leased_address_only(bed: NarBed, x1: Client, delivery: str) -> None:
    """TCP, UDP and ICMP, and what it sees of itself."""
    how = [] if delivery == "ip-ip" else [f"--{delivery}"]
    script = f"""
        echo "I am $NAR_ADDRESS with $NAR_PORTS and $NAR_ICMP_ID"
        ip -4 -o address show; {FETCH}
        ping -c 1 -W 5 -e $NAR_ICMP_ID {Y}
        (head -c 5000 /dev/zero | tr '\\0' u; sleep 1) | timeout 5 nc -u -w 3 {Y} 7 | wc -c
        exit 7
    """
    capture = bed.record("y", "uplink")
    status, text = x1.run(*how, "--peer", Y, "--ports", 8, "--udp", "--", "sh", "-c", script)
    assert status == 7, text
    ports = re.search(rf"I am {NB} with (\d+)-(\d+) and \d+", text)
    assert ports is not None
    assert int(ports[2]) - int(ports[1]) == 7
    assert PAGE in text
    assert "1 received" in text
    assert "\n5000\n" in text, "in fragments both ways"
    assert str(plan.X1) not in text
    capture.stop()
    assert x1.left() == []


def test_without_a_peer_it_talks_to_anybody(x1: Client) -> None:
    script = f"{FETCH}; {FETCH} --local-port ${{NAR_PORTS#*-}}"
    status, text = x1.run("--ports", 4, "--", "sh", "-c", script)
    assert status == 0, text
    assert text.count(PAGE) == 2


def test_two_commands_at_once_beside_a_lease(bed: NarBed, x1: Client) -> None:
    """All three have the same address and the same tunnel."""
    lease, found = x1.hold("icmp", "--peer", Y)
    wait = f"{FETCH}; sleep 60"
    commands = [
        x1.start("run", "--server", NA, "--peer", Y, "--ports", 4, "--", "sh", "-c", wait)
        for _ in range(2)
    ]
    for command in commands:
        wait_until(lambda c=command: PAGE in c.output(), ENDS_S, "the page")  # type: ignore[misc]
    assert found["leases"][0]["address"] == str(NB)
    ping = [
        "ping",
        "-c",
        "1",
        "-W",
        "5",
        "-I",
        str(NB),
        "-e",
        str(found["leases"][0]["id"]),
        str(Y),
    ]
    x1.lab.run("x1", ping)
    assert [one["title"].split()[0] for one in x1.sessions()] == ["lease", "run", "run"]
    ports = [one["value"] for one in bed.mappings() if one["protocol"] == "tcp"]
    assert len(set(ports)) == 8
    for command in commands:
        command.signal(signal.SIGTERM)
        assert command.wait(ENDS_S) == 128 + signal.SIGTERM
    x1.lab.run("x1", ping)
    lease.signal(signal.SIGINT)
    assert lease.wait(ENDS_S) == 0
    assert x1.left() == []


def test_a_killed_client_leaves_nothing(bed: NarBed, x1: Client) -> None:
    """The kernel takes the tunnel with the last process; the next start sweeps up the rest."""
    lease, _ = x1.hold("esp", "--peer", Y)
    command = x1.start("run", "--server", NA, "--peer", Y, "--", "sh", "-c", f"{FETCH}; sleep 60")
    wait_until(lambda: PAGE in command.output(), ENDS_S, "the page")
    for process in (lease, command):
        process.signal(signal.SIGKILL)
        process.wait(ENDS_S)
    status, text = x1.run("--peer", Y, "--", "sh", "-c", FETCH)
    assert (status, PAGE in text) == (0, True), text
    assert x1.left() == []
    assert x1.sessions() == []
    # Nobody has the tokens any more: the server keeps the leases for the grace period.
    bed.n.call("nar-end-client", client=str(plan.X1))


@of_the_kernel
@pytest.mark.parametrize("kind", ["esp", "ah"])
def test_the_host_speaks_ipsec_with_a_leased_spi(bed: NarBed, x1: Client, kind: str) -> None:
    """Transport mode, with the kernel's own states, by the address that was leased."""
    lease, found = x1.hold(kind, "--peer", Y, "--count", 2)
    spi, second = (int(one["spi"], 16) for one in found["leases"])
    assert second == spi + 1
    icmp, echo = x1.hold("icmp", "--peer", Y)
    algorithm = ["auth", "hmac(sha1)", KEY]
    if kind == "esp":
        algorithm += ["enc", "cbc(aes)", KEY[: 2 + 32]]
    for host in ("x1", "y"):
        ip = ["ip", "xfrm"]
        for source, destination, number in ((Y, NB, spi), (NB, Y, 0x1234)):
            state = ["state", "add", "src", source, "dst", destination, "proto", kind]
            state += ["spi", f"{number:#x}", "mode", "transport", *algorithm]
            bed.lab.run(host, [str(word) for word in ip + state])
            way = "out" if (source == NB) == (host == "x1") else "in"
            policy = ["policy", "add", "src", source, "dst", destination, "dir", way]
            policy += ["tmpl", "proto", kind, "mode", "transport"]
            bed.lab.run(host, [str(word) for word in ip + policy])
    try:
        number = str(echo["leases"][0]["id"])
        x1.lab.run("x1", ["ping", "-c", "2", "-W", "5", "-I", str(NB), "-e", number, str(Y)])
        states = x1.ip("-s", "xfrm", "state")
        assert f"0x{spi:08x}" in states
    finally:
        for host in ("x1", "y"):
            bed.lab.run(host, ["ip", "xfrm", "state", "flush"])
            bed.lab.run(host, ["ip", "xfrm", "policy", "flush"])
    for one in (lease, icmp):
        one.stop()


@of_the_kernel
def test_h77_an_spi_that_this_host_uses_is_not_kept(x1: Client) -> None:
    """Draft 004 section 2.6.2: unique within both of their SPI spaces."""
    used = 0x40000010
    state = ["xfrm", "state", "add", "src", str(Y), "dst", str(NB), "proto", "esp"]
    state += ["spi", f"{used:#x}", "mode", "tunnel", "auth", "hmac(sha1)", KEY]
    x1.ip(*state, "enc", "cbc(aes)", KEY[: 2 + 32])
    try:
        lease, found = x1.hold("esp", "--peer", Y, "--spi", f"{used:#x}")
        assert int(found["leases"][0]["spi"], 16) != used
        assert "is in use on this host" in lease.output()
        lease.stop()
    finally:
        x1.ip("xfrm", "state", "flush")


def test_leases_survive_the_servers_restart(bed: NarBed, x1: Client) -> None:
    """Packets pass all the time; the client comes back with its token."""
    script = f"{FETCH}; read _ < $0; {FETCH}"
    bed.lab.run("x1", ["mkfifo", str(bed.lab.folder / "go")])
    go = bed.lab.folder / "go"
    argv = ["run", "--server", NA, "--ports", 4, "--", "sh", "-c", script, go]
    command = x1.start(*argv)
    wait_until(lambda: PAGE in command.output(), ENDS_S, "the page")
    before = sorted(str(one["value"]) for one in bed.mappings())
    bed.restart(kill=True)
    wait_until(lambda: x1.sessions()[0]["connected"], ENDS_S, "the connection")
    assert sorted(str(one["value"]) for one in bed.mappings()) == before
    go.write_text("\n")
    assert command.wait(ENDS_S) == 0
    assert command.output().count(PAGE) == 2


def test_a_lease_in_the_background(bed: NarBed, x1: Client) -> None:
    """It returns when it is leased; it is listed, renewed, and released."""
    status, text = x1.done("lease", "ike", "--server", NA, "--peer", Y, "--background")
    assert status == 0, text
    assert re.search(r"port = 2\d{4}\n", text)
    assert f"local_addrs = {NB}" in text
    (session,) = x1.sessions()
    assert len(session["leases"]) == 9
    assert f"{NB}/32" in x1.ip("-o", "address", "show", "dev", session["interface"])
    status, text = x1.done("release", session["session"])
    assert (status, x1.left()) == (0, []), text


def test_translated_needs_nothing_of_the_host(bed: NarBed, x1: Client) -> None:
    lease, found = x1.hold("udp", "--peer", Y, "--translated")
    assert (found["delivery"], found["interface"], x1.left()) == ("translated", None, [])
    port = found["leases"][0]["local_port"]
    echo = f"(echo hello; sleep 1) | timeout 5 nc -u -w 1 -p {port} {Y} 7"
    assert x1.lab.run("x1", ["sh", "-c", echo]).stdout == "hello\n"
    lease.stop()


def test_a_tunnel_of_ones_own_through_nar(bed: NarBed, x1: Client) -> None:
    """IP-in-IP to Y, inside the tunnel with the server (section 2.6.3, end-to-end)."""
    lease, found = x1.hold("ipip", "--peer", Y, "--inner", plan.XB)
    assert "Tunnel" in found["advice"]
    ends = [
        make_tunnel(bed.lab, "x1", "own", (NB, Y)),
        make_tunnel(bed.lab, "y", "own", (Y, NB)),
    ]
    try:
        for host, address, other in (("x1", plan.XB, Y), ("y", plan.XB2, plan.XB)):
            bed.lab.run(host, ["ip", "address", "add", f"{address}/32", "dev", "own"])
            bed.lab.run(host, ["ip", "link", "set", "own", "up"])
            if other is not Y:
                bed.lab.run(host, ["ip", "route", "add", f"{other}/32", "dev", "own"])
        x1.ip("route", "add", f"{plan.XB2}/32", "dev", "own", "src", str(plan.XB))
        x1.lab.run("x1", ["ping", "-c", "1", "-W", "5", str(plan.XB2)])
    finally:
        for end in ends:
            end()
    lease.stop()


def test_h73_what_is_not_leased_does_not_reach_the_host(bed: NarBed, x1: Client) -> None:
    """Even in the tunnel from the server: to a port that nobody leased, but a program has."""
    lease, found = x1.hold("udp", "--peer", Y)
    port = found["leases"][0]["port"]
    with (
        datagram_socket(bed.lab, "x1", NB, port) as ours,
        datagram_socket(bed.lab, "x1", NB, port ^ 1) as nobodys,
        RawSocket(bed.lab, "n", 4) as server,
    ):
        for number in (port ^ 1, port):
            inner = ip_packet(Y, NB, 17, udp(Y, NB, (7, number), b"hello"))
            server.say(NA, plan.X1, inner)
        assert ours.recv(100) == b"hello"
        assert not select.select([nobodys], [], [], 0)[0]
    lease.stop()


def test_refusals_are_told_in_words(bed: NarBed, x1: Client) -> None:
    status, text = x1.done("lease", "esp", "--server", f"{NA}:9")
    assert (status, "nothing listens there" in text) == (69, True), text
    status, text = x1.run("--ports", 4, "--", "no-such-command")
    assert (status, "no such command" in text) == (127, True), text
    status, text = x1.done("lease", "icmp", "--server", NA)
    assert (status, "needs --peer" in text) == (2, True), text
    status, text = x1.done("lease", "udp", "--server", NA, "--peer", "127.0.0.1")
    assert (status, "rules do not allow" in text) == (1, True), text
    if planes.portable():
        return  # Others' devices are in nobody's way.
    ip = ["ip", "link", "add", "mine", "type", "ipip", "local", str(plan.X1), "remote", str(NA)]
    netns.command(["nsenter", f"--net=/run/netns/{bed.lab.namespace('x1')}", *ip])
    try:
        status, text = x1.run("--ports", 4, "--", "true")
        assert (status, "another tunnel between" in text) == (125, True), text
    finally:
        x1.ip("link", "delete", "mine")
