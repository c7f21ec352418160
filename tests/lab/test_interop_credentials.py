"""Who is let in and how it proves itself; who is refused, and what both sides are told."""

# planes: portable

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from gateway_bed import PSK
from interop_bed import Bed, device_file, interop, psk_connection, table

from gateway.lab.pki import Authority, Issued, KeyKind
from gateway.lab.processes import LabError, wait_until

pytestmark = pytest.mark.kernel

IKE_PROPOSALS = ["aes256gcm16-prfsha256-x25519", "aes128-sha256-ecp256"]
WAYS = {
    "RFC 7427": "",
    "RFC 7427 with PSS": "rsa_pss = yes",
    "RFC 7296's own methods": "signature_authentication = no",
}
"""Name of a way to sign, and what makes charon use it."""
SIGNED = {
    ("RFC 7427", KeyKind.RSA): ("RSA_EMSA_PKCS1_SHA2_256", "RSA_EMSA_PSS_SHA2_256"),
    ("RFC 7427", KeyKind.ECDSA): ("ECDSA_WITH_SHA256_DER", "ECDSA_WITH_SHA256_DER"),
    ("RFC 7427", KeyKind.ED25519): ("ED25519", "ED25519"),
    ("RFC 7427 with PSS", KeyKind.RSA): ("RSA_EMSA_PSS", "RSA_EMSA_PSS_SHA2_256"),
    ("RFC 7296's own methods", KeyKind.ECDSA): ("ECDSA-256 signature", "ECDSA-256 signature"),
}
"""What charon calls the signatures of the device and the gateway."""


@dataclass
class Site:
    """The bed, and the certificates on both sides."""

    bed: Bed
    authorities: dict[KeyKind, Authority]
    way: str = "RFC 7427"

    def use(self, way: str) -> None:
        """Let the device sign that way."""
        if way != self.way:
            self.bed.restart_device(WAYS[way])
            self.way = way

    def load(self, issued: Issued, device_id: str, kind: KeyKind) -> None:
        """Give the device a certificate."""
        self.bed.device.load(
            device_file(
                device_id=device_id, certificate="device.crt", connection="send_cert=always"
            ),
            authorities=[self.authorities[kind].root],
            credentials={"device": issued},
        )


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder: Path = tmp_path_factory.mktemp("pki")
    authorities = {kind: Authority(f"{kind.value} CA", kind) for kind in KeyKind}
    connections = ""
    for kind, authority in authorities.items():
        ca = folder / f"{kind.value}-ca.crt"
        ca.write_bytes(authority.root.certificate_pem())
        certificate, key = authority.gateway(kind=kind).write(folder, f"{kind.value}-gateway")
        connections += table(
            f"connections.{kind.value}",
            certificate=str(certificate),
            private_key=str(key),
            ca_certificates=[str(ca)],
            remote_id=f"*@{kind.value}.example.com",
            pool="road",
            local_subnets=["10.1.0.0/24"],
            ike_proposals=IKE_PROPOSALS,
        )
    connections += psk_connection(ike_proposals=IKE_PROPOSALS)
    full = table("pools.full", network="10.9.8.0/30", reserved=["10.9.8.0/30"])
    connections = full + connections
    connections += psk_connection(
        "full", remote_id="late@example.com", pool="full", ike_proposals=IKE_PROPOSALS
    )
    with interop(connections) as bed:
        yield Site(bed, authorities)


@pytest.fixture
def site(shared: Site) -> Iterator[Site]:
    yield shared
    shared.bed.disconnect()


@pytest.mark.parametrize(("way", "kind"), SIGNED, ids=lambda value: getattr(value, "value", value))
def test_certificate(site: Site, way: str, kind: KeyKind) -> None:
    site.use(way)
    bed, name = site.bed, f"device@{kind.value}.example.com"
    site.load(site.authorities[kind].device(name, kind), name, kind)
    mark = len(bed.device.log())
    bed.connect()
    assert bed.ping()
    (ike,) = bed.ike_sas()
    assert ike["remote_id"] == name
    assert ike["connection"] == kind.value
    # charon names the signatures of both ends.
    said = re.findall(
        r"authentication of '([^']*)' (?:\(myself\) )?with (.*)", bed.device.log()[mark:]
    )
    assert [who for who, _ in said] == [name, "gateway.example.com"]
    for (_, how), expected in zip(said, SIGNED[way, kind], strict=True):
        assert expected in how


