"""Plain SOCKS5 at the NAR server, for clients that know nothing of NAR."""

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address

import pytest
from nar_server_world import ANY, LOGIN, POLICY, RULE, XA, YB, YB2, Client, World

from gateway.domain.endpoint import Endpoint
from gateway.domain.nar import NarProtocol
from gateway.nar.codec.numbers import Reply, SocksCommand
from gateway.nar.codec.request import SocksReply, SocksRequest
from gateway.nar.outputs import OpenProxy, StartRelay

OK, NO = Reply.SUCCEEDED, Reply.NOT_ALLOWED
BOUND = Endpoint(IPv4Address("192.0.2.1"), 51_000)
PEER = Endpoint(YB, 20)


def ready(world: World, user: str = "") -> Client:
    client = world.dial()
    assert client is not None
    client.login(user)
    return client


def ask(client: Client, command: SocksCommand, address: object = YB, port: int = 80) -> bytes:
    return client.say(SocksRequest(command, address, port).to_octets())


def test_connect() -> None:
    world = World()
    client = ready(world)
    assert ask(client, SocksCommand.CONNECT) == b""
    assert world.proxied == [OpenProxy(client.number, SocksCommand.CONNECT, (YB,), 80, "staff")]
    client.say(b"GET / ")
    client.say(b"HTTP/1.0\r\n")
    world.server.proxy_opened(client.number, BOUND, world.now)
    world.pump()
    assert client.heard == SocksReply(OK, BOUND.address, BOUND.port).to_octets()
    assert world.relayed == [StartRelay(client.number, b"GET / HTTP/1.0\r\n")]
    assert client.say(b"more") == b"", "the relay has them now"
    client.hang_up()
    assert world.server.clients() == []


def test_connect_to_a_name() -> None:
    world = World(names={"y.example": [YB, YB2, IPv6Address("2001:db8::5")]})
    ask(ready(world), SocksCommand.CONNECT, "y.example")
    assert world.proxied[0].targets == (YB, YB2)
    rule = replace(RULE, proxy_ipv6=True)
    world = World(policy=replace(POLICY, rules=(rule,)), names=world.names)
    ask(ready(world), SocksCommand.CONNECT, "y.example")
    assert world.proxied[0].targets == (YB, YB2, IPv6Address("2001:db8::5"))


def test_a_name_is_looked_up_for_ipv6_only_where_it_is_of_use() -> None:
    rule = replace(RULE, proxy_ipv6=True)
    world = World(policy=replace(POLICY, rules=(rule,)), answers=False)
    ask(ready(world), SocksCommand.CONNECT, "y.example")
    ask(ready(world), SocksCommand.NAR_MODE, "y.example", 0)
    ask(world.client(), SocksCommand.CONNECT, "y.example")
    assert [question.ipv6 for question in world.questions] == [True, False, False]


def test_bind_is_answered_twice() -> None:
    world = World()
    client = ready(world)
    ask(client, SocksCommand.BIND)
    assert world.proxied[0].targets == (YB,)
    world.server.proxy_opened(client.number, BOUND, world.now)
    world.pump()
    assert not world.relayed
    world.server.proxy_opened(client.number, PEER, world.now)
    world.pump()
    first, second = (SocksReply(OK, one.address, one.port).to_octets() for one in (BOUND, PEER))
    assert client.heard == first + second
    assert len(world.relayed) == 1


def test_bind_for_anybody_needs_permission() -> None:
    world = World()
    ask(ready(world), SocksCommand.BIND, ANY, 0)
    assert world.proxied[0].targets == ()
    strict = World(policy=replace(POLICY, rules=(replace(RULE, any_remote=False),)))
    client = ready(strict)
    assert ask(client, SocksCommand.BIND, ANY, 0) == SocksReply(NO).to_octets()
    assert client.closed


@pytest.mark.parametrize("address", [ANY, XA, IPv6Address(0), "my-host.example"])
def test_udp_associate(address: object) -> None:
    world = World()
    client = ready(world)
    ask(client, SocksCommand.UDP_ASSOCIATE, address, 5353)
    assert not world.questions
    assert world.proxied == [
        OpenProxy(client.number, SocksCommand.UDP_ASSOCIATE, (), 5353, "staff")
    ]
    world.server.proxy_opened(client.number, BOUND, world.now)
    world.pump()
    assert client.heard == SocksReply(OK, BOUND.address, BOUND.port).to_octets()
    assert not world.relayed
    client.say(b"what comes here is of no use")
    world.pass_time(10_000)
    assert not client.closed


def test_failures_are_told() -> None:
    world = World()
    client = ready(world)
    ask(client, SocksCommand.CONNECT)
    world.server.proxy_failed(
        client.number, Reply.CONNECTION_REFUSED, "198.51.100.5:80 refused", world.now
    )
    world.pump()
    assert client.heard == SocksReply(Reply.CONNECTION_REFUSED).to_octets()
    assert client.closed
    assert "was not served: 198.51.100.5:80 refused" in world.why()


def test_answers_out_of_place_do_nothing() -> None:
    world = World()
    client = world.client()
    for number in (client.number, 999):
        world.server.proxy_opened(number, BOUND, world.now)
        world.server.proxy_failed(number, Reply.GENERAL_FAILURE, "", world.now)
    world.server.resolved(client.number, [YB], world.now)
    assert world.server.outputs() == []
    assert not client.closed


@pytest.mark.parametrize(
    "command", [SocksCommand.CONNECT, SocksCommand.BIND, SocksCommand.UDP_ASSOCIATE]
)
def test_the_proxy_has_to_be_allowed(command: SocksCommand) -> None:
    for rule, why in (
        (replace(RULE, proxy=False), "rule staff has no proxy"),
        (replace(RULE, protocols=frozenset({NarProtocol.ESP})), "rule staff allows ESP"),
    ):
        world = World(policy=replace(POLICY, rules=(rule,)))
        client = ready(world)
        assert ask(client, command) == SocksReply(NO).to_octets()
        assert client.closed
        assert why in world.why()
        assert not world.proxied


def test_early_data_is_bounded() -> None:
    world = World()
    client = ready(world)
    ask(client, SocksCommand.CONNECT)
    client.say(bytes(65_536))
    assert not client.closed
    client.say(b"x")
    assert client.closed
    world.server.proxy_opened(client.number, BOUND, world.now)
    world.pump()
    assert not world.relayed


def test_a_logged_in_user() -> None:
    world = World(policy=LOGIN, users={"ann": ()})
    client = ready(world, "ann")
    ask(client, SocksCommand.CONNECT)
    (view,) = world.server.clients()
    assert (view["user"], view["state"]) == ("ann", "proxying")


def test_may_relay_to() -> None:
    world = World()
    may = world.server.may_relay_to
    assert may("staff", YB, 53)
    assert not may("staff", YB, 0)
    assert not may("staff", IPv6Address("2001:db8::5"), 53)
    assert may("staff", IPv6Address("::ffff:198.51.100.5"), 53)
    assert not may("staff", IPv6Address("::ffff:127.0.0.1"), 53)
    assert not may("nobody", YB, 53)
