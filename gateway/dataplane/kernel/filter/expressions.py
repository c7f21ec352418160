"""Rules that libnftables has no words for: keys with the value of another map in them.

Expressions of ``linux/netfilter/nf_tables.h``, as netlink attributes. nft 1.0.6 aborts when it has
to print a key that has a map's value in it. So the value takes the second half of a register pair
that was loaded before: ``nft list`` shows those rules with what was there.
"""

import struct
from typing import Final

from gateway.dataplane.kernel.netlink import NLM_F_CREATE, attribute, nested, request
from gateway.dataplane.kernel.nft_elements import NFPROTO_INET

_NEWRULE: Final = 10 << 8 | 6
_NLM_F_APPEND: Final = 0x800
_RULE_TABLE, _RULE_CHAIN, _RULE_EXPRESSIONS = 1, 2, 4
_LIST_ELEM, _NAME, _DATA, _VALUE, _VERDICT = 1, 1, 2, 1, 2
_MARK, _NFPROTO, _L4PROTO = 3, 15, 16
_NETWORK, _TRANSPORT = 1, 2
_GOTO, _ACCEPT = -4, 1
_U32 = struct.Struct("!I")
_I32 = struct.Struct("!i")
FIRST_REGISTER: Final = 8
"""The first of 16 of four octets each."""
_SCRATCH: Final = 23


def _u32(kind: int, value: int) -> bytes:
    return attribute(kind, _U32.pack(value))


def _text(kind: int, value: str) -> bytes:
    return attribute(kind, value.encode() + b"\0")


def _expression(name: str, *fields: bytes) -> bytes:
    return nested(_LIST_ELEM, _text(_NAME, name), nested(_DATA, *fields))


def payload(register: int, base: int, offset: int, size: int) -> bytes:
    """Octets of the packet into a register."""
    fields = _u32(1, register), _u32(2, base), _u32(3, offset), _u32(4, size)
    return _expression("payload", *fields)


def meta(register: int, key: int) -> bytes:
    """Something known of the packet into a register."""
    return _expression("meta", _u32(1, register), _u32(2, key))


def lookup(register: int, name: str, into: int | None = None) -> bytes:
    """Go on only if the set or map has this; the map's value goes ``into`` a register."""
    value = () if into is None else (_u32(3, into),)
    return _expression("lookup", _text(1, name), _u32(2, register), *value)


def family(version: int) -> bytes:
    """Go on only with this IP version."""
    value = nested(3, attribute(_VALUE, bytes((2 if version == 4 else 10,))))
    compare = _expression("cmp", _u32(1, _SCRATCH), _u32(2, 0), value)
    return meta(_SCRATCH, _NFPROTO) + compare


def verdict(chain: str | None) -> bytes:
    """Go to a chain; None: accept."""
    code = attribute(1, _I32.pack(_ACCEPT if chain is None else _GOTO))
    fields = code if chain is None else code + _text(2, chain)
    return _expression("immediate", _u32(1, 0), nested(2, nested(_VERDICT, fields)))


def set_helper(name: str) -> bytes:
    """Attach a ``ct helper`` object to a new connection."""
    return _expression("objref", _u32(1, 3), _text(2, name))


def address(register: int, version: int, *, source: bool, more: int = 0) -> bytes:
    """Source or destination into a register, or four of them, and so many octets behind it."""
    size, first = (4, 12) if version == 4 else (16, 8)
    return payload(register, _NETWORK, first if source else first + size, size + more)


def zeros(register: int, size: int) -> bytes:
    """Zeros into a register, or some of them."""
    value = nested(2, attribute(_VALUE, bytes(size)))
    return _expression("immediate", _u32(1, register), value)


def mark(register: int) -> bytes:
    """The fwmark, in host order."""
    return meta(register, _MARK)


def protocol(register: int) -> bytes:
    """The transport protocol."""
    return meta(register, _L4PROTO)


def port(register: int) -> bytes:
    """Destination port, or what is there in protocols without; stops where there is nothing."""
    return payload(register, _TRANSPORT, 2, 2)


def rule(table: str, chain: str, *expressions: bytes) -> bytes:
    """A request that appends a rule to a chain."""
    body = (
        bytes((NFPROTO_INET, 0, 0, 0))
        + _text(_RULE_TABLE, table)
        + _text(_RULE_CHAIN, chain)
        + nested(_RULE_EXPRESSIONS, *expressions)
    )
    return request(_NEWRULE, NLM_F_CREATE | _NLM_F_APPEND, body)
