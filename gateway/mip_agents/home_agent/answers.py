"""Replies that deny, how many of them, and the events that tell of them."""

from collections import Counter
from ipaddress import IPv4Address

from gateway.domain.endpoint import Endpoint, Path
from gateway.mip_agents.home_agent import denials, events, replies
from gateway.mip_agents.home_agent.addresses import Addresses
from gateway.mip_agents.home_agent.bindings import Registrant
from gateway.mip_agents.home_agent.case import Case
from gateway.mip_agents.home_agent.denials import Denial
from gateway.mip_agents.home_agent.events import LineLimit
from gateway.mip_agents.outputs import Link, Output, Transmit
from gateway.mip_agents.policy import HomeAgentPolicy
from gateway.mip_agents.replay import Freshness

STRANGER_REPLIES_PER_S = 50.0
"""Denials for want of authenticity, in all: strangers learn little and reflect nothing."""
STRANGER_BURST = 100.0
MISMATCHES_PER_S = 5.0
"""Replies with code 133 to one mobile node, replayed requests included."""
MISMATCH_BURST = 10.0


class Answers:
    """Answers requests that are not granted."""

    __slots__ = ("_addresses", "_counters", "_lines", "_outputs", "_stranger_after", "policy")

    def __init__(
        self,
        policy: HomeAgentPolicy,
        addresses: Addresses,
        outputs: list[Output],
        counters: Counter[str],
        lines: LineLimit,
    ) -> None:
        self.policy = policy
        self._addresses = addresses
        self._outputs = outputs
        self._counters = counters
        self._lines = lines
        self._stranger_after = 0.0

    def use(self, policy: HomeAgentPolicy, addresses: Addresses) -> None:
        """Go on by another policy."""
        self.policy, self._addresses = policy, addresses

    def our_name(self, case: Case) -> IPv4Address:
        """Our address as the mobile node knows it."""
        named = case.request.home_agent
        return named if int(named) in self._addresses.own else self.policy.address

    def reply_path(self, path: Path) -> Path:
        """Back where it came from; never from a broadcast address."""
        if path.local.address == self.policy.address:
            return path
        return Path(Endpoint(self.policy.address, path.local.port), path.remote)

    def _reply(self, case: Case, code: int, identification: int, link: Link | None) -> None:
        message = replies.compose(
            case,
            code,
            lifetime_s=0,
            home_address=case.request.home_address,
            home_agent=self.our_name(case),
            identification=identification,
        )
        self._outputs.append(Transmit(message, self.reply_path(case.path), link))

    def deny(self, case: Case, denial: Denial, identification: int, link: Link | None) -> None:
        """Deny what an authentic and fresh request asks for."""
        registrant = case.registrant
        if registrant is not None:
            registrant.last_code = denial.code
        self._counters[events.code_name(denial.code)] += 1
        self._reply(case, denial.code, identification, link)
        # Of an authentic node: each line tells of somebody who can be helped.
        logged = self._lines.allows((case.key, denial.code), case.now)
        self._tell_denial(case, denial, logged=logged)

    def resynchronise(
        self,
        case: Case,
        registrant: Registrant,
        identification: int,
        freshness: Freshness,
        link: Link | None,
    ) -> None:
        """Code 133, with what the mobile node needs for the next try (RFC 5944 section 5.7)."""
        denial, now = denials.not_fresh(freshness), case.now
        self._counters[events.code_name(denial.code)] += 1
        after = max(registrant.mismatch_after, now - MISMATCH_BURST / MISMATCHES_PER_S)
        if after > now:
            self._counters["unanswered"] += 1
            return
        registrant.mismatch_after = after + 1 / MISMATCHES_PER_S
        self._reply(case, denial.code, identification, link)
        logged = self._lines.allows((case.key, denial.code), now)
        self._tell_denial(case, denial, logged=logged)

    def refuse_stranger(self, case: Case, denial: Denial, link: Link | None) -> None:
        """Codes 131 and 132: nothing is known of the sender but its source address.

        A reply with 131 is not signed, whoever the request says it is from: a stranger learns
        neither who is configured here nor anything made with a key. It is no longer than the
        shortest request, and there are only so many.
        """
        self._counters[events.code_name(denial.code)] += 1
        now = case.now
        if not self._stranger_allowed(now):
            self._counters["unanswered"] += 1
            return
        low_half = case.request.identification & 0xFFFF_FFFF
        self._reply(case, denial.code, low_half, link)
        self._tell_denial(case, denial, logged=self._lines.allows(denial.code, now))

    def _stranger_allowed(self, now: float) -> bool:
        after = max(self._stranger_after, now - STRANGER_BURST / STRANGER_REPLIES_PER_S)
        if after > now:
            return False
        self._stranger_after = after + 1 / STRANGER_REPLIES_PER_S
        return True

    def _tell_denial(self, case: Case, denial: Denial, *, logged: bool) -> None:
        request, node = case.request, case.node
        nai = case.nai.nai if case.nai is not None else ""
        home, care_of = str(request.home_address), str(request.care_of_address)
        name = node.name if node is not None else ""
        who = f"{name or nai or 'a mobile node'} ({home}) at {case.source}"
        facts: dict[str, object] = {
            "home_address": home,
            "node": name,
            "nai": nai,
            "care_of_address": care_of,
            "source": str(case.source),
        }
        self._outputs.append(events.denied(self.policy, who, facts, denial, logged=logged))
