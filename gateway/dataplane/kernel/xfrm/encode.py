"""XFRM requests with precompiled layouts: the hot path of every handshake.

Same octets as :mod:`gateway.dataplane.kernel.xfrm.messages`, which declares the family field by
field; a test holds the two together. Native byte order except addresses, ports and SPIs.
"""

import functools
import struct
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address

from gateway.dataplane.kernel.netlink import (
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    attribute,
    request,
)
from gateway.dataplane.kernel.xfrm.constants import (
    IF_ID,
    INFINITE,
    IPPROTO_ESP,
    MODE_TUNNEL,
    POLICY_PRIORITY,
    STATE_AF_UNSPEC,
    STATE_ESN,
    UDP_ENCAP_ESPINUDP,
    Direction,
    SpdAttribute,
    XfrmAttribute,
    XfrmMessage,
)
from gateway.domain.child_sa import Encryption, EspKeys, EspSuite, Integrity
from gateway.domain.endpoint import Endpoint, IpAddress

AF_INET = 2
AF_INET6 = 10

_SELECTOR = struct.Struct("=16s16s4s4sHBBB3xiI")
_LIMITS = struct.Struct("=8Q")
_STATE = struct.Struct("=56s16s4sB3x16s64s44xIIHBBB3x4x")
_STATE_ID = struct.Struct("=16s4sHBx")
_POLICY = struct.Struct("=56s64s32xIIBBBB4x")
_POLICY_ID = struct.Struct("=56sIB3x")
_TEMPLATE = struct.Struct("=16s4sB3xH2x16sIBBBxIII")
_ENCAPSULATION = struct.Struct("=H2s2s2x16s")
_REPLAY_ESN = struct.Struct("=6I")
_REPLAY = struct.Struct("=3I")
_LIFETIME = struct.Struct("=4Q")
_ALGORITHM = struct.Struct("=64sI")
_ALGORITHM_ICV = struct.Struct("=64sII")
_SPI = struct.Struct("!I")
_U32 = struct.Struct("=I")
_MARK = struct.Struct("=II")

_NO_ADDRESS = bytes(16)
ANY_SELECTOR = bytes(56)
NO_LIMITS = _LIMITS.pack(INFINITE, INFINITE, INFINITE, INFINITE, 0, 0, 0, 0)
_IF_ID = attribute(XfrmAttribute.IF_ID, _U32.pack(IF_ID))
_ALL_ALGORITHMS = 0xFFFFFFFF

_AEAD_NAMES = {
    Encryption.AES_GCM_16: b"rfc4106(gcm(aes))",
    Encryption.CHACHA20_POLY1305: b"rfc7539esp(chacha20,poly1305)",
}
_INTEGRITY_NAMES = {
    Integrity.HMAC_SHA2_256_128: (b"hmac(sha256)", 128),
    Integrity.HMAC_SHA2_384_192: (b"hmac(sha384)", 192),
    Integrity.HMAC_SHA2_512_256: (b"hmac(sha512)", 256),
}


def family(address: IpAddress) -> int:
    """The address family number."""
    return AF_INET if address.version == 4 else AF_INET6


def packed(address: IpAddress) -> bytes:
    """An address as ``xfrm_address_t``: 16 octets, IPv4 in the first four."""
    return address.packed + bytes(12) if address.version == 4 else address.packed


@dataclass(frozen=True, slots=True)
class ReplayState:
    """Sequence numbers of one direction, as the kernel keeps them (RFC 4303 section 3.4.3)."""

    sent: int = 0
    """The 64-bit number of the last packet sent; 32-bit without ESN."""
    received: int = 0
    """The highest number received."""
    bitmap: bytes = b""
    """The kernel's window, in its own words; empty when nothing was received."""


