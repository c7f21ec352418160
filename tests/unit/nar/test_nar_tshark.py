"""tshark as the judge: SOCKS5 by its own dissector, NAR by one written from the draft's text."""

import shutil
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest
from nar_capture import Capture

from gateway.domain.nar import L2tpSession, NarProtocol
from gateway.nar.codec.associate import (
    IcmpAssociate,
    IcmpReply,
    IpsecAssociate,
    IpsecReply,
    TunnelAssociate,
    TunnelReply,
)
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
from gateway.nar.codec.numbers import NarFlag, Notice, Reply, SocksCommand
from gateway.nar.codec.request import SocksReply, SocksRequest

pytestmark = pytest.mark.skipif(not shutil.which("tshark"), reason="needs tshark")

NB, YB = IPv4Address("192.0.2.1"), IPv4Address("198.51.100.5")
XB = IPv4Address("10.9.9.9")
OK = Reply.SUCCEEDED
LEASES = NarFlag.LEASES


@pytest.fixture
def capture(tmp_path: Path) -> Capture:
    return Capture(tmp_path)


def opened(capture: Capture, flags: int = LEASES, granted: int | None = None) -> Capture:
    capture.client(MethodOffer(b"\x00").to_octets()).server(MethodChoice(0).to_octets())
    capture.client(SocksRequest(SocksCommand.NAR_MODE, YB, 0, flags).to_octets())
    answer = SocksReply(OK, NB, 0, flags if granted is None else granted)
    return capture.server(answer.to_octets())


# SOCKS5 by Wireshark's own dissector.


def test_methods_login_and_connect(capture: Capture) -> None:
    capture.client(MethodOffer(b"\x00\x02").to_octets()).server(MethodChoice(2).to_octets())
    capture.client(PasswordRequest("ann", b"secret").to_octets())
    capture.server(PasswordStatus(0).to_octets())
    capture.client(SocksRequest(SocksCommand.CONNECT, "y.example", 443).to_octets())
    capture.server(SocksReply(OK, NB, 20_001).to_octets())
    names = (
        "socks.version",
        "socks.auth_method",
        "socks.auth_accepted_method",
        "socks.username",
        "socks.password",
        "socks.auth_status",
        "socks.command",
        "socks.remote_name",
        "socks.port",
        "socks.results",
        "socks.dst",
    )
    rows = [dict(zip(names, row, strict=True)) for row in capture.fields(*names, lua=False)]
    assert capture.objections(lua=False) == []
    assert rows[0]["socks.auth_method"] == "0,2"
    assert rows[1]["socks.auth_accepted_method"] == "2"
    assert (rows[2]["socks.username"], rows[2]["socks.password"]) == ("ann", "secret")
    assert rows[3]["socks.auth_status"] == "0"
    assert (rows[4]["socks.command"], rows[4]["socks.remote_name"]) == ("1", "y.example")
    assert rows[4]["socks.port"] == "443"


@pytest.mark.parametrize(
    ("address", "field"),
    [(YB, "socks.dst"), (IPv6Address("2001:db8::5"), "socks.dstV6")],
)
@pytest.mark.parametrize("command", [1, 2, 3])
def test_socks_addresses(
    capture: Capture, address: IPv4Address | IPv6Address, field: str, command: int
) -> None:
    capture.client(MethodOffer(b"\x00").to_octets()).server(MethodChoice(0).to_octets())
    capture.client(SocksRequest(command, address, 53).to_octets())
    rows = capture.fields("socks.command", field, "socks.port", lua=False)
    assert rows[-1] == [str(command), str(address), "53"]
    assert capture.objections(lua=False) == []


# NAR by the dissector of tests/lab/nar.lua.


def test_a_whole_session(capture: Capture) -> None:
    capture.client(MethodOffer(b"\x02\x00").to_octets()).server(MethodChoice(2).to_octets())
    capture.client(PasswordRequest("ann", b"secret").to_octets())
    capture.server(PasswordStatus(0).to_octets())
    capture.client(SocksRequest(SocksCommand.NAR_MODE, YB, 0, LEASES | NarFlag.GRE).to_octets())
    capture.server(SocksReply(OK, NB, 0, LEASES | NarFlag.GRE).to_octets())
    capture.client(Session().to_octets())
    capture.server(SessionReply(OK, b"t" * 16, 600, 120).to_octets())
    capture.client(Renew().to_octets()).server(RenewReply(OK, 600).to_octets())
    rows = capture.fields(
        "nar.methods", "nar.user", "nar.flags", "nar.gre", "nar.leases", "nar.address",
        "nar.lease_s", "nar.grace_s",
    )  # fmt: skip
    assert capture.objections() == []
    assert rows[0][0] == "0200"
    assert rows[2][1] == "ann"
    for row in rows[4:6]:
        assert [value.replace("True", "1") for value in row[2:5]] == ["0x82", "1", "1"]
    assert (rows[4][5], rows[5][5]) == (str(YB), str(NB))
    assert rows[7][6:] == ["600", "120"]
    assert "secret" not in str(rows)


