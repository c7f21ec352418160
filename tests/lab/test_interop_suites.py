"""Suites of the IKE SA and the child SA, with strongSwan as the device."""

import re
from collections.abc import Iterator

import pytest
from interop_bed import Bed, device_file, interop, psk_connection

pytestmark = pytest.mark.kernel

CELLS = {
    "gcm256-x25519": ("aes256gcm16-prfsha256-x25519", "aes256gcm16"),
    "gcm128-ecp256-esn": ("aes128gcm16-prfsha256-ecp256", "aes128gcm16-esn"),
    "chacha-ecp384": ("chacha20poly1305-prfsha384-ecp384", "chacha20poly1305"),
    "cbc256-ecp521-esn": ("aes256-sha512-ecp521", "aes256-sha256-esn"),
    "cbc256-sha256-modp2048": ("aes256-sha256-modp2048", "aes256-sha256"),
    "cbc128-sha512-modp3072": ("aes128-sha512-modp3072", "aes128-sha512"),
    "cbc128-sha384-modp4096": ("aes128-sha384-modp4096", "aes128-sha384"),
    "gcm256-prf512-chacha-esn": ("aes256gcm16-prfsha512-x25519", "chacha20poly1305-esn"),
}
"""Proposal of the IKE SA, proposal of the child SA."""


@pytest.fixture(scope="module")
def shared() -> Iterator[Bed]:
    allowed = psk_connection(
        ike_proposals=[ike for ike, _ in CELLS.values()],
        esp_proposals=[esp for _, esp in CELLS.values()] + ["aes256gcm16-x25519"],
    )
    with interop(allowed) as bed:
        yield bed


@pytest.fixture
def bed(shared: Bed) -> Iterator[Bed]:
    yield shared
    shared.disconnect()


@pytest.mark.parametrize(
    "cell",
    [
        pytest.param(
            cell,
            marks=[pytest.mark.kernel_peer("strongSwan has ESN by the kernel only")]
            * cell.endswith("-esn"),
        )
        for cell in CELLS
    ],
)
def test_suite(bed: Bed, cell: str) -> None:
    ike, esp = CELLS[cell]
    seen = bed.connect(configuration=device_file(ike=ike, esp=esp))
    assert bed.ping()
    (ours,), (child,) = bed.ike_sas(), bed.child_sas()
    assert ours["id"] == f"{seen.initiator_spi}_{seen.responder_spi}"
    assert child["packets_in"] >= 2
    assert child["packets_out"] >= 2
    group = {"x25519": "CURVE_25519"}.get(ike.split("-")[-1], ike.split("-")[-1].upper())
    group = group.replace("ECP", "ECP_").replace("MODP", "MODP_")
    assert seen.proposal.endswith(group)
    flags = re.findall(r"\bflag .*\besn\b", bed.states())
    assert len(flags) == 2 * esp.endswith("esn")


def test_first_group_is_not_ours_and_the_device_tries_again(bed: Bed) -> None:
    """INVALID_KE_PAYLOAD: the device guesses modp1536, we name the one that both have."""
    offer = "aes256gcm16-prfsha256-modp1536-x25519"
    seen = bed.connect(configuration=device_file(ike=offer))
    assert "CURVE_25519" in seen.proposal
    assert "INVAL_KE" in bed.device.log()
    assert bed.ping()


def test_child_rekey_with_a_key_exchange_whose_group_was_guessed_wrong(bed: Bed) -> None:
    """A CREATE_CHILD_SA with PFS: the device guesses ecp384, we have x25519 for it."""
    device = device_file(esp="aes256gcm16-ecp384-x25519")
    before = bed.connect(configuration=device)
    spi = before.children[0].spi_in
    bed.device.rekey(child="net")
    bed.device.wait_for("CHILD_SA closed")
    (after,) = bed.device.established()
    installed = [child for child in after.children if child.state == "INSTALLED"]
    assert spi not in [child.spi_in for child in installed]
    assert installed[-1].name == "net"
    assert bed.ping()


def test_tshark_finds_nothing_wrong(bed: Bed) -> None:
    assert bed.findings() == []
