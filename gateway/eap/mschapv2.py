"""EAP-MSCHAPv2 (draft-kamath-pppext-eap-mschapv2-02, RFC 2759): both sides."""

import enum
import hmac
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

from gateway.domain.user_auth import LocalUser
from gateway.domain.wire import Reader, WireError
from gateway.eap.method import EapMethod, Progress, Stage
from gateway.eap.mschapv2_crypto import (
    CHALLENGE_OCTETS,
    NT_HASH_OCTETS,
    NT_RESPONSE_OCTETS,
    Proof,
    nt_password_hash,
    prove,
    without_domain,
)
from gateway.eap.packet import user_text

FindUser = Callable[[str], LocalUser | None]
"""Looks a user of the local user base up by name."""

MAX_NAME_OCTETS = 256
"""RFC 2759 section 4."""

_HEADER = struct.Struct("!BBH")
_HEADER_OCTETS = 4
_RESERVED_OCTETS = 8
_RESPONSE_OCTETS = CHALLENGE_OCTETS + _RESERVED_OCTETS + NT_RESPONSE_OCTETS + 1
_AUTHENTICATOR = re.compile(rb"S=([0-9A-Fa-f]{40})(?![0-9A-Fa-f])")
_ERROR = re.compile(rb"(?:^|[\s\0])E=([0-9]{1,10})")
_AUTHENTICATION_FAILURE = 691
_ERRORS = {
    646: "the user may not log in at this hour",
    647: "the account is disabled",
    648: "the password has expired",
    649: "the user may not dial in",
    _AUTHENTICATION_FAILURE: "wrong user name or password",
    709: "the password could not be changed",
}


class _OpCode(enum.IntEnum):
    CHALLENGE = 1
    RESPONSE = 2
    SUCCESS = 3
    FAILURE = 4
    CHANGE_PASSWORD = 7


@dataclass(frozen=True, slots=True)
class _Response:
    """The peer's proof."""

    peer_challenge: bytes
    nt_response: bytes = field(repr=False)
    name: bytes

    @classmethod
    def decode(cls, reader: Reader, octets: int) -> "_Response":
        """Read what follows the op-code, in type data of so many octets."""
        reader.u8()  # MS-CHAPv2-ID: the identifier of EAP ties the response to its request
        if reader.u16() != octets:
            raise WireError("an MS-Length that is not the length")
        if reader.u8() != _RESPONSE_OCTETS:
            raise WireError(f"a response value that is not of {_RESPONSE_OCTETS} octets")
        peer_challenge = reader.take(CHALLENGE_OCTETS)
        reader.take(_RESERVED_OCTETS)
        nt_response = reader.take(NT_RESPONSE_OCTETS)
        reader.u8()  # flags
        if reader.remaining > MAX_NAME_OCTETS:
            raise WireError(f"a name of {reader.remaining} octets")
        return cls(peer_challenge, nt_response, reader.rest())


def _message(op_code: _OpCode, identifier: int, body: bytes) -> bytes:
    return _HEADER.pack(op_code, identifier, _HEADER_OCTETS + len(body)) + body


class _Await(enum.Enum):
    CHALLENGE = "challenge"
    RESPONSE = "response"
    VERDICT = "verdict"
    SUCCESS = "success"
    FAILURE = "failure"
    END = "end"


