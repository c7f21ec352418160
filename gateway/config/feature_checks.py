"""Checks of what only one version of IKE has, and of mechanisms that need each other."""

from gateway.config.connection import AdvertisementSection, ConnectionSection
from gateway.config.document import Config
from gateway.config.findings import Findings
from gateway.config.vpn_agent import agent_of, uses_vpn_fa, vpn_agents

_V1_ONLY = ("exchange", "allow_aggressive_psk", "config_mode")
_V2_ONLY = ("ppk_id", "ppk_file", "ppk_required", "return_routability", "eap_identity")

AGGRESSIVE_WARNING = (
    "shows a hash of the shared key to whoever asks for it, who can then guess the key offline, "
    "without being noticed; use main mode or IKEv2, or a key of at least 128 random bits"
)


def check_features(
    config: Config, key: str, section: ConnectionSection, findings: Findings
) -> None:
    """One connection."""
    _version(key, section, findings)
    _aggressive(key, section, findings)
    _ppk(key, section, findings)
    _foreign_agent(config, key, section, findings)
    _revocation(config, key, section, findings)


def _version(key: str, section: ConnectionSection, findings: Findings) -> None:
    other, foreign = (2, _V2_ONLY) if section.ike_version == 1 else (1, _V1_ONLY)
    for name in foreign:
        value = getattr(section, name)
        if value != type(section).model_fields[name].default:
            why = f"only with ike_version = {other}; remove it, or change ike_version"
            findings.refuse(f"{key}.{name}", value, why)
    if section.ike_version == 1:
        for proposal in section.ike_proposals:
            words = proposal.lower().split("-")
            if any(word.startswith("ke") and word[2:3].isdigit() for word in words):
                why = "additional key exchanges are for IKEv2; leave them out with ike_version = 1"
                findings.refuse(f"{key}.ike_proposals", proposal, why)
        if (section.local_auth == "psk") != (section.remote_auth == "psk"):
            why = "IKEv1 has one kind of proof for both devices; use psk on both sides or neither"
            findings.refuse(f"{key}.remote_auth", section.remote_auth, why)


def _aggressive(key: str, section: ConnectionSection, findings: Findings) -> None:
    if section.exchange != "aggressive" or section.ike_version != 1:
        if section.allow_aggressive_psk and section.ike_version == 1:
            why = 'is only for exchange = "aggressive"; remove it'
            findings.refuse(f"{key}.allow_aggressive_psk", True, why)
        return
    if "psk" not in (section.local_auth, section.remote_auth):
        return
    if section.allow_aggressive_psk:
        findings.warn(f"{key}.exchange", section.exchange, AGGRESSIVE_WARNING)
        return
    why = (
        f"with a shared key it {AGGRESSIVE_WARNING}; "
        "if you accept that, set allow_aggressive_psk = true"
    )
    findings.refuse(f"{key}.exchange", section.exchange, why)


def _ppk(key: str, section: ConnectionSection, findings: Findings) -> None:
    if section.ppk_id is not None and section.ppk_file is None:
        why = "is required with ppk_id; give a file with the key"
        findings.refuse(f"{key}.ppk_file", None, why)
    if section.ppk_id is None:
        for name in ("ppk_file", "ppk_required"):
            if getattr(section, name):
                why = "needs ppk_id, the name of the key that both sides use"
                findings.refuse(f"{key}.{name}", getattr(section, name), why)


