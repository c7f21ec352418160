"""tshark as the judge of our messages: its field values are ours, and nothing is malformed."""

import shutil
import struct
import subprocess
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from gateway.domain.checksum import internet_checksum
from gateway.mip_agents.advertisement import (
    AgentAdvertisement,
    AgentFlag,
    RouterAddress,
    challenge,
    foreign_agent_nai,
)
from gateway.mip_agents.authentication import sign
from gateway.mip_agents.codec.codes import ReplyCode
from gateway.mip_agents.codec.extensions import (
    Authentication,
    AuthenticationKind,
    Challenge,
    EncapsulatingDelivery,
    Nai,
    RevocationSupport,
    UdpTunnelReply,
    UdpTunnelRequest,
    UnknownExtension,
    VendorExtension,
    ZeroOverheadConfirmation,
    ZeroOverheadRequest,
)
from gateway.mip_agents.codec.registration import (
    RegistrationReply,
    RegistrationRequest,
    RequestFlag,
)
from gateway.mip_agents.codec.revocation import Revocation, RevocationAcknowledgment
from gateway.mip_agents.codec.tunnel_data import TunnelData
from gateway.mip_agents.policy import Algorithm, SecurityAssociation
from gateway.mip_agents.replay import ntp

pytestmark = pytest.mark.skipif(not shutil.which("tshark"), reason="needs tshark")

HOME = IPv4Address("10.0.0.9")
AGENT = IPv4Address("192.0.2.1")
CARE_OF = IPv4Address("198.51.100.7")
WITH_HOME = SecurityAssociation(0x1234, b"k" * 16)
WITH_AGENT = SecurityAssociation(0x5678, b"f" * 32, Algorithm.HMAC_SHA256)
UDP = 17
ICMP = 1
REQUEST = RegistrationRequest(
    RequestFlag.CO_LOCATED | RequestFlag.REVERSE,
    1800,
    HOME,
    AGENT,
    CARE_OF,
    ntp(1_800_000_000.5),
)
REPLY = RegistrationReply(0, 1800, HOME, AGENT, ntp(1_800_000_000.5))


def ip(protocol: int, payload: bytes, destination: IPv4Address = AGENT) -> bytes:
    header = struct.pack(
        "!BBHHHBBH4s4s",
        0x45,
        0,
        20 + len(payload),
        1,
        0,
        64,
        protocol,
        0,
        CARE_OF.packed,
        destination.packed,
    )
    return header[:10] + internet_checksum(header).to_bytes(2, "big") + header[12:] + payload


def udp(payload: bytes) -> bytes:
    return ip(UDP, struct.pack("!HHHH", 40000, 434, 8 + len(payload), 0) + payload)


class Judge:
    """Asks tshark about packets in a capture of raw IP."""

    def __init__(self, directory: Path) -> None:
        self._capture = directory / "capture.pcap"

    def _run(self, packet: bytes, *arguments: str) -> str:
        pcap = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 101)
        record = struct.pack("<IIII", 1, 0, len(packet), len(packet))
        self._capture.write_bytes(pcap + record + packet)
        run = subprocess.run(
            ["tshark", "-n", "-r", str(self._capture), *arguments],
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
            env={"PATH": "/usr/bin:/bin", "HOME": str(self._capture.parent), "LC_ALL": "C.UTF-8"},
        )
        return run.stdout

    def sees(self, packet: bytes, **expected: str) -> None:
        """Each field, dots as two underscores, has the values expected, joined by commas.

        Some versions of tshark say True where others say 1.
        """
        suspicious = "_ws.malformed || _ws.expert.severity == error"
        assert self._run(packet, "-Y", suspicious) == ""
        names = [name.replace("__", ".") for name in expected]
        wanted = [word for name in names for word in ("-e", name)]
        line = self._run(packet, "-T", "fields", *wanted).rstrip("\n")
        line = line.replace("True", "1").replace("False", "0")
        assert dict(zip(names, line.split("\t"), strict=True)) == dict(
            zip(names, expected.values(), strict=True)
        )

    def objects_to(self, packet: bytes) -> bool:
        return self._run(packet, "-Y", "_ws.malformed") != ""


