"""Where a NAR server is, and how to speak to it."""

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.domain.nar import SOCKS_PORT
from gateway.nar_host.failure import NarHostError

TLS_PORT: Final = 1081
"""Where a server is looked for with TLS, unless another port is named."""
_ALLOWED: Final = "give HOST or HOST:PORT, for example nar.example:1080"


@dataclass(frozen=True, slots=True)
class ServerName:
    """A NAR server as the user named it."""

    host: str
    port: int = SOCKS_PORT
    tls: bool = False
    ca: Path | None = None
    """Whom to trust instead of the system's authorities."""

    @classmethod
    def parse(cls, text: str, *, tls: bool = False, ca: Path | None = None) -> "ServerName":
        """Of ``HOST`` or ``HOST:PORT``. Raises ValueError, saying what is allowed."""
        host, colon, port = text.rpartition(":")
        if not colon:
            host, port = text, str(TLS_PORT if tls else SOCKS_PORT)
        if not host or ":" in host or not host.isprintable() or any(map(str.isspace, host)):
            raise ValueError(f"server {text!r}: {_ALLOWED} (NAR is IPv4 only)")
        if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
            raise ValueError(f"server {text!r}: the port is 1 to 65535; {_ALLOWED}")
        return cls(host, int(port), tls, ca)

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    def tls_context(self) -> ssl.SSLContext | None:
        """None without TLS. Certificate and name are always verified.

        Raises:
            NarHostError: the file of authorities cannot be used.
        """
        if not self.tls:
            return None
        try:
            context = ssl.create_default_context(cafile=None if self.ca is None else str(self.ca))
        except (OSError, ssl.SSLError) as error:
            why = getattr(error, "strerror", None) or error
            raise NarHostError(f"{self.ca}: no certificates of authorities: {why}") from error
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return context
