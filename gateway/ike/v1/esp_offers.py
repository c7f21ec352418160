"""Quick mode proposals: our ESP offer as transforms of the IPsec DOI and back.

RFC 2407 sections 4.4.4 and 4.5; RFC 3602, 4106, 4304, 4868; RFC 3947 section 5.1; draft 001,
appendices B.3 and C.2.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import lru_cache

from gateway.domain.child_sa import Encryption, EspSuite, Integrity, TrafficSelector
from gateway.ike.crypto.offers import (
    ESP_ENCRYPTION,
    ESP_INTEGRITY,
    PFS_GROUPS,
    ProposalSpec,
    SuiteOffer,
)
from gateway.ike.crypto.transforms import transform_name
from gateway.ike.draft_features import Features, granted
from gateway.ike.policy import ConnectionPolicy, Feature
from gateway.ike.refusal import Refused
from gateway.ike.registry import DhGroup, EncrId, EsnId, IntegId, NotifyType, TransformType
from gateway.ike.v1.codec import (
    Attribute,
    Proposal,
    ProtocolId,
    SecurityAssociation,
    Transform,
    long_number,
)
from gateway.ike.v1.codec.registry import (
    AuthAlgorithm,
    EncapsulationMode,
    EspTransform,
    IpsecAttribute,
    LifeType,
)
from gateway.ike.v1.sa import IkeSa, NatTraversal

MAX_SUITES = 60
"""Of ours; each is offered up to twice, and a proposal holds up to 255 transforms."""
MAX_SHOWN = 8
"""Transforms of the peer in a reason."""
MIN_LIFE_S = 10
"""A child SA that is to live for less is refused."""
FIRST_SPI = 256
"""Smaller ones are reserved (RFC 4303 section 2.1)."""
GROUPS = frozenset(
    {
        DhGroup.MODP_1024,
        DhGroup.MODP_1536,
        DhGroup.MODP_2048,
        DhGroup.MODP_3072,
        DhGroup.MODP_4096,
        DhGroup.ECP_256,
        DhGroup.ECP_384,
        DhGroup.ECP_521,
    }
)
"""For perfect forward secrecy in IKEv1; X25519 has no number there."""

_AUTH = {
    AuthAlgorithm.HMAC_SHA2_256: IntegId.HMAC_SHA2_256_128,
    AuthAlgorithm.HMAC_SHA2_384: IntegId.HMAC_SHA2_384_192,
    AuthAlgorithm.HMAC_SHA2_512: IntegId.HMAC_SHA2_512_256,
}
_AUTH_NUMBER = {integ: auth for auth, integ in _AUTH.items()}
_ENCR = {EspTransform.AES_CBC: EncrId.AES_CBC, EspTransform.AES_GCM_16: EncrId.AES_GCM_16}
_ENCR_NUMBER = {encr: transform for transform, encr in _ENCR.items()}
_AEAD = frozenset({EncrId.AES_GCM_16})
_KEY_BITS = (128, 192, 256)
_TRANSFORM_NAMES = {1: "des-iv64", 2: "des", 3: "3des", 7: "blowfish", 11: "null", 13: "aesctr"}
_AUTH_NAMES = {1: "md5", 2: "sha1", 9: "aesxcbc"}
_MODE_NAMES = {
    EncapsulationMode.TUNNEL: "tunnel",
    EncapsulationMode.TRANSPORT: "transport",
    EncapsulationMode.UDP_TUNNEL: "udp-tunnel",
    EncapsulationMode.UDP_TRANSPORT: "udp-transport",
    EncapsulationMode.UDP_TUNNEL_DRAFT: "udp-tunnel (draft)",
    EncapsulationMode.UDP_TRANSPORT_DRAFT: "udp-transport (draft)",
}
_UNDERSTOOD = frozenset(
    {
        IpsecAttribute.GROUP_DESCRIPTION,
        IpsecAttribute.ENCAPSULATION_MODE,
        IpsecAttribute.AUTHENTICATION_ALGORITHM,
        IpsecAttribute.KEY_LENGTH,
        IpsecAttribute.EXTENDED_SEQUENCE_NUMBER,
        IpsecAttribute.VPN_FA,
        IpsecAttribute.ENDPOINT_UPDATE,
    }
)


@dataclass(frozen=True, slots=True)
class Meant:
    """What a transform says, life apart."""

    suite: EspSuite
    group: DhGroup | None
    mode: int
    features: Features


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


def modes(sa: IkeSa) -> tuple[int, ...]:
    """Encapsulation modes that fit the path, the one that we offer first."""
    if not sa.encapsulate:
        return (EncapsulationMode.TUNNEL,)
    if sa.peer.nat_traversal is NatTraversal.DRAFT_02:
        return (EncapsulationMode.UDP_TUNNEL_DRAFT, EncapsulationMode.UDP_TUNNEL)
    return (EncapsulationMode.UDP_TUNNEL, EncapsulationMode.UDP_TUNNEL_DRAFT)


# -- our offer ------------------------------------------------------------------------------


@lru_cache(maxsize=256)
def suites(offer: SuiteOffer) -> tuple[EspSuite, ...]:
    """The suites of an offer that IKEv1 has, best first; plain sequence numbers if allowed."""
    found: dict[EspSuite, None] = {}
    for spec in offer.proposals:
        esn = (int(EsnId.NO_ESN), None) not in spec.allowed(TransformType.ESN)
        for encr, bits in spec.allowed(TransformType.ENCR):
            if encr not in _ENCR_NUMBER or bits is None:
                continue
            cipher = ESP_ENCRYPTION[EncrId(encr)]
            if encr in _AEAD:
                found[EspSuite(cipher, bits, Integrity.NONE, esn)] = None
                continue
            for integ, _ in spec.allowed(TransformType.INTEG):
                if integ in _AUTH_NUMBER:
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
        Meant(suite, group, modes(sa)[0], features)
        for suite in mine
        for features in _variants(connection, asked)
    ]
    transforms = tuple(
        Transform(number, _transform_id(one.suite), _attributes(one, life_s))
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


def _encr_id(suite: EspSuite) -> EncrId:
    return next(encr for encr, one in ESP_ENCRYPTION.items() if one is suite.encryption)


def _integ_id(suite: EspSuite) -> IntegId:
    return next(integ for integ, one in ESP_INTEGRITY.items() if one is suite.integrity)


def _transform_id(suite: EspSuite) -> int:
    return _ENCR_NUMBER[_encr_id(suite)]


def _attributes(meant: Meant, life_s: int) -> tuple[Attribute, ...]:
    suite = meant.suite
    found = [
        Attribute(IpsecAttribute.LIFE_TYPE, LifeType.SECONDS),
        long_number(IpsecAttribute.LIFE_DURATION, life_s),
        Attribute(IpsecAttribute.ENCAPSULATION_MODE, meant.mode),
    ]
    if suite.integrity is not Integrity.NONE:
        auth = _AUTH_NUMBER[_integ_id(suite)]
        found.append(Attribute(IpsecAttribute.AUTHENTICATION_ALGORITHM, auth))
    found.append(Attribute(IpsecAttribute.KEY_LENGTH, suite.key_bits))
    if meant.group is not None:
        found.append(Attribute(IpsecAttribute.GROUP_DESCRIPTION, meant.group))
    if suite.esn:
        found.append(Attribute(IpsecAttribute.EXTENDED_SEQUENCE_NUMBER, 1))
    if meant.features.vpn_fa:
        found.append(Attribute(IpsecAttribute.VPN_FA, 1))
    if meant.features.endpoint_update:
        found.append(Attribute(IpsecAttribute.ENDPOINT_UPDATE, 1))
    return tuple(found)


# -- reading --------------------------------------------------------------------------------


def read(sa: IkeSa, transform: Transform) -> tuple[Meant, int | None] | str:
    """What a transform means and its life in seconds; a reason where we cannot use it."""
    values: dict[int, int] = {}
    life_s: int | None = None
    life_type = 0
    for one in transform.attributes:
        value = one.number
        if value is None:
            return f"attribute {one.type} is no number"
        if one.type == IpsecAttribute.LIFE_TYPE:
            life_type = value
        elif one.type == IpsecAttribute.LIFE_DURATION:
            if life_type == LifeType.SECONDS:
                life_s = value if life_s is None else min(life_s, value)
        elif one.type not in _UNDERSTOOD:
            return f"attribute {one.type} is not understood"
        elif values.setdefault(one.type, value) != value:
            return f"attribute {one.type} is there twice"
    if life_s is not None and life_s < MIN_LIFE_S:
        return f"a life of {life_s} s, at least {MIN_LIFE_S} s are needed"
    meant = _judge(sa, transform.id, values)
    return meant if isinstance(meant, str) else (meant, life_s)


def _judge(sa: IkeSa, transform: int, values: dict[int, int]) -> Meant | str:
    encr = _ENCR.get(transform)  # type: ignore[call-overload]
    if encr is None:
        return f"cipher {_TRANSFORM_NAMES.get(transform, transform)} is not supported"
    bits = values.get(IpsecAttribute.KEY_LENGTH)
    if bits not in _KEY_BITS:
        return f"a key length of {bits}"
    auth = values.get(IpsecAttribute.AUTHENTICATION_ALGORITHM)
    integ: IntegId | None = IntegId.NONE
    if encr not in _AEAD:
        integ = _AUTH.get(auth or 0)  # type: ignore[call-overload]
    elif auth is not None:
        return "an AEAD with an authentication algorithm"
    if integ is None:
        return f"authentication algorithm {_AUTH_NAMES.get(auth or 0, auth)} is not supported"
    group = values.get(IpsecAttribute.GROUP_DESCRIPTION)
    if group is not None and group not in GROUPS:
        return f"group {group} is not supported"
    esn = values.get(IpsecAttribute.EXTENDED_SEQUENCE_NUMBER, 0)
    if esn not in (0, 1):
        return f"extended sequence numbers {esn}"
    features = _features(sa, values)
    if features is None:
        return "features that were not negotiated in phase 1"
    suite = EspSuite(ESP_ENCRYPTION[encr], bits, ESP_INTEGRITY[integ], bool(esn))
    mode = values.get(IpsecAttribute.ENCAPSULATION_MODE, 0)
    return Meant(suite, DhGroup(group) if group is not None else None, mode, features)


def _features(sa: IkeSa, values: dict[int, int]) -> Features | None:
    """The drafts' attributes; None for one that phase 1 did not announce, or an odd value."""
    endpoint_update = values.get(IpsecAttribute.ENDPOINT_UPDATE)
    vpn_fa = values.get(IpsecAttribute.VPN_FA)
    if endpoint_update not in (None, 1) or vpn_fa not in (None, 1):
        return None
    if (endpoint_update and not sa.peer_knows_endpoint_update) or (
        vpn_fa and not sa.peer_knows_vpn_fa
    ):
        return None
    return Features(endpoint_update is not None, vpn_fa is not None)


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
            ours=f"{connection.esp_offer}, {_mode_name(modes(sa)[0])}",
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
    if meant.mode not in modes(sa):
        return (
            f"encapsulation mode {_mode_name(meant.mode)} does not fit the path:"
            f" {_mode_name(modes(sa)[0])} is needed"
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
    encr, integ = (int(_encr_id(suite)), suite.key_bits), (int(_integ_id(suite)), None)
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


# -- words ----------------------------------------------------------------------------------


def describe(payload: SecurityAssociation) -> str:
    """Transforms for people, whatever they say. Never raises."""
    shown = [
        _describe(proposal, transform)
        for proposal in payload.proposals
        for transform in proposal.transforms
    ]
    more = ", ..." if len(shown) > MAX_SHOWN else ""
    return ", ".join(shown[:MAX_SHOWN]) + more or "no transform"


def _describe(proposal: Proposal, transform: Transform) -> str:
    if proposal.protocol != ProtocolId.ESP:
        return f"protocol {proposal.protocol}"
    values = {one.type: one.number for one in transform.attributes}
    bits = values.get(IpsecAttribute.KEY_LENGTH)
    encr = _ENCR.get(transform.id)  # type: ignore[call-overload]
    if encr is None:
        parts = [_TRANSFORM_NAMES.get(transform.id, f"transform#{transform.id}")]
    else:
        parts = [transform_name(TransformType.ENCR, encr, bits)]
    auth = values.get(IpsecAttribute.AUTHENTICATION_ALGORITHM)
    if auth is not None:
        integ = _AUTH.get(auth)  # type: ignore[call-overload]
        parts.append(
            transform_name(TransformType.INTEG, integ, None)
            if integ is not None
            else _AUTH_NAMES.get(auth, f"auth#{auth}")
        )
    group = values.get(IpsecAttribute.GROUP_DESCRIPTION)
    if group is not None:
        parts.append(transform_name(TransformType.KE, group, None))
    mode = values.get(IpsecAttribute.ENCAPSULATION_MODE) or 0
    return f"{'-'.join(parts)} ({_mode_name(mode)})"


def _mode_name(mode: int) -> str:
    return _MODE_NAMES.get(mode) or (f"mode {mode}" if mode else "no mode")  # type: ignore[call-overload]


def key_octets(suite: EspSuite) -> tuple[int, int]:
    """Octets of KEYMAT for the cipher with its salt, and for integrity."""
    salt = 4 if suite.encryption is Encryption.AES_GCM_16 else 0
    return suite.key_bits // 8 + salt, _INTEGRITY_OCTETS[suite.integrity]


_INTEGRITY_OCTETS = {
    Integrity.NONE: 0,
    Integrity.HMAC_SHA2_256_128: 32,
    Integrity.HMAC_SHA2_384_192: 48,
    Integrity.HMAC_SHA2_512_256: 64,
}
