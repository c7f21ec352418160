"""Method negotiation, logins and framing at the NAR server: hostile inputs 69, 70 and 72."""

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nar_server_world import ANY, LEASES, LOGIN, NB, PASSWORD, POLICY, XA, YB, YB2, Client, World

from gateway.domain.endpoint import Endpoint
from gateway.domain.user_auth import Challenged, Unavailable
from gateway.nar.codec.associate import IcmpAssociate, IpsecAssociate, TunnelAssociate
from gateway.nar.codec.leases import Release, Renew
from gateway.nar.codec.leases import Session as SessionRequest
from gateway.nar.codec.negotiation import MethodOffer, PasswordRequest
from gateway.nar.codec.numbers import Reply, SocksCommand
from gateway.nar.codec.request import SocksReply, SocksRequest
from gateway.nar.server.connections import TRANSITIONS, State, Step

ANN = {"ann": ("staff",)}
HELLO = MethodOffer(b"\x00").to_octets()
NAR_MODE = SocksRequest(SocksCommand.NAR_MODE, YB, 0, LEASES).to_octets()


def dialled(world: World, *, tls: bool = False) -> Client:
    client = world.dial(tls=tls)
    assert client is not None
    return client


@pytest.mark.parametrize("version", [0, 1, 4, 6, 0x47, 0xFF])
def test_h69_another_version_ends_the_connection(version: int) -> None:
    world = World()
    client = dialled(world)
    assert client.say(bytes((version, 1, 0))) == b""
    assert client.closed
    assert f"SOCKS of version {version}; 5 is spoken here" in world.why()


def test_h69_no_methods() -> None:
    world = World()
    client = dialled(world)
    assert client.say(b"\x05\x00") == b""
    assert client.closed
    assert "no method offered" in world.why()


def test_h69_255_methods() -> None:
    world = World()
    assert dialled(world).say(bytes((5, 255)) + bytes(range(255))) == b"\x05\x00"
    client = dialled(world)
    assert client.say(bytes((5, 255)) + bytes(range(1, 256))) == b"\x05\xff"
    assert client.closed


@pytest.mark.parametrize(
    ("policy", "tls", "offer", "choice", "why"),
    [
        (POLICY, False, b"\x00", 0, ""),
        (POLICY, False, b"\x02", 0xFF, "no logins here"),
        (POLICY, False, b"\x01\x03\x80", 0xFF, "methods 1, 3, 128"),
        (LOGIN, False, b"\x00", 0xFF, "it has to log in"),
        (LOGIN, False, b"\x00\x02", 2, ""),
        (replace(LOGIN, require_tls=True), False, b"\x02", 0xFF, "over TLS only"),
        (replace(LOGIN, require_tls=True), True, b"\x02", 2, ""),
        (replace(LOGIN, trusted=POLICY.trusted), False, b"\x00\x02", 2, ""),
        (replace(LOGIN, trusted=POLICY.trusted), False, b"\x00", 0, ""),
        (replace(POLICY, trusted=(IPv4Network("10.9.0.0/16"),)), False, b"\x00", 0xFF, "trusted"),
    ],
)
def test_h69_which_method_is_acceptable(
    policy: object, tls: bool, offer: bytes, choice: int, why: str
) -> None:
    world = World(policy=policy)
    client = dialled(world, tls=tls)
    assert client.say(MethodOffer(offer).to_octets()) == bytes((5, choice))
    assert client.closed == (choice == 0xFF)
    if why:
        assert why in world.why()


def test_a_login() -> None:
    world = World(policy=LOGIN, users=ANN)
    client = dialled(world)
    client.login("ann")
    assert client.nar_mode().reply is Reply.SUCCEEDED
    (view,) = world.server.clients()
    assert (view["user"], view["rule"], view["state"]) == ("ann", "staff", "nar")


@pytest.mark.parametrize(
    "octets",
    [
        b"\x01\x00\x03abc",
        b"\x01\x03ann\x00",
        b"\x05\x03ann\x03abc",
        b"\x00\x03ann\x03abc",
        b"\x01\x02\xff\xfe\x03abc",
        b"\x01\x03a\nn\x03abc",
        b"\x01\x03a\x00n\x03abc",
    ],
)
def test_h70_broken_logins_end_the_connection(octets: bytes) -> None:
    world = World(policy=LOGIN, users=ANN)
    client = dialled(world)
    client.say(b"\x05\x01\x02")
    assert client.say(octets) == b""
    assert client.closed
    assert not world.questions
    assert world.events[-1].name == "nar_broken_off"


