"""What a configuration wants of the NAR servers."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from gateway.dataplane.nar import NarSettings
from gateway.domain.endpoint import Endpoint
from gateway.nar.policy import NarServerPolicy

AUDIT_ROWS = 1_000_000
"""About 200 MB on disk."""
AUDIT_AGE_S = 90 * 86_400.0


@dataclass(frozen=True, slots=True)
class NarTls:
    """What a server shows of itself inside TLS. PEM files."""

    certificate: Path
    """The chain, our own first."""
    private_key: Path


@dataclass(frozen=True, slots=True)
class NarServerPlan:
    """One NAR server and where its clients connect to."""

    policy: NarServerPolicy
    """Without any address, the server waits until one of its interfaces has one."""
    listen: tuple[Endpoint, ...] = ()
    """TCP in the clear."""
    tls_listen: tuple[Endpoint, ...] = ()
    """TLS from the first octet; needs :attr:`tls`."""
    tls: NarTls | None = None
    interfaces: tuple[str, ...] = ()
    """Whose addresses are lent, followed while they change."""


@dataclass(frozen=True, slots=True)
class NarPlan:
    """All NAR servers of this box, with the addresses that interfaces have now."""

    servers: tuple[NarServerPlan, ...]
    """Names are unique."""
    settings: NarSettings
    """Of the dataplane; one entry for each of :attr:`servers`, by name."""
    state_dir: Path
    """Where sessions and the audit outlive the process."""
    audit: bool = True
    """Whether leases are written down for later questions."""
    audit_rows: int = AUDIT_ROWS
    """The oldest rows beyond go."""
    audit_age_s: float = AUDIT_AGE_S
    """Rows of leases that ended longer ago go."""


AddressOf = Callable[[str], IPv4Address | None]
"""The main address of an interface; None while it has none."""

Planner = Callable[[AddressOf, Collection[IPv4Address]], NarPlan]
"""Makes the plan of one configuration; called again when addresses change. It takes also all
addresses of this box, which nobody reaches through a server."""
