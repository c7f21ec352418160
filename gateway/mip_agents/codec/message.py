"""What the messages of port 434 have in common: octets as received, and extensions."""

from collections.abc import Iterable
from typing import TypeVar

from gateway.domain.wire import WireError
from gateway.mip_agents.codec.extensions import Authentication, AuthenticationKind, Extension
from gateway.mip_agents.codec.numbers import MAX_MESSAGE_OCTETS, MessageType

E = TypeVar("E")


class Extended:
    """A message with extensions."""

    __slots__ = ()
    extensions: tuple[Extension, ...]

    def first(self, wanted: type[E], before: Authentication | None = None) -> E | None:
        """The first extension of a type; with ``before``, only what that authenticator covers."""
        for one in self.extensions:
            if one is before:
                return None
            if type(one) is wanted:
                return one
        return None

    def authentications(self, kind: AuthenticationKind) -> tuple[Authentication, ...]:
        """All authentication extensions of a kind; every agent expects at most one of each."""
        return tuple(
            one for one in self.extensions if type(one) is Authentication and one.kind == kind
        )


def check_header(octets: bytes, kind: MessageType, size: int) -> None:
    """Raise :class:`WireError` unless it is that message, and neither too short nor too long."""
    if not octets or octets[0] != kind:
        raise WireError(f"no {_name(kind)}")
    if not size <= len(octets) <= MAX_MESSAGE_OCTETS:
        raise WireError(f"{_name(kind)} of {len(octets)} octets")


def join(header: bytes, extensions: Iterable[Extension]) -> bytes:
    """A message's octets."""
    return header + b"".join([one.serialize() for one in extensions])


def _name(kind: MessageType) -> str:
    return kind.name.lower().replace("_", " ")