def test_h70_name_and_password_of_255_octets() -> None:
    name = "ü" * 127 + "x"
    world = World(policy=LOGIN, users={name: ()}, answers=False)
    client = dialled(world)
    client.say(b"\x05\x01\x02")
    client.say(PasswordRequest(name, b"p" * 255).to_octets())
    (question,) = world.questions
    assert (question.question.user, question.question.password) == (name, b"p" * 255)
    assert "p" * 10 not in repr(question)


def test_h70_a_wrong_password() -> None:
    world = World(policy=LOGIN, users=ANN)
    client = dialled(world)
    client.say(b"\x05\x01\x02")
    assert client.say(PasswordRequest("ann", b"wrong").to_octets()) == b"\x01\x01"
    assert client.closed
    assert world.events[-1].name == "nar_login_failed"
    assert "wrong password" in world.why()


@pytest.mark.parametrize("answer", [Unavailable("RADIUS is silent"), Challenged(b"")])
def test_h70_a_login_that_nobody_can_judge(answer: object) -> None:
    world = World(policy=LOGIN, users=ANN, answers=False)
    client = dialled(world)
    client.say(b"\x05\x01\x02" + PasswordRequest("ann", PASSWORD).to_octets())
    world.server.user_answered(world.questions[0].ticket, answer, world.now)
    world.pump()
    assert client.heard.endswith(b"\x01\x01")
    assert client.closed


@pytest.mark.parametrize("command", [NAR_MODE, IcmpAssociate(0).to_octets()])
def test_h70_a_command_before_the_login(command: bytes) -> None:
    world = World(policy=LOGIN, users=ANN)
    client = dialled(world)
    client.say(b"\x05\x01\x02")
    assert client.say(command) == b"", "it may be the beginning of a long name"
    first = dialled(world)
    assert first.say(command) == b"", "it may be the beginning of many methods"
    world.pass_time(POLICY.handshake_s)
    assert client.closed
    assert first.closed
    assert not world.table


def test_h70_a_second_login() -> None:
    world = World(policy=LOGIN, users=ANN)
    client = dialled(world)
    client.login("ann")
    assert client.say(PasswordRequest("ann", PASSWORD).to_octets()) == b""
    assert client.closed
    assert not world.questions


def test_h70_an_answer_that_comes_too_late_is_of_no_use() -> None:
    world = World(policy=LOGIN, users=ANN, answers=False)
    client = dialled(world)
    client.say(b"\x05\x01\x02" + PasswordRequest("ann", PASSWORD).to_octets())
    client.hang_up()
    world.answer()
    world.pump()
    assert world.server.clients() == []


@pytest.mark.parametrize("command", [0, 4, 0x7F, 0x81, 0xFF])
def test_h72_unknown_socks_commands(command: int) -> None:
    world = World()
    client = world.client()
    assert client.socks(command, YB, 80).reply is Reply.COMMAND_NOT_SUPPORTED
    assert not client.closed
    assert client.connect().reply is Reply.SUCCEEDED
    early = dialled(world)
    early.login()
    assert early.socks(command, YB, 80).reply is Reply.COMMAND_NOT_SUPPORTED
    assert early.closed, "RFC 1928 section 6"


@pytest.mark.parametrize("command", [0, 1, 0x80, 0x84, 0x94, 0xFF])
def test_h72_unknown_nar_commands_have_no_end(command: int) -> None:
    world = World()
    client = world.client()
    assert client.say(bytes((1, command, 0, 0))) == b""
    assert client.closed
    assert f"unknown NAR command {command}" in world.why()


@pytest.mark.parametrize("command", SocksCommand)
def test_h72_reserved_that_is_not_0(command: SocksCommand) -> None:
    world = World()
    client = world.client()
    if command is SocksCommand.NAR_MODE:
        assert client.nar_mode(YB, 0x70).flags == 0, "unknown flags are ignored"
        return
    assert client.socks(command, YB, 80, 0x40).reply is Reply.GENERAL_FAILURE
    assert "RSV 0x40 in place of 0" in world.why()
    assert client.socks(command, YB, 80, 0x01).reply is Reply.GENERAL_FAILURE, (
        "our extension of UDP ASSOCIATE belongs to LEASES"
    )
    assert not world.table


def test_h72_nar_mode_with_a_port() -> None:
    world = World()
    client = world.client()
    assert client.socks(SocksCommand.NAR_MODE, YB, 7).reply is Reply.GENERAL_FAILURE
    assert "port 7 in place of 0" in world.why()


