"""IKEv1 as the shared parts of the engine see it."""

from gateway.domain.endpoint import Endpoint, Path
from gateway.domain.user_auth import Answer
from gateway.ike.core import Core, TimerKind
from gateway.ike.policy import ConnectionPolicy
from gateway.ike.record_values import Record
from gateway.ike.sa import Child
from gateway.ike.sa import IkeSa as AnyIkeSa
from gateway.ike.v1 import dpd, failing, initiate, phase1, phase2, receive, record, timing
from gateway.ike.v1.sa import IkeSa


def _mine(sa: AnyIkeSa) -> IkeSa:
    if not isinstance(sa, IkeSa):
        raise TypeError(f"an SA of IKEv{sa.version}")
    return sa


class Ikev1:
    """See :class:`gateway.ike.versions.Version`."""

    def receive(self, core: Core, message: bytes, path: Path, now: float) -> None:
        """A datagram."""
        receive.receive(core, message, path, now)

    def initiate(self, core: Core, connection: ConnectionPolicy, now: float) -> None:
        """Begin main or aggressive mode."""
        initiate.start(core, connection, now)

    def fire(self, core: Core, kind: TimerKind, sa: AnyIkeSa, now: float) -> None:
        """A timer of an ISAKMP SA."""
        timing.fire(core, kind, _mine(sa), now)

    def fire_child(
        self, core: Core, kind: TimerKind, sa: AnyIkeSa, child: Child, now: float
    ) -> None:
        """A timer of a child SA that is IKEv1's own."""
        phase2.fire_child(core, kind, _mine(sa), child, now)

    def let_go(self, core: Core, sa: AnyIkeSa, reason: str, now: float) -> None:
        """Close it and drop what is under way."""
        failing.let_go(core, _mine(sa), reason, now)

    def delete_ike_sa(self, core: Core, sa: AnyIkeSa, reason: str, now: float) -> None:
        """End it with a Delete."""
        failing.wrap_up(core, _mine(sa), reason, now)

    def end_now(self, core: Core, sa: AnyIkeSa, reason: str, now: float) -> None:
        """End it; a Delete of IKEv1 is never answered."""
        failing.wrap_up(core, _mine(sa), reason, now)

    def delete_child(self, core: Core, sa: AnyIkeSa, child: Child, reason: str, now: float) -> None:
        """End a child SA with a Delete."""
        phase2.delete_child(core, _mine(sa), child, reason, now)

    def rekey_child(self, core: Core, sa: AnyIkeSa, child: Child, now: float) -> None:
        """Replace a child SA with quick mode."""
        phase2.rekey_child(core, _mine(sa), child, now)

    def create_child(self, core: Core, sa: AnyIkeSa, reqid: int, now: float) -> None:
        """Make a child SA with quick mode."""
        phase2.create_child(core, _mine(sa), reqid, now)

    def local_address_changed(self, core: Core, sa: AnyIkeSa, local: Endpoint, now: float) -> None:
        """IKEv1 cannot move: begin anew from where we are now."""
        mine = _mine(sa)
        if mine.path.local.address == local.address:
            return
        failing.wrap_up(core, mine, f"our own address is {local.address} now", now)

    def prove_path(self, core: Core, sa: AnyIkeSa, now: float) -> None:
        """Dead peer detection from where we are now."""
        dpd.ask(core, _mine(sa), now)

    def user_answered(self, core: Core, sa: AnyIkeSa, answer: Answer, now: float) -> None:
        """The answer about an XAUTH user."""
        phase2.user_answered(core, _mine(sa), answer, now)

    def is_recorded(self, sa: AnyIkeSa) -> bool:
        """Whether it is established, or on its way out."""
        return record.is_recorded(_mine(sa))

    def write_record(self, core: Core, sa: AnyIkeSa) -> Record:
        """What is IKEv1's own."""
        del core
        return record.write(_mine(sa))

    def read_record(  # noqa: PLR0917 - one fact each
        self, own: Record, spi_i: bytes, spi_r: bytes, initiator: bool, path: Path, now: float
    ) -> AnyIkeSa:
        """An SA of a former process."""
        return record.read(own, spi_i, spi_r, initiator, path, now)

    def rejoin(self, core: Core, sa: AnyIkeSa, now: float) -> None:
        """Go on with it."""
        record.rejoin(core, _mine(sa), now)

    def ocsp_answered(self, core: Core, sa: AnyIkeSa, response: bytes | None, now: float) -> None:
        """The answer about the peer's certificate."""
        phase1.ocsp_answered(core, _mine(sa), response, now)
