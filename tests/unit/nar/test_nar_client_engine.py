"""The NAR client with a server of the test's own, in virtual time."""

from dataclasses import replace
from ipaddress import IPv4Address
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nar_messages import NOTICES, REPLIES
from scripted_nar_server import NB, NEW_NB, OTHER, XA, YB, ServerDouble

from gateway.domain.nar import Delivery, L2tpSession, NarProtocol, NarTuple
from gateway.nar.client.clock import ANSWER_S, UNKNOWN_GRACE_S
from gateway.nar.client.engine import NarClient
from gateway.nar.client.phases import Phase
from gateway.nar.client.settings import NarClientSettings
from gateway.nar.client_outputs import (
    AddressChanged,
    Failed,
    Granted,
    L2tpAgreed,
    Lease,
    Lost,
    ModeAgreed,
    Refused,
    Released,
    SendOctets,
    ServerStopping,
    SessionAgreed,
)
from gateway.nar.codec.associate import IcmpAssociate, IcmpReply, IpsecAssociate
from gateway.nar.codec.leases import LeaseKey, NoticeMessage, Release, Renew, Session
from gateway.nar.codec.numbers import Method, NarFlag, Notice, Reply, SocksCommand
from gateway.nar.codec.request import SocksReply, SocksRequest
from gateway.nar.codec.stream import Request

LOGIN = NarClientSettings("ann", b"secret", YB)
XB = IPv4Address("10.9.9.9")


def ready(settings: NarClientSettings | None = None, **changes: object) -> ServerDouble:
    server = ServerDouble(settings)
    for name, value in changes.items():
        setattr(server, name, value)
    server.connect()
    server.run()
    assert server.client.phase is Phase.READY
    return server


def failed(server: ServerDouble) -> Failed:
    said = [output for output in server.run() if isinstance(output, Failed)]
    assert len(said) == 1
    assert server.client.phase is Phase.FAILED
    return said[0]


def lease(protocol: NarProtocol, value: int, **more: object) -> Lease:
    remote, port = more.pop("remote", None), more.pop("remote_port", None)
    key = NarTuple(protocol, NB, value, remote, port)  # type: ignore[arg-type]
    return Lease(key, Delivery.IP_IP, **more)  # type: ignore[arg-type]


# Opening.


def test_login_mode_and_session() -> None:
    server = ServerDouble(LOGIN)
    server.connect()
    assert server.client.phase is Phase.READY
    assert server.run() == [
        ModeAgreed(NB, Delivery.IP_IP, leases=True),
        SessionAgreed(b"\x01" * 16, 600, 120, resumed=False),
    ]
    assert server.requests == [
        SocksRequest(SocksCommand.NAR_MODE, YB, 0, NarFlag.LEASES),
        Session(),
    ]


def test_no_login_where_none_is_needed() -> None:
    server = ServerDouble(LOGIN)
    server.method = Method.NONE
    server.connect()
    assert server.client.phase is Phase.READY


def test_methods_that_are_offered() -> None:
    for settings_, offered in ((LOGIN, b"\x05\x02\x02\x00"), (None, b"\x05\x01\x00")):
        server = ServerDouble(settings_)
        server.mute = True
        client = server.client
        client.start(XA, 0.0)
        assert client.outputs() == [SendOctets(offered)]


def test_h69_no_acceptable_method() -> None:
    server = ServerDouble()
    server.method = Method.UNACCEPTABLE
    server.connect()
    failure = failed(server)
    assert "give user and password" in failure.words
    assert not failure.again


@pytest.mark.parametrize("method", [Method.GSSAPI, Method.PASSWORD, 0x80])
def test_h69_a_method_that_was_not_offered(method: int) -> None:
    server = ServerDouble()
    server.method = method
    server.connect()
    assert "was not offered" in failed(server).words


