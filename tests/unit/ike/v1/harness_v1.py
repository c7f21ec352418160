"""Policies of IKEv1 connections, for two engines joined in memory, and looks at their SAs."""

from certs_v2 import anchors, credential
from harness_v2 import Host, Network, device_policy, gateway_policy, pair

from gateway.ike.crypto.proposals import SuiteOffer
from gateway.ike.policy import (
    ConnectionPolicy,
    PeerAuth,
    UserAuth,
    UserCredential,
    UserMethod,
    V1Exchange,
)
from gateway.ike.v1.sa import IkeSa, State

FAST = SuiteOffer.parse("ike", ["aes128-sha256-ecp256"])
ESP = SuiteOffer.parse("esp", ["aes256-sha256"])
MAIN, AGGRESSIVE = V1Exchange.MAIN, V1Exchange.AGGRESSIVE
USER = UserAuth((UserMethod.XAUTH,))
LOGIN = UserCredential("ada", b"lovelace")


def gateway_v1(**changes: object) -> ConnectionPolicy:
    return gateway_policy(**{"version": 1, "ike_offer": FAST, "esp_offer": ESP, **changes})


def device_v1(**changes: object) -> ConnectionPolicy:
    return device_policy(**{"version": 1, "ike_offer": FAST, "esp_offer": ESP, **changes})


def psk_pair(exchange: V1Exchange = MAIN, **changes: object) -> Network:
    """Two hosts with the same pre-shared key."""
    return pair(
        gateway_v1(v1_exchange=exchange, **changes), device_v1(v1_exchange=exchange, **changes)
    )


def certificate_policies(
    kind: str, exchange: V1Exchange = MAIN, **changes: object
) -> tuple[ConnectionPolicy, ConnectionPolicy]:
    """(gateway's, device's) with certificates of one kind of key."""
    auth = PeerAuth(anchors=anchors())
    return (
        gateway_v1(
            **{
                "local_credential": credential("gw.example.com", kind),
                "peer_auth": auth,
                "v1_exchange": exchange,
                **changes,
            }
        ),
        device_v1(
            **{
                "local_credential": credential("ada@example.com", kind),
                "peer_auth": auth,
                "v1_exchange": exchange,
                **changes,
            }
        ),
    )


def hybrid_policies(exchange: V1Exchange = MAIN) -> tuple[ConnectionPolicy, ConnectionPolicy]:
    """(gateway's, device's): only the gateway has a certificate, the user logs in."""
    return (
        gateway_v1(
            local_credential=credential("gw.example.com", "rsa"),
            peer_auth=PeerAuth(user=USER),
            v1_exchange=exchange,
        ),
        device_v1(
            peer_auth=PeerAuth(anchors=anchors()), user_credential=LOGIN, v1_exchange=exchange
        ),
    )


def only_sa(host: Host) -> IkeSa:
    """The host's only ISAKMP SA, from the inside."""
    (sa,) = host.engine._core.sas.values()
    assert isinstance(sa, IkeSa)
    return sa


def states(host: Host) -> list[State]:
    """The states of all its ISAKMP SAs."""
    return [sa.state for sa in host.engine._core.sas.values() if isinstance(sa, IkeSa)]


def said(network: Network) -> list[str]:
    """What both hosts reported, for assertions that fail."""
    return [
        f"{host.name}: {event.text}"
        for host in network.hosts.values()
        for event in host.events
        if event.name != "ike_sa_state"
    ]
