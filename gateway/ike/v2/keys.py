"""The keys of an IKE SA (RFC 7296 section 2.14), put where messages are sealed and opened."""

from gateway.ike.crypto import keymat
from gateway.ike.crypto.proposals import IkeSuite
from gateway.ike.v2.sa import Evidence, IkeSa


def install(  # noqa: PLR0917 - one fact each
    sa: IkeSa,
    suite: IkeSuite,
    shared: bytes,
    old_sk_d: bytes,
    old_suite: IkeSuite | None,
    additional: bytes = b"",
) -> None:
    """Derive the SA's keys and make its ciphers; drops nothing."""
    handshake = sa.handshake
    if handshake is None:
        return
    keys = keymat.derive_ike_keys(
        suite,
        handshake.nonce_i,
        handshake.nonce_r,
        shared,
        sa.initiator_spi,
        sa.responder_spi,
        old_sk_d or None,
        old_suite.prf if old_suite is not None else None,
        additional,
    )
    handshake.keys = keys
    sa.suite = suite
    sa.sk_d = keys.sk_d
    of_initiator, of_responder = keymat.sk_ciphers(suite, keys)
    if sa.initiator:
        sa.cipher_out, sa.cipher_in = of_initiator, of_responder
    else:
        sa.cipher_out, sa.cipher_in = of_responder, of_initiator
    sa.evidence |= Evidence.KEYS
