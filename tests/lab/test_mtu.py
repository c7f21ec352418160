"""How large packets through a tunnel may be: promised, published, learned by ICMP and tried."""

import re
from collections.abc import Iterator

import pytest
from interop_bed import Bed, device_file, inner_address, interop, psk_connection

from gateway.lab import plan
from gateway.lab.capture import dissect
from gateway.lab.kernel import has_esp
from gateway.lab.processes import wait_until

pytestmark = pytest.mark.kernel

FORCED_SUITE = "aes128gcm16-prfsha256-ecp256"
MTU = 1450
UDP = 0 if has_esp() else 8
"""strongSwan's ESP in user space is always in UDP."""
PLAIN = 1446 - UDP
"""1500 - 20 - 8 - 8 - 16 = 1448, less two for the trailer: AES-GCM without UDP."""
NARROW = 1300


@pytest.fixture(scope="module")
def shared() -> Iterator[Bed]:
    connections = psk_connection()
    connections += psk_connection(
        "forced",
        remote_id="forced@example.com",
        encapsulation="always",
        mobike=False,
        ike_proposals=[FORCED_SUITE],
    )
    with interop(f"{connections}\n[dataplane]\nmtu = {MTU}\n") as bed:
        yield bed


@pytest.fixture
def bed(shared: Bed) -> Iterator[Bed]:
    yield shared
    shared.disconnect()
    shared.lab.run("internet", ["ip", "link", "set", "access1", "mtu", "1500"])
    shared.lab.run("internet", ["nft", "flush", "ruleset"])
    shared.lab.run("gw", ["ip", "link", "set", "inside", "mtu", "1500"])
    for host in ("gw", "server", "device"):
        shared.lab.run(host, ["ip", "route", "flush", "cache"])


def ping(bed: Bed, host: str, to: object, octets: int, count: int = 1) -> str:
    """Output of an echo request that is an IP packet of this size and must not be fragmented."""
    argv = ["ping", "-n", "-M", "do", "-s", str(octets - 28), "-c", str(count), "-W", "2"]
    done = bed.lab.run(host, [*argv, str(to)], check=False)
    return done.stdout + done.stderr


def told(output: str) -> int | None:
    """The MTU that ping was told of."""
    found = re.search(r"mtu ?= ?(\d+)", output)
    return int(found[1]) if found else None


def learned(bed: Bed, host: str, to: object, octets: int) -> int:
    """The MTU that a host is told of that sends too large packets."""
    found: list[int] = []

    def was_told() -> bool:
        mtu = told(ping(bed, host, to, octets))
        found.extend([mtu] if mtu is not None else [])
        return bool(found)

    wait_until(was_told, 20, f"ICMP at {host}")
    return found[-1]


def device_name(bed: Bed, identity: str) -> str:
    (item,) = bed.gateway.call("devices", q=identity)["items"]
    return str(item["name"])


def mtu(bed: Bed, identity: str = "device@example.com") -> dict[str, object]:
    return bed.gateway.call("mtu", device=device_name(bed, identity))


def path_test(bed: Bed, identity: str = "device@example.com") -> dict[str, object]:
    with bed.gateway.client() as client:
        client._timeout_s = 30.0
        return client.call("path-test", device=device_name(bed, identity))


def test_what_is_promised_passes_and_one_more_does_not(bed: Bed) -> None:
    inner = inner_address(bed.connect(configuration=device_file()))
    found = mtu(bed)
    assert (found["path"], found["path_source"], found["inner"]) == (1500, "interface", PLAIN)
    assert (found["configured"], found["effective"], found["mss_ipv4"]) == (MTU, PLAIN, PLAIN - 40)
    recording = bed.lab.capture("internet", "dmz", "sizes", "esp or udp port 4500")
    assert " 0% packet loss" in ping(bed, "server", inner, PLAIN)
    assert learned(bed, "server", inner, PLAIN + 1) == PLAIN
    rows = dissect(recording.stop(), "esp && ip.src == 192.0.2.1", ["ip.len"])
    assert max(int(row[0]) for row in rows) == 1500


def test_segments_fit(bed: Bed) -> None:
    bed.connect(configuration=device_file())
    recording = bed.lab.capture("server", "intranet", "segments", "tcp")
    argv = ["curl", "-s", "-o", "/dev/null", "-m", "10", f"http://{plan.SERVER}/"]
    bed.lab.run("device", argv, check=False)
    rows = dissect(
        recording.stop(), "tcp.flags.syn == 1 && tcp.flags.ack == 0", ["tcp.options.mss_val"]
    )
    assert rows
    # The interface of its user-space ESP is narrower.
    assert {int(row[0]) for row in rows} == {(PLAIN if has_esp() else 1400) - 40}


@pytest.mark.parametrize(
    ("identity", "layers"), [("device@example.com", UDP), ("forced@example.com", 8)]
)
def test_a_narrow_path_outside_is_learned(bed: Bed, identity: str, layers: int) -> None:
    """Routers tell the gateway, the gateway tells the senders inside."""
    suite = {"ike": FORCED_SUITE} if identity.startswith("forced") else {}
    inner = inner_address(bed.connect(configuration=device_file(device_id=identity, **suite)))
    bed.lab.run("internet", ["ip", "link", "set", "access1", "mtu", str(NARROW)])
    expected = (NARROW - layers - 20 - 8 - 8 - 16) // 4 * 4 - 2
    wait_until(
        lambda: told(ping(bed, "server", inner, 1400)) == expected,
        20,
        "the size of the narrow path",
    )
    assert " 0% packet loss" in ping(bed, "server", inner, expected)
    found = mtu(bed, identity)
    assert (found["path"], found["path_source"], found["inner"]) == (NARROW, "measured", expected)
    tried = path_test(bed, identity)
    assert (tried["ok"], tried["largest"], tried["expected"]) == (True, expected, expected)


def test_a_narrow_network_inside_is_learned_by_the_device(bed: Bed) -> None:
    """The gateway's ICMP goes through the tunnel, from an address that its selectors have."""
    bed.connect(configuration=device_file())
    bed.lab.run("gw", ["ip", "link", "set", "inside", "mtu", str(NARROW)])
    assert learned(bed, "device", plan.SERVER, 1400) == NARROW
    assert " 0% packet loss" in ping(bed, "device", plan.SERVER, NARROW)


def test_a_black_hole_is_found(bed: Bed) -> None:
    """Nobody says that packets are too large: the path test tells."""
    bed.connect(configuration=device_file())
    bed.lab.nft(
        "internet",
        "table ip hole { chain out { type filter hook output priority 0;"
        " icmp type destination-unreachable drop; }; }",
    )
    bed.lab.run("internet", ["ip", "link", "set", "access1", "mtu", str(NARROW)])
    found = path_test(bed)
    expected = (NARROW - UDP - 20 - 8 - 8 - 16) // 4 * 4 - 2
    assert (found["ok"], found["largest"], found["expected"]) == (False, expected, PLAIN)
    assert f"set mtu = {expected}" in str(found["summary"])


def test_a_device_that_answers_no_ping(bed: Bed) -> None:
    bed.connect(configuration=device_file())
    bed.lab.run("device", ["sysctl", "-qw", "net.ipv4.icmp_echo_ignore_all=1"])
    try:
        found = path_test(bed)
    finally:
        bed.lab.run("device", ["sysctl", "-qw", "net.ipv4.icmp_echo_ignore_all=0"])
    assert found["largest"] is None
    assert "does not answer ping" in str(found["summary"])
