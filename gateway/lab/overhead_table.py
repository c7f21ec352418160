"""`gateway lab overhead`: the table of draft 001 section 6.2, measured on the wire.

Every cell is the most that a datagram of the user's has beyond itself between the device and the
next router, once with the draft's own algorithms (3DES, HMAC-SHA1-96) and once with AES-GCM.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table

from gateway.lab.mobility import profiles
from gateway.lab.mobility.ciphers import as_in_the_draft
from gateway.lab.mobility.stage import MODE_S, Stage, translated

PREFIX = "gwoct-"
DRAFT_SUITE, OUR_SUITE = "3des-sha1", "aes256gcm16"
SUITES = {DRAFT_SUITE: "3DES, HMAC-SHA1-96", OUR_SUITE: "AES-GCM"}
WITHOUT: dict[str, object] = {"endpoint_update": False, "mobike": False}


@dataclass(frozen=True, slots=True)
class Setting:
    """A profile, and where it is measured: (link, mode, name of the cell) each."""

    modes: tuple[str, ...]
    login: str
    cells: tuple[tuple[str, str, str], ...]
    gateway: Mapping[str, object] = field(default_factory=dict)
    zero_overhead: bool = False
    translated: bool = False
    """NATs also between x-HA and gateway, and between gateway and i-HA."""

    def profile(self) -> dict[str, object]:
        """Keywords of `profiles.profile`."""
        return {
            "modes": (*profiles.INSIDE_MODES, *self.modes),
            "login": {"identity": profiles.identity(self.login)},
            "gateway": self.gateway,
            "outside": {"zero_overhead": self.zero_overhead},
        }


SETTINGS = (
    Setting(
        ("vf", "fvf"),
        "vf",
        (
            ("ifalink", "f", "f"),
            ("plain", "c", "c"),
            ("xfalink", "fvf", "fvf"),
            ("access1", "vf", "vf"),
            ("nat", "vf", "vf nat"),
        ),
    ),
    Setting(("cvf",), "vf", (("access1", "cvf", "cvf"), ("nat", "cvf", "cvf nat")), WITHOUT),
    Setting(("cvf",), "vf", (("access1", "cvf", "cvf zot"),), WITHOUT, zero_overhead=True),
    Setting(
        ("cvc", "fvc"),
        "vc",
        (("xfalink", "fvc", "fvc"), ("access1", "cvc", "cvc")),
        {**WITHOUT, "vpn_fa": False},
    ),
    Setting(
        ("cvc",),
        "vc",
        (("nat", "cvc", "cvc nat"),),
        {**WITHOUT, "vpn_fa": False},
        translated=True,
    ),
)

DRAFT = {
    "f": 0,
    "c": 20,
    "fvc": 77,
    "fvf": 57,
    "cvc": 97,
    "cvf": 77,
    "cvf zot": 57,
    "vf": 57,
    "vf nat": 57 + 8,
    "cvf nat": 77 + 12,
    "cvc nat": 97 + 12 + 8 + 12,
}
"""What the draft computed, by cell; NAT traversal as it says below its table."""

COLUMNS = ("basic", "+ vpn/fa", "+ sa-update", "+ zot", "+ both")
ROWS: tuple[tuple[str, tuple[str | None, ...]], ...] = (
    ("inside, foreign agent", ("f",) * 5),
    ("inside, own address", ("c",) * 5),
    ("outside, foreign agent, x-MIP", ("fvc", "fvf", "fvf", "fvf", "fvf")),
    ("outside, own address, x-MIP", ("cvc", "cvf", "cvf", "cvf zot", "cvf zot")),
    ("outside, own address, no x-MIP", (None, None, "vf", None, "vf")),
)
NAT_ROWS = (
    ("NAT below IPsec", "vf", "vf nat"),
    ("NAT below x-MIP", "cvf", "cvf nat"),
    ("NAT below all three layers", "cvc", "cvc nat"),
)


def measure(
    began: Callable[[str], None] = lambda _: None,
    settings: Sequence[Setting] = SETTINGS,
    prefix: str = PREFIX,
) -> dict[str, dict[str, int]]:
    """Octets by suite and cell; `began` is told of each cell first.

    Raises LabError where the lab cannot be built or a mode does not come about.
    """
    found: dict[str, dict[str, int]] = {suite: {} for suite in SUITES}
    with Stage(prefix, endpoint_update="allowed") as stage:
        for setting in settings:
            for cell, suite, octets in _cells(stage, setting, began):
                found[suite][cell] = octets
    return found


def _cells(
    stage: Stage, setting: Setting, began: Callable[[str], None]
) -> Iterator[tuple[str, str, int]]:
    nats = ("xha", "core") if setting.translated else ()
    with translated(stage.lab, *nats):
        for link, mode, cell in setting.cells:
            began(cell)
            # Anew each time: a move would bring the algorithms back, at one end before the other.
            stage.enter("home")
            stage.become("home", setting.profile())
            stage.enter(link)
            stage.node.wait_for_mode(mode, timeout_s=MODE_S)
            yield cell, OUR_SUITE, stage.octets(link)
            if setting.translated:
                continue  # the draft's algorithms cost there what they cost without NATs
            as_in_the_draft(stage.lab)
            yield cell, DRAFT_SUITE, stage.octets(link)


def faults(found: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Cells that cost more than the draft says, or with its own algorithms anything else."""
    told = []
    for suite, cells in found.items():
        for cell, octets in cells.items():
            wrong = octets != DRAFT[cell] if suite == DRAFT_SUITE else octets > DRAFT[cell]
            if wrong:
                told.append(f"{cell} with {SUITES[suite]}: {octets} octets, not {DRAFT[cell]}")
    return told


def tables(found: Mapping[str, Mapping[str, int]]) -> list[Table]:
    """The draft's table, each cell as draft / 3DES / AES-GCM; and the one of NAT traversal."""
    heading = " / ".join(("draft 001", *SUITES.values()))
    shown = Table(title=f"Octets beyond the user's packet: {heading}")
    shown.add_column("", no_wrap=True)
    for column in COLUMNS:
        shown.add_column(column, justify="right", no_wrap=True)
    for name, cells in ROWS:
        shown.add_row(name, *(_cell(cell, found) for cell in cells))
    nats = Table(title=f"NAT traversal adds: {heading}")
    nats.add_column("")
    nats.add_column("octets", justify="right", no_wrap=True)
    for name, without, with_nat in NAT_ROWS:
        figures = [DRAFT, *(found[suite] for suite in SUITES)]
        added = (
            str(each[with_nat] - each[without]) if with_nat in each else "-" for each in figures
        )
        nats.add_row(name, " / ".join(added))
    return [shown, nats]


def _cell(cell: str | None, found: Mapping[str, Mapping[str, int]]) -> str:
    if cell is None:
        return "not mobile"
    return " / ".join(str(each[cell]) for each in (DRAFT, *(found[suite] for suite in SUITES)))


def show_overhead(*, as_json: bool = False) -> bool:
    """Measure and show; whether every cell is as it has to be. Raises LabError."""
    console = Console(stderr=as_json, soft_wrap=True, width=max(110, Console().width))
    with console.status("building the network and starting five gateways") as status:
        found = measure(lambda cell: status.update(f"measuring: {cell}"))
    wrong = faults(found)
    if as_json:
        print(json.dumps({"draft": DRAFT, "measured": found, "faults": wrong}, indent=2))
        return not wrong
    for each in tables(found):
        console.print(each)
    for text in wrong:
        console.print(text, style="red", markup=False)
    return not wrong
