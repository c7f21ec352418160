"""Choosing the one suite that both sides accept (RFC 7296 sections 2.7 and 3.3)."""

from collections.abc import Iterator
from typing import overload

from gateway.domain.child_sa import EspSuite
from gateway.ike.codec import Proposal, SecurityAssociation, Transform
from gateway.ike.crypto.offers import (
    ESP_ENCRYPTION,
    ESP_INTEGRITY,
    PFS_GROUPS,
    Choice,
    ProposalSpec,
    SuiteOffer,
)
from gateway.ike.crypto.suites import EspSelection, IkeSuite, NoProposalChosen, Selection
from gateway.ike.crypto.transforms import CIPHERS, transform_name
from gateway.ike.registry import (
    ADDITIONAL_KE,
    DhGroup,
    EncrId,
    EsnId,
    IntegId,
    PrfId,
    ProtocolId,
    TransformType,
)

__all__ = [
    "EspSelection",
    "IkeSuite",
    "NoProposalChosen",
    "ProposalSpec",
    "Selection",
    "SuiteOffer",
    "check_selected",
    "select_esp",
    "select_ike",
]

MAX_SHOWN_PROPOSALS = 4
MAX_SHOWN_TRANSFORMS = 24
"""Of the peer's, in a reason; ours are bounded by the configuration."""
FIRST_ESP_SPI = 256
"""Smaller ones are reserved (RFC 4303 section 2.1)."""

_ENCR = int(TransformType.ENCR)
_PRF = int(TransformType.PRF)
_INTEG = int(TransformType.INTEG)
_KE = int(TransformType.KE)
_ESN = int(TransformType.ESN)
_ADDITIONAL = tuple(map(int, ADDITIONAL_KE))
_NO_INTEGRITY: Choice = (int(IntegId.NONE), None)
_NO_GROUP: Choice = (int(DhGroup.NONE), None)
_TYPES = {
    ProtocolId.IKE: (_ENCR, _PRF, _INTEG, _KE, *_ADDITIONAL),
    ProtocolId.ESP: (_ENCR, _INTEG, _KE, _ESN),
}
_TYPE_NAMES = {
    _ENCR: "encryption",
    _PRF: "pseudorandom function",
    _INTEG: "integrity",
    _KE: "key exchange",
    _ESN: "extended sequence numbers",
    **{kind: f"additional key exchange {kind - _ESN}" for kind in _ADDITIONAL},
}

Picked = dict[int, Choice]
"""The chosen transform of each type; a type without one is not in the answer."""
Offered = dict[int, dict[Choice, Transform]]
"""Their transforms by type; those that must not be chosen are left out, their type is not."""


class _Mismatch(Exception):  # noqa: N818 - not an error, one proposal of many does not fit
    """One proposal does not fit. ``depth`` says how many checks it passed."""

    def __init__(self, depth: int, why: str) -> None:
        super().__init__(why)
        self.depth = depth


def _offered(proposal: Proposal) -> Offered:
    offered: Offered = {}
    for transform in proposal.transforms:
        of_type = offered.setdefault(transform.type, {})
        if transform.understood:
            of_type[transform.id, transform.key_bits] = transform
    return offered


def _check_shape(proposal: Proposal, offered: Offered, protocol: int, spi_octets: int) -> None:
    """What makes a proposal unusable whatever we want (section 3.3.6)."""
    if proposal.protocol != protocol:
        raise _Mismatch(0, f"is for protocol {proposal.protocol}, not {protocol}")
    if len(proposal.spi) != spi_octets:
        raise _Mismatch(1, f"has an SPI of {len(proposal.spi)} octets, not {spi_octets}")
    if protocol == ProtocolId.ESP and int.from_bytes(proposal.spi, "big") < FIRST_ESP_SPI:
        raise _Mismatch(1, f"has the reserved SPI {proposal.spi.hex()}")
    if protocol == ProtocolId.IKE and spi_octets and not any(proposal.spi):
        raise _Mismatch(1, "has the SPI 0")
    if not offered:
        raise _Mismatch(1, "has no transform")
    for type_ in offered:
        if type_ not in _TYPES[ProtocolId(protocol)]:
            raise _Mismatch(1, f"has a transform of type {type_}, which is not understood")


def _first(type_: int, ours: tuple[Choice, ...], theirs: dict[Choice, Transform]) -> Choice:
    for choice in ours:
        if choice in theirs:
            return choice
    name = _TYPE_NAMES[type_]
    if not theirs:
        raise _Mismatch(2 + type_, f"has no usable {name} transform")
    raise _Mismatch(
        2 + type_, f"{name} differs: theirs {_shown(type_, theirs)}, ours {_shown(type_, ours)}"
    )