@functools.lru_cache(maxsize=64)
def limits(
    soft_bytes: int | None,
    hard_bytes: int | None,
    soft_packets: int | None,
    hard_packets: int | None,
) -> bytes:
    """``xfrm_lifetime_cfg`` of these limits; None is no limit."""
    given = (soft_bytes, hard_bytes, soft_packets, hard_packets)
    return _LIMITS.pack(*(INFINITE if value is None else value for value in given), 0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Consumed:
    """What an SA has carried: ``xfrm_lifetime_cur``."""

    octets: int
    packets: int
    added_at: int
    used_at: int


@dataclass(frozen=True, slots=True, eq=False)
class Selector:
    """``xfrm_selector``: prefixes, protocol, and ports with masks.

    Packed once, for it is used several times and a key of tables.
    """

    source: IpAddress
    source_prefix: int
    destination: IpAddress
    destination_prefix: int
    protocol: int = 0
    source_port: int = 0
    source_port_mask: int = 0
    destination_port: int = 0
    destination_port_mask: int = 0
    octets: bytes = field(init=False, repr=False)
    """In the kernel's layout."""

    def __post_init__(self) -> None:
        octets = _SELECTOR.pack(
            packed(self.destination),
            packed(self.source),
            (self.destination_port << 16 | self.destination_port_mask).to_bytes(4, "big"),
            (self.source_port << 16 | self.source_port_mask).to_bytes(4, "big"),
            family(self.source),
            self.destination_prefix,
            self.source_prefix,
            self.protocol,
            0,
            0,
        )
        object.__setattr__(self, "octets", octets)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Selector) and self.octets == other.octets

    def __hash__(self) -> int:
        return hash(self.octets)

    def reversed(self) -> "Selector":
        """The same flow seen from the other end."""
        return Selector(
            self.destination,
            self.destination_prefix,
            self.source,
            self.source_prefix,
            self.protocol,
            self.destination_port,
            self.destination_port_mask,
            self.source_port,
            self.source_port_mask,
        )


def any_selector(version: int) -> Selector:
    """Everything of one IP version."""
    address: IpAddress = IPv4Address(0) if version == 4 else IPv6Address(0)
    return Selector(address, 0, address, 0)


def algorithms(suite: EspSuite, keys: EspKeys) -> bytes:
    """The algorithm attributes of a state."""
    if suite.encryption.is_aead:
        name = _AEAD_NAMES[suite.encryption]
        key = keys.encryption
        return attribute(XfrmAttribute.ALG_AEAD, _ALGORITHM_ICV.pack(name, len(key) * 8, 128) + key)
    name, truncated = _INTEGRITY_NAMES[suite.integrity]
    return attribute(
        XfrmAttribute.ALG_AUTH_TRUNC,
        _ALGORITHM_ICV.pack(name, len(keys.integrity) * 8, truncated) + keys.integrity,
    ) + attribute(
        XfrmAttribute.ALG_CRYPT,
        _ALGORITHM.pack(b"cbc(aes)", len(keys.encryption) * 8) + keys.encryption,
    )


def _replay(esn: bool, window: int, state: ReplayState | None) -> bytes:
    """Replay attributes; ``window`` 0 is an outbound SA without ESN, which has none."""
    if not window:
        if state is None:
            return b""
        return attribute(XfrmAttribute.REPLAY_VAL, _REPLAY.pack(state.sent & 0xFFFFFFFF, 0, 0))
    words = (window + 31) // 32
    sent = received = 0
    bitmap = b""
    if state is not None:
        sent, received, bitmap = state.sent, state.received, state.bitmap
    if len(bitmap) != 4 * words:
        bitmap = bytes(4 * words)
    fixed = _REPLAY_ESN.pack(
        words,
        sent & 0xFFFFFFFF,
        received & 0xFFFFFFFF,
        sent >> 32 if esn else 0,
        received >> 32 if esn else 0,
        window,
    )
    return attribute(XfrmAttribute.REPLAY_ESN_VAL, fixed + bitmap)


def state(
    *,
    source: Endpoint,
    destination: Endpoint,
    spi: int,
    reqid: int,
    suite: EspSuite,
    keys: EspKeys,
    udp_encapsulation: bool,
    mode: int = MODE_TUNNEL,
    selector: Selector | None = None,
    replay_window: int = 0,
    lifetime: bytes = NO_LIMITS,
    if_id: bool = True,
    replay: ReplayState | None = None,
    consumed: Consumed | None = None,
    update: bool = False,
    output_mark: int | None = None,
) -> bytes:
    """NEWSA, or with ``update`` UPDSA.

    ``replay_window`` 0 means outbound; with ESN the kernel wants a window there too. ``replay``
    and ``consumed`` carry over what an SA that is being moved had. ``output_mark`` becomes the
    fwmark of what comes out of it, whatever it was before; 0 too.
    """
    flags = STATE_ESN if suite.esn else 0
    if selector is None and mode == MODE_TUNNEL:
        flags |= STATE_AF_UNSPEC
    if suite.esn and not replay_window:
        replay_window = 32
    parts = [
        _STATE.pack(
            ANY_SELECTOR if selector is None else selector.octets,
            packed(destination.address),
            _SPI.pack(spi),
            IPPROTO_ESP,
            packed(source.address),
            lifetime,
            0,
            reqid,
            family(destination.address),
            mode,
            0,
            flags,
        ),
        algorithms(suite, keys),
        _replay(suite.esn, replay_window, replay),
    ]
    if udp_encapsulation:
        parts.append(
            attribute(
                XfrmAttribute.ENCAP,
                _ENCAPSULATION.pack(
                    UDP_ENCAP_ESPINUDP,
                    source.port.to_bytes(2, "big"),
                    destination.port.to_bytes(2, "big"),
                    _NO_ADDRESS,
                ),
            )
        )
    if consumed is not None:
        parts.append(
            attribute(
                XfrmAttribute.LTIME_VAL,
                _LIFETIME.pack(
                    consumed.octets, consumed.packets, consumed.added_at, consumed.used_at
                ),
            )
        )
    if if_id:
        parts.append(_IF_ID)
    if output_mark is not None:
        parts.append(attribute(XfrmAttribute.SET_MARK, struct.pack("=I", output_mark)))
        parts.append(attribute(XfrmAttribute.SET_MARK_MASK, struct.pack("=I", 0xFFFFFFFF)))
    kind = XfrmMessage.UPDSA if update else XfrmMessage.NEWSA
    return request(kind, NLM_F_CREATE | (NLM_F_REPLACE if update else NLM_F_EXCL), b"".join(parts))


