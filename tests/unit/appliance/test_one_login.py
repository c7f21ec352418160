"""One login from end to end: IKE, the tickets of the configuration, and the home agents' word."""

import os
import time
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv4Network, ip_address, ip_network
from pathlib import Path

import pytest

from gateway.appliance.parts import Parts
from gateway.config import Config, load
from gateway.domain.child_sa import TrafficSelector
from gateway.domain.endpoint import Endpoint
from gateway.domain.endpoint import Path as NetworkPath
from gateway.domain.mobility_credential import MobilityCredential
from gateway.domain.pools import AddressPool
from gateway.ike.auth.credentials import PresharedKey
from gateway.ike.auth.identity import Identity, IdentityPattern
from gateway.ike.crypto.proposals import SuiteOffer
from gateway.ike.engine import IkeEngine
from gateway.ike.outputs import ClientUp
from gateway.ike.outputs import Transmit as IkeTransmit
from gateway.ike.policy import ConnectionPolicy, EngineSettings, Feature, PeerAuth
from gateway.mip_agents.home_agent.engine import HomeAgent
from gateway.mip_agents.outputs import SetBinding, Transmit
from gateway.mip_agents.policy import Algorithm, SecurityAssociation
from gateway.mobile_node.policy import HomeAgentPolicy
from gateway.mobile_node.registering.outcome import Accepted, Denied, Retransmission, Via
from gateway.mobile_node.registration import RegistrationClient

GATEWAY, DEVICE = Endpoint(ip_address("192.0.2.1"), 500), Endpoint(ip_address("198.51.100.7"), 500)
PSK = PresharedKey(b"correct horse battery staple")
CONFIG = """
[gateway]
name = "gw.example.com"

[dataplane]
outside_interfaces = ["eth0"]

[mobility]
state_dir = "{folder}"

[connections.staff]
remote_id = "*@example.com"
local_auth = "psk"
remote_auth = "psk"
psk = "correct horse battery staple"
local_subnets = ["10.0.0.0/8"]
pool = "staff"
vpn_fa = "allowed"

[pools.staff]
network = "10.83.112.0/22"

[home_networks.inner]
network = "10.20.0.0/24"

[home_networks.outer]
network = "203.0.113.64/26"

[home_agents.inside]
address = "10.20.0.1"
placement = "inside"
home_networks = ["inner"]

[home_agents.outside]
address = "203.0.113.2"
placement = "outside"
home_networks = ["outer"]

[foreign_agents.vpn]
care_of_address = "10.1.0.1"
through_vpn = true

[mobile_nodes.ann]
home_address = "10.20.0.10"
keys = "login"
identity = "ann@example.com"

[mobile_nodes.ann-outside]
home_address = "203.0.113.70"
keys = "login"
identity = "ann@example.com"

[mobile_nodes.bob]
home_address = "10.20.0.11"
keys = "login"
identity = "bob@example.com"
"""


@pytest.fixture
def config(tmp_path: Path) -> Config:
    file = tmp_path / "gateway.toml"
    file.write_text(CONFIG.format(folder=tmp_path / "state"))
    file.chmod(0o600)
    return load(file)


def engine_of(connections: list[ConnectionPolicy], **more: object) -> IkeEngine:
    return IkeEngine(
        EngineSettings(),
        connections,
        {"staff": AddressPool("staff", ip_network("10.83.112.0/22"))},
        random=os.urandom,
        wall_clock=lambda: datetime.now(UTC),
        **more,  # type: ignore[arg-type]
    )


def device(name: str, **changes: object) -> IkeEngine:
    values: dict[str, object] = {
        "name": "office",
        "local_id": Identity.parse(name),
        "local_credential": PSK,
        "remote_id": IdentityPattern.parse("gw.example.com"),
        "peer_auth": PeerAuth(preshared_key=PSK),
        "ike_offer": SuiteOffer.default_ike(),
        "esp_offer": SuiteOffer.default_esp(),
        "local_ts": (),
        "remote_ts": (TrafficSelector.of_network(ip_network("0.0.0.0/0")),),
        "remote": GATEWAY,
        "local": DEVICE,
        "request_inner_address": True,
        "vpn_fa": Feature.ALLOWED,
    }
    return engine_of([ConnectionPolicy(**(values | changes))])  # type: ignore[arg-type]


