"""Our client and our server joined in memory: nothing scripted on either side."""

from dataclasses import replace
from ipaddress import IPv4Address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nar_server_world import LOCAL, LOGIN, NB, NB2, PASSWORD, POLICY, XA, YB, YB2, World

from gateway.domain.endpoint import Endpoint
from gateway.domain.nar import Delivery, NarProtocol, NarTuple
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
    Output,
    Refused,
    Released,
    SendOctets,
    ServerStopping,
    SessionAgreed,
)
from gateway.nar.codec.numbers import Reply

XB = IPv4Address("10.9.9.9")
NAR = NarClientSettings(target=YB)


class End:
    """One connection as the world sees it."""

    def __init__(self, joined: "Joined") -> None:
        self.closed = False
        self._joined = joined

    def hear(self, data: bytes) -> None:
        if self._joined.end is self:
            self._joined.client.received(data, self._joined.world.now)


class Joined:
    """A client, with one connection at a time."""

    def __init__(self, world: World, wanted: NarClientSettings = NAR, address: object = XA) -> None:
        self.world, self.address = world, IPv4Address(str(address))
        self.client = NarClient(wanted)
        self.said: list[Output] = []
        self.number: int | None = None
        self.end: End | None = None
        self._port = 40_000

    @property
    def closed(self) -> bool:
        """By the server."""
        return self.end is not None and self.end.closed

    def connect(self) -> None:
        world = self.world
        self._port += 1
        endpoint = Endpoint(self.address, self._port)
        self.number = world.server.connected(endpoint, LOCAL, world.now, tls=False)
        assert self.number is not None
        self.end = world.clients[self.number] = End(self)  # type: ignore[assignment]
        self.client.start(self.address, world.now)
        self._carry()

    def run(self) -> list[Output]:
        """Carry octets both ways until nobody has any; what the client said since last time."""
        self._carry()
        said, self.said = self.said, []
        return said

    def _carry(self) -> None:
        while outputs := self.client.outputs():
            for output in outputs:
                if isinstance(output, SendOctets):
                    if not self.closed and self.number is not None:
                        self.world.server.received(self.number, output.data, self.world.now)
                        self.world.pump()
                else:
                    self.said.append(output)

    def hang_up(self, *, noticed: bool = True) -> None:
        """The connection breaks; the server may not have noticed yet."""
        if noticed and self.number is not None and not self.closed:
            self.world.server.disconnected(self.number, self.world.now)
            self.world.pump()
        self.number = self.end = None
        self.client.disconnected(self.world.now)

    def pass_time(self, seconds: float) -> list[Output]:
        """Both sides' timers, in order."""
        world, until = self.world, self.world.now + seconds
        said: list[Output] = []
        for _ in range(100_000):
            due = [self.client.next_timer(), world.server.next_timer()]
            first = min((one for one in due if one is not None), default=None)
            if first is None or first > until:
                break
            world.now = max(world.now, first)
            self.client.handle_timer(world.now)
            world.server.handle_timer(world.now)
            world.pump()
            said += self.run()
        else:
            raise AssertionError("a timer is always due")
        world.now = until
        return said + self.run()


def joined(wanted: NarClientSettings = NAR, **changes: object) -> Joined:
    one = Joined(World(replace(POLICY, **changes)), wanted)  # type: ignore[arg-type]
    one.connect()
    assert one.client.phase is Phase.READY
    one.run()
    return one


def everything(client: NarClient) -> list[int]:
    return [
        client.lease_tcp(YB, 80),
        client.lease_tcp_server(20_050),
        client.lease_udp(20_060),
        client.lease_udp_to(YB2, 500),
        client.lease_icmp(0xC00C),
        client.lease_spi(NarProtocol.ESP),
        client.lease_tunnel(NarProtocol.IP_IP, XB),
        client.lease_tunnel(NarProtocol.GRE, XB, YB2),
    ]


def agree(one: Joined) -> None:
    """What the client believes is what the dataplane does."""
    believed = {lease.tuple: lease for lease in one.client.leases().values()}
    table = {key: m for key, m in one.world.table.items() if m.client == one.address}
    assert believed.keys() == table.keys()
    for key, lease in believed.items():
        mapping = table[key]
        assert (lease.delivery, lease.client_port, lease.peer) == (
            mapping.delivery,
            mapping.client_port,
            mapping.peer,
        ), key


@pytest.mark.parametrize("delivery", Delivery)
def test_everything_in_every_delivery(delivery: Delivery) -> None:
    one = joined(NarClientSettings(target=YB, delivery=delivery))
    tickets = everything(one.client)
    granted = [output for output in one.run() if isinstance(output, Granted)]
    assert [output.ticket for output in granted] == tickets
    agree(one)
    if delivery is Delivery.L2TP:
        assert XA in one.world.l2tp
    one.client.release_all()
    assert {type(output) for output in one.run()} == {Released}
    assert one.world.table == {}