def test_h70_wrong_password() -> None:
    server = ServerDouble(LOGIN)
    server.password_status = 1
    server.connect()
    failure = failed(server)
    assert "ann" in failure.words
    assert "secret" not in failure.words
    assert not failure.again


def test_a_proxy_that_knows_no_nar() -> None:
    server = ServerDouble()
    server.refuse = lambda _: Reply.COMMAND_NOT_SUPPORTED
    server.connect()
    assert "no NAR" in failed(server).words


@pytest.mark.parametrize(
    ("reply", "again"), [(Reply.NOT_ALLOWED, False), (Reply.HOST_UNREACHABLE, True)]
)
def test_mode_refused(reply: Reply, again: bool) -> None:
    server = ServerDouble()
    server.refuse = lambda _: reply
    server.connect()
    assert failed(server).again is again


@pytest.mark.parametrize(
    ("flags", "delivery"),
    [
        (0, Delivery.IP_IP),
        (NarFlag.GRE, Delivery.GRE),
        (NarFlag.GRE | NarFlag.L2TP, Delivery.GRE),
        (NarFlag.TRANSLATED, Delivery.TRANSLATED),
        (NarFlag.TRANSLATED | NarFlag.GRE, Delivery.TRANSLATED),
        (0x78, Delivery.IP_IP),
    ],
)
def test_the_server_imposes_a_delivery(flags: int, delivery: Delivery) -> None:
    server = ServerDouble()
    server.flags = flags
    server.connect()
    assert server.run() == [ModeAgreed(NB, delivery, leases=False)]


@pytest.mark.parametrize("delivery", Delivery)
def test_the_client_asks_for_a_delivery(delivery: Delivery) -> None:
    server = ready(NarClientSettings(target=YB, delivery=delivery))
    server.client.lease_tcp_server()
    granted = server.run()[-1]
    assert isinstance(granted, Granted)
    assert granted.lease.delivery is delivery


def test_imposed_what_this_host_cannot_do() -> None:
    server = ServerDouble(NarClientSettings(acceptable=frozenset({Delivery.IP_IP})))
    server.flags = NarFlag.TRANSLATED
    server.connect()
    failure = failed(server)
    assert "translated" in failure.words
    assert not failure.again


def test_l2tp_before_the_first_lease() -> None:
    server = ServerDouble(NarClientSettings(target=YB, delivery=Delivery.L2TP))
    ticket = server.client.lease_spi(NarProtocol.ESP)
    server.connect()
    said = server.run()
    assert [type(output) for output in said] == [ModeAgreed, SessionAgreed, L2tpAgreed, Granted]
    session = L2tpSession(XA, 12, 11, 14, 13, b"server's", b"client's")
    assert said[2] == L2tpAgreed(session)
    assert said[3].ticket == ticket  # type: ignore[union-attr]


def test_l2tp_needs_the_extension() -> None:
    server = ServerDouble()
    server.flags = NarFlag.L2TP
    server.connect()
    assert "L2TP" in failed(server).words


# Leases.


