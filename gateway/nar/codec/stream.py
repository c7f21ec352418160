"""Messages from a stream of octets, whatever pieces it comes in, with a bound on what waits."""

from collections.abc import Callable
from typing import Final

from gateway.domain.wire import WireError
from gateway.nar.codec.associate import (
    ICMP_OCTETS,
    IPSEC_OCTETS,
    IcmpAssociate,
    IcmpReply,
    IpsecAssociate,
    IpsecReply,
    TunnelAssociate,
    TunnelReply,
)
from gateway.nar.codec.leases import (
    FIRST_UNASKED,
    L2TP_OCTETS,
    L2TP_REPLY_OCTETS,
    NOTICE_OCTETS,
    RELEASE_OCTETS,
    RENEW_OCTETS,
    RENEW_REPLY_OCTETS,
    SESSION_OCTETS,
    SESSION_REPLY_OCTETS,
    L2tpAssociate,
    L2tpReply,
    NoticeMessage,
    Release,
    ReleaseReply,
    Renew,
    RenewReply,
    Session,
    SessionReply,
)
from gateway.nar.codec.negotiation import (
    MethodChoice,
    MethodOffer,
    PasswordRequest,
    PasswordStatus,
)
from gateway.nar.codec.numbers import NAR_VERSION, SOCKS_VERSION, NarCommand, SocksCommand
from gateway.nar.codec.request import SocksReply, SocksRequest

NarRequest = (
    IcmpAssociate | IpsecAssociate | TunnelAssociate | Session | Renew | Release | L2tpAssociate
)
NarReply = (
    IcmpReply | IpsecReply | TunnelReply | SessionReply | RenewReply | ReleaseReply | L2tpReply
)
Request = SocksRequest | NarRequest
ServerReply = SocksReply | NarReply
ServerMessage = ServerReply | NoticeMessage

MAX_WAITING_BEFORE_LOGIN: Final = 2048
"""Octets: a method offer, a login and some requests at once fit."""
MAX_WAITING_AFTER_LOGIN: Final = 65_536
"""Octets: a client may send many requests, or its application's first data, ahead of replies."""

_REQUESTS: Final[dict[int, tuple[int | None, Callable[[bytes], NarRequest]]]] = {
    NarCommand.ICMP_ASSOCIATE: (ICMP_OCTETS, IcmpAssociate.parse),
    NarCommand.IPSEC_ASSOCIATE: (IPSEC_OCTETS, IpsecAssociate.parse),
    NarCommand.TUNNEL_ASSOCIATE: (None, TunnelAssociate.parse),
    NarCommand.SESSION: (SESSION_OCTETS, Session.parse),
    NarCommand.RENEW: (RENEW_OCTETS, Renew.parse),
    NarCommand.RELEASE: (RELEASE_OCTETS, Release.parse),
    NarCommand.L2TP_ASSOCIATE: (L2TP_OCTETS, L2tpAssociate.parse),
}
_REPLIES: Final[dict[int, tuple[int | None, Callable[[bytes], NarReply]]]] = {
    NarCommand.ICMP_ASSOCIATE: (ICMP_OCTETS, IcmpReply.parse),
    NarCommand.IPSEC_ASSOCIATE: (IPSEC_OCTETS, IpsecReply.parse),
    NarCommand.TUNNEL_ASSOCIATE: (None, TunnelReply.parse),
    NarCommand.SESSION: (SESSION_REPLY_OCTETS, SessionReply.parse),
    NarCommand.RENEW: (RENEW_REPLY_OCTETS, RenewReply.parse),
    NarCommand.RELEASE: (RELEASE_OCTETS, ReleaseReply.parse),
    NarCommand.L2TP_ASSOCIATE: (L2TP_REPLY_OCTETS, L2tpReply.parse),
}