def _shown(type_: int, choices: "dict[Choice, Transform] | tuple[Choice, ...]") -> str:
    names = [transform_name(type_, *choice) for choice in choices]
    shown = ", ".join(names[:MAX_SHOWN_TRANSFORMS])
    return shown + (", ..." if len(names) > MAX_SHOWN_TRANSFORMS else "")


def _match(spec: ProposalSpec, offered: Offered, *, with_group: bool) -> Picked:
    """Our best choice of each type among theirs. Raises _Mismatch."""
    picked: Picked = {_ENCR: _first(_ENCR, spec.allowed(_ENCR), offered.get(_ENCR, {}))}
    if spec.protocol is ProtocolId.IKE:
        picked[_PRF] = _first(_PRF, spec.allowed(_PRF), offered.get(_PRF, {}))
    integ = offered.get(_INTEG)
    if not spec.aead:
        picked[_INTEG] = _first(_INTEG, spec.allowed(_INTEG), integ or {})
    elif integ is not None:
        # RFC 5282 section 8: with an AEAD there is no integrity transform, or only NONE.
        if _NO_INTEGRITY not in integ:
            raise _Mismatch(2 + _INTEG, "combines an AEAD with an integrity transform")
        picked[_INTEG] = _NO_INTEGRITY
    if spec.protocol is ProtocolId.ESP:
        picked[_ESN] = _first(_ESN, spec.allowed(_ESN), offered.get(_ESN, {}))
        if with_group:
            _match_pfs(spec, offered.get(_KE), picked)
    else:
        picked[_KE] = _first(_KE, spec.allowed(_KE), offered.get(_KE, {}))
        _match_additional(spec, offered, picked)
    return picked


def _match_additional(spec: ProposalSpec, offered: Offered, picked: Picked) -> None:
    """The additional key exchanges, each another method (RFC 9370 section 2.2.1)."""
    for kind in _ADDITIONAL:
        ours, theirs = spec.allowed(kind), offered.get(kind)
        if theirs is not None:
            picked[kind] = _first(kind, ours or (_NO_GROUP,), theirs)
        elif ours and _NO_GROUP not in ours:
            name = _TYPE_NAMES[kind]
            raise _Mismatch(2 + kind, f"{name} differs: theirs none, ours {_shown(kind, ours)}")
    methods = [picked[kind] for kind in (_KE, *_ADDITIONAL) if kind in picked]
    used = [method for method in methods if method != _NO_GROUP]
    if len(set(used)) != len(used):
        raise _Mismatch(2 + _ADDITIONAL[0], "would use one key exchange method twice")


def _match_pfs(spec: ProposalSpec, theirs: dict[Choice, Transform] | None, picked: Picked) -> None:
    ours = spec.allowed(_KE)
    if theirs is None:
        if ours and _NO_GROUP not in ours:
            raise _Mismatch(2 + _KE, f"key exchange differs: theirs none, ours {_shown(_KE, ours)}")
        return
    picked[_KE] = _first(_KE, ours or (*PFS_GROUPS, _NO_GROUP), theirs)


def _candidates(
    offer: SuiteOffer, payload: SecurityAssociation, spi_octets: int
) -> Iterator[tuple[Proposal, Offered | _Mismatch]]:
    for proposal in payload.proposals:
        offered = _offered(proposal)
        try:
            _check_shape(proposal, offered, offer.protocol, spi_octets)
        except _Mismatch as wrong:
            yield proposal, wrong
        else:
            yield proposal, offered


def _select(
    offer: SuiteOffer, payload: SecurityAssociation, spi_octets: int, *, with_group: bool
) -> tuple[Proposal, Picked, tuple[Transform, ...]]:
    """The first of ours that any of theirs fits: our order of preference decides."""
    candidates = list(_candidates(offer, payload, spi_octets))
    best: tuple[int, str] = (-1, "has no proposal")
    for spec in offer.proposals:
        for proposal, offered in candidates:
            try:
                if isinstance(offered, _Mismatch):
                    raise offered
                picked = _match(spec, offered, with_group=with_group)
            except _Mismatch as wrong:
                if wrong.depth > best[0]:
                    best = (wrong.depth, f"proposal {proposal.number} {wrong}")
            else:
                transforms = tuple(offered[type_][picked[type_]] for type_ in sorted(picked))
                return proposal, picked, transforms
    raise NoProposalChosen(best[1], _shown_offer(payload), str(offer))


def _shown_offer(payload: SecurityAssociation) -> str:
    shown = []
    for proposal in payload.proposals[:MAX_SHOWN_PROPOSALS]:
        names = [transform_name(t.type, t.id, t.key_bits) for t in proposal.transforms]
        text = "-".join(names[:MAX_SHOWN_TRANSFORMS])
        shown.append(text + ("-..." if len(names) > MAX_SHOWN_TRANSFORMS else ""))
    if len(payload.proposals) > MAX_SHOWN_PROPOSALS:
        shown.append("...")
    return ", ".join(shown)