def _foreign_agent(
    config: Config, key: str, section: ConnectionSection, findings: Findings
) -> None:
    told, where = section.foreign_agent, f"{key}.foreign_agent"
    _home_addresses(config, key, section, findings)
    _reachable(config, key, section, findings)
    if told is None:
        _agent_needed(config, key, section, findings)
        return
    if section.remote is not None:
        why = "is for the gateway's side; a connection that we open learns it from the gateway"
        findings.refuse(where, None, why)
    elif not uses_vpn_fa(config, section):
        why = 'is never used; set vpn_fa = "allowed", or remove the table'
        findings.refuse(where, None, why)
    if told.name is not None:
        _named_agent(config, where, told, findings)
        return
    if not told.care_of_addresses:
        why = 'is empty; give the agent\'s care-of addresses, or name = "NAME" of one of ours'
        findings.refuse(f"{where}.care_of_addresses", None, why)
    ours = {config.foreign_agents[name].care_of_address for name in vpn_agents(config)}
    for address in told.care_of_addresses:
        if address.is_multicast or address.is_loopback or address.is_unspecified:
            why = "not an address that mobile nodes can reach"
            findings.refuse(f"{where}.care_of_addresses", address, why)
        elif ours and address not in ours:
            why = (
                "no foreign agent with through_vpn has it, so nobody answers there; "
                f"choose one of: {', '.join(map(str, sorted(ours)))}"
            )
            findings.refuse(f"{where}.care_of_addresses", address, why)


def _home_addresses(
    config: Config, key: str, section: ConnectionSection, findings: Findings
) -> None:
    """Behind the tunnel, whoever negotiates a home address gets what is sent to it."""
    if section.remote is not None or not uses_vpn_fa(config, section):
        return
    shared = "*" in section.remote_id
    for network in section.remote_subnets:
        if shared and network.num_addresses > 1:
            why = (
                "with VPN/FA, every device of this connection may take any of these home addresses "
                "from another one; give each device a connection with its own remote_id and "
                "home address"
            )
            findings.warn(f"{key}.remote_subnets", network, why)


def _reachable(config: Config, key: str, section: ConnectionSection, findings: Findings) -> None:
    """Registrations have to fit through the tunnel."""
    name = agent_of(config, section)
    if name is None:
        return
    address = config.foreign_agents[name].care_of_address
    if not any(address in network for network in section.local_subnets):
        why = (
            f"does not hold {address}, the care-of address of foreign_agents.{name}: the tunnel "
            f'does not carry registrations; add "{address}/32"'
        )
        findings.warn(f"{key}.local_subnets", list(map(str, section.local_subnets)), why)


def _agent_needed(config: Config, key: str, section: ConnectionSection, findings: Findings) -> None:
    if section.remote is not None:
        return
    known = vpn_agents(config)
    if not known and section.vpn_fa != "off":
        why = (
            f"needs a table [{key}.foreign_agent] that names the agent's care_of_addresses, "
            "or [foreign_agents.NAME] with through_vpn = true"
        )
        findings.refuse(f"{key}.vpn_fa", section.vpn_fa, why)
    elif len(known) > 1 and uses_vpn_fa(config, section):
        why = f"is required, because there are several; choose one of: {', '.join(known)}"
        findings.refuse(f"{key}.foreign_agent", None, why)


def _named_agent(
    config: Config, where: str, told: AdvertisementSection, findings: Findings
) -> None:
    known = vpn_agents(config)
    if told.name not in known:
        names = f"choose one of: {', '.join(known)}" if known else "there is none yet"
        why = f"no foreign agent with through_vpn = true; {names}"
        findings.refuse(where, told.name, why)
    for field in sorted(told.model_fields_set - {"name"}):
        why = f"excludes name: [foreign_agents.{told.name}] says it; remove it here"
        findings.refuse(f"{where}.{field}", None, why)


def _revocation(config: Config, key: str, section: ConnectionSection, findings: Findings) -> None:
    shared = config.credentials
    mode = section.revocation or shared.revocation
    sources = section.crl_files or shared.crl_files or section.ocsp_responder
    where = key if section.revocation else "credentials"
    if mode == "required" and not sources and not shared.ocsp_responder:
        why = "nothing says what was revoked; give crl_files or ocsp_responder"
        findings.refuse(f"{where}.revocation", mode, why)
    if mode == "off":
        for name in ("crl_files", "ocsp_responder"):
            if getattr(section, name):
                why = f'is never used with revocation = "off" in {where}'
                findings.refuse(f"{key}.{name}", getattr(section, name), why)
    if section.allow_sha1_signatures:
        why = "SHA-1 is broken: who can make a collision can forge a proof; renew the device"
        findings.warn(f"{key}.allow_sha1_signatures", True, why)
