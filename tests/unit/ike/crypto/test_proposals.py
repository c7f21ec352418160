"""Proposal strings, and the choice of the one suite that both sides accept."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.child_sa import Encryption, EspSuite, Integrity
from gateway.ike.codec import Proposal, SecurityAssociation, Transform
from gateway.ike.crypto.proposals import (
    IkeSuite,
    NoProposalChosen,
    SuiteOffer,
    check_selected,
    select_esp,
    select_ike,
)
from gateway.ike.registry import DhGroup, EncrId, IntegId, PrfId, ProtocolId

SPI = bytes.fromhex("c0ffee01")
GCM, CBC, PRF, INTEG, KE, ESN, NO_ESN = (
    Transform(1, 20, 256),
    Transform(1, 12, 256),
    Transform(2, 5),
    Transform(3, 12),
    Transform(4, 31),
    Transform(5, 1),
    Transform(5, 0),
)
IKE = SuiteOffer.parse("ike", ["aes256gcm16-prfsha256-x25519", "aes256-sha256-x25519"])
ESP = SuiteOffer.parse("esp", ["aes256gcm16", "aes256-sha256"])


def sa(
    *transforms: Transform, protocol: Any = 1, spi: Any = b"", number: Any = 1
) -> SecurityAssociation:
    return SecurityAssociation((Proposal(number, protocol, spi, transforms),))


def esp(*transforms: Transform, spi: Any = SPI) -> SecurityAssociation:
    return sa(*transforms, protocol=3, spi=spi)


def test_strings_give_what_they_say() -> None:
    offer = SuiteOffer.parse("ike", ["AES256GCM16-prfsha384-curve25519-ecp256"])
    (proposal,) = offer.to_payload(ProtocolId.IKE, b"").proposals
    assert proposal.transforms == (
        Transform(1, 20, 256),
        Transform(2, 6),
        Transform(4, 31),
        Transform(4, 19),
    )
    assert str(offer) == "aes256gcm16-prfsha384-x25519-ecp256"
    assert offer.groups() == (DhGroup.X25519, DhGroup.ECP_256)
    assert offer.first_group() == DhGroup.X25519
    assert SuiteOffer.parse("ike", [str(offer)]) == offer
    assert hash(SuiteOffer.parse("ike", [str(offer)])) == hash(offer)


def test_an_integrity_word_names_the_prf_too() -> None:
    offer = SuiteOffer.parse("ike", ["aes128-sha512-modp3072"])
    (proposal,) = offer.to_payload(ProtocolId.IKE, b"").proposals
    assert Transform(2, 7) in proposal.transforms
    assert Transform(3, 14) in proposal.transforms


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        ("ike", "aes256gmc16-prfsha256-x25519", r"'aes256gmc16'; nearest: .*aes256gcm16"),
        ("ike", "zzzzzz", "allowed: aes128gcm16"),
        ("ike", "", "empty ike proposal"),
        ("ike", "aes256gcm16-x25519", "pseudorandom function"),
        ("ike", "aes256gcm16-prfsha256", "key exchange"),
        ("ike", "prfsha256-x25519", "encryption"),
        ("ike", "aes256-x25519", "needs an integrity"),
        ("ike", "aes256gcm16-sha256-x25519", "leave out sha256.*prfsha256"),
        ("ike", "aes256gcm16-aes256-sha256-x25519", "cannot share"),
        ("ike", "aes256-sha256-x25519-esn", "esp proposals only"),
        ("esp", "aes256gcm16-prfsha256", "ike proposals only"),
        ("esp", "aes256gcm16-nopfs", "groups"),
        ("esp", "3des-sha256", "3des is not supported for ESP yet"),
        ("esp", "aes256-sha1", "sha1 is not supported for ESP yet"),
        ("ah", "sha256", "allowed: ike, esp"),
    ],
)
def test_bad_strings_say_what_is_wrong(kind: Any, text: Any, message: Any) -> None:
    with pytest.raises(ValueError, match=message):
        SuiteOffer.parse(kind, [text])


def test_defaults_are_modern() -> None:
    for offer in (SuiteOffer.default_ike(), SuiteOffer.default_esp()):
        text = str(offer)
        assert not {"sha1", "prfsha1", "modp1024", "modp1536", "3des"} & set(
            text.replace(", ", "-").split("-")
        )
        assert text.startswith("aes256gcm16")


def test_weak_ones_only_by_name() -> None:
    weak = sa(Transform(1, 3), Transform(2, 2), Transform(3, 2), Transform(4, 2))
    with pytest.raises(NoProposalChosen):
        select_ike(SuiteOffer.default_ike(), weak)
    chosen = select_ike(SuiteOffer.parse("ike", ["3des-sha1-modp1024"]), weak).suite
    assert chosen.group == DhGroup.MODP_1024


def test_our_order_decides() -> None:
    theirs = SecurityAssociation(
        (
            Proposal(1, 1, b"", (CBC, PRF, INTEG, KE)),
            Proposal(2, 1, b"", (Transform(1, 20, 128), GCM, PRF, Transform(4, 14), KE)),
        )
    )
    chosen = select_ike(IKE, theirs)
    assert chosen.proposal_number == 2
    assert chosen.suite == IkeSuite(
        EncrId.AES_GCM_16, 256, IntegId.NONE, PrfId.HMAC_SHA2_256, DhGroup.X25519
    )
    assert chosen.transforms == (GCM, PRF, KE)
    assert str(chosen.suite) == "aes256gcm16-prfsha256-x25519"


def test_both_sides_of_every_default_agree() -> None:
    for offer, spi in ((SuiteOffer.default_ike(), b""), (IKE, b"")):
        chosen = select_ike(offer, offer.to_payload(ProtocolId.IKE, spi))
        answer = sa(*chosen.transforms, number=chosen.proposal_number)
        assert check_selected(offer, answer).suite == chosen.suite
    for with_group in (False, True):
        offer = SuiteOffer.default_esp()
        payload = offer.to_payload(ProtocolId.ESP, SPI, with_group=with_group)
        chosen = select_esp(offer, payload, with_group=with_group)
        answer = sa(*chosen.transforms, protocol=3, spi=SPI, number=chosen.proposal_number)
        assert check_selected(offer, answer, with_group=with_group) == chosen
        assert chosen.group == (DhGroup.X25519 if with_group else None)
        assert chosen.suite == EspSuite(Encryption.AES_GCM_16, 256, Integrity.NONE, esn=True)


def test_reason_shows_both_sides_and_the_first_difference() -> None:
    theirs = sa(GCM, PRF, Transform(4, 2))
    with pytest.raises(NoProposalChosen) as caught:
        select_ike(IKE, theirs)
    text = str(caught.value)
    assert "key exchange differs: theirs modp1024, ours x25519" in text
    assert "theirs: [aes256gcm16-prfsha256-modp1024]" in text
    assert "ours: [aes256gcm16-prfsha256-x25519, aes256-" in text


HOSTILE_IKE = {
    "no transforms": sa(),
    "no proposals": SecurityAssociation(()),
    "no encryption": sa(PRF, KE),
    "no prf": sa(GCM, KE),
    "no group": sa(GCM, PRF),
    "group none": sa(GCM, PRF, Transform(4, 0)),
    "aead with integrity": sa(GCM, PRF, INTEG, KE),
    "cbc without integrity": sa(CBC, PRF, KE),
    "cbc with integrity none": sa(CBC, PRF, Transform(3, 0), KE),
    "key length absent": sa(Transform(1, 20), PRF, KE),
    "key length 0": sa(Transform(1, 20, 0), PRF, KE),
    "key length 7": sa(Transform(1, 20, 7), PRF, KE),
    "key length 65535": sa(Transform(1, 20, 65535), PRF, KE),
    "key length doubled": sa(Transform(1, 20, 256, understood=False), PRF, KE),
    "key length of a prf": sa(GCM, Transform(2, 5, 256), KE),
    "unknown type": sa(GCM, PRF, KE, Transform(6, 35)),
    "esn in ike": sa(GCM, PRF, KE, ESN),
    "protocol 0": sa(GCM, PRF, KE, protocol=0),
    "protocol ah": sa(GCM, PRF, KE, protocol=2, spi=SPI),
    "protocol esp": sa(GCM, PRF, KE, protocol=3, spi=SPI),
    "protocol 255": sa(GCM, PRF, KE, protocol=255),
    "spi in the first exchange": sa(GCM, PRF, KE, spi=bytes(8)),
}


@pytest.mark.parametrize("name", HOSTILE_IKE)
def test_h17_unusable_ike_proposals(name: Any) -> None:
    for offer in (IKE, SuiteOffer.default_ike()):
        with pytest.raises(NoProposalChosen):
            select_ike(offer, HOSTILE_IKE[name])


HOSTILE_ESP = {
    "no esn": esp(GCM),
    "no encryption": esp(INTEG, ESN),
    "aead with integrity": esp(GCM, INTEG, ESN),
    "prf in esp": esp(GCM, PRF, ESN),
    "spi 0": esp(GCM, ESN, spi=bytes(4)),
    "spi 255": esp(GCM, ESN, spi=b"\0\0\0\xff"),
    "spi of 8": esp(GCM, ESN, spi=b"12345678"),
    "no spi": esp(GCM, ESN, spi=b""),
    "null encryption": esp(Transform(1, 11), INTEG, ESN),
    "chacha with a key length": esp(Transform(1, 28, 256), ESN),
}


@pytest.mark.parametrize("name", HOSTILE_ESP)
def test_h17_unusable_esp_proposals(name: Any) -> None:
    for offer in (ESP, SuiteOffer.default_esp()):
        with pytest.raises(NoProposalChosen):
            select_esp(offer, HOSTILE_ESP[name], with_group=False)


def test_h17_integrity_none_with_an_aead_is_fine_and_answered() -> None:
    none = Transform(3, 0)
    assert none in select_ike(IKE, sa(GCM, PRF, none, INTEG, KE)).transforms
    assert select_esp(ESP, esp(GCM, none, ESN), with_group=False).transforms == (GCM, none, ESN)


def test_h17_one_good_proposal_among_bad_ones() -> None:
    bad = tuple(Proposal(n, 1, b"", (GCM, PRF, KE, Transform(200, 1))) for n in range(1, 64))
    chosen = select_ike(IKE, SecurityAssociation((*bad, Proposal(64, 1, b"", (GCM, PRF, KE)))))
    assert chosen.proposal_number == 64


def test_h17_reason_is_bounded() -> None:
    many = tuple(
        Proposal(n % 256, 1, b"", tuple(Transform(1, i, 65535) for i in range(128)))
        for n in range(64)
    )
    with pytest.raises(NoProposalChosen) as caught:
        select_ike(IKE, SecurityAssociation(many))
    assert len(str(caught.value)) < 4000


HOSTILE_ANSWERS = {
    "two proposals": SecurityAssociation(sa(GCM, PRF, KE).proposals * 2),
    "no proposal": SecurityAssociation(()),
    "number 0": sa(GCM, PRF, KE, number=0),
    "number 3": sa(GCM, PRF, KE, number=3),
    "two picks": sa(GCM, PRF, Transform(2, 6), KE),
    "the same twice": sa(GCM, PRF, KE, KE),
    "of the other proposal": sa(GCM, PRF, KE, number=2),
    "never offered": sa(GCM, PRF, Transform(4, 14)),
    "weaker key": sa(Transform(1, 20, 128), PRF, KE),
    "integrity added": sa(GCM, PRF, INTEG, KE),
    "missing group": sa(GCM, PRF),
    "other protocol": sa(GCM, PRF, KE, protocol=3, spi=SPI),
}


@pytest.mark.parametrize("name", HOSTILE_ANSWERS)
def test_h17_answers_that_were_not_offered(name: Any) -> None:
    with pytest.raises(NoProposalChosen):
        check_selected(IKE, HOSTILE_ANSWERS[name])


def test_pfs_is_required_optional_or_taken() -> None:
    required = SuiteOffer.parse("esp", ["aes256gcm16-x25519"])
    optional = SuiteOffer.parse("esp", ["aes256gcm16-x25519-nopfs"])
    unnamed = SuiteOffer.parse("esp", ["aes256gcm16"])
    without, with_pfs = esp(GCM, ESN), esp(GCM, ESN, KE)
    with pytest.raises(NoProposalChosen, match="key exchange differs: theirs none, ours x25519"):
        select_esp(required, without, with_group=True)
    assert select_esp(required, without, with_group=False).group is None
    for offer in (optional, unnamed):
        assert select_esp(offer, without, with_group=True).group is None
        assert select_esp(offer, with_pfs, with_group=True).group == DhGroup.X25519
    assert select_esp(required, with_pfs, with_group=True).group == DhGroup.X25519
    with pytest.raises(NoProposalChosen):
        select_esp(unnamed, esp(GCM, ESN, Transform(4, 2)), with_group=True)


def test_groups_in_ike_auth_are_ignored_in_the_offer_and_refused_in_the_answer() -> None:
    chosen = select_esp(ESP, esp(GCM, ESN, KE), with_group=False)
    assert chosen.transforms == (GCM, ESN)
    with pytest.raises(NoProposalChosen, match="none was offered"):
        check_selected(ESP, esp(GCM, ESN, KE), with_group=False)
    with pytest.raises(NoProposalChosen, match="none was offered"):
        check_selected(ESP, esp(GCM, ESN, KE), with_group=True)


def test_esn_is_chosen_when_offered() -> None:
    assert select_esp(ESP, esp(GCM, NO_ESN, ESN), with_group=False).suite.esn
    assert not select_esp(ESP, esp(GCM, NO_ESN), with_group=False).suite.esn
    only = SuiteOffer.parse("esp", ["aes256gcm16-noesn"])
    assert not select_esp(only, esp(GCM, NO_ESN, ESN), with_group=False).suite.esn


def test_rekeying_carries_spis() -> None:
    spi = b"\1" * 8
    assert select_ike(IKE, sa(GCM, PRF, KE, spi=spi), spi_octets=8).peer_spi == spi
    assert check_selected(IKE, sa(GCM, PRF, KE, spi=spi), spi_octets=8).peer_spi == spi
    for wrong in (b"", bytes(8), b"\1" * 4):
        with pytest.raises(NoProposalChosen):
            select_ike(IKE, sa(GCM, PRF, KE, spi=wrong), spi_octets=8)


transforms = st.builds(
    Transform,
    st.integers(0, 8),
    st.integers(0, 40),
    st.none() | st.sampled_from([0, 7, 128, 192, 256, 65535]),
    st.booleans(),
)
payloads = st.builds(
    SecurityAssociation,
    st.lists(
        st.builds(
            Proposal,
            st.integers(0, 255),
            st.integers(0, 4),
            st.sampled_from([b"", SPI, bytes(4), b"12345678"]),
            st.lists(transforms | st.sampled_from([GCM, PRF, KE, ESN]), max_size=8).map(tuple),
        ),
        max_size=4,
    ).map(tuple),
)


@given(payloads, st.booleans())
def test_whatever_is_offered_gives_a_choice_of_theirs_or_a_refusal(
    payload: Any, with_group: Any
) -> None:
    for choose in (
        lambda: select_ike(SuiteOffer.default_ike(), payload),
        lambda: select_esp(SuiteOffer.default_esp(), payload, with_group=with_group),
        lambda: check_selected(IKE, payload),
        lambda: check_selected(ESP, payload, with_group=with_group),
    ):
        try:
            chosen = choose()
        except NoProposalChosen:
            continue
        assert any(
            proposal.number == chosen.proposal_number
            and set(chosen.transforms) <= set(proposal.transforms)
            for proposal in payload.proposals
        )
        assert len({transform.type for transform in chosen.transforms}) == len(chosen.transforms)