def state_id(destination: IpAddress, spi: int) -> bytes:
    """``xfrm_usersa_id`` of an ESP state."""
    return _STATE_ID.pack(packed(destination), _SPI.pack(spi), family(destination), IPPROTO_ESP)


def delete_state(destination: IpAddress, spi: int) -> bytes:
    """DELSA."""
    return request(XfrmMessage.DELSA, 0, state_id(destination, spi))


def get_state(destination: IpAddress, spi: int) -> bytes:
    """GETSA."""
    return request(XfrmMessage.GETSA, 0, state_id(destination, spi))


@dataclass(frozen=True, slots=True)
class Template:
    """The protection a policy asks for. None and 0 match anything inbound."""

    source: IpAddress | None
    destination: IpAddress | None
    reqid: int
    mode: int = MODE_TUNNEL
    version: int = 4

    def packed(self) -> bytes:
        """As ``xfrm_user_tmpl``."""
        outer = self.destination
        return _TEMPLATE.pack(
            _NO_ADDRESS if outer is None else packed(outer),
            bytes(4),
            IPPROTO_ESP,
            (AF_INET if self.version == 4 else AF_INET6) if outer is None else family(outer),
            _NO_ADDRESS if self.source is None else packed(self.source),
            self.reqid,
            self.mode,
            0,
            0,
            _ALL_ALGORITHMS,
            _ALL_ALGORITHMS,
            _ALL_ALGORITHMS,
        )


def _mark(mark: int) -> bytes:
    return attribute(XfrmAttribute.MARK, _MARK.pack(mark, 0xFFFFFFFF)) if mark else b""


def policy(
    direction: Direction,
    selector: Selector,
    template: Template,
    *,
    priority: int = POLICY_PRIORITY,
    if_id: bool = True,
    mark: int = 0,
) -> bytes:
    """UPDPOLICY: adds the policy or replaces the one with this selector, priority and if_id.

    With ``mark`` only packets with this fwmark match, and it is another policy than without.
    """
    body = _POLICY.pack(selector.octets, NO_LIMITS, priority, 0, direction, 0, 0, 0)
    body += attribute(XfrmAttribute.TMPL, template.packed()) + _mark(mark)
    return request(
        XfrmMessage.UPDPOLICY, NLM_F_CREATE | NLM_F_REPLACE, body + _IF_ID if if_id else body
    )


def delete_policy(
    direction: Direction, selector: Selector, *, if_id: bool = True, mark: int = 0
) -> bytes:
    """DELPOLICY by selector."""
    body = _POLICY_ID.pack(selector.octets, 0, direction) + _mark(mark)
    return request(XfrmMessage.DELPOLICY, 0, body + _IF_ID if if_id else body)


def delete_policy_index(direction: int, index: int, if_id: int, mark: int = 0) -> bytes:
    """DELPOLICY by the index of a dump."""
    body = _POLICY_ID.pack(ANY_SELECTOR, index, direction) + _mark(mark)
    if if_id:
        body += attribute(XfrmAttribute.IF_ID, _U32.pack(if_id))
    return request(XfrmMessage.DELPOLICY, 0, body)


def thresholds(local_bits: int, remote_bits: int, *, version: int = 4) -> bytes:
    """NEWSPDINFO: policies at least this specific on both sides are hashed exactly."""
    kind = SpdAttribute.IPV4_HTHRESH if version == 4 else SpdAttribute.IPV6_HTHRESH
    return request(
        XfrmMessage.NEWSPDINFO,
        0,
        _U32.pack(0) + attribute(kind, bytes((local_bits, remote_bits))),
    )


def get_thresholds() -> bytes:
    """GETSPDINFO: answered with a NEWSPDINFO that has the thresholds."""
    return request(XfrmMessage.GETSPDINFO, 0, _U32.pack(0))
