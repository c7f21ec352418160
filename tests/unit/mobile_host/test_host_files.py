"""What the host reads and writes: leases, listening services, learnt credentials."""

import stat
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from gateway.domain.mobility_credential import MobilityCredential, MobilityGrant
from gateway.mobile_host.credential_store import CredentialStore
from gateway.mobile_host.duties import OpenService, forwards, open_services
from gateway.mobile_host.leases import Lease, Leases

CREDENTIAL = MobilityCredential(
    MobilityGrant(
        True,
        IPv4Address("10.2.0.1"),
        IPv4Address("10.2.0.50"),
        IPv4Network("10.2.0.0/24"),
    ),
    spi=4711,
    key=bytes(range(32)),
    ticket=b"opaque",
    expires_at=2000.0,
)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_a_lease_of_networkd(tmp_path: Path) -> None:
    write(
        tmp_path / "run/systemd/netif/leases/3",
        "# private\nADDRESS=192.0.2.5\nDNS=192.0.2.53 192.0.2.54\nDOMAINNAME=Corp.Example.\n",
    )
    leases = Leases(tmp_path)
    servers = (IPv4Address("192.0.2.53"), IPv4Address("192.0.2.54"))
    assert leases.of(3, "eth0") == Lease("corp.example", servers)
    assert leases.of(4, "eth1") == Lease()


def test_the_newest_lease_of_dhclient(tmp_path: Path) -> None:
    blocks = "".join(
        f'lease {{\n  interface "{name}";\n  option domain-name "{domain}";\n'
        f"  option domain-name-servers 192.0.2.{n},198.51.100.1;\n}}\n"
        for n, (name, domain) in enumerate(
            (("eth0", "old.example"), ("eth0", "new.example"), ("eth1", "other.example"))
        )
    )
    write(tmp_path / "var/lib/dhcp/dhclient.leases", blocks)
    found = Leases(tmp_path).of(2, "eth0")
    assert found.domain == "new.example"
    assert found.name_servers[0] == IPv4Address("192.0.2.1")


@pytest.mark.parametrize("domain", ["a b", "x" * 300, "evil\x1b[2J", "-x", ""])
def test_a_domain_that_is_none(tmp_path: Path, domain: str) -> None:
    write(tmp_path / "run/systemd/netif/leases/3", f"DOMAINNAME={domain}\n")
    assert Leases(tmp_path).domain(3, "eth0") == ""


def test_name_servers_of_the_host_without_its_own_stub(tmp_path: Path) -> None:
    write(tmp_path / "etc/resolv.conf", "nameserver 127.0.0.53\nnameserver 192.0.2.9\n")
    assert Leases(tmp_path).name_servers(3, "eth0") == (IPv4Address("192.0.2.9"),)


def test_a_huge_lease_file_is_read_at_its_end(tmp_path: Path) -> None:
    write(tmp_path / "run/systemd/netif/leases/3", "#" * 1_000_000 + "\nDOMAINNAME=a.example\n")
    assert Leases(tmp_path).domain(3, "eth0") == "a.example"


HEAD = "  sl  local_address rem_address   st tx_queue\n"


def test_services_that_others_can_reach(tmp_path: Path) -> None:
    write(
        tmp_path / "proc/net/tcp",
        HEAD
        + "   0: 00000000:0016 00000000:0000 0A 00000000\n"
        + "   1: 0100007F:0277 00000000:0000 0A 00000000\n"
        + "   2: 320210AC:A000 0101A8C0:0050 01 00000000\n",
    )
    write(
        tmp_path / "proc/net/tcp6",
        HEAD
        + f"   0: {'0' * 32}:0016 {'0' * 32}:0000 0A 00000000\n"
        + "   1: 00000000000000000000000001000000:1F90 "
        + f"{'0' * 32}:0000 0A 0\n   2: broken:1 x 0A\n",
    )
    write(
        tmp_path / "proc/net/udp",
        HEAD
        + "   0: 00000000:01B2 00000000:0000 07 00000000\n"
        + "   1: 00000000:14E9 00000000:0000 07 00000000\n",
    )
    assert open_services(tmp_path) == [
        OpenService("tcp", 22, "0.0.0.0"),
        OpenService("tcp", 22, "::"),
        OpenService("udp", 5353, "0.0.0.0"),
    ]


def test_no_proc_is_no_service(tmp_path: Path) -> None:
    assert open_services(tmp_path) == []
    assert not forwards(tmp_path)


def test_forwarding(tmp_path: Path) -> None:
    write(tmp_path / "proc/sys/net/ipv4/ip_forward", "0\n")
    assert not forwards(tmp_path)
    write(tmp_path / "proc/sys/net/ipv6/conf/all/forwarding", "1\n")
    assert forwards(tmp_path)


def test_credentials_come_back_until_they_expire(tmp_path: Path) -> None:
    store = CredentialStore(tmp_path / "state")
    assert store.load(0) == ()
    store.keep([CREDENTIAL])
    assert stat.S_IMODE(store.path.stat().st_mode) == 0o600
    assert store.load(1999) == (CREDENTIAL,)
    assert store.load(2000) == ()
    store.forget()
    assert store.load(0) == ()


def test_credentials_that_others_could_read_are_not_used(tmp_path: Path) -> None:
    store = CredentialStore(tmp_path)
    store.keep([CREDENTIAL])
    store.path.chmod(0o640)
    assert store.load(0) == ()


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"credentials": 3}', '{"credentials": [{}]}', '{"credentials": [null]}'],
)
def test_a_damaged_file_is_as_good_as_none(tmp_path: Path, text: str) -> None:
    store = CredentialStore(tmp_path)
    store.keep([CREDENTIAL])
    store.path.write_text(text)
    assert store.load(0) == ()


def test_keeping_replaces_whatever_was_left_half_written(tmp_path: Path) -> None:
    (tmp_path / ".credentials.json.new").write_text("half")
    store = CredentialStore(tmp_path)
    store.keep([CREDENTIAL])
    assert store.load(0) == (CREDENTIAL,)
    assert [path.name for path in tmp_path.iterdir()] == ["credentials.json"]