def test_h72_nar_commands_before_nar_mode() -> None:
    world = World()
    for octets, reply in (
        (IcmpAssociate(7).to_octets(), b"\x01\x02\x00\x00"),
        (IpsecAssociate(50).to_octets(), b"\x01\x02" + bytes(5)),
        (Renew().to_octets(), b"\x01\x02" + bytes(4)),
    ):
        client = dialled(world)
        client.login()
        assert client.say(octets) == reply
        assert client.closed
    assert not world.table


def test_h72_commands_of_leases_without_the_flag() -> None:
    world = World()
    client = world.client()
    no = Reply.COMMAND_NOT_SUPPORTED
    assert [client.session().reply, client.renew().reply, client.release().reply] == [no] * 3
    assert client.l2tp().reply is no
    assert not client.closed


CONVERSATION = (
    HELLO,
    NAR_MODE,
    SessionRequest().to_octets(),
    SocksRequest(SocksCommand.CONNECT, YB, 443).to_octets(),
    SocksRequest(SocksCommand.BIND, ANY, 20_010).to_octets(),
    SocksRequest(SocksCommand.BIND, "peer.example", 0).to_octets(),
    IcmpAssociate(0).to_octets(),
    IpsecAssociate(51).to_octets(),
    IpsecAssociate(99).to_octets(),
    TunnelAssociate(IPv4Address("172.16.0.1"), 47).to_octets(),
    SocksRequest(9, YB, 0).to_octets(),
    SocksRequest(SocksCommand.NAR_MODE, YB2, 0, LEASES | 1).to_octets(),
    SocksRequest(SocksCommand.UDP_ASSOCIATE, YB, 53, 1).to_octets(),
    Renew().to_octets(),
    Release().to_octets(),
)


def test_h72_the_pieces_do_not_matter() -> None:
    """Octet by octet, message by message and all at once have the same replies."""
    heard = []
    whole = b"".join(CONVERSATION)
    for pieces in ([whole], CONVERSATION, [bytes((one,)) for one in whole]):
        world = World(names={"peer.example": [YB2]})
        client = dialled(world)
        heard.append(b"".join(client.say(piece) for piece in pieces))
        assert not client.closed
    assert heard[0] == heard[1] == heard[2]
    assert len(heard[0]) > 100


def test_h72_half_close_after_pipelining() -> None:
    world = World()
    client = dialled(world)
    heard = client.say(HELLO + NAR_MODE + SocksRequest(1, YB, 443).to_octets())
    client.hang_up()
    assert heard.endswith(
        SocksReply(Reply.SUCCEEDED, NB, next(iter(world.table)).value).to_octets()
    )
    assert len(world.table) == 1
    world.pass_time(POLICY.grace_s + 1)
    assert not world.table


def test_h72_slowloris_ends_with_the_handshake_time() -> None:
    world = World()
    client = dialled(world)
    for octet in HELLO + NAR_MODE[:-1]:
        world.pass_time(POLICY.handshake_s / 15)
        if client.closed:
            break
        client.say(bytes((octet,)))
    world.pass_time(POLICY.handshake_s)
    assert client.closed
    assert world.events[-1].name == "nar_connection_timed_out"
    assert "first command was not there after 10 s" in world.why()
    assert world.server.next_timer() is None


def test_h72_silence() -> None:
    world = World()
    dialled(world)
    world.pass_time(POLICY.handshake_s - 0.1)
    assert len(world.server.clients()) == 1
    world.pass_time(0.2)
    assert world.server.clients() == []


def test_h72_idling_in_nar_mode() -> None:
    world = World()
    idle = world.client()
    busy = world.client(port=40_001)
    busy.connect()
    world.pass_time(POLICY.idle_s - 1)
    assert not idle.closed
    assert idle.socks(9).reply is Reply.COMMAND_NOT_SUPPORTED
    world.pass_time(POLICY.idle_s - 1)
    assert not idle.closed
    world.pass_time(2)
    assert idle.closed
    assert not busy.closed


def test_h72_a_question_that_nobody_answers() -> None:
    world = World(policy=LOGIN, users=ANN, answers=False)
    client = dialled(world)
    client.say(b"\x05\x01\x02" + PasswordRequest("ann", PASSWORD).to_octets())
    world.pass_time(POLICY.handshake_s + 1)
    assert not client.closed, "that is not the client's fault"
    world.pass_time(60)
    assert client.closed
    world.answer()
    assert world.server.clients() == []


