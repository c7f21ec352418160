"""The product's mobile node among the boxes of draft 001 section 2, and what it lets out."""

import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address
from typing import Any, Self

from gateway.lab import plan as lab_plan
from gateway.lab.mobility import boxes, plan, profiles
from gateway.lab.mobility.leaks import Leak, Persistent, give_ipv6, leaks
from gateway.lab.mobility.node import MobileHost
from gateway.lab.mobility.overhead import DEVICE_WIRES, overheads
from gateway.lab.mobility.topology import MobilityLab
from gateway.lab.processes import LabError, wait_until
from gateway.lab.tap import Tap
from gateway.lab.tour_traffic import LiveSession

SERVER, GATEWAY = lab_plan.SERVER, lab_plan.GATEWAY_OUTSIDE
I_HOA, I_HA = plan.INSIDE_HOME_ADDRESS, plan.INSIDE_HOME_AGENT
X_HOA, X_HA = plan.OUTSIDE_HOME_ADDRESS, plan.OUTSIDE_HOME_AGENT

OUTSIDE_LINKS = ("access1", "access2", "nat", "xfalink")
PORTAL_PROBES = ((GATEWAY, 80),)
"""Without a URL in the profile, the gateway's own address is asked for a page."""


class NodeBed:
    """A lab, its boxes, and the node on `device`."""

    def __init__(self, lab: MobilityLab) -> None:
        self.lab = lab
        self.boxes = boxes.Boxes(lab)
        self.node = MobileHost(lab)

    # -- the node ----------------------------------------------------------------------------------

    def run_node(self, *modes: str, at: str | None = None, **keys: Any) -> dict[str, Any]:
        """(Re)start the node with a profile; `at` waits until its mode is this one.

        `modes` are those that the profile allows, besides those of inside.
        """
        self.node.stop()
        allowed = (*profiles.INSIDE_MODES, *modes) if modes else ()
        self.node.write(profiles.profile, modes=allowed, **keys)
        self.node.start()
        return self.node.wait_for_mode(at) if at else self.node.status()

    def go(self, link: str, *, overlapping: bool = False) -> None:
        """Move the device to one of its links."""
        if link in plan.FOREIGN_LINKS:
            self.lab.enter_link(link)
        else:
            self.lab.move(link, make_before_break=overlapping)

    def move(self, link: str, mode: str, *, overlapping: bool = False) -> dict[str, Any]:
        """Move, and wait for the access mode that has to come of it."""
        self.go(link, overlapping=overlapping)
        return self.node.wait_for_mode(mode)

    def octets(self, link: str) -> int:
        """The most that a packet costs on the device's wire."""
        return max(overheads(self.lab, link, I_HOA, SERVER))

    # -- traffic -----------------------------------------------------------------------------------

    def session(self) -> LiveSession:
        """A user's session that must live."""
        return LiveSession(self.lab, SERVER, I_HOA)

    def ping(self, host: str, to: object, *, count: int = 3, source: object = None) -> bool:
        """Whether every echo came back."""
        argv = ["ping", "-n", "-q", "-c", str(count), "-i", "0.2", "-W", "2"]
        argv += ["-I", str(source)] if source else []
        return " 0% packet loss" in self.lab.run(host, [*argv, str(to)], check=False).stdout

    def stop(self) -> None:
        """End everything; what the node and the boxes said is shown by a failing test."""
        with contextlib.suppress(LabError):
            self.node.stop()
        print(f"--- node\n{self.node.output()[-6000:]}")
        for host, box in self.boxes.items():
            print(f"--- gateway on {host}\n{box.output()[-3000:]}")
        self.boxes.end()


class Watch:
    """A user who keeps trying, and taps on every wire of the device's."""

    def __init__(
        self,
        bed: NodeBed,
        probes: tuple[tuple[IPv4Address, int], ...] = PORTAL_PROBES,
        links: tuple[str, ...] = ("plain", "access1", "access2"),
    ) -> None:
        """`links` are those that the user tries straight, whatever the routes say."""
        self._bed, self._probes, self._links = bed, probes, links
        self._ends = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self.tap = self._ends.enter_context(Tap(self._bed.lab, DEVICE_WIRES.values()))
        self.user = self._ends.enter_context(Persistent(self._bed.lab, self._links))
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.close()

    def tries(self, count: int = 400) -> None:
        """Wait until the user has tried that many times more."""
        before = self.user.sent + self.user.refused
        wait_until(lambda: self.user.sent + self.user.refused >= before + count, 60, "the user")

    def until(self, moment: float) -> None:
        """Wait until a moment has passed."""
        wait_until(lambda: time.time() > moment, 60, "the bound to pass")

    def leaks(self, begin: float = 0.0, end: float = float("inf")) -> list[Leak]:
        """The user's packets on any wire in a span of time."""
        return leaks(self.tap.since(begin, end), probes=self._probes)

    def leaks_outside(self, begin: float) -> list[Leak]:
        """Those since a moment on links that lead outside: none is allowed, at no time."""
        outside = {DEVICE_WIRES[link] for link in OUTSIDE_LINKS}
        return [leak for leak in self.leaks(begin) if (leak.host, leak.interface) in outside]

    def plaintext_flows(self) -> None:
        """Wait until a packet of the user's is seen: inside, where it may."""
        now = time.time()
        wait_until(lambda: self.leaks(now), 20, "plaintext inside")


@contextlib.contextmanager
def node_bed(
    access: str = "home", *, started: Mapping[str, boxes.Write] | None = None, **vpn: Any
) -> Iterator[NodeBed]:
    """A lab with all boxes, or those of `started`; `vpn` are keys of the gateway's connections."""
    lab = MobilityLab(f"n{os.getpid()}-")
    lab.up(fresh=True, access=access)
    bed = NodeBed(lab)
    try:
        lab.compute_checksums()
        bed.boxes.start({**boxes.agents(), **boxes.vpn(**vpn)} if started is None else started)
        yield bed
    finally:
        bed.stop()
        lab.down()


def with_ipv6(bed: NodeBed, *links: str) -> None:
    """Let IPv6 work on these links of the device."""
    for link in links:
        give_ipv6(bed.lab, link, DEVICE_WIRES[link])
