"""How devices find the gateway: records for a domain's public DNS (RFC 2230, RFC 2782)."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from gateway.domain.endpoint import Endpoint, IpAddress

_HOST = re.compile(r"([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
TTL_S = 3600


@dataclass(frozen=True, slots=True)
class Record:
    """A line of a zone file. Names end with a dot."""

    owner: str
    type: str
    data: str

    def __str__(self) -> str:
        return f"{self.owner} {TTL_S} IN {self.type} {self.data}"


@dataclass(frozen=True, slots=True)
class Publication:
    """What is to be published, and what keeps it from being of use."""

    domain: str
    host: str
    records: tuple[Record, ...]
    advice: tuple[str, ...]


def host_of(domain: str, names: Iterable[str]) -> str:
    """The first of ``names`` that is a host name with a domain; else ``vpn`` in ``domain``."""
    for name in names:
        text = name.rstrip(".").lower()
        if _HOST.fullmatch(text):
            return text
    return f"vpn.{domain}"


def publication(  # noqa: PLR0917 - one thing each
    domain: str,
    host: str,
    addresses: Iterable[IpAddress],
    port: int,
    nat_port: int,
    tcp: Iterable[Endpoint],
) -> Publication:
    """The records for ``domain``, in whose DNS devices look.

    KX names the host that exchanges keys for everything below the domain; SRV has the services as
    IANA names them, TCP encapsulation (RFC 9329) included where it is on.
    """
    usable = [one for one in addresses if not one.is_unspecified]
    public = [one for one in usable if one.is_global]
    advice: list[str] = []
    if not usable:
        advice.append("ike.listen names no address: replace ADDRESS with the outside address")
    elif not public:
        advice.append(
            f"{usable[0]} is not reachable from the Internet: publish the address that leads to it"
        )
    lines = list(_records(domain, host, public or usable, port, nat_port, tcp))
    if not usable:
        lines.append(Record(f"{host}.", "A", "ADDRESS"))
    return Publication(domain, host, tuple(lines), tuple(advice))


def _records(  # noqa: PLR0917 - one thing each
    domain: str,
    host: str,
    addresses: Iterable[IpAddress],
    port: int,
    nat_port: int,
    tcp: Iterable[Endpoint],
) -> Iterator[Record]:
    yield Record(f"{domain}.", "KX", f"10 {host}.")
    yield Record(f"_isakmp._udp.{domain}.", "SRV", f"10 0 {port} {host}.")
    yield Record(f"_ipsec-nat-t._udp.{domain}.", "SRV", f"10 0 {nat_port} {host}.")
    for one in sorted({endpoint.port for endpoint in tcp}):
        yield Record(f"_ipsec-nat-t._tcp.{domain}.", "SRV", f"10 0 {one} {host}.")
    for address in addresses:
        yield Record(f"{host}.", "A" if address.version == 4 else "AAAA", str(address))
