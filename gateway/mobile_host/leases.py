"""What the system's DHCP clients left in files: the domain and the name servers of a lease.

Only a hint and a convenience: whoever answers DHCP chooses it. Reads are bounded, anything
unreadable is as good as absent.
"""

import re
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

MAX_OCTETS: Final = 64 * 1024
MAX_SERVERS: Final = 4
_DOMAIN = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
_DHCLIENT_DOMAIN = re.compile(r'option domain-name "([^"\n]{1,253})";')
_DHCLIENT_SERVERS = re.compile(r"option domain-name-servers ([0-9., ]{7,100});")
_INTERFACE = re.compile(r'interface "([^"\n]{1,15})";')


@dataclass(frozen=True, slots=True)
class Lease:
    """What was found."""

    domain: str = ""
    name_servers: tuple[IPv4Address, ...] = ()


class Leases:
    """The leases of this host; ``root`` is where its files are."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._networkd = root / "run/systemd/netif/leases"
        self._manager = root / "run/NetworkManager/devices"
        self._dhclient = (root / "var/lib/dhcp", root / "var/lib/dhclient")
        self._resolv_confs = (
            root / "run/systemd/resolve/resolv.conf",
            root / "run/NetworkManager/resolv.conf",
            root / "etc/resolv.conf",
        )

    def of(self, index: int, interface: str) -> Lease:
        """The lease of an interface, empty when there is none that can be read."""
        for text in (_read(self._networkd / str(index)), _read(self._manager / str(index))):
            if text:
                found = _of_keys(text)
                if found != Lease():
                    return found
        return self._of_dhclient(interface)

    def domain(self, index: int, interface: str) -> str:
        """The domain of an interface's lease, or nothing."""
        return self.of(index, interface).domain

    def name_servers(self, index: int, interface: str) -> tuple[IPv4Address, ...]:
        """The name servers of a link; else those of the host, of which it may know better."""
        found = self.of(index, interface).name_servers
        if found:
            return found
        for path in self._resolv_confs:
            words = [line.split() for line in _read(path).splitlines()]
            named = [line[1] for line in words if line[:1] == ["nameserver"] and len(line) > 1]
            if servers := _addresses(named):
                return tuple(one for one in servers if not one.is_loopback)
        return ()

    def _of_dhclient(self, interface: str) -> Lease:
        found = Lease()
        for folder in self._dhclient:
            names = (f"dhclient.{interface}.leases", f"dhclient-{interface}.leases")
            for name in (*names, "dhclient.leases"):
                for block in _read(folder / name).split("lease {")[1:]:
                    of = _INTERFACE.search(block)
                    if of is None or of[1] == interface:
                        found = _of_block(block)  # the last one is the newest
        return found


def _of_keys(text: str) -> Lease:
    """``KEY=value`` lines, as networkd and NetworkManager write them."""
    keys = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    domain = keys.get("DOMAINNAME") or keys.get("domain_name") or keys.get("dhcp4.domain_name", "")
    servers = keys.get("DNS") or keys.get("domain_name_servers", "")
    return Lease(_domain(domain), _addresses(servers.split()))


def _of_block(block: str) -> Lease:
    domain, servers = _DHCLIENT_DOMAIN.search(block), _DHCLIENT_SERVERS.search(block)
    named = servers[1].replace(",", " ").split() if servers is not None else []
    return Lease(_domain(domain[1] if domain is not None else ""), _addresses(named))


def _domain(text: str) -> str:
    text = text.strip().rstrip(".").lower()
    return text if _DOMAIN.fullmatch(text) else ""


def _addresses(words: list[str]) -> tuple[IPv4Address, ...]:
    found = []
    for word in words[: 4 * MAX_SERVERS]:
        try:
            found.append(IPv4Address(word))
        except ValueError:
            continue
    return tuple(found[:MAX_SERVERS])


def _read(path: Path) -> str:
    """The end of a file, as much as is ever looked at."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - MAX_OCTETS))
            return file.read(MAX_OCTETS).decode("utf-8", "replace")
    except OSError:
        return ""