def _ike_selection(
    proposal: Proposal, picked: Picked, transforms: tuple[Transform, ...]
) -> Selection:
    encr, key_bits = picked[_ENCR]
    suite = IkeSuite(
        EncrId(encr),
        key_bits,
        IntegId(picked.get(_INTEG, _NO_INTEGRITY)[0]),
        PrfId(picked[_PRF][0]),
        DhGroup(picked[_KE][0]),
        tuple(
            DhGroup(picked[kind][0])
            for kind in _ADDITIONAL
            if picked.get(kind, _NO_GROUP) != _NO_GROUP
        ),
    )
    return Selection(suite, proposal.number, transforms, proposal.spi)


def _esp_selection(
    proposal: Proposal, picked: Picked, transforms: tuple[Transform, ...]
) -> EspSelection:
    encr, key_bits = picked[_ENCR]
    suite = EspSuite(
        ESP_ENCRYPTION[EncrId(encr)],
        key_bits or CIPHERS[encr].default_key_bits or 0,
        ESP_INTEGRITY[IntegId(picked.get(_INTEG, _NO_INTEGRITY)[0])],
        picked[_ESN][0] == EsnId.ESN,
    )
    group = picked.get(_KE, _NO_GROUP)[0]
    chosen = DhGroup(group) if group else None
    return EspSelection(suite, proposal.number, transforms, proposal.spi, chosen)


def select_ike(
    offer: SuiteOffer, payload: SecurityAssociation, *, spi_octets: int = 0
) -> Selection:
    """The responder's choice for an IKE SA; ``spi_octets`` is 8 when one is rekeyed.

    Raises :class:`NoProposalChosen`.
    """
    return _ike_selection(*_select(offer, payload, spi_octets, with_group=True))


def select_esp(
    offer: SuiteOffer, payload: SecurityAssociation, *, with_group: bool
) -> EspSelection:
    """The responder's choice for a child SA.

    ``with_group`` is False in IKE_AUTH, which has no KE payload: groups offered there are ignored
    (section 1.2 forbids all but NONE, yet some peers send them). Raises :class:`NoProposalChosen`.
    """
    return _esp_selection(*_select(offer, payload, 4, with_group=with_group))


def _answered(
    offer: SuiteOffer, payload: SecurityAssociation, spi_octets: int, *, with_group: bool
) -> tuple[Proposal, Picked, tuple[Transform, ...]]:
    """The answer's only proposal, if it is exactly one transform of each type that we offered."""
    if len(payload.proposals) != 1:
        raise NoProposalChosen(f"the answer has {len(payload.proposals)} proposals, not one")
    answer = payload.proposals[0]
    ours = f"ours: [{offer}]"
    if not 1 <= answer.number <= len(offer.proposals):
        raise NoProposalChosen(f"the answer is to proposal {answer.number}, never made; {ours}")
    offered = _offered(answer)
    if len(offered) != len(answer.transforms):
        raise NoProposalChosen("the answer picks two transforms of one type")
    spec = offer.proposals[answer.number - 1]
    try:
        _check_shape(answer, offered, offer.protocol, spi_octets)
        if not with_group and _KE in offered and _NO_GROUP not in offered[_KE]:
            raise _Mismatch(0, "has a key exchange method where none was offered")
        if with_group and _KE in offered and not spec.allowed(_KE):
            raise _Mismatch(0, "has a key exchange method where none was offered")
        picked = _match(spec, offered, with_group=with_group)
    except _Mismatch as wrong:
        raise NoProposalChosen(f"the answer {wrong}", _shown_offer(payload), str(offer)) from None
    return answer, picked, answer.transforms


@overload
def check_selected(
    offer: SuiteOffer, payload: SecurityAssociation, *, spi_octets: int = 0
) -> Selection: ...
@overload
def check_selected(
    offer: SuiteOffer, payload: SecurityAssociation, *, with_group: bool
) -> EspSelection: ...
def check_selected(
    offer: SuiteOffer,
    payload: SecurityAssociation,
    *,
    with_group: bool | None = None,
    spi_octets: int = 0,
) -> Selection | EspSelection:
    """What the responder chose of our offer, as the initiator must check it (section 2.7).

    For a child SA say ``with_group`` (False in IKE_AUTH); for an IKE SA, ``spi_octets`` is 8 when
    one is rekeyed. Raises :class:`NoProposalChosen` for whatever was not offered.
    """
    if offer.protocol is ProtocolId.ESP:
        return _esp_selection(*_answered(offer, payload, 4, with_group=with_group is not False))
    return _ike_selection(*_answered(offer, payload, spi_octets, with_group=True))
