"""The mobile node's side of one registration with one home agent (RFC 5944 section 3.6)."""

from collections.abc import Callable
from ipaddress import IPv4Address

from gateway.dataplane.node import NodeTunnel
from gateway.domain.endpoint import Endpoint
from gateway.domain.event import Event
from gateway.mobile_node.outputs import TransmitRegistration
from gateway.mobile_node.policy import HomeAgentPolicy
from gateway.mobile_node.registering.outcome import Outcome, Retransmission, Via

RegistrationOutput = TransmitRegistration | Outcome | Event


class RegistrationClient:
    """Registers with one home agent, one attachment at a time, and keeps the registration alive.

    Renewals are its own business once it is registered, at about two thirds of each lifetime
    granted; :meth:`renew` asks for one earlier. Each call may leave outputs behind.
    """

    def __init__(
        self,
        policy: HomeAgentPolicy,
        *,
        random: Callable[[int], bytes],
        wall_clock: Callable[[], float],
    ) -> None:
        raise NotImplementedError

    @property
    def policy(self) -> HomeAgentPolicy:
        """As given, or as given last to :meth:`change_policy`."""
        raise NotImplementedError

    def change_policy(self, policy: HomeAgentPolicy) -> None:
        """Use another association, ticket or lifetime from the next request on."""
        raise NotImplementedError

    def register(
        self,
        via: Via,
        now: float,
        *,
        retransmission: Retransmission,
        lifetime_s: int | None = None,
        default_destination: IPv4Address | None = None,
    ) -> None:
        """Register the care-of address of ``via``; an attempt under way is replaced.

        With the attachment of before, answers to its requests still count. A registration by
        another attachment stays ours until the home agent accepts this one.
        ``lifetime_s`` overrides the policy's; ``default_destination`` is asked for by zero
        overhead where the policy wants it.
        """
        raise NotImplementedError

    def renew(self, now: float, retransmission: Retransmission, *, challenge: bytes = b"") -> None:
        """Register again what is registered, now; without a registration it does nothing."""
        raise NotImplementedError

    def deregister(self, via: Via, now: float, retransmission: Retransmission) -> None:
        """Ask the home agent to end the binding of this care-of address (lifetime 0)."""
        raise NotImplementedError

    def stop(self) -> None:
        """Forget attempt and registration, send nothing; what is outstanding no longer counts."""
        raise NotImplementedError

    def hear_challenge(self, challenge: bytes) -> None:
        """The foreign agent has a new challenge: it goes into the next request."""
        raise NotImplementedError

    def receive(
        self, message: bytes, source: Endpoint, now: float, *, interface: str | None = ""
    ) -> bool:
        """Take a datagram of port 434; whether it was for this client. Never raises.

        ``interface`` it came over (None: the VPN); told, it has to be that of the request.
        """
        raise NotImplementedError

    def next_timer(self) -> float | None:
        """When :meth:`handle_timer` is to be called next, or None."""
        raise NotImplementedError

    def handle_timer(self, now: float) -> None:
        """Do what is due."""
        raise NotImplementedError

    def take_outputs(self) -> list[RegistrationOutput]:
        """Everything since the last call, in order."""
        raise NotImplementedError

    @property
    def trying(self) -> bool:
        """A request is waiting for its answer."""
        raise NotImplementedError

    @property
    def registered(self) -> bool:
        """There is a registration that has not ended."""
        raise NotImplementedError

    @property
    def via(self) -> Via | None:
        """How the registration travelled; None without one."""
        raise NotImplementedError

    @property
    def tunnel(self) -> NodeTunnel | None:
        """Of the registration; None without one."""
        raise NotImplementedError

    @property
    def lifetime_s(self) -> int:
        """Granted; 0 without a registration."""
        raise NotImplementedError

    @property
    def registered_since(self) -> float | None:
        """When the first of the unbroken row of registrations by this attachment was accepted."""
        raise NotImplementedError

    @property
    def confirmed_at(self) -> float | None:
        """When the newest request that was accepted was sent."""
        raise NotImplementedError

    @property
    def expires_at(self) -> float | None:
        """When the registration ends unless it is renewed; None for never or without one."""
        raise NotImplementedError

    @property
    def sent(self) -> int:
        """Transmissions of the attempt under way; 0 without one."""
        raise NotImplementedError

    @property
    def counters(self) -> dict[str, int]:
        """Messages sent and heard since the start, by kind, and what was discarded."""
        raise NotImplementedError
