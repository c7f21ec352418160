"""Refusals in words: why, and what to do about it."""

from typing import Final

from gateway.domain.nar import Delivery
from gateway.nar.codec.numbers import NarCommand, Reply, SocksCommand

_NAMES: Final[dict[int, str]] = {
    SocksCommand.CONNECT: "a TCP port",
    SocksCommand.BIND: "a TCP server port",
    SocksCommand.UDP_ASSOCIATE: "a UDP port",
    SocksCommand.NAR_MODE: "NAR with this target",
    NarCommand.ICMP_ASSOCIATE: "an ICMP identifier",
    NarCommand.IPSEC_ASSOCIATE: "an SPI",
    NarCommand.TUNNEL_ASSOCIATE: "a tunnel",
    NarCommand.SESSION: "a session",
    NarCommand.RENEW: "a renewal",
    NarCommand.RELEASE: "a release",
    NarCommand.L2TP_ASSOCIATE: "L2TP",
}
_REASONS: Final = {
    Reply.GENERAL_FAILURE: "the server could not do it: nothing may be left of what was asked "
    "for; try again later, or ask its administrator",
    Reply.NOT_ALLOWED: "the server's rules do not allow it to you, or it does not go with the "
    "agreed delivery (AH needs an end-to-end one): name the peer, ask for another delivery, or "
    "ask the server's administrator for a rule",
    Reply.NETWORK_UNREACHABLE: "the server has no route to the peer: see its outside link",
    Reply.HOST_UNREACHABLE: "the server does not reach the peer, or does not know its name: see "
    "the name, or give the address",
    Reply.CONNECTION_REFUSED: "the peer refused it",
    Reply.TTL_EXPIRED: "the peer is too far from the server",
    Reply.COMMAND_NOT_SUPPORTED: "the server does not know this command: ask for something else, "
    "or use another server",
    Reply.ADDRESS_TYPE_NOT_SUPPORTED: "the server does not take this kind of address: give an "
    "IPv4 address",
}
NO_METHOD: Final = (
    "the server takes none of our logins: give user and password, and use TLS; or have the server "
    "trust this network"
)
NO_NAR: Final = "the server speaks SOCKS5, but no NAR: use it as a proxy, or use another server"
SILENT: Final = "the server does not answer: see whether it runs and whether a NAR server is there"
GIVEN_UP: Final = "given up before the server answered"
TWICE: Final = "the server lent what is ours already: use that lease"
OVER: Final = "the server ended the lease"
AWAY: Final = "the connection to the server was gone for longer than it keeps leases"
CHANGED: Final = "the server forgot the session and did not lend the same again"


def refusal(command: int, reply: Reply) -> str:
    """A sentence about a refused command."""
    what = _NAMES.get(command, "this")
    return f"no {what.removeprefix('a ').removeprefix('an ')}: {_REASONS.get(reply, reply.name)}"


def wrong_login(user: str) -> str:
    """The password was refused."""
    return f"the server refused the login of {user}: check user name and password"


def misbehaving(what: str) -> str:
    """The server breaks the protocol."""
    return f"the server does not speak SOCKS5 with NAR properly ({what}): see the address and port"


def unacceptable(delivery: Delivery) -> str:
    """The server imposes what this host cannot do."""
    return (
        f"the server insists on delivery by {delivery.value}, which is not possible here: allow "
        "it, or ask the server's administrator for another one"
    )
