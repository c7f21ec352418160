"""Checks of mobile nodes and of the keys that agents and nodes share."""

from ipaddress import IPv4Address
from pathlib import Path

from gateway.config.credential_files import FileRefusedError
from gateway.config.document import Config
from gateway.config.findings import Findings
from gateway.config.mobility import (
    KeySection,
    MobileNodeSection,
    PeerAgentSection,
)
from gateway.config.mobility_fields import decode_key, is_text_in_disguise
from gateway.config.mobility_logins import identity_text, ticket_key_file
from gateway.config.mobility_nodes import (
    NodeKey,
    agents_serving,
    all_nodes,
    has_dynamic,
    key_octets,
    network_of,
    network_with,
    node_keys,
    nodes_of_file,
    read_ticket_keys,
)
from gateway.config.problem import ConfigError
from gateway.config.to_mobility import folded_nai
from gateway.mip_agents.ticket import MAX_IDENTITY_OCTETS

MAX_NODE_PROBLEMS = 20
"""Of one file; the first ones tell enough."""
_KEY_HOW = "give key_file (better), or key"


def check_key(
    key: str, section: KeySection | PeerAgentSection | NodeKey, findings: Findings
) -> None:
    """A table with a key, as its text tells."""
    given = [field for field in ("key", "key_file") if getattr(section, field) is not None]
    if not given:
        findings.refuse(f"{key}.key_file", None, f"is required with spi; {_KEY_HOW}")
    if len(given) == 2:
        findings.refuse(f"{key}.key", None, "excludes key_file; give one of them")
    if section.key is not None:
        _judge(f"{key}.key", decode_key(section.key.get_secret_value()), findings)
    if section.algorithm == "keyed-md5":
        why = "is broken, for peers that know no other; use hmac-md5, or better hmac-sha256"
        findings.warn(f"{key}.algorithm", section.algorithm, why)


def _judge(key: str, octets: bytes, findings: Findings, file: Path | None = None) -> None:
    if is_text_in_disguise(octets):
        why = "is a text in other digits, which can be guessed; use the output of: "
        findings.warn(key, file, f"{why}openssl rand -hex 16")


