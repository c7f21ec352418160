"""Private keys and ciphers that go on in another process."""

import pytest

from gateway.ike.crypto import dh
from gateway.ike.crypto.sk import SkCipher
from gateway.ike.registry import DhGroup, EncrId, IntegId

GROUPS = [group for group in DhGroup if group is not DhGroup.NONE]


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.name)
def test_a_private_key_gives_the_same_secret_again(group: DhGroup) -> None:
    pair = dh.generate(group)
    again = dh.resume(group, pair.private)
    assert (again.group, again.public) == (pair.group, pair.public)
    answer, secret = dh.respond(group, pair.public)
    assert again.shared_secret(answer) == pair.shared_secret(answer) == secret
    assert pair.private.hex() not in repr(pair)


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.name)
@pytest.mark.parametrize("private", [b"", b"\0" * 32, b"\xff" * 1000], ids=["none", "zero", "long"])
def test_what_is_no_private_key_is_refused(group: DhGroup, private: bytes) -> None:
    if group is DhGroup.X25519 and len(private) == 32:
        dh.resume(group, private)
        return
    with pytest.raises(ValueError, match=r".*"):
        dh.resume(group, private)


@pytest.mark.parametrize(
    ("encr", "bits", "integ", "key", "mac"),
    [
        (EncrId.AES_GCM_16, 256, IntegId.NONE, b"k" * 36, b""),
        (EncrId.CHACHA20_POLY1305, None, IntegId.NONE, b"k" * 36, b""),
        (EncrId.AES_CBC, 128, IntegId.HMAC_SHA2_256_128, b"k" * 16, b"m" * 32),
        (EncrId.TRIPLE_DES, None, IntegId.HMAC_SHA1_96, b"abcdefgh12345678ABCDEFGH", b"m" * 20),
    ],
)
def test_a_cipher_goes_on_without_an_iv_twice(
    encr: EncrId, bits: int | None, integ: IntegId, key: bytes, mac: bytes
) -> None:
    first = SkCipher(encr, bits, integ, key, mac)
    sealed = [first.seal(b"p" * 32, b"one") for _ in range(5)]
    assert first.keys == (key, mac)
    assert first.sealed == 5
    second = SkCipher(encr, bits, integ, *first.keys)
    second.go_on(first.sealed)
    second.go_on(2)
    sealed += [second.seal(b"p" * 32, b"one") for _ in range(5)]
    assert len({message[32:40] for message in sealed}) == 10
    assert all(second.open(message, 32) == b"one" for message in sealed)
