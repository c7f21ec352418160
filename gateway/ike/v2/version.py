"""IKEv2 as the shared parts of the engine see it."""

from gateway.domain.endpoint import Endpoint, Path
from gateway.domain.user_auth import Answer
from gateway.ike import closing
from gateway.ike.core import Core, TimerKind
from gateway.ike.policy import ConnectionPolicy
from gateway.ike.record_values import Record
from gateway.ike.sa import Child
from gateway.ike.sa import IkeSa as AnyIkeSa
from gateway.ike.v2 import (
    deleting,
    eap_responder,
    exchange,
    failing,
    informational,
    initiate,
    mobike,
    ocsp_questions,
    receive,
    record,
    rekey,
    timing,
)
from gateway.ike.v2.sa import IkeSa, State


def _mine(sa: AnyIkeSa) -> IkeSa:
    if not isinstance(sa, IkeSa):
        raise TypeError(f"an SA of IKEv{sa.version}")
    return sa


class Ikev2:
    """See :class:`gateway.ike.versions.Version`."""

    def receive(self, core: Core, message: bytes, path: Path, now: float) -> None:
        """A datagram."""
        receive.receive(core, message, path, now)

    def initiate(self, core: Core, connection: ConnectionPolicy, now: float) -> None:
        """Send IKE_SA_INIT."""
        initiate.start(core, connection, now)

    def fire(self, core: Core, kind: TimerKind, sa: AnyIkeSa, now: float) -> None:
        """A timer of an IKE SA."""
        timing.fire(core, kind, _mine(sa), now)

    def fire_child(
        self, core: Core, kind: TimerKind, sa: AnyIkeSa, child: Child, now: float
    ) -> None:
        """There is none of IKEv2's own."""

    def let_go(self, core: Core, sa: AnyIkeSa, reason: str, now: float) -> None:
        """Close it and drop what is under way."""
        failing.let_go(core, _mine(sa), reason, now)

    def delete_ike_sa(self, core: Core, sa: AnyIkeSa, reason: str, now: float) -> None:
        """End it with a Delete."""
        deleting.delete_ike_sa(core, _mine(sa), reason, now)

    def end_now(self, core: Core, sa: AnyIkeSa, reason: str, now: float) -> None:
        """End it without waiting."""
        mine = _mine(sa)
        if mine.window.outstanding is not None and mine.state is State.ESTABLISHED:
            # The window is taken: the Delete cannot wait for an answer that may never come.
            closing.close(core, mine, reason, now)
        else:
            deleting.delete_ike_sa(core, mine, reason, now)

    def delete_child(self, core: Core, sa: AnyIkeSa, child: Child, reason: str, now: float) -> None:
        """End a child SA with a Delete."""
        deleting.delete_child(core, _mine(sa), child, reason, now)

    def rekey_child(self, core: Core, sa: AnyIkeSa, child: Child, now: float) -> None:
        """Replace a child SA with CREATE_CHILD_SA."""
        rekey.rekey_child(core, _mine(sa), child, now)

    def create_child(self, core: Core, sa: AnyIkeSa, reqid: int, now: float) -> None:
        """Make a child SA with CREATE_CHILD_SA."""
        mine = _mine(sa)
        if mine.window.outstanding is None:
            rekey.create(core, mine, now, reqid=reqid)

    def local_address_changed(self, core: Core, sa: AnyIkeSa, local: Endpoint, now: float) -> None:
        """Tell the peer by MOBIKE."""
        mobike.local_address_changed(core, _mine(sa), local, now)

    def prove_path(self, core: Core, sa: AnyIkeSa, now: float) -> None:
        """A liveness check from where we are now, or the request that waits for its answer."""
        mine = _mine(sa)
        if not exchange.hurry(core, mine, now):
            informational.ask(core, mine, now)

    def user_answered(self, core: Core, sa: AnyIkeSa, answer: Answer, now: float) -> None:
        """Go on with EAP."""
        eap_responder.user_answered(core, _mine(sa), answer, now)

    def is_recorded(self, sa: AnyIkeSa) -> bool:
        """Whether it is established, or on its way out."""
        return record.is_recorded(_mine(sa))

    def write_record(self, core: Core, sa: AnyIkeSa) -> Record:
        """What is IKEv2's own."""
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
        """Judge the peer's certificate anew."""
        ocsp_questions.answered(core, _mine(sa), response, now, eap_responder.resume)
