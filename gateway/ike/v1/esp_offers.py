"""Quick mode proposals: our ESP offer, the responder's choice, the initiator's check of it.

RFC 2409 section 5.5; draft 001, appendices B.3 and C.2.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import lru_cache

from gateway.domain.child_sa import EspSuite, Integrity, TrafficSelector
from gateway.ike.crypto.offers import (
    ESP_ENCRYPTION,
    ESP_INTEGRITY,
    PFS_GROUPS,
    ProposalSpec,
    SuiteOffer,
)
from gateway.ike.draft_features import Features, granted
from gateway.ike.policy import ConnectionPolicy, Feature
from gateway.ike.refusal import Refused
from gateway.ike.registry import DhGroup, EncrId, EsnId, IntegId, NotifyType, TransformType
from gateway.ike.v1.codec import Proposal, ProtocolId, SecurityAssociation, Transform
from gateway.ike.v1.esp_transforms import (
    AEAD,
    AUTH_NUMBER,
    ENCR_NUMBER,
    GROUPS,
    Meant,
    attributes,
    describe,
    encr_id,
    integ_id,
    mode_name,
    modes,
    read,
    transform_id,
)
from gateway.ike.v1.sa import IkeSa

MAX_SUITES = 60
"""Of ours; each is offered up to twice, and a proposal holds up to 255 transforms."""
FIRST_SPI = 256
"""Smaller ones are reserved (RFC 4303 section 2.1)."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """A transform that both sides accept."""

    meant: Meant
    life_s: int | None
    """The shortest life in seconds that the transform says; None when it says none."""
    spi_out: int
    proposal: Proposal
    transform: Transform

    def answer(self, spi_in: int) -> SecurityAssociation:
        """The responder's SA payload: the transform exactly as it was offered."""
        spi = spi_in.to_bytes(4, "big")
        return SecurityAssociation(
            (Proposal(self.proposal.number, ProtocolId.ESP, spi, (self.transform,)),)
        )


# -- our offer ------------------------------------------------------------------------------


@lru_cache(maxsize=256)
def suites(offer: SuiteOffer) -> tuple[EspSuite, ...]:
    """The suites of an offer that IKEv1 has, best first; plain sequence numbers if allowed."""
    found: dict[EspSuite, None] = {}
    for spec in offer.proposals:
        esn = (int(EsnId.NO_ESN), None) not in spec.allowed(TransformType.ESN)
        for encr, bits in spec.allowed(TransformType.ENCR):
            if encr not in ENCR_NUMBER or bits is None:
                continue
            cipher = ESP_ENCRYPTION[EncrId(encr)]
            if encr in AEAD:
                found[EspSuite(cipher, bits, Integrity.NONE, esn)] = None
                continue
            for integ, _ in spec.allowed(TransformType.INTEG):
                if integ in AUTH_NUMBER:
                    found[EspSuite(cipher, bits, ESP_INTEGRITY[IntegId(integ)], esn)] = None
    return tuple(found)[:MAX_SUITES]


def pfs_group(offer: SuiteOffer, *, preferred: bool = True) -> DhGroup | None:
    """The one group of our offer; None for no PFS.

    Without ``preferred``, none where the offer leaves that to the peer: a second try.

    Raises:
        Refused: the offer requires PFS with groups that IKEv1 does not have.
    """
    named = [choice for spec in offer.proposals for choice, _ in spec.allowed(TransformType.KE)]
    optional = not named or int(DhGroup.NONE) in named
    usable = [choice for choice in named if choice in GROUPS]
    if optional and (not preferred or not usable or named[0] == int(DhGroup.NONE)):
        return None
    if not usable:
        raise Refused(
            NotifyType.NO_PROPOSAL_CHOSEN,
            f"IKEv1 has none of the groups of [{offer}]",
            "name one like ecp256 or modp2048 in esp_proposals",
        )
    return DhGroup(usable[0])


def to_payload(
    sa: IkeSa,
    connection: ConnectionPolicy,
    spi_in: int,
    group: DhGroup | None,
    asked: Features,
) -> tuple[SecurityAssociation, frozenset[Meant]]:
    """Our SA payload, and what it offers. What is asked for is offered with and then without.

    Raises:
        Refused: IKEv1 has none of our suites.
    """
    offer = connection.esp_offer
    mine = suites(offer)
    if not mine:
        raise Refused(
            NotifyType.NO_PROPOSAL_CHOSEN,
            f"IKEv1 has no suite of [{offer}]",
            "name one like aes256-sha256 or aes256gcm16 in esp_proposals",
        )
    life = connection.lifetimes
    life_s = int(life.child_rekey_s + life.child_over_s)
    meant = [
        Meant(suite, group, modes(sa, connection.mode)[0], features)
        for suite in mine
        for features in _variants(connection, asked)
    ]
    transforms = tuple(
        Transform(number, transform_id(one.suite), attributes(one, life_s))
        for number, one in enumerate(meant, 1)
    )
    proposal = Proposal(1, ProtocolId.ESP, spi_in.to_bytes(4, "big"), transforms)
    return SecurityAssociation((proposal,)), frozenset(meant)


def _variants(connection: ConnectionPolicy, asked: Features) -> tuple[Features, ...]:
    """What is wanted, then what is required at least (draft 001, appendix B.3)."""
    least = Features(
        asked.endpoint_update and connection.endpoint_update is Feature.REQUIRED,
        asked.vpn_fa and connection.vpn_fa is Feature.REQUIRED,
    )
    return (asked,) if asked == least else (asked, least)


