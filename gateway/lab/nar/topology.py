"""The lab of draft 004: clients behind a NAR box, hosts outside that know nothing of it."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping, Sequence
from ipaddress import IPv4Address
from typing import ClassVar

from gateway.lab import netns
from gateway.lab.measured import CHECKOUT
from gateway.lab.mobility.topology import offloads_off
from gateway.lab.nar import plan
from gateway.lab.plan import Access, Port
from gateway.lab.processes import LabError, Process, wait_until
from gateway.lab.topology import SERVER_READY_S, Lab

NAPT = f"""
    table ip lab_napt
    delete table ip lab_napt
    table ip lab_napt {{
        chain post {{
            type nat hook postrouting priority srcnat
            oifname outside ip saddr {plan.INSIDE} masquerade
        }}
    }}
"""
NO_NAPT = "table ip lab_napt\ndelete table ip lab_napt\n"


class NarLab(Lab):
    """The hosts of :mod:`gateway.lab.nar.plan`; nobody moves.

    A web server and a UDP echo (:mod:`gateway.lab.intranet`) run on `y` at Yb. Nothing is
    translated unless `napt` says so: what leaves N with an inside address gets no answer.
    """

    hosts: ClassVar[Sequence[str]] = plan.HOSTS
    wires: ClassVar[Sequence[tuple[Port, Port]]] = plan.WIRES
    routers: ClassVar[Collection[str]] = plan.ROUTERS
    accesses: ClassVar[Mapping[str, Access]] = {}
    routes: ClassVar[Mapping[str, Mapping[str, IPv4Address]]] = plan.ROUTES

    def attach(self, access: str) -> None:
        """Nobody has an access network to choose; does nothing."""

    def napt(self, *, on: bool = True) -> None:
        """Let N's box translate what leaves it by a foreign NAPT, as a router of today does."""
        self.nft("n", NAPT if on else NO_NAPT)
        netns.flush_conntrack(self.namespace("n"))

    def change_address(self, new: IPv4Address = plan.NB_MOVED) -> None:
        """N's provider gives it another address; the pool's route follows."""
        self._ip("n", ["address flush dev outside", f"address add {new}/24 dev outside"])
        self._ip("n", [f"route replace default via {plan.ROUTES['n']['default']}"])
        self._ip("internet", [f"route replace {plan.POOL} via {new}"])

    def serve(self, host: str, address: object) -> Process:
        """A web server and a UDP echo at an address of a host (:mod:`gateway.lab.intranet`)."""
        argv = [sys.executable, "-S", "-m", "gateway.lab.intranet", "--address", str(address)]
        server = self.spawn(host, argv, f"intranet-{host}-{address}", {"PYTHONPATH": CHECKOUT})

        def ready() -> bool:
            if not server.running():
                raise LabError(f"the server on {host} ended: {server.output().strip()}")
            return "ready" in server.output()

        wait_until(ready, SERVER_READY_S, f"the server on {host}")
        return server

    def compute_checksums(self) -> None:
        """Let every interface compute checksums and cut segments itself, as hardware would."""
        for host in self.hosts:
            names = [port.interface for wire in self.wires for port in wire if port.host == host]
            netns.made_inside(self.namespace(host), lambda names=names: offloads_off(names))  # type: ignore[misc]

    def _build(self) -> None:
        super()._build()
        lines = [
            f"link add {plan.BRIDGE} type bridge forward_delay 0",
            f"link set {plan.BRIDGE} up",
        ]
        lines += [f"link set {port} master {plan.BRIDGE} up" for port in plan.BRIDGE_PORTS]
        self._ip("lan", lines)
        self._ip("y", [f"address add {plan.Y2}/24 dev uplink"])

    def _start_server(self) -> None:
        self.serve("y", plan.Y)

    def _set_nat(self, mapping: int) -> None:
        """There is no router with a mapping that changes here."""
