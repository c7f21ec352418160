"""What is read from a link below routing."""

import contextlib
from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dataplane.packet import ipv4, udp
from gateway.domain.endpoint import Endpoint
from gateway.domain.wire import WireError
from gateway.mobile_host.link_listener import ICMP, FromLink, parse

AGENT, NODE = IPv4Address("198.51.100.1"), IPv4Address("192.0.2.100")
MAC = bytes.fromhex("02aabbccdd01")


def test_a_registration_message() -> None:
    packet = udp.packet(Endpoint(AGENT, 434), Endpoint(NODE, 434), b"\x03reply")
    assert parse(packet, MAC) == FromLink(MAC, Endpoint(AGENT, 434), message=b"\x03reply")


def test_an_advertisement() -> None:
    packet = ipv4.build(AGENT, IPv4Address("224.0.0.1"), ICMP, b"\x09\0rest", ttl=1)
    found = parse(packet, MAC)
    assert found.advertisement == b"\x09\0rest"
    assert found.source_address == AGENT


@pytest.mark.parametrize("ttl", [2, 64, 255])
def test_an_advertisement_from_behind_a_router(ttl: int) -> None:
    packet = ipv4.build(AGENT, IPv4Address("224.0.0.1"), ICMP, b"\x09\0rest", ttl=ttl)
    with pytest.raises(WireError, match="TTL"):
        parse(packet, MAC)


def test_another_port_or_no_payload() -> None:
    for port, payload in ((435, b"x"), (434, b"")):
        with pytest.raises(WireError):
            parse(udp.packet(Endpoint(AGENT, 434), Endpoint(NODE, port), payload), MAC)


@given(st.binary(max_size=120))
def test_any_octets(octets: bytes) -> None:
    with contextlib.suppress(WireError):
        parse(octets, MAC)
