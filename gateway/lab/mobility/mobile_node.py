"""A mobile node as an instrument of tests: one layer of Mobile IPv4 on a host of the lab.

A device of draft 001 has two: one with the home address of the x-HA, one with that of the i-HA.
It registers with the gateway's own codec and sets up its end with the kernel's own tunnels. It
decides nothing: a test says where it is and what it asks for.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from typing import Self

from gateway.domain.mobility import Encapsulation
from gateway.lab.mobility.discovery import Discovered, announce, discover
from gateway.lab.mobility.signalling import SignallingSocket
from gateway.lab.mobility.stack import Stack
from gateway.lab.mobility.udp_tunnel import UdpTunnel
from gateway.lab.plan import Access
from gateway.lab.processes import LabError
from gateway.lab.topology import Lab
from gateway.mip_agents.authentication import sign, verify
from gateway.mip_agents.codec.codes import ReplyCode
from gateway.mip_agents.codec.extensions import (
    AuthenticationKind,
    Challenge,
    EncapsulatingDelivery,
    Extension,
    Nai,
    UdpTunnelReply,
    UdpTunnelRequest,
    ZeroOverheadConfirmation,
    ZeroOverheadRequest,
)
from gateway.mip_agents.codec.registration import (
    RegistrationReply,
    RegistrationRequest,
    RequestFlag,
)
from gateway.mip_agents.policy import SecurityAssociation
from gateway.mip_agents.replay import ntp

ACCEPTED = (ReplyCode.ACCEPTED, ReplyCode.ACCEPTED_NO_SIMULTANEOUS)
_FLAG = {
    Encapsulation.IP_IP: RequestFlag(0),
    Encapsulation.MINIMAL: RequestFlag.MINIMAL,
    Encapsulation.GRE: RequestFlag.GRE,
}
_FOR_AGENTS = (EncapsulatingDelivery, Challenge)
CO_LOCATED = RequestFlag.CO_LOCATED | RequestFlag.REVERSE
BY_AGENT = RequestFlag.REVERSE


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply whose authenticator is right, and what it grants."""

    request: RegistrationRequest
    reply: RegistrationReply
    authentic: bool
    """False for a foreign agent's own denial, which has no mobile-home authenticator."""

    @property
    def code(self) -> ReplyCode:
        """What became of the request."""
        return ReplyCode(self.reply.code)

    @property
    def accepted(self) -> bool:
        """Whether there is a binding now (or, for a lifetime of 0, none any more)."""
        return self.code in ACCEPTED

    @property
    def lifetime_s(self) -> int:
        """Granted."""
        return self.reply.lifetime_s

    @property
    def encapsulation(self) -> Encapsulation:
        """What the request asked for."""
        for encapsulation in (Encapsulation.MINIMAL, Encapsulation.GRE):
            if self.request.flags & _FLAG[encapsulation]:
                return encapsulation
        return Encapsulation.IP_IP

    @property
    def in_udp(self) -> bool:
        """Whether the home agent tunnels in UDP."""
        reply = self.reply.first(UdpTunnelReply)
        return reply is not None and reply.code == 0

    @property
    def zero_overhead(self) -> IPv4Address | None:
        """The default destination that the home agent confirmed."""
        confirmed = self.reply.first(ZeroOverheadConfirmation)
        return None if confirmed is None else confirmed.destination


