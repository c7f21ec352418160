"""A registration request while it is judged."""

from dataclasses import dataclass
from typing import TypeVar

from gateway.domain.endpoint import Path
from gateway.mip_agents.codec.extensions import Authentication, AuthenticationKind
from gateway.mip_agents.codec.registration import RegistrationRequest
from gateway.mip_agents.foreign_agent.pending import Pending
from gateway.mip_agents.outputs import Link

E = TypeVar("E")

AUTHORIZING = (AuthenticationKind.MOBILE_HOME, AuthenticationKind.GENERALIZED)
"""What the home agent believes the mobile node by (RFC 5944 section 1.6, RFC 4721)."""


def end_of(extension: Authentication) -> int:
    """Where the octets of an authentication extension end in its message."""
    return extension.covered_octets + len(extension.authenticator)


def end_of_authorization(authentications: tuple[Authentication, ...]) -> int:
    """The end of what no foreign agent may touch (RFC 5944 section 3.7.2.2); 0 for nothing."""
    return max((end_of(one) for one in authentications if one.kind in AUTHORIZING), default=0)


@dataclass(frozen=True, slots=True)
class Arrival:
    """How a request came."""

    path: Path
    link: Link | None
    ttl: int | None
    """Of the IP header; None when nobody knows."""


@dataclass(slots=True)
class Asked:
    """The entry that the request becomes if nothing is wrong, and what the checks look at."""

    pending: Pending
    ttl: int | None
    authorization_end: int
    mobile_foreign: Authentication | None
    """The mobile node's proof to us."""
    again: bool
    """The very same request is under way already."""

    @property
    def request(self) -> RegistrationRequest:
        """The request itself."""
        return self.pending.request

    def for_us(self, wanted: type[E]) -> E | None:
        """An extension that we may believe: when there is a proof to us, it covers it."""
        return self.request.first(wanted, self.mobile_foreign)
