"""What accounting tells a server about a session (RFC 2866, 2869 section 5)."""

from dataclasses import dataclass, field
from ipaddress import IPv4Address

from gateway.domain.endpoint import IpAddress
from gateway.domain.user_auth import Session
from gateway.radius import questions
from gateway.radius.attributes import (
    ACCT_AUTHENTIC_RADIUS,
    AttributeType,
    ServiceType,
    StatusType,
    TerminateCause,
)
from gateway.radius.packet import Attributes
from gateway.radius.settings import RadiusSettings

A = AttributeType
_MAX_U32 = 2**32 - 1


@dataclass(frozen=True, slots=True)
class Traffic:
    """What a session has carried so far; ``in`` is from the user."""

    bytes_in: int = 0
    packets_in: int = 0
    bytes_out: int = 0
    packets_out: int = 0

    def __add__(self, other: "Traffic") -> "Traffic":
        return Traffic(
            self.bytes_in + other.bytes_in,
            self.packets_in + other.packets_in,
            self.bytes_out + other.bytes_out,
            self.packets_out + other.packets_out,
        )


@dataclass(frozen=True, slots=True)
class Record:
    """Something that happened, to be told to one server of the backend."""

    status: StatusType
    at: float
    """When, by the caller's clock."""
    wall_s: int
    """When, in seconds since 1970 UTC."""
    local: IpAddress | None = None
    """Our address, for records that belong to no session."""
    session: Session | None = field(default=None, repr=False)
    traffic: Traffic = field(default_factory=Traffic)
    session_time_s: int = 0
    cause: TerminateCause | None = None

    @property
    def replaceable(self) -> bool:
        """Whether a later record of the session says the same and more."""
        return self.status is StatusType.INTERIM


def encode(settings: RadiusSettings, record: Record, now: float) -> Attributes:
    """The attributes of an Accounting-Request sent at ``now``."""
    session = record.session
    local = session.local.address if session is not None else record.local
    found: list[tuple[int, bytes]] = [(A.ACCT_STATUS_TYPE, questions.number(record.status))]
    if session is None:
        found += questions.nas(settings, local or IPv4Address("127.0.0.1"))
        found.append((A.ACCT_SESSION_ID, b"0" * 16))
    else:
        found += questions.nas(settings, session.local.address)
        found += _of_session(session)
        if record.status is not StatusType.START:
            found += _of_traffic(record)
    if record.cause is not None:
        found.append((A.ACCT_TERMINATE_CAUSE, questions.number(record.cause)))
    found.append((A.EVENT_TIMESTAMP, questions.number(record.wall_s & _MAX_U32)))
    delay = min(max(int(now - record.at), 0), _MAX_U32)
    found.append((A.ACCT_DELAY_TIME, questions.number(delay)))
    return tuple(found)


def _of_session(session: Session) -> Attributes:
    found: list[tuple[int, bytes]] = [(A.USER_NAME, questions.text(session.user))]
    found += questions.session(session.local, session.remote, session.session_id)
    found.append((A.SERVICE_TYPE, questions.number(ServiceType.FRAMED)))
    found.append((A.ACCT_AUTHENTIC, questions.number(ACCT_AUTHENTIC_RADIUS)))
    for address in (session.inner_address, session.inner_address6):
        if address is None:
            continue
        is_v4 = isinstance(address, IPv4Address)
        kind = A.FRAMED_IP_ADDRESS if is_v4 else A.FRAMED_IPV6_ADDRESS
        found.append((kind, address.packed))
    found += [(A.CLASS, value) for value in session.radius_class if 0 < len(value) <= 253]
    return tuple(found)


def _of_traffic(record: Record) -> Attributes:
    traffic, number = record.traffic, questions.number
    return (
        (A.ACCT_SESSION_TIME, number(min(record.session_time_s, _MAX_U32))),
        (A.ACCT_INPUT_OCTETS, number(traffic.bytes_in & _MAX_U32)),
        (A.ACCT_OUTPUT_OCTETS, number(traffic.bytes_out & _MAX_U32)),
        (A.ACCT_INPUT_GIGAWORDS, number(traffic.bytes_in >> 32 & _MAX_U32)),
        (A.ACCT_OUTPUT_GIGAWORDS, number(traffic.bytes_out >> 32 & _MAX_U32)),
        (A.ACCT_INPUT_PACKETS, number(traffic.packets_in & _MAX_U32)),
        (A.ACCT_OUTPUT_PACKETS, number(traffic.packets_out & _MAX_U32)),
    )


_CAUSES = (
    (("does not answer", "no answer", "dead peer", "timed out"), TerminateCause.LOST_CARRIER),
    (("session time",), TerminateCause.SESSION_TIMEOUT),
    (("idle",), TerminateCause.IDLE_TIMEOUT),
    (("gateway stops", "gateway ends"), TerminateCause.NAS_REBOOT),
    (("peer deleted", "deleted by the peer", "new login"), TerminateCause.USER_REQUEST),
    (("administrator", "was changed", "was removed", "asked"), TerminateCause.ADMIN_RESET),
    (("malformed", "not installed", "fault"), TerminateCause.NAS_ERROR),
)  # fmt: skip
"""Words of an engine's reasons, first match first, and what they are to a server."""


def cause_of(reason: str) -> TerminateCause:
    """The terminate cause of an engine's reason; NAS-Request when no word tells more."""
    lower = reason.lower()
    for words, cause in _CAUSES:
        if any(word in lower for word in words):
            return cause
    return TerminateCause.NAS_REQUEST
