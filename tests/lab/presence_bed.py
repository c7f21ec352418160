"""Two devices with one and the same address of their own, the gateway's kernel, and an intranet.

    device a 192.0.2.10  --+
                           +-- 192.0.2.1 gateway 10.1.0.1 -- 10.1.0.7, 10.1.0.8 intranet
    device b 192.0.2.20  --+

Both have 192.168.1.5 in their tunnels. Keys are static; the devices are the kernel's own IPsec, or
forwarders where it has none.
"""

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any, Self

from dataplane_bed import (
    GCM,
    UserDevice,
    algorithm_words,
    echoes,
    entered,
    keys_for,
    run,
)

from gateway.dataplane.kernel.dataplane import KernelDataplane
from gateway.dataplane.kernel.presence.dataplane import KernelPresence
from gateway.dataplane.kernel.settings import KernelSettings
from gateway.dataplane.presence import Member, PresenceSettings
from gateway.domain.child_sa import ChildSa, TrafficSelector
from gateway.domain.endpoint import Endpoint
from gateway.lab import planes
from gateway.lab.kernel import has_esp

GATEWAY, INTRANET = "pre-gw", "pre-in"
DEVICES = ("pre-a", "pre-b")
NAMES = (GATEWAY, INTRANET, *DEVICES)
OUTER = {"pre-a": "192.0.2.10", "pre-b": "192.0.2.20"}
OWN = ip_address("192.168.1.5")
OWN6 = ip_address("fd05::5")
GATEWAY_OUTER = ip_address("192.0.2.1")
INSIDE = ip_network("10.1.0.0/24")
SHOWN = ip_network("10.99.0.0/24")
INSIDE6 = ip_network("fd01::/64")
HOST, OTHER_HOST = "10.1.0.7", "10.1.0.8"
ZONES = {"pre-a": 5, "pre-b": 6}


def child_of(name: str, *, own: Any = OWN, spi: int = 0, **changes: Any) -> ChildSa:
    number = 1 + DEVICES.index(name) + spi
    networks = (INSIDE, SHOWN) if own.version == 4 else (INSIDE6,)
    fields: dict[str, Any] = {
        "spi_in": 0x1000 + number,
        "spi_out": 0x2000 + number,
        "reqid": number,
        "suite": GCM,
        "keys_in": keys_for(GCM, 10 * number),
        "keys_out": keys_for(GCM, 10 * number + 5),
        "local": Endpoint(GATEWAY_OUTER, 4500),
        "remote": Endpoint(ip_address(OUTER[name]), 4500),
        "udp_encapsulation": False,
        "local_ts": tuple(map(TrafficSelector.of_network, networks)),
        "remote_ts": (TrafficSelector.of_address(own),),
        "zone": ZONES[name],
    }
    return ChildSa(**{**fields, **changes})


