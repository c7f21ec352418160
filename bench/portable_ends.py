"""Two hosts on one wire and a tunnel between them, both ends of it in user space.

`device` has the inner address :data:`bench.bed.INNER`, `gw` that of the lab's server: packets
take the tunnel and the wire, and nobody else forwards them.
"""

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address
from pathlib import Path
from typing import ClassVar, Protocol

from bench.bed import INNER, INTRANET, connect_device, reaches, start_strongswan_gateway
from bench.portable_forwarder import LINK
from bench.wireguard import WireGuard
from gateway.lab import netns, plan
from gateway.lab.measured import CHECKOUT
from gateway.lab.processes import LabError, wait_until
from gateway.lab.topology import Lab

DEVICE = IPv4Address("192.0.2.2")
SUITE = "aes256gcm16"
CARRIES_S = 20.0
WIRE = "wire"
WORKER = b"portable.worker"
"""What tells a forwarder's process by its command line."""
NICE = -20
KEY_OCTETS = 32 + 4  # and its salt
SPIS = (0x1001, 0x2001)


class Ends(Lab):
    """The two hosts."""

    hosts: ClassVar[Sequence[str]] = ("device", "gw")
    apart = True
    """Whether each of them has a processor of its own, as two machines have."""

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


class Ours:
    """Our forwarder at both ends."""

    def __init__(self, *, udp: bool, workers: int = 1, clients: int = 1) -> None:
        """``workers`` processes at the gateway, and one at the device, as a host has them.

        ``clients`` inner addresses, each with an SA of its own.
        """
        self._udp, self._workers, self._clients = udp, workers, clients
        self._processes: list[int] = []
        self.start_s: list[float] = []

    def addresses(self) -> list[str]:
        """The inner addresses of the device."""
        first = IPv4Address(INNER)
        return [str(first + number) for number in range(self._clients)]

    def start(self, lab: Ends) -> None:
        """A forwarder at each end, with the same keys."""
        inner = [f"{address}/32" for address in self.addresses()]
        keys = [os.urandom(KEY_OCTETS).hex() for _ in range(2)]
        self._forwarder(
            lab, "device", DEVICE, plan.GATEWAY_OUTSIDE, (inner, [INTRANET]), keys, SPIS
        )
        self._forwarder(
            lab, "gw", plan.GATEWAY_OUTSIDE, DEVICE, ([INTRANET], inner), keys[::-1], SPIS[::-1]
        )
        lines = [f"address add {address} dev {LINK}" for address in inner]
        lines.append(f"route replace {INTRANET} dev {LINK} src {INNER}")
        netns.command(["ip", "-n", lab.namespace("device"), "-batch", "-"], "\n".join(lines) + "\n")
        lines = [f"route replace {address} dev {LINK} src {plan.SERVER}" for address in inner]
        netns.command(["ip", "-n", lab.namespace("gw"), "-batch", "-"], "\n".join(lines) + "\n")

    def _forwarder(
        self,
        lab: Ends,
        host: str,
        local: IPv4Address,
        remote: IPv4Address,
        networks: tuple[Sequence[str], Sequence[str]],
        keys: Sequence[str],
        spis: Sequence[int],
    ) -> None:
        facts = {
            "folder": str(lab.folder / f"forwarder-{host}"), "local": str(local),
            "remote": str(remote), "local_networks": networks[0], "remote_networks": networks[1],
            "key_in": keys[0], "key_out": keys[1], "spi_in": spis[0], "spi_out": spis[1],
            "udp": self._udp, "workers": self._workers if host == "gw" else 1,
        }  # fmt: skip
        argv = [sys.executable, "-m", "bench.portable_forwarder", json.dumps(facts)]
        process = lab.spawn(host, argv, f"forwarder-{host}", {"PYTHONPATH": CHECKOUT})

        def ready() -> bool:
            if not process.running():
                raise LabError(f"the forwarder ended: {process.output()}")
            return process.output().endswith("}\n")

        wait_until(ready, CARRIES_S, "the forwarder")
        self.start_s.append(json.loads(process.output().splitlines()[-1])["start_s"])
        self._processes += [
            one
            for one in sorted(netns.processes_in([lab.namespace(host)]))
            if WORKER in Path(f"/proc/{one}/cmdline").read_bytes()
        ]

    def forwarders(self) -> Sequence[int]:
        """Of both ends, the device's first."""
        return self._processes

    def processor_times(self) -> list[float]:
        """Of each of them, in seconds."""
        return [processor_s([process]) for process in self._processes]


@contextlib.contextmanager
def joined(name: str, tunnel: Tunnel, *, apart: bool = True) -> Iterator[Ends]:
    """Two hosts of their own with a tunnel that carries packets; they go away with the block."""
    lab = Ends(f"bp{name.replace('_', '')}-")
    lab.apart = apart
    lab.up(fresh=True)
    try:
        tunnel.start(lab)
        wait_until(lambda: reaches(lab), CARRIES_S, f"the first packet through {name}")
        yield lab
    finally:
        lab.down()


def prefer(lab: Ends) -> None:
    """Let what runs on these hosts go before what else the machine does."""
    processors = sorted(os.sched_getaffinity(0))
    for number, host in enumerate(lab.hosts):
        for process in netns.processes_in([lab.namespace(host)]):
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, process, NICE)
                # Where the kernel shares processors among sessions first, that alone does nothing.
                Path(f"/proc/{process}/autogroup").write_text(str(NICE))
            own = {processors[number % len(processors)]} if lab.apart else processors
            for thread in Path(f"/proc/{process}/task").iterdir():
                with contextlib.suppress(OSError):
                    os.sched_setaffinity(int(thread.name), own)


def processor_s(processes: Sequence[int]) -> float:
    """Processor time that processes have used so far, all threads, user and system."""
    total = 0
    for process in processes:
        for thread in Path(f"/proc/{process}/task").iterdir():
            with contextlib.suppress(OSError):
                total += int((thread / "schedstat").read_text().split()[0])
    return total / 1e9


def memory_mb(process: int, *, shared: bool = True) -> float:
    """Resident memory in MB of 1,000,000 octets, with or without what is shared with others."""
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    wanted = "Rss:" if shared else "Pss:"
    (octets,) = (line.split()[1] for line in lines if line.startswith(wanted))
    return int(octets) * 1024 / 1e6
