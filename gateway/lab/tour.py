"""`gateway lab tour`: one session lives through every place and every access mode.

The device runs the product's mobile node, every box the product's gateway. In each leg the
profile allows the modes of inside and one or two of outside, so that each is really used.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from gateway.lab import plan as lab_plan
from gateway.lab.mobility import plan, profiles
from gateway.lab.mobility.stage import MODE_S, Stage
from gateway.lab.processes import LabError
from gateway.lab.tap import ETH_P_IP, Frame, Tap
from gateway.lab.tour_traffic import LiveSession

PREFIX = "gwtour-"
SETTLE_S = 0.6
"""After the mode is there, so that pauses behind the move are seen as well."""
GATEWAY_WIRE = ("gw", "outside")
UDP, IKE_PORT, NAT_PORT, NON_ESP = 17, 500, 4500, bytes(4)
ON_THE_WAY_S = 0.1
"""A datagram younger than that is not lost yet."""


@dataclass(frozen=True, slots=True)
class Place:
    """Somewhere to go."""

    name: str
    link: str
    """Of the device."""
    before: str = ""
    """The link that is left only when the new one is there (make before break)."""


HOME = Place("home", "home")
VISITED = Place("inside, foreign agent", "ifalink")
CO_LOCATED = Place("inside, own address", "plain")
BEHIND_NAT = Place("outside, NAT", "nat")
OUTSIDE_AGENT = Place("outside, foreign agent", "xfalink")
OUTSIDE = Place("outside", "access1")
SECOND = Place("outside, second interface", "access2", before="access1")
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
    mode: str
    overhead_octets: int
    """The most that a datagram had on the device's own wire beyond itself."""
    gap_ms: float
    lost: int
    sent: int
    shell_gap_ms: float
    download_octets: int
    messages: dict[str, int]
    """Of the device, by layer: registrations it sent, IKE messages that reached the gateway."""


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
    """A stage with the session on it."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    def travel(
        self, legs: Sequence[Leg] = LEGS, began: Callable[[Leg, Place], None] = lambda *_: None
    ) -> Iterator[StepResult]:
        """Make the moves, one at a time. Raises LabError where one does not come to its mode.

        `began` is told of each before it starts.
        """
        session: LiveSession | None = None
        with ExitStack() as ends:
            for leg in legs:
                # At home the session needs no node while that starts anew.
                self._stage.become("home", leg.profile())
                if session is None:
                    session = ends.enter_context(
                        LiveSession(self._stage.lab, lab_plan.SERVER, plan.INSIDE_HOME_ADDRESS)
                    )
                for place, mode in leg.steps():
                    began(leg, place)
                    yield self._step(leg, place, mode, session)

    def _step(self, leg: Leg, place: Place, mode: str, session: LiveSession) -> StepResult:
        node = self._stage.node
        before = node.status()["messages"]
        begin = time.time()
        with Tap(self._stage.lab, [GATEWAY_WIRE]) as tap:
            self._move(place)
            status = self._there(place, mode)
            session.goes_on()
            time.sleep(SETTLE_S)
            window = session.window(begin, time.time() - ON_THE_WAY_S)
        after = node.status()["messages"]
        session.pause_download(paused=True)
        time.sleep(SETTLE_S / 2)  # what is on the way arrives
        octets = self._stage.octets(place.link)
        session.pause_download(paused=False)
        return StepResult(
            leg=leg.name,
            place=place.name,
            mode=str(status["mode"]),
            overhead_octets=octets,
            gap_ms=window.gap_ms,
            lost=window.lost,
            sent=window.sent,
            shell_gap_ms=window.shell_gap_ms,
            download_octets=window.download_octets,
            messages={
                **{
                    layer: after[layer] - before.get(layer, 0)
                    for layer in ("x-MIP", "i-MIP")
                    if layer in after
                },
                "IKE": ike_messages(tap.frames),
            },
        )

    def _move(self, place: Place) -> None:
        if not place.before:
            self._stage.enter(place.link)
            return
        self._stage.join(place.link)
        self._stage.leave(place.before)

    def _there(self, place: Place, mode: str) -> dict[str, Any]:
        """Wait until the node is in the mode, on the place's own link."""
        return self._stage.node.wait_for(
            lambda found: found["mode"] == mode and in_use(found) == place.link,
            f"{mode} on {place.link}",
            MODE_S,
        )


def in_use(status: Mapping[str, Any]) -> str:
    """The device's link that the node works by."""
    return next((str(one["interface"]) for one in status["interfaces"] if one["in_use"]), "")


def ike_messages(frames: Iterable[Frame]) -> int:
    """IKE messages of the device that reached the gateway."""
    count = 0
    for frame in frames:
        packet = frame.packet
        if not frame.arriving or frame.ethertype != ETH_P_IP or packet[9] != UDP:
            continue
        at = (packet[0] & 15) * 4
        port = int.from_bytes(packet[at + 2 : at + 4], "big")
        count += port == IKE_PORT or (port == NAT_PORT and packet[at + 8 : at + 12] == NON_ESP)
    return count


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
    with Stage(prefix, endpoint_update="allowed") as stage:
        try:
            for step in Tour(stage).travel(legs, began):
                result.steps.append(step)
                ended(step)
        except LabError as error:
            result.failure = str(error)
    return result
