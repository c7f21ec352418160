"""The suites that negotiation ends with."""

from dataclasses import dataclass

from gateway.domain.child_sa import EspSuite
from gateway.ike.codec import Transform
from gateway.ike.crypto.transforms import transform_name
from gateway.ike.registry import DhGroup, EncrId, IntegId, PrfId, TransformType


class NoProposalChosen(ValueError):  # noqa: N818 - named after the notify
    """Nothing fits. The text puts theirs and ours side by side and names what differs first."""

    def __init__(self, why: str, theirs: str = "", ours: str = "") -> None:
        super().__init__(f"{why}; theirs: [{theirs}]; ours: [{ours}]" if theirs else why)
        self.theirs = theirs
        self.ours = ours


@dataclass(frozen=True, slots=True)
class IkeSuite:
    """The negotiated algorithms of an IKE SA."""

    encr: EncrId
    key_bits: int | None
    """The Key Length attribute: None for ciphers whose key has only one size."""
    integ: IntegId
    """NONE with an AEAD."""
    prf: PrfId
    group: DhGroup
    additional: tuple[DhGroup, ...] = ()
    """Methods of the additional key exchanges in their order (RFC 9370)."""

    def __str__(self) -> str:
        parts = [transform_name(TransformType.ENCR, self.encr, self.key_bits)]
        if self.integ != IntegId.NONE:
            parts.append(transform_name(TransformType.INTEG, self.integ, None))
        parts.append(transform_name(TransformType.PRF, self.prf, None))
        parts.append(transform_name(TransformType.KE, self.group, None))
        parts += [
            f"ke{number}_{transform_name(TransformType.KE, group, None)}"
            for number, group in enumerate(self.additional, 1)
        ]
        return "-".join(parts)


@dataclass(frozen=True, slots=True)
class Selection:
    """An IKE proposal of the peer that we accept (or its acceptance of ours)."""

    suite: IkeSuite
    proposal_number: int
    """The number to answer with."""
    transforms: tuple[Transform, ...]
    """One of each type of the peer's proposal, for the answer."""
    peer_spi: bytes
    """Of the chosen proposal; empty in IKE_SA_INIT, 8 octets when an IKE SA is rekeyed."""

    @property
    def group(self) -> DhGroup:
        """The key exchange method."""
        return self.suite.group


@dataclass(frozen=True, slots=True)
class EspSelection:
    """An ESP proposal of the peer that we accept (or its acceptance of ours)."""

    suite: EspSuite
    proposal_number: int
    transforms: tuple[Transform, ...]
    peer_spi: bytes
    """4 octets, at least 256."""
    group: DhGroup | None
    """The key exchange method of this child SA; None without PFS."""
