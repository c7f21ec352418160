"""A request that is refused: what the peer is told, and what the administrator is told."""

from gateway.domain.endpoint import Endpoint
from gateway.ike.codec import Notify
from gateway.ike.core import Core
from gateway.ike.outputs import Severity
from gateway.ike.registry import NotifyType
from gateway.ike.sa import IkeSa


class Refused(Exception):  # noqa: N818 - a decision, not a fault
    """Raised inside an exchange; whoever dispatches it answers with :meth:`notify`."""

    def __init__(
        self,
        notify_type: NotifyType,
        reason: str,
        remedy: str = "",
        *,
        data: bytes = b"",
        protocol: int = 0,
        spi: bytes = b"",
        theirs: str = "",
        ours: str = "",
    ) -> None:
        super().__init__(reason)
        self.notify_type = notify_type
        self.reason = reason
        self.remedy = remedy
        self.data = data
        self.protocol = protocol
        self.spi = spi
        self.theirs = theirs
        self.ours = ours

    def notify(self) -> Notify:
        """What the peer is told."""
        return Notify(self.notify_type, self.data, self.protocol, self.spi)


def report(  # noqa: PLR0917 - one fact each
    core: Core,
    peer: str,
    remote: Endpoint,
    step: str,
    reason: str,
    remedy: str = "",
    *,
    theirs: str = "",
    ours: str = "",
    connection: str = "",
    sa: IkeSa | None = None,
    now: float | None = None,
    notify: str = "",
) -> None:
    """Emit ``handshake_failed``: one line that says who, from where, at which step and why.

    With ``now`` the line is limited in rate by step and remote address: use it for everything
    that anybody on the internet can cause without proving an address.
    """
    core.count("handshakes_failed")
    fields: dict[str, object] = {
        "peer": peer,
        "remote": str(remote),
        "step": step,
        "reason": reason,
        "remedy": remedy,
    }
    text = f"{peer} from {remote} failed in {step}: {reason}"
    if theirs or ours:
        fields |= {"theirs": theirs, "ours": ours}
        if theirs not in reason or ours not in reason:
            text += f" (theirs: {theirs}; ours: {ours})"
    if remedy:
        text += f"; {remedy}"
    if connection:
        fields["connection"] = connection
    if sa is not None:
        fields |= {"session": sa.session_id, "spis": sa.spis}
    if notify:
        fields["notify"] = notify
    if now is None:
        core.emit("handshake_failed", text, Severity.WARNING, **fields)
    else:
        key = f"{step} {remote.address}"
        warning = Severity.WARNING
        core.emit_limited(key, now, "handshake_failed", text, warning, recorded=True, **fields)


def report_refusal(
    core: Core,
    refused: Refused,
    peer: str,
    remote: Endpoint,
    step: str,
    *,
    connection: str = "",
    sa: IkeSa | None = None,
    now: float | None = None,
) -> None:
    """Emit ``handshake_failed`` for a :class:`Refused`."""
    report(
        core,
        peer,
        remote,
        step,
        refused.reason,
        refused.remedy,
        theirs=refused.theirs,
        ours=refused.ours,
        connection=connection,
        sa=sa,
        now=now,
        notify=getattr(refused.notify_type, "name", ""),
    )