def test_every_lease(capture: Capture) -> None:
    opened(capture)
    capture.client(SocksRequest(SocksCommand.CONNECT, YB, 80).to_octets())
    capture.server(SocksReply(OK, NB, 20_001).to_octets())
    capture.client(SocksRequest(SocksCommand.UDP_ASSOCIATE, YB, 500, 1).to_octets())
    capture.server(SocksReply(OK, NB, 20_002).to_octets())
    capture.client(IcmpAssociate(0xC001).to_octets()).server(IcmpReply(OK, 0xC002).to_octets())
    capture.client(IpsecAssociate(51, 0).to_octets())
    capture.server(IpsecReply(OK, 51, 0x4000_0001).to_octets())
    capture.client(TunnelAssociate(XB, 4).to_octets()).server(TunnelReply(OK, XB, 4).to_octets())
    capture.client(TunnelAssociate(XB, 47).to_octets())
    capture.server(TunnelReply(Reply.NOT_ALLOWED).to_octets())
    rows = capture.fields(
        "nar.command", "nar.answers", "nar.reply", "nar.port", "nar.icmp_id", "nar.protocol",
        "nar.spi", "nar.inner",
    )  # fmt: skip
    assert capture.objections() == []
    assert rows[4:] == [
        ["0x01", "", "", "80", "", "", "", ""],
        ["", "0x01", "0", "20001", "", "", "", ""],
        ["0x03", "", "", "500", "", "", "", ""],
        ["", "0x03", "0", "20002", "", "", "", ""],
        ["0x81", "", "", "", "0xc001", "", "", ""],
        ["", "0x81", "0", "", "0xc002", "", "", ""],
        ["0x82", "", "", "", "", "51", "0x00000000", ""],
        ["", "0x82", "0", "", "", "51", "0x40000001", ""],
        ["0x83", "", "", "", "", "4", "", "10.9.9.9"],
        ["", "0x83", "0", "", "", "", "", "10.9.9.9"],
        ["0x83", "", "", "", "", "47", "", "10.9.9.9"],
        ["", "0x83", "2", "", "", "", "", "0.0.0.0"],
    ]


def test_the_extension(capture: Capture) -> None:
    opened(capture, LEASES | NarFlag.L2TP)
    key = LeaseKey(NarProtocol.TCP, 20_001, YB, 80)
    session = L2tpSession(XB, 1, 2, 3, 4, b"c" * 8, b"d" * 8)
    capture.client(L2tpAssociate().to_octets()).server(L2tpReply.of(session).to_octets())
    capture.client(Release(key).to_octets()).server(ReleaseReply(OK, key).to_octets())
    capture.client(Release(None).to_octets()).server(ReleaseReply(OK, None).to_octets())
    capture.server(NoticeMessage(Notice.LEASE_ENDED, NB, key).to_octets())
    rows = capture.fields(
        "nar.command", "nar.tunnel_id", "nar.peer_session_id", "nar.tuple_protocol",
        "nar.tuple_remote", "nar.tuple_remote_port", "nar.tuple_value", "nar.reason",
    )  # fmt: skip
    assert capture.objections() == []
    assert rows[5][1:3] == ["2", "3"]
    assert rows[6] == ["0x92", "", "", "6", str(YB), "80", "0x00004e21", ""]
    assert rows[10] == ["0x94", "", "", "6", str(YB), "80", "0x00004e21", "2"]


