"""Checks of what pools say of their leases, and of how the inside learns of them."""

from gateway.config.document import Config
from gateway.config.findings import Findings
from gateway.config.sections import PoolSection
from gateway.domain.child_sa import IpNetwork
from gateway.domain.endpoint import IpAddress


def check_leases(config: Config, findings: Findings) -> None:
    """Everything that the text alone can get wrong."""
    for name, pool in config.pools.items():
        key = f"pools.{name}"
        _static(key, pool, findings)
        _advertise(config, key, pool, findings)
        _other_networks(config, key, pool.network, findings)


def _static(key: str, pool: PoolSection, findings: Findings) -> None:
    network, seen = pool.network, dict[IpAddress, str]()
    for who, address in pool.static.items():
        where = f"{key}.static.{who}"
        if address not in network:
            why = f"not in the pool's network {network}; choose an address of it"
            findings.refuse(where, address, why)
        elif _is_no_host(network, address):
            why = f"no host of {network} has its first or last address; choose another one"
            findings.refuse(where, address, why)
        elif address in seen:
            why = f"is {seen[address]}'s already; an address is static for one only"
            findings.refuse(where, address, why)
        seen.setdefault(address, who)


def _is_no_host(network: IpNetwork, address: IpAddress) -> bool:
    if network.version == 6:
        return network.prefixlen < 127 and address == network[0]
    return network.prefixlen < 31 and address in (network[0], network[-1])


def _advertise(config: Config, key: str, pool: PoolSection, findings: Findings) -> None:
    interface = pool.inside_interface
    if pool.advertise == "proxy-arp":
        if interface is None:
            why = 'is required with advertise = "proxy-arp"; name the interface towards the inside'
            findings.refuse(f"{key}.inside_interface", None, why)
    elif interface is not None:
        why = f'only with advertise = "proxy-arp", not "{pool.advertise}"; remove it'
        findings.refuse(f"{key}.inside_interface", interface, why)
    if interface is None:
        return
    if interface in (config.dataplane.xfrm_interface, "lo"):
        why = "nobody is behind it who could ask; name the interface towards the inside"
        findings.refuse(f"{key}.inside_interface", interface, why)
    if interface in config.dataplane.outside_interfaces:
        why = "is one of dataplane.outside_interfaces; name the interface towards the inside"
        findings.refuse(f"{key}.inside_interface", interface, why)


def _other_networks(config: Config, key: str, network: IpNetwork, findings: Findings) -> None:
    """What else of the configuration has addresses of the pool."""
    for name, translation in config.translations.items():
        for field in ("network", "shown_as"):
            other: IpNetwork = getattr(translation, field)
            if _overlap(network, other):
                why = (
                    f"overlaps translations.{name}.{field} {other}: a packet there could be for a"
                    " device or for the inside; choose another network"
                )
                findings.refuse(f"{key}.network", network, why)
    for name, napt in config.napt.items():
        for first, last in napt.addresses:
            within = first.version == network.version
            if within and int(first) <= int(network[-1]) and int(network[0]) <= int(last):
                why = f"contains {first} of napt.{name}.addresses; choose another network"
                findings.refuse(f"{key}.network", network, why)
    for name, bridge in config.bridges.items():
        if bridge.address in network and not _is_reserved(config, key, bridge.address):
            why = (
                f"contains {bridge.address} of bridges.{name}.address, which devices could get;"
                f" add it to {key}.reserved"
            )
            findings.refuse(f"{key}.network", network, why)


def _is_reserved(config: Config, key: str, address: IpAddress) -> bool:
    pool = config.pools[key.removeprefix("pools.")]
    return any(address in one for one in pool.reserved) or _is_no_host(pool.network, address)


def _overlap(a: IpNetwork, b: IpNetwork) -> bool:
    return a.version == b.version and int(a[0]) <= int(b[-1]) and int(b[0]) <= int(a[-1])