class Mschapv2Server:
    """Proves that the peer knows the password of a local user, and proves that we do."""

    __slots__ = ("_await", "_challenge", "_find_user", "_identifier", "_known", "_name", "_random")

    method = EapMethod.MSCHAPV2

    def __init__(self, find_user: FindUser, random: Callable[[int], bytes], name: bytes) -> None:
        self._find_user = find_user
        self._random = random
        self._name = name
        self._challenge = b""
        self._identifier = 0
        self._await = _Await.RESPONSE
        self._known = Progress(Stage.FAILED)

    def begin(self, identifier: int) -> bytes:
        """The challenge."""
        self._identifier = identifier
        self._challenge = self._random(CHALLENGE_OCTETS)
        body = bytes((CHALLENGE_OCTETS,)) + self._challenge + self._name
        return _message(_OpCode.CHALLENGE, identifier, body)

    def receive(self, data: bytes) -> Progress:
        """Check the response first, then take the peer's agreement to our own proof."""
        reader = Reader(data)
        op_code = reader.u8()
        state, self._await = self._await, _Await.END
        if state is _Await.RESPONSE and op_code == _OpCode.RESPONSE:
            return self._check(_Response.decode(reader, len(data)))
        if state is _Await.SUCCESS and op_code == _OpCode.SUCCESS:
            return self._known
        if state is _Await.FAILURE:
            return self._known
        if op_code == _OpCode.FAILURE and state is _Await.SUCCESS:
            raise WireError("the peer refused our own proof: its password is another one")
        raise WireError(f"MSCHAPv2 op-code {op_code} out of turn")

    def _check(self, response: _Response) -> Progress:
        user, reason, remedy = self._look_up(response.name)
        # An unknown user costs as much as a wrong password: the same computation with some hash.
        nt_hash = self._random(NT_HASH_OCTETS)
        if user is not None and user.nt_hash is not None:
            nt_hash = user.nt_hash
        proof = prove(nt_hash, self._challenge, response.peer_challenge, response.name)
        proven = hmac.compare_digest(proof.nt_response, response.nt_response)
        if user is None or user.nt_hash is None or not proven:
            if not reason:
                reason = "wrong password"
                remedy = "Give the user the right password, or set a new one."
            title = user_text(response.name) or "a user without a readable name"
            return self._refuse(title, reason, remedy)
        self._await = _Await.SUCCESS
        self._known = Progress(Stage.DONE, user=user.name, msk=proof.msk)
        body = b"S=" + proof.authenticator_response.hex().upper().encode() + b" M=OK"
        return Progress(
            Stage.GOING, _message(_OpCode.SUCCESS, self._identifier, body), user=user.name
        )

    def _look_up(self, name: bytes) -> tuple[LocalUser | None, str, str]:
        """The user, and why there is none that can log in with this method."""
        text = user_text(name)
        if not text:
            return None, "the user name is not readable text", "Enter the user name again."
        user = self._find_user(text)
        bare = without_domain(name).decode()
        if user is None and bare and bare != text:
            user = self._find_user(bare)
        if user is None:
            return None, "no such user", "Add the user, or correct the name on the device."
        if user.nt_hash is None or len(user.nt_hash) != NT_HASH_OCTETS:
            return (
                None,
                "the password is stored one-way, which EAP-MSCHAPv2 cannot use",
                "Set the user's password again for use with EAP-MSCHAPv2, or offer EAP-GTC.",
            )
        return user, "", ""

    def _refuse(self, title: str, reason: str, remedy: str) -> Progress:
        """Tell the peer no more than that it failed (RFC 2759 section 6), then end."""
        self._await = _Await.FAILURE
        self._known = Progress(Stage.FAILED, user=title, reason=reason, remedy=remedy)
        again = self._random(CHALLENGE_OCTETS).hex().upper().encode()
        body = b"E=%d R=0 C=%s V=3 M=Authentication failed" % (_AUTHENTICATION_FAILURE, again)
        return Progress(
            Stage.GOING,
            _message(_OpCode.FAILURE, self._identifier, body),
            user=title,
            reason=reason,
            remedy=remedy,
        )


class Mschapv2Peer:
    """Proves that we know the password, and demands the same of the server."""

    __slots__ = ("_await", "_name", "_nt_hash", "_proof", "_random", "_verdict")

    method = EapMethod.MSCHAPV2

    def __init__(self, name: str, password: bytes, random: Callable[[int], bytes]) -> None:
        """Raises :class:`ValueError` if the password is not UTF-8."""
        self._name = name.encode()
        self._nt_hash = nt_password_hash(password.decode())
        self._random = random
        self._await = _Await.CHALLENGE
        self._proof: Proof | None = None
        self._verdict = Progress(Stage.FAILED)

    def receive(self, data: bytes) -> Progress:
        """Answer the challenge, then check the server's own proof."""
        reader = Reader(data)
        op_code = reader.u8()
        state, self._await = self._await, _Await.END
        if state is _Await.CHALLENGE and op_code == _OpCode.CHALLENGE:
            return self._answer(reader)
        if state is _Await.VERDICT and op_code == _OpCode.SUCCESS:
            return self._verify(reader)
        if state is _Await.VERDICT and op_code == _OpCode.FAILURE:
            return self._give_up(reader)
        raise WireError(f"MSCHAPv2 op-code {op_code} out of turn")

    def _answer(self, reader: Reader) -> Progress:
        identifier = reader.u8()
        reader.u16()  # MS-Length; some servers get it wrong, and EAP has the length already
        if reader.u8() != CHALLENGE_OCTETS:
            raise WireError(f"a challenge that is not of {CHALLENGE_OCTETS} octets")
        challenge = reader.take(CHALLENGE_OCTETS)
        own = self._random(CHALLENGE_OCTETS)
        self._proof = prove(self._nt_hash, challenge, own, self._name)
        self._await = _Await.VERDICT
        body = b"".join(
            (
                bytes((_RESPONSE_OCTETS,)),
                own,
                bytes(_RESERVED_OCTETS),
                self._proof.nt_response,
                b"\0",
                self._name,
            )
        )
        return Progress(Stage.GOING, _message(_OpCode.RESPONSE, identifier, body))

    def _verify(self, reader: Reader) -> Progress:
        reader.take(_HEADER_OCTETS - 1)
        told = _AUTHENTICATOR.match(reader.rest())
        if told is None or self._proof is None:
            raise WireError("a success without the server's proof")
        expected = self._proof.authenticator_response
        if not hmac.compare_digest(bytes.fromhex(told[1].decode()), expected):
            return Progress(
                Stage.FAILED,
                reason="the server does not know the user's password",
                remedy="Check the server's address: this may not be the server it claims to be.",
            )
        return Progress(Stage.DONE, bytes((_OpCode.SUCCESS,)), msk=self._proof.msk)

    def _give_up(self, reader: Reader) -> Progress:
        reader.take(_HEADER_OCTETS - 1)
        told = _ERROR.search(reader.rest())
        error = int(told[1]) if told else 0
        words = _ERRORS.get(error, "it gave no reason")
        return Progress(
            Stage.GOING,
            bytes((_OpCode.FAILURE,)),
            reason=f"the server refused the login (error {error}): {words}",
            remedy="Check the user name and the password.",
        )
