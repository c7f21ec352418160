"""Hypothesis strategies for every message of SOCKS5 and NAR."""

from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address

from hypothesis import strategies as st

from gateway.domain.nar import NarProtocol
from gateway.nar.codec.associate import (
    IcmpAssociate,
    IcmpReply,
    IpsecAssociate,
    IpsecReply,
    TunnelAssociate,
    TunnelReply,
)
from gateway.nar.codec.datagram import RelayDatagram
from gateway.nar.codec.leases import (
    L2tpAssociate,
    L2tpReply,
    LeaseKey,
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
from gateway.nar.codec.numbers import NarCommand, Notice, Reply, SocksCommand
from gateway.nar.codec.request import SocksReply, SocksRequest

octet = st.integers(0, 0xFF)
u16 = st.integers(0, 0xFFFF)
u32 = st.integers(0, 0xFFFF_FFFF)
ipv4 = st.builds(IPv4Address, u32)
replies = st.sampled_from(Reply)
labels = st.from_regex(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,20}[A-Za-z0-9_])?", fullmatch=True)
names = st.lists(labels, min_size=1, max_size=8).map(".".join)
addresses = ipv4 | st.builds(IPv6Address, st.integers(0, (1 << 128) - 1)) | names
tokens = st.binary(min_size=16, max_size=16)
cookies = st.binary(min_size=8, max_size=8)
users = st.text(min_size=1, max_size=60).filter(str.isprintable)
passwords = st.binary(min_size=1, max_size=255)
remote = st.none() | st.builds(IPv4Address, st.integers(1, 0xFFFF_FFFF))
port = st.none() | st.integers(1, 0xFFFF)


@st.composite
def keys(draw: st.DrawFn) -> LeaseKey:
    protocol = draw(st.sampled_from(NarProtocol))
    if protocol.has_ports:
        return LeaseKey(protocol, draw(u16), draw(remote), draw(port))
    values = u16 if protocol is NarProtocol.ICMP else u32
    return LeaseKey(protocol, draw(values), draw(remote))


nonzero = st.integers(1, 0xFFFF_FFFF)
REQUESTS: dict[type, st.SearchStrategy[object]] = {
    SocksRequest: st.builds(SocksRequest, octet, addresses, u16, octet),
    IcmpAssociate: st.builds(IcmpAssociate, u16),
    IpsecAssociate: st.builds(IpsecAssociate, octet, u32),
    TunnelAssociate: st.builds(TunnelAssociate, ipv4, octet),
    Session: st.builds(Session, tokens),
    Renew: st.builds(Renew),
    Release: st.builds(Release, st.none() | keys()),
    L2tpAssociate: st.builds(L2tpAssociate),
}
REPLIES: dict[type, st.SearchStrategy[object]] = {
    SocksReply: st.builds(SocksReply, replies, addresses, u16, octet),
    IcmpReply: st.builds(IcmpReply, replies, u16),
    IpsecReply: st.builds(IpsecReply, replies, octet, u32),
    TunnelReply: st.builds(TunnelReply, replies, ipv4, octet),
    SessionReply: st.builds(SessionReply, replies, tokens, u32, u32),
    RenewReply: st.builds(RenewReply, replies, u32),
    ReleaseReply: st.builds(ReleaseReply, replies, st.none() | keys()),
    L2tpReply: st.builds(L2tpReply, replies, nonzero, nonzero, nonzero, nonzero, cookies, cookies),
}
LOGIN: dict[type, st.SearchStrategy[object]] = {
    MethodOffer: st.builds(MethodOffer, st.binary(min_size=1, max_size=255)),
    MethodChoice: st.builds(MethodChoice, octet),
    PasswordRequest: st.builds(PasswordRequest, users, passwords),
    PasswordStatus: st.builds(PasswordStatus, octet),
}
NOTICES: dict[type, st.SearchStrategy[object]] = {
    NoticeMessage: st.builds(NoticeMessage, st.sampled_from(Notice), ipv4, st.none() | keys()),
}
DATAGRAMS: dict[type, st.SearchStrategy[object]] = {
    RelayDatagram: st.builds(RelayDatagram, addresses, u16, st.binary(max_size=64), octet),
}
EVERYTHING = REQUESTS | REPLIES | LOGIN | NOTICES | DATAGRAMS
PARSERS: dict[type, Callable[[bytes], object]] = {
    kind: kind.parse  # type: ignore[attr-defined]
    for kind in EVERYTHING
}
COMMAND_OF: dict[type, int] = {
    SocksReply: SocksCommand.CONNECT,
    IcmpReply: NarCommand.ICMP_ASSOCIATE,
    IpsecReply: NarCommand.IPSEC_ASSOCIATE,
    TunnelReply: NarCommand.TUNNEL_ASSOCIATE,
    SessionReply: NarCommand.SESSION,
    RenewReply: NarCommand.RENEW,
    ReleaseReply: NarCommand.RELEASE,
    L2tpReply: NarCommand.L2TP_ASSOCIATE,
}
