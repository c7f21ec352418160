"""Two engines in virtual time, of which each may be killed between any two steps of its adapter.

The adapter is the real one's image: the dataplane's work in one commit, then records one by one
(or the other way round), then the datagrams. A killed engine is replaced by a fresh one that has
the last records and what the kernel has.
"""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_network

from harness_v2 import KEPT, Datagram, Host, Network, assert_recorded, make_engine

from gateway.domain.endpoint import Endpoint
from gateway.domain.pools import AddressPool
from gateway.ike.engine import IkeEngine
from gateway.ike.outputs import ActivateOutbound, MoveChildSa, RemoveChildSa, Transmit
from gateway.ike.policy import ConnectionPolicy, FindUser
from gateway.ike.registry import ExchangeType
from gateway.ike.restoring import Restored

ELSEWHERE = Endpoint(ip_address("203.0.113.77"), 4500)
OTHER = {"gateway": "device", "device": "gateway"}
DELAY_S = 0.002
"""Of a datagram."""
TORN = "an older IKE SA has its child SAs"


class Killed(Exception):  # noqa: N818 - named for what it is
    """The process is gone."""


@dataclass
class Kill:
    """Kill ``side`` after so many more of its steps."""

    side: str
    steps: int
    loses: bool = False
    """What it sent last is lost with it."""


class World(Network):
    """See the module."""

    def __init__(
        self,
        gateway: ConnectionPolicy,
        device: ConnectionPolicy,
        *,
        find_user: FindUser | None = None,
        records_first: bool = False,
    ) -> None:
        self.records_first = records_first
        self.policies = {"gateway": gateway, "device": device}
        self.find_user = find_user
        self.engines: list[IkeEngine] = []
        self.kills: list[Kill] = []
        self.killed: list[Kill] = []
        self.restored: list[Restored] = []
        super().__init__(*(Host(self.fresh(name), name) for name in self.policies))

    def fresh(self, name: str) -> IkeEngine:
        engine = make_engine(
            [self.policies[name]],
            pools={
                "road": AddressPool("road", ip_network("10.9.0.0/24")),
                "road6": AddressPool("road6", ip_network("fd00:9::/64")),
            },
            find_user=self.find_user,
        )
        engine._core.trace = True
        self.engines.append(engine)
        return engine

    # -- the adapter ------------------------------------------------------------------------

    def collect(self) -> None:
        for host in self.hosts.values():
            while outputs := host.engine.take_outputs():
                assert_recorded(host, outputs)
                try:
                    self._round(host, outputs)
                except Killed:
                    self.restart(host.name)

    def _round(self, host: Host, outputs: list[object]) -> None:
        steps = (self._keep, self._commit)
        for step in steps if self.records_first else reversed(steps):
            step(host, outputs)
        for output in outputs:
            if isinstance(output, Transmit):
                self._apply(host, output)
                self._step(host)

    def _keep(self, host: Host, outputs: list[object]) -> None:
        for output in outputs:
            if isinstance(output, KEPT):
                self._apply(host, output)
                self._step(host)

    def _commit(self, host: Host, outputs: list[object]) -> None:
        for output in outputs:
            if not isinstance(output, (*KEPT, Transmit)):
                self._apply(host, output)
        self._step(host)

    def _apply(self, host: Host, output: object) -> None:
        of_child = isinstance(output, RemoveChildSa | ActivateOutbound | MoveChildSa)
        if of_child and output.spi_in not in host.sas:
            # The kernel lost it before.
            return
        super()._apply(host, output)
        if isinstance(output, MoveChildSa):
            host.sas[output.spi_in] = replace(
                host.sas[output.spi_in],
                local=output.local,
                remote=output.remote,
                udp_encapsulation=output.udp_encapsulation,
            )

    def deliver(self, datagram: Datagram) -> None:
        self.now += DELAY_S
        super().deliver(datagram)

    def _step(self, host: Host) -> None:
        if not self.kills or self.kills[0].side != host.name:
            return
        kill = self.kills[0]
        if kill.steps:
            kill.steps -= 1
            return
        self.killed.append(self.kills.pop(0))
        if kill.loses:
            self.queue = [one for one in self.queue if one.sender != host.name]
        raise Killed

    # -- another process ----------------------------------------------------------------------

    def restart(self, name: str) -> Restored:
        """A fresh engine takes over from records and kernel."""
        host = self.hosts[name]
        host.engine = host.recorded_by = self.fresh(name)
        host.grants = {}
        restored = host.engine.restore(dict(host.records), self.now)
        self.restored.append(restored)
        for one in restored.children:
            sa = one.sa
            have = host.sas.get(sa.spi_in)
            if have is None:
                continue
            assert (have.spi_out, have.reqid, have.suite) == (sa.spi_out, sa.reqid, sa.suite)
            assert (have.local_ts, have.remote_ts) == (sa.local_ts, sa.remote_ts)
            assert have.vpn_fa == sa.vpn_fa
            assert not sa.keys_in.encryption
            host.sas[sa.spi_in] = replace(
                have,
                local=sa.local,
                remote=sa.remote,
                udp_encapsulation=sa.udp_encapsulation,
            )
            host.sending[sa.spi_in] = one.outbound
        ours = host.engine.reconcile(set(host.sas), self.now)
        for spi_in in set(host.sas) - ours:
            del host.sas[spi_in], host.sending[spi_in]
        return restored

    # -- what must hold however often ---------------------------------------------------------

    def check(self) -> None:
        """No fault of ours, and nothing on the wire that must not be."""
        for engine in self.engines:
            assert not engine.counters["internal_errors"]
            assert not engine.counters["ike_records_unusable"]
            assert not engine.counters["ike_sas_unrecorded"]
        for restored in self.restored:
            assert {one.reason for one in restored.dropped} <= {TORN}
        check_wire([one.message for one in self.sent])


def check_wire(messages: list[bytes]) -> None:
    """No message id means two things, none goes backwards, no initialization vector comes twice."""
    meanings: dict[object, bytes] = {}
    last: dict[object, int] = defaultdict(lambda: -1)
    vectors: dict[object, bytes] = {}
    chains: dict[object, set[bytes]] = defaultdict(set)
    for message in messages:
        spis, version, kind = message[:16], message[17] >> 4, message[18]
        flags, number = message[19], int.from_bytes(message[20:24], "big")
        if version == 1:
            if kind in (5, 32) and flags & 1:
                chains[spis, kind, number].add(message)
            continue
        if kind == ExchangeType.IKE_SA_INIT or message[16] not in (46, 53):
            continue
        fragment = message[32:36] if message[16] == 53 else b""
        sender = (spis, flags & 0x08)
        one = (sender, flags & 0x20, number, fragment)
        if meanings.setdefault(one, message) != message:
            raise AssertionError(f"message {number} of {spis.hex()} has two meanings")
        if not flags & 0x20 and not fragment:
            assert number >= last[sender] or meanings[one] == message
            last[sender] = max(last[sender], number)
        at = 36 if fragment else 32
        vector = (sender, message[at : at + 8])
        if vectors.setdefault(vector, message) != message:
            raise AssertionError(f"an initialization vector of {spis.hex()} came twice")
    for (_, kind, number), found in chains.items():
        # Quick mode has three messages and no fourth, an informational exchange of IKEv1 one.
        assert len(found) <= (3 if kind == 32 else 1), f"message id {number:08x} came again"


Action = Callable[[World], None]
