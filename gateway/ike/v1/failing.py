"""ISAKMP SAs that end before they are established, and what every end drops."""

from gateway.domain.endpoint import Path
from gateway.ike import closing
from gateway.ike.core import Core
from gateway.ike.outputs import Severity
from gateway.ike.refusal import Refused, report, report_refusal
from gateway.ike.registry import NotifyType as Reason
from gateway.ike.v1 import exchange, phase2
from gateway.ike.v1.codec import (
    ExchangeType,
    Header,
    Notify,
    NotifyType,
    ProtocolId,
    serialize_message,
)
from gateway.ike.v1.sa import Evidence, IkeSa, State, transition

_STEPS = {
    State.MAIN_1_SENT: "main mode message 2",
    State.MAIN_2_SENT: "main mode message 3",
    State.MAIN_3_SENT: "main mode message 4",
    State.MAIN_4_SENT: "main mode message 5",
    State.MAIN_5_SENT: "main mode message 6",
    State.AGGRESSIVE_1_SENT: "aggressive mode message 2",
    State.AGGRESSIVE_2_SENT: "aggressive mode message 3",
    State.ASKED: "revocation check",
    State.AUTHENTICATED: "XAUTH",
}
"""What an SA in each of these states waits for."""
_NOTIFIES = {
    Reason.NO_PROPOSAL_CHOSEN: NotifyType.NO_PROPOSAL_CHOSEN,
    Reason.INVALID_KE_PAYLOAD: NotifyType.INVALID_KEY_INFORMATION,
    Reason.INVALID_SYNTAX: NotifyType.PAYLOAD_MALFORMED,
}
"""IKEv1's numbers; everything else is AUTHENTICATION-FAILED."""


def step_of(sa: IkeSa) -> str:
    """What the SA waits for, as failure records name it."""
    return _STEPS.get(sa.state, "phase 1")


def notify_of(refused: Refused) -> NotifyType:
    """What the peer is told."""
    return _NOTIFIES.get(refused.notify_type, NotifyType.AUTHENTICATION_FAILED)


def let_go(core: Core, sa: IkeSa, reason: str, now: float) -> None:
    """Change the state to closed and drop what is under way."""
    transition(core, sa, State.CLOSED, reason)
    leave_half_open(core, sa)
    exchanges = list(sa.exchanges.values())
    sa.exchanges = {}
    sa.reassembly = None
    sa.retransmit_at = 0.0
    sa.phase1 = None
    for one in exchanges:
        one.abandoned(core, sa, now)
    phase2.let_go(core, sa)


def leave_half_open(core: Core, sa: IkeSa) -> None:
    """The SA counts no longer as half open."""
    phase = sa.phase1
    if phase is not None and phase.half_open_key is not None:
        core.half_open.remove(phase.half_open_key)
        phase.half_open_key = None


def refuse(core: Core, sa: IkeSa, refused: Refused, now: float, *, step: str = "") -> None:
    """Phase 1 fails for good: tell the peer under protection where that is possible, and end.

    Only for what an authentic peer did, or what came before there was anything to lose.
    """
    report_refusal(
        core,
        refused,
        sa.peer_name if sa.peer_id is not None or not sa.initiator else sa.connection_name,
        sa.path.remote,
        step or step_of(sa),
        connection=sa.connection_name if sa.connection is not None else "",
        now=None if sa.initiator else now,
        sa=sa,
    )
    if sa.evidence & Evidence.KEYS:
        payload = Notify(notify_of(refused), b"", ProtocolId.ISAKMP)
        exchange.send_alone(core, sa, ExchangeType.INFORMATIONAL, [payload])
    closing.close(core, sa, refused.reason, now, hint=refused.remedy)


def refuse_in_the_clear(
    core: Core, header: Header, notify_type: NotifyType, path: Path, now: float
) -> None:
    """An unprotected notify: nothing but a hint for an honest peer, and limited in rate."""
    if not core.may_answer(now):
        return
    message = serialize_message(
        header.initiator_spi,
        header.responder_spi,
        exchange=ExchangeType.INFORMATIONAL,
        payloads=[Notify(notify_type, b"", ProtocolId.ISAKMP)],
        message_id=int.from_bytes(core.random(4), "big"),
    )
    core.transmit((message,), path)


def give_up(core: Core, sa: IkeSa, now: float) -> None:
    """The time for phase 1, or for the user's login, is over."""
    if sa.state in (State.ESTABLISHED, State.REPLACED, State.CLOSED):
        # Repetitions of the peer's last message of phase 1 have had their time.
        sa.last_sent = ()
        return
    if sa.initiator:
        unanswered(core, sa, now)
        return
    core.count("half_open_timeouts")
    core.emit_limited(
        f"half open {sa.path.remote.address}",
        now,
        "handshake_abandoned",
        f"{sa.path.remote} began IKEv1 and then sent no valid {step_of(sa)} in time",
        Severity.DEBUG,
        remote=str(sa.path.remote),
    )
    closing.close(core, sa, "handshake timed out", now)


def unanswered(core: Core, sa: IkeSa, now: float) -> None:
    """Retransmissions of phase 1 ran out."""
    hint = sa.phase1.hint if sa.phase1 is not None else ""
    reason = hint or "the peer does not answer"
    if hint:
        remedy = "check both configurations"
    elif sa.state is State.MAIN_5_SENT:
        reason = "the peer does not answer our proof"
        remedy = "check that the pre-shared key or certificates fit on both sides; see its log"
    else:
        remedy = "check the address, UDP ports 500 and 4500 on the way, and the peer"
    report(
        core,
        sa.connection_name,
        sa.path.remote,
        step_of(sa),
        reason,
        remedy,
        connection=sa.connection_name,
        sa=sa,
    )
    closing.close(core, sa, reason, now, refused=bool(hint), hint=remedy)


def wrap_up(core: Core, sa: IkeSa, reason: str, now: float) -> None:
    """End an SA with a Delete where the peer can understand one."""
    if sa.state in (State.AUTHENTICATED, State.ESTABLISHED, State.REPLACED):
        phase2.send_delete(core, sa)
    closing.close(core, sa, reason, now)
