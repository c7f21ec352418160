"""What an administrator may see of the bindings, as plain JSON values; no keys."""

from dataclasses import dataclass

from gateway.mip_agents.codec.registration import RequestFlag
from gateway.mip_agents.home_agent.bindings import NEVER, CareOf, Registrant


@dataclass(frozen=True, slots=True)
class CareOfView:
    """One care-of address of a binding."""

    address: str
    tunnel: str
    """For instance ``ip-ip to 192.0.2.1``."""
    flags: tuple[str, ...]
    """``simultaneous``, ``broadcasts``, ``co_located``, ``minimal``, ``gre``, ``reverse``."""
    lifetime_s: int | None
    """As granted; None for ever."""
    expires_in_s: float | None
    nat: bool
    """A NAT lies between it and us."""
    via_foreign_agent: str | None
    """The address of the agent that relayed the registration."""


@dataclass(frozen=True, slots=True)
class BindingView:
    """A mobile node that is away, now."""

    home_agent: str
    """Its name."""
    name: str
    nai: str
    home_address: str
    home_network: str
    care_of_addresses: tuple[str, ...]
    """The latest one last."""
    tunnels: tuple[str, ...]
    flags: tuple[str, ...]
    """Of the latest registration."""
    lifetime_s: int | None
    """The longest of its care-of addresses; None for ever."""
    registered_for_s: float
    """Since the last registration."""
    expires_in_s: float | None
    zero_overhead: str | None
    """The default destination of address switching."""
    nat: bool
    via_foreign_agent: str | None
    dynamic: bool
    """The home address is leased from a pool."""
    registrations: int
    """How many were accepted since it has had this binding."""
    last_code: int
    """Of the last reply."""
    each: tuple[CareOfView, ...]
    """The care-of addresses again, with all that is different from one to the other."""


def view(registrant: Registrant, home_agent: str, now: float) -> BindingView:
    """A registrant with bindings as it is seen at ``now``."""
    care_ofs = tuple(_care_of(one, now) for one in registrant.care_ofs)
    latest = registrant.care_ofs[-1]
    endless = any(one.expires_at == NEVER for one in registrant.care_ofs)
    network = registrant.home_network
    alone = len(registrant.care_ofs) == 1
    return BindingView(
        home_agent,
        registrant.node.name,
        registrant.node.nai,
        registrant.home_text,
        network.name if network else "",
        tuple(one.address for one in care_ofs),
        tuple(one.tunnel for one in care_ofs),
        care_ofs[-1].flags,
        None if endless else max(one.lifetime_s for one in registrant.care_ofs),
        max(0.0, now - max(one.granted_at for one in registrant.care_ofs)),
        None if endless else max(one.expires_in_s or 0.0 for one in care_ofs),
        str(latest.zero_overhead) if latest.zero_overhead and alone else None,
        any(one.nat for one in care_ofs),
        care_ofs[-1].via_foreign_agent,
        registrant.leased,
        registrant.registrations,
        registrant.last_code,
        care_ofs,
    )


def _care_of(one: CareOf, now: float) -> CareOfView:
    endless = one.expires_at == NEVER
    return CareOfView(
        one.text,
        str(one.tunnel),
        tuple((flag.name or "").lower() for flag in RequestFlag if one.flags & flag),
        None if endless else one.lifetime_s,
        None if endless else max(0.0, one.expires_at - now),
        one.nat,
        str(one.agent) if one.agent else None,
    )
