"""libreswan as the device: both kinds of proof, rekeying by it, its delete, its refusal."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from gateway_bed import PSK
from interop_bed import Bed, gateway_alone, psk_connection, table

from gateway.lab import plan
from gateway.lab.libreswan import Libreswan
from gateway.lab.pki import Authority, KeyKind
from gateway.lab.processes import LabError, wait_until

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.kernel_peer("libreswan has the kernel's ESP only"),
]

CONNECTION = """
conn {name}
    ikev2=insist
    left={device}
    leftid={device_id}
    {address}
    right={gateway}
    rightid=@gateway.example.com
    rightsubnet=10.1.0.0/24
    {proof}
    ike={ike}
    esp={esp}
    {more}

"""
NAMES = {
    "psk": "device@example.com",
    "cbc": "device@example.com",
    "udp": "device@example.com",
    "ecdsa": "device@ecdsa.example.com",
    "rsa": "device@rsa.example.com",
    "stranger": "stranger@example.net",
}
ASK_ADDRESS = "leftmodecfgclient=yes\n    leftsubnet=0.0.0.0/0"


def connection(
    name: str,
    *,
    proof: str = "authby=secret",
    ike: str = "aes_gcm256-sha2_256;dh31",
    esp: str = "aes_gcm256",
    more: str = "",
) -> str:
    return CONNECTION.format(
        name=name,
        device=plan.ACCESSES["access1"].device.ip,
        gateway=plan.GATEWAY_OUTSIDE,
        device_id=NAMES[name],
        address=ASK_ADDRESS,
        proof=proof,
        ike=ike,
        esp=esp,
        more=more,
    )


def certified(kind: str, authby: str) -> str:
    return connection(kind, proof=f"leftcert={kind}\n    rightca=%same\n    authby={authby}")


CONNECTIONS = {
    "psk": connection("psk"),
    "cbc": connection("cbc", ike="aes256-sha2_256;dh14", esp="aes128-sha2_256"),
    "udp": connection("udp", more="encapsulation=yes"),
    "ecdsa": certified("ecdsa", "ecdsa"),
    "rsa": certified("rsa", "rsa-sha2"),
    "stranger": connection("stranger"),
}
SECRETS = "".join(
    f'{name} @gateway.example.com : PSK "{PSK}"\n'
    for name in ("device@example.com", "stranger@example.net")
)


@dataclass
class Site:
    """The bed and its pluto."""

    bed: Bed
    device: Libreswan

    def open(self, name: str) -> None:
        """Load one of the connections and bring it up; pluto takes no two of the same selectors."""
        self.device.load(CONNECTIONS[name], secrets=SECRETS)
        self.device.initiate(name)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder: Path = tmp_path_factory.mktemp("pki")
    authority = Authority()
    ca = folder / "ca.crt"
    ca.write_bytes(authority.root.certificate_pem())
    proposals = {
        "ike_proposals": ["aes256gcm16-prfsha256-x25519", "aes256-sha256-modp2048"],
        "esp_proposals": ["aes256gcm16", "aes128-sha256", "aes256gcm16-x25519"],
    }
    connections = psk_connection(**proposals)
    devices = {}
    for kind in (KeyKind.ECDSA, KeyKind.RSA):
        certificate, key = authority.gateway(kind=kind).write(folder, kind.value)
        devices[kind.value] = authority.device(NAMES[kind.value], kind)
        connections += table(
            f"connections.{kind.value}",
            certificate=str(certificate),
            private_key=str(key),
            ca_certificates=[str(ca)],
            remote_id=NAMES[kind.value],
            pool="road",
            local_subnets=["10.1.0.0/24"],
            **proposals,
        )
    with gateway_alone(connections) as bed:
        device = Libreswan(bed.lab, "device")
        try:
            device.start()
            device.load("", authorities=[authority.root], credentials=devices)
            yield Site(bed, device)
        finally:
            print(f"--- pluto\n{device.log()[-6000:]}")
            device.stop()


@pytest.fixture
def site(shared: Site) -> Iterator[Site]:
    yield shared
    for name in NAMES:
        shared.device.forget(name)
    wait_until(lambda: not shared.bed.ike_sas(), 20, "no IKE SA at the gateway")
    wait_until(lambda: not shared.bed.states(), 10, "no SA in the gateway's kernel")


@pytest.mark.parametrize("name", ["psk", "cbc", "udp", "ecdsa", "rsa"])
def test_it_connects(site: Site, name: str) -> None:
    site.open(name)
    assert site.bed.ping()
    (ike,), (child,) = site.bed.ike_sas(), site.bed.child_sas()
    assert ike["remote_id"] == NAMES[name]
    assert child["packets_in"] >= 2
    assert (child["encapsulation"] == "esp-in-udp") == (name == "udp")


def test_it_rekeys_the_child_sa(site: Site) -> None:
    site.open("psk")
    (before,) = site.bed.child_sas()
    site.device.rekey("psk")
    wait_until(
        lambda: [one["spi_in"] for one in site.bed.child_sas()] not in ([before["spi_in"]], []),
        20,
        "another child SA",
    )
    assert site.bed.ping()


def test_it_rekeys_the_ike_sa(site: Site) -> None:
    site.open("psk")
    (before,) = site.bed.ike_sas()
    site.device.rekey("psk", ike=True)

    def another() -> bool:
        names = [one["id"] for one in site.bed.ike_sas()]
        return len(names) == 1 and names != [before["id"]]

    wait_until(another, 20, "one IKE SA, another one")
    assert site.bed.ping()
    site.device.rekey("psk")  # under the new keys
    assert site.bed.ping()


def test_we_close_it(site: Site) -> None:
    site.open("psk")
    (ike,) = site.bed.ike_sas()
    site.bed.gateway.call("close-ike-sa", id=ike["id"])
    wait_until(lambda: "ESTABLISHED_CHILD_SA" not in site.device.status(), 10, "it learns of it")


def test_an_identity_that_nobody_accepts(site: Site) -> None:
    with pytest.raises(LabError, match="AUTHENTICATION_FAILED"):
        site.open("stranger")
    wait_until(lambda: site.bed.gateway.events("handshake_failed"), 10, "the gateway's line")
    line = site.bed.gateway.events("handshake_failed")[0]
    assert "stranger@example.net" in line["text"]


def test_tshark_finds_nothing_wrong(site: Site) -> None:
    assert not site.bed.gateway.events("internal_error")
    assert site.bed.findings() == []
