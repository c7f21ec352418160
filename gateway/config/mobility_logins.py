"""Which login brings which home addresses (draft 002, section 4.2.1)."""

from ipaddress import IPv4Address
from pathlib import Path

from gateway.config.credential_files import FileRefusedError
from gateway.config.document import Config
from gateway.config.mobility import HomeAgentSection, MobileNodeSection
from gateway.config.mobility_nodes import agents_serving, all_nodes, read_ticket_keys
from gateway.config.problem import ConfigError, Problem, shown
from gateway.domain.mobility_credential import MobilityGrant
from gateway.ike.auth.identity import Identity


def identity_text(text: str) -> str:
    """An identity as tickets name it, whatever the file's way to write it."""
    return str(Identity.parse(text))


def has_logins(config: Config) -> bool:
    """Whether any login here brings home addresses. Raises :class:`ConfigError`."""
    return bool(config.home_agents) and any(one.logs_in for one in all_nodes(config).values())


def grants(config: Config) -> list[tuple[Identity, MobilityGrant]]:
    """What each identity gets. Raises :class:`ConfigError` where the file of nodes is unusable."""
    if not config.home_agents:
        return []
    return [
        (Identity.parse(node.identity), grant)
        for node in all_nodes(config).values()
        if node.logs_in and node.identity
        for grant in _of_node(config, node)
    ]


def _of_node(config: Config, node: MobileNodeSection) -> list[MobilityGrant]:
    found = []
    for name in agents_serving(config, node):
        agent = config.home_agents[name]
        for network in agent.home_networks:
            whole = config.home_networks[network].network
            if node.home_address is not None and node.home_address in whole:
                inside = agent.placement == "inside"
                found.append(MobilityGrant(inside, reached_at(agent), node.home_address, whole))
    return found


def reached_at(agent: HomeAgentSection) -> IPv4Address:
    """How devices name a home agent: an outside one as it is seen before address translation."""
    if agent.placement == "outside" and agent.public_addresses:
        return agent.public_addresses[0]
    return agent.address


def ticket_key_file(config: Config, agent: str) -> tuple[str, Path | None]:
    """The file of a home agent's tickets, its own or the common one, and the key that names it.

    Whoever has it can make tickets of the home agent, and open those that travel in the clear.
    """
    own = config.home_agents[agent].ticket_key_file
    if own is not None:
        return f"home_agents.{agent}.ticket_key_file", own
    return "mobility.ticket_key_file", config.mobility.ticket_key_file


def ticket_keys(config: Config, agent: str) -> tuple[bytes, ...]:
    """The keys of a home agent's tickets; none where the configuration names no file.

    Raises :class:`ConfigError`.
    """
    key, file = ticket_key_file(config, agent)
    if file is None:
        return ()
    try:
        return read_ticket_keys(file)
    except FileRefusedError as error:
        raise ConfigError([Problem(config.path, key, str(error), shown(file))]) from None