def test_one_lease_of_each_kind() -> None:
    server = ready()
    client = server.client
    tickets = [
        client.lease_tcp(YB, 80),
        client.lease_tcp_server(25_000),
        client.lease_udp(26_000),
        client.lease_udp_to(OTHER, 500),
        client.lease_icmp(7),
        client.lease_spi(NarProtocol.ESP),
        client.lease_spi(NarProtocol.AH, 0x4444_4444),
        client.lease_tunnel(NarProtocol.IP_IP, XB),
        client.lease_tunnel(NarProtocol.GRE, XB),
    ]
    granted = [
        lease(NarProtocol.TCP, 20_001, remote=YB, remote_port=80, peer=YB),
        lease(NarProtocol.TCP, 25_000),
        lease(NarProtocol.UDP, 26_000, peer=YB),
        lease(NarProtocol.UDP, 20_004, remote_port=500, peer=OTHER),
        lease(NarProtocol.ICMP, 7, remote=YB, peer=YB),
        lease(NarProtocol.ESP, 0x4000_0001, peer=YB),
        lease(NarProtocol.AH, 0x4444_4444, peer=YB),
        lease(NarProtocol.IP_IP, int(XB), remote=YB, peer=YB),
        lease(NarProtocol.GRE, int(XB), remote=YB, peer=YB),
    ]
    assert server.run() == [Granted(*pair) for pair in zip(tickets, granted, strict=True)]
    assert client.leases() == dict(zip(tickets, granted, strict=True))
    assert server.requests[2:6] == [
        SocksRequest(SocksCommand.CONNECT, YB, 80),
        SocksRequest(SocksCommand.BIND, IPv4Address(0), 25_000),
        SocksRequest(SocksCommand.UDP_ASSOCIATE, IPv4Address(0), 26_000),
        SocksRequest(SocksCommand.UDP_ASSOCIATE, OTHER, 500, 1),
    ]


def test_leases_asked_for_before_the_connection() -> None:
    server = ServerDouble()
    ticket = server.client.lease_icmp()
    assert server.client.next_timer() is None
    server.connect()
    assert isinstance(server.run()[-1], Granted)
    assert ticket in server.client.leases()


def test_a_server_port_that_is_translated() -> None:
    server = ready(NarClientSettings(target=YB, delivery=Delivery.TRANSLATED))
    server.client.lease_tcp_server(80)
    server.client.lease_tcp_server(25_000)
    first, second = server.run()
    assert first.lease.client_port == first.lease.local_port == 80  # type: ignore[union-attr]
    assert second.lease.client_port == 0  # type: ignore[union-attr]
    assert second.lease.local_port == 25_000  # type: ignore[union-attr]


def test_another_target_means_another_mode() -> None:
    server = ready()
    client = server.client
    client.lease_spi(NarProtocol.ESP)
    client.lease_spi(NarProtocol.ESP, target=OTHER)
    client.lease_tcp(YB, 80)
    client.lease_icmp(9)
    said = server.run()
    assert [type(output) for output in said] == [
        Granted,
        ModeAgreed,
        Granted,
        Granted,
        ModeAgreed,
        Granted,
    ]
    assert said[2].lease.peer == OTHER  # type: ignore[union-attr]
    asked = [r.address for r in server.requests if isinstance(r, SocksRequest) and r.command > 3]
    assert asked == [YB, OTHER, YB]
    assert sum(isinstance(r, Session) for r in server.requests) == 1


def test_a_target_that_is_refused_costs_one_lease() -> None:
    server = ready()
    server.refuse = lambda request: (
        Reply.NOT_ALLOWED
        if isinstance(request, SocksRequest) and request.address == OTHER
        else Reply.SUCCEEDED
    )
    bad = server.client.lease_icmp(target=OTHER)
    good = server.client.lease_icmp()
    refused, granted = server.run()
    assert isinstance(refused, Refused)
    assert refused.ticket == bad
    assert refused.reply is Reply.NOT_ALLOWED
    assert isinstance(granted, Granted)
    assert granted.ticket == good


@pytest.mark.parametrize("reply", [reply for reply in Reply if reply])
def test_h74_refused(reply: Reply) -> None:
    server = ready()
    server.refuse = lambda _: reply
    ticket = server.client.lease_spi(NarProtocol.ESP, 0x4444_4444)
    (refused,) = server.run()
    assert isinstance(refused, Refused)
    assert (refused.ticket, refused.reply) == (ticket, reply)
    assert refused.words.startswith("no SPI: ")
    assert not server.client.leases()


def test_h74_the_servers_spi_counts() -> None:
    server = ready()
    server.answer = lambda _: bytes.fromhex("0100 32 41414141")  # type: ignore[method-assign]
    server.client.lease_spi(NarProtocol.ESP, 0x4444_4444)
    (granted,) = server.run()
    assert granted.lease.tuple.value == 0x4141_4141  # type: ignore[union-attr]