def test_h72_too_much_at_once() -> None:
    world = World(policy=LOGIN, users=ANN, answers=False)
    client = dialled(world)
    client.say(b"\x05\x01\x02" + PasswordRequest("ann", PASSWORD).to_octets())
    client.say(bytes(2048))
    assert not client.closed
    client.say(b"\x00")
    assert client.closed
    assert "more than 2048 octets ahead of replies" in world.why()


def test_any_number_of_commands_at_once_is_fine_while_they_are_answered() -> None:
    world = World()
    client = world.client(flags=LEASES)
    client.session()
    heard = client.say(Renew().to_octets() * 50_000)
    assert len(heard) == 6 * 50_000


def test_connections_are_limited_by_source_and_in_all() -> None:
    world = World(policy=replace(POLICY, max_connections=5, max_connections_per_source=2))
    first = world.dial(XA)
    assert first is not None
    assert world.dial(XA) is not None
    assert world.dial(XA) is None
    assert "10.0.0.7 was closed: it has 2, which is max_connections_per_source" in world.why()
    for number in range(3):
        assert world.dial(f"10.0.0.{20 + number}") is not None
    assert world.dial("10.0.0.30") is None
    assert "which is max_connections" in world.why()
    first.hang_up()
    assert world.dial(XA) is not None


def test_ipv6_clients_share_the_limit_of_their_network_and_have_no_leases() -> None:
    world = World(policy=replace(LOGIN, max_connections_per_source=2), users=ANN)
    endpoints = [Endpoint(IPv6, 4000) for IPv6 in map(_ipv6, (1, 2, 3))]
    local = Endpoint(_ipv6(99), 1080)
    numbers = [world.server.connected(one, local, world.now, tls=False) for one in endpoints]
    assert numbers[:2] != [None, None]
    assert numbers[2] is None
    client = Client(world, numbers[0], endpoints[0])
    world.clients[numbers[0]] = client
    client.login("ann")
    assert client.nar_mode().reply is Reply.NOT_ALLOWED
    assert "2001:db8::1" in world.why()


def _ipv6(number: int) -> IPv6Address:
    return IPv6Address(0x2001_0DB8 << 96 | number)


def test_ipv4_in_an_ipv6_socket_is_ipv4() -> None:
    world = World()
    endpoint = Endpoint(IPv6Address("::ffff:10.0.0.7"), 4000)
    number = world.server.connected(endpoint, endpoint, world.now, tls=False)
    client = world.clients[number] = Client(world, number, Endpoint(XA, 4000))
    client.login()
    client.nar_mode()
    client.connect()
    assert [one.client for one in world.table.values()] == [XA]


def test_a_flood_of_refusals_is_a_few_lines() -> None:
    world = World()
    for _ in range(1000):
        client = dialled(world)
        client.say(b"\x04")
    assert len(world.events) < 40
    assert world.server.counters["nar_broken_off"] == 1000


def test_the_states_of_a_connection_are_data() -> None:
    """Nothing leads into NAR mode or a relay but through a login or a trusted network."""
    into = {state: {f for (f, _), to in TRANSITIONS.items() if to is state} for state in State}
    assert into[State.NAR] == {State.READY, State.NAR}
    assert into[State.PROXYING] == {State.READY}
    assert into[State.RELAYING] == {State.PROXYING}
    assert into[State.READY] == {State.NEGOTIATING, State.AUTHENTICATING}
    assert into[State.NEGOTIATING] == set()
    assert (State.AUTHENTICATING, Step.NO_LOGIN_NEEDED) not in TRANSITIONS
    assert [to for (one, _), to in TRANSITIONS.items() if one is State.CLOSED] == [State.CLOSED]


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_conversations_never_raise(data: st.DataObject) -> None:
    """One to four octets are others, or missing, or too many: whatever comes of it holds."""
    octets = bytearray(b"".join(CONVERSATION))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(octets) - 1))
        match data.draw(st.sampled_from(["change", "drop", "insert"])):
            case "change":
                octets[at] = data.draw(st.integers(0, 255))
            case "drop":
                del octets[at]
            case _:
                octets[at:at] = data.draw(st.binary(min_size=1, max_size=3))
    cut = data.draw(st.integers(0, len(octets)))
    world = World(names={"peer.example": [YB2]})
    client = dialled(world)
    client.say(bytes(octets[:cut]))
    if not client.closed:
        client.say(bytes(octets[cut:]))
    assert len(world.server.mappings()) == len(world.table)
    if not client.closed:
        client.hang_up()
    world.pass_time(POLICY.grace_s + POLICY.lease_s)
    assert not world.table
    assert not world.records
    assert world.server.next_timer() is None
