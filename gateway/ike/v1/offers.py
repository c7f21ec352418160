"""Phase 1 proposals: our offer as transforms and back (RFC 2409 section 5 and appendix A)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gateway.ike.crypto.offers import ProposalSpec, SuiteOffer
from gateway.ike.crypto.suites import IkeSuite, NoProposalChosen
from gateway.ike.crypto.transforms import CIPHERS, transform_name
from gateway.ike.registry import DhGroup, EncrId, IntegId, PrfId, TransformType
from gateway.ike.v1.codec import (
    Attribute,
    Proposal,
    ProtocolId,
    SecurityAssociation,
    Transform,
    long_number,
)
from gateway.ike.v1.codec.registry import (
    KEY_IKE,
    LifeType,
    OakleyAuthMethod,
    OakleyEncryption,
    OakleyHash,
)
from gateway.ike.v1.codec.registry import OakleyAttribute as Kind
from gateway.ike.v1.sa import AuthMethod

MAX_TRANSFORMS = 64
"""Of ours; an offer that would have more is cut behind these."""
MAX_SHOWN = 8
"""Transforms of the peer in a reason."""
MIN_LIFE_S = 10
"""A phase 1 that is to live for less is refused."""

_ENCRYPTION: dict[int, EncrId] = {
    OakleyEncryption.TRIPLE_DES_CBC: EncrId.TRIPLE_DES,
    OakleyEncryption.AES_CBC: EncrId.AES_CBC,
}
_HASH: dict[int, tuple[IntegId, PrfId]] = {
    OakleyHash.SHA1: (IntegId.HMAC_SHA1_96, PrfId.HMAC_SHA1),
    OakleyHash.SHA2_256: (IntegId.HMAC_SHA2_256_128, PrfId.HMAC_SHA2_256),
    OakleyHash.SHA2_384: (IntegId.HMAC_SHA2_384_192, PrfId.HMAC_SHA2_384),
    OakleyHash.SHA2_512: (IntegId.HMAC_SHA2_512_256, PrfId.HMAC_SHA2_512),
}
_ENCRYPTION_NUMBER = {int(encr): number for number, encr in _ENCRYPTION.items()}
_HASH_NUMBER = {int(integ): number for number, (integ, _) in _HASH.items()}
_GROUPS = frozenset(DhGroup) - {DhGroup.NONE, DhGroup.X25519}
_METHODS = frozenset(int(method) for method in AuthMethod)
_AUTH_NAMES: dict[int, str] = {
    OakleyAuthMethod.PRE_SHARED_KEY: "psk",
    OakleyAuthMethod.DSS_SIGNATURES: "dss",
    OakleyAuthMethod.RSA_SIGNATURES: "rsa",
    4: "rsa-encryption",
    5: "revised-rsa-encryption",
    OakleyAuthMethod.ECDSA_SHA256_P256: "ecdsa256",
    OakleyAuthMethod.ECDSA_SHA384_P384: "ecdsa384",
    OakleyAuthMethod.ECDSA_SHA512_P521: "ecdsa521",
    OakleyAuthMethod.HYBRID_INIT_RSA: "hybrid-rsa",
    OakleyAuthMethod.XAUTH_INIT_PRE_SHARED: "xauth-psk",
    OakleyAuthMethod.XAUTH_INIT_RSA: "xauth-rsa",
}
_FOREIGN = {1: "des", 2: "idea", 3: "blowfish", 6: "cast", 8: "camellia"}
_FOREIGN_HASH = {1: "md5", 3: "tiger"}
_NEEDED = {
    Kind.ENCRYPTION_ALGORITHM: "encryption",
    Kind.HASH_ALGORITHM: "hash",
    Kind.GROUP_DESCRIPTION: "group",
}
_UNDERSTOOD = frozenset({*_NEEDED, Kind.AUTHENTICATION_METHOD, Kind.PRF, Kind.KEY_LENGTH})


@dataclass(frozen=True, slots=True)
class Chosen:
    """A transform of phase 1 that both sides accept."""

    suite: IkeSuite
    method: AuthMethod
    life_s: int | None
    """What the transform says; None when it says nothing in seconds."""
    proposal: Proposal
    transform: Transform


def suites(offer: SuiteOffer) -> Iterator[IkeSuite]:
    """The suites of an offer that IKEv1 has: no AEAD, no X25519, each hash with its own HMAC."""
    seen: set[IkeSuite] = set()
    for spec in offer.proposals:
        for suite in _of_spec(spec):
            if suite not in seen:
                seen.add(suite)
                yield suite


def _of_spec(spec: ProposalSpec) -> Iterator[IkeSuite]:
    if spec.aead:
        return
    prfs = {id_ for id_, _ in spec.allowed(TransformType.PRF)}
    for group in spec.groups:
        if group not in _GROUPS:
            continue
        for encr, key_bits in spec.allowed(TransformType.ENCR):
            for integ, _ in spec.allowed(TransformType.INTEG):
                number = _HASH_NUMBER.get(integ)
                if number is None or encr not in _ENCRYPTION_NUMBER:
                    continue
                prf = _HASH[number][1]
                if prf in prfs:
                    yield IkeSuite(EncrId(encr), key_bits, IntegId(integ), prf, group)


def first_group(offer: SuiteOffer) -> DhGroup | None:
    """The group of our best suite; None when IKEv1 has none of ours."""
    return next((suite.group for suite in suites(offer)), None)


def to_payload(
    offer: SuiteOffer, method: AuthMethod, life_s: int, *, only_group: DhGroup | None = None
) -> SecurityAssociation:
    """Our SA payload; with ``only_group`` as aggressive mode needs it, which has sent its KE.

    Raises :class:`NoProposalChosen` when IKEv1 has none of our suites.
    """
    mine = [one for one in suites(offer) if only_group is None or one.group == only_group]
    if not mine:
        raise NoProposalChosen(
            f"IKEv1 has no suite of [{offer}]; name one like aes256-sha256-modp2048"
        )
    transforms = tuple(
        Transform(number, KEY_IKE, _attributes(suite, method, life_s))
        for number, suite in enumerate(mine[:MAX_TRANSFORMS], 1)
    )
    return SecurityAssociation((Proposal(1, ProtocolId.ISAKMP, b"", transforms),))


def _attributes(suite: IkeSuite, method: AuthMethod, life_s: int) -> tuple[Attribute, ...]:
    found = [Attribute(Kind.ENCRYPTION_ALGORITHM, _ENCRYPTION_NUMBER[suite.encr])]
    if suite.key_bits is not None:
        found.append(Attribute(Kind.KEY_LENGTH, suite.key_bits))
    return (
        *found,
        Attribute(Kind.HASH_ALGORITHM, _HASH_NUMBER[suite.integ]),
        Attribute(Kind.AUTHENTICATION_METHOD, int(method)),
        Attribute(Kind.GROUP_DESCRIPTION, int(suite.group)),
        Attribute(Kind.LIFE_TYPE, int(LifeType.SECONDS)),
        long_number(Kind.LIFE_DURATION, life_s),
    )


def read(proposal: Proposal, transform: Transform) -> Chosen | str:
    """What a transform means; a reason in words where we cannot use it."""
    if transform.id != KEY_IKE:
        return f"transform {transform.id} instead of KEY_IKE"
    values: dict[int, int] = {}
    life_s: int | None = None
    life_type = 0
    for attribute in transform.attributes:
        kind, value = attribute.type, attribute.number
        if value is None:
            return f"attribute {kind} without a usable value"
        if kind == Kind.LIFE_TYPE:
            life_type = value
        elif kind == Kind.LIFE_DURATION:
            if life_type == LifeType.SECONDS:
                life_s = value
        elif kind not in _UNDERSTOOD:
            return f"attribute {kind}, which is not understood"
        elif values.setdefault(kind, value) != value:
            return f"attribute {kind} twice"
    return _judge(proposal, transform, values, life_s)


def _judge(
    proposal: Proposal, transform: Transform, values: dict[int, int], life_s: int | None
) -> Chosen | str:
    for kind, name in _NEEDED.items():
        if kind not in values:
            return f"no {name} attribute"
    if Kind.PRF in values:
        return "a pseudorandom function of its own"
    encr = _ENCRYPTION.get(values[Kind.ENCRYPTION_ALGORITHM])
    hash_ = _HASH.get(values[Kind.HASH_ALGORITHM])
    group = values[Kind.GROUP_DESCRIPTION]
    method = values.get(Kind.AUTHENTICATION_METHOD, 0)
    if encr is None or hash_ is None or group not in _GROUPS or method not in _METHODS:
        return "an algorithm that is not supported"
    bits = values.get(Kind.KEY_LENGTH)
    fixed = CIPHERS[encr].default_key_bits
    if (bits is None) == (fixed is None) or bits not in (None, 128, 192, 256):
        return f"a key length of {bits}"
    if life_s is not None and life_s < MIN_LIFE_S:
        return f"a life of {life_s} s"
    suite = IkeSuite(encr, bits, hash_[0], hash_[1], DhGroup(group))
    return Chosen(suite, AuthMethod(method), life_s, proposal, transform)


def select(offer: SuiteOffer, method: AuthMethod, payload: SecurityAssociation) -> Chosen:
    """The responder's choice: the first of our suites that a transform of theirs has.

    Raises :class:`NoProposalChosen` with theirs and ours.
    """
    usable: dict[IkeSuite, Chosen] = {}
    other_methods: set[int] = set()
    for proposal in _phase1(payload):
        for transform in proposal.transforms:
            meant = read(proposal, transform)
            if isinstance(meant, str):
                continue
            if meant.method is method:
                usable.setdefault(meant.suite, meant)
            else:
                other_methods.add(meant.method)
    for suite in suites(offer):
        if suite in usable:
            return usable[suite]
    why = "no transform fits"
    if not usable and other_methods:
        theirs = ", ".join(_AUTH_NAMES[one] for one in sorted(other_methods))
        why = f"authentication differs: theirs {theirs}, ours {_AUTH_NAMES[method]}"
    raise NoProposalChosen(why, shown_offer(payload), f"{offer} with {_AUTH_NAMES[method]}")


def _phase1(payload: SecurityAssociation) -> Sequence[Proposal]:
    """The proposals for phase 1. Several of one number would mean "and", which makes no sense."""
    return [one for one in payload.proposals if one.protocol == ProtocolId.ISAKMP]


def check_selected(
    offer: SuiteOffer, method: AuthMethod, payload: SecurityAssociation, *, life_s: int
) -> Chosen:
    """What the responder chose of our offer, as the initiator must check it.

    Raises :class:`NoProposalChosen` for whatever was not offered.
    """
    if len(payload.proposals) != 1 or len(payload.proposals[0].transforms) != 1:
        raise NoProposalChosen("the answer is not one proposal with one transform")
    proposal = payload.proposals[0]
    if proposal.protocol != ProtocolId.ISAKMP:
        raise NoProposalChosen(f"the answer is for protocol {proposal.protocol}")
    meant = read(proposal, proposal.transforms[0])
    if isinstance(meant, str):
        raise NoProposalChosen(f"the answer has {meant}")
    if meant.method is not method:
        raise NoProposalChosen(
            f"the answer has the authentication method {_AUTH_NAMES[meant.method]},"
            f" offered was {_AUTH_NAMES[method]}"
        )
    if meant.suite not in list(suites(offer))[:MAX_TRANSFORMS]:
        raise NoProposalChosen(f"the answer {meant.suite} was never offered; ours: [{offer}]")
    if meant.life_s is not None and meant.life_s > life_s:
        raise NoProposalChosen(f"the answer has a life of {meant.life_s} s, offered was {life_s} s")
    return meant


def answer(chosen: Chosen) -> SecurityAssociation:
    """The SA payload that answers with the chosen transform, exactly as it was offered."""
    proposal = Proposal(chosen.proposal.number, ProtocolId.ISAKMP, b"", (chosen.transform,))
    return SecurityAssociation((proposal,))


def shown_offer(payload: SecurityAssociation) -> str:
    """Their transforms, in words."""
    shown = [describe(one) for proposal in payload.proposals for one in proposal.transforms]
    more = ", ..." if len(shown) > MAX_SHOWN else ""
    return ", ".join(shown[:MAX_SHOWN]) + more


def describe(transform: Transform) -> str:
    """A transform for people, whatever it says. Never raises."""
    values = {one.type: one.number or 0 for one in transform.attributes}
    encr = values.get(Kind.ENCRYPTION_ALGORITHM, 0)
    hash_ = values.get(Kind.HASH_ALGORITHM, 0)
    group = values.get(Kind.GROUP_DESCRIPTION, 0)
    method = values.get(Kind.AUTHENTICATION_METHOD, 0)
    known, integ = _ENCRYPTION.get(encr), _HASH.get(hash_)
    parts = [_FOREIGN.get(encr, f"encr#{encr}"), _FOREIGN_HASH.get(hash_, f"hash#{hash_}")]
    if known is not None:
        parts[0] = transform_name(TransformType.ENCR, known, values.get(Kind.KEY_LENGTH))
    if integ is not None:
        parts[1] = transform_name(TransformType.INTEG, integ[0], None)
    parts.append(transform_name(TransformType.KE, group, None) if group else "no-group")
    parts.append(_AUTH_NAMES.get(method, f"auth#{method}"))
    return "-".join(parts)