def test_h72_any_segments(capture: Capture) -> None:
    said = [
        MethodOffer(b"\x00\x02"),
        PasswordRequest("ann", b"pw"),
        SocksRequest(SocksCommand.NAR_MODE, "y.example", 0, LEASES),
        Session(),
        TunnelAssociate(XB, 4),
    ]
    for octet in b"".join(one.to_octets() for one in said):
        capture.client(bytes((octet,)))
    answers = [
        MethodChoice(2),
        PasswordStatus(0),
        SocksReply(OK, NB, 0, LEASES),
        SessionReply(OK, b"t" * 16, 600, 120),
        NoticeMessage(Notice.STOPPING),
        TunnelReply(OK, XB, 4),
    ]
    capture.server(b"".join(one.to_octets() for one in answers))
    rows = capture.fields("nar.user", "nar.name", "nar.command", "nar.answers", "nar.reason")
    assert capture.objections() == []
    flat = [",".join(row[i] for row in rows if row[i]) for i in range(5)]
    assert flat == ["ann", "y.example", "0x80,0x90,0x83,0x94", "0x80,0x90,0x83", "3"]


WRONG_REQUESTS = {
    "05 80 80 01 c6336405 0001": "DST.PORT",
    "05 01 04 01 c6336405 0050": "RSV",
    "05 09 00 01 c6336405 0050": "unknown command",
    "05 01 00 02 c6336405 0050": "no message",
    "01 a0 0000": "no message",
    "01 82 06 00000000": "IN.PROTOCOL",
    "01 83 01 0a090909 06": "TUN.PROTOCOL",
    "01 83 03 01 61 04": "LTUN.ADDR",
    "01 92 06 01 0000 00000000 00004e20": "RESERVED",
    "01 92 02 00 0000 00000000 00004e20": "protocol",
    "05 01 00 03 03 610a62 0050": "octets of no host name",
}


@pytest.mark.parametrize(("octets", "objection"), WRONG_REQUESTS.items())
def test_h71_h72_the_judge_objects_to_requests(
    capture: Capture, octets: str, objection: str
) -> None:
    opened(capture)
    capture.client(bytes.fromhex(octets))
    (found,) = capture.objections()
    assert objection in found


WRONG_REPLIES = {
    "01 82 32 00000000": ("01 00 32 000000ff", "reserved SPI"),
    "01 82 32 00000001": ("01 00 33 40000001", "another protocol"),
    "01 83 01 0a090909 04": ("01 00 01 0a090908 04", "another tunnel"),
    "01 81 0000": ("01 09 0000", "not assigned"),
    "05 01 00 01 c6336405 0050": ("05 00 00 01 c0000201 0000", "without an address or a port"),
    "01 93": ("01 00" + "00" * 32, "identifier 0"),
    "01 90" + "00" * 16: ("01 00" + "00" * 24, "without a token"),
}


@pytest.mark.parametrize(("request_", "answer"), WRONG_REPLIES.items())
def test_h74_the_judge_objects_to_replies(
    capture: Capture, request_: str, answer: tuple[str, str]
) -> None:
    opened(capture)
    capture.client(bytes.fromhex(request_)).server(bytes.fromhex(answer[0]))
    found = capture.objections()
    assert found
    assert answer[1] in found[0]


def test_h72_the_judge_objects_to_nar_without_nar_mode(capture: Capture) -> None:
    capture.client(MethodOffer(b"\x00").to_octets()).server(MethodChoice(0).to_octets())
    capture.client(SocksRequest(SocksCommand.UDP_ASSOCIATE, YB, 0).to_octets())
    capture.client(IcmpAssociate(1).to_octets())
    assert "before NAR-MODE" in capture.objections()[0]


def test_h72_the_judge_objects_to_the_extension_unasked(capture: Capture) -> None:
    opened(capture, 0)
    capture.client(Renew().to_octets())
    capture.server(NoticeMessage(Notice.STOPPING).to_octets())
    assert len(capture.objections()) == 2
    other = opened(Capture(capture.directory), 0, LEASES)
    assert "not asked for" in other.objections()[0]


@pytest.mark.parametrize("octets", ["04 01", "05 00"])
def test_h69_the_judge_objects_to_the_first_message(capture: Capture, octets: str) -> None:
    capture.client(bytes.fromhex(octets) + b"\0")
    assert capture.objections()


def test_a_proxys_octets_are_left_alone(capture: Capture) -> None:
    capture.client(MethodOffer(b"\x00").to_octets()).server(MethodChoice(0).to_octets())
    capture.client(SocksRequest(SocksCommand.CONNECT, YB, 80).to_octets())
    capture.server(SocksReply(OK, NB, 40_000).to_octets())
    capture.client(b"GET / HTTP/1.0\r\n\r\n").server(b"HTTP/1.0 200 OK\r\n\r\n")
    assert capture.objections() == []
