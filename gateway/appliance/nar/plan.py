"""What a configuration wants of the NAR servers."""

from dataclasses import dataclass
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
    """With ``dynamic`` its addresses are empty: they are filled in as they become known."""
    listen: tuple[Endpoint, ...] = ()
    """TCP in the clear."""
    tls_listen: tuple[Endpoint, ...] = ()
    """TLS from the first octet; needs :attr:`tls`."""
    tls: NarTls | None = None
    dynamic: str | None = None
    """The interface whose first IPv4 address is Nb, followed while it changes. The addresses of
    this server in :attr:`NarPlan.settings` are empty then, too."""


@dataclass(frozen=True, slots=True)
class NarPlan:
    """All NAR servers of this box."""

    servers: tuple[NarServerPlan, ...]
    """Names are unique."""
    settings: NarSettings
    """Of the dataplane; one entry for each of :attr:`servers`, by name."""
    state_dir: Path
    """Where sessions and the audit outlive the process."""
    audit_rows: int = AUDIT_ROWS
    """The oldest rows beyond go."""
    audit_age_s: float = AUDIT_AGE_S
    """Rows of leases that ended longer ago go."""
