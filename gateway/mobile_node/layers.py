"""The stack that stands, from what each layer has reached."""

from dataclasses import replace
from ipaddress import IPv4Address

from gateway.dataplane.node import Attachment, LayerStack, NodeTunnel, VpnLayer
from gateway.domain.access_mode import AccessMode
from gateway.mobile_node import overhead
from gateway.mobile_node.detection import Place
from gateway.mobile_node.inputs import VpnSession
from gateway.mobile_node.modes import inside_mode
from gateway.mobile_node.policy import NodePolicy

_TUNNELLED = frozenset({AccessMode.C, AccessMode.F})


def held(policy: NodePolicy, attachment: Attachment | None = None) -> LayerStack:
    """Nothing of the user's leaves, but the i-HoA stays where it is."""
    return LayerStack(
        attachment=attachment,
        home_address=_home_address(policy),
        networks=policy.networks,
        direct_networks=policy.direct_networks,
    )


def inside(policy: NodePolicy, place: Place, *, home: bool) -> LayerStack:
    """Proven: the i-MIP layer alone, or none on the home link."""
    mode = inside_mode(place.foothold, home=home)
    client = place.internal
    return replace(
        held(policy, place.foothold.attachment(policy.internal, home=home)),
        mode=mode,
        internal=client.tunnel if client is not None and mode in _TUNNELLED else None,
    )


def outside(
    policy: NodePolicy,
    attachment: Attachment | None,
    external: NodeTunnel | None,
    layer: VpnLayer | None,
    *,
    internal: NodeTunnel | None = None,
    mode: AccessMode = AccessMode.HELD,
) -> LayerStack:
    """As many layers as there are; the user's packets wait until all of them are."""
    return replace(
        held(policy, attachment), mode=mode, external=external, vpn=layer, internal=internal
    )


def vpn(
    policy: NodePolicy, outer: IPv4Address, session: VpnSession | None = None
) -> VpnLayer | None:
    """The IPsec layer, without an inner address while IKE is at it."""
    if policy.vpn is None:
        return None
    return VpnLayer(outer, policy.vpn.gateway, session.inner if session is not None else None)


def overhead_octets(stack: LayerStack, session: VpnSession | None) -> int:
    """What all layers together add to a packet of the user's on the node's own link."""
    vpn = overhead.of_vpn(session) if stack.vpn is not None else 0
    return overhead.of_tunnel(stack.external) + vpn + overhead.of_tunnel(stack.internal)


def _home_address(policy: NodePolicy) -> IPv4Address | None:
    return policy.internal.home_address if policy.internal is not None else None