def test_preshared_key(site: Site) -> None:
    bed = site.bed
    bed.connect(configuration=device_file())
    assert bed.ping()


def refused(site: Site, told: str) -> str:
    """Let the device fail, `told` being in its log; returns the one line of the gateway's."""
    bed = site.bed
    mark, said = len(bed.gateway.log()), len(bed.device.log())
    with pytest.raises(LabError):
        bed.device.initiate("net")
    assert told in bed.device.log()[said:]

    def complaints() -> list[dict[str, Any]]:
        return [one for one in bed.said_since(mark) if one["level"] not in {"info", "debug"}]

    wait_until(complaints, 10, "the gateway's line")
    (line,) = complaints()
    assert line["event"] == "handshake_failed"
    assert not bed.child_sas()
    return str(line["text"])


def test_rsa_over_sha1(site: Site) -> None:
    """charon knows nothing else for RSA when it does not announce its hashes."""
    site.use("RFC 7296's own methods")
    name = "device@rsa.example.com"
    site.load(site.authorities[KeyKind.RSA].device(name, KeyKind.RSA), name, KeyKind.RSA)
    text = refused(site, "AUTHENTICATION_FAILED")
    assert name in text
    assert "SHA-1" in text
    site.use("RFC 7427")


def test_wrong_preshared_key(site: Site) -> None:
    site.bed.device.load(device_file(psk=PSK + "!"))
    text = refused(site, "AUTHENTICATION_FAILED")
    assert re.search(r"device@example.com from .* failed in IKE_AUTH: .*key", text)


def test_expired_certificate(site: Site) -> None:
    name = "device@ecdsa.example.com"
    site.load(site.authorities[KeyKind.ECDSA].expired(name), name, KeyKind.ECDSA)
    text = refused(site, "AUTHENTICATION_FAILED")
    assert re.search(rf"{name} .*expired", text)


def test_unknown_authority(site: Site) -> None:
    name = "device@ecdsa.example.com"
    stranger = Authority("A stranger's CA")
    site.load(stranger.device(name), name, KeyKind.ECDSA)
    text = refused(site, "AUTHENTICATION_FAILED")
    assert name in text
    assert "A stranger's CA" in text


def test_unknown_identity(site: Site) -> None:
    site.bed.device.load(device_file(device_id="stranger@example.net"))
    text = refused(site, "AUTHENTICATION_FAILED")
    assert "no connection accepts the identity stranger@example.net" in text


def test_wrong_gateway_identity(site: Site) -> None:
    site.bed.device.load(device_file(gateway_id="vpn.example.org"))
    text = refused(site, "AUTHENTICATION_FAILED")
    assert "vpn.example.org" in text
    assert "gateway.example.com" in text


def test_no_common_ike_proposal(site: Site) -> None:
    site.bed.device.load(device_file(ike="aes256-sha512-modp4096"))
    text = refused(site, "NO_PROP")
    assert "aes256" in text
    assert "aes256gcm16-prfsha256-x25519" in text
    assert "aes128-prfsha256-sha256-ecp256" in text


def test_no_common_esp_proposal(site: Site) -> None:
    site.bed.device.load(device_file(esp="aes192-sha512"))
    text = refused(site, "NO_PROP")
    assert "aes192-sha512" in text
    assert "aes256gcm16" in text


def test_pool_is_exhausted(site: Site) -> None:
    site.bed.device.load(device_file(device_id="late@example.com"))
    text = refused(site, "INTERNAL_ADDRESS_FAILURE")
    assert "late@example.com" in text
    assert "full" in text


def test_selectors_are_not_acceptable(site: Site) -> None:
    site.bed.device.load(device_file(remote_ts="172.16.0.0/24"))
    text = refused(site, "TS_UNACCEPT")
    assert "172.16.0.0/24" in text
    assert "10.1.0.0/24" in text


def test_selectors_are_narrowed(site: Site) -> None:
    bed = site.bed
    ike = bed.connect(configuration=device_file(remote_ts="0.0.0.0/0"))
    assert ike.children[0].remote_selectors == ("10.1.0.0/24",)
    assert bed.ping()


def test_tshark_finds_nothing_wrong(site: Site) -> None:
    assert site.bed.findings() == []