class Gateway:
    """A gateway with everything that its configuration makes of it, in memory."""

    def __init__(self, config: Config) -> None:
        parts = Parts()
        plan = parts.mobility(config)
        assert plan is not None
        self.ike = engine_of(list(parts.connections(config)))
        self.ike.mobility = parts.mobility_login(config)
        self.home_agents = {
            policy.address: HomeAgent(policy, random=os.urandom, wall_clock=time.time)
            for policy in plan.home_agents
        }

    def log_in(self, engine: IkeEngine) -> ClientUp:
        engine.initiate("office", 1000.0)
        parties = {GATEWAY.address: self.ike, DEVICE.address: engine}
        found: list[ClientUp] = []
        for _ in range(20):
            for party in (engine, self.ike):
                for output in party.take_outputs():
                    if isinstance(output, IkeTransmit):
                        there = parties[output.path.remote.address]  # type: ignore[index]
                        path = NetworkPath(output.path.remote, output.path.local)
                        there.receive(output.message, path, 1000.0)
                    elif isinstance(output, ClientUp):
                        found.append(output)
        (up,) = found
        return up

    def register(self, credential: MobilityCredential) -> Accepted | Denied:
        """What the device's own client makes of the home agent's answer."""
        client = RegistrationClient(policy_of(credential), random=os.urandom, wall_clock=time.time)
        grant, here = credential.grant, ip_address("10.83.112.1")
        assert isinstance(here, IPv4Address)
        via = Via(None, here, grant.home_agent, here, True)
        client.register(via, 1.0, retransmission=Retransmission())
        (asked,) = client.take_outputs()
        agent = self.home_agents[grant.home_agent]
        path = NetworkPath(Endpoint(grant.home_agent, 434), Endpoint(here, 434))
        agent.receive(asked.message, path, 1.0)  # type: ignore[union-attr]
        outputs = agent.take_outputs()
        (answer,) = [one.message for one in outputs if isinstance(one, Transmit)]
        bound = [one.binding.home_address for one in outputs if isinstance(one, SetBinding)]
        client.receive(answer, Endpoint(grant.home_agent, 434), 1.1)
        (outcome,) = [one for one in client.take_outputs() if isinstance(one, Accepted | Denied)]
        assert bound == ([grant.home_address] if isinstance(outcome, Accepted) else [])
        return outcome


def policy_of(credential: MobilityCredential) -> HomeAgentPolicy:
    grant = credential.grant
    return HomeAgentPolicy(
        grant.home_agent,
        grant.home_address,
        grant.home_network,
        SecurityAssociation(credential.spi, credential.key, Algorithm.HMAC_SHA256),
        ticket=credential.ticket,
    )


@pytest.fixture
def gateway(config: Config) -> Gateway:
    return Gateway(config)


def test_one_login_lets_a_device_register_with_both_home_agents(gateway: Gateway) -> None:
    up = gateway.log_in(device("ann@example.com"))
    inside, outside = up.credentials
    assert inside.grant.home_network == IPv4Network("10.20.0.0/24")
    for credential in (inside, outside):
        assert isinstance(gateway.register(credential), Accepted)


def test_home_address_of_the_login_is_its_side_of_the_tunnel(gateway: Gateway) -> None:
    """The second login knows what the first one taught (draft 001, appendix B.5)."""
    first = gateway.log_in(device("ann@example.com", vpn_fa=Feature.OFF))
    (home, _) = first.credentials
    assert first.inner in IPv4Network("10.83.112.0/22")
    assert not first.vpn_fa
    second = gateway.log_in(device("ann@example.com", home_address=home.grant.home_address))
    assert second.vpn_fa
    assert second.inner == home.grant.home_address
    assert second.advertisement


def test_after_a_newer_login_the_older_ticket_is_worthless(gateway: Gateway) -> None:
    old = gateway.log_in(device("ann@example.com")).credentials[0]
    new = gateway.log_in(device("ann@example.com")).credentials[0]
    assert isinstance(gateway.register(new), Accepted)
    denied = gateway.register(old)
    assert isinstance(denied, Denied)
    assert denied.code == 131


def test_ticket_of_one_is_not_good_for_another(gateway: Gateway) -> None:
    ann = gateway.log_in(device("ann@example.com")).credentials[0]
    bob = gateway.log_in(device("bob@example.com")).credentials[0]
    forged = MobilityCredential(ann.grant, bob.spi, bob.key, bob.ticket, bob.expires_at)
    assert isinstance(gateway.register(forged), Denied)


def test_others_get_nothing(gateway: Gateway) -> None:
    assert gateway.log_in(device("eve@example.com")).credentials == ()
