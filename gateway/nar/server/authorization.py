"""Who may do what: which rule counts, what it allows, and why something is refused.

Nothing here changes state. A refusal is raised as :class:`Refused`; its words are for the
administrator, its code for the client.
"""

from collections.abc import Iterable

from gateway.domain.endpoint import IpAddress
from gateway.domain.nar import Delivery, NarProtocol
from gateway.nar.codec.numbers import NarFlag, Reply
from gateway.nar.policy import NarRule, NarServerPolicy
from gateway.nar.server.targets import Forbidden, within


class Refused(Exception):  # noqa: N818 - it is an answer, nothing went wrong
    """A command gets an error reply. The text goes on a sentence: "client 10.50.0.7 (ann) ..."."""

    def __init__(self, reply: Reply, text: str) -> None:
        super().__init__(text)
        self.reply = reply


_FLAGS = {
    Delivery.IP_IP: NarFlag(0),
    Delivery.GRE: NarFlag.GRE,
    Delivery.L2TP: NarFlag.L2TP,
    Delivery.TRANSLATED: NarFlag.TRANSLATED,
}
_SECOND_CHOICES = (Delivery.IP_IP, Delivery.GRE, Delivery.L2TP, Delivery.TRANSLATED)


def find_rule(
    policy: NarServerPolicy, user: str, groups: Iterable[str], client: IpAddress
) -> NarRule | None:
    """The first rule that a client fits. ``user`` is empty when nobody logged in.

    A rule without users is for everybody, unless it names groups: then it is for them. Nobody is
    let in without a login from where that is not trusted, whatever the rules say.
    """
    if not user and not within(client, policy.trusted):
        return None
    for rule in policy.rules:
        if rule.clients and not within(client, rule.clients):
            continue
        everybody = rule.users is None and not rule.groups
        listed = bool(user) and rule.users is not None and user in rule.users
        if everybody or listed or (user and not rule.groups.isdisjoint(groups)):
            return rule
    return None


def rule_of(rule: NarRule | None) -> NarRule:
    """The rule that counts. Raises Refused when there is none."""
    if rule is None:
        raise Refused(Reply.NOT_ALLOWED, "asked for something, but fits no rule")
    return rule


def permit_protocol(rule: NarRule, protocol: NarProtocol) -> None:
    """Raise Refused when the rule leaves this protocol out."""
    if protocol not in rule.protocols:
        allowed = ", ".join(one.name for one in sorted(rule.protocols)) or "nothing"
        raise Refused(
            Reply.NOT_ALLOWED, f"asked for {protocol.name}: rule {rule.name} allows {allowed}"
        )


def permit_target(
    rule: NarRule, forbidden: Forbidden, target: IpAddress, also_own: Iterable[IpAddress] = ()
) -> None:
    """Raise Refused for a target that nobody, or not this client, may have."""
    why = forbidden.why(target, also_own)
    if why is not None:
        raise Refused(Reply.NOT_ALLOWED, f"asked for target {target}, which {why}")
    if rule.remotes and not within(target, rule.remotes):
        allowed = ", ".join(map(str, rule.remotes))
        raise Refused(
            Reply.NOT_ALLOWED, f"asked for target {target}: rule {rule.name} allows {allowed}"
        )


def permit_anybody(rule: NarRule, what: str) -> None:
    """Raise Refused when mappings have to name their remote."""
    if not rule.any_remote:
        raise Refused(
            Reply.NOT_ALLOWED,
            f"asked for {what} open to everybody: rule {rule.name} has no any_remote",
        )
    if rule.remotes:
        allowed = ", ".join(map(str, rule.remotes))
        raise Refused(
            Reply.NOT_ALLOWED,
            f"asked for {what} open to everybody: rule {rule.name} allows {allowed}",
        )


def port_wish(policy: NarServerPolicy, rule: NarRule, port: int, never: frozenset[int]) -> str:
    """Why this port may not be wished for; empty when it may."""
    if port in never:
        return "it is the gateway's own"
    if any(port in one for one in policy.ports) or any(port in one for one in rule.ports):
        return ""
    allowed = " and ".join(map(_range, (*policy.ports, *rule.ports))) or "none"
    return f"rule {rule.name} allows {allowed}"


def _range(ports: range) -> str:
    return str(ports.start) if len(ports) == 1 else f"{ports.start}-{ports.stop - 1}"


def delivery_for(
    policy: NarServerPolicy, rule: NarRule, flags: int, *, knows_leases: bool
) -> Delivery:
    """The delivery that is granted or imposed (draft 004, sections 2.5 and 3.1). Raises Refused.

    L2TP needs our extension: without it a client cannot learn the session's identifiers.
    """
    possible = frozenset(Delivery) if knows_leases else frozenset(Delivery) - {Delivery.L2TP}
    if policy.impose is not None:
        if policy.impose not in possible:
            raise Refused(
                Reply.NOT_ALLOWED,
                f"does not know leases, but {policy.impose.value} is imposed and needs them",
            )
        return policy.impose
    wish = _wish(policy, flags)
    if wish in possible and wish in rule.deliveries:
        return wish
    for other in _SECOND_CHOICES:
        if other in possible and other in rule.deliveries:
            return other
    allowed = ", ".join(sorted(one.value for one in rule.deliveries)) or "none"
    raise Refused(
        Reply.NOT_ALLOWED,
        f"asked for delivery {wish.value}: rule {rule.name} allows {allowed}",
    )


def _wish(policy: NarServerPolicy, flags: int) -> Delivery:
    if flags & NarFlag.TRANSLATED:
        return Delivery.TRANSLATED
    if flags & NarFlag.GRE:
        return Delivery.GRE
    if flags & NarFlag.L2TP:
        return Delivery.L2TP
    return policy.default_delivery


def flags_of(delivery: Delivery, *, knows_leases: bool) -> int:
    """The flags of NAR-MODE's reply."""
    return int(_FLAGS[delivery] | (NarFlag.LEASES if knows_leases else 0))