# -- the responder's choice -----------------------------------------------------------------


def select(
    sa: IkeSa,
    connection: ConnectionPolicy,
    payload: SecurityAssociation,
    local_ts: Collection[TrafficSelector],
    remote_ts: Collection[TrafficSelector],
) -> Chosen:
    """The best of our suites that a transform of theirs has, with the features policy allows.

    Among transforms of one suite the peer's order decides.

    Raises:
        Refused: NO_PROPOSAL_CHOSEN, with theirs and ours.
    """
    best: tuple[tuple[int, ...], Chosen] | None = None
    why = "no transform fits"
    for proposal in _alternatives(payload):
        spi_out = int.from_bytes(proposal.spi, "big")
        if spi_out < FIRST_SPI:
            why = f"the SPI {proposal.spi.hex()} is reserved"
            continue
        for transform in proposal.transforms:
            try:
                found = _fits(sa, connection, transform, local_ts, remote_ts)
            except Refused as refused:
                why = refused.reason
                continue
            if isinstance(found, str):
                why = found
                continue
            rank, meant, life_s = found
            if best is None or rank < best[0]:
                best = rank, Chosen(meant, life_s, spi_out, proposal, transform)
    if best is None:
        raise Refused(
            NotifyType.NO_PROPOSAL_CHOSEN,
            why,
            f"offer one of ours, or add one of theirs to esp_proposals of {connection.name}",
            theirs=describe(payload),
            ours=f"{connection.esp_offer}, {mode_name(modes(sa, connection.mode)[0])}",
        )
    return best[1]


def _alternatives(payload: SecurityAssociation) -> Iterator[Proposal]:
    """ESP proposals that stand alone: those of one number belong together (AH, IPComp)."""
    numbers = [one.number for one in payload.proposals]
    for one in payload.proposals:
        if one.protocol == ProtocolId.ESP and len(one.spi) == 4 and numbers.count(one.number) == 1:
            yield one


def _fits(
    sa: IkeSa,
    connection: ConnectionPolicy,
    transform: Transform,
    local_ts: Collection[TrafficSelector],
    remote_ts: Collection[TrafficSelector],
) -> tuple[tuple[int, ...], Meant, int | None] | str:
    """(rank, meaning, life) of a transform that policy allows, or why it does not."""
    understood = read(sa, transform)
    if isinstance(understood, str):
        return understood
    meant, life_s = understood
    wanted = modes(sa, connection.mode)
    if meant.mode not in wanted:
        return (
            f"encapsulation mode {mode_name(meant.mode)} fits neither connection nor path:"
            f" {mode_name(wanted[0])} is needed"
        )
    rank = _rank(connection.esp_offer, meant)
    if rank is None:
        return "no transform fits"
    if granted(sa, connection, meant.features, local_ts, remote_ts) != meant.features:
        return "it asks for features that policy does not allow"
    return rank, meant, life_s


def _rank(offer: SuiteOffer, meant: Meant) -> tuple[int, ...] | None:
    """How far down in our offer a suite is; None if it is not in it."""
    suite = meant.suite
    encr, integ = (int(encr_id(suite)), suite.key_bits), (int(integ_id(suite)), None)
    esn = (int(EsnId.ESN if suite.esn else EsnId.NO_ESN), None)
    for index, spec in enumerate(offer.proposals):
        ciphers, macs = spec.allowed(TransformType.ENCR), spec.allowed(TransformType.INTEG)
        if encr not in ciphers or esn not in spec.allowed(TransformType.ESN):
            continue
        if not spec.aead and integ not in macs:
            continue
        if _takes_group(spec, meant.group):
            return index, ciphers.index(encr), 0 if spec.aead else macs.index(integ)
    return None


def _takes_group(spec: ProposalSpec, group: DhGroup | None) -> bool:
    """As in IKEv2: naming groups requires PFS, ``nopfs`` leaves it open, no group takes any."""
    ours = spec.allowed(TransformType.KE)
    if group is None:
        return not ours or (int(DhGroup.NONE), None) in ours
    return (int(group), None) in (ours or PFS_GROUPS)


# -- the initiator's check ------------------------------------------------------------------


def check_selected(sa: IkeSa, offered: frozenset[Meant], payload: SecurityAssociation) -> Chosen:
    """What the responder chose of our offer.

    Raises:
        Refused: it is not one transform that we offered.
    """
    if len(payload.proposals) != 1 or len(payload.proposals[0].transforms) != 1:
        raise _wrong("the answer is not one proposal with one transform")
    proposal = payload.proposals[0]
    transform = proposal.transforms[0]
    spi_out = int.from_bytes(proposal.spi, "big")
    if proposal.protocol != ProtocolId.ESP or spi_out < FIRST_SPI:
        raise _wrong(f"the answer has protocol {proposal.protocol}, SPI {proposal.spi.hex()}")
    understood = read(sa, transform)
    if isinstance(understood, str):
        raise _wrong(f"the answer has {understood}")
    meant, life_s = understood
    if meant not in offered:
        raise _wrong(f"the answer {describe(payload)} was never offered")
    return Chosen(meant, life_s, spi_out, proposal, transform)


def _wrong(reason: str) -> Refused:
    return Refused(NotifyType.NO_PROPOSAL_CHOSEN, reason, "report it to the peer's maker")
