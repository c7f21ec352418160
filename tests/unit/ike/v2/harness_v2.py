"""Two engines joined in memory, in virtual time, over a network that can be told to misbehave."""

import contextlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from ipaddress import ip_address, ip_network

from gateway.domain.child_sa import ChildSa, TrafficSelector
from gateway.domain.endpoint import Endpoint, Path
from gateway.domain.pools import AddressPool
from gateway.domain.remote_access import Grant
from gateway.domain.user_auth import Answer
from gateway.ike import record
from gateway.ike.auth.credentials import PresharedKey
from gateway.ike.auth.identity import Identity, IdentityPattern
from gateway.ike.crypto.proposals import SuiteOffer
from gateway.ike.engine import IkeEngine
from gateway.ike.mobility_authority import MobilityAuthority
from gateway.ike.outputs import (
    AccessEnded,
    AccessGranted,
    ActivateOutbound,
    AskAboutUser,
    AskOcsp,
    Event,
    ForgetSa,
    InstallChildSa,
    MoveChildSa,
    RecordSa,
    RemoveChildSa,
    SessionClosed,
    SessionOpened,
    Transmit,
    TransmitKeepalive,
)
from gateway.ike.policy import ConnectionPolicy, EngineSettings, FindUser, PeerAuth
from gateway.ike.v2 import record as v2_record

GATEWAY = Endpoint(ip_address("192.0.2.1"), 500)
DEVICE = Endpoint(ip_address("198.51.100.7"), 500)
PSK = PresharedKey(b"correct horse battery staple")
NOW = datetime(2026, 6, 1, tzinfo=UTC)


def network_selector(text: str) -> TrafficSelector:
    return TrafficSelector.of_network(ip_network(text))


def gateway_policy(**changes: object) -> ConnectionPolicy:
    values: dict[str, object] = {
        "name": "road",
        "local_id": Identity.parse("gw.example.com"),
        "local_credential": PSK,
        "remote_id": IdentityPattern.parse("*@example.com"),
        "peer_auth": PeerAuth(preshared_key=PSK),
        "ike_offer": SuiteOffer.default_ike(),
        "esp_offer": SuiteOffer.default_esp(),
        "local_ts": (network_selector("10.1.0.0/16"),),
        "pool": "road",
        "dns": (ip_address("10.1.0.53"),),
        "subnets": (ip_network("10.1.0.0/16"),),
        "dns_domains": ("example.com",),
    }
    values.update(changes)
    return ConnectionPolicy(**values)  # type: ignore[arg-type]


def device_policy(**changes: object) -> ConnectionPolicy:
    values: dict[str, object] = {
        "name": "office",
        "local_id": Identity.parse("ada@example.com"),
        "local_credential": PSK,
        "remote_id": IdentityPattern.parse("gw.example.com"),
        "peer_auth": PeerAuth(preshared_key=PSK),
        "ike_offer": SuiteOffer.default_ike(),
        "esp_offer": SuiteOffer.default_esp(),
        "local_ts": (),
        "remote": GATEWAY,
        "local": DEVICE,
        "request_inner_address": True,
    }
    values.update(changes)
    return ConnectionPolicy(**values)  # type: ignore[arg-type]


def site_policies(
    **changes: object,
) -> tuple[ConnectionPolicy, ConnectionPolicy]:
    """(gateway's, device's) of a tunnel between networks, without inner addresses."""
    ours = (network_selector("10.1.0.0/16"),)
    theirs = (network_selector("10.2.0.0/16"),)
    return (
        gateway_policy(pool=None, remote_ts=theirs, **changes),
        device_policy(request_inner_address=False, local_ts=theirs, remote_ts=ours, **changes),
    )


@dataclass
class Host:
    """An engine with a dataplane that only remembers."""

    engine: IkeEngine
    name: str
    sas: dict[int, ChildSa] = field(default_factory=dict)
    sending: dict[int, bool] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    moves: list[MoveChildSa] = field(default_factory=list)
    keepalives: list[Path] = field(default_factory=list)
    log: list[object] = field(default_factory=list)
    questions: list[AskAboutUser] = field(default_factory=list)
    ocsp_questions: list[AskOcsp] = field(default_factory=list)
    sessions: list[SessionOpened | SessionClosed] = field(default_factory=list)
    grants: dict[str, Grant] = field(default_factory=dict)
    """Who is in, by session."""
    records: dict[str, bytes] = field(default_factory=dict)
    """By key, as the last ones were."""
    recorded_by: IkeEngine | None = None

    def named(self, name: str) -> list[Event]:
        return [event for event in self.events if event.name == name]


@dataclass
class Datagram:
    sender: str
    message: bytes
    path: Path
    """From the sender's point of view."""
    number: int


