"""strongSwan with the kernel's IPsec and with its own, each as a peer of this run's dataplane.

Both versions, both roles, every suite, with and without UDP; moves by MOBIKE, and new keys by
either side under streams that lose nothing.
"""

# planes: kernel portable portable-guest

from collections.abc import Callable, Iterator

import pytest
from gateway_bed import PSK
from interop_bed import (
    Bed,
    Streams,
    device_file,
    inner_address,
    interop,
    psk_connection,
    table,
)

from gateway.lab import plan
from gateway.lab.kernel import has_esp
from gateway.lab.processes import wait_until

pytestmark = pytest.mark.kernel

PEERS = {"user-space": True, **({"kernel": False} if has_esp() else {})}
"""Name to whether charon does ESP itself. Its own ESP is always in UDP, and has no ESN."""
SUITES = {
    "gcm256": "aes256gcm16",
    "gcm128": "aes128gcm16",
    "chacha": "chacha20poly1305",
    "cbc256-sha256": "aes256-sha256",
    "cbc128-sha384": "aes128-sha384",
    "cbc256-sha512": "aes256-sha512",
}
IKE_V2, IKE_V1 = "aes256gcm16-prfsha256-x25519", "aes256-sha256-modp2048"
PACKETS = 150
PEER = plan.ACCESSES["access1"].device.ip
PEER_ID = "branch.example.com"
BRANCH = "10.77.0.1"

RESPONDER = """
connections {{
  branch {{
    version = {version}
    proposals = {ike}
    encap = {encap}
    local {{
      auth = psk
      id = {peer_id}
    }}
    remote {{
      auth = psk
    }}
    children {{
      net {{
        local_ts = 10.77.0.0/24
        remote_ts = 10.1.0.0/24
        esp_proposals = {esp}
      }}
    }}
  }}
}}
secrets {{
  ike-1 {{
    secret = "{psk}"
  }}
}}
"""


def to_branch(name: str, version: int, **keys: object) -> str:
    """A connection that we open."""
    fixed: dict[str, object] = {
        "ike_version": version,
        "ike_proposals": [IKE_V1 if version == 1 else IKE_V2],
        "esp_proposals": ["aes256-sha256", "aes256gcm16"],
        "local_auth": "psk",
        "remote_auth": "psk",
        "psk": PSK,
        "local_id": f"{name}.hub.example.com",
        "remote_id": PEER_ID,
        "remote": str(PEER),
        "local_subnets": ["10.1.0.0/24"],
        "remote_subnets": ["10.77.0.0/24"],
    }
    return table(f"connections.{name}", **{**fixed, **keys})


@pytest.fixture(scope="module", params=PEERS)
def shared(request: pytest.FixtureRequest) -> Iterator[Bed]:
    suites = [*SUITES.values(), *(f"{one}-esn" for one in SUITES.values())]
    connections = psk_connection(esp_proposals=suites)
    connections += psk_connection(
        "counted",
        remote_id="counted@example.com",
        lifetimes={"child_soft_packets": PACKETS, "child_hard_packets": 100 * PACKETS},
    )
    connections += psk_connection(
        "old", ike_version=1, ike_proposals=[IKE_V1], esp_proposals=list(SUITES.values())
    )
    connections += to_branch("second", 2) + to_branch("first", 1)
    connections += to_branch(
        "worn", 2, lifetimes={"child_soft_packets": PACKETS, "child_hard_packets": 100 * PACKETS}
    )
    with interop(connections, user_space=PEERS[request.param]) as bed:
        yield bed


@pytest.fixture
def bed(shared: Bed) -> Iterator[Bed]:
    yield shared
    shared.disconnect()
    shared.lab.move("access1")


def device(version: int = 2, *, encap: bool = False, **changes: str) -> str:
    """swanctl.conf of the device."""
    fixed = {"ike": IKE_V1 if version == 1 else IKE_V2}
    fixed["connection"] = f"encap = {'yes' if encap else 'no'}"
    return device_file(**{**fixed, **changes}).replace("version = 2", f"version = {version}")  # type: ignore[arg-type]


def ways(bed: Bed) -> list[bool]:
    """With and without UDP, as far as the peer has it."""
    return [True] if bed.device.user_space else [False, True]


def carries(bed: Bed) -> None:
    """Small and large packets, both counted by both sides."""
    assert bed.ping()
    argv = ["ping", "-n", "-q", "-c", "2", "-i", "0.2", "-W", "3", "-s", "1300", str(plan.SERVER)]
    assert " 0% packet loss" in bed.lab.run("device", argv, check=False).stdout
    (child,) = bed.child_sas()
    assert child["packets_in"] == child["packets_out"] == 4


def children(bed: Bed) -> set[str]:
    return {str(child["spi_in"]) for child in bed.child_sas()}


def ike_names(bed: Bed) -> set[str]:
    return {str(ike["id"]) for ike in bed.ike_sas()}


def replaced(bed: Bed, names: Callable[[Bed], set[str]], old: set[str]) -> set[str]:
    """Wait for an SA that is not one of `old`; all there were so far."""
    wait_until(lambda: names(bed) - old, 20, "another SA")
    return names(bed) | old


