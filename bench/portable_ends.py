"""Two hosts on one wire and a tunnel between them, both ends of it in user space.

`device` has the inner address :data:`bench.bed.INNER`, `gw` that of the lab's server: packets
take the tunnel and the wire, and nobody else forwards them.
"""

import contextlib
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address
from pathlib import Path
from typing import ClassVar, Protocol

from bench.bed import INNER, INTRANET, connect_device, reaches, start_strongswan_gateway
from bench.wireguard import WireGuard
from gateway.lab import netns, plan
from gateway.lab.processes import wait_until
from gateway.lab.topology import Lab

DEVICE = IPv4Address("192.0.2.2")
SUITE = "aes256gcm16"
CARRIES_S = 20.0
WIRE = "wire"


class Ends(Lab):
    """The two hosts."""

    hosts: ClassVar[Sequence[str]] = ("device", "gw")

    def up(self, *, fresh: bool = False, access: str = "") -> None:
        """Build the two hosts and the wire; there is nothing to attach to."""
        del access
        if fresh:
            self.down()
        self.folder.mkdir(parents=True, mode=0o755)
        names = {host: self.namespace(host) for host in self.hosts}
        lines = [f"netns add {name}" for name in names.values()]
        netns.command(["ip", "-batch", "-"], "\n".join(lines))
        link = ["ip", "link", "add", WIRE, "netns", names["device"], "type", "veth"]
        netns.command([*link, "peer", "name", WIRE, "netns", names["gw"]])
        for host, address in (("device", DEVICE), ("gw", plan.GATEWAY_OUTSIDE)):
            lines = [
                "link set lo up",
                f"address add {address}/28 dev {WIRE}",
                f"link set {WIRE} up",
            ]
            netns.command(["ip", "-n", names[host], "-batch", "-"], "\n".join(lines) + "\n")
        server = ["ip", "-n", names["gw"], "address", "add", f"{plan.SERVER}/32", "dev", "lo"]
        netns.command(server)


class Tunnel(Protocol):
    """What goes between the two ends."""

    def start(self, lab: Ends) -> None:
        """Make both ends of it."""

    def forwarders(self) -> Sequence[int]:
        """Ids of the processes that carry packets, of both ends."""


class Nothing:
    """The wire alone."""

    def start(self, lab: Ends) -> None:
        """Only routes."""
        lab.run("device", ["ip", "address", "add", f"{INNER}/32", "dev", "lo"])
        over = ["dev", WIRE, "via"]
        lab.run(
            "device",
            ["ip", "route", "add", INTRANET, *over, str(plan.GATEWAY_OUTSIDE), "src", INNER],
        )
        lab.run("gw", ["ip", "route", "add", f"{INNER}/32", *over, str(DEVICE)])

    def forwarders(self) -> Sequence[int]:
        """None."""
        return ()


class LibIpsec:
    """strongSwan with kernel-libipsec: ESP in UDP, in charon's threads, on TUN interfaces."""

    def __init__(self) -> None:
        self._processes: list[int] = []

    def start(self, lab: Ends) -> None:
        """Two charons, and a handshake between them."""
        gateway = start_strongswan_gateway(lab, esp=SUITE, user_space=True)
        device = connect_device(lab, esp=SUITE, user_space=True)
        self._processes = [gateway.pid, device.pid]

    def forwarders(self) -> Sequence[int]:
        """Both charons."""
        return self._processes


class WireGuardGo:
    """wireguard-go: ChaCha20-Poly1305 in UDP, in goroutines, on TUN interfaces."""

    def __init__(self) -> None:
        self._processes: Sequence[int] = ()

    def start(self, lab: Ends) -> None:
        """Both ends."""
        wireguard = WireGuard(lab, IPv4Address(INNER), INTRANET)
        wireguard.start()
        self._processes = wireguard.processes()

    def forwarders(self) -> Sequence[int]:
        """Both wireguard-go."""
        return self._processes


@contextlib.contextmanager
def joined(name: str, tunnel: Tunnel) -> Iterator[Ends]:
    """Two hosts of their own with a tunnel that carries packets; they go away with the block."""
    lab = Ends(f"bp{name}-")
    lab.up(fresh=True)
    try:
        tunnel.start(lab)
        wait_until(lambda: reaches(lab), CARRIES_S, f"the first packet through {name}")
        yield lab
    finally:
        lab.down()


def processor_s(processes: Sequence[int]) -> float:
    """Processor time that processes have used so far, all threads, user and system."""
    total = 0
    for process in processes:
        for thread in Path(f"/proc/{process}/task").iterdir():
            with contextlib.suppress(OSError):
                total += int((thread / "schedstat").read_text().split()[0])
    return total / 1e9


def memory_mb(process: int) -> float:
    """Resident memory in MB of 1,000,000 octets."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    (resident,) = (line.split()[1] for line in lines if line.startswith("VmRSS:"))
    return int(resident) * 1024 / 1e6
