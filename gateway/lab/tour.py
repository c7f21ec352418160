"""`gateway lab tour`: one session lives through every place and every access mode.

The device runs the product's mobile node, every box the product's gateway. In each leg the
profile allows the modes of inside and one or two of outside, so that each is really used.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Self

from gateway.lab import plan as lab_plan
from gateway.lab.mobility import boxes, plan, profiles
from gateway.lab.mobility.node import MobileHost
from gateway.lab.mobility.overhead import overheads
from gateway.lab.mobility.topology import MobilityLab
from gateway.lab.processes import LabError
from gateway.lab.tour_traffic import LiveSession

PREFIX = "gwtour-"
SETTLE_S = 0.6
"""After the mode is there, so that pauses behind the move are seen as well."""
MODE_S = 30.0


@dataclass(frozen=True, slots=True)
class Place:
    """Somewhere to go."""

    name: str
    link: str
    """Of the device."""
    overlapping: bool = False
    """The new interface is there before the old one goes."""

    def enter(self, lab: MobilityLab) -> None:
        """Move the device there."""
        if self.link in plan.FOREIGN_LINKS:
            lab.enter_link(self.link)
        else:
            lab.move(self.link, make_before_break=self.overlapping)


HOME = Place("home", "home")
VISITED = Place("inside, foreign agent", "ifalink")
CO_LOCATED = Place("inside, own address", "plain")
BEHIND_NAT = Place("outside, NAT", "nat")
OUTSIDE_AGENT = Place("outside, foreign agent", "xfalink")
OUTSIDE = Place("outside", "access1")
SECOND = Place("outside, second interface", "access2", overlapping=True)
RETURN = Place("home again", "home")


@dataclass(frozen=True, slots=True)
class Leg:
    """A round through all places with the modes that are allowed outside."""

    name: str
    own: str
    """Mode with an address of the device's own outside."""
    by_agent: str
    """Mode behind the foreign agent outside."""
    login: str
    """Of `profiles.identity`: the connection at the gateway."""
    gateway: Mapping[str, object] = field(default_factory=dict)
    """Of the profile: which of the gateway's mechanisms are used."""

    def steps(self) -> list[tuple[Place, str]]:
        """Where to go, and the mode that has to come of it."""
        return [
            (HOME, "home"),
            (VISITED, "f"),
            (CO_LOCATED, "c"),
            (BEHIND_NAT, self.own),
            (OUTSIDE_AGENT, self.by_agent),
            (OUTSIDE, self.own),
            (SECOND, self.own),
            (RETURN, "home"),
        ]

    def profile(self) -> dict[str, object]:
        """Keywords of `profiles.profile`."""
        return {
            "modes": (*profiles.INSIDE_MODES, self.own, self.by_agent),
            "login": {"identity": profiles.identity(self.login)},
            "gateway": self.gateway,
        }


LEGS = (
    Leg("VPN/FA and endpoint update", "vf", "fvf", "vf"),
    Leg("endpoint update", "vc", "fvc", "vc", {"vpn_fa": False}),
    Leg("VPN/FA above x-MIP", "cvf", "fvf", "vf", {"endpoint_update": False, "mobike": False}),
    Leg(
        "three layers",
        "cvc",
        "fvc",
        "vc",
        {"vpn_fa": False, "endpoint_update": False, "mobike": False},
    ),
    Leg("MOBIKE", "mc", "fvc", "vc", {"vpn_fa": False, "endpoint_update": False}),
)


@dataclass(frozen=True, slots=True)
class StepResult:
    """What a move cost."""

    leg: str
    place: str
    wanted: str
    mode: str
    overhead_octets: int
    """The most that a datagram had on the device's own wire beyond itself."""
    gap_ms: float
    lost: int
    sent: int
    shell_gap_ms: float
    download_octets: int
    messages: dict[str, int]
    """Signalling the node sent for the move, by layer."""


