"""The IPsec layer as the mobile node sees it: down, coming up, or up."""

import enum
from collections.abc import Callable
from ipaddress import IPv4Address

from gateway.mobile_node.backoff import Backoff
from gateway.mobile_node.inputs import VpnSession
from gateway.mobile_node.modes import Plan

UDP_TRIES_S = 15.0
"""A connection that is not up by then goes another way."""
DOUBTFUL_TRIES_S = 8.0
TCP_TRIES_S = 25.0
FIRST_REFUSED_S, LAST_REFUSED_S = 30.0, 900.0
"""A gateway that says no is asked again, but not often: somebody has to change something."""


class VpnState(enum.Enum):
    """Of the one connection that the node has."""

    DOWN = "down"
    CONNECTING = "connecting"
    UP = "up"


class VpnConnection:
    """What was asked of IKE, and what it said."""

    def __init__(self, random: Callable[[int], bytes]) -> None:
        self.state = VpnState.DOWN
        self.plan: Plan | None = None
        self.interface = ""
        """Of the link that it was set up or moved to."""
        self.generation = -1
        """Of that link: with another one the gateway is told anew where we are."""
        self.outer: IPv4Address | None = None
        self.session: VpnSession | None = None
        self.since = 0.0
        self.moves = 0
        self.connects = 0
        self.retry_at = 0.0
        self.refusal = ""
        """What the gateway said no to, and what to do; empty if it did not."""
        self.last_failure = ""
        self.refused = Backoff(FIRST_REFUSED_S, LAST_REFUSED_S, random)

    def connecting(
        self, plan: Plan, interface: str, generation: int, outer: IPv4Address, now: float
    ) -> None:
        """IKE has been asked to connect."""
        self.state = VpnState.CONNECTING
        self.plan, self.interface, self.generation = plan, interface, generation
        self.outer, self.session = outer, None
        self.since = now
        self.connects += 1

    def up(self, session: VpnSession, now: float) -> None:
        """IKE has connected, or agreed on other terms."""
        if self.state is not VpnState.UP:
            self.since = now
        self.state = VpnState.UP
        self.session = session
        self.refusal = self.last_failure = ""
        self.refused.reset()

    def moved(self, interface: str, generation: int, outer: IPv4Address) -> None:
        """The session lives at another address, or on another link with the same."""
        self.interface, self.generation, self.outer = interface, generation, outer
        self.moves += 1

    def down(self, now: float) -> None:
        """There is no connection any more."""
        self.state = VpnState.DOWN
        self.session = self.outer = self.plan = None
        self.since = now

    def gives_up_at(self, *, sooner: bool) -> float:
        """When a connection that is coming up has taken too long.

        ``sooner``: the x-HA gives no answer over UDP either.
        """
        if self.plan is not None and self.plan.tcp:
            return self.since + TCP_TRIES_S
        return self.since + (DOUBTFUL_TRIES_S if sooner else UDP_TRIES_S)