class MessageStream:
    """Octets of one direction of a connection that are not read yet, at most :attr:`limit`."""

    __slots__ = ("_waiting", "limit")

    def __init__(self, limit: int) -> None:
        self._waiting = bytearray()
        self.limit = limit

    def __len__(self) -> int:
        return len(self._waiting)

    def feed(self, data: bytes) -> None:
        """Append what came. Raises WireError when more waits than may."""
        if len(self._waiting) + len(data) > self.limit:
            raise WireError(f"more than {self.limit} octets ahead of replies")
        self._waiting += data

    def rest(self) -> bytes:
        """Take everything that is left, without regard to messages."""
        octets = bytes(self._waiting)
        self._waiting.clear()
        return octets

    def _take(self, octets_needed: Callable[[bytes | bytearray], int]) -> bytes | None:
        needed = octets_needed(self._waiting)
        if len(self._waiting) < needed:
            return None
        octets = bytes(self._waiting[:needed])
        del self._waiting[:needed]
        return octets


class ClientStream(MessageStream):
    """What a client says, read by the server.

    Each method takes the next message out once it is complete, and returns None until then. They
    raise WireError as soon as the octets cannot become that message; where the client gets a reply
    that is a RequestError. After a WireError that is not ``in_step`` the connection has to end.
    """

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(MAX_WAITING_BEFORE_LOGIN)

    def method_offer(self) -> MethodOffer | None:
        """The first message of all."""
        octets = self._take(MethodOffer.octets_needed)
        return None if octets is None else MethodOffer.parse(octets)

    def password(self) -> PasswordRequest | None:
        """After method 2 was chosen."""
        octets = self._take(PasswordRequest.octets_needed)
        return None if octets is None else PasswordRequest.parse(octets)

    def request(self, *, nar: bool) -> Request | None:
        """A command; those of version 1 only when ``nar``, that is after NAR-MODE."""
        if not self._waiting or self._waiting[0] == SOCKS_VERSION:
            octets = self._take(SocksRequest.octets_needed)
            return None if octets is None else SocksRequest.parse(octets)
        if self._waiting[0] != NAR_VERSION or not nar:
            raise WireError(f"command of version {self._waiting[0]}, which is not spoken here")
        if len(self._waiting) < 2:
            return None
        known = _REQUESTS.get(self._waiting[1])
        if known is None:
            raise WireError(f"unknown NAR command {self._waiting[1]}")
        size, parse = known
        octets = self._take(TunnelAssociate.octets_needed if size is None else lambda _: size)
        return None if octets is None else parse(octets)


class ServerStream(MessageStream):
    """What a server says, read by the client. As :class:`ClientStream`, the other way round."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(MAX_WAITING_AFTER_LOGIN)

    def method_choice(self) -> MethodChoice | None:
        """The answer to the offer of methods."""
        octets = self._take(MethodChoice.octets_needed)
        return None if octets is None else MethodChoice.parse(octets)

    def password_status(self) -> PasswordStatus | None:
        """The answer to a login."""
        octets = self._take(PasswordStatus.octets_needed)
        return None if octets is None else PasswordStatus.parse(octets)

    def message(self, expected: int | None) -> ServerMessage | None:
        """The reply to command ``expected`` (None: none is due), or a notice before it."""
        if not self._waiting:
            return None
        if self._waiting[0] == NAR_VERSION and self._notice_due(expected):
            octets = self._take(lambda _: NOTICE_OCTETS)
            return None if octets is None else NoticeMessage.parse(octets)
        if expected is None:
            raise WireError("a reply to nothing")
        if expected in _SOCKS_COMMANDS:
            octets = self._take(SocksReply.octets_needed)
            return None if octets is None else SocksReply.parse(octets)
        return self._nar_reply(expected)

    def _notice_due(self, expected: int | None) -> bool:
        """Whether a notice comes next; undecided while its second octet is missing."""
        if len(self._waiting) < 2:
            return expected is None or expected in _SOCKS_COMMANDS
        return self._waiting[1] >= FIRST_UNASKED

    def _nar_reply(self, expected: int) -> NarReply | None:
        if self._waiting[0] != NAR_VERSION:
            raise WireError(f"reply of version {self._waiting[0]}, {NAR_VERSION} was expected")
        size, parse = _REPLIES[expected]
        octets = self._take(TunnelAssociate.octets_needed if size is None else lambda _: size)
        return None if octets is None else parse(octets)


_SOCKS_COMMANDS: Final = frozenset(SocksCommand)
