"""Who asks for an operation."""

from dataclasses import dataclass

from gateway.control.operation import Role


@dataclass(frozen=True, slots=True)
class Actor:
    """Whose request it is, for authorization and the audit."""

    name: str
    """``uid 0`` of who opens the control socket; ``token NAME`` or ``admin NAME`` of who comes by
    the REST interface; ``nobody`` of who showed nothing."""
    role: Role
    remote: str = "local"
    """The address that a request of the REST interface came from."""
    credential: str = ""
    """What it was recognised by: the id of a token, the hash of a session; never a secret."""
    also: frozenset[str] = frozenset()
    """Operations that it may ask for though they are above its role."""


NOBODY = Actor("nobody", Role.NOBODY)


def local(uid: int, role: Role) -> Actor:
    """Who opened the control socket."""
    return Actor(f"uid {uid}", role)
