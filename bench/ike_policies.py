"""Connections of the benchmarks that run engines without a lab: one gateway, any device."""

import os
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import IPv4Address, ip_network

from gateway.domain.child_sa import TrafficSelector
from gateway.domain.endpoint import Endpoint
from gateway.domain.pools import AddressPool
from gateway.ike.auth.credentials import PresharedKey
from gateway.ike.auth.identity import Identity, IdentityPattern
from gateway.ike.crypto.proposals import SuiteOffer
from gateway.ike.engine import IkeEngine
from gateway.ike.policy import ConnectionPolicy, EngineSettings, Lifetimes, PeerAuth

PSK = PresharedKey(b"one long shared secret of the benchmarks")
POOL = "road"
NETWORK = TrafficSelector.of_network(ip_network("10.1.0.0/16"))


def gateway_policy(version: int) -> ConnectionPolicy:
    """The gateway's connection for any device with the shared secret."""
    return ConnectionPolicy(
        name="road",
        version=version,
        local_id=Identity.parse("gateway.example.com"),
        local_credential=PSK,
        remote_id=IdentityPattern.parse("*@example.com"),
        peer_auth=PeerAuth(preshared_key=PSK),
        ike_offer=SuiteOffer.default_ike(),
        esp_offer=SuiteOffer.default_esp(),
        local_ts=(NETWORK,),
        pool=POOL,
        dns=(IPv4Address("10.1.0.53"),),
        subnets=(ip_network("10.1.0.0/16"),),
        dns_domains=("example.com",),
        lifetimes=Lifetimes(),
    )


def device_policy(version: int, gateway: Endpoint, local: Endpoint) -> ConnectionPolicy:
    """A device's connection; every device has an identity of its own."""
    return replace(
        gateway_policy(version),
        name="office",
        local_id=Identity.parse(f"device{int(local.address):x}@example.com"),
        remote_id=IdentityPattern.parse("gateway.example.com"),
        local_ts=(),
        pool=None,
        dns=(),
        subnets=(),
        dns_domains=(),
        remote=gateway,
        local=local,
        request_inner_address=True,
    )


def make_engine(
    connection: ConnectionPolicy,
    settings: EngineSettings | None = None,
    last_inbound: Callable[[int], float | None] | None = None,
    *,
    recording: bool = False,
) -> IkeEngine:
    """An engine with this one connection; a gateway's has a pool of a million addresses."""
    pools = {POOL: AddressPool(POOL, ip_network("10.16.0.0/12"))} if connection.pool else {}
    return IkeEngine(
        settings or EngineSettings(),
        [connection],
        pools,
        random=os.urandom,
        wall_clock=lambda: datetime.now(UTC),
        last_inbound=last_inbound,
        recording=recording,
    )