class NodeChecks:
    """Checks one node after the other, also against those before."""

    def __init__(self, config: Config, findings: Findings) -> None:
        self._config = config
        self.findings = findings
        """Where the faults go."""
        self._agents = {agent.address: name for name, agent in config.home_agents.items()}
        self._care_of = {a.care_of_address: name for name, a in config.foreign_agents.items()}
        self._addresses: dict[IPv4Address, str] = {}
        self._nais: dict[tuple[str, str], str] = {}
        self._keys: dict[bytes, str] = {}
        self._logins: dict[tuple[str, str], str] = {}

    def check(self, name: str, node: MobileNodeSection) -> None:
        """One node."""
        if not self._config.home_agents:
            return  # told once, for all of them
        key, before = f"mobile_nodes.{name}", len(self.findings.problems)
        if node.home_address is None and not node.nai:
            why = "is required without nai: one of both is how a device names itself"
            self.findings.refuse(f"{key}.home_address", None, why)
        if node.home_address is not None:
            self._home_address(key, node.home_address)
        self._home_network(key, node)
        if len(self.findings.problems) == before:
            self._home_agents(key, node)
        self._identity(name, node)
        self._node_keys(name, node)

    def _home_address(self, key: str, address: IPv4Address) -> None:
        where, config = f"{key}.home_address", self._config
        name = network_with(config, address)
        if name is None:
            known = [f"{n} ({s.network})" for n, s in config.home_networks.items()]
            why = f"lies in no home network; choose an address of: {', '.join(known) or 'none yet'}"
            self.findings.refuse(where, address, why)
            return
        network = config.home_networks[name].network
        ends = (network.network_address, network.broadcast_address)
        if network.prefixlen < 31 and address in ends:
            self.findings.refuse(where, address, f"is no host's address in {network}")
        if address in self._agents:
            why = f"is home_agents.{self._agents[address]}.address; give the device its own"
            self.findings.refuse(where, address, why)
        if address in self._care_of:
            why = f"is foreign_agents.{self._care_of[address]}.care_of_address"
            self.findings.refuse(where, address, f"{why}; give the device its own")

    def _home_network(self, key: str, node: MobileNodeSection) -> None:
        name, networks = node.home_network, self._config.home_networks
        if name is None:
            if (
                node.home_address is None
                and node.nai
                and not any(
                    has_dynamic(self._config, agent)
                    for agent in node.home_agents or self._config.home_agents
                    if agent in self._config.home_agents
                )
            ):
                why = "is required: no home network of its home agents has dynamic addresses"
                self.findings.refuse(f"{key}.home_address", None, why)
            return
        where = f"{key}.home_network"
        if name not in networks:
            why = f"no such table; choose one of: {', '.join(networks)}"
            self.findings.refuse(where, name, why)
        elif node.home_address is not None:
            if node.home_address not in networks[name].network:
                why = f"does not contain home_address {node.home_address}; remove one of them"
                self.findings.refuse(where, name, why)
        elif not networks[name].dynamic:
            why = f"has no dynamic addresses; give home_address, or home_networks.{name}.dynamic"
            self.findings.refuse(where, name, why)

    def _home_agents(self, key: str, node: MobileNodeSection) -> None:
        where, config = f"{key}.home_agents", self._config
        network = network_of(config, node)
        for name in node.home_agents:
            agent = config.home_agents.get(name)
            if agent is None:
                why = f"no such table; choose one of: {', '.join(config.home_agents)}"
                self.findings.refuse(where, name, why)
            elif network is not None and network not in agent.home_networks:
                why = f"does not have home_networks.{network}, where this device belongs"
                self.findings.refuse(where, name, why)
            elif network is None and not has_dynamic(config, name):
                why = "has no dynamic addresses for a device without home_address"
                self.findings.refuse(where, name, why)
        if not node.home_agents and network is not None and not agents_serving(config, node):
            why = f"no home agent has home_networks.{network}; add it to one"
            self.findings.refuse(where, None, why)

    def _identity(self, name: str, node: MobileNodeSection) -> None:
        key, address = f"mobile_nodes.{name}", node.home_address
        if address is not None:
            other = self._addresses.setdefault(address, name)
            if other != name:
                why = f"is that of mobile_nodes.{other} as well; give each device its own"
                self.findings.refuse(f"{key}.home_address", address, why)
        if not node.nai:
            return
        for agent in agents_serving(self._config, node):
            other = self._nais.setdefault((agent, folded_nai(node.nai)), name)
            if other != name:
                why = f"is that of mobile_nodes.{other} as well, at home_agents.{agent}"
                self.findings.refuse(f"{key}.nai", node.nai, f"{why}; give each its own")
                return

    def _login(self, name: str, node: MobileNodeSection) -> None:
        key, config = f"mobile_nodes.{name}", self._config
        for field in ("spi", "key", "key_file"):
            if getattr(node, field) is not None:
                why = 'excludes keys = "login", which brings keys; remove one of them'
                self.findings.refuse(f"{key}.{field}", None, why)
        if node.home_address is None:
            why = 'is required with keys = "login": it is what the login brings'
            self.findings.refuse(f"{key}.home_address", None, why)
        if node.identity is None:
            if config.connections:
                why = 'is required with keys = "login"; give the identity that logs in here, such '
                self.findings.refuse(f"{key}.identity", None, f'{why}as "ann@example.com"')
            return
        try:
            text = identity_text(node.identity)
        except ValueError as error:
            self.findings.refuse(f"{key}.identity", node.identity, str(error))
            return
        if "*" in text or len(text.encode()) > MAX_IDENTITY_OCTETS:
            why = f"must be one identity, of at most {MAX_IDENTITY_OCTETS} octets, without *"
            self.findings.refuse(f"{key}.identity", node.identity, why)
        for agent in agents_serving(config, node):
            other = self._logins.setdefault((agent, text.lower()), name)
            if other != name:
                why = f"is that of mobile_nodes.{other} as well, at home_agents.{agent}; one login"
                why += " brings one home address of each home agent"
                self.findings.refuse(f"{key}.identity", node.identity, why)

    def _node_keys(self, name: str, node: MobileNodeSection) -> None:
        key = f"mobile_nodes.{name}"
        if node.logs_in:
            self._login(name, node)
            return
        if node.identity is not None:
            why = 'is never used without keys = "login"; remove it, or set that'
            self.findings.refuse(f"{key}.identity", node.identity, why)
        for agent in node.home_agents:
            if agent in self._config.home_agents and self._config.home_agents[agent].remote:
                why = f'is never used: home_agents.{agent} is remote and has its own; set "login"'
                self.findings.refuse(f"{key}.keys", None, why)
        for field in ("key", "key_file"):
            if node.spi is None and getattr(node, field) is not None:
                why = f"needs spi, the number that stands for it; give one from 256, with {field}"
                self.findings.refuse(f"{key}.spi", None, why)
        if node.spi is None and not node.keys:
            why = "is required, and key_file or key with it: nobody registers without"
            self.findings.refuse(f"{key}.spi", None, why)
        seen: set[int] = set()
        for where, section in node_keys(node):
            below = f"{key}.{where}" if where else key
            check_key(below, section, self.findings)
            if section.spi in seen:
                why = "is used twice; give each key of a device its own"
                self.findings.refuse(f"{below}.spi", section.spi, why)
            seen.add(section.spi)
            if section.key is not None:
                self._shared(f"{below}.key", name, decode_key(section.key.get_secret_value()))

    def _shared(self, where: str, name: str, octets: bytes) -> None:
        other = self._keys.setdefault(octets, name)
        if other != name:
            why = f"is that of mobile_nodes.{other} as well: who has one device can be the other"
            self.findings.warn(where, None, why)


