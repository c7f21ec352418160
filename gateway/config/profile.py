"""A mobile node's profile: one TOML file, ``load_profile(path) -> Profile``.

It says whom to log in to and how. Home agents, addresses, keys and name servers are learnt at
login where the gateway teaches them; ``[inside]`` and ``[outside]`` say by hand what it does not.
"""

from ipaddress import IPv4Network
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PrivateAttr, ValidationError

from gateway.config.explain import problems_of
from gateway.config.fields import (
    Address4,
    Domain,
    FilePath,
    Flag,
    IdentityText,
    Name,
    Number,
    Port,
    Secret,
    Section,
    Url,
    UserName,
    Whole,
)
from gateway.config.loader import read_tables
from gateway.config.mobility_fields import (
    AlgorithmWord,
    EncapsulationWord,
    KeyText,
    LifetimeSeconds,
    Nai,
    Network4,
    Networks4,
    ReplayWord,
    Spi,
)
from gateway.config.problem import ConfigError, Problem
from gateway.config.profile_fields import (
    AcceptanceText,
    CommandWord,
    HostOrAddress,
    InterfacePattern,
    LinkAddress,
    ModeWord,
    ProbeUrl,
)

DEFAULT_PROFILE = Path("/etc/gateway-mn/profile.toml")
CONTROL_SOCKET = "control.sock"
_WHERE = 'name one with --profile, or write one from "gateway mn profile example"'
_EVERYTHING = (IPv4Network("0.0.0.0/0"),)


class ProcessPart(Section):
    """``[profile]``: the process as a whole."""

    name: Name = "mobile-node"
    """Of this device, in logs and in ``gateway mn status``."""
    state_dir: FilePath = Path("/var/lib/gateway-mn")
    """Learnt credentials and the gateway's last known address are kept here."""
    runtime_dir: FilePath = Path("/run/gateway-mn")
    kill_switch: Literal["until-stopped", "always"] = "until-stopped"
    """``always``: an orderly stop leaves it in place as well; ``gateway mn release`` removes it."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["human", "json"] = "human"


class GatewayPart(Section):
    """``[gateway]``: the VPN gateway, and which of its mechanisms may be used."""

    address: HostOrAddress
    """IPv4, or a name that is looked up when the node starts."""
    identity: IdentityText | None = None
    """What the gateway must prove to be; without it, ``address``."""
    port: Port = 500
    tcp_ports: tuple[Port, ...] = Field(default=(4500, 443), max_length=8)
    """Of its TCP encapsulation (RFC 9329), in the order of trying; empty never tries."""
    version: Annotated[Whole, Field(ge=1, le=2)] = 2
    """Of IKE."""
    ike_proposals: tuple[str, ...] = Field(default=(), max_length=32)
    esp_proposals: tuple[str, ...] = Field(default=(), max_length=32)
    vpn_fa: Flag = True
    endpoint_update: Flag = True
    mobike: Flag = True
    liveness_s: Number = Field(default=30.0, ge=1, le=3600)
    """The gateway is asked whether it lives after so long a silence."""


class LoginPart(Section):
    """``[login]``: what this device and its user prove themselves with to the gateway."""

    method: Literal["certificate", "psk", "password", "eap-tls"] = "certificate"
    """``password``: the user's, by EAP-MSCHAPv2 or EAP-GTC as the gateway asks. With
    ``certificate`` or ``psk``, a ``user`` logs in after the device has (RFC 4739, XAUTH)."""
    identity: IdentityText | None = None
    """Ours; without it, ``user``."""
    gateway_method: Literal["certificate", "psk"] | None = None
    """How the gateway proves itself; without it, ``psk`` where ``method`` is, else by
    certificate."""
    certificate: FilePath | None = None
    private_key: FilePath | None = None
    ca_certificates: tuple[FilePath, ...] = ()
    """Under which the gateway's certificate must be."""
    psk: Secret | None = None
    psk_file: FilePath | None = None
    user: UserName | None = None
    password: Secret | None = None
    password_file: FilePath | None = None
    crl_files: tuple[FilePath, ...] = ()
    ocsp_responder: Url | None = None
    revocation: Literal["off", "when-known", "required"] = "when-known"
    ppk_id: IdentityText | None = None
    ppk_file: FilePath | None = None
    ppk_required: Flag = False
    sealed: FilePath | None = None
    """Secrets encrypted under a password by ``gateway mn profile seal``; they take the place of
    psk, password, private_key and of the keys of home agents, once ``gateway mn unlock``ed."""


class HomeAgentPart(Section):
    """``[inside]`` and ``[outside]``: a home agent by hand, where the login does not teach it."""

    home_agent: Address4 | None = None
    home_address: Address4 | None = None
    home_network: Network4 | None = None
    """Without it, ``home_address`` alone: there is no home link to come home to."""
    spi: Spi | None = None
    key: KeyText | None = None
    key_file: FilePath | None = None
    algorithm: AlgorithmWord = "hmac-md5"
    replay: ReplayWord = "timestamps"
    replay_window_s: Number = Field(default=7.0, ge=1, le=3600)
    nai: Nai | None = None
    lifetime_s: LifetimeSeconds = 1800
    encapsulation: EncapsulationWord = "ip-ip"

    @property
    def by_hand(self) -> bool:
        """Whether it names the home agent itself."""
        return self.home_agent is not None