def test_no_name_where_one_peer_is_needed() -> None:
    client = NarClient(NarClientSettings(target="y.example"))
    client.lease_udp()
    client.lease_spi(NarProtocol.AH)
    with pytest.raises(ValueError, match="one peer"):
        client.lease_icmp()
    with pytest.raises(ValueError, match="one peer"):
        NarClient(NarClientSettings()).lease_tunnel(NarProtocol.GRE, XB)


@pytest.mark.parametrize(
    "ask",
    [
        lambda c: c.lease_tcp(YB, 0),
        lambda c: c.lease_tcp(IPv4Address("224.0.0.1"), 80),
        lambda c: c.lease_tcp_server(70_000),
        lambda c: c.lease_udp(-1),
        lambda c: c.lease_udp_to(YB, 0),
        lambda c: c.lease_icmp(70_000),
        lambda c: c.lease_spi(NarProtocol.ESP, 255),
        lambda c: c.lease_spi(NarProtocol.TCP),
        lambda c: c.lease_tunnel(NarProtocol.UDP, XB),
        lambda c: c.lease_tunnel(NarProtocol.GRE, IPv4Address(0)),
    ],
)
def test_what_cannot_be_asked_for(ask: object) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - each has words of its own
        ask(NarClient(NarClientSettings(target=YB)))  # type: ignore[operator]


def test_settings_that_contradict_themselves() -> None:
    with pytest.raises(ValueError, match="neither"):
        NarClientSettings(user="ann")
    with pytest.raises(ValueError, match="not acceptable"):
        NarClientSettings(delivery=Delivery.GRE, acceptable=frozenset({Delivery.IP_IP}))
    assert "secret" not in repr(LOGIN)


def test_many_leases_at_once_stay_in_order() -> None:
    server = ready()
    tickets = [server.client.lease_tcp(YB, 80) for _ in range(500)]
    assert [o.ticket for o in server.run()] == tickets  # type: ignore[union-attr]


def test_a_remote_port_needs_the_extension() -> None:
    server = ready(NarClientSettings(target=YB, leases=False))
    server.client.lease_udp_to(YB, 500)
    (refused,) = server.run()
    assert isinstance(refused, Refused)
    assert refused.reply is Reply.COMMAND_NOT_SUPPORTED


# Release.


def test_release() -> None:
    server = ready()
    ticket = server.client.lease_spi(NarProtocol.ESP)
    (granted,) = server.run()
    server.client.release(ticket)
    assert not server.client.leases()
    assert server.run() == [Released(ticket, granted.lease)]  # type: ignore[union-attr]
    assert server.requests[-1] == Release(LeaseKey(NarProtocol.ESP, 0x4000_0001))
    server.client.release(ticket)
    assert server.run() == []


def test_release_all_is_one_message() -> None:
    server = ready()
    for _ in range(5):
        server.client.lease_tcp_server()
    server.run()
    server.client.release_all()
    assert [type(output) for output in server.run()] == [Released] * 5
    assert server.requests[-1] == Release(None)
    assert isinstance(server.requests[-2], SocksRequest)


def test_released_before_it_was_granted() -> None:
    server = ready()
    server.mute = True
    ticket = server.client.lease_spi(NarProtocol.ESP)
    server.client.release(ticket)
    (refused,) = server.run()
    assert isinstance(refused, Refused)
    server.mute = False
    reply = server.answer(IpsecAssociate(50))
    assert server.tell(reply) == []
    assert server.requests[-1] == Release(LeaseKey(NarProtocol.ESP, 0x4000_0001))


def test_release_without_the_extension() -> None:
    server = ready(NarClientSettings(target=YB, leases=False))
    ticket = server.client.lease_icmp()
    server.run()
    before = len(server.requests)
    server.client.release(ticket)
    assert [type(output) for output in server.run()] == [Released]
    assert len(server.requests) == before