def make_engine(
    connections: list[ConnectionPolicy],
    *,
    settings: EngineSettings | None = None,
    pools: dict[str, AddressPool] | None = None,
    last_inbound: Callable[[int], float | None] | None = None,
    wall_clock: Callable[[], datetime] = lambda: NOW,
    find_user: FindUser | None = None,
    mobility: MobilityAuthority | None = None,
) -> IkeEngine:
    return IkeEngine(
        settings or EngineSettings(),
        connections,
        pools if pools is not None else {"road": AddressPool("road", ip_network("10.9.0.0/24"))},
        random=os.urandom,
        wall_clock=wall_clock,
        last_inbound=last_inbound,
        find_user=find_user,
        mobility=mobility,
        recording=True,
    )


def assert_granted(host: Host, output: InstallChildSa) -> None:
    """As the gateway, nothing is installed for a session that is not in."""
    owner = host.engine._core.children.get(output.sa.spi_in)
    if owner is not None and not owner.session_initiator:
        grant = host.grants[output.session_id]
        assert grant.zone == output.sa.zone


def assert_recorded(host: Host, outputs: Sequence[object]) -> None:
    """The last records, with those of a batch, say what is: nothing that changed was missed."""
    core = host.engine._core
    if host.recorded_by is not host.engine:
        host.recorded_by, host.records = host.engine, {}
    records = dict(host.records)
    kinds = [type(one) for one in outputs]
    assert Transmit not in kinds[: max((n for n, k in enumerate(kinds) if k in KEPT), default=0)]
    for output in outputs:
        if isinstance(output, RecordSa):
            assert records.get(output.key) != output.record, "recorded twice"
            records[output.key] = output.record
        elif isinstance(output, ForgetSa):
            del records[output.key]
    now = {}
    for sa in core.sas.values():
        assert (
            not core.version_of(sa).is_recorded(sa)
            or sa in core.families.members[sa.family].values()
        )
    for family, sas in core.families.members.items():
        assert sas
        # An exchange that only a test has is in no record, nor is its SA while it waits.
        with contextlib.suppress(ValueError):
            members = [sa for sa in sas.values() if core.version_of(sa).is_recorded(sa)]
            if members:
                now[record.key_of(family)] = record.encode(core, family, members)
    assert records.keys() == now.keys()
    for key, octets in now.items():
        if records[key] != octets and not went_on(records[key], octets):
            raise AssertionError(difference(records[key], octets))


def went_on(former: bytes, octets: bytes) -> bool:
    """Whether an SA is as a former process left it, but for the initialization vectors."""
    was, now = json.loads(former[1:]), json.loads(octets[1:])
    for one in was["sas"]:
        if one["ike"] == 2:
            one["own"]["sealed"] += v2_record.IV_MARGIN
    return was == now


def difference(recorded: bytes, octets: bytes) -> str:
    """What is not as it was recorded."""
    both = []
    for record_of in (recorded, octets):
        flat = {}
        for one in json.loads(record_of[1:])["sas"]:
            flat |= {(str(one["spis"]), name): value for name, value in one["own"].items()}
            flat |= {(str(one["spis"]), name): one[name] for name in one.keys() - {"own"}}
        both.append(flat)
    was, now = both
    names = [name for name in was.keys() | now.keys() if was.get(name) != now.get(name)]
    return "; ".join(f"{name} {was.get(name)} is recorded, {now.get(name)} is" for name in names)


KEPT = (RecordSa, ForgetSa)