@pytest.fixture
def judge(tmp_path: Path) -> Judge:
    return Judge(tmp_path)


def test_a_request_with_all_extensions(judge: Judge) -> None:
    request = replace(
        REQUEST,
        extensions=(
            Nai("anna@home.example"),
            UdpTunnelRequest(forced=True, encapsulation=47),
            ZeroOverheadRequest(IPv4Address("10.0.0.1")),
            EncapsulatingDelivery(),
            Challenge(b"\x01\x02\x03\x04"),
            RevocationSupport(0x01020304, inform=True),
            VendorExtension(False, 9, 2, b"v"),
            UnknownExtension(200, b"u"),
        ),
    )
    octets = sign(request.serialize(), AuthenticationKind.MOBILE_HOME, WITH_HOME)
    octets = sign(octets, AuthenticationKind.GENERALIZED, WITH_HOME, 1)
    octets = sign(octets, AuthenticationKind.MOBILE_FOREIGN, WITH_HOME)
    octets = sign(octets, AuthenticationKind.FOREIGN_HOME, WITH_AGENT)
    authenticators = [
        one.authenticator.hex()
        for one in RegistrationRequest.parse(octets).extensions
        if isinstance(one, Authentication)
    ]
    judge.sees(
        udp(octets),
        mip__type="1",
        mip__flags="0x22",
        mip__life="1800",
        mip__homeaddr="10.0.0.9",
        mip__haaddr="192.0.2.1",
        mip__coa="198.51.100.7",
        mip__ext__type="131,144,255,130,132,137,134,200,32,36,33,34",
        mip__ext__len="17,6,6,0,4,6,9,1,20,20,20,36",
        mip__nai="anna@home.example",
        mip__ext__utrq__f="1",
        mip__ext__utrq__r="0",
        mip__ext__utrq__encaptype="47",
        mip__ext__rev__i="1",
        mip__ext__rev__tstamp="16909060",
        mip__ext__auth__subtype="1",
        mip__auth__spi="0x00001234,0x00001234,0x00001234,0x00005678",
        mip__auth__auth=",".join(authenticators),
    )


def test_every_flag_of_a_request(judge: Judge) -> None:
    names = ("s", "b", "d", "m", "g", "v", "t", "x")
    for position, name in enumerate(names):
        one = replace(REQUEST, flags=RequestFlag(0x80 >> position))
        fields = {f"mip__{other}": str(int(other == name)) for other in names}
        judge.sees(udp(one.serialize()), **fields)


def test_identification_is_a_time(judge: Judge) -> None:
    judge.sees(
        udp(REQUEST.serialize()), mip__ident="Jan 15, 2027 08:00:00.500000000 UTC", mip__type="1"
    )


def test_a_reply_with_all_extensions(judge: Judge) -> None:
    reply = replace(
        REPLY,
        code=ReplyCode.HA_IDENTIFICATION_MISMATCH,
        extensions=(
            UdpTunnelReply(64, forced=True, keepalive_s=110),
            ZeroOverheadConfirmation(IPv4Address("10.0.0.1")),
            RevocationSupport(7),
            VendorExtension(True, 9, 2, b"v"),
        ),
    )
    judge.sees(
        udp(sign(reply.serialize(), AuthenticationKind.MOBILE_HOME, WITH_HOME)),
        mip__type="3",
        mip__code="133",
        mip__life="1800",
        mip__homeaddr="10.0.0.9",
        mip__haaddr="192.0.2.1",
        mip__ext__type="44,127,137,38,32",
        mip__ext__len="6,6,6,7,20",
        mip__ext__utrp__code="64",
        mip__ext__utrp__f="1",
        mip__ext__utrp__keepalive="110",
        mip__ext__cvse__vendor_type="0x0002",
        mip__ext__cvse__vendor_value="76",
        mip__auth__spi="0x00001234",
    )


