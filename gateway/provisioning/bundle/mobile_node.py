"""For ``gateway mn``: its profile with every file that it names, in one TOML file."""

from collections.abc import Callable
from ipaddress import IPv4Network

from gateway.provisioning.names import PeerName, one_line
from gateway.provisioning.problem import ProvisioningRefusedError
from gateway.provisioning.quoting import toml, toml_lines
from gateway.provisioning.setup import Bundle, HomeAgent, Proof, Setup, require

MEDIA_TYPE = "application/toml"
SUFFIX = ".gateway-mn"
PASSWORD_FILE = "password"  # noqa: S105 - the name of a file
"""Named where a user logs in; ``gateway mn import`` asks for its content."""

Table = list[tuple[str, str]]


def make(setup: Setup, _random: Callable[[int], bytes]) -> Bundle:
    """The profile. Raises :class:`ProvisioningRefusedError`."""
    files: dict[str, bytes] = {}
    tables: list[tuple[str, Table]] = [
        ("profile", [("name", toml(setup.device))]),
        ("gateway", _gateway(setup)),
        ("login", _login(setup, files)),
    ]
    for name, agent in (("inside", setup.inside), ("outside", setup.outside)):
        if agent is not None:
            tables.append((name, _home_agent(agent)))
    network = _network(setup)
    if network:
        tables.append(("network", network))
    if files:
        found = [(toml(name), toml_lines(text.decode())) for name, text in files.items()]
        tables.append(("files", found))
    lines = [
        f"# {setup.device} as a mobile node of {one_line(setup.title)}. It holds secrets.",
        f"#   sudo gateway mn import {setup.device}{SUFFIX}",
    ]
    for name, entries in tables:
        lines += ["", f"[{name}]", *(f"{key} = {value}" for key, value in entries)]
    content = "\n".join(lines) + "\n"
    return Bundle(f"{setup.device}{SUFFIX}", MEDIA_TYPE, content.encode())


def _identity(name: PeerName) -> str:
    return toml(name.text)


def _list(values: object) -> str:
    items = values if isinstance(values, list | tuple) else ()
    return "[" + ", ".join(toml(str(one)) for one in items) + "]"


def _gateway(setup: Setup) -> Table:
    why = "a mobile node reaches the gateway over IPv4: give an IPv4 address or a host name"
    require(":" not in setup.address, "provisioning.address", why)
    found: Table = [("address", toml(setup.address)), ("identity", _identity(setup.gateway))]
    if setup.port != 500:
        found.append(("port", str(setup.port)))
    found.append(("tcp_ports", "[" + ", ".join(map(str, setup.tcp_ports)) + "]"))
    if setup.version != 2:
        found.append(("version", str(setup.version)))
    if setup.own_proposals:
        found.append(("ike_proposals", _list([one.words for one in setup.ike])))
        found.append(("esp_proposals", _list([one.words for one in setup.esp])))
    if not setup.mobike:
        found.append(("mobike", "false"))
    return found


def _login(setup: Setup, files: dict[str, bytes]) -> Table:
    found: Table = [("method", toml(_method(setup)))]
    found.append(("identity", _identity(setup.identity)))
    if setup.device_proof is not None or setup.gateway_proof is Proof.PSK:
        default = Proof.PSK if setup.device_proof is Proof.PSK else Proof.CERTIFICATE
        if setup.gateway_proof is not default:
            found.append(("gateway_method", toml(setup.gateway_proof.value)))
    if setup.certificate is not None:
        if setup.private_key is None:
            why = "the device's key is not here (it came as a request); take other"
            raise ProvisioningRefusedError("platform", why)
        files["device.pem"], files["device.key"] = setup.certificate, setup.private_key
        found += [("certificate", toml("device.pem")), ("private_key", toml("device.key"))]
    if setup.authorities:
        files["ca.pem"] = b"".join(setup.authorities)
        found.append(("ca_certificates", _list(["ca.pem"])))
    if setup.psk is not None:
        found.append(("psk", toml(setup.psk)))
    if setup.user is not None and setup.user_methods:
        found.append(("user", toml(setup.user)))
        if _method(setup) != "eap-tls":
            found.append(("password_file", toml(PASSWORD_FILE)))
    if setup.ppk_id is not None and setup.ppk is not None:
        files["ppk"] = setup.ppk.encode()
        found += [("ppk_id", toml(setup.ppk_id)), ("ppk_file", toml("ppk"))]
        if setup.ppk_required:
            found.append(("ppk_required", "true"))
    return found


def _method(setup: Setup) -> str:
    if setup.device_proof is not None:
        return setup.device_proof.value
    if setup.user_methods and setup.user_methods[0] == "eap-tls":
        return "eap-tls"
    return "password"


def _home_agent(agent: HomeAgent) -> Table:
    found: Table = [
        ("home_agent", toml(str(agent.address))),
        ("home_address", toml(str(agent.home_address))),
        ("home_network", toml(str(agent.home_network))),
        ("spi", str(agent.spi)),
        ("key", toml(agent.key)),
        ("algorithm", toml(agent.algorithm)),
        ("replay", toml(agent.replay)),
    ]
    if agent.nai is not None:
        found.append(("nai", toml(agent.nai)))
    return found


def _network(setup: Setup) -> Table:
    found: Table = []
    if setup.splits:
        tunnelled = [one for one in setup.subnets if isinstance(one, IPv4Network)]
        tunnelled += [one.home_network for one in (setup.inside,) if one is not None]
        found.append(("networks", _list(tunnelled)))
        found.append(("direct_networks", _list(_others(tunnelled))))
    if setup.domains:
        found.append(("split_domains", _list(setup.domains)))
    if setup.force_encapsulation:
        found.append(("force_udp_encapsulation", "true"))
    return found


def _others(tunnelled: list[IPv4Network]) -> list[IPv4Network]:
    """What is not tunnelled, so that the rest of the internet goes its usual way."""
    left = [IPv4Network("0.0.0.0/0")]
    for network in tunnelled:
        left = [piece for one in left for piece in _without(one, network)]
    return sorted(left)


def _without(one: IPv4Network, network: IPv4Network) -> list[IPv4Network]:
    if network.supernet_of(one):
        return []
    return list(one.address_exclude(network)) if one.supernet_of(network) else [one]
