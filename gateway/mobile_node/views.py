"""What `gateway mn status` shows, from the state of the node."""

from gateway.dataplane.node import LayerStack, NodeTunnel
from gateway.mobile_node import layers, overhead
from gateway.mobile_node.core import Core
from gateway.mobile_node.detection import Place
from gateway.mobile_node.inputs import VpnSession
from gateway.mobile_node.registration import RegistrationClient
from gateway.mobile_node.status import InterfaceStatus, LayerStatus, NodeStatus
from gateway.mobile_node.vpn_layer import VpnState

UNSPECIFIED = LayerStack()


def status(core: Core, now: float) -> NodeStatus:
    """The node at ``now``."""
    stack = core.stack or UNSPECIFIED
    address = stack.home_address or (stack.vpn.inner if stack.vpn is not None else None)
    messages = dict(core.messages)
    return NodeStatus(
        name=core.policy.name,
        mode=stack.mode.value,
        place=_place(core),
        why=core.why,
        since_s=core.since,
        home_address=str(address) if address is not None else "",
        overhead_octets=layers.overhead_octets(stack, core.vpn.session),
        locked=core.locked,
        layers=tuple(_layers(core, stack, now)),
        interfaces=tuple(interface(core, core.places[name], now) for name in sorted(core.places)),
        messages=messages,
        last_events=tuple(core.recent),
    )


def _place(core: Core) -> str:
    mode = core.stack.mode if core.stack is not None else UNSPECIFIED.mode
    if mode.value == "home":
        return "home"
    if mode.inside:
        return "inside"
    if core.place is None:
        return "nowhere"
    if mode.through_vpn or core.place.external.answered:
        return "outside"
    return "unknown"


def interface(core: Core, place: Place, now: float) -> InterfaceStatus:
    """One link."""
    address, router = place.link.address, place.link.router
    agent = place.foothold.agent
    proof = ""
    if place.proof is not None:
        what = "the home link" if place.proof.home else "the inside"
        proof = f"the i-HA confirmed {what} {max(0.0, now - place.proof.sent_at):.0f} s ago"
    return InterfaceStatus(
        place.interface,
        verdict(core, place),
        str(address) if address is not None else "",
        str(router or (agent.address if agent is not None else "")),
        proof,
        in_use=place is core.place,
    )


def verdict(core: Core, place: Place) -> str:
    """Where an interface is, in a word or two."""
    if not place.link.carrier:
        return "no carrier"
    if not place.usable:
        return "no address"
    if place.proof is not None:
        return "home" if place.proof.home else "inside"
    if place is core.place and core.idle.asleep:
        return "idle"
    if place.captive:
        return "captive portal"
    if core.place is not None and core.place.proof is not None:
        return "standby"
    up = core.vpn.state is VpnState.UP and place is core.place
    return "outside" if place.external.answered or up else "unknown"


def _layers(core: Core, stack: LayerStack, now: float) -> list[LayerStatus]:
    found = [_link(stack)] if stack.attachment is not None else []
    place = core.place
    if stack.external is not None or (place is not None and _busy(place.external.client)):
        client = place.external.client if place is not None else None
        found.append(_mobile("x-MIP", stack.external, client, now))
    if core.vpn.state is not VpnState.DOWN:
        found.append(_vpn(core))
    if stack.internal is not None or _busy(core.inner):
        inside = stack.mode.inside and place is not None
        client = place.internal if inside and place is not None else core.inner
        found.append(_mobile("i-MIP", stack.internal, client, now))
    return found


def _busy(client: RegistrationClient | None) -> bool:
    return client is not None and client.trying


def _link(stack: LayerStack) -> LayerStatus:
    attachment = stack.attachment
    if attachment is None:
        return LayerStatus("link", "none")
    router = str(attachment.router) if attachment.router is not None else ""
    return LayerStatus(
        "link", f"on {attachment.interface}", str(attachment.address), router, detail=""
    )


def _mobile(
    name: str, tunnel: NodeTunnel | None, client: RegistrationClient | None, now: float
) -> LayerStatus:
    if tunnel is None:
        sent = client.sent if client is not None else 0
        return LayerStatus(name, f"waiting for an answer, {sent} sent")
    detail = [] if tunnel.co_located else ["by a foreign agent"]
    if tunnel.udp_port:
        detail.append("in UDP")
    if tunnel.zero_overhead is not None:
        detail.append(f"zero overhead to {tunnel.zero_overhead}")
    since = client.registered_since if client is not None else None
    expires = client.expires_at if client is not None else None
    return LayerStatus(
        name,
        f"registered with {tunnel.home_agent}",
        str(tunnel.care_of_address),
        str(tunnel.home_agent),
        str(tunnel.home_address),
        overhead.of_tunnel(tunnel),
        ", ".join(detail),
        since if since is not None else now,
        max(0.0, expires - now) if expires is not None else None,
    )


def _vpn(core: Core) -> LayerStatus:
    vpn = core.vpn
    gateway = str(core.policy.vpn.gateway) if core.policy.vpn is not None else ""
    session = vpn.session
    return LayerStatus(
        "VPN",
        "up" if session is not None else "connecting",
        str(vpn.outer or ""),
        gateway,
        str(session.inner) if session is not None else "",
        overhead.of_vpn(session),
        _vpn_detail(session),
        vpn.since,
    )


def _vpn_detail(session: VpnSession | None) -> str:
    if session is None:
        return ""
    told = (
        (session.suite, bool(session.suite)),
        ("foreign agent in the gateway", session.vpn_fa),
        ("endpoint update", session.endpoint_update),
        ("MOBIKE", session.mobike),
        ("over TCP", session.tcp),
        ("in UDP", session.encapsulated and not session.tcp),
    )
    return ", ".join(text for text, true in told if true)