class OutsidePart(HomeAgentPart):
    """``[outside]``: the x-HA."""

    force_udp: Flag = False
    """Ask for a UDP tunnel also where no NAT is seen (RFC 3519's F bit)."""
    zero_overhead: Flag = True
    """Ask for it (draft 001, appendix D); refused, x-MIP takes its 20 octets."""


class DetectionPart(Section):
    """``[detection]``: see :class:`gateway.mobile_node.policy.Detection`."""

    retransmit_first_s: Number = Field(default=0.5, ge=0.1, le=10)
    retransmit_factor: Number = Field(default=2.0, ge=1, le=10)
    retransmit_max_s: Number = Field(default=4.0, ge=0.1, le=60)
    detection_period_s: Number = Field(default=2.0, ge=0, le=30)
    inside_hint_s: Number = Field(default=1.0, ge=0, le=30)
    monitor_interval_s: Number = Field(default=30.0, ge=1, le=3600)
    monitor_tries_s: Number = Field(default=20.0, ge=1, le=600)
    retry_inside_s: Number = Field(default=600.0, ge=10, le=86_400)
    idle_after_s: Number = Field(default=120.0, ge=0, le=86_400)


class HintsPart(Section):
    """``[hints]``: what makes the node look inside first; it never proves anything."""

    domains: tuple[Domain, ...] = Field(default=(), max_length=64)
    nais: tuple[Nai, ...] = Field(default=(), max_length=64)
    router_link_addresses: tuple[LinkAddress, ...] = Field(default=(), max_length=64)


class NetworkPart(Section):
    """``[network]``: links, what goes through the tunnels, and this host's own duties."""

    interfaces: tuple[InterfacePattern, ...] = Field(default=(), max_length=64)
    """Patterns in the order of preference; empty takes every link."""
    modes: tuple[ModeWord, ...] = ()
    """Allowed access modes; empty allows all."""
    networks: Networks4 = _EVERYTHING
    """What goes through the tunnels."""
    direct_networks: Networks4 = ()
    """Split tunnel: reached over the link itself, in the clear."""
    dns: Literal["auto", "resolvectl", "resolv.conf", "off"] = "auto"
    """How the gateway's name servers are made known to this host."""
    split_domains: tuple[Domain, ...] = Field(default=(), max_length=64)
    """Only names below these go to the gateway's servers; empty takes what the login says."""
    dhcp_command: tuple[CommandWord, ...] = Field(default=(), max_length=32)
    """Run when a link gets carrier and has no address; ``{interface}`` stands for its name.
    Empty leaves it to the system's own DHCP client."""
    accept_inside: tuple[AcceptanceText, ...] = Field(default=(), max_length=64)
    force_udp_encapsulation: Flag = False
    """x-MIP and IPsec travel in UDP also where no NAT is seen (draft 002, section 4.2.5)."""
    portal_probe: ProbeUrl | None = None
    """Asked for without any proof of ours to recognise captive portals; it must answer 204.
    Without it, ports 80 and 443 of the gateway are asked."""
    mtu: Annotated[Whole, Field(ge=576, le=9000)] = 1400
    """Largest packet of the user's in octets."""


class DataplanePart(Section):
    """``[dataplane]``: what carries the packets."""

    kind: Literal["auto", "kernel", "portable"] = "auto"
    """The kernel, or a process of ours in user space; ``auto`` takes the kernel where it can."""


class Profile(Section):
    """A profile that was read and found usable. Immutable."""

    profile: ProcessPart = ProcessPart()
    gateway: GatewayPart | None = None
    login: LoginPart | None = None
    inside: HomeAgentPart = HomeAgentPart()
    outside: OutsidePart = OutsidePart()
    detection: DetectionPart = DetectionPart()
    hints: HintsPart = HintsPart()
    network: NetworkPart = NetworkPart()
    dataplane: DataplanePart = DataplanePart()

    _path: Path = PrivateAttr(default=Path())
    _warnings: tuple[Problem, ...] = PrivateAttr(default=())

    @property
    def path(self) -> Path:
        """The file this was read from."""
        return self._path

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """What is allowed but should be looked at."""
        return self._warnings

    @property
    def name(self) -> str:
        """Of this device."""
        return self.profile.name

    @property
    def control_socket(self) -> Path:
        """Where the node answers ``gateway mn``."""
        return self.profile.runtime_dir / CONTROL_SOCKET

    @property
    def sealed(self) -> Path | None:
        """The file of secrets that a password opens; None where the profile needs no unlocking."""
        return self.login.sealed if self.login is not None else None


def load_profile(path: Path, *, with_files: bool = True) -> Profile:
    """Read, validate and cross-check a profile.

    ``with_files`` also reads the certificates, keys and secrets it names and checks that they fit.
    Raises :class:`ConfigError` with every problem found.
    """
    tables = read_tables(path, where=_WHERE)
    try:
        profile = Profile.model_validate(tables, context={"directory": path.absolute().parent})
    except ValidationError as error:
        raise ConfigError(problems_of(error, path, Profile)) from None
    from gateway.config.profile_checks import check_profile  # noqa: PLC0415 - costs cryptography

    profile._path = path  # noqa: SLF001 - private to this module, set once
    findings = check_profile(profile, path, with_files=with_files)
    if findings.problems:
        raise ConfigError(findings.problems)
    profile._warnings = tuple(findings.warnings)  # noqa: SLF001
    return profile
