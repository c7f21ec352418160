"""What the surroundings suggest. It decides what is asked first, never what is believed."""

import enum

from gateway.mobile_node.attaching import Foothold
from gateway.mobile_node.policy import Hints


class Hint(enum.Enum):
    """Where we seem to be (draft 001, section 4.4)."""

    NONE = "none"
    INSIDE = "inside"
    OUTSIDE = "outside"


def hint(hints: Hints, foothold: Foothold) -> Hint:
    """What domain, router and foreign agent suggest; nothing if the profile knows none of them."""
    link, agent = foothold.link, foothold.agent
    seen: tuple[tuple[str | bytes, frozenset[str] | frozenset[bytes]], ...] = (
        (link.domain.lower(), frozenset(one.lower() for one in hints.domains)),
        (agent.nai if agent is not None else "", hints.nais),
        (link.router_link_address, hints.router_link_addresses),
    )
    told = [(value, known) for value, known in seen if value and known]
    if any(value in known for value, known in told):
        return Hint.INSIDE
    return Hint.OUTSIDE if told else Hint.NONE