def test_l2tp_sessions_are_the_same_at_both_ends() -> None:
    one = Joined(World(), NarClientSettings(target=YB, delivery=Delivery.L2TP))
    one.connect()
    (agreed,) = [output for output in one.run() if isinstance(output, L2tpAgreed)]
    one.client.lease_spi(NarProtocol.AH)
    one.run()
    assert one.world.l2tp[XA] == agreed.session


@pytest.mark.parametrize("delivery", Delivery)
def test_a_server_port_outside_the_ranges(delivery: Delivery) -> None:
    one = joined(NarClientSettings(target=YB, delivery=delivery))
    one.client.lease_tcp_server(8080)
    one.client.lease_tcp_server(9090)
    first, second = one.run()
    assert isinstance(first, Granted)
    assert first.lease.tuple.value == 8080
    assert isinstance(second, Granted)
    assert second.lease.tuple.value != 9090
    if delivery is Delivery.TRANSLATED:
        assert second.lease.local_port == 9090
    agree(one)


def test_a_login() -> None:
    world = World(LOGIN, users={"ann": ()})
    one = Joined(world, NarClientSettings("ann", PASSWORD, YB))
    one.connect()
    assert one.client.phase is Phase.READY
    other = Joined(world, NarClientSettings("ann", b"wrong", YB), "10.0.0.8")
    other.connect()
    (failed,) = other.run()
    assert isinstance(failed, Failed)
    assert "ann" in failed.words
    assert other.closed


@pytest.mark.parametrize("impose", Delivery)
@pytest.mark.parametrize("leases", [True, False])
def test_imposed(impose: Delivery, leases: bool) -> None:
    one = Joined(World(replace(POLICY, impose=impose)), replace(NAR, leases=leases))
    one.connect()
    said = one.run()
    if impose is Delivery.L2TP and not leases:
        assert isinstance(said[0], Failed)
        return
    assert said[0] == ModeAgreed(NB, impose, leases=leases)


def test_ah_translated_is_refused_in_words() -> None:
    one = joined(NarClientSettings(target=YB, delivery=Delivery.TRANSLATED))
    one.client.lease_spi(NarProtocol.AH)
    (refused,) = one.run()
    assert isinstance(refused, Refused)
    assert refused.reply is Reply.NOT_ALLOWED
    assert "AH" in refused.words


def test_h74_two_clients_and_one_wish() -> None:
    world = World()
    first, second = Joined(world), Joined(world, address="10.0.0.8")
    for one in (first, second):
        one.connect()
        one.run()
        one.client.lease_spi(NarProtocol.ESP, 0x4000_0001)
        one.client.lease_tunnel(NarProtocol.IP_IP, XB)
    spi, tunnel = first.run()
    other_spi, refused = second.run()
    assert isinstance(spi, Granted)
    assert isinstance(tunnel, Granted)
    assert spi.lease.tuple.value == 0x4000_0001
    assert isinstance(other_spi, Granted)
    assert other_spi.lease.tuple.value != 0x4000_0001
    assert isinstance(refused, Refused)
    agree(first)
    agree(second)


def test_h74_tunnels_of_a_visitor() -> None:
    one = joined()
    key = NarTuple(NarProtocol.IP_IP, NB, int(XB), YB)
    one.world.server.respect(lambda asked: asked == key)
    one.client.lease_tunnel(NarProtocol.IP_IP, XB)
    one.client.lease_tunnel(NarProtocol.GRE, XB)
    refused, granted = one.run()
    assert isinstance(refused, Refused)
    assert isinstance(granted, Granted)
    agree(one)


def test_leases_live_as_long_as_they_are_renewed() -> None:
    one = joined(lease_s=60.0)
    everything(one.client)
    one.run()
    assert one.pass_time(3600) == []
    assert len(one.client.leases()) == 8
    agree(one)


@pytest.mark.parametrize("noticed", [True, False])
def test_taken_up_again(noticed: bool) -> None:
    one = joined()
    everything(one.client)
    one.run()
    before = one.client.leases()
    one.hang_up(noticed=noticed)
    one.pass_time(30)
    one.connect()
    said = one.run()
    assert [type(output) for output in said] == [ModeAgreed, SessionAgreed]
    assert said[1].resumed  # type: ignore[union-attr]
    assert one.client.leases() == before
    agree(one)


def test_too_late() -> None:
    one = joined(grace_s=20.0)
    tickets = everything(one.client)
    one.run()
    one.hang_up()
    lost = one.pass_time(20)
    assert [output.ticket for output in lost if isinstance(output, Lost)] == tickets
    assert one.world.table == {}
    one.connect()
    assert one.client.phase is Phase.READY
    agree(one)


def test_the_draft_alone_gets_the_same_back_in_the_grace_period() -> None:
    one = joined(replace(NAR, leases=False))
    tickets = [
        one.client.lease_tcp(YB, 80),
        one.client.lease_tcp(YB, 80),
        one.client.lease_tcp_server(20_050),
        one.client.lease_udp(20_060),
        one.client.lease_icmp(0xC00C),
        one.client.lease_spi(NarProtocol.ESP),
        one.client.lease_tunnel(NarProtocol.GRE, XB),
    ]
    one.run()
    before = one.client.leases()
    assert list(before) == tickets
    one.hang_up()
    one.pass_time(10)
    one.connect()
    assert [type(output) for output in one.run()] == [ModeAgreed]
    assert one.client.leases() == before
    agree(one)


