"""The lab with everything that draft 001 section 2 draws."""

from __future__ import annotations

import json

from gateway.lab import netns
from gateway.lab.mobility import plan
from gateway.lab.processes import LabError
from gateway.lab.topology import Lab


class MobilityLab(Lab):
    """Beside the lab's hosts those of :mod:`gateway.lab.mobility.plan`.

    `move` also knows the accesses `home` and `plain`; the links of foreign agents, where the
    device has no address, are entered with `enter_link`.
    """

    hosts = plan.HOSTS
    wires = plan.WIRES
    routers = plan.ROUTERS
    accesses = plan.ACCESSES
    routes = plan.ROUTES

    def enter_link(self, link: str) -> None:
        """Put the device onto a foreign agent's link, and out of wherever it was."""
        if link not in plan.FOREIGN_LINKS:
            allowed = ", ".join(plan.FOREIGN_LINKS)
            raise LabError(f"link: {link!r} given, allowed are {allowed}")
        self.leave_everything()
        self._ip("device", [f"link set {link} up"])
        # Nobody may need the device's answers to ARP here (RFC 5944 section 4.6).
        self.run("device", ["sysctl", "-qw", f"net.ipv4.conf.{link}.arp_ignore=8"])

    def leave_everything(self) -> None:
        """Take the device out of every access network and link."""
        for access in self.access():
            self.detach(access)
        for link in plan.FOREIGN_LINKS:
            self._ip("device", [f"address flush dev {link}", f"link set {link} down"])

    def move(self, access: str, *, make_before_break: bool = False) -> None:
        """See :meth:`Lab.move`; it leaves foreign agents' links, too."""
        super().move(access, make_before_break=make_before_break)
        for link in plan.FOREIGN_LINKS:
            self._ip("device", [f"address flush dev {link}", f"link set {link} down"])

    def link_address(self, host: str, interface: str) -> bytes:
        """The link-layer address of an interface."""
        argv = ["ip", "-n", self.namespace(host), "-j", "link", "show", "dev", interface]
        (link,) = json.loads(netns.command(argv))
        return bytes.fromhex(link["address"].replace(":", ""))

    def _build(self) -> None:
        super()._build()
        bridge = plan.HOME_BRIDGE
        lines = [f"link add {bridge} type bridge forward_delay 0", f"link set {bridge} up"]
        lines += [f"link set {port} master {bridge} up" for port in plan.HOME_BRIDGE_PORTS]
        lines += [f"address add {plan.INSIDE_HOME_AGENT}/24 dev {bridge}"]
        netns.command(["ip", "-n", self.namespace("iha"), "-batch", "-"], "\n".join(lines) + "\n")
        self.run("iha", ["sysctl", "-qw", f"net.ipv4.conf.{bridge}.rp_filter=0"])
