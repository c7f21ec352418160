"""Conversations recorded with other implementations, which must come out the same again."""

from gateway.domain.user_auth import LocalUser
from gateway.eap.method import EapMethod
from gateway.eap.mschapv2_crypto import nt_password_hash
from gateway.eap.peer import EapPeer, Login
from gateway.eap.server import EapServer, Offer, Outcome


def counting(size: int) -> bytes:
    """The randomness that our side had when these were recorded."""
    return bytes(range(size))


FREERADIUS_MSCHAPV2 = (
    "0100000501",
    "0101002a1a01010025104bb82d30d8e3dbc5b16a12ca383232ba667265657261646975732d332e322e31",
    (
        "010200331a0301002e533d45433637363839313941303338453831374639363833324538303735414539383731"
        "313042304641"
    ),
    "03020004",
)
"""FreeRADIUS 3.2.1 as the server of our client."""
FREERADIUS_KEYS = "8cc32740c7f24fa103f2c0a2993926a2" + "0ff4264d9b60a2b80790c9e3d37dad18"
"""The MS-MPPE-Recv-Key and MS-MPPE-Send-Key of its Access-Accept."""

FREERADIUS_GTC = (
    "0100000501",
    "0101002a1a010100251025821dfb989c97a44d8776a8229ce36e667265657261646975732d332e322e31",
    "0102000f0650617373776f72643a20",
    "03020004",
)
"""The same server offers EAP-MSCHAPv2 first and takes our Nak."""

WPA_SUPPLICANT_MSCHAPV2 = (
    ("027a000a01616c696365", "017b00211a017b001c10000102030405060708090a0b0c0d0e0f67617465776179"),
    (
        (
            "027b00401a027b003b31cba80acdea10ab9a48a26328a30c4120000000000000000006522a59c62fa14151bb34"
            "8196d5f62baa1f38af1fa1d84700616c696365"
        ),
        (
            "017c00381a037b0033533d37443642304137393533453330423446463931313530453739463044303946314135"
            "454132304638204d3d4f4b"
        ),
    ),
    ("027c00061a03", "037c0004"),
)
"""eapol_test of wpa_supplicant 2.10 as the client of our server: what it said, what we answered."""
WPA_SUPPLICANT_KEYS = "41ccba0bb0f44e4ded33327583269b7d" + "23afb34515a756b41e881ad08fd0e7dc"
"""It compared them with the keys it had made itself."""


def test_freeradius_convinces_our_client_of_mschapv2() -> None:
    device = EapPeer(Login("alice", (EapMethod.MSCHAPV2,), b"geheim"), counting)
    steps = [device.receive(bytes.fromhex(packet)) for packet in FREERADIUS_MSCHAPV2]
    assert [step.outcome for step in steps[:-1]] == [Outcome.CONTINUE] * 3
    assert steps[-1].outcome is Outcome.SUCCESS
    assert steps[-1].msk == bytes.fromhex(FREERADIUS_KEYS) + bytes(32)


def test_freeradius_changes_to_the_method_our_client_wants() -> None:
    device = EapPeer(Login("alice", (EapMethod.GTC,), b"geheim"), counting)
    steps = [device.receive(bytes.fromhex(packet)) for packet in FREERADIUS_GTC]
    assert steps[1].send == bytes.fromhex("020100060306")
    assert steps[2].send == bytes.fromhex("0202000b06") + b"geheim"
    assert steps[-1].outcome is Outcome.SUCCESS


def test_wpa_supplicant_logs_in_to_our_server() -> None:
    user = LocalUser("alice", (), nt_password_hash("geheim"))
    gate = EapServer(Offer((EapMethod.MSCHAPV2,), find_user={"alice": user}.get), counting)
    gate._identifier = 0x79
    gate.start()
    for said, answered in WPA_SUPPLICANT_MSCHAPV2:
        step = gate.receive(bytes.fromhex(said))
        assert step.send == bytes.fromhex(answered)
    assert step.outcome is Outcome.SUCCESS
    assert step.msk == bytes.fromhex(WPA_SUPPLICANT_KEYS) + bytes(32)


def test_wpa_supplicant_with_another_password_is_refused() -> None:
    user = LocalUser("alice", (), nt_password_hash("Geheim"))
    gate = EapServer(Offer((EapMethod.MSCHAPV2,), find_user={"alice": user}.get), counting)
    gate._identifier = 0x79
    gate.start()
    steps = [gate.receive(bytes.fromhex(said)) for said, _ in WPA_SUPPLICANT_MSCHAPV2]
    assert steps[-1].outcome is Outcome.FAILURE
    assert steps[-1].reason == "wrong password"
