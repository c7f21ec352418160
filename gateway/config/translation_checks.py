"""Checks of ``[translations.NAME]``."""

from collections.abc import Iterable

from gateway.config.document import Config
from gateway.config.findings import Findings
from gateway.config.remote_access import TranslationSection
from gateway.domain.child_sa import IpNetwork


def check_translations(config: Config, findings: Findings) -> None:
    """Each by itself, then together, then in connections and profiles."""
    for name, section in config.translations.items():
        _translation(config, f"translations.{name}", section, findings)
    shown = [(one.shown_as, name) for name, one in config.translations.items()]
    for network, name, other in overlaps(shown):
        why = (
            f"overlaps shown_as of translations.{other}: packets to it could mean either; "
            "choose another network"
        )
        findings.refuse(f"translations.{name}.shown_as", network, why)
    _uses(config, findings)


def overlaps(networks: Iterable[tuple[IpNetwork, str]]) -> list[tuple[IpNetwork, str, str]]:
    """Networks that overlap one before them in the order of addresses, with both names."""
    order = sorted(networks, key=lambda one: (one[0].version, int(one[0][0]), one[0].prefixlen))
    found: list[tuple[IpNetwork, str, str]] = []
    widest: tuple[IpNetwork, str] | None = None
    for network, name in order:
        if widest is not None and _overlap(widest[0], network):
            found.append((network, name, widest[1]))
        else:
            widest = network, name
    return found


def _translation(config: Config, key: str, section: TranslationSection, findings: Findings) -> None:
    network, shown = section.network, section.shown_as
    if network.version != shown.version:
        why = f"not of the IP version of network {network}; give an IPv{network.version} network"
        findings.refuse(f"{key}.shown_as", shown, why)
        return
    if network.prefixlen != shown.prefixlen:
        why = f"not of the size of network {network}; give a /{network.prefixlen}"
        findings.refuse(f"{key}.shown_as", shown, why)
        return
    if network.prefixlen == 0:
        findings.refuse(f"{key}.network", network, "everything; name the inside network")
        return
    if _overlap(network, shown):
        why = f"overlaps network {network}, which it is to stand for; choose another network"
        findings.refuse(f"{key}.shown_as", shown, why)
    for listen in config.ike.listen:
        if listen in shown:
            why = f"contains our own address {listen} of ike.listen; choose another network"
            findings.refuse(f"{key}.shown_as", shown, why)


def _uses(config: Config, findings: Findings) -> None:
    used: set[str] = set()
    for key, section, subnets in (
        *((f"connections.{n}", one, one.local_subnets) for n, one in config.connections.items()),
        *((f"profiles.{n}", one, one.subnets or ()) for n, one in config.profiles.items()),
    ):
        names = [one for one in section.translations or () if one in config.translations]
        used.update(names)
        sides = [(config.translations[name].network, name) for name in dict.fromkeys(names)]
        for network, name, other in overlaps(sides):
            why = f"its network {network} overlaps that of translations.{other}; list one of them"
            findings.refuse(f"{key}.translations", name, why)
        for network, name in sides:
            if subnets and not any(_overlap(one, network) for one in subnets):
                why = f"its network {network} is none of what devices reach here; remove it"
                findings.warn(f"{key}.translations", name, why)
            _visible(key, config.translations[name].shown_as, name, subnets, findings)
    for name in config.translations:
        if name not in used:
            why = "is never used; list it in translations of a connection or profile"
            findings.warn(f"translations.{name}", None, why)


def _visible(
    key: str, shown: IpNetwork, name: str, subnets: Iterable[IpNetwork], findings: Findings
) -> None:
    for subnet in subnets:
        if subnet.prefixlen and _overlap(subnet, shown):
            why = (
                f"shows its network as {shown}, which overlaps {subnet} that devices reach here "
                "as it is; choose another shown_as"
            )
            findings.refuse(f"{key}.translations", name, why)


def _overlap(a: IpNetwork, b: IpNetwork) -> bool:
    return a.version == b.version and int(a[0]) <= int(b[-1]) and int(b[0]) <= int(a[-1])
