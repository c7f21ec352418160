"""What an Access-Request says about a login."""

from ipaddress import IPv4Address

from gateway.domain.endpoint import Endpoint, IpAddress
from gateway.domain.user_auth import EapQuestion, PasswordQuestion, Question
from gateway.radius.attributes import NAS_PORT_TYPE_VIRTUAL, AttributeType, ServiceType
from gateway.radius.packet import (
    MAX_PASSWORD_OCTETS,
    MAX_VALUE_OCTETS,
    Attributes,
    access_request,
    hide_password,
)
from gateway.radius.settings import RadiusSettings

A = AttributeType


class QuestionRefusedError(ValueError):
    """RADIUS cannot carry this question; the text says why, without a secret."""


def number(value: int) -> bytes:
    """Four octets."""
    return value.to_bytes(4)


def nas(settings: RadiusSettings, local: IpAddress) -> Attributes:
    """Who we are: NAS-Identifier and our address (RFC 2865 section 4.1, RFC 3162 section 2.1)."""
    address = settings.nas_address or local
    kind = A.NAS_IP_ADDRESS if isinstance(address, IPv4Address) else A.NAS_IPV6_ADDRESS
    return (A.NAS_IDENTIFIER, settings.nas_identifier.encode()), (kind, address.packed)


def session(local: Endpoint, remote: Endpoint, session_id: str) -> Attributes:
    """Where the login comes from, in authentication and accounting alike."""
    return (
        (A.NAS_PORT_TYPE, number(NAS_PORT_TYPE_VIRTUAL)),
        (A.NAS_PORT_ID, text(session_id)),
        (A.ACCT_SESSION_ID, text(session_id)),
        (A.CALLED_STATION_ID, str(local.address).encode()),
        (A.CALLING_STATION_ID, str(remote.address).encode()),
    )


def text(value: str) -> bytes:
    """UTF-8, cut to what an attribute holds, never empty."""
    octets = value.encode("utf-8", "replace")
    if len(octets) > MAX_VALUE_OCTETS:
        octets = octets[:MAX_VALUE_OCTETS].decode("utf-8", "ignore").encode()
    return octets or b"-"


def check(question: Question) -> None:
    """Raise :class:`QuestionRefusedError` when no Access-Request can ask this."""
    try:
        user = question.user.encode()
    except UnicodeEncodeError:
        raise QuestionRefusedError("the user name is no Unicode text") from None
    if not 0 < len(user) <= MAX_VALUE_OCTETS:
        raise QuestionRefusedError(f"a user name of {len(user)} octets; 1 to 253 are allowed")
    if isinstance(question, PasswordQuestion):
        if len(question.password) > MAX_PASSWORD_OCTETS:
            raise QuestionRefusedError(f"RADIUS carries passwords of {MAX_PASSWORD_OCTETS} octets")
        if b"\0" in question.password:
            raise QuestionRefusedError("the password has a NUL, which RADIUS takes for its end")
    elif len(question.packet) < 4:
        raise QuestionRefusedError(f"an EAP packet of {len(question.packet)} octets")


def encode(
    settings: RadiusSettings,
    question: Question,
    *,
    state: bytes,
    identifier: int,
    authenticator: bytes,
    secret: bytes,
) -> bytes:
    """The Access-Request of a checked question; ``state`` is the server's own.

    Raises:
        QuestionRefusedError: it is longer than a packet of RADIUS.
    """
    asker = question.asker
    attributes: list[tuple[int, bytes]] = [(A.USER_NAME, question.user.encode())]
    if isinstance(question, PasswordQuestion):
        hidden = hide_password(question.password, authenticator, secret)
        attributes.append((A.USER_PASSWORD, hidden))
    attributes += nas(settings, asker.local.address)
    attributes += session(asker.local, asker.remote, asker.session_id)
    attributes.append((A.SERVICE_TYPE, number(ServiceType.FRAMED)))
    if isinstance(question, EapQuestion):
        attributes.append((A.FRAMED_MTU, number(settings.framed_mtu)))
        packet = question.packet
        for at in range(0, len(packet), MAX_VALUE_OCTETS):
            attributes.append((A.EAP_MESSAGE, packet[at : at + MAX_VALUE_OCTETS]))
        if state:
            attributes.append((A.STATE, state))
    try:
        return access_request(identifier, authenticator, tuple(attributes), secret)
    except ValueError as error:
        raise QuestionRefusedError(str(error)) from None
