"""What a proven answer of a server means for the login."""

from ipaddress import IPv4Address, IPv6Address

from gateway.domain.endpoint import IpAddress
from gateway.domain.user_auth import Accepted, Answer, Challenged, EapQuestion, Question, Rejected
from gateway.domain.wire import WireError
from gateway.radius import mppe
from gateway.radius.attributes import AttributeType, Code, ServiceType
from gateway.radius.packet import Packet
from gateway.radius.settings import RadiusSettings

A = AttributeType

MAX_GROUPS = 64
MAX_CLASSES = 16
MIN_INTERIM_S = 60.0
"""RFC 2869 section 5.16 allows no less."""
_NO_ADDRESS = frozenset({IPv4Address("255.255.255.255"), IPv4Address("255.255.255.254")})
"""The user, or the NAS, shall choose (RFC 2865 section 5.8)."""
_EAP_REQUEST, _EAP_SUCCESS, _EAP_FAILURE = 1, 3, 4


def read(
    settings: RadiusSettings, question: Question, packet: Packet, proof: bytes, secret: bytes
) -> Answer:
    """The answer to an engine. Whatever is wrong with it lets nobody in.

    ``proof`` is the Request Authenticator of our request, which the keys are hidden with.
    """
    try:
        if packet.code == Code.ACCESS_ACCEPT:
            return _accept(settings, question, packet, proof, secret)
        if packet.code == Code.ACCESS_CHALLENGE:
            return _challenge(question, packet)
        return _reject(question, packet)
    except WireError as error:
        return Rejected(f"the RADIUS server's answer is unusable: {error}")


def _accept(
    settings: RadiusSettings, question: Question, packet: Packet, proof: bytes, secret: bytes
) -> Answer:
    service = packet.number(A.SERVICE_TYPE)
    if service is not None and service not in list(ServiceType):
        return Rejected(
            f"the RADIUS server gives the user Service-Type {service}, which is no tunnel; let it"
            " send Framed-User or none"
        )
    eap = _eap(packet)
    if isinstance(question, EapQuestion):
        if not eap or eap[0] != _EAP_SUCCESS:
            return Rejected("the RADIUS server accepts the user without EAP-Success")
    elif eap:
        return Rejected("the RADIUS server answers a password with EAP")
    first, second = _inner_address(packet), _inner_address6(packet)
    return Accepted(
        user=_user(packet) or question.user,
        groups=_groups(settings, packet),
        eap=eap,
        msk=mppe.msk(packet, proof, secret),
        inner_address=first or second,
        inner_address6=second if first is not None else None,
        radius_class=tuple(value for value in packet.all(A.CLASS) if value)[:MAX_CLASSES],
        session_timeout_s=packet.number(A.SESSION_TIMEOUT) or None,
        interim_interval_s=_interim(packet),
    )


def _challenge(question: Question, packet: Packet) -> Answer:
    if not isinstance(question, EapQuestion):
        said = _message(packet)
        return Rejected(
            "the RADIUS server asks for more than the password, which this login cannot"
            " give; use an EAP method for it" + said
        )
    eap = _eap(packet)
    if not eap or eap[0] != _EAP_REQUEST:
        return Rejected("the RADIUS server goes on without an EAP request")
    return Challenged(eap, packet.only(A.STATE) or b"")


def _reject(question: Question, packet: Packet) -> Answer:
    eap = _eap(packet) if isinstance(question, EapQuestion) else b""
    if eap and eap[0] != _EAP_FAILURE:
        eap = b""
    return Rejected("the RADIUS server rejects the user" + _message(packet), eap)


def _eap(packet: Packet) -> bytes:
    """The EAP packet, put together (RFC 3579 section 3.1), of the length that it says."""
    eap = b"".join(packet.all(A.EAP_MESSAGE))
    if eap and (len(eap) < 4 or int.from_bytes(eap[2:4]) != len(eap)):
        raise WireError("an EAP packet of another length than it says")
    return eap


def _message(packet: Packet) -> str:
    said = b" ".join(packet.all(A.REPLY_MESSAGE))[:200].decode("utf-8", "replace")
    said = "".join(c if c.isprintable() else "?" for c in said)
    return f': "{said}"' if said else ""


def _user(packet: Packet) -> str:
    """The name that accounting shall use (RFC 2865 section 5.1)."""
    return _text(packet.only(A.USER_NAME) or b"")


def _groups(settings: RadiusSettings, packet: Packet) -> tuple[str, ...]:
    kinds = [attribute.type for attribute in settings.groups_from]
    found = [_text(value) for kind in kinds for value in packet.all(kind)]
    return tuple(dict.fromkeys(filter(None, found)))[:MAX_GROUPS]


def _text(value: bytes) -> str:
    """A text, or nothing when it is none: Class may be anything."""
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return ""
    return text if text.isprintable() else ""


def _inner_address(packet: Packet) -> IpAddress | None:
    value = packet.only(A.FRAMED_IP_ADDRESS)
    if value is not None:
        if len(value) != 4:
            raise WireError(f"a Framed-IP-Address of {len(value)} octets")
        address = IPv4Address(value)
        if address not in _NO_ADDRESS:
            return _unicast(address)
    return None


def _inner_address6(packet: Packet) -> IpAddress | None:
    value = next(packet.all(A.FRAMED_IPV6_ADDRESS), None)
    if value is None:
        return None
    if len(value) != 16:
        raise WireError(f"a Framed-IPv6-Address of {len(value)} octets")
    return _unicast(IPv6Address(value))


def _unicast(address: IpAddress) -> IpAddress:
    if address.is_unspecified or address.is_multicast or address.is_loopback:
        raise WireError(f"{address} as the user's inner address")
    return address


def _interim(packet: Packet) -> float | None:
    seconds = packet.number(A.ACCT_INTERIM_INTERVAL)
    return max(float(seconds), MIN_INTERIM_S) if seconds else None
