"""What `gateway mn status` shows, as plain values."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class LayerStatus:
    """One layer, lowest first."""

    name: str
    """"link", "x-MIP", "VPN" or "i-MIP"."""
    state: str
    """In words: "registered with 192.0.2.78", "waiting for an answer, 3 sent", ..."""
    local: str = ""
    remote: str = ""
    address: str = ""
    """What the layer gives: care-of address, x-HoA, VPN-TIA, i-HoA."""
    overhead_octets: int = 0
    detail: str = ""
    """NAT, UDP, zero overhead, suite ..."""
    since_s: float = 0.0
    """A moment of the engine's clock."""
    expires_in_s: float | None = None


@dataclass(frozen=True, slots=True)
class InterfaceStatus:
    """What is known of one link."""

    interface: str
    verdict: str
    """"inside", "outside", "unknown", "no carrier", "no address", "captive portal" ..."""
    address: str = ""
    router: str = ""
    proof: str = ""
    """What proved the inside, and how old that is; empty otherwise."""
    in_use: bool = False


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """The node now."""

    name: str
    mode: str
    place: str
    """"home", "inside", "outside", "unknown", "nowhere"."""
    why: str
    """One sentence: the reason for this mode, and what stands in the way of a better one."""
    since_s: float
    """When this mode began: a moment of the engine's clock."""
    home_address: str
    overhead_octets: int
    locked: bool
    layers: tuple[LayerStatus, ...]
    interfaces: tuple[InterfaceStatus, ...]
    messages: dict[str, int] = field(default_factory=dict)
    """Signalling sent, by layer."""
    last_events: tuple[str, ...] = ()
