"""Checks of what administrators connect to, and of devices that the file names."""

from gateway.config.administration import DeviceSection
from gateway.config.document import Config
from gateway.config.findings import Findings
from gateway.ike.auth.identity import Identity


def check_administration(config: Config, findings: Findings) -> None:
    """``[api]``, ``[provisioning]`` and ``[devices.NAME]``."""
    _api(config, findings)
    _provisioning(config, findings)
    identities: dict[str, str] = {}
    for name, device in config.devices.items():
        key = f"devices.{name}"
        for field, value, why in device_faults(config, device):
            findings.refuse(f"{key}.{field}", value, why)
        other = identities.setdefault(comparable_identity(device.identity), name)
        if other != name:
            why = f"is that of devices.{other} as well; give each device its own"
            findings.refuse(f"{key}.identity", device.identity, why)


def _api(config: Config, findings: Findings) -> None:
    api = config.api
    if not api.tls and not api.listen.address.is_loopback:
        why = (
            "without TLS the API listens on loopback only; "
            'remove tls = false, or give "127.0.0.1:8443"'
        )
        findings.refuse("api.listen", api.listen, why)
    if api.listen.address.is_multicast:
        findings.refuse("api.listen", api.listen, "not an address of a host")
    _pair("api", "certificate", "private_key", config, findings)
    if not api.tls and api.certificate is not None:
        why = "is never used without TLS; remove it, or tls = false"
        findings.refuse("api.certificate", api.certificate, why)


def _provisioning(config: Config, findings: Findings) -> None:
    _pair("provisioning", "ca_certificate", "ca_private_key", config, findings)


def _pair(section: str, one: str, other: str, config: Config, findings: Findings) -> None:
    table = getattr(config, section)
    for given, missing in ((one, other), (other, one)):
        if getattr(table, given) is not None and getattr(table, missing) is None:
            findings.refuse(f"{section}.{missing}", None, f"is required with {given}; give both")


def canonical_identity(text: str) -> str:
    """An identity as it is compared and shown; the text itself where it is none."""
    try:
        return str(Identity.parse(text))
    except ValueError:
        return text


def comparable_identity(text: str) -> str:
    """One text for all spellings of an identity, or of a user's name, that count as the same.

    Peers choose the spelling: whoever is blocked must not come back in capitals.
    """
    try:
        return Identity.parse(text).comparable()
    except ValueError:
        return text.casefold()


def device_faults(config: Config, device: DeviceSection) -> list[tuple[str, object, str]]:
    """Field, value and reason of what does not fit the rest of the configuration."""
    found: list[tuple[str, object, str]] = []
    try:
        Identity.parse(device.identity)
    except ValueError as error:
        found.append(("identity", device.identity, f"not an identity: {error}"))
    for field, table in (("connection", "connections"), ("mobile_node", "mobile_nodes")):
        name = getattr(device, field)
        known = getattr(config, table)
        outside = field == "mobile_node" and config.mobility.mobile_nodes_file is not None
        if name is not None and name not in known and not outside:
            choice = ", ".join(list(known)[:10])
            why = f"no such table; choose one of: {choice}" if choice else "no such table"
            found.append((field, name, why))
    return found
