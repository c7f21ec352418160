"""EAP-TLS: both TLS versions, fragments, and certificates that are refused."""

import gc
import subprocess
import sys
import weakref
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, x25519
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from eap_talk import Pki, Talk, authority, peer, peer_party, server, server_party, talk
from hypothesis import given
from hypothesis import strategies as st
from OpenSSL import SSL, crypto

from gateway.domain.wire import WireError
from gateway.eap.method import EapMethod
from gateway.eap.peer import EapPeer
from gateway.eap.server import Outcome
from gateway.eap.tls import TlsParty, TlsPeer
from gateway.eap.tls_fragments import FRAGMENT_OCTETS, MAX_TLS_OCTETS, Fragments
from gateway.eap.tls_session import new_context

OURS = (EapMethod.TLS,)
V1_2, V1_3 = SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION


def party(leaf: Pki, *more: x509.Certificate) -> TlsParty:
    return TlsParty([leaf.certificate, *more], leaf.key, [authority().certificate])


def limited(version: int, leaf: Pki) -> TlsParty:
    """A client that speaks no newer TLS version."""
    made = party(leaf)
    context = new_context(
        server=False,
        certificates=[leaf.certificate],
        private_key=leaf.key,
        anchors=[authority().certificate],
    )
    context.set_max_proto_version(version)
    made._contexts[False] = context
    return made


@cache
def party_of(version: int) -> TlsParty:
    return limited(version, authority().issue("alice"))


def login(device: TlsParty, gate: TlsParty | None = None, **offer: object) -> Talk:
    return talk(server(*OURS, tls=gate or server_party(), **offer), peer(*OURS, tls=device))


@pytest.mark.parametrize("version", [V1_2, V1_3])
def test_a_login_succeeds_with_the_same_key_on_both_sides(version: int) -> None:
    device = party_of(version)
    end = login(device)
    assert end.server.outcome is end.peer.outcome is Outcome.SUCCESS
    assert end.server.msk == end.peer.msk
    assert len(end.server.msk) == 64
    assert end.server.user == "alice"
    own = device._certificates[0].public_bytes(Encoding.DER)
    assert end.server.certificate == own
    gate = server_party()._certificates[0].public_bytes(Encoding.DER)
    assert end.peer.certificate == gate


@pytest.mark.parametrize("version", [V1_2, V1_3])
def test_the_msk_is_that_of_the_rfc(version: int) -> None:
    gate, device = server(*OURS), peer(*OURS, tls=party_of(version))
    end = talk(gate, device)
    tls = gate._method._session._connection  # type: ignore[union-attr]
    assert tls.get_protocol_version() == version
    if version == V1_2:
        assert end.server.msk == tls.export_keying_material(b"client EAP encryption", 64)
    else:
        label = b"EXPORTER_EAP_TLS_Key_Material"
        assert end.server.msk == tls.export_keying_material(label, 128, b"\x0d")[:64]


def test_tls_1_1_is_not_spoken() -> None:
    context = server_party().open(server=True)._connection.get_context()
    connection = SSL.Connection(context, None)
    connection.set_accept_state()
    # A ClientHello of TLS 1.1 with one suite.
    hello = (
        bytes.fromhex("1603010031 0100002d 0302")
        + bytes(32)
        + bytes.fromhex("00 0004 c00a c014 0100")
    )
    connection.bio_write(hello)
    with pytest.raises(SSL.Error):
        connection.do_handshake()


