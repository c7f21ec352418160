"""Who a peer is, without the words of any one program."""

import enum
import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from cryptography import x509

from gateway.provisioning.problem import ProvisioningRefusedError

_PLAIN = re.compile(r"[A-Za-z0-9@._+-]+")
_ADDRESS_OCTETS = {4: IPv4Address, 16: IPv6Address}
_DNS_LABELS = re.compile(r"[A-Za-z0-9_*-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?")


class Kind(enum.Enum):
    """Kinds of IKE identities (RFC 7296 section 3.5); the value is strongSwan's prefix."""

    FQDN = "fqdn"
    EMAIL = "email"
    ADDRESS = "ipv4"
    SUBJECT = "asn1dn"
    KEY_ID = "keyid"


@dataclass(frozen=True, slots=True)
class PeerName:
    """An IKE identity."""

    kind: Kind
    octets: bytes
    """As IKE carries them."""
    attributes: tuple[tuple[str, str], ...] = ()
    """Of a subject: dotted object identifiers and values, in the order of the encoding."""
    text: str = ""
    """As the configuration writes it; for a subject ``O=Example, CN=alice``."""

    @property
    def plain(self) -> str:
        """The text that people know it by: a host name, an address, a subject."""
        if self.kind is Kind.ADDRESS:
            return str(_ADDRESS_OCTETS[len(self.octets)](self.octets))
        if self.kind is Kind.SUBJECT:
            return self.text
        return self.octets.decode("utf-8", "replace")

    @property
    def swan(self) -> str:
        """For strongSwan in every one of its shapes; hexadecimal where letters might be misread."""
        if self.kind is Kind.ADDRESS:
            return self.plain
        text = self.octets.decode("utf-8", "replace")
        if self.kind is Kind.FQDN and _PLAIN.fullmatch(text) and _reads_as_host(text):
            return text
        if self.kind is Kind.EMAIL and _PLAIN.fullmatch(text) and text[0] not in "@%":
            return text
        return f"{self.kind.value}:#{self.octets.hex()}"

    def in_certificate(self) -> x509.GeneralName | None:
        """As a subject alternative name; None for a subject, which stands elsewhere.

        Raises :class:`ProvisioningRefusedError` for what no certificate can say.
        """
        try:
            match self.kind:
                case Kind.FQDN:
                    return x509.DNSName(self._ascii(_DNS_LABELS))
                case Kind.EMAIL:
                    return x509.RFC822Name(self._ascii(re.compile(r"[!-~]+@[!-~]+")))
                case Kind.ADDRESS:
                    return x509.IPAddress(ip_address(self.octets))
                case Kind.SUBJECT:
                    return None
        except ValueError:
            why = (
                f'"{one_line(self.plain)}" cannot be in a certificate: use a host name or user@host'
                " of ASCII letters"
            )
            raise ProvisioningRefusedError("identity", why) from None
        why = "keyid: is for shared keys; no certificate can name it: use a host name or user@host"
        raise ProvisioningRefusedError("identity", why)

    def _ascii(self, allowed: re.Pattern[str]) -> str:
        text = self.octets.decode("ascii")
        if not allowed.fullmatch(text):
            raise ValueError(text)
        return text


def _reads_as_host(text: str) -> bool:
    """Whether strongSwan takes a bare text for a host name."""
    return "@" not in text and not re.fullmatch(r"[0-9.]+", text) and text[0] not in "%+"


def one_line(text: str, limit: int = 200) -> str:
    """A text from elsewhere on one line, without anything but printable characters."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)[:limit]