# Time.


def test_renewal_at_half_the_lease_time() -> None:
    server = ready()
    assert server.client.next_timer() == 1300.0
    assert server.pass_time(299) == []
    assert Renew() not in server.requests
    server.pass_time(1)
    assert server.requests[-1] == Renew()
    server.pass_time(3000)
    assert server.requests.count(Renew()) == 11
    assert server.client.phase is Phase.READY


@pytest.mark.parametrize("lease_s", [0, 1])
def test_lease_times_that_would_make_a_storm(lease_s: int) -> None:
    server = ready(lease_s=lease_s)
    server.pass_time(20)
    assert server.requests.count(Renew()) == 10


def test_a_silent_server_is_given_up() -> None:
    server = ServerDouble()
    server.mute = True
    server.connect()
    server.pass_time(ANSWER_S - 1)
    assert server.client.phase is Phase.METHODS
    (failure,) = server.pass_time(1)
    assert isinstance(failure, Failed)
    assert failure.again
    assert server.client.next_timer() is None


def test_a_silent_server_when_asked_much_later() -> None:
    server = ready(NarClientSettings(target=YB, leases=False))
    server.now += 10_000
    server.mute = True
    server.client.lease_icmp()
    assert server.pass_time(ANSWER_S - 1) == []
    assert [type(output) for output in server.pass_time(1)] == [Failed]


def test_renewal_refused_means_a_new_session() -> None:
    server = ready()
    ticket = server.client.lease_tcp_server(25_000)
    server.run()
    server.refuse = lambda r: Reply.NOT_ALLOWED if isinstance(r, Renew) else Reply.SUCCEEDED
    said = server.pass_time(300)
    assert [type(output) for output in said] == [Failed]
    server.hang_up()
    server.connect()
    assert [type(output) for output in server.run()] == [ModeAgreed, SessionAgreed]
    assert server.requests[-1] == SocksRequest(SocksCommand.BIND, IPv4Address(0), 25_000)
    assert ticket in server.client.leases()


# Coming back.


def test_resumed_with_the_token() -> None:
    server = ready()
    ticket = server.client.lease_spi(NarProtocol.ESP)
    server.run()
    server.hang_up()
    assert server.pass_time(60) == []
    server.connect()
    token = b"\x01" * 16
    assert server.run() == [
        ModeAgreed(NB, Delivery.IP_IP, leases=True),
        SessionAgreed(token, 600, 120, resumed=True),
    ]
    assert server.requests[-1] == Session(token)
    assert ticket in server.client.leases()
    assert server.client.next_timer() == server.now + 300


def test_another_process_resumes() -> None:
    server = ready(replace(LOGIN, token=b"\x05" * 16), tokens={b"\x05" * 16})
    held = lease(NarProtocol.TCP, 25_000)
    other = ServerDouble(replace(LOGIN, token=b"\x05" * 16))
    other.tokens = {b"\x05" * 16}
    ticket = other.client.adopt(held)
    with pytest.raises(ValueError, match="adopted already"):
        other.client.adopt(held)
    other.connect()
    assert other.client.leases() == {ticket: held}
    assert isinstance(other.requests[-1], Session)
    assert server.client.phase is Phase.READY


def test_too_long_away() -> None:
    server = ready()
    ticket = server.client.lease_spi(NarProtocol.ESP)
    server.run()
    server.hang_up()
    assert server.pass_time(119) == []
    (lost,) = server.pass_time(1)
    assert isinstance(lost, Lost)
    assert lost.ticket == ticket
    server.connect()
    assert server.requests[-1] == Session()


