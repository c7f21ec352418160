"""One topology and one pair of daemons for all cells of a column; every IKE message is recorded."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network

from gateway.lab import plan
from gateway.lab.capture import Capture
from gateway.lab.freeradius import FreeRadius, RadiusUser
from gateway.lab.matrix import world
from gateway.lab.matrix.cells import Role, Row
from gateway.lab.matrix.speakers import LibreswanSpeaker, Speaker, StrongSwanSpeaker
from gateway.lab.matrix.world import Certificates
from gateway.lab.processes import LabError, wait_until
from gateway.lab.topology import Lab

IKE_ONLY = "udp port 500 or (udp port 4500 and udp[8:4] = 0)"
HOSTS = {Role.INITIATOR: "device", Role.RESPONDER: "gw"}
GONE_S = 15.0
AGREE_S = 10.0

MakeSpeaker = Callable[[Lab, str, Certificates], Speaker]
SPEAKERS: dict[str, MakeSpeaker] = {
    "strongswan": StrongSwanSpeaker,
    "libreswan": LibreswanSpeaker,
}


@dataclass(slots=True, repr=False)
class Bed:
    """What the cells of a column share."""

    lab: Lab
    peer: Speaker
    ours: Speaker
    peer_role: Role
    recording: Capture
    radius: FreeRadius | None = None
    begun: dict[str, tuple[float, float]] = field(default_factory=dict)
    """When each cell was tried, by its name, for finding its packets."""

    @property
    def initiator(self) -> Speaker:
        """The side on the device."""
        return self.peer if self.peer_role is Role.INITIATOR else self.ours

    @property
    def responder(self) -> Speaker:
        """The side on the gateway's host."""
        return self.ours if self.peer_role is Role.INITIATOR else self.peer

    def load(self, row: Row) -> None:
        """Give both sides the row's connection, and put the device where it says."""
        access = "nat" if row.nat else "access1"
        if self.lab.access() != [access]:
            self.lab.move(access)
        self.lab.run("device", ["ip", "address", "flush", "dev", "lo", "scope", "global"])
        if not world.asks_for_address(row):
            self.lab.run("device", ["ip", "address", "add", f"{world.SITE}/32", "dev", "lo"])
        self.responder.load(row, Role.RESPONDER)
        self.initiator.load(row, Role.INITIATOR)

    def spis(self, host: str) -> set[str]:
        """The SPIs of ESP that a host knows."""
        return {f"{spi:#010x}" for spi in self.lab.spis(host)}

    def agreed(self, row: Row) -> None:
        """Wait until both kernels have the same one pair of SAs.

        In IKEv1 a side may keep what it has replaced until that expires.
        """

        def same() -> bool:
            device, gw = self.spis("device"), self.spis("gw")
            if row.version == 1 and row.events:
                return len(device & gw) >= 2
            return len(device) == 2 and device == gw

        try:
            wait_until(same, AGREE_S, "the same pair of SAs in both kernels")
        except LabError as error:
            device, gw = sorted(self.spis("device")), sorted(self.spis("gw"))
            raise LabError(f"{error}: device {device}, gw {gw}") from None

    def inner(self) -> str:
        """The initiator's address in the tunnel."""
        shown = self.lab.run("device", ["ip", "-o", "-4", "address"]).stdout
        for address in re.findall(r"inet (\S+?)/", shown):
            if IPv4Address(address) in IPv4Network(world.INNER):
                return str(address)
        return str(world.SITE)

    def ping(self) -> None:
        """Echo requests through the tunnel, both ways; raises LabError when one is lost."""
        inner = self.inner()
        argv = ["ping", "-n", "-q", "-c", "2", "-i", "0.2", "-W", "3"]
        for host, rest in (
            ("device", ["-I", inner, str(plan.SERVER)]),
            ("server", [inner]),
        ):
            done = self.lab.run(host, [*argv, *rest], check=False)
            if " 0% packet loss" not in done.stdout:
                last = (done.stdout + done.stderr).strip().splitlines()[-2:]
                raise LabError(f"no answer to a ping from {host}: {' '.join(last)}")

    def clear(self) -> None:
        """Close whatever is left, and wait until both sides agree that nothing is."""
        # Our gateway would open again what it has opened and the peer closes.
        first, second = self.peer, self.ours
        if self.peer_role is Role.RESPONDER:
            first, second = second, first
        first.close()
        with contextlib.suppress(LabError):
            wait_until(self.nothing_left, 3, "the end after the first delete")
        if not self.nothing_left():
            second.close()
        wait_until(self.nothing_left, GONE_S, "both sides to forget everything")

    def nothing_left(self) -> bool:
        """Whether neither side has any SA."""
        kernels = self.spis("gw") or self.spis("device")
        return not kernels and not self.peer.ike_names() and not self.ours.ike_names()


@contextlib.contextmanager
def bed(peer: str, role: Role, ours: MakeSpeaker, *, radius: bool = False) -> Iterator[Bed]:
    """The topology, the daemons and a recording; all of it goes with the block."""
    lab = Lab(f"gwmx{os.getpid()}-")
    with lab, contextlib.ExitStack() as ends:
        certificates = Certificates()
        our_role = Role.RESPONDER if role is Role.INITIATOR else Role.INITIATOR
        recording = lab.capture("gw", "outside", "matrix", IKE_ONLY)
        server = None
        if radius:
            server = radius_server(lab, certificates)
            server.start()
            ends.callback(server.stop)
        ours_there = ours(lab, HOSTS[our_role], certificates)
        peer_there = SPEAKERS[peer](lab, HOSTS[role], certificates)
        for speaker in (ours_there, peer_there):
            speaker.start()
            ends.callback(speaker.stop)
        yield Bed(lab, peer_there, ours_there, role, recording, server)


def radius_server(lab: Lab, certificates: Certificates) -> FreeRadius:
    """Freeradius on the intranet's server, with the user of the matrix."""
    reply = [f"Framed-IP-Address = {world.FRAMED}", 'Class = "staff"', 'Filter-Id = "staff"']
    return FreeRadius(
        lab,
        "server",
        plan.SERVER,
        client=plan.GATEWAY_INSIDE,
        secret=world.RADIUS_SECRET,
        users=[
            RadiusUser(world.USER, world.PASSWORD, reply),
            RadiusUser(world.INITIATOR_ID, None, reply),
        ],
        own=certificates.radius,
        authority=certificates.authority.root,
    )