def test_a_restart_interrupts_nothing() -> None:
    one = joined()
    everything(one.client)
    one.run()
    before = one.client.leases()
    one.world.server.stopping(one.world.now)
    one.world.pump()
    assert ServerStopping() in one.run()
    one.world.restart()
    one.hang_up(noticed=False)
    one.connect()
    assert [type(output) for output in one.run()] == [ModeAgreed, SessionAgreed]
    assert one.client.leases() == before
    agree(one)


@pytest.mark.parametrize("away", [True, False])
def test_the_address_changes(away: bool) -> None:
    one = joined()
    tickets = everything(one.client)
    one.run()
    if away:
        one.hang_up()
    one.world.server.address_changed(NB, NB2, one.world.now)
    one.world.pump()
    if away:
        one.connect()
    changed = [output for output in one.run() if isinstance(output, AddressChanged)]
    assert sorted(t for output in changed for t in output.leases) == tickets
    assert {lease.tuple.address for lease in one.client.leases().values()} == {NB2}
    agree(one)
    one.client.lease_tcp(YB, 443)
    assert isinstance(one.run()[-1], Granted)
    agree(one)


@pytest.mark.parametrize("away", [True, False])
def test_an_administrator_ends_a_lease(away: bool) -> None:
    one = joined()
    ticket = one.client.lease_spi(NarProtocol.ESP)
    kept = one.client.lease_icmp()
    one.run()
    key = one.client.leases()[ticket].tuple
    if away:
        one.hang_up()
    assert one.world.server.end_lease(key, one.world.now, "because")
    one.world.pump()
    if away:
        one.connect()
    (lost,) = [output for output in one.run() if isinstance(output, Lost)]
    assert lost.ticket == ticket
    assert list(one.client.leases()) == [kept]
    agree(one)


def test_the_longest_time_of_a_rule() -> None:
    rule = replace(POLICY.rules[0], max_lease_s=100.0)
    one = joined(rules=(rule,))
    one.client.lease_icmp()
    one.run()
    assert [type(output) for output in one.pass_time(120)] == [Lost]
    agree(one)


class Steps:
    """Random use; after each step both sides have the same view."""

    def __init__(self, data: st.DataObject, *, leases: bool) -> None:
        self.data = data
        self.one = joined(replace(NAR, leases=leases), lease_s=60.0, grace_s=30.0)

    def step(self) -> None:
        one, client, draw = self.one, self.one.client, self.data.draw
        match draw(st.sampled_from(("ask", "ask", "release", "all", "break", "wait", "move"))):
            case "ask":
                ask = draw(st.integers(0, 7))
                self._asks()[ask]()
            case "release":
                client.release(draw(st.sampled_from(sorted(client.leases()) or [1])))
            case "all":
                client.release_all()
            case "break":
                one.hang_up(noticed=draw(st.booleans()))
                one.pass_time(draw(st.sampled_from((1, 20, 29))))
                one.connect()
            case "wait":
                one.pass_time(draw(st.sampled_from((5, 100))))
            case "move":
                old = one.world.server.policy.addresses[0]
                new = NB2 if old == NB else NB
                one.world.server.address_changed(old, new, one.world.now)
                one.world.pump()
                if one.closed:
                    one.hang_up(noticed=False)
                    one.connect()
        one.run()
        assert client.phase is Phase.READY

    def _asks(self) -> list[object]:
        client = self.one.client
        return [
            lambda: client.lease_tcp(YB, 80),
            client.lease_tcp_server,
            client.lease_udp,
            lambda: client.lease_udp_to(YB2, 500),
            client.lease_icmp,
            lambda: client.lease_spi(NarProtocol.ESP),
            lambda: client.lease_spi(NarProtocol.AH, target=YB2),
            lambda: client.lease_tunnel(NarProtocol.IP_IP, XB),
        ]


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_both_always_agree(data: st.DataObject) -> None:
    steps = Steps(data, leases=True)
    for _ in range(data.draw(st.integers(1, 15))):
        steps.step()
        agree(steps.one)


@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_both_agree_on_the_draft_alone(data: st.DataObject) -> None:
    """Without RELEASE the server may have more than the client, never less."""
    steps = Steps(data, leases=False)
    for _ in range(data.draw(st.integers(1, 12))):
        steps.step()
        believed = {lease.tuple for lease in steps.one.client.leases().values()}
        assert believed <= steps.one.world.table.keys()


def test_lease_says_its_port() -> None:
    key = NarTuple(NarProtocol.TCP, NB, 20_001)
    assert Lease(key, Delivery.TRANSLATED, 80).local_port == 80
    assert Lease(key, Delivery.TRANSLATED).local_port == 20_001
