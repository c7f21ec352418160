"""IKE SAs that end before they are established, and what every end drops."""

from gateway.ike import closing
from gateway.ike.auth.identity import escape
from gateway.ike.codec import Delete, Notify
from gateway.ike.core import Core, TimerKind
from gateway.ike.outputs import Severity
from gateway.ike.refusal import report
from gateway.ike.registry import ExchangeType, NotifyType, ProtocolId
from gateway.ike.v2 import protect
from gateway.ike.v2.sa import IkeSa, State, transition

LINGER_S = 10.0
"""How long a refused login keeps its answer for retransmissions."""
MAX_LINGERING = 256
"""Refused logins that do so; of more, the oldest are forgotten at once."""


def let_go(core: Core, sa: IkeSa, reason: str, now: float) -> None:
    """Change the state to closed and drop what is under way."""
    transition(core, sa, State.CLOSED, reason)
    _drop_pending(core, sa, now)
    _leave_half_open(core, sa)
    sa.handshake = None


def _drop_pending(core: Core, sa: IkeSa, now: float) -> None:
    outstanding = sa.window.outstanding
    sa.window.outstanding = None
    waiting = list(sa.exchanges or ())
    sa.exchanges = None
    sa.reassembly = None
    if outstanding is not None:
        waiting.insert(0, outstanding.exchange)
    for exchange in waiting:
        exchange.abandoned(core, sa, now)


def _leave_half_open(core: Core, sa: IkeSa) -> None:
    handshake = sa.handshake
    if handshake is not None and handshake.half_open_key is not None:
        core.half_open.remove(handshake.half_open_key)
        handshake.half_open_key = None


def refuse_login(core: Core, sa: IkeSa, why: str, now: float) -> None:
    """Drop all of a half-open SA but its answer, which retransmitted requests still get."""
    transition(core, sa, State.CLOSED, why)
    _drop_pending(core, sa, now)
    core.release_address(sa)
    _leave_half_open(core, sa)
    sa.handshake = None
    sa.sk_d = b""
    sa.cipher_in = None
    sa.cipher_out = None
    core.timers.set((TimerKind.GIVE_UP, sa.local_spi), now + LINGER_S)
    core.lingering[sa.local_spi] = None
    if len(core.lingering) > MAX_LINGERING:
        core.drop_sa(core.sas[next(iter(core.lingering))])


def say_farewell(core: Core, sa: IkeSa) -> None:
    """We refuse a responder that believes in this SA: say so once (RFC 7296 section 2.21.2)."""
    messages = protect.seal(
        sa,
        ExchangeType.INFORMATIONAL,
        sa.window.next_request,
        [Notify(NotifyType.AUTHENTICATION_FAILED), Delete(ProtocolId.IKE)],
        response=False,
        fragment_size=core.settings.fragment_size,
    )
    core.transmit(messages, sa.path)


def give_up(core: Core, sa: IkeSa, now: float) -> None:
    """The time for a handshake is over, or that of a refused one's answer."""
    if sa.state is State.CLOSED:
        core.drop_sa(sa)
        return
    if sa.initiator:
        unanswered(core, sa, "IKE_SA_INIT", now)
        return
    core.count("half_open_timeouts")
    if sa.state is State.USER_LOGIN:
        abandon_login(core, sa, "the peer did not go on", "see the peer's log", now)
        return
    core.emit_limited(
        f"half open {sa.path.remote.address}",
        now,
        "handshake_abandoned",
        f"{sa.path.remote} sent IKE_SA_INIT and then no valid IKE_AUTH within"
        f" {core.settings.half_open_timeout_s:.0f} s",
        Severity.DEBUG,
        remote=str(sa.path.remote),
    )
    closing.close(core, sa, "handshake timed out", now)


def abandon_login(core: Core, sa: IkeSa, reason: str, remedy: str, now: float) -> None:
    """The login of a user that was begun comes to no end; if it was to fail, that is why."""
    login = sa.handshake.login if sa.handshake is not None else None
    step = "IKE_AUTH"
    if login is not None:
        step = f"IKE_AUTH, {login.title}"
        reason, remedy = (login.reason, login.remedy) if login.reason else (reason, remedy)
        if login.user:
            # Somebody may have been asked about it, or it was to fail: neither is for free.
            core.failed_logins.failed(sa.path.remote.address, now)
        if login.user:
            reason = f"user {escape(login.user, 80)}: {reason}"
    name, peer = sa.connection_name, sa.peer_name
    report(core, peer, sa.path.remote, step, reason, remedy, connection=name, now=now, sa=sa)
    closing.close(core, sa, reason, now)


def unanswered(core: Core, sa: IkeSa, step: str, now: float) -> None:
    """Retransmissions ran out."""
    if sa.state in (State.INIT_SENT, State.AUTH_SENT):
        hint = sa.handshake.hint if sa.handshake is not None else ""
        reason = hint or "the peer does not answer"
        remedy = (
            "check both configurations"
            if hint
            else "check the address, UDP ports 500 and 4500 on the way, and the peer"
        )
        report(
            core,
            sa.connection_name,
            sa.path.remote,
            step,
            reason,
            remedy,
            connection=sa.connection_name,
            sa=sa,
        )
        closing.close(core, sa, reason, now, refused=bool(hint), hint=remedy)
        return
    reason = f"peer does not answer ({step})"
    closing.close(core, sa, reason, now, severity=Severity.WARNING, refused=False)