def test_openssl_is_loaded_only_for_eap_tls() -> None:
    code = (
        "import sys; import gateway.eap.server, gateway.eap.peer;sys.exit('OpenSSL' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_large_chains_go_in_fragments_both_ways() -> None:
    middle = authority().issue("middle", ca=True, padding=3000)
    device = party(middle.issue("alice", padding=5000), middle.certificate)
    gate = party(middle.issue("gateway", padding=5000), middle.certificate)
    end = login(device, gate)
    assert end.server.outcome is end.peer.outcome is Outcome.SUCCESS
    sizes = [len(packet) for packet in end.to_peer + end.to_server]
    assert max(sizes) <= FRAGMENT_OCTETS + 10
    assert sum(size > FRAGMENT_OCTETS for size in sizes) >= 14
    first = next(packet for packet in end.to_peer if len(packet) > FRAGMENT_OCTETS)
    assert first[5] == 0xC0  # L and M
    assert int.from_bytes(first[6:10]) > 8000


STRANGER = "stranger"
SERVER_AUTH = ExtendedKeyUsageOID.SERVER_AUTH


@pytest.mark.parametrize(
    ("device", "reason"),
    [
        (lambda: authority(STRANGER).issue("alice"), "issuer is not trusted"),
        (lambda: authority().issue("alice", days=(-9, -1)), "has expired"),
        (lambda: authority().issue("alice", days=(1, 9)), "not valid yet"),
        (lambda: authority(STRANGER), "self-signed"),
        (lambda: authority().issue("no-ca").issue("alice"), "issuer is not trusted"),
        (lambda: authority().issue("alice", usage=SERVER_AUTH), "extended key usage"),
    ],
)
@pytest.mark.parametrize("version", [V1_2, V1_3])
def test_bad_client_certificates_are_refused(
    device: Callable[[], Pki], reason: str, version: int
) -> None:
    end = login(limited(version, device()))
    assert end.server.outcome is end.peer.outcome is Outcome.FAILURE
    assert reason in end.server.reason
    assert "alice" in end.server.reason or STRANGER in end.server.reason
    assert end.server.remedy
    assert end.server.msk == end.peer.msk == b""
    assert "alert" in end.peer.reason  # the device learns that it was its certificate


@pytest.mark.parametrize("version", [V1_2, V1_3])
def test_a_certificate_is_demanded(version: int) -> None:
    bare = SSL.Context(SSL.TLS_CLIENT_METHOD)
    bare.set_max_proto_version(version)
    store = bare.get_cert_store()
    assert store is not None
    store.add_cert(crypto.X509.from_cryptography(authority().certificate))
    mine = party(authority().issue("alice"))
    mine._contexts[False] = bare
    end = login(mine)
    assert end.server.outcome is Outcome.FAILURE
    assert "peer did not return a certificate" in end.server.reason


@pytest.mark.parametrize("version", [V1_2, V1_3])
def test_the_client_refuses_a_server_of_another_authority(version: int) -> None:
    gate = party(authority(STRANGER).issue("gateway"))
    end = talk(server(*OURS, tls=gate), peer(*OURS, tls=party_of(version)))
    assert end.server.outcome is end.peer.outcome is Outcome.FAILURE
    assert "issuer is not trusted" in end.peer.reason
    assert "unknown ca" in end.server.reason
    assert end.peer.msk == b""


def test_a_leaf_certificate_can_be_trusted_as_such() -> None:
    leaf = authority(STRANGER).issue("alice")
    gate = TlsParty(server_party()._certificates, server_party()._private_key, [leaf.certificate])
    assert login(party(leaf), gate).server.outcome is Outcome.SUCCESS
    other = authority(STRANGER).issue("mallory")
    assert login(party(other), gate).server.outcome is Outcome.FAILURE


def test_the_given_clock_decides_about_validity() -> None:
    def gate(days: int) -> TlsParty:
        common = server_party()
        later = datetime.now(UTC) + timedelta(days=days)
        return TlsParty(common._certificates, common._private_key, common.anchors, lambda: later)

    assert login(peer_party(), gate(0)).server.outcome is Outcome.SUCCESS
    end = login(peer_party(), gate(90))
    assert end.server.outcome is Outcome.FAILURE
    assert "has expired" in end.server.reason


def test_the_caller_may_refuse_a_verified_certificate() -> None:
    seen: list[tuple[tuple[bytes, ...], str]] = []

    def check(chain: tuple[bytes, ...], user: str) -> str | None:
        seen.append((chain, user))
        return "the certificate is not alice's"

    end = login(peer_party(), check_certificate=check)
    assert end.server.outcome is end.peer.outcome is Outcome.FAILURE
    assert end.server.reason == "the certificate is not alice's"
    chain, user = seen[0]
    own = peer_party()._certificates[0].public_bytes(Encoding.DER)
    assert chain == (own, authority().certificate.public_bytes(Encoding.DER))
    assert user == "alice"


def test_the_client_may_refuse_the_servers_name() -> None:
    device = peer(*OURS, check_certificate=lambda chain, user: "not the gateway's name")
    end = talk(server(*OURS), device)
    assert end.peer.outcome is Outcome.FAILURE
    assert end.peer.reason == "not the gateway's name"
    assert end.server.outcome is not Outcome.SUCCESS


def test_a_failed_handshake_frees_its_memory_at_once() -> None:
    gate = server(*OURS)
    end = talk(gate, peer(*OURS, tls=party(authority(STRANGER).issue("alice"))))
    assert end.server.outcome is Outcome.FAILURE
    session = weakref.ref(gate._method._session._connection)  # type: ignore[union-attr]
    gc.disable()
    try:
        del gate
        assert session() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("version", [V1_2, V1_3])
def test_a_session_cannot_be_resumed(version: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A resumed session would skip the certificate, and the check of it."""
    first = peer(*OURS, tls=party_of(version))
    assert talk(server(*OURS), first).server.outcome is Outcome.SUCCESS
    old = first._method._session._connection.get_session()  # type: ignore[union-attr]
    assert old is not None

    def resuming(device: EapPeer, method: EapMethod) -> TlsPeer:
        made = TlsPeer(party_of(version), None)
        made._session._connection.set_session(old)
        return made

    monkeypatch.setattr(EapPeer, "_new", resuming)
    gate = server(*OURS, check_certificate=lambda chain, user: "asked again")
    assert talk(gate, peer(*OURS)).server.reason == "asked again"


def test_certificates_that_openssl_does_not_take_are_told_in_words() -> None:
    leaf = authority().issue("gateway")
    other = ec.generate_private_key(ec.SECP256R1())
    for key in (other, x25519.X25519PrivateKey.generate()):
        gate = TlsParty([leaf.certificate], key, [authority().certificate])
        with pytest.raises(ValueError, match="cannot be used"):
            server(*OURS, tls=gate)
        with pytest.raises(ValueError, match="cannot be used"):
            peer(*OURS, tls=gate)
    with pytest.raises(ValueError, match="at least one"):
        TlsParty([leaf.certificate], leaf.key, [])


# Fragments


@given(st.binary(max_size=5000))
def test_fragments_come_together_again(data: bytes) -> None:
    out, into = Fragments(), Fragments()
    piece = out.send(data)
    got = into.receive(piece)
    while got is None:
        piece = out.next()
        got = into.receive(piece)
    assert got == data
    assert not out.sending


@pytest.mark.parametrize(
    ("pieces", "complaint"),
    [
        (["40aa"], "without the length"),
        (["c000100001aa"], "announced"),  # 1 MB
        (["c0ffffffffaa"], "announced"),
        (["80000000"], "needed"),
        (["c000000010"], "empty"),
        (["c000000010aa", "40"], "empty"),
        (["c000000002aa", "00bbcc"], "more"),
        (["8000000001aabb"], "more"),
        (["8000000003aabb"], "announced"),
        (["c000000010aa", "c000000011aa"], "changes"),
        (["20"], "start"),
        ([""], "needed"),
    ],
)
def test_h31_fragments_with_lengths_that_lie(pieces: list[str], complaint: str) -> None:
    into = Fragments()
    *good, bad = [bytes.fromhex(piece) for piece in pieces]
    for piece in good:
        assert into.receive(piece) is None
    with pytest.raises(WireError, match=complaint):
        into.receive(bad)


def test_h31_a_length_repeated_in_every_fragment_is_taken() -> None:
    into = Fragments()
    assert into.receive(bytes.fromhex("c000000003aa")) is None
    assert into.receive(bytes.fromhex("c000000003bb")) is None
    assert into.receive(bytes.fromhex("8000000003cc")) == b"\xaa\xbb\xcc"


def test_h31_too_much_data_is_neither_taken_nor_sent() -> None:
    with pytest.raises(WireError, match="more"):
        Fragments().receive(b"\0" + bytes(MAX_TLS_OCTETS + 1))
    with pytest.raises(ValueError, match="one turn"):
        Fragments().send(bytes(MAX_TLS_OCTETS + 1))
