"""What we offer: proposals read from strings (RFC 7296 section 3.3)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from gateway.domain.child_sa import Encryption, Integrity
from gateway.ike.codec import Proposal, SecurityAssociation, Transform
from gateway.ike.crypto.transforms import AEAD, Word, lookup, transform_name
from gateway.ike.registry import (
    ADDITIONAL_KE,
    DhGroup,
    EncrId,
    EsnId,
    IntegId,
    ProtocolId,
    TransformType,
)

MAX_OFFER_PROPOSALS = 32
"""Proposals in one offer of ours."""

_PROTOCOLS = {"ike": ProtocolId.IKE, "esp": ProtocolId.ESP}
_ORDER = (
    TransformType.ENCR,
    TransformType.PRF,
    TransformType.INTEG,
    TransformType.KE,
    TransformType.ESN,
    *ADDITIONAL_KE,
)
ESP_ENCRYPTION = {
    EncrId.AES_GCM_16: Encryption.AES_GCM_16,
    EncrId.AES_CBC: Encryption.AES_CBC,
    EncrId.CHACHA20_POLY1305: Encryption.CHACHA20_POLY1305,
}
ESP_INTEGRITY = {
    IntegId.NONE: Integrity.NONE,
    IntegId.HMAC_SHA2_256_128: Integrity.HMAC_SHA2_256_128,
    IntegId.HMAC_SHA2_384_192: Integrity.HMAC_SHA2_384_192,
    IntegId.HMAC_SHA2_512_256: Integrity.HMAC_SHA2_512_256,
}
_GROUPS: Final = "x25519-ecp256-ecp384-modp3072-modp2048"
_DEFAULT_IKE = (
    f"aes256gcm16-aes128gcm16-chacha20poly1305-prfsha384-prfsha256-prfsha512-{_GROUPS}",
    f"aes256-aes128-sha256-sha384-sha512-prfsha256-prfsha384-prfsha512-{_GROUPS}",
)
_DEFAULT_ESP = (
    f"aes256gcm16-aes128gcm16-chacha20poly1305-{_GROUPS}-nopfs-esn-noesn",
    f"aes256-aes128-sha256-sha384-sha512-{_GROUPS}-nopfs-esn-noesn",
)

Choice = tuple[int, int | None]
"""A transform within its type: its ID and key length in bits."""


@dataclass(frozen=True, slots=True)
class ProposalSpec:
    """One proposal of ours: the allowed transforms by type, best first."""

    protocol: ProtocolId
    choices: tuple[tuple[TransformType, tuple[Choice, ...]], ...]
    """In the order of :class:`TransformType`; types that play no part are left out."""
    aead: bool
    _by_type: dict[int, tuple[Choice, ...]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_type", {int(t): choices for t, choices in self.choices})

    def allowed(self, type_: int) -> tuple[Choice, ...]:
        """Our choices of a type, best first; empty if the type plays no part."""
        return self._by_type.get(type_, ())

    @property
    def groups(self) -> tuple[DhGroup, ...]:
        """Key exchange methods, best first, without NONE."""
        return tuple(DhGroup(id_) for id_, _ in self.allowed(TransformType.KE) if id_)

    def transforms(self, *, with_group: bool = True) -> tuple[Transform, ...]:
        """For the wire; ``with_group`` is False in IKE_AUTH, which carries no KE payload."""
        return tuple(
            Transform(int(type_), int(id_), key_bits)
            for type_, choices in self.choices
            if with_group or type_ != TransformType.KE
            for id_, key_bits in choices
        )

    def __str__(self) -> str:
        return "-".join(
            transform_name(type_, id_, bits) for type_, ids in self.choices for id_, bits in ids
        )

    @classmethod
    def parse(cls, kind: str, text: str) -> "ProposalSpec":
        """Read ``aes256gcm16-prfsha384-x25519`` and the like; ``kind`` is "ike" or "esp".

        Raises :class:`ValueError` with what is wrong and what is allowed.
        """
        protocol = _PROTOCOLS.get(kind)
        if protocol is None:
            raise ValueError(f"unknown kind of proposal {kind!r}; allowed: ike, esp")
        if not text.strip():
            raise ValueError(f"empty {kind} proposal; for example: {_EXAMPLES[protocol]}")
        words = [lookup(part) for part in text.split("-")]
        by_type = {
            type_: list(dict.fromkeys((int(w.id), w.key_bits) for w in words if w.type == type_))
            for type_ in _ORDER
        }
        if protocol is ProtocolId.IKE:
            _complete_ike(words, by_type)
        else:
            _complete_esp(words, by_type)
        aead = by_type[TransformType.ENCR][0][0] in AEAD
        return cls(protocol, tuple((t, tuple(c)) for t, c in by_type.items() if c), aead)


_EXAMPLES = {
    ProtocolId.IKE: "aes256gcm16-prfsha384-x25519",
    ProtocolId.ESP: "aes256gcm16-x25519",
}


def _names(words: Iterable[Word], *types: TransformType) -> str:
    return ", ".join(word.name for word in words if word.type in types)


def _check_encryption(words: list[Word], by_type: dict[TransformType, list[Choice]]) -> bool:
    ciphers = by_type[TransformType.ENCR]
    if not ciphers:
        raise ValueError("no encryption algorithm; add one, for example aes256gcm16")
    kinds = {id_ in AEAD for id_, _ in ciphers}
    if len(kinds) > 1:
        raise ValueError(
            f"{_names(words, TransformType.ENCR)} cannot share a proposal: "
            "put ciphers that authenticate by themselves (gcm, poly1305) into one of their own"
        )
    integ = by_type[TransformType.INTEG]
    if kinds == {True} and integ:
        named = _names(words, TransformType.INTEG)
        raise ValueError(
            f"{_names(words, TransformType.ENCR)} authenticates by itself: leave out {named}"
            f" (for the pseudorandom function write prf{named.split(', ')[0]})"
        )
    if kinds == {False} and not integ:
        raise ValueError(
            f"{_names(words, TransformType.ENCR)} needs an integrity algorithm, for example sha256"
        )
    return kinds == {True}


def _complete_ike(words: list[Word], by_type: dict[TransformType, list[Choice]]) -> None:
    _check_encryption(words, by_type)
    if by_type[TransformType.ESN] or (int(DhGroup.NONE), None) in by_type[TransformType.KE]:
        raise ValueError("esn, noesn and nopfs belong into esp proposals only")
    if not by_type[TransformType.PRF]:
        implied = dict.fromkeys((int(word.prf), None) for word in words if word.prf is not None)
        by_type[TransformType.PRF] = list(implied)
    if not by_type[TransformType.PRF]:
        raise ValueError("no pseudorandom function; add one, for example prfsha256")
    if not by_type[TransformType.KE]:
        raise ValueError("no key exchange method; add one, for example x25519")
    for kind in ADDITIONAL_KE:
        if by_type[kind] == [(int(DhGroup.NONE), None)]:
            raise ValueError(f"{_names(words, kind)} alone says nothing: name a method too")


def _complete_esp(words: list[Word], by_type: dict[TransformType, list[Choice]]) -> None:
    _check_encryption(words, by_type)
    if by_type[TransformType.PRF]:
        raise ValueError(f"{_names(words, TransformType.PRF)} belongs into ike proposals only")
    for word in words:
        if word.type in ADDITIONAL_KE:
            raise ValueError(f"{word.name} belongs into ike proposals only")
        if (word.type == TransformType.ENCR and word.id not in ESP_ENCRYPTION) or (
            word.type == TransformType.INTEG and word.id not in ESP_INTEGRITY
        ):
            raise ValueError(f"{word.name} is not supported for ESP yet")
    groups = by_type[TransformType.KE]
    if groups == [(int(DhGroup.NONE), None)]:
        raise ValueError("nopfs makes groups optional: name groups too, or leave it out")
    if not by_type[TransformType.ESN]:
        by_type[TransformType.ESN] = [(int(EsnId.ESN), None), (int(EsnId.NO_ESN), None)]


PFS_GROUPS: tuple[Choice, ...] = tuple(
    (int(lookup(word).id), None) for word in (*_GROUPS.split("-"), "ecp521", "modp4096")
)
"""What a responder takes for PFS where its proposal names no groups."""


class SuiteOffer:
    """Our proposals of one protocol, best first. Immutable; equal if it offers the same.

    In an ESP offer, groups are for PFS: naming some requires PFS, adding ``nopfs`` makes it the
    peer's choice, naming none never asks for it but takes it.
    """

    __slots__ = ("_hash", "_payload_transforms", "proposals", "protocol")

    def __init__(self, proposals: Sequence[ProposalSpec]) -> None:
        protocols = {spec.protocol for spec in proposals}
        if len(protocols) != 1 or len(proposals) > MAX_OFFER_PROPOSALS:
            raise ValueError(f"1 to {MAX_OFFER_PROPOSALS} proposals of one protocol are allowed")
        self.proposals = tuple(proposals)
        self.protocol = proposals[0].protocol
        self._hash = hash(self.proposals)
        self._payload_transforms = {
            with_group: tuple(spec.transforms(with_group=with_group) for spec in proposals)
            for with_group in (False, True)
        }

    @classmethod
    def parse(cls, kind: str, texts: Sequence[str]) -> "SuiteOffer":
        """Read proposal strings; ``kind`` is "ike" or "esp".

        Raises :class:`ValueError` with what is wrong and what is allowed.
        """
        if not texts:
            raise ValueError(f"no {kind} proposal")
        return cls([ProposalSpec.parse(kind, text) for text in texts])

    @classmethod
    def default_ike(cls) -> "SuiteOffer":
        """What is known to be strong today, for IKE."""
        return cls.parse("ike", _DEFAULT_IKE)

    @classmethod
    def default_esp(cls) -> "SuiteOffer":
        """What is known to be strong today, for ESP; PFS and ESN are the peer's choice."""
        return cls.parse("esp", _DEFAULT_ESP)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SuiteOffer) and self.proposals == other.proposals

    def __hash__(self) -> int:
        return self._hash

    def __str__(self) -> str:
        return ", ".join(map(str, self.proposals))

    def __repr__(self) -> str:
        return f"SuiteOffer({self})"

    def groups(self) -> tuple[DhGroup, ...]:
        """All key exchange methods that the offer names, best first."""
        return tuple(dict.fromkeys(group for spec in self.proposals for group in spec.groups))

    def first_group(self) -> DhGroup:
        """The group for the KE payload; NONE for an ESP offer without PFS."""
        groups = self.groups()
        return groups[0] if groups else DhGroup.NONE

    def to_payload(
        self, protocol: int, spi: bytes, *, with_group: bool = True
    ) -> SecurityAssociation:
        """Our SA payload, proposals numbered from 1, each with ``spi``.

        ``with_group`` is False in IKE_AUTH. Raises :class:`ValueError` if ``protocol`` is not the
        offer's.
        """
        if protocol != self.protocol:
            raise ValueError(f"this is an offer for {self.protocol.name}, not for {protocol}")
        return SecurityAssociation(
            tuple(
                Proposal(number, int(self.protocol), spi, transforms)
                for number, transforms in enumerate(self._payload_transforms[with_group], 1)
            )
        )
