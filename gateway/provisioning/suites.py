"""Choosing what a platform can do among what a connection allows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from gateway.provisioning.problem import ProvisioningRefusedError
from gateway.provisioning.setup import Suite


@dataclass(frozen=True, slots=True)
class Words:
    """What a platform knows, under our words and its own; its best first."""

    platform: str
    ike_encryption: Mapping[str, str]
    esp_encryption: Mapping[str, str]
    ike_hash: Mapping[str, str]
    """Integrity, or with a cipher that authenticates by itself the PRF."""
    esp_integrity: Mapping[str, str]
    ike_groups: Mapping[str, str]
    esp_groups: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Chosen:
    """One algorithm of each kind, under the platform's words."""

    encryption: str
    hash: str | None
    group: str | None
    aead: bool


def _first(known: Mapping[str, str], allowed: Sequence[str]) -> str | None:
    return next((theirs for ours, theirs in known.items() if ours in allowed), None)


def _cipher(known: Mapping[str, str], suite: Suite) -> str | None:
    """The connection's order counts for ciphers: it is about strength, not about speed alone."""
    return next((known[one] for one in suite.encryption if one in known), None)


def choose_ike(words: Words, suites: Sequence[Suite]) -> Chosen:
    """For the IKE SA. Raises :class:`ProvisioningRefusedError`."""
    for suite in suites:
        cipher = _cipher(words.ike_encryption, suite)
        hashes = suite.integrity or tuple(one.removeprefix("prf") for one in suite.prf)
        if suite.integrity and suite.prf:  # these platforms use one hash for both
            hashes = tuple(one for one in hashes if f"prf{one}" in suite.prf)
        digest = _first(words.ike_hash, hashes)
        group = _first(words.ike_groups, suite.groups)
        if cipher and digest and group and not suite.additional:
            return Chosen(cipher, digest, group, not suite.integrity)
    known = (words.ike_encryption, words.ike_hash, words.ike_groups)
    raise _nothing("ike_proposals", words, suites, known)


def choose_esp(words: Words, suites: Sequence[Suite]) -> Chosen:
    """For child SAs, without ESN. Raises :class:`ProvisioningRefusedError`."""
    for suite in suites:
        cipher = _cipher(words.esp_encryption, suite)
        digest = _first(words.esp_integrity, suite.integrity)
        group = _first(words.esp_groups, suite.groups)
        fits = (digest or not suite.integrity) and (group or not suite.groups)
        if cipher and fits and (not suite.esn or False in suite.esn):
            return Chosen(cipher, digest, group, not suite.integrity)
    known = (words.esp_encryption, words.esp_integrity, words.esp_groups)
    raise _nothing("esp_proposals", words, suites, known, "; noesn must be allowed")


def _nothing(
    key: str,
    words: Words,
    suites: Sequence[Suite],
    known: Sequence[Mapping[str, str]],
    more: str = "",
) -> ProvisioningRefusedError:
    named = ", ".join(suite.words for suite in suites)
    able = "; ".join(", ".join(one) for one in known)
    why = f"{words.platform} can do none of {named}; add one of what it knows: {able}{more}"
    return ProvisioningRefusedError(key, why)


def without_esn(suites: Sequence[Suite], platform: str) -> list[Suite]:
    """ESP proposals for who has sequence numbers of 32 bits alone.

    Raises :class:`ProvisioningRefusedError` where they are not allowed.
    """
    able = [replace(suite, esn=()) for suite in suites if not suite.esn or False in suite.esn]
    if not able:
        raise ProvisioningRefusedError("esp_proposals", f"{platform} has no ESN; add noesn")
    return able


def for_strongswan(suites: Sequence[Suite]) -> list[str]:
    """Proposals for strongSwan of any age; without additional key exchanges where they allow it."""
    old = [suite for suite in suites if not suite.additional]
    return [suite.words for suite in old or suites]
