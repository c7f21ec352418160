"""The VPN layer: orders become calls of IKE, and what IKE tells becomes news for the node."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from ipaddress import IPv4Address
from typing import cast

from mobile_host_fakes import FakeIkeEngine, FakeIpsec

from gateway.appliance.factory import KernelSide
from gateway.domain.endpoint import Endpoint
from gateway.domain.event import Event
from gateway.ike.auth.credentials import PresharedKey
from gateway.ike.auth.identity import Identity, IdentityPattern
from gateway.ike.crypto.proposals import SuiteOffer
from gateway.ike.outputs import ClientDown, ClientUp
from gateway.ike.policy import ConnectionPolicy, Feature, PeerAuth
from gateway.ike.transport import IkeSockets
from gateway.ike.transport_esp import EspInUdp
from gateway.mobile_host.vpn import ClientEngine, Vpn
from gateway.mobile_node.inputs import VpnSession
from gateway.mobile_node.outputs import ConnectVpn, MoveVpn

OUTER, OTHER = IPv4Address("192.0.2.50"), IPv4Address("198.51.100.7")
INNER, HOME = IPv4Address("10.9.0.1"), IPv4Address("10.2.0.50")
GATEWAY = IPv4Address("192.0.2.1")
CONNECT = ConnectVpn(OUTER, HOME, vpn_fa=True, endpoint_update=True, mobike=True)
UP = ClientUp(
    connection="gateway",
    ike_spi=b"12345678",
    outer=OUTER,
    inner=INNER,
    vpn_fa=False,
    endpoint_update=True,
    mobike=True,
    encapsulated=False,
    advertisement=b"",
    dns=(IPv4Address("10.1.0.10"),),
    domains=("corp.example",),
    subnets=(),
    suite="aes",
)


def policy() -> ConnectionPolicy:
    key = PresharedKey(b"x" * 20)
    return ConnectionPolicy(
        name="gateway",
        local_id=cast("Identity", None),
        local_credential=key,
        remote_id=cast("IdentityPattern", None),
        peer_auth=PeerAuth(preshared_key=key),
        ike_offer=cast("SuiteOffer", None),
        esp_offer=cast("SuiteOffer", None),
        local_ts=(),
        vpn_fa=Feature.ALLOWED,
        remote=Endpoint(GATEWAY, 500),
        request_inner_address=True,
    )


class Bed:
    def __init__(self) -> None:
        self.engine = FakeIkeEngine()
        self.news: list[tuple[object, ...]] = []
        self.events: list[Event] = []
        self.sockets = IkeSockets(
            [IPv4Address("127.0.0.1")], ike_port=0, nat_port=0, esp=EspInUdp.NONE
        )
        self.vpn = Vpn(
            asyncio.get_running_loop(),
            cast("ClientEngine", self.engine),
            cast("KernelSide", FakeIpsec()),
            self.sockets,
            listener=self,
            emit=self.events.append,
            mark=0,
        )

    def vpn_up(self, session: VpnSession) -> None:
        self.news.append(("up", session))

    def vpn_failed(self, reason: str, hint: str, *, refused: bool) -> None:
        self.news.append(("failed", reason, refused))

    def vpn_down(self, reason: str) -> None:
        self.news.append(("down", reason))

    async def tells(self, *outputs: ClientUp | ClientDown) -> None:
        self.engine.outputs += outputs
        self.vpn.service.flush()
        await asyncio.sleep(0)
        await asyncio.sleep(0)


def run(test: Callable[[Bed], Awaitable[None]], *, locked: bool = False) -> Bed:
    async def go() -> Bed:
        bed = Bed()
        bed.vpn.use(None if locked else policy())
        await test(bed)
        bed.vpn.stop()
        return bed

    return asyncio.run(go())


def down(*, was_up: bool, refused: bool = False) -> ClientDown:
    return ClientDown("gateway", "silence", "wait", was_up, refused)


def test_an_order_becomes_a_connection() -> None:
    async def test(bed: Bed) -> None:
        bed.vpn.connect(CONNECT)
        (made,) = bed.engine.connections
        assert bed.engine.commands == [("abandon", "gateway"), ("initiate", "gateway")]
        assert made.local == Endpoint(OUTER, 500)
        assert (made.home_address, made.vpn_fa) == (HOME, Feature.ALLOWED)
        assert (made.endpoint_update, made.mobike) == (Feature.ALLOWED, True)
        assert not made.force_encapsulation

    run(test)


def test_what_the_node_does_not_want_is_off() -> None:
    async def test(bed: Bed) -> None:
        order = ConnectVpn(
            OUTER, HOME, vpn_fa=False, endpoint_update=False, mobike=False, force_udp=True
        )
        bed.vpn.connect(order)
        (made,) = bed.engine.connections
        assert (made.home_address, made.vpn_fa) == (None, Feature.OFF)
        assert (made.endpoint_update, made.mobike) == (Feature.OFF, False)
        assert made.force_encapsulation

    run(test)


def test_without_a_home_address_there_is_no_vpn_fa() -> None:
    async def test(bed: Bed) -> None:
        bed.vpn.connect(replace(CONNECT, home_address=None))
        (made,) = bed.engine.connections
        assert (made.home_address, made.vpn_fa) == (None, Feature.OFF)

    run(test)


def test_what_the_profile_has_off_stays_off() -> None:
    async def test(bed: Bed) -> None:
        bed.vpn.use(replace(policy(), vpn_fa=Feature.OFF, mobike=False))
        bed.vpn.connect(CONNECT)
        (made,) = bed.engine.connections
        assert (made.vpn_fa, made.mobike) == (Feature.OFF, False)

    run(test)


def test_up() -> None:
    async def test(bed: Bed) -> None:
        bed.vpn.connect(CONNECT)
        await bed.tells(UP)

    ((what, session),) = run(test).news
    assert what == "up"
    assert session == VpnSession(
        OUTER,
        INNER,
        endpoint_update=True,
        mobike=True,
        dns=(IPv4Address("10.1.0.10"),),
        domains=("corp.example",),
        suite="aes",
    )


def test_an_attempt_that_failed_is_abandoned() -> None:
    async def test(bed: Bed) -> None:
        bed.vpn.connect(CONNECT)
        await bed.tells(down(was_up=False, refused=True))
        assert bed.news == [("failed", "silence", True)]
        assert bed.engine.commands[-1] == ("abandon", "gateway")

    run(test)


def test_a_session_that_ends_is_told_once() -> None:
    async def test(bed: Bed) -> None:
        bed.vpn.connect(CONNECT)
        await bed.tells(UP)
        await bed.tells(down(was_up=True), down(was_up=True))
        assert [one[0] for one in bed.news] == ["up", "down"]

    run(test)


def test_after_a_close_nothing_is_told() -> None:
    async def test(bed: Bed) -> None:
        bed.vpn.connect(CONNECT)
        bed.engine.outputs.append(UP)
        bed.vpn.service.flush()
        bed.vpn.close("inside now")
        await bed.tells(UP, down(was_up=True))
        assert bed.news == []
        assert bed.engine.commands[-1] == ("abandon", "gateway")

    run(test)


def test_moves_by_mobike_and_by_packets() -> None:
    async def test(bed: Bed) -> None:
        bed.vpn.move(MoveVpn(OTHER, mobike=True))
        assert bed.engine.commands == []
        bed.vpn.connect(CONNECT)
        await bed.tells(UP)
        bed.vpn.move(MoveVpn(OTHER, mobike=True))
        bed.vpn.move(MoveVpn(OUTER, mobike=False))
        assert bed.engine.commands[-2:] == [
            ("mobike", UP.ike_spi, Endpoint(OTHER, 500)),
            ("move", UP.ike_spi, Endpoint(OUTER, 500)),
        ]

    run(test)


def test_a_gateway_that_does_not_follow_ends_the_session() -> None:
    async def test(bed: Bed) -> None:
        bed.vpn.connect(CONNECT)
        await bed.tells(UP)
        bed.engine.follows = False
        bed.vpn.move(MoveVpn(OTHER, mobike=False))
        await bed.tells()
        assert bed.news[-1][0] == "down"

    run(test)


def test_without_an_inner_address_the_attempt_fails() -> None:
    async def test(bed: Bed) -> None:
        bed.vpn.connect(CONNECT)
        await bed.tells(replace(UP, inner=None))
        assert bed.news[0][0] == "failed"
        assert bed.news[0][2] is True

    run(test)


def test_locked_there_is_nothing_to_log_in_with() -> None:
    async def test(bed: Bed) -> None:
        bed.vpn.connect(CONNECT)
        assert bed.news == []
        await bed.tells()
        assert bed.news == [("failed", "there is nothing to log in with", True)]

    run(test, locked=True)


def test_tcp_without_a_port_fails() -> None:
    async def test(bed: Bed) -> None:
        bed.vpn.connect(replace(CONNECT, tcp=True))
        await bed.tells()
        assert bed.news[0][0] == "failed"
        assert "TCP" in str(bed.news[0][1])

    run(test)


def test_farewell_says_goodbye_and_tells_nothing() -> None:
    async def test(bed: Bed) -> None:
        bed.vpn.connect(CONNECT)
        await bed.tells(UP)
        await bed.vpn.farewell()
        await bed.tells(down(was_up=True))
        assert bed.engine.commands[-1] == ("close all",)
        assert [one[0] for one in bed.news] == ["up"]

    run(test)


def test_another_login_is_given_to_the_engine_which_ends_what_does_not_fit() -> None:
    async def test(bed: Bed) -> None:
        bed.vpn.connect(CONNECT)
        await bed.tells(UP)
        changed = replace(policy(), liveness_s=7.0)
        bed.vpn.use(changed)
        (made,) = bed.engine.connections
        assert made.liveness_s == 7.0
        assert made.local == Endpoint(OUTER, 500)
        await bed.tells(down(was_up=True))
        assert bed.news[-1] == ("down", "silence")

    run(test)