def check_mobility_files(config: Config, findings: Findings) -> None:
    """Key files, and the file of mobile nodes."""
    for name, node in config.mobile_nodes.items():
        check_node_files(f"mobile_nodes.{name}", node, findings)
    for name, agent in config.home_agents.items():
        for other, peer in agent.foreign_agents.items():
            check_key_file(f"home_agents.{name}.foreign_agents.{other}", peer, findings)
    for name, visited in config.foreign_agents.items():
        for other, peer in visited.known_home_agents.items():
            check_key_file(f"foreign_agents.{name}.known_home_agents.{other}", peer, findings)
        for number, one in enumerate(visited.visitor_keys):
            check_key_file(f"foreign_agents.{name}.visitor_keys[{number}]", one, findings)
    check_ticket_keys(config, findings)
    _readable(config, findings)
    file = config.mobility.mobile_nodes_file
    if file is not None and config.home_agents:
        findings.add(_nodes_file(config, file))


def check_ticket_keys(config: Config, findings: Findings) -> None:
    """The files of keys that seal tickets: those that are named, and those that are needed."""
    common = ("mobility.ticket_key_file", config.mobility.ticket_key_file)
    named = [common, *(ticket_key_file(config, agent) for agent in config.home_agents)]
    for where, file in dict.fromkeys(named):
        if file is None:
            continue
        try:
            read_ticket_keys(file)
        except FileRefusedError as error:
            findings.refuse(where, file, str(error))
            continue
        if _others_read(file):
            findings.warn(where, file, f"readable by others; run: chmod 600 {file}")
    _shared_ticket_keys(config, findings)
    _missing_ticket_keys(config, findings)


def _shared_ticket_keys(config: Config, findings: Findings) -> None:
    """Who has the outside home agent's box could else speak for the inside one."""
    agents = config.home_agents.items()
    for one, inside in agents:
        for other, outside in agents:
            if (inside.placement, outside.placement) != ("inside", "outside"):
                continue
            if not (inside.remote or outside.remote):
                continue
            where, file = ticket_key_file(config, other)
            if file is not None and file == ticket_key_file(config, one)[1]:
                why = f"is that of home_agents.{one} as well: whoever breaks into the outside home"
                why += " agent could answer as the inside one; give each a file of its own"
                findings.warn(where, file, why)


def _missing_ticket_keys(config: Config, findings: Findings) -> None:
    try:
        logins = [(name, one) for name, one in all_nodes(config).items() if one.logs_in]
    except ConfigError:
        return  # told of the file itself
    for name, node in logins:
        for agent in agents_serving(config, node):
            remote = config.home_agents[agent].remote
            where, file = ticket_key_file(config, agent)
            if file is None and (remote or not config.connections):
                other = f"home_agents.{agent} is" if remote else "the gateway of these logins is"
                why = f"is required by mobile_nodes.{name}: {other} in another box, and both need"
                why += " the same file; make it with: openssl rand -hex 32"
                findings.refuse(where, None, why)
                return


def check_node_files(key: str, node: MobileNodeSection, findings: Findings) -> None:
    """The key files of a node."""
    for where, section in node_keys(node):
        check_key_file(f"{key}.{where}" if where else key, section, findings)


def check_key_file(
    key: str, section: KeySection | PeerAgentSection | NodeKey, findings: Findings
) -> None:
    """The key file of a table, if it names one."""
    file = section.key_file
    if file is None:
        return
    try:
        octets = key_octets(section)
    except FileRefusedError as error:
        findings.refuse(f"{key}.key_file", file, str(error))
        return
    _judge(f"{key}.key_file", octets, findings, file)
    if _others_read(file):
        findings.warn(f"{key}.key_file", file, f"readable by others; run: chmod 600 {file}")


def _others_read(path: Path) -> bool:
    try:
        return bool(path.stat().st_mode & 0o077)
    except OSError:
        return False


def _readable(config: Config, findings: Findings) -> None:
    """Keys within the configuration are as secret as key files."""
    sections = [one for node in config.mobile_nodes.values() for _, one in node_keys(node)]
    if any(one.key is not None for one in sections) and _others_read(findings.file):
        why = f"holds keys and is readable by others; run: chmod 600 {findings.file}"
        findings.warn("mobile_nodes", None, why)


def _nodes_file(config: Config, file: Path) -> Findings:
    findings = Findings(file)
    try:
        nodes = nodes_of_file(file)
    except ConfigError as error:
        findings.problems += error.problems[:MAX_NODE_PROBLEMS]
        return findings
    if _others_read(file):
        findings.warn("", None, f"holds keys and is readable by others; run: chmod 600 {file}")
    checks = NodeChecks(config, Findings(file))
    for name, node in config.mobile_nodes.items():
        checks.check(name, node)
    told = checks.findings = Findings(file)  # what was said of those was said before
    for name, node in nodes.items():
        if name in config.mobile_nodes:
            why = f"is in {findings.file.name} and in the configuration; remove one"
            told.refuse(f"mobile_nodes.{name}", None, why)
        checks.check(name, node)
        check_node_files(f"mobile_nodes.{name}", node, told)
        if len(told.problems) >= MAX_NODE_PROBLEMS:
            told.refuse("", None, "has more faults; correct these first")
            break
    if not nodes:
        told.warn("mobile_nodes", None, "there is none in this file")
    findings.problems += told.problems
    findings.warnings += told.warnings[:MAX_NODE_PROBLEMS]
    return findings
