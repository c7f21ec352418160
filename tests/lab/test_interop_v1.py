"""IKEv1 against strongSwan: phase 1 by every method, both exchanges, both roles, NAT, fragments.

Matching is by authentication method and exchange in IKEv1: the connections below differ in these,
in the identity of the device or in its key.
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
from gateway_bed import PSK
from interop_bed import Bed, device_file, interop, psk_connection, table

from gateway.lab import plan
from gateway.lab.pki import Authority, KeyKind
from gateway.lab.processes import LabError, wait_until

pytestmark = pytest.mark.kernel

IKE, ESP = "aes256-sha256-modp2048", "aes256-sha256"
FIXED: dict[str, object] = {
    "ike_version": 1,
    "ike_proposals": ["aes256-sha256-modp2048", "aes128-sha384-ecp384"],
    "esp_proposals": [ESP],
}
MANY_NAMES = [f"name{number:03}.of.a.very.large.certificate.example.com" for number in range(60)]
PEER = plan.ACCESSES["access1"].device.ip
PEER_ID = "branch.example.com"
OTHER_PSK = "another long shared secret"

RESPONDER = """
connections {{
  {connections}
}}
secrets {{
  ike-1 {{
    secret = "{psk}"
  }}
}}
"""
OF_RESPONDER = """
  {name} {{
    version = 1
    aggressive = {aggressive}
    proposals = aes256-sha256-modp2048
    local {{
      auth = {auth}
      id = {peer_id}
      {certificate}
    }}
    remote {{
      auth = {auth}
      id = "{name}@hub.example.com"
    }}
    children {{
      net {{
        local_ts = 10.77.0.0/24
        remote_ts = 10.1.0.0/24
        esp_proposals = aes256-sha256
      }}
    }}
  }}
