"""Names, secrets, certificates and suites that both sides of every cell share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from ipaddress import IPv4Address

from gateway.lab import plan
from gateway.lab.matrix.cells import Auth, Configuration, Exchange, Fault, Role, Row
from gateway.lab.pki import Authority, Issued, KeyKind

RESPONDER = plan.GATEWAY_OUTSIDE
RESPONDER_ID = "gateway.example.com"
INITIATOR_ID = "device@example.com"
RADIUS_ID = "radius.example.com"
INTRANET = "10.1.0.0/24"
SITE = IPv4Address("10.77.0.1")
"""The initiator's own network, where it gets no inner address."""
POOL = "10.9.0.0/24"

SECRET = "one long shared secret of the matrix"
USER = "erika"
PASSWORD = "correct-horse"
PASSWORD_CRYPT = (
    "$6$matrix$OO/xR7o1Ce888p8W7vpRHRKqoBTK.tjBfZtcfqwf43FthGU/"
    "NpUYxqcoV8/Eb7327MKgNQaoI6BNwO6oweMNE1"
)
"""PASSWORD as crypt(3) keeps it."""
PPK_ID = "ppk-of-the-lab"
PPK = bytes(range(0x40, 0x60))
RADIUS_SECRET = "shared with the radius server"
INNER = "10.9.0.0/16"
"""Where all inner addresses are."""
FRAMED = IPv4Address("10.9.1.77")
"""The inner address that the RADIUS server gives its users, outside the pool."""
MANY_NAMES = [f"name{number:03}.of.a.very.large.certificate.example.com" for number in range(50)]


@dataclass(frozen=True, slots=True)
class Suite:
    """The suites of a row, in strongSwan's words, which are ours too."""

    ike: str
    esp: str


def suite(row: Row) -> Suite:
    """What the row negotiates."""
    if row.version == 1:
        group = "ecp256" if row.auth is Auth.ECDSA else "modp2048"
        return Suite(f"aes256-sha256-{group}", "aes256-sha256" + (f"-{group}" if row.pfs else ""))
    return Suite(
        "aes256gcm16-prfsha256-x25519" + ("-ke1_mlkem768" if row.additional_exchange else ""),
        "aes256gcm16" + ("-x25519" if row.pfs else ""),
    )


def user_name(row: Row) -> str:
    """Who logs in: by EAP-TLS the certificate's own name."""
    return INITIATOR_ID if row.auth is Auth.EAP_TLS else USER


def password(row: Row) -> str:
    """What the initiator believes the password to be."""
    return PASSWORD + ("!" if row.fault is Fault.PASSWORD else "")


def secret(row: Row) -> str:
    """What the initiator believes the pre-shared key to be."""
    return SECRET + ("!" if row.fault is Fault.SECRET else "")


def asks_for_address(row: Row) -> bool:
    """Whether the initiator gets an inner address."""
    return row.configuration is not Configuration.SUBNETS


def responder_expects_user(row: Row) -> bool:
    """Whether the responder lets nobody in without a user's login."""
    return row.auth.user or row.fault is Fault.NO_USER


def has_ppk(row: Row, role: Role) -> bool:
    """Whether a side has the post-quantum key, and insists on it."""
    return row.ppk or (row.fault is Fault.PPK and role is Role.RESPONDER)


def responder_exchange(row: Row) -> Exchange:
    """The exchange that the responder is configured for."""
    return Exchange.MAIN if row.fault is Fault.EXCHANGE else row.exchange


class Certificates:
    """Every certificate of the matrix, made when it is asked for first."""

    @cached_property
    def authority(self) -> Authority:
        """The CA that everybody trusts."""
        return Authority("Matrix CA")

    @cached_property
    def stranger_authority(self) -> Authority:
        """A CA that nobody trusts."""
        return Authority("Matrix CA")

    @cached_property
    def gateway_rsa(self) -> Issued:
        """The responder's."""
        return self._of_gateway("RSA", KeyKind.RSA)

    @cached_property
    def gateway_ecdsa(self) -> Issued:
        """The responder's."""
        return self._of_gateway("ECDSA", KeyKind.ECDSA)

    @cached_property
    def gateway_large(self) -> Issued:
        """The responder's, several packets long."""
        return self._of_gateway("large", KeyKind.RSA, MANY_NAMES)

    @cached_property
    def device_rsa(self) -> Issued:
        """The initiator's."""
        return self._of_device("RSA", KeyKind.RSA)

    @cached_property
    def device_ecdsa(self) -> Issued:
        """The initiator's."""
        return self._of_device("ECDSA", KeyKind.ECDSA)

    @cached_property
    def device_large(self) -> Issued:
        """The initiator's, several packets long."""
        return self._of_device("large", KeyKind.RSA, MANY_NAMES)

    @cached_property
    def device_stranger(self) -> Issued:
        """The initiator's, from the other CA."""
        return self.stranger_authority.issue("stranger", kind=KeyKind.RSA, emails=[INITIATOR_ID])

    @cached_property
    def radius(self) -> Issued:
        """The RADIUS server's, for EAP-TLS."""
        return self.authority.gateway(RADIUS_ID, KeyKind.RSA)

    # NSS, libreswan's database, knows certificates of one subject by one name: each has its own.

    def _of_gateway(self, name: str, kind: KeyKind, more: Sequence[str] = ()) -> Issued:
        return self.authority.issue(f"gateway {name}", kind=kind, dns=[RESPONDER_ID, *more])

    def _of_device(self, name: str, kind: KeyKind, more: Sequence[str] = ()) -> Issued:
        return self.authority.issue(f"device {name}", kind=kind, emails=[INITIATOR_ID], dns=more)

    def of(self, row: Row, role: Role) -> Issued | None:
        """What a side shows, None when nothing."""
        return self.of_initiator(row) if role is Role.INITIATOR else self.of_responder(row)

    def of_responder(self, row: Row) -> Issued | None:
        """What the responder shows in IKE, None for a pre-shared key."""
        if row.auth in {Auth.PSK, Auth.XAUTH_PSK} and row.fault is not Fault.NO_USER:
            return None
        if row.version == 1 and row.fault is Fault.NO_USER:
            return None
        if row.large:
            return self.gateway_large
        return self.gateway_ecdsa if row.auth is Auth.ECDSA else self.gateway_rsa

    def of_initiator(self, row: Row) -> Issued | None:
        """What the initiator (or its user, for EAP-TLS) shows; None when nothing."""
        if row.auth not in {Auth.RSA, Auth.ECDSA, Auth.XAUTH_RSA, Auth.EAP_TLS}:
            return None
        if row.fault is Fault.STRANGER:
            return self.device_stranger
        if row.large:
            return self.device_large
        return self.device_ecdsa if row.auth is Auth.ECDSA else self.device_rsa