# -- the device opens ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "suite"),
    [(2, suite) for suite in SUITES] + [(1, suite) for suite in SUITES if suite != "chacha"],
)
def test_suites(bed: Bed, version: int, suite: str) -> None:
    """ChaCha20 has no number in IKEv1."""
    has_esn = version == 2 and not bed.device.user_space
    for encap in ways(bed):
        for esn in ("", "-esn") if has_esn else ("",):
            bed.connect(configuration=device(version, encap=encap, esp=SUITES[suite] + esn))
            (child,) = bed.child_sas()
            assert child["encapsulation"] == ("esp-in-udp" if encap else "esp")
            assert child["suite"].endswith("/esn") == bool(esn)
            carries(bed)
            bed.disconnect()


def test_mobike(bed: Bed) -> None:
    """To another network and into a NAT; packets go on.

    charon's own IPsec takes no other addresses: it makes another child SA instead.
    """
    ike = bed.connect(configuration=device())
    before = children(bed)
    with Streams(bed, inner_address(ike), name=f"mobike-{bed.device.user_space}") as streams:
        for access, address in (
            ("access2", str(plan.ACCESSES["access2"].device.ip)),
            ("nat", str(bed.lab.nat_mapping()[0])),
        ):
            bed.lab.move(access, make_before_break=True)
            wait_until(lambda a=address: bed.ike_sas()[0]["remote"].startswith(a), 40, access)  # type: ignore[misc]
            streams.wait_for_more(50)
        up, down = streams.lost()
    # Under way at the two changes of addresses. Another child SA takes charon 0.1 s, or 0.6 s on a
    # machine that is busy with other tests.
    assert max(up, down) <= (500 if bed.device.user_space else 200)
    assert children(bed) == before or bed.device.user_space


def test_an_unannounced_mapping(bed: Bed) -> None:
    bed.lab.move("nat")
    bed.connect(configuration=device(encap=True, connection="mobike = no"))
    bed.lab.remap_nat()
    assert bed.ping(5) or bed.ping()
    (child,) = bed.child_sas()
    assert child["last_move"]["proof"] == "esp-in-udp mapping"


@pytest.mark.parametrize("version", [2, 1])
def test_the_device_makes_new_keys(bed: Bed, version: int) -> None:
    ike = bed.connect(configuration=device(version, esp="aes256-sha256"))
    stream = f"rekey-{version}-{bed.device.user_space}"
    with Streams(bed, inner_address(ike), name=stream) as streams:
        old, old_ike = children(bed), ike_names(bed)
        for _ in range(2):
            bed.device.rekey(child="net")
            old = replaced(bed, children, old)
            streams.wait_for_more(50)
        if version == 2:
            bed.device.rekey(ike="gw")
            replaced(bed, ike_names, old_ike)
            streams.wait_for_more(50)
        assert streams.lost() == (0, 0)


def test_we_make_new_keys(bed: Bed) -> None:
    ike = bed.connect(configuration=device(device_id="counted@example.com"))
    old = children(bed)
    with Streams(bed, inner_address(ike), name=f"counted-{bed.device.user_space}") as streams:
        for _ in range(3):
            old = replaced(bed, children, old)
        (one,) = bed.ike_sas()
        bed.gateway.call("rekey", id=one["id"])
        replaced(bed, ike_names, {one["id"]})
        streams.wait_for_more(50)
        assert streams.lost() == (0, 0)


# -- we open ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "version"), [("second", 2), ("first", 1)])
def test_we_open(bed: Bed, name: str, version: int) -> None:
    for encap in ways(bed):
        opened(bed, name, version, encap=encap)
        assert bed.ping(host="server", to=BRANCH)
        (child,) = bed.child_sas()
        assert child["encapsulation"] == ("esp-in-udp" if encap else "esp")
        close(bed)


def test_we_open_and_either_side_makes_new_keys(bed: Bed) -> None:
    opened(bed, "worn", 2)
    old = children(bed)
    many = ["ping", "-n", "-q", "-c", str(PACKETS + 10), "-i", "0.01", BRANCH]
    bed.lab.run("server", many, check=False)
    old = replaced(bed, children, old)
    bed.device.rekey(child="net")
    replaced(bed, children, old)
    assert bed.ping(host="server", to=BRANCH)
    close(bed)


def opened(bed: Bed, name: str, version: int, *, encap: bool = False) -> None:
    bed.lab.run("device", ["ip", "address", "replace", f"{BRANCH}/32", "dev", "lo"])
    esp, ike = ("aes256-sha256", IKE_V1) if version == 1 else ("aes256gcm16", IKE_V2)
    words = {"encap": "yes" if encap else "no", "peer_id": PEER_ID, "psk": PSK}
    bed.device.load(RESPONDER.format(version=version, ike=ike, esp=esp, **words))
    bed.gateway.call("initiate", connection=name)
    wait_until(bed.child_sas, 20, "the child SA")


def close(bed: Bed) -> None:
    """By us: what the peer closes, we would open again."""
    for ike in bed.ike_sas():
        bed.gateway.call("close-ike-sa", id=ike["id"])
    wait_until(lambda: not bed.ike_sas() and not bed.states(), 10, "nothing is left")
    wait_until(lambda: not bed.device.list_sas(), 10, "nothing is left at the peer")


def test_tshark_finds_nothing_wrong(bed: Bed) -> None:
    assert not bed.gateway.events("internal_error")
    assert bed.findings() == []
