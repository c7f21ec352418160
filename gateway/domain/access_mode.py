"""The access modes of draft 001, section 3, and the one of RFC 5266."""

import enum


class AccessMode(enum.Enum):
    """How a mobile node's packets reach its home agent inside: a composition of up to three layers.

    The letters are the draft's: x-MIP by co-located care-of address (c) or foreign agent (f), VPN
    (v), i-MIP by co-located care-of address (c) or foreign agent (f).
    """

    HELD = "held"
    """Nothing of the user's leaves: where the node is has not been proven yet."""
    HOME = "home"
    """On the home link itself: no tunnel, no binding."""
    C = "c"
    F = "f"
    VC = "vc"
    VF = "vf"
    CVC = "cvc"
    CVF = "cvf"
    FVC = "fvc"
    FVF = "fvf"
    MC = "mc"
    """MOBIKE in the place of x-MIP, VPN-TIA as i-MIP co-CoA (RFC 5266)."""
    V = "v"
    """VPN alone: the profile knows no home agent inside."""

    @property
    def inside(self) -> bool:
        """Whether plaintext leaves the node: only where a registration has proven the inside."""
        return self in {AccessMode.HOME, AccessMode.C, AccessMode.F}

    @property
    def through_vpn(self) -> bool:
        """Whether IPsec protects the user's packets."""
        return self not in {AccessMode.HELD, AccessMode.HOME, AccessMode.C, AccessMode.F}

    @property
    def external(self) -> str:
        """The x-MIP layer: "c", "f" or nothing."""
        return self.value[0] if len(self.value) == 3 else ""

    @property
    def by_vpn_foreign_agent(self) -> bool:
        """Whether the i-MIP care-of address is the VPN-CoA (draft 001, appendix B)."""
        return self in {AccessMode.VF, AccessMode.CVF, AccessMode.FVF}
