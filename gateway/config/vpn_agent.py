"""Which foreign agent a connection tells its devices about (draft 001, appendix B.2)."""

from gateway.config.connection import AdvertisementSection, ConnectionSection
from gateway.config.document import Config
from gateway.mip_agents.advertisement import AgentAdvertisement, AgentFlag

LIFETIME_S = 9000
"""Of the advertisement: the longest of RFC 1256, because IKE carries it once."""


def uses_vpn_fa(config: Config, section: ConnectionSection) -> bool:
    """Whether the connection, or a profile of its users, may use a foreign agent in the VPN."""
    return section.vpn_fa != "off" or any(
        profile.vpn_fa not in (None, "off")
        for name in section.profiles
        if (profile := config.profiles.get(name)) is not None
    )


def vpn_agents(config: Config) -> list[str]:
    """Names of the foreign agents for devices behind tunnels."""
    return [name for name, agent in config.foreign_agents.items() if agent.through_vpn]


def agent_of(config: Config, section: ConnectionSection) -> str | None:
    """The foreign agent of ours that serves the connection's devices.

    The one it names, or that has the care-of address which it names; else the only one there is.
    None where no agent of ours does.
    """
    if section.remote is not None or not uses_vpn_fa(config, section):
        return None
    known = vpn_agents(config)
    told = section.foreign_agent
    if told is None:
        return known[0] if len(known) == 1 else None
    if told.name is not None:
        return told.name if told.name in known else None
    given = told.care_of_addresses
    found = (name for name in known if config.foreign_agents[name].care_of_address in given)
    return next(found, None)


def advertisement(config: Config, section: ConnectionSection) -> bytes:
    """The ICMP message that IKE carries to the connection's devices; empty where there is none.

    Raises :class:`ConfigError` where a key of the foreign agent cannot be read (any more).
    """
    told = section.foreign_agent
    if told is not None and told.name is None:
        return _told(told)
    name = agent_of(config, section)
    return b"" if name is None else _of_agent(config, name)


def _told(told: AdvertisementSection) -> bytes:
    flags = AgentFlag.FOREIGN_AGENT
    if told.registration_required:
        flags |= AgentFlag.REGISTRATION_REQUIRED
    if told.reverse_tunnelling:
        flags |= AgentFlag.REVERSE_TUNNELLING
    return AgentAdvertisement(
        sequence=0,
        registration_lifetime_s=told.registration_lifetime_s,
        flags=flags,
        care_of_addresses=told.care_of_addresses,
        lifetime_s=told.lifetime_s,
    ).serialize()


def _of_agent(config: Config, name: str) -> bytes:
    """What the foreign agent itself would say on a link, without a challenge."""
    # Most gateways have no foreign agent, and need not load one.
    from gateway.config.to_mobility import foreign_agent  # noqa: PLC0415
    from gateway.mip_agents.foreign_agent.advertising import describe_agent  # noqa: PLC0415

    policy = foreign_agent(config, name)
    told = describe_agent(policy, 0, busy=False, challenge=b"", lifetime_s=LIFETIME_S)
    return told.serialize()
