"""Clients and leases of NAR servers as clients of the control socket see them."""

from collections.abc import Mapping
from datetime import UTC, datetime
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Final, Protocol

from gateway.domain.nar import NarMapping, NarProtocol, NarTuple

if TYPE_CHECKING:  # most gateways have no NAR server, and need not load it
    from gateway.nar.server.listing import Place

WORDS: Final = {
    NarProtocol.TCP: "tcp",
    NarProtocol.UDP: "udp",
    NarProtocol.ICMP: "icmp",
    NarProtocol.ESP: "esp",
    NarProtocol.AH: "ah",
    NarProtocol.IP_IP: "ip-ip",
    NarProtocol.GRE: "gre",
}
"""As the configuration spells them."""
PROTOCOLS: Final = {word: protocol for protocol, word in WORDS.items()}


class AuditRow(Protocol):
    """What is shown of an entry of the audit."""

    @property
    def id(self) -> int:
        """Rises with time."""

    @property
    def server(self) -> str:
        """Name of the NAR server."""

    @property
    def user(self) -> str:
        """Empty: needed no login."""

    @property
    def client(self) -> str:
        """Where the client was."""

    @property
    def mapping(self) -> NarMapping:
        """What it held."""

    @property
    def opened_s(self) -> float:
        """Since when, seconds since 1970."""

    @property
    def closed_s(self) -> float | None:
        """Until when; None: still."""

    @property
    def reason(self) -> str:
        """Why it ended."""


def lease_value(lease: Mapping[str, object]) -> int:
    """The port, identifier, SPI or inner address of a lease of :mod:`gateway.nar.server.views`."""
    for name in ("port", "identifier", "spi"):
        value = lease.get(name)
        if isinstance(value, int):
            return value
    return int(IPv4Address(str(lease["inner"])))


def client_cursor(server: int, place: "Place") -> str:
    """Where a client is in the list."""
    return f"{server:02x}_{place.client:08x}_{place.lost:d}_{place.number:016x}"


def session_cursor(server: int, place: "Place") -> str:
    """Where a session is in the list of leases: by client, then in the order of its name."""
    return f"{server:02x}_{place.client:08x}_{place.number:016x}"


def value_text(protocol: NarProtocol, value: int) -> str:
    """A port, an identifier, an SPI or an inner address, as people write it."""
    if protocol.is_tunnel:
        return str(IPv4Address(value))
    if protocol in (NarProtocol.ESP, NarProtocol.AH):
        return f"0x{value:08x}"
    return str(value)


def parse_value(text: str) -> int:
    """What :func:`value_text` wrote, or a plain number. Raises ValueError."""
    if "." in text:
        return int(IPv4Address(text))
    return int(text, 16) if text[:2].lower() == "0x" else int(text)


def time_text(wall_s: object) -> str | None:
    """Seconds since 1970 as UTC."""
    if not isinstance(wall_s, int | float):
        return None
    return datetime.fromtimestamp(wall_s, UTC).isoformat(timespec="milliseconds")


def _remaining(until_s: object, wall_s: float) -> float | None:
    return round(max(0.0, until_s - wall_s), 3) if isinstance(until_s, int | float) else None


def client_view(client: Mapping[str, object], wall_s: float) -> dict[str, object]:
    """A client as :class:`gateway.api.models_nar.NarClient` describes it."""
    return {
        "server": client.get("server"),
        "client": client.get("client"),
        "port": client.get("port"),
        "user": client.get("user") or None,
        "rule": client.get("rule"),
        "state": client.get("state"),
        "connected": client.get("state") != "lost",
        "tls": client.get("tls"),
        "address": client.get("address"),
        "target": client.get("target"),
        "delivery": client.get("delivery"),
        "session": client.get("session"),
        "resumable": client.get("resumable"),
        "leases": client.get("leases"),
        "since": time_text(client.get("since")),
        "expires_in_s": _remaining(client.get("expires"), wall_s),
    }


def mapping_view(lease: Mapping[str, object], wall_s: float) -> dict[str, object]:
    """A lease as :class:`gateway.api.models_nar.NarLease` describes it."""
    protocol = PROTOCOLS[str(lease["protocol"])]
    return {
        "id": lease.get("id"),
        "server": lease.get("server"),
        "protocol": lease.get("protocol"),
        "address": lease.get("address"),
        "value": value_text(protocol, lease_value(lease)),
        "remote": lease.get("remote"),
        "remote_port": lease.get("remote_port"),
        "client": lease.get("client"),
        "user": lease.get("user") or None,
        "rule": lease.get("rule"),
        "session": lease.get("session"),
        "connected": lease.get("connected"),
        "delivery": lease.get("delivery"),
        "client_port": lease.get("client_port") or None,
        "peer": lease.get("peer"),
        "since": time_text(lease.get("since")),
        "expires_in_s": _remaining(lease.get("expires"), wall_s),
    }


def _tuple_view(key: NarTuple) -> dict[str, object]:
    return {
        "protocol": WORDS[key.protocol],
        "address": str(key.address),
        "value": value_text(key.protocol, key.value),
        "remote": None if key.remote is None else str(key.remote),
        "remote_port": key.remote_port,
    }


def audit_view(row: AuditRow) -> dict[str, object]:
    """An entry as :class:`gateway.api.models_nar.NarAuditEntry` describes it."""
    mapping = row.mapping
    return {
        "id": audit_cursor(row.id),
        "server": row.server,
        **_tuple_view(mapping.tuple),
        "client": str(mapping.client),
        "user": row.user or None,
        "delivery": mapping.delivery.value,
        "client_port": mapping.client_port or None,
        "peer": None if mapping.peer is None else str(mapping.peer),
        "since": time_text(row.opened_s),
        "until": time_text(row.closed_s),
        "ended_by": row.reason or None,
    }


def audit_cursor(number: int) -> str:
    """Where a page of the audit ends."""
    return f"{number:016x}"
