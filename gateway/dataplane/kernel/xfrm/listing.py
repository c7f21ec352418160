"""What a dump says of states and policies that another process made, keys included.

The kernel shows keys to CAP_NET_ADMIN; locked down for confidentiality it shows zeros instead.
"""

import struct
from dataclasses import dataclass, field
from typing import Final

from gateway.dataplane.kernel.netlink import attributes
from gateway.dataplane.kernel.xfrm import decode, encode
from gateway.dataplane.kernel.xfrm.constants import (
    MODE_TRANSPORT,
    MODE_TUNNEL,
    STATE_ESN,
    UDP_ENCAP_ESPINUDP,
    Direction,
    XfrmAttribute,
)
from gateway.domain.child_sa import ChildSa, EspKeys, EspSuite, Mode

_MODE_AND_FLAGS = struct.Struct("=214xBxB")
_ENCAPSULATION = struct.Struct("=H2s2s")
_KEY_AFTER_ICV: Final = 72
_KEY: Final = 68
_SALT_BITS: Final = 32
_SELECTOR_OCTETS: Final = 56


@dataclass(frozen=True, slots=True)
class KeyedState:
    """A state with its keys."""

    state: decode.State
    mode: int
    esn: bool
    ports: tuple[int, int] | None
    """Source and destination port of ESP in UDP, None for plain ESP."""
    algorithms: dict[int, bytes] = field(repr=False)

    def keys(self, suite: EspSuite) -> EspKeys | None:
        """The keys; None when the state has other algorithms than ``suite``."""
        found = self.algorithms
        if suite.encryption.is_aead:
            keys = EspKeys(found.get(XfrmAttribute.ALG_AEAD, b"")[_KEY_AFTER_ICV:])
            salt_bits = _SALT_BITS
        else:
            keys = EspKeys(
                found.get(XfrmAttribute.ALG_CRYPT, b"")[_KEY:],
                found.get(XfrmAttribute.ALG_AUTH_TRUNC, b"")[_KEY_AFTER_ICV:],
            )
            salt_bits = 0
        if len(keys.encryption) * 8 != suite.key_bits + salt_bits or self.esn != suite.esn:
            return None
        wanted = attributes(encode.algorithms(suite, keys), 0)
        same = all(found.get(kind) == value for kind, value in wanted.items())
        return keys if same else None

    def serves(self, sa: ChildSa) -> bool:
        """Whether its mode is that of ``sa``."""
        return self.mode == (MODE_TUNNEL if sa.mode is Mode.TUNNEL else MODE_TRANSPORT)


def hidden(keys: EspKeys) -> bool:
    """Whether the kernel has shown zeros instead."""
    return not any(keys.encryption) and not any(keys.integrity)


def keyed_state(body: bytes) -> KeyedState | None:
    """A NEWSA body; None when it is too short."""
    state = decode.state(body)
    if state is None:
        return None
    mode, flags = _MODE_AND_FLAGS.unpack_from(body)
    found = attributes(body, decode.STATE_SIZE)
    wanted = (XfrmAttribute.ALG_AEAD, XfrmAttribute.ALG_CRYPT, XfrmAttribute.ALG_AUTH_TRUNC)
    return KeyedState(
        state,
        mode,
        flags & STATE_ESN != 0,
        _ports(found.get(XfrmAttribute.ENCAP, b"")),
        {int(kind): found[kind] for kind in wanted if kind in found},
    )


def _ports(encapsulation: bytes) -> tuple[int, int] | None:
    if len(encapsulation) < _ENCAPSULATION.size:
        return None
    kind, source, destination = _ENCAPSULATION.unpack_from(encapsulation)
    if kind != UDP_ENCAP_ESPINUDP:
        return None
    return int.from_bytes(source, "big"), int.from_bytes(destination, "big")


PolicyKey = tuple[int, bytes, int, int]
"""Direction, selector in the kernel's layout, interface identifier, fwmark."""


@dataclass(frozen=True, slots=True)
class KeyedPolicy:
    """A policy, and what it asks for."""

    policy: decode.Policy
    selector: bytes
    template: bytes

    @property
    def key(self) -> PolicyKey:
        """What no two policies of one priority share."""
        policy = self.policy
        return policy.direction, self.selector, policy.if_id, policy.mark


def keyed_policy(body: bytes) -> KeyedPolicy | None:
    """A NEWPOLICY body; None when it is too short, or a socket's."""
    policy = decode.policy(body)
    if policy is None or policy.direction not in tuple(Direction):
        return None
    found = attributes(body, decode.POLICY_SIZE)
    template = found.get(XfrmAttribute.TMPL, b"")
    return KeyedPolicy(policy, body[:_SELECTOR_OCTETS], template)
