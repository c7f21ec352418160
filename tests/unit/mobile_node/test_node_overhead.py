"""The table of draft 001, section 6.2, and what NAT traversal adds to it."""

from dataclasses import replace
from ipaddress import IPv4Address

import pytest
from node_world import GATEWAY, HOME, INSIDE_HA, OUTSIDE_HA, OUTSIDE_HOME, VPN_FA, VPN_POOL

from gateway.dataplane.node import LayerStack, NodeTunnel, VpnLayer
from gateway.domain.mobility import Encapsulation
from gateway.mobile_node.backoff import Backoff
from gateway.mobile_node.idle import IdleWatch
from gateway.mobile_node.inputs import VpnSession
from gateway.mobile_node.layers import overhead_octets
from gateway.mobile_node.overhead import of_tunnel, of_vpn

CARE_OF = IPv4Address("203.0.113.20")
SESSION = VpnSession(CARE_OF, VPN_POOL, suite="3des_192/hmac_sha1_96")
VPN = VpnLayer(CARE_OF, GATEWAY, VPN_POOL)
X_C = NodeTunnel(OUTSIDE_HOME, OUTSIDE_HA, CARE_OF, co_located=True)
X_F = replace(X_C, co_located=False)
X_ZERO = replace(X_C, zero_overhead=GATEWAY)
I_C = NodeTunnel(HOME, INSIDE_HA, VPN_POOL, co_located=True)
I_F = replace(I_C, care_of_address=VPN_FA, co_located=False)


@pytest.mark.parametrize(
    ("external", "vpn", "internal", "octets"),
    [
        (None, None, I_F, 0),
        (None, None, I_C, 20),
        (X_F, VPN, I_C, 77),
        (X_F, VPN, I_F, 57),
        (X_C, VPN, I_C, 97),
        (X_C, VPN, I_F, 77),
        (X_ZERO, VPN, I_F, 57),
        (None, VPN, I_C, 77),
        (None, VPN, I_F, 57),
    ],
)
def test_the_table_of_the_draft(
    external: NodeTunnel | None, vpn: VpnLayer | None, internal: NodeTunnel, octets: int
) -> None:
    stack = LayerStack(external=external, vpn=vpn, internal=internal)
    assert overhead_octets(stack, SESSION) == octets


def test_nat_traversal_at_each_layer() -> None:
    natted = replace(X_C, udp_port=434)
    assert of_tunnel(natted) - of_tunnel(X_C) == 12
    assert of_vpn(replace(SESSION, encapsulated=True)) - of_vpn(SESSION) == 8
    stack = LayerStack(external=natted, vpn=VPN, internal=replace(I_C, udp_port=434))
    assert overhead_octets(stack, replace(SESSION, encapsulated=True)) == 97 + 32


@pytest.mark.parametrize(
    ("suite", "octets"),
    [
        ("aes_gcm_16_256/esn", 57),
        ("chacha20poly1305_256", 57),
        ("aes_cbc_128/hmac_sha2_256_128", 77),
        ("aes_cbc_256/hmac_sha2_512_256", 93),
    ],
)
def test_ciphers(suite: str, octets: int) -> None:
    assert of_vpn(replace(SESSION, suite=suite)) == octets


def test_other_encapsulations() -> None:
    assert of_tunnel(replace(I_C, encapsulation=Encapsulation.GRE)) == 24
    assert of_tunnel(replace(I_C, encapsulation=Encapsulation.MINIMAL)) == 12
    assert of_vpn(None) == of_tunnel(None) == 0


def test_waits_grow_to_a_bound_and_are_never_in_step() -> None:
    high = Backoff(1.0, 60.0, lambda n: b"\x00" * n)
    low = Backoff(1.0, 60.0, lambda n: b"\xff" * n)
    waits = [high.next_s() for _ in range(2000)]
    assert waits[:7] == [1, 2, 4, 8, 16, 32, 60]
    assert waits[-1] == 60
    assert low.next_s() == 0.75
    high.reset()
    assert high.next_s() == 1.0


def test_idle_is_told_by_packets_alone() -> None:
    packets = 0
    watch = IdleWatch(lambda: packets, 120.0)
    watch.used(0.0)
    for now in range(0, 110, 10):
        assert not watch.look(float(now))
    packets = 1
    assert not watch.look(120.0)
    assert not watch.look(230.0)
    assert watch.look(260.0)
    assert watch.asleep
    assert watch.next_look() is None
    watch.used(300.0)
    assert not watch.asleep
    never = IdleWatch(None, 120.0)
    assert not never.look(1e9)
    assert never.next_look() is None