def test_attempts_to_come_back_do_not_prolong_leases() -> None:
    server = ready()
    server.client.lease_spi(NarProtocol.ESP)
    server.run()
    server.hang_up()
    server.mute = True
    lost = []
    for _ in range(8):
        server.connect()
        lost += [o for o in server.pass_time(ANSWER_S) if isinstance(o, Lost)]
        server.hang_up()
    lost += [o for o in server.pass_time(0) if isinstance(o, Lost)]
    assert len(lost) == 1


def test_the_server_forgot_the_session() -> None:
    server = ready()
    client = server.client
    tickets = [
        client.lease_tcp_server(25_000),
        client.lease_udp(26_000),
        client.lease_icmp(7),
        client.lease_spi(NarProtocol.AH),
        client.lease_tunnel(NarProtocol.GRE, XB),
    ]
    server.run()
    before = client.leases()
    server.hang_up()
    server.tokens.clear()
    server.connect()
    said = server.run()
    assert [type(output) for output in said] == [ModeAgreed, SessionAgreed]
    assert not said[1].resumed  # type: ignore[union-attr]
    assert client.leases() == before
    assert sorted(before) == tickets


def test_a_lease_that_is_not_to_be_had_again() -> None:
    server = ready()
    connect = server.client.lease_tcp(YB, 80)
    spi = server.client.lease_spi(NarProtocol.ESP)
    icmp = server.client.lease_icmp(5)
    server.run()
    server.hang_up()
    server.tokens.clear()
    server.refuse = lambda r: Reply.NOT_ALLOWED if isinstance(r, IcmpAssociate) else Reply.SUCCEEDED
    server.connect()
    lost = [output for output in server.run() if isinstance(output, Lost)]
    assert [o.ticket for o in lost] == [connect, icmp]
    assert list(server.client.leases()) == [spi]
    given_back = [r for r in server.requests if isinstance(r, Release)]
    assert given_back == [Release(LeaseKey(NarProtocol.TCP, 20_002, YB, 80))]


def test_ports_to_one_remote_come_back_in_any_order() -> None:
    server = ready()
    tickets = [server.client.lease_tcp(YB, 80) for _ in range(3)]
    server.run()
    server.hang_up()
    server.tokens.clear()
    ports = iter((20_003, 20_001, 20_002))
    server._port = lambda _: next(ports)  # type: ignore[method-assign]
    server.connect()
    assert [type(output) for output in server.run()] == [ModeAgreed, SessionAgreed]
    assert list(server.client.leases()) == tickets


def test_without_the_extension_everything_is_asked_again() -> None:
    server = ready(NarClientSettings(target=YB, leases=False))
    ticket = server.client.lease_tcp_server(25_000)
    server.run()
    server.hang_up()
    server.connect()
    assert [type(output) for output in server.run()] == [ModeAgreed]
    assert ticket in server.client.leases()
    server.hang_up()
    assert [type(output) for output in server.pass_time(UNKNOWN_GRACE_S)] == [Lost]


def test_a_new_address_while_away() -> None:
    server = ready(NarClientSettings(target=YB, leases=False))
    ticket = server.client.lease_tcp_server(25_000)
    server.run()
    server.hang_up()
    server.address = NEW_NB
    server.connect()
    moved = server.run()[-1]
    assert isinstance(moved, AddressChanged)
    assert (moved.old, moved.new, list(moved.leases)) == (NB, NEW_NB, [ticket])
    assert server.client.leases()[ticket].tuple.address == NEW_NB


def test_what_was_not_answered_is_asked_again() -> None:
    server = ready()
    server.mute = True
    ticket = server.client.lease_icmp()
    server.run()
    server.hang_up()
    server.mute = False
    server.connect()
    assert server.client.leases()[ticket].tuple.value == 0xC000


def test_a_release_while_away_is_said_later() -> None:
    server = ready()
    ticket = server.client.lease_spi(NarProtocol.ESP)
    server.run()
    server.hang_up()
    server.client.release(ticket)
    assert server.run() == []
    server.connect()
    assert isinstance(server.run()[-1], Released)
    assert isinstance(server.requests[-1], Release)


