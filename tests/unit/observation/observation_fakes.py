"""An engine and a clock that say what a test tells them."""

from dataclasses import replace
from typing import Any

from gateway.dataplane.interface import Usage
from gateway.domain.event import Event, Severity
from gateway.ike.snapshot import ChildSaSnapshot, IkeSaSnapshot

GCM = "aes_gcm_16_256/esn"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.now + 1_700_000_000.0


class Engine:
    """IKE SAs and child SAs by name."""

    def __init__(self) -> None:
        self.sas: dict[str, IkeSaSnapshot] = {}
        self.children: dict[int, ChildSaSnapshot] = {}
        self.pools: dict[str, Any] = {}
        self.counters: dict[str, int] = {}

    def ike_sa_names(self) -> Any:
        return [(sa.spis, sa.connection) for sa in self.sas.values()]

    def child_sa_names(self) -> Any:
        return [(sa.spi_in, sa.ike_spis, sa.connection) for sa in self.children.values()]

    def ike_sas(self, now: float, names: Any) -> Any:
        return [self.sas[name] for name in names if name in self.sas]

    def child_sas(self, now: float, spis_in: Any) -> Any:
        return [self.children[spi] for spi in spis_in if spi in self.children]

    def connect(self, peer: str, number: int = 1, **changed: Any) -> Event:
        """A login; the event that tells of it."""
        spis = f"{number:016x}_{number + 0x1000:016x}"
        spi_in = number + 0x100000
        child = {
            name: changed.pop(name)
            for name in ("vpn_fa", "endpoint_update", "encapsulated", "remote_ts", "suite")
            if name in changed
        }
        sa = _ike(spis, peer, f"{spi_in:08x}", **changed)
        self.sas[spis] = sa
        self.children[spi_in] = _child(spis, peer, spi_in, sa, **child)
        fields = {
            "peer": peer,
            "connection": sa.connection,
            "spis": spis,
            "remote": sa.remote,
            "session": f"session-{number}",
        }
        return Event("ike_sa_established", f"{peer} connected from {sa.remote}", fields=fields)

    def move(self, event: Event, new: str) -> Event:
        spis = str(event.fields["spis"])
        old = self.sas[spis].remote
        self.sas[spis] = replace(self.sas[spis], remote=new, idle_s=0.0)
        fields = {**event.fields, "old": old, "new": new, "proof": "esp icv, sequence 7"}
        return Event("endpoint_moved", f"moved from {old} to {new}", fields=fields)

    def close(self, event: Event) -> Event:
        spis = str(event.fields["spis"])
        sa = self.sas.pop(spis)
        for spi in sa.child_sas:
            self.children.pop(int(spi, 16), None)
        return Event("ike_sa_closed", "closed", fields={**event.fields, "reason": "deleted"})


def _ike(spis: str, peer: str, child: str, **changed: Any) -> IkeSaSnapshot:
    given = {
        "spis": spis,
        "local_spi": spis[-16:],
        "state": "established",
        "initiator": False,
        "version": 2,
        "connection": "staff",
        "peer": peer,
        "user": "",
        "profile": "",
        "auth": "certificate",
        "local_id": "gw",
        "local": "192.0.2.1:4500",
        "remote": "198.51.100.7:4500",
        "inner_address": "10.9.0.2",
        "inner_addresses": ("10.9.0.2",),
        "suite": "x",
        "encapsulated": True,
        "local_natted": False,
        "remote_natted": True,
        "mobike": True,
        "fragmentation": True,
        "peer_knows_endpoint_update": False,
        "peer_knows_vpn_fa": False,
        "age_s": 0.0,
        "idle_s": 0.0,
        "rekey_in_s": None,
        "child_sas": (child,),
        "last_move": None,
        **changed,
    }
    names = IkeSaSnapshot.__dataclass_fields__
    return IkeSaSnapshot(**{name: given.get(name) for name in names})  # type: ignore[arg-type]


def _child(spis: str, peer: str, spi_in: int, sa: IkeSaSnapshot, **changed: Any) -> ChildSaSnapshot:
    given = {
        "spi_in": spi_in,
        "spi_out": spi_in + 0x1000000,
        "reqid": spi_in,
        "state": "installed",
        "connection": sa.connection,
        "peer": peer,
        "ike_spis": spis,
        "local": sa.local,
        "remote": sa.remote,
        "suite": GCM,
        "encapsulated": True,
        "outbound_active": True,
        "endpoint_update": False,
        "vpn_fa": False,
        "local_ts": ("10.1.0.0/16",),
        "remote_ts": (f"{sa.inner_address}/32",),
        "age_s": 0.0,
        "last_move": None,
        **changed,
    }
    names = ChildSaSnapshot.__dataclass_fields__
    return ChildSaSnapshot(**{name: given.get(name) for name in names})  # type: ignore[arg-type]


class Chronicle:
    def __init__(self) -> None:
        self.use: list[tuple[Any, ...]] = []
        self.entries: list[tuple[Any, ...]] = []

    def used(self, identity: Any, counts: Any, connected_s: Any, handovers: Any = 0) -> None:
        self.use.append((identity, counts, connected_s, handovers))

    def happened(self, identity: Any, session: Any, what: Any, text: Any, fields: Any) -> None:
        self.entries.append((identity, session, what, text, fields))


def failed(peer: str, reason: str = "user bob: wrong password", **fields: Any) -> Event:
    given = {"peer": peer, "remote": "198.51.100.9:500", "step": "IKE_AUTH", "reason": reason}
    return Event("handshake_failed", reason, Severity.WARNING, {**given, **fields})


def usage(octets_in: int, octets_out: int, packets_in: int, packets_out: int) -> Usage:
    return Usage(octets_in, packets_in, octets_out, packets_out, None)
