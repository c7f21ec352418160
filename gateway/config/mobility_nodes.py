"""Mobile nodes of the configuration: those in it, and those of the file that it names."""

import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address
from pathlib import Path
from typing import Protocol

from pydantic import SecretStr, ValidationError

from gateway.config.credential_files import FileRefusedError, read_file, read_secret
from gateway.config.document import Config
from gateway.config.explain import problems_of
from gateway.config.mobility import MobileNodeSection, MobileNodesFile, NodeKeySection
from gateway.config.mobility_fields import decode_key
from gateway.config.problem import ConfigError, Problem, shown

MAX_NODES_OCTETS = 64 * 1024 * 1024
"""Of the file: more than two hundred thousand nodes."""


MAX_TICKET_KEYS = 4
MIN_TICKET_KEY_OCTETS = 16
MAX_TICKET_KEYS_OCTETS = 4096
_TICKET_KEYS_HOW = "give one key a line, the newest first; make one with: openssl rand -hex 32"


class Keyed(Protocol):
    """What every table with a key has."""

    @property
    def key(self) -> SecretStr | None:
        """The key, written in the table."""
        ...

    @property
    def key_file(self) -> Path | None:
        """The file that holds it instead."""
        ...


def key_octets(section: Keyed) -> bytes:
    """The key of a table that has one. Raises :class:`FileRefusedError`, which says why not."""
    if section.key is not None:
        return decode_key(section.key.get_secret_value())
    if section.key_file is None:
        raise FileRefusedError("is required; give key_file, or key")
    try:
        return decode_key(read_secret(section.key_file))
    except ValueError as error:
        raise FileRefusedError(str(error)) from None


@dataclass(frozen=True, slots=True)
class NodeKey:
    """One of a node's keys, wherever it stands."""

    spi: int
    key: SecretStr | None
    key_file: Path | None
    algorithm: str
    replay: str
    replay_window_s: float


def node_keys(node: MobileNodeSection) -> Iterator[tuple[str, NodeKey]]:
    """Every key of a node and where it stands below its table: nothing, or ``keys[N]``."""
    if node.spi is not None:
        yield "", _node_key(node.spi, node)
    for number, section in enumerate(node.keys):
        yield f"keys[{number}]", _node_key(section.spi, section)


def read_ticket_keys(file: Path) -> tuple[bytes, ...]:
    """The keys of a ticket key file, one a line, the newest first.

    Raises :class:`FileRefusedError`.
    """
    try:
        text = read_file(file, MAX_TICKET_KEYS_OCTETS).decode("ascii")
        lines = [one.strip() for one in text.splitlines()]
        keys = tuple(decode_key(one) for one in lines if one and not one.startswith("#"))
    except UnicodeDecodeError:
        raise FileRefusedError(f"holds no keys; {_TICKET_KEYS_HOW}") from None
    except ValueError as error:
        raise FileRefusedError(str(error)) from None
    if not 1 <= len(keys) <= MAX_TICKET_KEYS:
        why = f"holds {len(keys)} keys, 1 to {MAX_TICKET_KEYS} are allowed; {_TICKET_KEYS_HOW}"
        raise FileRefusedError(why)
    if any(len(key) < MIN_TICKET_KEY_OCTETS for key in keys):
        raise FileRefusedError(f"a key of it is too short; {_TICKET_KEYS_HOW}")
    return keys


def _node_key(spi: int, section: MobileNodeSection | NodeKeySection) -> NodeKey:
    return NodeKey(
        spi,
        section.key,
        section.key_file,
        section.algorithm,
        section.replay,
        section.replay_window_s,
    )


def nodes_of_file(path: Path) -> dict[str, MobileNodeSection]:
    """The nodes of a file. Raises :class:`ConfigError` with every problem of it."""
    try:
        tables = tomllib.loads(read_file(path, MAX_NODES_OCTETS).decode())
    except FileRefusedError as error:
        raise ConfigError([Problem(path, "", str(error))]) from None
    except UnicodeDecodeError:
        raise ConfigError([Problem(path, "", "not UTF-8; save the file as UTF-8")]) from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError([Problem(path, "", f"not valid TOML: {error}")]) from None
    try:
        context = {"directory": path.absolute().parent}
        return MobileNodesFile.model_validate(tables, context=context).mobile_nodes
    except ValidationError as error:
        raise ConfigError(problems_of(error, path, MobileNodesFile)) from None


def _state_of(path: Path) -> tuple[int, ...]:
    """What changes whenever a file does."""
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


@lru_cache(1)
def _nodes_of_unchanged_file(path: Path, state: tuple[int, ...]) -> dict[str, MobileNodeSection]:
    """The nodes of a file that several parts of a start ask for; reading many takes seconds."""
    del state
    return nodes_of_file(path)


def all_nodes(config: Config) -> dict[str, MobileNodeSection]:
    """Every mobile node by name. Raises :class:`ConfigError` where the file cannot be used."""
    file = config.mobility.mobile_nodes_file
    if file is None:
        return config.mobile_nodes
    more = _nodes_of_unchanged_file(file, _state_of(file))
    twice = [
        Problem(file, f"mobile_nodes.{name}", f"is in {shown(config.path)} as well; remove one")
        for name in more
        if name in config.mobile_nodes
    ]
    if twice:
        raise ConfigError(twice)
    return {**config.mobile_nodes, **more}


def network_of(config: Config, node: MobileNodeSection) -> str | None:
    """The home network of a node; None for a dynamic address of whichever agent it asks."""
    if node.home_address is None:
        return node.home_network
    return network_with(config, node.home_address)


def network_with(config: Config, address: IPv4Address) -> str | None:
    """The home network that has an address."""
    for name, section in config.home_networks.items():
        if address in section.network:
            return name
    return None


def agents_serving(config: Config, node: MobileNodeSection) -> Iterable[str]:
    """Names of the home agents that know a node."""
    if node.home_agents:
        return node.home_agents
    network = network_of(config, node)
    if network is not None:
        agents = config.home_agents.items()
        return [name for name, agent in agents if network in agent.home_networks]
    return [name for name in config.home_agents if has_dynamic(config, name)]


def has_dynamic(config: Config, agent: str) -> bool:
    """Whether a home agent has dynamic home addresses to give."""
    networks = (config.home_networks.get(name) for name in config.home_agents[agent].home_networks)
    return any(network is not None and network.dynamic for network in networks)
