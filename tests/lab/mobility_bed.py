"""The boxes of draft 001 section 2, each a `gateway run`, and mobile nodes to move among them."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, Self

from gateway.lab import plan as lab_plan
from gateway.lab.appliance import Appliance
from gateway.lab.capture import Capture, Finding, judge, merge
from gateway.lab.measured import CHECKOUT, Measured, start_download
from gateway.lab.mobility import plan, roles
from gateway.lab.mobility.mobile_node import MobileNode
from gateway.lab.mobility.topology import MobilityLab
from gateway.lab.processes import LabError, wait_until
from gateway.lab.strongswan import StrongSwan

SERVER = lab_plan.SERVER
GATEWAY = lab_plan.GATEWAY_OUTSIDE
I_HOA, I_HA = plan.INSIDE_HOME_ADDRESS, plan.INSIDE_HOME_AGENT
X_HOA, X_HA = plan.OUTSIDE_HOME_ADDRESS, plan.OUTSIDE_HOME_AGENT
WAYS = os.environ.get("GATEWAY_LAB_MOBILITY_WAYS", "kernel,queue").split(",")
"""Both ways that packets of tunnels can take: the kernel alone, or every packet by NFQUEUE."""


class MobilityBed:
    """A lab with whichever boxes a test starts."""

    def __init__(self, lab: MobilityLab, *, offload: bool = True) -> None:
        self.lab, self.offload = lab, offload
        self.boxes: dict[str, Appliance] = {}
        self.nodes: list[MobileNode] = []
        self.swans: list[StrongSwan] = []
        self._captures: list[Capture] = []
        self._number = 0

    # -- boxes ---------------------------------------------------------------------------------

    def start(self, host: str, write: Callable[..., str], *given: Any, **keys: Any) -> Appliance:
        """Run the gateway on a host with what `write(folder, ...)` says."""
        self._number += 1
        box = Appliance(self.lab, name=f"gateway-{host}-{self._number}", host=host)
        box.write_text(write(box.folder, *given, **keys))
        self.boxes[host] = box
        box.start()
        return box

    def restart(self, host: str, *, kill: bool = False, keep: bool = False) -> Appliance:
        """Stop a box, or kill it, and start it with what it has written down.

        With `keep` it hands over as a service manager's restart has it.
        """
        box = self.boxes[host]
        if kill:
            box.kill()
        elif keep:
            box.hand_over()
        else:
            box.stop()
        box.start()
        return box

    def inside_home_agent(self, **keys: Any) -> Appliance:
        return self.start("iha", roles.inside_home_agent, offload=self.offload, **keys)

    def outside_home_agent(self, **keys: Any) -> Appliance:
        return self.start("xha", roles.outside_home_agent, offload=self.offload, **keys)

    def foreign_agent(self, host: str, **keys: Any) -> Appliance:
        def write(folder: object, **more: Any) -> str:
            return roles.foreign_agent(host, folder, **more)

        return self.start(host, write, offload=self.offload, **keys)

    def vpn(self, **keys: Any) -> Appliance:
        return self.start("gw", roles.vpn_gateway, offload=self.offload, **keys)

    def initiator(self, local: object, *, host: str = "device", **keys: Any) -> Appliance:
        """Our own gateway on a device, its VPN/FA connection open."""
        box = self.start(host, roles.device, local, name=host, **keys)
        box.call("initiate", connection="vf")
        wait_until(lambda: box.call("child-sas")["items"], 20, "the SA with VPN/FA")
        return box

    def end(self, host: str) -> None:
        """Stop the box of a host and forget it."""
        box = self.boxes.pop(host)
        box.stop()
        self._show(host, box)

    def strongswan(
        self, local: object = "%any", *, host: str = "device", **keys: Any
    ) -> StrongSwan:
        """A VPN client that knows nothing of Mobile IP, connected; its inner address is TIA."""
        self._number += 1
        # It must not look for the gateway by way of the layer above it.
        swan = StrongSwan(
            self.lab,
            host,
            name=f"charon-{host}-{self._number}",
            extra="interfaces_ignore = ihoa, itun",
        )
        self.swans.append(swan)
        swan.start()
        swan.load(roles.strongswan(local, name=host, **keys))
        swan.initiate("net")
        return swan

    def end_strongswan(self, swan: StrongSwan) -> None:
        self.swans.remove(swan)
        swan.terminate("vc")
        swan.stop()

    # -- nodes -----------------------------------------------------------------------------------

    def node(
        self, layer: str, host: str = "device", *, default_route: bool | None = None
    ) -> MobileNode:
        """A layer of a device: `i`, or `x` below it.

        Without `default_route` only what has its home address as source takes it, as an IKE
        daemon beside it needs.
        """
        inside = layer == "i"
        address, association = (roles.NODES if inside else roles.OUTSIDE_NODES)[host]
        node = MobileNode(
            self.lab,
            host,
            layer,
            2 if inside else 1,
            home_address=address,
            home_agent=I_HA if inside else X_HA,
            association=association,
            default_route=inside if default_route is None else default_route,
        )
        self.nodes.append(node)
        return node

    def drop_nodes(self) -> None:
        while self.nodes:
            self.nodes.pop().__exit__()

    # -- what travels ----------------------------------------------------------------------------

    def record(self, host: str, interface: str, only: str = "") -> Capture:
        """Record an interface; every recording of a wire is judged at the end."""
        self._number += 1
        capture = self.lab.capture(host, interface, f"{host}-{interface}-{self._number}", only)
        if any((end.host, end.interface) == (host, interface) for w in self.lab.wires for end in w):
            # A tunnel's device leaves checksums to the wire below it.
            self._captures.append(capture)
        return capture

    def findings(self) -> list[Finding]:
        """What tshark objects to in all recordings, wrong checksums included."""
        pcaps = [capture.stop() for capture in self._captures]
        self._captures.clear()
        if not pcaps:
            raise LabError("nothing was recorded")
        return judge(merge(pcaps, self.lab.folder / f"all-{self._number}.pcap"), checksums=True)

    def ping(
        self, host: str, to: object, *, source: object = None, count: int = 3, size: int = 56,
        df: bool = False,
    ) -> bool:  # fmt: skip
        """Whether every echo came back."""
        argv = ["ping", "-n", "-q", "-c", str(count), "-i", "0.2", "-W", "2", "-s", str(size)]
        argv += ["-I", str(source)] if source else []
        argv += ["-M", "do" if df else "dont"]
        return " 0% packet loss" in self.lab.run(host, [*argv, str(to)], check=False).stdout

    def download(self, rate: int = 200_000, server: object = SERVER) -> "Session":
        return Session(self, rate, server)

    def serve(self, host: str, address: object) -> None:
        """Run the intranet's server on another host, too."""
        argv = [sys.executable, "-S", "-m", "gateway.lab.intranet", "--address", str(address)]
        server = self.lab.spawn(host, argv, f"intranet-{host}", {"PYTHONPATH": CHECKOUT})
        wait_until(lambda: "ready" in server.output(), 30, f"the server on {host}")

    def stop(self) -> None:
        for swan in self.swans:
            swan.stop()
        self.drop_nodes()
        for host in list(self.boxes):
            self.end(host)

    def _show(self, host: str, box: Appliance) -> None:
        print(f"--- gateway on {host}\n{box.output()[-5000:]}")


class Session:
    """A TCP session from the device to the intranet's server that must live."""

    def __init__(self, bed: MobilityBed, rate: int, server: object) -> None:
        bed._number += 1
        self._download: Measured = start_download(
            bed.lab, f"http://{server}/stream?rate={rate}", name=f"download-{bed._number}"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._download.process.stop()

    def goes_on(self, octets: int = 60_000, timeout_s: float = 40.0) -> None:
        """Wait until it has carried more."""
        now = self._download.latest("bytes") or 0
        self._download.wait_for("bytes", now + octets, timeout_s)

    def end(self) -> dict[str, Any]:
        """It must not have broken."""
        result = self._download.stop()
        assert result["error"] is None, result
        return result


@contextlib.contextmanager
def mobility_bed(*, offload: bool = True, access: str = "home") -> Iterator[MobilityBed]:
    """A lab that goes with the block; a failing test shows the boxes' logs."""
    lab = MobilityLab(f"m{os.getpid()}-")
    lab.up(fresh=True, access=access)
    bed = MobilityBed(lab, offload=offload)
    try:
        lab.compute_checksums()
        yield bed
    finally:
        bed.stop()
        lab.down()
