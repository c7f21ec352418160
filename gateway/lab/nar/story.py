"""`gateway lab nar`: two hosts behind one address, each with IPsec to the same gateway outside.

What every NAT of today makes impossible without UDP encapsulation: y's tunnels come back to one
address, by SPIs that nobody could infer (draft 004, section 2.6.2).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass

from rich.console import Console
from rich.table import Table

from gateway.lab.kernel import missing_features
from gateway.lab.mobility.boxes import Boxes
from gateway.lab.nar import ipsec, plan, roles
from gateway.lab.nar.instrument import leasing
from gateway.lab.nar.presence import Presence
from gateway.lab.nar.programs import connected, exchange
from gateway.lab.nar.topology import NarLab
from gateway.lab.nar.wires import encapsulates_in_udp, spi
from gateway.lab.processes import LabError
from gateway.lab.strongswan import StrongSwan
from gateway.lab.tap import ETH_P_IP, Frame, Tap

PREFIX = "gwnar-"
OCTETS = 200_000
"""Of the transfer through each tunnel, each way."""
FIRST_SPI = {"x1": 0x4100_0000, "x2": 0x4200_0000}

DRAWING = f"""\
  x1 {plan.X1} --+
                   +-- N --- {plan.NB} --- internet --- y {plan.Y} --- {ipsec.BEHIND_Y}
  x2 {plan.X2} --+   lends parts of it      (stock strongSwan, knows nothing of this)
"""


@dataclass(frozen=True, slots=True)
class Tunnel:
    """One client's tunnel, as it was seen."""

    client: str
    own_address: str
    at_y: str
    """Address and port that y speaks IKE with."""
    spis: str
    """Leased ones."""
    spi: str
    """The one that y's packets have."""
    esp_in: int
    """Packets with it that reached this client."""
    esp_elsewhere: int
    """Packets with it that reached the other client."""
    encapsulated: int
    """Packets with ESP in UDP."""


@dataclass(frozen=True, slots=True)
class Story:
    """What came of it."""

    tunnels: tuple[Tunnel, ...]
    one_address: bool
    """Whether y saw one address for both."""

    @property
    def holds(self) -> bool:
        """Whether both tunnels carried packets at the same time, to the right client, natively."""
        return self.one_address and all(
            one.esp_in and not one.esp_elsewhere and not one.encapsulated for one in self.tunnels
        )


@dataclass(frozen=True, slots=True)
class _Client:
    host: str
    lease: ipsec.IkeLease
    swan: StrongSwan

    @property
    def spi(self) -> int:
        (sa,) = self.swan.established()
        return sa.children[-1].spi_in


def tell(say: Callable[[str], None] = lambda _: None, prefix: str = PREFIX) -> Story:
    """Build the lab, connect both clients, use both tunnels at once; the lab is gone afterwards.

    Raises LabError where something does not come up.
    """
    if missing := missing_features():
        raise LabError(f"this needs root and a kernel with: {', '.join(missing)}")
    with ExitStack() as ends:
        say("building the network")
        lab = ends.enter_context(NarLab(prefix))
        lab.compute_checksums()
        say("N starts, and strongSwan at y")
        Boxes(lab).start({"n": roles.soho})
        y = ipsec.start_server(lab)
        clients = []
        for host in FIRST_SPI:
            say(f"{host} leases a port and SPIs, and connects")
            clients.append(_connect(lab, host, ends))
        wires = [("y", "uplink"), *(("lan", f"to-{host}") for host in FIRST_SPI)]
        tap = ends.enter_context(Tap(lab, wires))
        say("both use their tunnels")
        _use_both(lab)
        tap.settle()
        remotes = {sa.remote.rpartition(":")[0] for sa in y.established()}
        tunnels = tuple(_seen(client, tap.frames) for client in clients)
        return Story(tunnels, remotes == {str(plan.NB)} and len(y.established()) == len(clients))


def _connect(lab: NarLab, host: str, ends: ExitStack) -> _Client:
    control, mode = leasing(lab, host)
    ends.enter_context(control)
    Presence(lab, host, "ip-ip", mode.address)
    lease = ipsec.lease(control, FIRST_SPI[host])
    swan = ipsec.start_client(lab, host, lease, mode.address)
    swan.initiate("net")
    return _Client(host, lease, swan)


def _use_both(lab: NarLab) -> None:
    with ExitStack() as both:
        ends = []
        for number, host in enumerate(FIRST_SPI):
            server = ("y", ipsec.BEHIND_Y[1], 9200 + number)
            client = (host, plan.ADDRESSES[host], 0)
            ends.append(both.enter_context(connected(lab, client, server)))
        for near, far, _ in ends:
            exchange(near, far, OCTETS)


def _seen(client: _Client, frames: list[Frame]) -> Tunnel:
    own, spis = client.spi, client.lease.spis
    mine = f"to-{client.host}"
    inward = [f.interface for f in frames if f.ethertype == ETH_P_IP and spi(f.packet) == own]
    return Tunnel(
        client.host,
        str(plan.ADDRESSES[client.host]),
        f"{plan.NB}:{client.lease.port}",
        f"{spis[0]:08x}-{spis[-1]:08x}",
        f"{own:08x}",
        inward.count(mine),
        sum(1 for name in inward if name not in {mine, "uplink"}),
        sum(1 for frame in frames if encapsulates_in_udp(frame.packet)),
    )


def show(*, as_json: bool = False) -> Story:
    """Tell the story and show what came of it; progress goes to stderr when it is JSON."""
    console = Console(stderr=as_json, soft_wrap=True, width=max(120, Console().width))
    with console.status("") as status:
        story = tell(status.update)
    if as_json:
        print(json.dumps({**asdict(story), "holds": story.holds}, indent=2))
        return story
    console.print(DRAWING, highlight=False, markup=False)
    console.print(_table(story))
    told = (
        "Both tunnels work at the same time, by native ESP, behind one address."
        if story.holds
        else "It does not hold."
    )
    console.print(told, style="bold green" if story.holds else "bold red")
    return story


def _table(story: Story) -> Table:
    shown = Table(caption="ESP to: packets from y with the client's SPI, by whom they reached")
    for heading in ("client", "its address", "y knows it as", "SPIs leased", "y sends with"):
        shown.add_column(heading, no_wrap=True)
    for heading in ("ESP to it", "to the other", "in UDP"):
        shown.add_column(heading, justify="right")
    for one in story.tunnels:
        shown.add_row(
            one.client, one.own_address, one.at_y, one.spis, one.spi,
            str(one.esp_in), str(one.esp_elsewhere), str(one.encapsulated),
        )  # fmt: skip
    return shown
