"""What a home agent tells: every event with its facts, and one line for an administrator."""

from collections.abc import Hashable

from gateway.domain.event import Event, Severity
from gateway.mip_agents.codec.codes import ReplyCode
from gateway.mip_agents.home_agent.bindings import CareOf, Registrant
from gateway.mip_agents.home_agent.denials import Denial
from gateway.mip_agents.policy import INFINITE_LIFETIME_S, HomeAgentPolicy

LINES = 5
"""Log lines of one kind per :data:`PERIOD_S`; more say nothing new."""
PERIOD_S = 10.0
_NAMES = {int(code): code.name.lower() for code in ReplyCode}


class LineLimit:
    """Counts log lines by kind, so that nobody fills the log."""

    __slots__ = ("_counts", "_since")

    def __init__(self) -> None:
        self._counts: dict[Hashable, int] = {}
        self._since = 0.0

    def allows(self, kind: Hashable, now: float) -> bool:
        """Whether one more line of this kind is worth its space."""
        if not 0.0 <= now - self._since < PERIOD_S:
            self._counts.clear()
            self._since = now
        count = self._counts.get(kind, 0)
        if count >= LINES:
            return False
        self._counts[kind] = count + 1
        return True


def code_name(code: int) -> str:
    """The name of a reply code in counters and events."""
    return _NAMES.get(code, f"code_{code}")


def registered(
    policy: HomeAgentPolicy, registrant: Registrant, care_of: CareOf, code: int, *, renewed: bool
) -> Event:
    """A binding is there, or lives on."""
    granted_s = care_of.lifetime_s
    node = registrant.node
    lasting = "for ever" if granted_s == INFINITE_LIFETIME_S else f"for {granted_s} s"
    name, home = node.name, registrant.home_text
    if renewed:
        text = f"{name} ({home}) renewed its registration from {care_of.text} {lasting}"
    else:
        text = f"{name} ({home}) registered at {policy.name} from {care_of.text} {lasting}" + (
            _manner(care_of)
        )
    return Event(
        "registered",
        text,
        Severity.DEBUG if renewed else Severity.INFO,
        {
            "home_agent": policy.name,
            "home_address": home,
            "node": name,
            "nai": node.nai,
            "care_of_address": care_of.text,
            "code": code,
            "code_name": _NAMES[code],
            "reason": "",
            "hint": "",
            "lifetime_s": granted_s,
            "renewed": renewed,
        },
    )


def _manner(care_of: CareOf) -> str:
    tunnel = care_of.tunnel
    # Usually it leads to the care-of address, which the line names already.
    where = f" in UDP to {tunnel.remote}:{tunnel.udp_port}" if tunnel.udp_port else ""
    words = [f"{tunnel.encapsulation.value} tunnel{where}"]
    if care_of.nat:
        words.append("behind a NAT")
    if care_of.zero_overhead:
        words.append(f"zero overhead to {care_of.zero_overhead}")
    if care_of.agent:
        words.append(f"by way of foreign agent {care_of.agent}")
    return ": " + ", ".join(words)


def denied(
    policy: HomeAgentPolicy,
    who: str,
    facts: dict[str, object],
    denial: Denial,
    *,
    logged: bool,
) -> Event:
    """A request was answered with a denial."""
    text = f"{who} was denied registration at {policy.name}: {denial.reason} (code {denial.code:d})"
    if denial.hint:
        text += f"; {denial.hint}"
    fields: dict[str, object] = {
        "home_agent": policy.name,
        **facts,
        "code": int(denial.code),
        "code_name": code_name(denial.code),
        "reason": denial.reason,
        "hint": denial.hint,
    }
    return Event("registration_denied", text, Severity.WARNING, fields, logged)


def discarded(policy: HomeAgentPolicy, source: str, why: str, reason: str) -> Event:
    """A message was thrown away unanswered."""
    return Event(
        "registration_discarded",
        f"a message from {source} to {policy.name} was discarded: {reason}",
        Severity.INFO,
        {"home_agent": policy.name, "source": source, "why": why, "reason": reason, "hint": ""},
    )


def ended(
    name: str,
    policy: HomeAgentPolicy,
    registrant: Registrant,
    care_ofs: tuple[CareOf, ...],
    *,
    reason: str,
    hint: str = "",
    severity: Severity = Severity.INFO,
) -> Event:
    """Care-of addresses of a mobile node are no longer bound; ``name`` says how it came."""
    addresses = ", ".join(one.text for one in care_ofs)
    node = registrant.node
    left = len(registrant.care_ofs)
    home = registrant.home_text or str(node.home_address or node.nai)
    text = f"{node.name} ({home}) {_ENDINGS[name]} {addresses or 'nowhere'}: {reason}"
    if left:
        text += f"; {left} more care-of address{'es' * (left > 1)}"
    if hint:
        text += f"; {hint}"
    return Event(
        name,
        text,
        severity,
        {
            "home_agent": policy.name,
            "home_address": home,
            "node": node.name,
            "nai": node.nai,
            "care_of_address": addresses,
            "code": int(ReplyCode.ACCEPTED),
            "code_name": _NAMES[ReplyCode.ACCEPTED],
            "reason": reason,
            "hint": hint,
            "remaining": left,
        },
    )


_ENDINGS = {
    "deregistered": "deregistered from",
    "binding_expired": "is no longer bound to",
    "registration_revoked": "is no longer bound to",
    "binding_refused": "cannot be tunnelled to at",
}