def test_released_while_it_is_asked_again() -> None:
    server = ready(NarClientSettings(target=YB, leases=False))
    ticket = server.client.lease_icmp(3)
    server.run()
    server.hang_up()
    server.client.release(ticket)
    server.connect()
    assert [type(output) for output in server.run()] == [Released, ModeAgreed]
    assert not server.client.leases()


# What the server says unasked.


def test_lease_ended() -> None:
    server = ready()
    tickets = [server.client.lease_spi(NarProtocol.ESP) for _ in range(2)]
    server.run()
    key = LeaseKey(NarProtocol.ESP, 0x4000_0002)
    (lost,) = server.tell(NoticeMessage(Notice.LEASE_ENDED, NB, key).to_octets())
    assert isinstance(lost, Lost)
    assert lost.ticket == tickets[1]
    assert list(server.client.leases()) == tickets[:1]
    assert server.tell(NoticeMessage(Notice.LEASE_ENDED, NB, key).to_octets()) == []


@pytest.mark.parametrize("named", [True, False])
def test_address_changed(named: bool) -> None:
    server = ready()
    ticket = server.client.lease_spi(NarProtocol.ESP)
    server.run()
    key = LeaseKey(NarProtocol.ESP, 0x4000_0001) if named else None
    (changed,) = server.tell(NoticeMessage(Notice.ADDRESS_CHANGED, NEW_NB, key).to_octets())
    assert isinstance(changed, AddressChanged)
    assert (changed.old, changed.new) == (NB, NEW_NB)
    assert server.client.leases()[ticket].tuple.address == NEW_NB
    server.address = NEW_NB
    server.client.lease_tcp_server()
    (granted,) = server.run()
    assert granted.lease.tuple.address == NEW_NB  # type: ignore[union-attr]


def test_stopping() -> None:
    server = ready()
    assert server.tell(NoticeMessage(Notice.STOPPING).to_octets()) == [ServerStopping()]
    assert server.client.phase is Phase.READY


# Servers that mean harm.


@pytest.mark.parametrize(
    "address", ["0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255", "169.254.169.254"]
)
def test_h76_addresses_that_nobody_can_lend(address: str) -> None:
    server = ServerDouble()
    server.address = IPv4Address(address)
    server.connect()
    assert "nobody can use" in failed(server).words
    changed = ready()
    notice = NoticeMessage(Notice.ADDRESS_CHANGED, IPv4Address(address))
    assert isinstance(changed.tell(notice.to_octets())[0], Failed)


@pytest.mark.parametrize(
    "reply",
    [
        "05 00 00 01 c0000201 0000",
        "05 00 00 01 c0000263 5000",
        "05 00 00 03 01 61 5000",
        "01 00 c000",
        "05 00 00 09",
        "04 5a",
    ],
)
def test_h74_replies_that_do_not_fit(reply: str) -> None:
    server = ready()
    server.answer = lambda _: bytes.fromhex(reply)  # type: ignore[method-assign]
    server.client.lease_tcp(YB, 80)
    assert failed(server).again
    assert not server.client.leases()


@pytest.mark.parametrize("reply", ["0100 33 41414141", "0100 32 000000ff"])
def test_h74_spis_that_do_not_fit(reply: str) -> None:
    server = ready()
    server.answer = lambda _: bytes.fromhex(reply)  # type: ignore[method-assign]
    server.client.lease_spi(NarProtocol.ESP)
    failed(server)


def test_h74_lent_twice() -> None:
    server = ready()
    server.answer = lambda _: IcmpReply(Reply.SUCCEEDED, 5).to_octets()  # type: ignore[method-assign]
    server.client.lease_icmp()
    second = server.client.lease_icmp()
    granted, refused = server.run()
    assert isinstance(granted, Granted)
    assert isinstance(refused, Refused)
    assert refused.ticket == second


