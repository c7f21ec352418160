"""What a configuration wants of the NAR servers."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
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


def keeping_old(wanted: NarServerPlan, before: Mapping[str, NarServerPlan]) -> NarServerPlan:
    """While an interface has no address, its server goes on with the last one: it may come back."""
    known = before.get(wanted.policy.name)
    if wanted.policy.addresses or known is None or known.interfaces != wanted.interfaces:
        return wanted
    return replace(wanted, policy=replace(wanted.policy, addresses=known.policy.addresses))


def lending(plan: NarPlan) -> NarSettings:
    """The dataplane's settings with the addresses that are really lent."""
    lent = {one.policy.name: one.policy.addresses for one in plan.servers}
    servers = tuple(
        replace(one, addresses=lent.get(one.name, one.addresses)) for one in plan.settings.servers
    )
    return replace(plan.settings, servers=servers)


def with_connections(plan: NarPlan, possible: int, wanted: int) -> NarPlan:
    """The plan with every server's part of the connections that are possible together."""

    def fewer(one: NarServerPlan) -> NarServerPlan:
        most = max(one.policy.max_connections * possible // wanted, 1)
        return replace(one, policy=replace(one.policy, max_connections=most))

    return replace(plan, servers=tuple(map(fewer, plan.servers)))
