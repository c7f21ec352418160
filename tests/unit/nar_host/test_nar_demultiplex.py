"""The hub's rules: which packet is whose."""

from ipaddress import IPv4Address

from gateway.domain.nar import NarProtocol, NarTuple
from gateway.nar_host.demultiplex import Member, ruleset

NB, Y, Z = IPv4Address("192.0.2.1"), IPv4Address("198.51.100.7"), IPv4Address("198.51.100.9")
TCP, UDP = NarProtocol.TCP, NarProtocol.UDP


def member(number: int, *tuples: NarTuple) -> Member:
    return Member(number, f"narc-v{number}", NB, 0, tuples)


def rules(*members: Member) -> str:
    return ruleset(members)


def test_nobody_is_let_through_without_members() -> None:
    text = rules()
    assert "policy drop" in text
    assert "map" not in text


def test_ports_in_a_row_are_one_element() -> None:
    text = rules(member(1, *(NarTuple(TCP, NB, port) for port in (20_001, 20_000, 20_002))))
    element = "0.0.0.0-255.255.255.255 . 0-65535 . 192.0.2.1 . 6 . 20000-20002 : 0x47598001"
    assert f"{{ {element} }}" in text


def test_one_port_of_two_sessions_is_told_by_the_remote() -> None:
    text = rules(member(1, NarTuple(TCP, NB, 7, Y, 80)), member(2, NarTuple(TCP, NB, 7, Z, 80)))
    assert "198.51.100.7 . 80 . 192.0.2.1 . 6 . 7 : 0x47598001" in text
    assert "198.51.100.9 . 80 . 192.0.2.1 . 6 . 7 : 0x47598002" in text


def test_elements_that_overlap_are_one() -> None:
    """The kernel refuses a map with two answers to one packet: the wider one stays."""
    text = rules(
        member(1, NarTuple(TCP, NB, 7, Y, 80), NarTuple(TCP, NB, 7, Y), NarTuple(TCP, NB, 7))
    )
    assert "0.0.0.0-255.255.255.255 . 0-65535 . 192.0.2.1 . 6 . 7 : 0x47598001" in text
    assert "198.51.100.7" not in text


def test_every_protocol_has_its_tuple_and_its_errors() -> None:
    inner = IPv4Address("10.9.9.9")
    text = rules(
        member(
            1,
            NarTuple(UDP, NB, 5000),
            NarTuple(NarProtocol.ICMP, NB, 49_152, Y),
            NarTuple(NarProtocol.ESP, NB, 0x4000_0001),
            NarTuple(NarProtocol.AH, NB, 0x4000_0002),
            NarTuple(NarProtocol.IP_IP, NB, int(inner), Y),
            NarTuple(NarProtocol.GRE, NB, int(inner), Y),
        )
    )
    assert "esp spi map { 1073741825 : 0x47598001 }" in text
    assert "ah spi map { 1073741826 : 0x47598001 }" in text
    assert "icmp id map { 0xc000 : 0x47598001 }" in text
    assert "@th,128,32 map { 0xa090909 : 0x47598001 }" in text
    assert "@th,160,32 map { 0xa090909 : 0x47598001 }" in text
    for protocol in (1, 4, 17, 47, 50, 51):
        assert f"@th,136,8 {protocol} " in text
    assert "@th,136,8 6 " not in text


def test_h73_a_session_sends_from_its_own_address_only() -> None:
    text = rules(member(1, NarTuple(TCP, NB, 7)), member(2, NarTuple(TCP, NB, 8)))
    assert '"narc-v1" . 192.0.2.1 : 0x47598400, "narc-v2" . 192.0.2.1 : 0x47598400' in text
