"""The drafts' topology as network namespaces that come up, change and go away completely.

The namespaces are the state; a small file beside them remembers what cannot be read back, so
`gateway lab move` may come from another process than `gateway lab up`. The file is written
before the first namespace exists, and `down` also finds namespaces by their prefix, so that
whatever a killed run left behind is removed.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from ipaddress import IPv4Address
from pathlib import Path
from types import TracebackType
from typing import IO, Any, ClassVar, Self

from gateway.dataplane.portable.forwarder import HeldSa
from gateway.lab import held, netns, plan, rules, taken
from gateway.lab.capture import Capture, start_capture
from gateway.lab.kernel import has_esp, has_netem
from gateway.lab.processes import (
    Child,
    LabError,
    Process,
    ProcessTable,
    ending_on_signals,
    wait_until,
)
from gateway.lab.warm import warm_start

RUN_FOLDER = Path("/run/gateway-lab")
SLOW_GROUP = 100
"""First netlink group of packets that are delayed by us."""
SERVER_READY_S = 30.0
CLEANUP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SYSCTLS = {
    "net.ipv4.conf.all.rp_filter": 0,
    "net.ipv4.conf.default.rp_filter": 0,
    "net.ipv4.conf.all.send_redirects": 0,
    "net.ipv4.conf.all.accept_redirects": 0,
}
"""Of every host."""


class Lab:
    """One instance of the topology; `prefix` keeps several apart.

    A context manager: `with Lab() as lab:` is `up()` and, in any case, `down()`; SIGINT, SIGTERM
    and SIGHUP end the block as exceptions do.
    Methods raise LabError when the machine does not do what was asked.
    What there is comes from `plan`; a larger topology is a subclass with other class attributes.
    """

    hosts: ClassVar[Sequence[str]] = plan.HOSTS
    wires: ClassVar[Sequence[tuple[plan.Port, plan.Port]]] = plan.WIRES
    routers: ClassVar[Collection[str]] = plan.ROUTERS
    accesses: ClassVar[Mapping[str, plan.Access]] = plan.ACCESSES
    routes: ClassVar[Mapping[str, Mapping[str, IPv4Address]]] = plan.ROUTES

    def __init__(self, prefix: str = "gwlab-", *, rtt_ms: float = 0.0) -> None:
        # `down` removes every namespace with the prefix: it must never be everybody's.
        if not re.fullmatch(r"[a-z][a-z0-9-]{0,30}-", prefix):
            raise LabError(
                f"prefix: {prefix!r} given, allowed are a letter, more of a-z0-9-, and -"
            )
        self.prefix = prefix
        self.folder = RUN_FOLDER / prefix.rstrip("-")
        self.processes = ProcessTable(self.folder / "processes")
        self._rtt_ms = rtt_ms
        self._kept: dict[str, list[Path]] = {}
        self._slowed: dict[str, Process] = {}
        self._asked: dict[str, list[Callable[[], set[int]]]] = {}

    def __enter__(self) -> Self:
        self._signals = contextlib.ExitStack()
        self._signals.enter_context(ending_on_signals())
        try:
            self.up(fresh=True)
        except BaseException:
            self._signals.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._signals:
            self.down()

    # -- coming and going ------------------------------------------------------------------

    def up(self, *, fresh: bool = False, access: str = "access1") -> None:
        """Build everything and put the device into `access`.

        Raises LabError when this lab exists already, unless `fresh`, which clears it first.
        Whatever interrupts it, nothing is left behind.
        """
        if os.geteuid() != 0:
            raise LabError("the lab needs root: network namespaces are made by root")
        if self.folder.exists() or netns.existing(self.prefix):
            if not fresh:
                raise LabError("the lab is up already, `gateway lab down` takes it away")
            self.down()
        self.folder.mkdir(parents=True, mode=0o755)
        with self._lock(), ending_on_signals():
            try:
                self._write_state({"access": [], "nat_mapping": 0, "rewritten_source": None})
                self._build()
                self.attach(access)
                self._start_server()
            except BaseException:
                self.down()
                raise

    def down(self) -> None:
        """Remove every process, namespace and file of this lab; does nothing when there is none."""
        with _signals_held():
            names = netns.existing(self.prefix)
            self.processes.end_all(lambda: netns.processes_in(names))
            with contextlib.suppress(LabError):
                deletions = "".join(f"netns delete {name}\n" for name in names)
                netns.command(["ip", "-force", "-batch", "-"], deletions)
            shutil.rmtree(self.folder, ignore_errors=True)
        if left := netns.existing(self.prefix):
            raise LabError(f"these namespaces would not go away: {', '.join(left)}")

    def status(self) -> dict[str, Any]:
        """What there is, JSON-able: hosts with their addresses, access, NAT, processes."""
        if not self.is_up():
            return {"up": False}
        state = self._read_state()
        public, ports = self.nat_mapping()
        return {
            "up": True,
            "access": state["access"],
            "nat": {"address": str(public), "ports": f"{ports[0]}-{ports[1]}"},
            "rewritten_source": state["rewritten_source"],
            "hosts": {host: self.addresses(host) for host in self.hosts},
            "processes": self.processes.running(),
        }

    def is_up(self) -> bool:
        """Whether the lab has been built completely."""
        return (self.folder / "state.json").exists() and len(netns.existing(self.prefix)) >= len(
            self.hosts
        )

    # -- running things --------------------------------------------------------------------

    def namespace(self, host: str) -> str:
        """The namespace's name of a host; raises LabError for an unknown one."""
        if host not in self.hosts:
            raise LabError(f"host: {host!r} given, allowed are {', '.join(self.hosts)}")
        return f"{self.prefix}{host}"

    def exec(self, host: str, argv: Sequence[str]) -> int:
        """Run a command on a host with our terminal, and return its exit status."""
        self._must_be_up()
        return subprocess.run(netns.inside(self.namespace(host), argv), check=False).returncode

    def run(
        self,
        host: str,
        argv: Sequence[str],
        *,
        timeout_s: float = 60.0,
        check: bool = True,
        stdin: str = "",
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on a host and return what it wrote; `check` raises LabError on failure."""
        try:
            done = subprocess.run(
                netns.inside(self.namespace(host), argv),
                input=stdin,
                capture_output=True,
                text=True,
                check=False,
                timeout=timeout_s,
            )
        except subprocess.TimeoutExpired:
            raise LabError(f"{host}: `{' '.join(argv)}` still ran after {timeout_s:g} s") from None
        if check and done.returncode:
            complaint = (done.stderr or done.stdout).strip()
            raise LabError(f"{host}: `{' '.join(argv)}` failed ({done.returncode}): {complaint}")
        return done

    def spawn(
        self, host: str, argv: Sequence[str], name: str, env: Mapping[str, str] | None = None
    ) -> Process:
        """Start a background process on a host; `down` ends it."""
        return self.processes.spawn(name, netns.inside(self.namespace(host), argv), env=env)

    def spawn_gateway(self, host: str, argv: Sequence[str], name: str) -> Process:
        """Start `gateway ARGV...` on a host, quickly: see :mod:`gateway.lab.warm`."""

        def fork(sink: IO[bytes]) -> Child:
            return warm_start().start(argv, self.namespace(host), sink.fileno(), {})

        return self.processes.start(name, fork)

    def capture(self, host: str, interface: str, name: str, only: str = "") -> Capture:
        """Record the packets of an interface into NAME.pcap; `only` is a pcap filter."""
        return start_capture(
            self.processes, self.namespace(host), interface, self.folder / f"{name}.pcap", only
        )

    def states(self, host: str) -> str:
        """What `ip xfrm state` says there, or would say of a forwarder's SAs."""
        return self._kernel_xfrm(host, "state") + held.states(self._held(host))

    def policies(self, host: str) -> str:
        """The same of `ip xfrm policy`."""
        return self._kernel_xfrm(host, "policy") + held.policies(self._held(host))

    def spis(self, host: str) -> set[int]:
        """Of every SA there: of the kernel, a forwarder, or a daemon that has its own IPsec."""
        found = netns.made_inside(self.namespace(host), held.kernel_spis)
        for ask in self._asked.get(host, ()):
            found |= ask()
        return found | held.spis(self._held(host))

    def wipe(self, host: str) -> None:
        """What a killed daemon left goes too, as by a power cut."""
        for what in ("state", "policy") if has_esp() else ():
            self.run(host, ["ip", "xfrm", what, "flush"])
        for folder in self._kept.get(host, ()):
            held.end_forwarders(folder)
        if host == "device":  # the inner address sits on the interface
            for access in self.access():
                self.run(host, ["ip", "address", "flush", "dev", access])
                self.attach(access)

    def asks(self, host: str, spis: Callable[[], set[int]]) -> None:
        """Remember a daemon that has SAs of its own."""
        self._asked.setdefault(host, []).append(spis)

    def keeps(self, host: str, folder: Path) -> None:
        """Remember the folder of a gateway or node of a host, whose forwarder is there."""
        self._kept.setdefault(host, []).append(folder)

    def addresses(self, host: str) -> dict[str, list[str]]:
        """Interface to its IPv4 addresses in CIDR form, of the interfaces that are up."""
        found = json.loads(
            netns.command(["ip", "-n", self.namespace(host), "-j", "-4", "address", "show", "up"])
        )
        return {
            link["ifname"]: [f"{one['local']}/{one['prefixlen']}" for one in link["addr_info"]]
            for link in found
            if link.get("ifname") not in {None, "lo"}
        }

    # -- the device moves ------------------------------------------------------------------

    def access(self) -> list[str]:
        """The access networks the device is in; the last one carries its default route."""
        return [str(name) for name in self._read_state()["access"]]

    def attach(self, access: str) -> None:
        """Bring the device's interface to `access` up and send everything through it."""
        way = self._access(access)
        batch = [
            f"link set {way.name} up",
            f"address replace {way.device} dev {way.name}",
            f"route replace default via {way.router} dev {way.name} src {way.device.ip}",
        ]
        self._ip("device", batch)
        self._remember(access=[*(name for name in self.access() if name != access), access])

    def detach(self, access: str) -> None:
        """Take the device out of `access`; the newest of the others gets the default route."""
        way = self._access(access)
        left = [name for name in self.access() if name != access]
        self._ip("device", [f"address flush dev {way.name}", f"link set {way.name} down"])
        self._remember(access=left)
        if left:
            self.attach(left[-1])

    def move(self, access: str, *, make_before_break: bool = False) -> None:
        """Change the access network; with `make_before_break` the new one is there first."""
        others = [name for name in self.access() if name != access]
        self._access(access)
        if make_before_break:
            self.attach(access)
        for other in others:
            self._ip("device", [f"address flush dev {other}", f"link set {other} down"])
        self._remember(access=[])
        self.attach(access)

    # -- what the networks do to packets -----------------------------------------------------

    def nat_mapping(self) -> tuple[IPv4Address, tuple[int, int]]:
        """The NAT's public address and its port range (first, last) for new connections."""
        return rules.nat_mapping(int(self._read_state()["nat_mapping"]))

    def remap_nat(self) -> tuple[IPv4Address, tuple[int, int]]:
        """The NAT forgets its connections and maps new ones to another address and other ports."""
        mapping = int(self._read_state()["nat_mapping"]) + 1
        self._set_nat(mapping)
        self._remember(nat_mapping=mapping)
        netns.flush_conntrack(self.namespace("nat"))
        return self.nat_mapping()

    def rewrite_source(self, address: IPv4Address | None, access: str = "access1") -> None:
        """Let the device's packets appear to come from `address`, whatever the protocol.

        This is how a device looks whose address changed and that had no say in it: its router
        writes the new address into what leaves, and the device's own into what comes back.
        None ends it. `address` has to be in the access network's prefix.
        """
        way = self._access(access)
        if address is not None and address not in way.device.network:
            raise LabError(f"address: {address} given, allowed are those of {way.device.network}")
        self.nft(access, rules.rewritten_source(way, address))
        self._remember(rewritten_source=None if address is None else str(address))

    def set_delay(
        self, access: str, rtt_ms: float, *, jitter_ms: float = 0.0, loss_percent: float = 0.0
    ) -> None:
        """Delay every packet of an access network's uplink by half of `rtt_ms` each way."""
        self._access(access)
        netem = f"netem limit 100000 delay {rtt_ms / 2:g}ms {jitter_ms:g}ms loss {loss_percent:g}%"
        for host, interface in ((access, "uplink"), ("internet", access)):
            if not has_netem():
                words = (f"{rtt_ms / 2:g}", f"{jitter_ms:g}", f"{loss_percent:g}")
                self._slow(host, interface, words if rtt_ms or loss_percent else ())
                continue
            argv = ["tc", "-n", self.namespace(host), "qdisc"]
            if rtt_ms or loss_percent:
                netns.command([*argv, "replace", "dev", interface, "root", *netem.split()])
            else:
                subprocess.run(
                    [*argv, "del", "dev", interface, "root"], capture_output=True, check=False
                )

    def nft(self, host: str, script: str) -> None:
        """Load an nft script on a host."""
        self.run(host, ["nft", "-f", "-"], stdin=script)

    # -- inside ----------------------------------------------------------------------------

    def _slow(self, host: str, interface: str, words: Sequence[str]) -> None:
        """What netem would do to what leaves by an interface, without words no more of it."""
        name = f"slow-{host}-{interface}"
        table = name.replace("-", "_")
        if before := self._slowed.pop(name, None):
            self.nft(host, taken.clear(table))
            before.stop()
        if not words:
            return
        group = SLOW_GROUP + [port.interface for port in self._ports(host)].index(interface)
        argv = [sys.executable, "-m", "gateway.lab.slow", str(group), *words]
        made = self.spawn(host, argv, name, {"PYTHONPATH": str(Path(__file__).parents[2])})
        wait_until(lambda: "ready" in made.output(), SERVER_READY_S, f"{name}: {made.output()}")
        self._slowed[name] = made
        self.nft(host, taken.rules(table, group, [f"oifname {interface}"]))

    def _ports(self, host: str) -> list[plan.Port]:
        return [port for wire in self.wires for port in wire if port.host == host]

    def _kernel_xfrm(self, host: str, what: str) -> str:
        return self.run(host, ["ip", "xfrm", what]).stdout if has_esp() else ""

    def _held(self, host: str) -> list[HeldSa]:
        return [one for folder in self._kept.get(host, ()) for one in held.held_by(folder)]

    def _build(self) -> None:
        names = {host: self.namespace(host) for host in self.hosts}
        wires = [
            f"link add {a.interface} netns {names[a.host]} type veth"
            f" peer name {b.interface} netns {names[b.host]}"
            for a, b in self.wires
        ]
        netns.command(
            ["ip", "-batch", "-"], "\n".join(f"netns add {name}" for name in names.values())
        )
        netns.command(["ip", "-batch", "-"], "\n".join(wires))
        for host in self.hosts:
            self._ip(host, list(self._addressing(host)))
            forwards = {"net.ipv4.ip_forward": int(host in self.routers)}
            netns.write_sysctls(names[host], {**SYSCTLS, **forwards})
        self._set_nat(0)
        for access in plan.ACCESSES:
            if self._rtt_ms:
                self.set_delay(access, self._rtt_ms)

    def _start_server(self) -> None:
        argv = [sys.executable, "-S", "-m", "gateway.lab.intranet", "--address", str(plan.SERVER)]
        server = self.spawn(
            "server", argv, "intranet", {"PYTHONPATH": str(Path(__file__).parents[2])}
        )

        def ready() -> bool:
            if not server.running():
                raise LabError(f"the intranet's server ended: {server.output().strip()}")
            return "ready" in server.output()

        wait_until(ready, SERVER_READY_S, "the intranet's server")

    def _set_nat(self, mapping: int) -> None:
        addresses = [f"address replace {each}/26 dev uplink" for each in plan.NAT_PUBLIC]
        self._ip("nat", addresses)
        self.nft("nat", rules.nat(mapping))

    def _ip(self, host: str, lines: Sequence[str]) -> None:
        netns.command(["ip", "-n", self.namespace(host), "-batch", "-"], "\n".join(lines) + "\n")

    def _access(self, name: str) -> plan.Access:
        if name not in self.accesses:
            raise LabError(f"access: {name!r} given, allowed are {', '.join(self.accesses)}")
        return self.accesses[name]

    def _addressing(self, host: str) -> Iterator[str]:
        """The lines for `ip -batch` that give a host its addresses and routes."""
        yield "link set lo up"
        for wire in self.wires:
            for port in wire:
                if port.host == host and host != "device":  # the device is attached later
                    if not port.address.ip.is_unspecified:  # the ports of a bridge have none
                        yield f"address add {port.address} dev {port.interface}"
                    yield f"link set {port.interface} up"
        for network, router in self.routes.get(host, {}).items():
            yield f"route add {network} via {router}"

    def _must_be_up(self) -> None:
        if not self.is_up():
            raise LabError("the lab is not up, `gateway lab up` builds it")

    def _remember(self, **changes: object) -> None:
        self._write_state({**self._read_state(), **changes})

    def _read_state(self) -> dict[str, Any]:
        try:
            state: dict[str, Any] = json.loads((self.folder / "state.json").read_text())
        except (OSError, ValueError):
            raise LabError("the lab is not up, `gateway lab up` builds it") from None
        return state

    def _write_state(self, state: Mapping[str, object]) -> None:
        written = self.folder / "state.json.new"
        written.write_text(json.dumps(state, indent=1))
        written.replace(self.folder / "state.json")

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        with (self.folder / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise LabError("another process is building this lab") from None
            yield


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """Keep signals waiting while the lab is taken down, so that nothing stops it half way."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, CLEANUP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
