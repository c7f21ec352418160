"""What an EAP method is to a conversation: the words the methods and both sides share."""

import enum
from dataclasses import dataclass, field
from typing import Protocol

MSK_OCTETS = 64
"""RFC 3748 section 7.10: at least; all of ours make exactly so many."""


class EapMethod(enum.Enum):
    """The methods this gateway speaks; the value is the type number."""

    GTC = 6
    TLS = 13
    MSCHAPV2 = 26

    @property
    def makes_msk(self) -> bool:
        """Whether an MSK must exist at the end."""
        return self is not EapMethod.GTC


class Stage(enum.Enum):
    """Where a method is after a message."""

    GOING = "going"
    ASKING = "asking"
    """Somebody has to be asked about a password first."""
    DONE = "done"
    """The method's own success state: the only one from which EAP-Success can come."""
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Progress:
    """What a method made of a message."""

    stage: Stage
    data: bytes | None = field(default=None, repr=False)
    """The type data to send next; None to send nothing of the method's own."""
    user: str = ""
    """Who the method has proven the user to be, or is about to."""
    password: bytes = field(default=b"", repr=False)
    msk: bytes = field(default=b"", repr=False)
    certificate: bytes = field(default=b"", repr=False)
    reason: str = ""
    """Why it fails, or will fail after the last messages; in an administrator's words."""
    remedy: str = ""


class ServerMethod(Protocol):
    """The authenticator's side of a method."""

    method: EapMethod

    def begin(self, identifier: int) -> bytes:
        """The type data of the first request, which will carry the identifier."""

    def receive(self, data: bytes) -> Progress:
        """Take the type data of a response. Raises :class:`WireError`: the method failed."""


class PeerMethod(Protocol):
    """The client's side of a method."""

    method: EapMethod

    def receive(self, data: bytes) -> Progress:
        """Take the type data of a request. Raises :class:`WireError`: the method failed."""
