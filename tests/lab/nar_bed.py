"""A NAR box as `gateway run`, clients that are told what to say, and hosts outside it."""

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from ipaddress import IPv4Address
from typing import Any, Self

from gateway.lab.appliance import Appliance
from gateway.lab.capture import Capture, Finding, judge, merge
from gateway.lab.nar import plan
from gateway.lab.nar.instrument import LEASES, L2tpIds, RawClient, SocksReply, leasing
from gateway.lab.nar.presence import FLAGS, YS_NETWORK, Presence
from gateway.lab.nar.topology import NarLab
from gateway.lab.processes import LabError

WAYS = os.environ.get("GATEWAY_LAB_NAR_WAYS", "kernel,queue").split(",")
"""Both ways that packets of mappings can take: the kernel alone, or every packet by NFQUEUE."""
DELIVERIES = ("ip-ip", "gre", "l2tp", "translated")
END_TO_END = DELIVERIES[:3]


class Session:
    """A client in NAR mode with what it needs on its host; a context manager."""

    def __init__(
        self,
        bed: "NarBed",
        host: str,
        delivery: str,
        target: object = plan.Y,
        *,
        shared: IPv4Address | None = None,
        flags: int = LEASES,
        networks: Sequence[object] = (YS_NETWORK, plan.HOME_NETWORK),
        **keys: Any,
    ) -> None:
        self.host, self.delivery = host, delivery
        self.control: RawClient
        self.mode: SocksReply
        self.control, self.mode = leasing(bed.lab, host, target, FLAGS[delivery] | flags, **keys)
        ids: L2tpIds | None = None
        if delivery == "l2tp":
            ids = self.control.l2tp()
            if ids.reply:
                raise LabError(f"{host}: L2TP-ASSOCIATE was answered with {ids.reply}")
        self.presence = Presence(
            bed.lab, host, delivery, shared or self.mode.address, l2tp=ids,
            server=keys.get("server", (plan.NA, 0))[0], networks=networks,
        )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """Release everything and go."""
        with contextlib.suppress(LabError, OSError):
            self.control.release()
        self.control.close()
        self.presence.end()

    @property
    def source(self) -> IPv4Address:
        """What its packets have as source: Nb, or Xa when the server translates."""
        return self.presence.source

    @property
    def client(self) -> IPv4Address:
        """Xa."""
        return self.presence.client


class NarBed:
    """A lab with one NAR box at a time on `n`, and whatever else a test starts."""

    def __init__(self, lab: NarLab) -> None:
        self.lab = lab
        self.boxes: dict[str, Appliance] = {}
        self._captures: list[Capture] = []
        self._number = 0

    def start(
        self, write: Callable[..., str], *given: Any, host: str = "n", **keys: Any
    ) -> Appliance:
        """Run the gateway on a host with what `write(folder, ...)` says, in place of another."""
        if host in self.boxes:
            self.end(host)
        self._number += 1
        box = Appliance(self.lab, name=f"gateway-{host}-{self._number}", host=host)
        box.write_text(write(box.folder, *given, **keys))
        self.boxes[host] = box
        box.start()
        return box

    @property
    def n(self) -> Appliance:
        """The NAR box."""
        return self.boxes["n"]

    def restart(self, host: str = "n", *, kill: bool = False) -> Appliance:
        """Stop a box, or kill it, and start it with what it has written down."""
        box = self.boxes[host]
        if kill:
            box.kill()
        else:
            box.hand_over()
        return self.start_again(host)

    def start_again(self, host: str = "n") -> Appliance:
        """Start a box that was stopped, with what it has written down."""
        box = self.boxes[host]
        box.start()
        return box

    def end(self, host: str) -> None:
        """Stop the box of a host and forget it."""
        box = self.boxes.pop(host)
        box.stop()
        print(f"--- gateway on {host}\n{box.output()[-8000:]}")

    def session(self, host: str, delivery: str = "ip-ip", *given: Any, **keys: Any) -> Session:
        """A client in NAR mode, see :class:`Session`."""
        return Session(self, host, delivery, *given, **keys)

    def record(self, host: str, interface: str, only: str = "") -> Capture:
        """Record an interface; every recording is judged at the end."""
        self._number += 1
        capture = self.lab.capture(host, interface, f"{host}-{interface}-{self._number}", only)
        self._captures.append(capture)
        return capture

    def findings(self) -> list[Finding]:
        """What tshark objects to in all recordings, wrong checksums included."""
        pcaps = [capture.stop() for capture in self._captures]
        self._captures.clear()
        if not pcaps:
            raise LabError("nothing was recorded")
        return judge(merge(pcaps, self.lab.folder / f"all-{self._number}.pcap"), checksums=True)

    def mappings(self) -> list[dict[str, Any]]:
        """What the box says is lent now; `value` as a number."""
        found = self.n.call("nar-mappings", limit=200)["items"]
        return [{**mapping, "value": number(mapping["value"])} for mapping in found]

    def stop(self) -> None:
        for host in list(self.boxes):
            self.end(host)


@contextlib.contextmanager
def nar_bed() -> Iterator[NarBed]:
    """A lab that goes with the block; a failing test shows the boxes' logs."""
    lab = NarLab(f"r{os.getpid()}-")
    lab.up(fresh=True)
    bed = NarBed(lab)
    try:
        lab.compute_checksums()
        yield bed
    finally:
        bed.stop()
        lab.down()


def number(value: str) -> int:
    """A port, an identifier, an SPI or an inner address, as the control socket shows it."""
    return int(IPv4Address(value)) if "." in value else int(value, 0)


def leased(reply: SocksReply) -> int:
    """The port of a reply that has to be a yes."""
    if reply.reply:
        raise LabError(f"the server says no: {reply.reply}")
    return reply.port


def granted(answer: tuple[int, ...]) -> int:
    """The last value of a NAR command's reply that has to be a yes."""
    if answer[0]:
        raise LabError(f"the server says no: {answer[0]}")
    return answer[-1]