def test_a_revocation_and_its_acknowledgment(judge: Judge) -> None:
    for from_home, inform in ((True, False), (False, True)):
        revocation = Revocation(HOME, AGENT, CARE_OF, 0xA0000001, from_home, inform)
        judge.sees(
            udp(sign(revocation.serialize(), AuthenticationKind.FOREIGN_HOME, WITH_AGENT)),
            mip__type="7",
            mip__rev__a=str(int(from_home)),
            mip__rev__i=str(int(inform)),
            mip__homeaddr="10.0.0.9",
            mip__rev__hda="192.0.2.1",
            mip__rev__fda="198.51.100.7",
            mip__revid="2684354561",
            mip__ext__type="34",
        )
        acknowledgment = RevocationAcknowledgment(HOME, 0xA0000001, inform)
        judge.sees(
            udp(sign(acknowledgment.serialize(), AuthenticationKind.FOREIGN_HOME, WITH_AGENT)),
            mip__type="15",
            mip__ack__i=str(int(inform)),
            mip__homeaddr="10.0.0.9",
            mip__revid="2684354561",
            mip__ext__type="34",
        )


def test_tunnel_data(judge: Judge) -> None:
    inner = ip(UDP, struct.pack("!HHHH", 5, 6, 10, 0) + b"hi", HOME)
    judge.sees(
        udp(TunnelData(4, inner).serialize()),
        mip__type="4",
        mip__nattt__nexthdr="4",
        ip__dst="192.0.2.1,10.0.0.9",
        udp__dstport="434,6",
    )


def test_names_of_codes_agree(judge: Judge) -> None:
    words = {
        ReplyCode.ACCEPTED: "Reg Accepted",
        ReplyCode.FA_DELIVERY_STYLE_UNSUPPORTED: "Delivery Style Not Supported",
        ReplyCode.FA_NONZERO_HOME_AGENT_REQUIRED: "Non-zero HA Address Required",
        ReplyCode.FA_STALE_CHALLENGE: "Stale Challenge",
        ReplyCode.FA_WRONG_CHALLENGE_IN_REPLY: "HA Sent Wrong Challenge in Reply",
        ReplyCode.HA_TOO_MANY_BINDINGS: "Too Many Simultaneous Bindings",
        ReplyCode.HA_VENDOR_EXTENSION_OF_FOREIGN_AGENT: "CVSE Sent by FA",
        ReplyCode.HA_UDP_ENCAPSULATION_UNAVAILABLE: "UDP Encapsulation Unavailable",
    }
    for code, word in words.items():
        assert word in judge._run(udp(replace(REPLY, code=code).serialize()), "-V")


def test_an_agent_advertisement(judge: Judge) -> None:
    told = AgentAdvertisement(
        sequence=513,
        registration_lifetime_s=600,
        flags=AgentFlag.FOREIGN_AGENT
        | AgentFlag.REGISTRATION_REQUIRED
        | AgentFlag.REVERSE_TUNNELLING
        | AgentFlag.REVOCATION,
        care_of_addresses=(CARE_OF,),
        lifetime_s=30,
        routers=(RouterAddress(AGENT, 5),),
        prefix_lengths=(24,),
        extensions=(challenge(b"\x01\x02\x03\x04"), foreign_agent_nai("fa@visited.example")),
    )
    judge.sees(
        ip(ICMP, told.serialize(), IPv4Address("224.0.0.1")),
        icmp__type="9",
        icmp__code="0",
        icmp__checksum__status="1",
        icmp__mip__type="16,19,24,136",
        icmp__mip__seq="513",
        icmp__mip__life="600",
        icmp__mip__r="1",
        icmp__mip__b="0",
        icmp__mip__h="0",
        icmp__mip__f="1",
        icmp__mip__m="0",
        icmp__mip__g="0",
        icmp__mip__rt="1",
        icmp__mip__u="0",
        icmp__mip__x="1",
        icmp__mip__coa="198.51.100.7",
        icmp__mip__challenge="01020304",
        icmp__mip__prefixlength="24",
    )


def test_the_judge_sees_what_is_broken(judge: Judge) -> None:
    octets = sign(REQUEST.serialize(), AuthenticationKind.MOBILE_HOME, WITH_HOME)
    assert not judge.objects_to(udp(octets))
    assert judge.objects_to(udp(octets[:-3]))
