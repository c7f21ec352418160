"""Transforms of ESP in the IPsec DOI: what they mean, and how we write them.

RFC 2407 sections 4.4.4 and 4.5; RFC 3602, 4106, 4304, 4868; RFC 3947 section 5.1; draft 001,
appendices B.3 and C.2.
"""

from dataclasses import dataclass

from gateway.domain.child_sa import Encryption, EspSuite, Integrity, Mode
from gateway.ike.crypto.offers import ESP_ENCRYPTION, ESP_INTEGRITY
from gateway.ike.crypto.transforms import transform_name
from gateway.ike.draft_features import Features
from gateway.ike.registry import DhGroup, EncrId, IntegId, TransformType
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

MAX_SHOWN = 8
"""Transforms of the peer in a reason."""
MIN_LIFE_S = 10
"""A child SA that is to live for less is refused."""
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
AUTH_NUMBER = {integ: auth for auth, integ in _AUTH.items()}
_ENCR = {EspTransform.AES_CBC: EncrId.AES_CBC, EspTransform.AES_GCM_16: EncrId.AES_GCM_16}
ENCR_NUMBER = {encr: transform for transform, encr in _ENCR.items()}
AEAD = frozenset({EncrId.AES_GCM_16})
_KEY_BITS = (128, 192, 256)
_TRANSFORM_NAMES = {1: "des-iv64", 2: "des", 3: "3des", 7: "blowfish", 11: "null", 13: "aesctr"}
_AUTH_NAMES = {1: "md5", 2: "sha1", 9: "aesxcbc"}
_PLAIN = {
    Mode.TUNNEL: EncapsulationMode.TUNNEL,
    Mode.TRANSPORT: EncapsulationMode.TRANSPORT,
}
_IN_UDP = {
    Mode.TUNNEL: (EncapsulationMode.UDP_TUNNEL, EncapsulationMode.UDP_TUNNEL_DRAFT),
    Mode.TRANSPORT: (EncapsulationMode.UDP_TRANSPORT, EncapsulationMode.UDP_TRANSPORT_DRAFT),
}
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


def modes(sa: IkeSa, mode: Mode) -> tuple[int, ...]:
    """Encapsulation modes that fit policy and path, the one that we offer first."""
    if not sa.encapsulate:
        return (_PLAIN[mode],)
    found = _IN_UDP[mode]
    return found[::-1] if sa.peer.nat_traversal is NatTraversal.DRAFT_02 else found


# -- writing --------------------------------------------------------------------------------


def encr_id(suite: EspSuite) -> EncrId:
    """The cipher's number in IKEv2, by which our offer names it."""
    return next(encr for encr, one in ESP_ENCRYPTION.items() if one is suite.encryption)


def integ_id(suite: EspSuite) -> IntegId:
    """The integrity algorithm's number in IKEv2; NONE for an AEAD."""
    return next(integ for integ, one in ESP_INTEGRITY.items() if one is suite.integrity)


def transform_id(suite: EspSuite) -> int:
    """The number of the ESP transform."""
    return ENCR_NUMBER[encr_id(suite)]


def attributes(meant: Meant, life_s: int) -> tuple[Attribute, ...]:
    """The attributes of a transform of ours."""
    suite = meant.suite
    found = [
        Attribute(IpsecAttribute.LIFE_TYPE, LifeType.SECONDS),
        long_number(IpsecAttribute.LIFE_DURATION, life_s),
        Attribute(IpsecAttribute.ENCAPSULATION_MODE, meant.mode),
    ]
    if suite.integrity is not Integrity.NONE:
        auth = AUTH_NUMBER[integ_id(suite)]
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
    if encr not in AEAD:
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
    return f"{'-'.join(parts)} ({mode_name(mode)})"


def mode_name(mode: int) -> str:
    """An encapsulation mode for people."""
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
