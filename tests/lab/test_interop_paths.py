"""Cookies, NAT, encapsulation that either side forces, certificates too large for one packet."""

from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from interop_bed import Bed, device_file, inner_address, interop, psk_connection, table

from gateway.lab import plan
from gateway.lab.capture import dissect
from gateway.lab.pki import Authority, KeyKind
from gateway.lab.strongswan import StrongSwan

pytestmark = pytest.mark.kernel

MANY_NAMES = [f"name{number:03}.of.a.very.large.certificate.example.com" for number in range(60)]
SMALL = 576
FORCED_SUITE = "aes128gcm16-prfsha256-ecp256"


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority("RSA CA", KeyKind.RSA)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Bed]:
    folder: Path = tmp_path_factory.mktemp("pki")
    ca = folder / "ca.crt"
    ca.write_bytes(authority.root.certificate_pem())
    large = authority.issue(
        "gateway.example.com", kind=KeyKind.RSA, dns=["gateway.example.com", *MANY_NAMES]
    )
    certificate, key = large.write(folder, "gateway")
    connections = psk_connection()
    connections += psk_connection("second", remote_id="second@example.com")
    connections += psk_connection(
        "forced",
        remote_id="forced@example.com",
        encapsulation="always",
        mobike=False,
        ike_proposals=[FORCED_SUITE],  # nobody else's: it has to be known before the identity
    )
    connections += table(
        "connections.large",
        certificate=str(certificate),
        private_key=str(key),
        ca_certificates=[str(ca)],
        remote_id="large@example.com",
        pool="road",
        local_subnets=["10.1.0.0/24"],
    )
    limits = f"cookie_threshold = 0\nfragment_size = {SMALL}"
    with interop(connections, ike=limits, charon=f"fragment_size = {SMALL}") as bed:
        yield bed


@pytest.fixture
def bed(shared: Bed) -> Iterator[Bed]:
    yield shared
    shared.disconnect()
    shared.lab.move("access1")


def encapsulation(bed: Bed) -> str:
    (child,) = bed.child_sas()
    return str(child["encapsulation"])


def test_cookies(bed: Bed) -> None:
    demanded = bed.counter("cookies_demanded")
    bed.connect(configuration=device_file())
    assert bed.counter("cookies_demanded") == demanded + 1
    assert "N(COOKIE)" in bed.device.log()
    assert encapsulation(bed) == "esp"
    assert bed.ping()


def test_cookie_and_another_group(bed: Bed) -> None:
    """First the cookie, then INVALID_KE_PAYLOAD, then both hold."""
    bed.connect(configuration=device_file(ike="aes256gcm16-prfsha256-modp1536-x25519"))
    assert "INVAL_KE" in bed.device.log()
    assert bed.ping()


def test_device_behind_a_nat(bed: Bed) -> None:
    bed.lab.move("nat")
    ike = bed.connect(configuration=device_file())
    assert ike.children[0].encapsulated
    assert encapsulation(bed) == "esp-in-udp"
    public, ports = bed.lab.nat_mapping()
    (ours,) = bed.ike_sas()
    address, port = str(ours["remote"]).split(":")
    assert IPv4Address(address) == public
    assert ports[0] <= int(port) <= ports[1]
    assert bed.ping()


def test_the_device_forces_encapsulation(bed: Bed) -> None:
    ike = bed.connect(configuration=device_file(connection="encap = yes"))
    assert ike.children[0].encapsulated
    assert encapsulation(bed) == "esp-in-udp"
    assert bed.ping()


@pytest.mark.parametrize("access", ["access1", "nat"])
def test_we_force_encapsulation(bed: Bed, access: str) -> None:
    bed.lab.move(access)
    ike = bed.connect(configuration=device_file(device_id="forced@example.com", ike=FORCED_SUITE))
    assert ike.children[0].encapsulated
    assert encapsulation(bed) == "esp-in-udp"
    assert bed.ping()


def test_large_certificates_in_small_fragments(bed: Bed, authority: Authority) -> None:
    """Both chains exceed one packet by far; no IP packet of IKE exceeds the size set."""
    large = authority.issue(
        "large@example.com", kind=KeyKind.RSA, emails=["large@example.com"], dns=MANY_NAMES
    )
    recording = bed.lab.capture("internet", "dmz", "fragments", "host 192.0.2.1 and udp")
    bed.connect(
        configuration=device_file(device_id="large@example.com", certificate="device.crt"),
        authorities=[authority.root],
        credentials={"device": large},
    )
    assert bed.ping()
    recorded = recording.stop()
    fields = ["ip.src", "ip.len", "isakmp.frag.last", "isakmp.typepayload"]
    for source in (plan.GATEWAY_OUTSIDE, plan.ACCESSES["access1"].device.ip):
        fragments = dissect(recorded, f"isakmp.exchangetype == 35 && ip.src == {source}", fields)
        assert len(fragments) >= 6
        assert all(int(row[1]) <= SMALL for row in fragments)
    assert not dissect(recorded, "ip.flags.mf == 1 || ip.frag_offset > 0", ["ip.len"])


def test_two_devices_behind_one_nat(bed: Bed) -> None:
    """They share the public address; the second is another charon, on ports of its own."""
    bed.lab.move("nat")
    first = inner_address(bed.connect(configuration=device_file()))
    other = StrongSwan(
        bed.lab,
        "device",
        name="charon-second",
        extra="port = 1500\n port_nat_t = 14500",
        install_routes=False,  # the first one's lead to the same subnet
    )
    try:
        other.start()
        other.load(device_file(device_id="second@example.com"))
        other.initiate("net")
        (ike,) = other.established()
        second = inner_address(ike)
        remotes = {str(one["remote"]) for one in bed.ike_sas()}
        assert len(remotes) == 2
        assert len({remote.rpartition(":")[0] for remote in remotes}) == 1
        for inner in (first, second):
            argv = ["ping", "-n", "-q", "-c", "2", "-i", "0.2", "-W", "3", "-I", inner]
            done = bed.lab.run("device", [*argv, str(plan.SERVER)], check=False)
            assert " 0% packet loss" in done.stdout
        assert all(child["packets_in"] >= 2 for child in bed.child_sas())
    finally:
        other.stop()
        bed.restart_device()  # the second one took the rule for their routing table with it


def test_tshark_finds_nothing_wrong(bed: Bed) -> None:
    assert bed.findings() == []