def test_after_a_failure_nothing_is_read() -> None:
    server = ready()
    assert [type(o) for o in server.tell(b"\xff")] == [Failed]
    assert server.tell(NoticeMessage(Notice.STOPPING).to_octets()) == []
    server.client.lease_icmp()
    assert server.run() == []
    server.connect()
    assert isinstance(server.run()[-1], Granted)


@given(octets=st.lists(st.binary(max_size=40), max_size=6), login=st.booleans())
@settings(max_examples=150)
def test_h69_h72_any_octets_of_a_server(octets: list[bytes], login: bool) -> None:
    client = NarClient(LOGIN if login else NarClientSettings(target=YB))
    client.lease_spi(NarProtocol.ESP)
    client.start(XA, 0.0)
    for now, data in enumerate(octets):
        client.received(data, float(now))
        client.handle_timer(float(now))
        client.outputs()
    client.disconnected(50.0)
    client.handle_timer(1e9)
    assert not client.leases()


@given(data=st.data())
@settings(max_examples=150)
def test_h69_h72_any_messages_of_a_server(data: st.DataObject) -> None:
    server = ready()
    client = server.client
    messages = st.one_of([*NOTICES.values(), *REPLIES.values()])

    def answer(request: Request) -> bytes:
        usual = ServerDouble.answer(server, request)
        if data.draw(st.booleans()):
            return usual
        return data.draw(messages).to_octets()  # type: ignore[attr-defined, no-any-return]

    server.answer = answer  # type: ignore[method-assign]
    asks = [
        lambda: client.lease_tcp(YB, 80),
        client.lease_tcp_server,
        lambda: client.lease_udp_to(OTHER, 9),
        lambda: client.lease_icmp(target=OTHER),
        lambda: client.lease_spi(NarProtocol.ESP),
        lambda: client.lease_tunnel(NarProtocol.IP_IP, XB),
        lambda: client.release(data.draw(st.integers(1, 8))),
        client.release_all,
        server.hang_up,
        server.connect,
        lambda: server.pass_time(data.draw(st.sampled_from((1, 20, 130, 400)))),
        lambda: server.tell(data.draw(NOTICES[NoticeMessage]).to_octets()),  # type: ignore[attr-defined]
    ]
    open_tickets: set[int] = set()
    for _ in range(data.draw(st.integers(1, 12))):
        result = data.draw(st.sampled_from(asks))()
        said = result if isinstance(result, list) else server.run()
        if isinstance(result, int):
            open_tickets.add(result)
        for output in said:
            if isinstance(output, Refused | Lost | Released):
                assert output.ticket in open_tickets, "each ticket ends once"
                open_tickets.discard(output.ticket)
    assert set(client.leases()) <= open_tickets
    held = [one.tuple for one in client.leases().values()]
    assert len(held) == len(set(held))


def test_renewal_waits_for_another_target() -> None:
    """The renewal that falls due while NAR-MODE is on its way is said after it."""
    server = ready()
    replies = count()
    kept: list[bytes] = []

    def answer(request: Request) -> bytes:
        reply = ServerDouble.answer(server, request)
        if isinstance(request, SocksRequest) and next(replies) == 0:
            kept.append(reply)
            return b""
        return reply

    server.answer = answer  # type: ignore[method-assign]
    server.pass_time(290)
    server.client.lease_icmp(target=OTHER)
    server.run()
    server.pass_time(15)
    assert Renew() not in server.requests
    server.tell(kept[0])
    server.pass_time(0)
    assert Renew() in server.requests


def test_socks_reply_with_an_ipv6_address() -> None:
    server = ServerDouble()
    octets = bytes.fromhex("05 00 00 04") + bytes(15) + b"\x01\x00\x00"
    server.answer = lambda _: octets  # type: ignore[method-assign]
    server.connect()
    failed(server)
    assert SocksReply.parse(octets).reply is Reply.SUCCEEDED