class Network:
    """Carries datagrams between hosts by address; ``impair`` may change what arrives.

    ``impair(datagram)`` returns the list of datagrams that arrive instead: [] drops, two
    duplicate, and a changed message corrupts. ``nat`` rewrites the source of what leaves the
    device, and the reverse, like a NAT in front of it.
    """

    def __init__(self, *hosts: Host) -> None:
        self.hosts = {host.name: host for host in hosts}
        self.now = 1000.0
        self.where: dict[object, str] = {GATEWAY.address: "gateway", DEVICE.address: "device"}
        self.impair: Callable[[Datagram], list[Datagram]] = lambda datagram: [datagram]
        self.nat: dict[Endpoint, Endpoint] = {}
        self.sent: list[Datagram] = []
        self.queue: list[Datagram] = []
        self.answer_user: Callable[[AskAboutUser], Answer | None] = lambda question: None
        for host in hosts:
            host.engine._core.trace = True

    @property
    def gateway(self) -> Host:
        return self.hosts["gateway"]

    @property
    def device(self) -> Host:
        return self.hosts["device"]

    def collect(self) -> None:
        for host in self.hosts.values():
            while outputs := host.engine.take_outputs():
                assert_recorded(host, outputs)
                for output in outputs:
                    self._apply(host, output)

    def _apply(self, host: Host, output: object) -> None:
        host.log.append(output)
        if isinstance(output, Transmit):
            datagram = Datagram(host.name, output.message, output.path, len(self.sent))
            self.sent.append(datagram)
            self.queue += self.impair(datagram)
        elif isinstance(output, InstallChildSa):
            assert output.sa.spi_in not in host.sas
            assert_granted(host, output)
            host.sas[output.sa.spi_in] = output.sa
            host.sending[output.sa.spi_in] = output.outbound
        elif isinstance(output, ActivateOutbound):
            assert host.sending[output.spi_in] is False
            host.sending[output.spi_in] = True
        elif isinstance(output, RemoveChildSa):
            del host.sas[output.spi_in]
            del host.sending[output.spi_in]
        elif isinstance(output, MoveChildSa):
            assert output.spi_in in host.sas
            host.moves.append(output)
        elif isinstance(output, TransmitKeepalive):
            host.keepalives.append(output.path)
        elif isinstance(output, AskAboutUser):
            host.questions.append(output)
            answer = self.answer_user(output)
            if answer is not None:
                host.engine.user_answered(output.ticket, answer, self.now)
        elif isinstance(output, AskOcsp):
            host.ocsp_questions.append(output)
        elif isinstance(output, SessionOpened | SessionClosed):
            host.sessions.append(output)
        elif isinstance(output, AccessGranted):
            grant = output.grant
            assert host.grants.get(grant.session) != grant, "granted twice"
            host.grants[grant.session] = grant
            for one in host.grants.values():
                if one.session != grant.session:
                    assert not one.zone or one.zone != grant.zone
                    assert one.zone or not set(one.addresses) & set(grant.addresses)
        elif isinstance(output, AccessEnded):
            del host.grants[output.session]
        elif isinstance(output, RecordSa):
            host.records[output.key] = output.record
        elif isinstance(output, ForgetSa):
            del host.records[output.key]
        elif isinstance(output, Event):
            host.events.append(output)

    def deliver(self, datagram: Datagram) -> None:
        source, target = datagram.path.local, datagram.path.remote
        source = self.nat.get(source, source)
        for inside, outside in self.nat.items():
            if target == outside:
                target = inside
        name = self.where.get(target.address)
        if name is None:
            return
        self.hosts[name].engine.receive(datagram.message, Path(target, source), self.now)

    def run(self, rounds: int = 200) -> None:
        """Carry datagrams until nobody says anything more; time stands still."""
        for _ in range(rounds):
            self.collect()
            if not self.queue:
                return
            waiting, self.queue = self.queue, []
            for datagram in waiting:
                self.deliver(datagram)
                self.collect()
        raise AssertionError("the engines do not stop talking")

    def pass_time(self, seconds: float) -> None:
        """Let time go on, from timer to timer."""
        end = self.now + seconds
        self.run()
        while True:
            times = [
                at
                for host in self.hosts.values()
                if (at := host.engine.next_timer()) is not None and at <= end
            ]
            if not times:
                break
            self.now = max(self.now, min(times))
            for host in self.hosts.values():
                host.engine.handle_timer(self.now)
            self.run()
        self.now = end


def pair(
    gateway: ConnectionPolicy | None = None,
    device: ConnectionPolicy | None = None,
    *,
    settings: EngineSettings | None = None,
    device_settings: EngineSettings | None = None,
    pools: dict[str, AddressPool] | None = None,
    find_user: FindUser | None = None,
    mobility: MobilityAuthority | None = None,
) -> Network:
    """A gateway and a device that do not know each other yet."""
    ours = make_engine(
        [gateway or gateway_policy()],
        settings=settings,
        pools=pools,
        find_user=find_user,
        mobility=mobility,
    )
    theirs = make_engine([device or device_policy()], settings=device_settings)
    return Network(Host(ours, "gateway"), Host(theirs, "device"))


def connect(network: Network, connection: str = "office") -> Network:
    """The device connects; everything that follows at once happens."""
    network.device.engine.initiate(connection, network.now)
    network.run()
    return network


def connected(
    gateway: ConnectionPolicy | None = None,
    device: ConnectionPolicy | None = None,
    **more: object,
) -> Network:
    """A gateway and a device with an established IKE SA and a child SA."""
    network = connect(pair(gateway, device, **more))  # type: ignore[arg-type]
    texts = [event.text for host in network.hosts.values() for event in host.events]
    assert established(network.gateway), texts
    assert established(network.device), texts
    return network


def established(host: Host, now: float = 0.0) -> list[object]:
    return [sa for sa in host.engine.ike_sas(now) if sa.state == "established"]


def sa_of(host: Host) -> object:
    """The host's only established IKE SA, from the inside."""
    found = [sa for sa in host.engine._core.sas.values() if sa.state.value == "established"]
    assert len(found) == 1
    return found[0]


def assert_consistent(network: Network) -> None:
    """Both dataplanes hold the same SAs, mirrored, with the same keys."""
    gateway = {(sa.spi_in, sa.spi_out): sa for sa in network.gateway.sas.values()}
    device = {(sa.spi_out, sa.spi_in): sa for sa in network.device.sas.values()}
    assert gateway.keys() == device.keys()
    for key, ours in gateway.items():
        theirs = device[key]
        assert ours.keys_in == theirs.keys_out
        assert ours.keys_out == theirs.keys_in
        assert ours.local_ts == theirs.remote_ts
        assert ours.remote_ts == theirs.local_ts
        assert ours.suite == theirs.suite
        assert ours.udp_encapsulation == theirs.udp_encapsulation