class Bed:
    def __init__(self) -> None:
        self.dataplane: KernelDataplane | None = None
        self._devices: dict[str, UserDevice] = {}
        self.presence: KernelPresence | None = None
        self._processes: list[subprocess.Popen[str]] = []

    def up(self) -> None:
        self._remove()
        run("ip", "-batch", "-", stdin="".join(f"netns add {name}\n" for name in NAMES))
        with entered(GATEWAY):
            Path("/proc/sys/net/ipv6/conf/default/accept_dad").write_text("0")
        run("ip", "-n", GATEWAY, "-batch", "-", stdin=f"""
            link add out1 type bridge
            link add in1 type veth peer name in0 netns {INTRANET}
            link add a1 type veth peer name out0 netns pre-a
            link add b1 type veth peer name out0 netns pre-b
            link set a1 up master out1
            link set b1 up master out1
            link set lo up
            address add 192.0.2.1/24 dev out1
            address add 10.1.0.1/24 dev in1
            address add fd01::1/64 dev in1 nodad
            link set out1 up
            link set in1 up
            route add default via 192.0.2.254
        """)  # fmt: skip
        for name in DEVICES:
            run("ip", "-n", name, "-batch", "-", stdin=f"""
                link set lo up
                address add {OUTER[name]}/24 dev out0
                address add {OWN}/32 dev lo
                address add {OWN6}/128 dev lo nodad
                link set out0 up
                route add 10.1.0.0/24 via 192.0.2.1 src {OWN}
                route add 10.99.0.0/24 via 192.0.2.1 src {OWN}
            """)  # fmt: skip
        run("ip", "-n", INTRANET, "-batch", "-", stdin="""
            link set lo up
            address add 10.1.0.7/24 dev in0
            address add 10.1.0.8/24 dev in0
            address add fd01::7/64 dev in0 nodad
            link set in0 up
        """)  # fmt: skip

    def start(self, settings: PresenceSettings, *, adopt: bool = False) -> None:
        with entered(GATEWAY):
            self.dataplane = planes.dataplane(
                KernelSettings(protected_networks=(INSIDE,), outside_interfaces=("out1",))
            )
            self.dataplane.start(adopt=adopt)
            self.presence = KernelPresence(settings)
            self.presence.open(adopt=adopt)

    def connect(self, name: str, *, member: Member | None = None, **changes: Any) -> ChildSa:
        """A child SA of a device, at both ends, and what it is to the gateway."""
        sa = child_of(name, **changes)
        assert self.dataplane is not None
        with entered(GATEWAY):
            self.dataplane.install_child_sa(sa)
            assert self.dataplane.commit() == []
        self.put(name, member or Member((OWN,), sa.zone))
        self._device_states(name, sa)
        return sa

    def put(self, name: str, member: Member | None) -> None:
        assert self.presence is not None
        with entered(GATEWAY):
            self.presence.put(name, member)
            assert self.presence.commit() == []

    def lead(self, redirect: int, target: Member | None) -> None:
        assert self.presence is not None
        with entered(GATEWAY):
            self.presence.lead(redirect, target)
            assert self.presence.commit() == []

    def _device_states(self, name: str, sa: ChildSa) -> None:
        if not has_esp():
            if name not in self._devices:
                self._devices[name] = UserDevice(name, OWN)
            self._devices[name].add(sa)
            return
        lines = []
        own = sa.remote_ts[0].start
        outer = sa.remote.address
        for src, dst, spi, keys in (
            (outer, GATEWAY_OUTER, sa.spi_in, sa.keys_in),
            (GATEWAY_OUTER, outer, sa.spi_out, sa.keys_out),
        ):
            words = " ".join(algorithm_words(sa.suite, keys))
            lines.append(
                f"xfrm state add src {src} dst {dst} proto esp spi {spi} reqid {sa.reqid}"
                f" mode tunnel flag af-unspec replay-window 32 {words}"
            )
        for one in sa.local_ts:
            network = one.networks()[0]
            for direction, src, dst, outer_src, outer_dst in (
                ("out", own, network, outer, GATEWAY_OUTER),
                ("in", network, own, GATEWAY_OUTER, outer),
            ):
                lines.append(
                    f"xfrm policy update src {src} dst {dst} dir {direction} tmpl src {outer_src}"
                    f" dst {outer_dst} proto esp reqid {sa.reqid} mode tunnel"
                )
        run("ip", "-n", name, "-batch", "-", stdin="\n".join(lines) + "\n")

    # -- traffic -----------------------------------------------------------------------------

    def ping(self, name: str, target: str = HOST, count: int = 2) -> bool:
        return echoes(name, OWN, ip_address(target), count) == count

    def serve(self, name: str, code: str, *arguments: object) -> subprocess.Popen[str]:
        """Python there, ready when it has printed a line."""
        with entered(name):
            process = subprocess.Popen(
                [sys.executable, "-u", "-c", code, *map(str, arguments)],
                stdout=subprocess.PIPE,
                text=True,
            )
        self._processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    def ask(self, name: str, code: str, *arguments: object) -> Any:
        """Run Python there; what it printed last, as JSON."""
        with entered(name):
            done = subprocess.run(
                [sys.executable, "-c", code, *map(str, arguments)],
                capture_output=True,
                text=True,
                check=False,
                timeout=30,
            )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    @contextlib.contextmanager
    def capture(self, name: str, interface: str, what: str, *, packets: int) -> Iterator[list[str]]:
        """Lines of tcpdump of the first packets that passed; there when the block is left."""
        lines: list[str] = []
        with entered(name):
            process = subprocess.Popen(
                ["tcpdump", "-ntl", "--immediate-mode", "-c", str(packets), "-i", interface, what],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        assert process.stderr is not None
        assert process.stdout is not None
        while "listening" not in (line := process.stderr.readline()):
            assert line, "tcpdump ended"
        try:
            yield lines
            out, _ = process.communicate(timeout=10)
            lines += out.splitlines()
        finally:
            process.kill()
            process.communicate()

    def counters(self) -> dict[str, int]:
        assert self.presence is not None
        with entered(GATEWAY):
            return self.presence.counters()

    def down(self) -> None:
        for process in self._processes:
            process.kill()
            process.communicate()
        self._processes.clear()
        with entered(GATEWAY):
            if self.presence is not None:
                self.presence.close(keep=False)
            if self.dataplane is not None:
                self.dataplane.close()
        self.presence = self.dataplane = None
        for device in self._devices.values():
            device.close()
        self._devices.clear()
        self._remove()

    @staticmethod
    def _remove() -> None:
        there = [name for name in NAMES if Path(f"/run/netns/{name}").exists()]
        for name in there:
            with entered(name):
                planes.forget()
        if there:
            run("ip", "-batch", "-", stdin="".join(f"netns del {name}\n" for name in there))

    def __enter__(self) -> Self:
        self.up()
        return self

    def __exit__(self, *_: object) -> None:
        self.down()
