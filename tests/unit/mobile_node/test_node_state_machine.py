"""Whatever happens in whatever order: no plaintext without proof, and a way back to work."""

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from node_world import (
    INSIDE_HA,
    NETWORKS,
    ROGUE_HA,
    World,
    node_policy,
)

from gateway.dataplane.node import NodeRefusal
from gateway.domain.access_mode import AccessMode
from gateway.domain.endpoint import Endpoint
from gateway.domain.mobility import MIP_PORT
from gateway.mip_agents.authentication import sign
from gateway.mip_agents.codec.extensions import AuthenticationKind
from gateway.mip_agents.codec.registration import RegistrationReply, RegistrationRequest
from gateway.mobile_node.inputs import Portal
from gateway.mobile_node.outputs import TransmitRegistration

INTERFACES = st.sampled_from(["eth0", "wlan0"])
PLACES = st.sampled_from(sorted(NETWORKS))
BACK_AT_WORK_S = 1500.0


class Life(RuleBasedStateMachine):
    """A device and everything that may happen to it."""

    @initialize(
        seed=st.integers(0, 2**16),
        external=st.booleans(),
        offers=st.tuples(st.booleans(), st.booleans(), st.booleans()),
    )
    def begin(self, seed: int, external: bool, offers: tuple[bool, bool, bool]) -> None:
        policy = node_policy() if external else node_policy(external=None)
        vpn_fa, update, mobike = offers
        self.world = World(policy, seed=seed, vpn_fa=vpn_fa, endpoint_update=update, mobike=mobike)
        self.locked = False
        self.heard: list[tuple[bytes, str | None, Endpoint]] = []
        receive = self.world.node.receive

        def record(message: bytes, interface: str | None, source: Endpoint, now: float) -> None:
            self.heard = [*self.heard[-30:], (message, interface, source)]
            receive(message, interface, source, now)

        self.deliver = receive
        self.world.node.receive = record  # type: ignore[method-assign]
        self.world.metrics = {"eth0": 10, "wlan0": 600}
        self.world.plug("eth0", "office")

    @rule(interface=INTERFACES, network=PLACES)
    def plug(self, interface: str, network: str) -> None:
        self.world.plug(interface, network)

    @rule(interface=INTERFACES)
    def unplug(self, interface: str) -> None:
        self.world.plug(interface, None)

    @rule(interface=INTERFACES, network=PLACES)
    def change_upstream(self, interface: str, network: str) -> None:
        if interface in self.world.plugs:
            self.world.swap(interface, network)

    @rule(seconds=st.sampled_from([0.005, 0.05, 0.5, 3.0, 20.0, 65.0, 400.0]))
    def time_passes(self, seconds: float) -> None:
        self.world.run(seconds)

    @rule(loss=st.sampled_from([0.0, 0.2, 0.6, 1.0]), jitter=st.sampled_from([0.0, 0.1, 3.0]))
    def weather(self, loss: float, jitter: float) -> None:
        self.world.loss, self.world.jitter_s = loss, jitter

    @rule(inside=st.booleans(), outside=st.booleans(), gateway=st.booleans())
    def outage(self, inside: bool, outside: bool, gateway: bool) -> None:
        self.world.inside_ha_up = inside
        self.world.outside_ha_up = outside
        self.world.gateway.up = gateway

    @rule(network=PLACES, portal=st.sampled_from(list(Portal)), ip_ip=st.booleans())
    def network_changes(self, network: str, portal: Portal, ip_ip: bool) -> None:
        self.world.networks[network].portal = portal
        self.world.networks[network].ip_ip = ip_ip

    @rule(refuses=st.sampled_from(["", "no"]), esp=st.booleans())
    def gateway_changes(self, refuses: str, esp: bool) -> None:
        self.world.gateway.refuses = refuses
        self.world.gateway.blocks_plain_esp = esp

    @rule()
    def session_ends(self) -> None:
        if self.world.gateway.session is not None:
            self.world.end_vpn("it ended")

    @rule(busy=st.booleans())
    def user(self, busy: bool) -> None:
        self.world.busy = busy
        if busy:
            self.world.node.traffic_waiting(self.world.now)
            self.world.flush()

    @rule(locked=st.booleans())
    def lock(self, locked: bool) -> None:
        self.locked = locked
        if locked:
            self.world.node.lock(self.world.now)
        else:
            self.world.node.unlock(self.world.now)
        self.world.flush()

    @rule()
    def kernel_refuses(self) -> None:
        self.world.node.refused(NodeRefusal("a route", "no such device"), self.world.now)
        self.world.flush()

    @rule()
    def impatience(self) -> None:
        self.world.node.reconnect(self.world.now)
        self.world.flush()

    @rule(interface=st.sampled_from(["eth0", "wlan0", None]))
    def replay(self, interface: str | None) -> None:
        for message, came, source in self.heard:
            self.deliver(message, interface, source, self.world.now)
            self.deliver(message, came, source, self.world.now)
        self.world.flush()

    @rule(interface=INTERFACES, code=st.sampled_from([0, 1, 64, 129, 133]))
    def forge(self, interface: str, code: int) -> None:
        for one in self.world.of(TransmitRegistration)[-6:]:
            if one.message[0] != 1:
                continue
            request = RegistrationRequest.parse(one.message)
            octets = RegistrationReply(
                code, 1800, request.home_address, request.home_agent, request.identification
            ).serialize()
            for forged in (sign(octets, AuthenticationKind.MOBILE_HOME, ROGUE_HA), octets):
                for source in (INSIDE_HA, one.destination):
                    self.deliver(forged, interface, Endpoint(source, MIP_PORT), self.world.now)
        self.world.flush()

    @invariant()
    def no_plaintext_without_proof(self) -> None:
        world = getattr(self, "world", None)
        if world is None:
            return
        world.check()
        alive = {name for name, until in world.permits.items() if until > world.now}
        if world.stack.mode is AccessMode.HELD or not world.stack.mode.inside:
            assert not alive
        else:
            assert alive <= {world.stack.attachment.interface}
        if self.locked:
            assert world.mode == "held"
        assert world.status.why
        assert len(world.node._core.recent) <= 16

    def teardown(self) -> None:
        """The world is whole again: so is the device, in its time."""
        world = getattr(self, "world", None)
        if world is None:
            return
        world.loss = world.jitter_s = 0.0
        world.inside_ha_up = world.outside_ha_up = world.gateway.up = True
        world.gateway.refuses, world.gateway.blocks_plain_esp = "", False
        for network in world.networks.values():
            network.portal, network.udp, network.tcp, network.ip_ip = Portal.OPEN, True, True, True
        world.node.unlock(world.now)
        if not world.plugs:
            world.plug("eth0", "cafe")
        for interface in list(world.plugs):
            # What a silent change upstream left behind is noticed now.
            world.plug(interface, world.plugs[interface])
        if world.node.policy.external is None:
            # Behind a foreign agent outside there is no way without an x-HA.
            for interface in ("eth0", "wlan0"):
                if world.plugs.get(interface) == "x-fa":
                    world.plug(interface, "cafe")
        world.busy = True
        world.node.traffic_waiting(world.now)
        world.flush()
        world.wait(world.carries, BACK_AT_WORK_S)
        world.run(700)
        world.wait(world.carries, 130)


TestLife = Life.TestCase
TestLife.settings = settings(
    max_examples=60,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
