"""Everything that an engine knows of an SA, for the one that takes its place."""

from dataclasses import dataclass, field

from gateway.domain.child_sa import ChildSa


@dataclass(frozen=True, slots=True)
class Carried:
    """What a half has carried, and of which limits was told."""

    octets: int = 0
    packets: int = 0
    soft: bool = False
    hard: bool = False


@dataclass(frozen=True, slots=True)
class InboundState:
    """The receiving half."""

    highest: int = 0
    bitmap: int = field(default=0, repr=False)
    """Bit n: number ``highest - n`` was received."""
    carried: Carried = Carried()
    last_age_s: float | None = None
    """Of the last packet."""


@dataclass(frozen=True, slots=True)
class OutboundState:
    """The sending half."""

    sequence: int = 0
    """Number of the last packet."""
    iv_mask: int = field(default=0, repr=False)
    """Kept, so that IVs go on without one of them coming again."""
    output_mark: int = 0
    carried: Carried = Carried()


@dataclass(frozen=True, slots=True)
class SaState:
    """A child SA and those of its halves that an engine had."""

    sa: ChildSa
    """With the addresses it has now, and the keys of its halves here; others are empty."""
    sends: bool = False
    inbound: InboundState | None = None
    outbound: OutboundState | None = None
    sent: Carried = Carried()
    """What an outbound half carried that is no more."""
    before_move: tuple[int, float | None] | None = None
