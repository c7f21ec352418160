"""A forwarder in memory: what it is told, and a descriptor that tells of its end."""

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from gateway.dataplane.interface import DataplaneEvent, Refusal, Usage
from gateway.dataplane.portable.forwarder import ForwarderUnavailableError, HeldSa, RefusedTunnel
from gateway.dataplane.portable.tunnel_link import TunnelLink
from gateway.domain.child_sa import ChildSa, EspKeys


class FakeForwarder:
    """Implements the protocol; :meth:`die` ends it."""

    marks = True
    tun = False

    def __init__(self) -> None:
        self.reading, self.writing = os.pipe()
        self.alive = True
        self.kept: bool | None = None
        self.verbs: list[tuple[Any, ...]] = []
        self.sas: dict[int, HeldSa] = {}
        self.links: dict[str, TunnelLink] = {}
        self.traps: dict[int, ChildSa] = {}
        self.refuse: dict[int, str] = {}
        self.events: list[DataplaneEvent] = []

    def die(self) -> None:
        self.alive = False
        os.close(self.writing)

    def _answer(self) -> None:
        if not self.alive:
            raise ForwarderUnavailableError("killed")

    def install(self, sa: ChildSa, *, outbound: bool, output_mark: int = 0) -> None:
        self.verbs.append(("install", sa.spi_in, output_mark))
        keyless = replace(sa, keys_in=EspKeys(b""), keys_out=EspKeys(b""))
        self.sas[sa.spi_in] = HeldSa(keyless, outbound, soft_limit_reached=False)

    def activate(self, spi_in: int) -> None:
        self.verbs.append(("activate", spi_in))
        reqid = self.sas[spi_in].sa.reqid
        for spi, one in self.sas.items():
            if one.sa.reqid == reqid:
                self.sas[spi] = replace(one, outbound=spi == spi_in)

    def remove(self, spi_in: int) -> None:
        self.verbs.append(("remove", spi_in))
        self.sas.pop(spi_in, None)

    def move(self, spi_in: int, local: Any, remote: Any, *, udp_encapsulation: bool) -> None:
        self.verbs.append(("move", spi_in, remote))
        one = self.sas[spi_in]
        moved = replace(one.sa, local=local, remote=remote, udp_encapsulation=udp_encapsulation)
        self.sas[spi_in] = replace(one, sa=moved)

    def trap(self, sa: ChildSa) -> None:
        self.traps[sa.reqid] = sa

    def untrap(self, reqid: int) -> None:
        self.traps.pop(reqid, None)

    def set_tunnel(self, link: TunnelLink) -> None:
        self.links[link.name] = link

    def remove_tunnel(self, name: str) -> None:
        self.links.pop(name, None)

    def commit(self) -> tuple[list[Refusal], list[RefusedTunnel]]:
        self._answer()
        refused = [Refusal(spi, why) for spi, why in self.refuse.items() if spi in self.sas]
        for refusal in refused:
            del self.sas[refusal.spi_in]
        return refused, []

    def held(self) -> Sequence[HeldSa]:
        self._answer()
        return list(self.sas.values())

    def tunnels(self) -> Sequence[TunnelLink]:
        self._answer()
        return list(self.links.values())

    def usage(self, spi_in: int) -> Usage | None:
        self._answer()
        return Usage(1, 1, 0, 0, 0.0) if spi_in in self.sas else None

    def before_move(self, spi_in: int) -> tuple[int, float | None] | None:
        self._answer()
        return None

    def counters(self) -> dict[str, int]:
        self._answer()
        return {"no_sa": 3, "slow_path_forged": 2}

    def event_fds(self) -> list[int]:
        return [self.reading]

    def read_events(self) -> list[DataplaneEvent]:
        self._answer()
        events, self.events = self.events, []
        return events

    def close(self, *, keep: bool) -> None:
        self.kept = keep
        if keep:
            return
        os.close(self.reading)
        if self.alive:
            os.close(self.writing)
            self.alive = False
