"""The whole of draft 001 section 2 with the product on every host: what the tour goes through."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Self

from gateway.lab import netns
from gateway.lab import plan as lab_plan
from gateway.lab.mobility import boxes, plan, profiles
from gateway.lab.mobility.node import MobileHost
from gateway.lab.mobility.overhead import overheads
from gateway.lab.mobility.roles import POOL
from gateway.lab.mobility.topology import MobilityLab

MODE_S = 30.0
UNUSABLE = frozenset({"", "no carrier", "no address"})
NAT = """
table ip everywhere {{
    chain out {{
        type nat hook postrouting priority srcnat; policy accept;
        ip saddr {network} oifname "{interface}" masquerade
    }}
    chain back {{
        type filter hook forward priority filter; policy accept;
        iifname "{interface}" ip daddr {network} ct state new drop
    }}
}}
"""
"""As of any NAT, what is behind it cannot be reached from outside before it has spoken itself.

A home agent that revokes a binding again and again would else make the path to the care-of
address one without translation, for the device's next registration as well.
"""
NO_NAT = "add table ip everywhere; delete table ip everywhere"
BETWEEN = {
    "xha": (str(plan.OUTSIDE_HOME_NETWORK), "uplink"),
    "internet": (str(plan.OUTSIDE_HOME_NETWORK), "dmz"),
    "core": (POOL, "iha"),
}
"""Where further NATs can translate: between x-HA and gateway, and between gateway and i-HA."""


@contextmanager
def translated(lab: MobilityLab, *hosts: str) -> Iterator[None]:
    """Have NATs on these hosts of :data:`BETWEEN` as long as the block lasts."""
    for host in hosts:
        network, interface = BETWEEN[host]
        lab.nft(host, NAT.format(network=network, interface=interface))
    _forget_flows(lab, *hosts)
    try:
        yield
    finally:
        for host in hosts:
            lab.nft(host, NO_NAT)
        _forget_flows(lab, *hosts)


def _forget_flows(lab: MobilityLab, *hosts: str) -> None:
    """Have the NATs begin anew: of a flow that a tracker knows it changes nothing."""
    for host in hosts:
        netns.flush_conntrack(lab.namespace(host))


def _verdict(found: Mapping[str, Any], link: str) -> str:
    links = [one for one in found["interfaces"] if one["interface"] == link]
    return str(links[0]["verdict"]) if links else ""


class Stage:
    """A lab, its five gateways, and a mobile node that starts with `become`; a context manager.

    The device is at home at first. `gateway` are further keys of the gateway's connections.
    """

    def __init__(self, prefix: str, **gateway: Any) -> None:  # noqa: ANN401 - keys of a table
        self.lab = MobilityLab(prefix)
        self.boxes = boxes.Boxes(self.lab)
        self._gateway = gateway
        self._ends = ExitStack()

    def __enter__(self) -> Self:
        self._ends.enter_context(self.lab)
        try:
            self.lab.compute_checksums()
            self.lab.move("home")
            self.boxes.start({**boxes.agents(), **boxes.vpn(**self._gateway)})
            self.node = MobileHost(self.lab)
        except BaseException:
            self._ends.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        # The lab's end is the end of every process in it.
        self._ends.close()

    def become(self, mode: str, profile: Mapping[str, Any]) -> None:
        """Start the node anew with a profile, where the device is, and wait for a mode."""
        self.node.stop()
        self.node.write(profiles.profile, **profile)
        self.node.start()
        self.node.wait_for_mode(mode, timeout_s=MODE_S)

    def enter(self, link: str) -> None:
        """Move the device onto one of its links; it leaves the last one first."""
        if link in plan.FOREIGN_LINKS:
            self.lab.enter_link(link)
        else:
            self.lab.move(link)

    def join(self, link: str) -> None:
        """Bring one more link up, and wait until the node sees that it could be used."""
        self.lab.attach(link)
        self.node.wait_for(
            lambda found: _verdict(found, link) not in UNUSABLE, f"{link} to be usable"
        )

    def leave(self, link: str) -> None:
        """Take a link away; the device is on another one, too."""
        self.lab.detach(link)

    def octets(self, link: str) -> int:
        """The most that a datagram of the user's has beyond itself on the device's wire."""
        return max(overheads(self.lab, link, plan.INSIDE_HOME_ADDRESS, lab_plan.SERVER))
