"""TLS for control connections, without I/O: half-close, bounds and little memory per connection."""

import contextlib
import ssl
from typing import Final

from gateway.appliance.nar.plan import NarTls

READ_OCTETS: Final = 16_384
"""The plaintext of one record."""
CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Of TLS 1.2; those of 1.3 are all fine."""


def server_context(tls: NarTls) -> ssl.SSLContext:
    """What our side of TLS is made of. Raises OSError (ssl.SSLError is one) for bad files."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_NO_TICKET
    # Control connections last: tickets would only cost memory.
    context.num_tickets = 0
    # With an empty password an encrypted key is an error, and not a question on the terminal.
    context.load_cert_chain(tls.certificate, tls.private_key, password="")
    return context


class TlsStream:
    """One connection's TLS: ciphertext in and out, plaintext in and out."""

    __slots__ = ("_incoming", "_object", "_outgoing", "established")

    def __init__(self, context: ssl.SSLContext) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self.established = False

    def receive(self, data: bytes) -> tuple[bytes, bool]:
        """Plaintext of what came, and whether the peer said that this was all.

        What :meth:`take` returns has to be sent afterwards, also when this raises ssl.SSLError.
        """
        self._incoming.write(data)
        found: list[bytes] = []
        try:
            if not self.established:
                self._object.do_handshake()
                self.established = True
            while octets := self._object.read(READ_OCTETS):
                found.append(octets)
        except ssl.SSLWantReadError:
            return b"".join(found), False
        except ssl.SSLZeroReturnError:
            pass
        return b"".join(found), True

    def send(self, data: bytes) -> bytes:
        """Ciphertext of it. Raises ssl.SSLError when the peer broke the connection."""
        self._object.write(data)
        return self.take()

    def finish(self) -> bytes:
        """Say that this was all; nothing may be sent after it."""
        with contextlib.suppress(ssl.SSLError):  # the peer has not said it yet
            self._object.unwrap()
        return self.take()

    def take(self) -> bytes:
        """Ciphertext that waits to be sent."""
        return self._outgoing.read()
