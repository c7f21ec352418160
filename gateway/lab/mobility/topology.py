"""The lab with everything that draft 001 section 2 draws."""

from __future__ import annotations

import ctypes
import fcntl
import itertools
import json
import socket
import struct
from collections.abc import Sequence

from gateway.lab import netns
from gateway.lab.mobility import plan
from gateway.lab.processes import LabError
from gateway.lab.topology import Lab

SIOCETHTOOL = 0x8946
SWITCHES_OF_OFFLOADS = (0x17, 0x1F, 0x24, 0x2C)
"""ETHTOOL_STXCSUM, STSO, SGSO, SGRO."""


def offloads_off(interfaces: Sequence[str]) -> None:
    """Switch what interfaces of this namespace leave to hardware off (SIOCETHTOOL)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for interface, command in itertools.product(interfaces, SWITCHES_OF_OFFLOADS):
            value = ctypes.create_string_buffer(struct.pack("=II", command, 0))
            request = struct.pack("16sQ16x", interface.encode(), ctypes.addressof(value))
            fcntl.ioctl(sock, SIOCETHTOOL, request)


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

    def compute_checksums(self) -> None:
        """Let every interface compute checksums and cut segments itself, as hardware would.

        Otherwise a capture shows packets before that: with wrong checksums, longer than the MTU.
        """
        for host in self.hosts:
            names = [port.interface for wire in self.wires for port in wire if port.host == host]
            netns.made_inside(self.namespace(host), lambda names=names: offloads_off(names))  # type: ignore[misc]

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
