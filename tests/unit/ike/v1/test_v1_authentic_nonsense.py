"""Messages after phase 1 whose HASH is right and whose content is anything at all."""

import random
from collections.abc import Callable

import pytest
from harness_v1 import LOGIN, USER, device_v1, gateway_v1, only_sa, said, states
from harness_v2 import PSK, Network, connect, network_selector, pair
from rogue_v1 import Rogue

from gateway.ike.policy import ConfigMode, PeerAuth
from gateway.ike.v1 import exchange, protect
from gateway.ike.v1.codec import (
    Attribute,
    Configuration,
    Delete,
    ExchangeType,
    FaAdvertisement,
    Identification,
    KeyExchange,
    Nonce,
    Notify,
    Payload,
    Proposal,
    SecurityAssociation,
    Transform,
    UnknownPayload,
    serialize_payloads,
)
from gateway.ike.v1.codec.registry import NotifyType
from gateway.ike.v1.sa import Evidence, IkeSa, State

HERE = (network_selector("10.1.0.0/16"),)
KINDS = (ExchangeType.QUICK, ExchangeType.TRANSACTION, ExchangeType.INFORMATIONAL)
ROUNDS = 400


class Nonsense:
    """Payloads that are well formed, of values that meet now and then."""

    def __init__(self, seed: int, sa: IkeSa) -> None:
        self.random = random.Random(seed)
        spis = [child.spi_in.to_bytes(4, "big") for child in sa.children.values()]
        self.spis = [*spis, sa.initiator_spi + sa.responder_spi, b"", bytes(4), b"\0\1\2\3"]

    def octets(self) -> bytes:
        chosen = self.random
        size = chosen.choice((0, 1, 4, 4, 8, 14, 16, 20, 32, 256))
        return chosen.randbytes(size) if chosen.random() < 0.7 else bytes(size)

    def attribute(self, kinds: tuple[int, ...]) -> Attribute:
        chosen = self.random
        kind = chosen.choice((*kinds, chosen.randrange(0x8000)))
        value = chosen.choice((0, 1, 2, 3, 5, 14, 128, 256, 3600, 65535))
        return Attribute(kind, value if chosen.random() < 0.6 else self.octets())

    def attributes(self, *kinds: int) -> tuple[Attribute, ...]:
        return tuple(self.attribute(kinds) for _ in range(self.random.randrange(9)))

    def proposal(self) -> Proposal:
        chosen = self.random
        transforms = tuple(
            Transform(number, chosen.choice((1, 3, 12, 12, 20, 255)), self.attributes(*range(12)))
            for number in range(chosen.randrange(4))
        )
        return Proposal(
            chosen.randrange(4), chosen.choice((3, 3, 1)), chosen.randbytes(4), transforms
        )

    def payload(self) -> Payload:
        chosen = self.random
        configured = (*range(1, 16), *range(16520, 16530), *range(28672, 28680))
        made: Callable[[], Payload] = chosen.choice(
            (
                lambda: SecurityAssociation((self.proposal(), self.proposal())),
                lambda: Nonce(chosen.randbytes(20)),
                lambda: KeyExchange(self.octets()),
                lambda: Identification(
                    chosen.choice((1, 2, 4, 5, 7, 9, 11, 99)),
                    self.octets(),
                    chosen.choice((0, 6, 17)),
                    chosen.choice((0, 53, 500)),
                ),
                lambda: Notify(
                    chosen.choice((*NotifyType, chosen.randrange(65536))),
                    self.octets(),
                    chosen.choice((0, 1, 3, 255)),
                    chosen.choice(self.spis),
                ),
                lambda: Delete(chosen.choice((1, 2, 3, 255)), (chosen.choice(self.spis),)),
                lambda: Configuration(
                    chosen.randrange(6), self.attributes(*configured), chosen.randrange(65536)
                ),
                lambda: FaAdvertisement(chosen.randbytes(30)),
                lambda: UnknownPayload(chosen.choice((33, 41, 200)), False, self.octets()),
            )
        )
        return made()

    def payloads(self) -> list[Payload]:
        return [self.payload() for _ in range(self.random.randrange(1, 6))]


def tell(network: Network, sender: str, payloads: list[Payload], kind: ExchangeType) -> None:
    host = network.hosts[sender]
    core, sa = host.engine._core, only_sa(host)
    rogue = Rogue(exchange.new_message_id(core, sa), initiator=True, now=network.now)
    rogue.answers = []
    rogue.iv = protect.first_iv(sa, rogue.message_id)
    try:
        serialize_payloads(payloads)
    except ValueError:
        return
    core.transmit(protect.seal(core, sa, rogue, payloads, exchange_type=kind), sa.path)
    network.run()


def assert_sane(network: Network) -> None:
    for host in network.hosts.values():
        assert host.engine.counters.get("internal_errors", 0) == 0, said(network)[-3:]
        core = host.engine._core
        assert len(core.sas) <= 1
        assert set(core.children) == set(host.sas)
        for sa in core.sas.values():
            assert isinstance(sa, IkeSa)
            assert len(sa.exchanges) <= 16
            assert len(sa.children) <= 16


@pytest.mark.parametrize("sender", ["gateway", "device"])
@pytest.mark.parametrize("seed", range(4))
def test_established(seed: int, sender: str) -> None:
    network = connect(pair(gateway_v1(), device_v1(remote_ts=HERE)))
    for host in network.hosts.values():
        host.engine._core.wanted.clear()
    nonsense = Nonsense(seed, only_sa(network.hosts[sender]))
    for _ in range(ROUNDS):
        if any(not host.engine._core.sas for host in network.hosts.values()):
            break
        tell(network, sender, nonsense.payloads(), nonsense.random.choice(KINDS))
        assert_sane(network)
        for child in network.gateway.sas.values():
            assert [str(one) for one in child.remote_ts] == ["10.9.0.1/32"]
    network.pass_time(300)
    assert_sane(network)


@pytest.mark.parametrize("seed", range(6))
def test_before_the_login(seed: int) -> None:
    """Whatever the device says, it is not let in without its user."""
    network = pair(
        gateway_v1(
            peer_auth=PeerAuth(preshared_key=PSK, user=USER), v1_config_mode=ConfigMode.PUSH
        ),
        device_v1(user_credential=LOGIN, remote_ts=HERE),
    )
    network.impair = lambda one: (
        [] if one.message[18] == ExchangeType.TRANSACTION and one.sender == "gateway" else [one]
    )
    connect(network)
    network.device.engine._core.wanted.clear()
    nonsense = Nonsense(seed, only_sa(network.device))
    for _ in range(ROUNDS):
        if any(not host.engine._core.sas for host in network.hosts.values()):
            break
        tell(network, "device", nonsense.payloads(), nonsense.random.choice(KINDS))
        assert_sane(network)
        assert not network.gateway.sas
        assert not network.gateway.questions
        for state in states(network.gateway):
            assert state is State.AUTHENTICATED
            assert not only_sa(network.gateway).evidence & Evidence.USER
            assert only_sa(network.gateway).inner_address is None