"""


def device_v1(*, aggressive: bool = False, **changes: object) -> str:
    fixed: dict[str, object] = {"ike": IKE, "esp": ESP}
    fixed["connection"] = "aggressive = yes" if aggressive else ""
    fixed["connection"] = f"{fixed['connection']}\n{changes.pop('connection', '')}"
    text = device_file(**{**fixed, **changes})  # type: ignore[arg-type]
    return text.replace("version = 2", "version = 1")


@dataclasses.dataclass
class Site:
    """The bed, and who signs."""

    bed: Bed
    authorities: dict[KeyKind, Authority]

    def load(self, kind: KeyKind, *, large: bool = False, aggressive: bool = False) -> None:
        """Give the device a certificate."""
        authority = self.authorities[kind]
        exchange = "aggressive" if aggressive else "main"
        name = f"device@{exchange}-{kind.value}.org"
        issued = authority.device(name, kind)
        if large:
            issued = authority.issue(name, kind=kind, emails=[name], dns=MANY_NAMES)
        self.bed.device.load(
            device_v1(
                device_id=name,
                certificate="device.crt",
                aggressive=aggressive,
                connection="send_cert = always",
            ),
            authorities=[authority.root],
            credentials={"device": issued},
        )


def certified(name: str, kind: KeyKind, folder: Path, authority: Authority, **keys: object) -> str:
    ca = folder / f"{name}-ca.crt"
    ca.write_bytes(authority.root.certificate_pem())
    issued = authority.issue(
        "gateway.example.com", kind=kind, dns=["gateway.example.com", *MANY_NAMES]
    )
    certificate, key = issued.write(folder, name)
    fixed: dict[str, object] = {
        "certificate": str(certificate),
        "private_key": str(key),
        "ca_certificates": [str(ca)],
        "remote_id": f"*@{name}.org",
        "pool": "road",
        "local_subnets": ["10.1.0.0/24"],
    }
    return table(f"connections.{name}", **{**FIXED, **fixed, **keys})


def to_branch(name: str, **keys: object) -> str:
    fixed: dict[str, object] = {
        "local_auth": "psk",
        "remote_auth": "psk",
        "psk": PSK,
        "local_id": f"{name}@hub.example.com",
        "remote_id": PEER_ID,
        "remote": str(PEER),
        "local_subnets": ["10.1.0.0/24"],
        "remote_subnets": ["10.77.0.0/24"],
    }
    return table(f"connections.{name}", **{**FIXED, **fixed, **keys})


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder: Path = tmp_path_factory.mktemp("pki")
    authorities = {
        kind: Authority(f"{kind.value} CA", kind) for kind in (KeyKind.RSA, KeyKind.ECDSA)
    }
    connections = psk_connection(**FIXED)
    connections += psk_connection("second", **FIXED, remote_id="second@x.org", psk=OTHER_PSK)
    connections += psk_connection(
        "quick", **FIXED, exchange="aggressive", allow_aggressive_psk=True, remote_id="*@quick.org"
    )
    for kind, authority in authorities.items():
        for exchange in ("main", "aggressive"):
            connections += certified(
                f"{exchange}-{kind.value}", kind, folder, authority, exchange=exchange
            )
    connections += to_branch("main")
    connections += to_branch("aggressive", exchange="aggressive", allow_aggressive_psk=True)
    rsa = authorities[KeyKind.RSA]
    ours = rsa.issue("hub", kind=KeyKind.RSA, emails=["rsa@hub.example.com"])
    certificate, key = ours.write(folder, "hub")
    ca = folder / "hub-ca.crt"
    ca.write_bytes(rsa.root.certificate_pem())
    connections += to_branch(
        "rsa",
        local_auth="certificate",
        remote_auth="certificate",
        certificate=str(certificate),
        private_key=str(key),
        ca_certificates=[str(ca)],
    ).replace(f'psk = "{PSK}"\n', "")
    limits = "retransmit_first_s = 0.5\nretransmit_tries = 4"
    with interop(connections, ike=limits) as bed:
        bed.lab.run("device", ["ip", "address", "add", "10.77.0.1/32", "dev", "lo"])
        yield Site(bed, authorities)
        assert bed.findings() == []


@pytest.fixture
def site(shared: Site) -> Iterator[Site]:
    yield shared
    shared.bed.disconnect()


@pytest.fixture
def bed(site: Site) -> Bed:
    return site.bed


@pytest.mark.parametrize("aggressive", [False, True], ids=["main", "aggressive"])
def test_a_key(bed: Bed, aggressive: bool) -> None:
    name = "ada@quick.org" if aggressive else "device@example.com"
    bed.connect(configuration=device_v1(device_id=name, aggressive=aggressive))
    assert bed.ping()
    (ours,) = bed.ike_sas()
    assert ours["connection"] == ("quick" if aggressive else "road")


@pytest.mark.parametrize("aggressive", [False, True], ids=["main", "aggressive"])
@pytest.mark.parametrize("kind", [KeyKind.RSA, KeyKind.ECDSA], ids=lambda kind: kind.value)
def test_certificates_too_large_for_one_packet(site: Site, kind: KeyKind, aggressive: bool) -> None:
    site.load(kind, large=True, aggressive=aggressive)
    site.bed.connect()
    assert site.bed.ping()
    (ours,) = site.bed.ike_sas()
    assert ours["fragmentation"]


def test_one_of_several_keys_for_unknown_addresses(bed: Bed) -> None:
    bed.connect(configuration=device_v1(device_id="second@x.org", psk=OTHER_PSK))
    (ours,) = bed.ike_sas()
    assert ours["connection"] == "second"


def test_another_group_and_hash(bed: Bed) -> None:
    bed.connect(configuration=device_v1(ike="aes128-sha384-ecp384"))
    assert bed.ping()


@pytest.mark.parametrize("aggressive", [False, True], ids=["main", "aggressive"])
def test_behind_a_nat(bed: Bed, aggressive: bool) -> None:
    bed.lab.attach("nat")
    bed.lab.detach("access1")
    try:
        name = "ada@quick.org" if aggressive else "device@example.com"
        bed.connect(configuration=device_v1(device_id=name, aggressive=aggressive))
        assert bed.ping()
        (child,) = bed.child_sas()
        assert child["encapsulation"] == "esp-in-udp"
        bed.disconnect()
    finally:
        bed.lab.attach("access1")
        bed.lab.detach("nat")


def test_wrong_key_is_recorded(bed: Bed) -> None:
    bed.device.load(device_v1(psk="something else"))
    mark = len(bed.gateway.log())
    with pytest.raises(LabError):
        bed.device.initiate("net", timeout_s=5)
    (line,) = [one for one in bed.said_since(mark) if one["event"] == "handshake_failed"]
    assert line["step"] == "main mode message 5"
    assert "pre-shared key is none of" in line["reason"]


def test_nothing_in_common_is_recorded(bed: Bed) -> None:
    bed.device.load(device_v1(ike="aes128-sha1-modp3072"))
    mark = len(bed.gateway.log())
    with pytest.raises(LabError):
        bed.device.initiate("net", timeout_s=5)
    (line,) = [one for one in bed.said_since(mark) if one["event"] == "handshake_failed"]
    assert line["step"] == "main mode message 1"
    assert "aes128-sha1-modp3072-psk" in line["reason"]


def test_the_device_renews_phase_1(bed: Bed) -> None:
    ike = bed.connect(configuration=device_v1())
    (before,), (child,) = bed.ike_sas(), bed.child_sas()
    bed.device.rekey(ike=ike.name)
    wait_until(lambda: [one["id"] for one in bed.ike_sas()] not in ([before["id"]], []), 10, "new")
    wait_until(lambda: len(bed.ike_sas()) == 1, 40, "the old one is gone")
    (after,) = bed.ike_sas()
    assert after["inner_addresses"] == before["inner_addresses"]
    assert [one["spi_in"] for one in bed.child_sas()] == [child["spi_in"]]
    assert bed.ping()


# -- the gateway begins -----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["main", "aggressive", "rsa"])
def test_we_begin(site: Site, name: str) -> None:
    bed, authority = site.bed, site.authorities[KeyKind.RSA]
    auth = "pubkey" if name == "rsa" else "psk"
    described = OF_RESPONDER.format(
        name=name,
        aggressive="yes" if name == "aggressive" else "no",
        auth=auth,
        peer_id=PEER_ID,
        certificate="certs = branch.crt" if name == "rsa" else "",
    )
    bed.restart_device("i_dont_care_about_security_and_use_aggressive_mode_psk = yes")
    bed.device.load(
        RESPONDER.format(connections=described, psk=PSK),
        authorities=[authority.root],
        credentials={"branch": authority.gateway(PEER_ID, KeyKind.RSA)},
    )
    bed.gateway.call("initiate", connection=name)
    wait_until(bed.child_sas, 20, "the child SA")
    assert bed.ping(host="server", to="10.77.0.1")
    (ours,), (theirs,) = bed.ike_sas(), bed.device.established()
    assert ours["id"] == f"{theirs.initiator_spi}_{theirs.responder_spi}"
    bed.gateway.call("close-ike-sa", id=ours["id"])
    wait_until(lambda: not bed.device.established(), 10, "the peer saw the Delete")


def test_we_renew_phase_1(site: Site) -> None:
    bed = site.bed
    described = OF_RESPONDER.format(
        name="main", aggressive="no", auth="psk", peer_id=PEER_ID, certificate=""
    )
    bed.device.load(RESPONDER.format(connections=described, psk=PSK))
    bed.gateway.call("initiate", connection="main")
    wait_until(bed.child_sas, 20, "the child SA")
    (before,), (child,) = bed.ike_sas(), bed.child_sas()
    bed.gateway.call("rekey", id=before["id"])
    wait_until(
        lambda: [one["id"] for one in bed.ike_sas()] not in ([before["id"]], []), 10, "another"
    )
    wait_until(lambda: len(bed.ike_sas()) == 1, 10, "the old one is gone")
    wait_until(lambda: len(bed.device.established()) == 1, 10, "one SA at the peer")
    (after,), (theirs,) = bed.ike_sas(), bed.device.established()
    assert after["id"] == f"{theirs.initiator_spi}_{theirs.responder_spi}"
    assert [one["spi_in"] for one in bed.child_sas()] == [child["spi_in"]]
    assert bed.ping(host="server", to="10.77.0.1")
    bed.gateway.call("close-ike-sa", id=after["id"])
