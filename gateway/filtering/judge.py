"""What becomes of one flow, and which rule says so: for people who ask, and for the log."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from gateway.domain.endpoint import IpAddress
from gateway.domain.filtering import Direction
from gateway.filtering.book import Book
from gateway.filtering.rule import Action, Rule, boxes

OTHERWISE: Final = {
    Direction.TO_INSIDE: "allowed, within what the connection offers",
    Direction.FROM_INSIDE: "allowed",
}
_TO_GATEWAY: Final = {
    "services": "allowed to ping, names, mobility agents and NAR; refused to the rest",
    "all": "allowed",
    "none": "refused",
}


@dataclass(frozen=True, slots=True)
class Flow:
    """From or to a device."""

    direction: Direction
    address: IpAddress
    """The other side."""
    protocol: int
    port: int = 0
    """Of the side that is connected to."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What becomes of a flow."""

    allowed: bool
    rule: str | None
    """Which says so; None: what holds without rules."""
    why: str
    log: bool = False
    """A rule wants refusals logged."""


def _fits(rule: Rule, flow: Flow) -> bool:
    return any(box.holds(flow.address, flow.protocol, flow.port) for box in boxes(rule))


def judge(
    book: Book,
    names: Iterable[str],
    flow: Flow,
    in_force: Callable[[Rule], bool],
    is_service: Callable[[int, int], bool],
) -> Judgement:
    """What becomes of a flow of a session to which the rules of these names apply.

    ``is_service`` tells whether a protocol and port of the gateway are a service of its roles.
    """
    rules = [book.rules[name] for name in names]
    rules = [rule for rule in rules if rule.direction is flow.direction]
    now = [rule for rule in rules if in_force(rule)]
    for action in (Action.REFUSE, Action.ALLOW):
        for rule in now:
            if rule.action is action and _fits(rule, flow):
                allowed = action is Action.ALLOW
                word = "allowed" if allowed else "refused"
                return Judgement(allowed, rule.name, f"{word} by rules.{rule.name}", rule.log)
    openers = [rule for rule in rules if rule.action is Action.ALLOW]
    if openers:
        waiting = [rule for rule in openers if rule not in now and _fits(rule, flow)]
        if waiting:
            name = waiting[0].name
            why = f"refused: rules.{name} is not in force at this time"
            return Judgement(False, name, why)
        names = ", ".join(f"rules.{rule.name}" for rule in openers[:3])
        more = f" and {len(openers) - 3} more" if len(openers) > 3 else ""
        why = f"refused: only what {names}{more} allow is let through {flow.direction.value}"
        return Judgement(False, openers[0].name, why)
    return _without_rules(book, flow, is_service)


def _without_rules(book: Book, flow: Flow, is_service: Callable[[int, int], bool]) -> Judgement:
    if flow.direction is Direction.BETWEEN_DEVICES and book.isolate_devices:
        why = "refused: devices do not reach each other (filtering.isolate_devices)"
        return Judgement(False, None, why)
    if flow.direction is Direction.TO_GATEWAY:
        allowed = book.to_gateway == "all" or (
            book.to_gateway == "services" and is_service(flow.protocol, flow.port)
        )
        word = "allowed" if allowed else "refused"
        why = f'{word}: filtering.to_gateway is "{book.to_gateway}"'
        return Judgement(allowed, None, why)
    return Judgement(True, None, "allowed: no rule says otherwise")


def otherwise(book: Book, names: Iterable[str]) -> dict[str, str]:
    """What holds for flows that no rule names, in words, by direction."""
    rules = [book.rules[name] for name in names]
    closed = {rule.direction for rule in rules if rule.action is Action.ALLOW}
    between = "refused" if book.isolate_devices else "allowed"
    words = {
        **OTHERWISE,
        Direction.BETWEEN_DEVICES: between,
        Direction.TO_GATEWAY: _TO_GATEWAY[book.to_gateway],
    }
    return {one.value: "refused" if one in closed else words[one] for one in Direction}