@dataclass(slots=True)
class TourResult:
    """The whole tour."""

    steps: list[StepResult] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    """Why connections of the session ended; empty when it lived."""
    failure: str = ""
    """What ended the tour early."""

    @property
    def lived(self) -> bool:
        """Whether the one session went through it all."""
        return bool(self.steps) and not self.broken and not self.failure


class Tour:
    """The lab with its boxes and the node, and the session; a context manager."""

    def __init__(self, prefix: str = PREFIX) -> None:
        self.lab = MobilityLab(prefix)
        self.boxes = boxes.Boxes(self.lab)
        self.node: MobileHost | None = None
        self._ends = ExitStack()

    def __enter__(self) -> Self:
        self._ends.enter_context(self.lab)
        try:
            self.lab.compute_checksums()
            self.lab.move("home")
            self.boxes.start({**boxes.agents(), **boxes.vpn(endpoint_update="allowed")})
            self.node = MobileHost(self.lab)
            self._ends.callback(self.node.stop)
        except BaseException:
            self._ends.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        # The lab's end is the end of every process in it.
        self._ends.close()

    def travel(
        self, legs: Sequence[Leg] = LEGS, began: Callable[[Leg, Place], None] = lambda *_: None
    ) -> Iterator[StepResult]:
        """Make the moves, one at a time. Raises LabError where one does not come to its mode.

        `began` is told of each before it starts.
        """
        session: LiveSession | None = None
        with ExitStack() as ends:
            for leg in legs:
                self._become(leg)
                if session is None:
                    session = ends.enter_context(
                        LiveSession(self.lab, lab_plan.SERVER, plan.INSIDE_HOME_ADDRESS)
                    )
                for place, mode in leg.steps():
                    began(leg, place)
                    yield self._step(leg, place, mode, session)

    @property
    def mobile_node(self) -> MobileHost:
        """The node; raises LabError before the tour was entered."""
        if self.node is None:
            raise LabError("enter the tour first")
        return self.node

    def _become(self, leg: Leg) -> None:
        """Use the leg's profile; the device is at home, where the session needs no node."""
        node = self.mobile_node
        node.stop()
        node.write(profiles.profile, **leg.profile())
        node.start()
        node.wait_for_mode("home", timeout_s=MODE_S)

    def _step(self, leg: Leg, place: Place, mode: str, session: LiveSession) -> StepResult:
        node = self.mobile_node
        before = node.status()["messages"]
        begin = time.time()
        place.enter(self.lab)
        status = node.wait_for_mode(mode, timeout_s=MODE_S)
        session.goes_on()
        time.sleep(SETTLE_S)
        window = session.window(begin, time.time())
        after = node.status()["messages"]
        session.pause_download(paused=True)
        time.sleep(SETTLE_S / 2)  # what is on the way arrives
        octets = max(overheads(self.lab, place.link, plan.INSIDE_HOME_ADDRESS, lab_plan.SERVER))
        session.pause_download(paused=False)
        return StepResult(
            leg=leg.name,
            place=place.name,
            wanted=mode,
            mode=str(status["mode"]),
            overhead_octets=octets,
            gap_ms=window.gap_ms,
            lost=window.lost,
            sent=window.sent,
            shell_gap_ms=window.shell_gap_ms,
            download_octets=window.download_octets,
            messages={
                layer: count - before.get(layer, 0)
                for layer, count in after.items()
                if count > before.get(layer, 0)
            },
        )


def tour(
    legs: Sequence[Leg] = LEGS,
    began: Callable[[Leg, Place], None] = lambda *_: None,
    ended: Callable[[StepResult], None] = lambda _: None,
    prefix: str = PREFIX,
) -> TourResult:
    """Make the whole tour in a lab of its own, which is gone afterwards.

    Returns what came of it, also when a move failed. Raises LabError where the lab cannot be
    built.
    """
    result = TourResult()
    with Tour(prefix) as made:
        try:
            for step in made.travel(legs, began):
                result.steps.append(step)
                ended(step)
        except LabError as error:
            result.failure = str(error)
    return result
