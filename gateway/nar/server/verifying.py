"""Whether a lease of before may be one still: after a restart, a reload, a change of address."""

from gateway.domain.nar import Delivery, NarMapping, NarProtocol, NarTuple
from gateway.nar.policy import NarRule
from gateway.nar.server.authorization import port_wish
from gateway.nar.server.core import Core
from gateway.nar.server.sessions import Owner, inside_port
from gateway.nar.server.space import FIRST_SPI, AddressSpace
from gateway.nar.server.targets import is_unicast, within


def why_not(
    core: Core,
    space: AddressSpace,
    mapping: NarMapping,
    key: NarTuple,
    *,
    owner: Owner,
    rule: NarRule,
    ask_box: bool = True,
) -> str:
    """Why ``key`` in the place of the mapping's tuple cannot be leased; empty when it can."""
    if key.address not in core.policy.addresses:
        return f"{key.address} is not lent"
    why = _shape(key) or _not_allowed(core, mapping, key, rule)
    if why:
        return why
    blocker = space.find(key) or space.blocker(key, owner)
    if blocker is not None:
        return f"it is leased to {blocker.session.owner}"
    if core.visiting(key):
        return "a mobile node of our foreign agent has it"
    askable = key.protocol is not NarProtocol.ICMP and not key.protocol.is_tunnel
    if ask_box and askable and core.occupied(key.protocol, key.address, key.value):
        return "the gateway uses it"
    return ""


def _shape(key: NarTuple) -> str:
    """Whether it can be a tuple at all."""
    protocol, value = key.protocol, key.value
    if protocol.has_ports or protocol is NarProtocol.ICMP:
        good = 0 < value <= 0xFFFF
    elif protocol.is_tunnel:
        good = value <= 0xFFFF_FFFF and key.remote is not None
    else:
        good = FIRST_SPI <= value <= 0xFFFF_FFFF
    if protocol is NarProtocol.ICMP and key.remote is None:
        good = False
    return "" if good else f"{key} is no tuple"


def _not_allowed(core: Core, mapping: NarMapping, key: NarTuple, rule: NarRule) -> str:
    protocol, policy = key.protocol, core.policy
    if protocol not in rule.protocols:
        return f"rule {rule.name} does not allow {protocol.name}"
    if mapping.delivery is not policy.impose and mapping.delivery not in rule.deliveries:
        return f"rule {rule.name} does not allow delivery {mapping.delivery.value}"
    if protocol is NarProtocol.AH and mapping.delivery is Delivery.TRANSLATED:
        return "AH cannot be translated"
    if protocol.has_ports:
        why = port_wish(policy, rule, key.value, core.never_ports)
        if why:
            return f"port {key.value} may not be leased: {why}"
    remote = mapping.peer or key.remote
    if remote is None:
        return "" if rule.any_remote and not rule.remotes else f"rule {rule.name} wants a remote"
    if not is_unicast(mapping.client):
        return f"nothing can be delivered to {mapping.client}"
    forbidden = core.forbidden.why(remote)
    if forbidden is not None:
        return f"{remote} {forbidden}"
    if rule.remotes and not within(remote, rule.remotes):
        return f"rule {rule.name} does not allow {remote}"
    return ""


def inside_taken(owner: Owner, mapping: NarMapping) -> bool:
    """Whether the client's port of a translated mapping is that of another one."""
    inside = inside_port(mapping)
    return inside is not None and inside in owner.host.inside
