"""Clients and leases of NAR servers as clients of the control socket see them."""

from collections.abc import Mapping
from datetime import UTC, datetime
from ipaddress import IPv4Address
from typing import Final, Protocol

from gateway.domain.nar import NarMapping, NarProtocol, NarTuple

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


def lease_id(key: NarTuple) -> str:
    """A name for a lease that sorts: protocol, address, value, remote and its port."""
    remote = 0 if key.remote is None else int(key.remote)
    return (
        f"{int(key.protocol):02x}_{int(key.address):08x}_{key.value:08x}_{remote:08x}"
        f"_{key.remote_port or 0:04x}"
    )


def lease_key(name: str) -> NarTuple:
    """The tuple of a lease's name. Raises ValueError for a protocol that nobody leases."""
    protocol, address, value, remote, port = (int(part, 16) for part in name.split("_"))
    return NarTuple(
        NarProtocol(protocol),
        IPv4Address(address),
        value,
        IPv4Address(remote) if remote else None,
        port or None,
    )


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


def _rounded(seconds: object) -> float | None:
    return round(seconds, 3) if isinstance(seconds, int | float) else None


def client_view(client: Mapping[str, object]) -> dict[str, object]:
    """A session as :class:`gateway.api.models_nar.NarClient` describes it."""
    return {
        "id": client.get("session"),
        "server": client.get("server"),
        "client": client.get("client"),
        "user": client.get("user") or None,
        "rule": client.get("rule"),
        "address": client.get("address"),
        "delivery": client.get("delivery"),
        "tls": client.get("tls"),
        "connected": client.get("connected"),
        "renews": client.get("has_session"),
        "leases": client.get("leases"),
        "since": time_text(client.get("since_wall_s")),
        "expires_in_s": _rounded(client.get("expires_in_s")),
    }


def mapping_view(name: str, lease: Mapping[str, object]) -> dict[str, object]:
    """A lease as :class:`gateway.api.models_nar.NarLease` describes it."""
    key = lease_key(name)
    return {
        "id": name,
        "server": lease.get("server"),
        **_tuple_view(key),
        "client": lease.get("client"),
        "user": lease.get("user") or None,
        "rule": lease.get("rule"),
        "delivery": lease.get("delivery"),
        "client_port": lease.get("client_port") or None,
        "peer": lease.get("peer"),
        "since": time_text(lease.get("opened_wall_s")),
        "expires_in_s": _rounded(lease.get("expires_in_s")),
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