class MobileNode:
    """One layer; `number` tells the layers of a host apart (1 is the lower one, the x-MIP).

    A context manager: its devices, routes and sockets go with the block.
    Methods raise LabError when nobody answers or an answer is not what it has to be.
    """

    def __init__(
        self,
        lab: Lab,
        host: str,
        name: str,
        number: int,
        *,
        home_address: IPv4Address,
        home_agent: IPv4Address,
        association: SecurityAssociation,
        default_route: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.lab, self.host, self.name = lab, host, name
        self.home_address, self.home_agent = home_address, home_agent
        self.association = association
        self.stack = Stack(lab, host, name, number, home_address, default_route=default_route)
        self.socket: SignallingSocket | None = None
        self.tunnel: UdpTunnel | None = None
        self.answers: list[Answer] = []
        self._clock = clock
        self._count = itertools.count(1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()
        self.stack.remove()

    # -- registering -----------------------------------------------------------------------------

    def request(
        self,
        care_of: IPv4Address,
        *,
        flags: RequestFlag = CO_LOCATED,
        encapsulation: Encapsulation = Encapsulation.IP_IP,
        lifetime_s: int = 600,
        udp: UdpTunnelRequest | None = None,
        zero_overhead: IPv4Address | None = None,
        delivery: bool = False,
        challenge: bytes = b"",
        nai: str = "",
        home_agent: IPv4Address | None = None,
        home_address: IPv4Address | None = None,
        identification: int | None = None,
    ) -> RegistrationRequest:
        """A new request, without authenticators."""
        extensions: list[Extension] = []
        if nai:
            extensions.append(Nai(nai))
        if udp is not None:
            extensions.append(udp)
        if zero_overhead is not None:
            extensions.append(ZeroOverheadRequest(zero_overhead))
        if delivery:
            extensions.append(EncapsulatingDelivery())
        if challenge:
            extensions.append(Challenge(challenge))
        if identification is None:
            # The lowest bits tell requests of one moment apart.
            identification = ntp(self._clock()) & ~0xFF | next(self._count) & 0xFF
        return RegistrationRequest(
            flags | _FLAG[encapsulation],
            lifetime_s,
            self.home_address if home_address is None else home_address,
            self.home_agent if home_agent is None else home_agent,
            care_of,
            identification,
            tuple(extensions),
        )

    def signed(self, request: RegistrationRequest) -> bytes:
        """The octets to send: the mobile-home authenticator, then what the foreign agent reads."""
        mine = tuple(one for one in request.extensions if not isinstance(one, _FOR_AGENTS))
        octets = sign(
            replace(request, extensions=mine).serialize(),
            AuthenticationKind.MOBILE_HOME,
            self.association,
        )
        rest = [one for one in request.extensions if isinstance(one, _FOR_AGENTS)]
        return octets + b"".join(one.serialize() for one in rest)

    def at(
        self,
        source: IPv4Address,
        *,
        interface: str | None = None,
        port: int = 0,
    ) -> SignallingSocket:
        """Signal from this address from now on."""
        self._close()
        self.socket = SignallingSocket(self.lab, self.host, source, port=port, interface=interface)
        return self.socket

    def ask(self, request: RegistrationRequest, to: IPv4Address, *, tries: int = 3) -> Answer:
        """Send a request and return the matching reply."""
        if self.socket is None:
            raise LabError("say where the mobile node is first: at()")
        octets = self.signed(request)
        for _ in range(tries):
            self.socket.send(octets, to)
            end = time.monotonic() + 2.0
            while (left_s := end - time.monotonic()) > 0:
                message = self.socket.receive(left_s)
                answer = None if message is None else self._answer(request, message)
                if answer is not None:
                    self.answers.append(answer)
                    return answer
        raise LabError(f"{to} did not answer {tries} registrations of {self.home_address}")

    def no_answer(self, request: RegistrationRequest, to: IPv4Address, wait_s: float = 1.5) -> bool:
        """Whether a request stays without any answer for that long."""
        if self.socket is None:
            raise LabError("say where the mobile node is first: at()")
        self.socket.send(self.signed(request), to)
        return self.socket.receive(wait_s) is None

    def _answer(self, request: RegistrationRequest, message: bytes) -> Answer | None:
        reply = RegistrationReply.parse(message)
        if reply.identification & 0xFFFF_FFFF != request.identification & 0xFFFF_FFFF:
            return None  # of an earlier request
        proofs = reply.authentications(AuthenticationKind.MOBILE_HOME)
        authentic = bool(proofs) and verify(message, proofs[0], self.association)
        if proofs and not authentic:
            raise LabError(f"a reply with a wrong authenticator, code {reply.code}")
        if not proofs and reply.code in ACCEPTED:
            raise LabError("an acceptance without an authenticator")
        return Answer(request, reply, authentic)

    # -- places ----------------------------------------------------------------------------------

    def co_located(
        self,
        access: Access,
        *,
        care_of: IPv4Address | None = None,
        use: bool = True,
        **asked: object,
    ) -> Answer:
        """Register an address of its own: the access network's, or the VPN's inner one.

        `asked` are keywords of `request`. With `use`, an accepted registration is used.
        """
        self.stack.use_care_of(access)
        source = access.device.ip if care_of is None else care_of
        self.at(source)
        answer = self.ask(self.request(source, **asked), self.home_agent)  # type: ignore[arg-type]
        if use and answer.accepted:
            self.use(answer)
            if not answer.request.flags & RequestFlag.REVERSE:
                self.stack.through_router(access)
        return answer

    def use(self, answer: Answer) -> None:
        """Set our end of a co-located care-of address up."""
        care_of = answer.request.care_of_address
        if answer.in_udp:
            self.stack.clear()
            if self.socket is None:
                raise LabError("the socket of the UDP tunnel is closed")
            self.tunnel = UdpTunnel(
                self.lab, self.host, self.stack.tunnel_device, self.socket, self.home_agent
            )
            self.stack.through_tun()
            return
        reverse = bool(answer.request.flags & RequestFlag.REVERSE)
        self.stack.through_tunnel(care_of, self.home_agent, answer.encapsulation, reverse=reverse)
        if answer.zero_overhead is not None:
            self.stack.switch_addresses(care_of, self.home_agent, answer.zero_overhead)

    def by_agent(
        self, link: str, *, agent: Discovered | None = None, **asked: object
    ) -> tuple[Answer, Discovered]:
        """Find the foreign agent of a link and register its care-of address through it."""
        found = agent or discover(self.lab, self.host, link, self.home_address)
        self.stack.through_agent(found)
        self.at(self.home_address, interface=link)
        asked.setdefault("flags", BY_AGENT)
        request = self.request(found.care_of_address, **asked)  # type: ignore[arg-type]
        return self.ask(request, found.address), found

    def by_vpn(self, care_of: IPv4Address, device: str | None, **asked: object) -> Answer:
        """Register the VPN-CoA through the tunnel; the home address is its inner address.

        `device` is the VPN's interface; None when the policies of an IKE daemon do without.
        """
        if device is None:
            self.stack.through_vpn()
        else:
            self.stack.through_device(device)
        self.at(self.home_address)
        asked.setdefault("flags", BY_AGENT)
        return self.ask(self.request(care_of, **asked), care_of)  # type: ignore[arg-type]

    def at_home(self, access: Access, *, deregister: bool = True) -> Answer | None:
        """Use the home link and tell the neighbours; deregister from there (lifetime 0)."""
        self.stack.at_home(access)
        self.stack.forget_care_of()
        self.at(self.home_address)
        announce(self.lab, self.host, access.name, self.home_address)
        if not deregister:
            return None
        request = self.request(self.home_address, lifetime_s=0)
        return self.ask(request, self.home_agent)

    def _close(self) -> None:
        if self.tunnel is not None:
            self.tunnel.close()
            self.tunnel = None
        if self.socket is not None:
            self.socket.close()
            self.socket = None
