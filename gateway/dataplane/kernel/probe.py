"""What this kernel can do for either dataplane, found out in a network namespace of its own.

Each capability is tried in a child process that has unshared its network, so the host's own
network is untouched and whatever was made vanishes with the child.
"""

import ctypes
import errno
import json
import os
import socket
import struct
from collections.abc import Callable
from dataclasses import asdict, dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, Final

from gateway.dataplane.kernel.child import InstalledChild
from gateway.dataplane.kernel.mobility import constants, routes, ruleset
from gateway.dataplane.kernel.mobility.devices import Devices, load_fou
from gateway.dataplane.kernel.netlink import (
    NETLINK_NETFILTER,
    NETLINK_ROUTE,
    NETLINK_XFRM,
    NLM_F_CREATE,
    NLM_F_EXCL,
    NetlinkError,
    NetlinkSocket,
    attribute,
    nested,
    request,
)
from gateway.dataplane.kernel.nfqueue import Queue
from gateway.dataplane.kernel.presence import probe as presence
from gateway.dataplane.kernel.xfrm import encode
from gateway.dataplane.kernel.xfrm.constants import (
    MODE_TUNNEL,
    Direction,
    XfrmAttribute,
    XfrmMessage,
)
from gateway.dataplane.mobility import MobilitySettings
from gateway.dataplane.portable import probe as portable_probe
from gateway.domain.child_sa import (
    ChildSa,
    Encryption,
    EspKeys,
    EspSuite,
    Integrity,
    TrafficSelector,
)
from gateway.domain.endpoint import Endpoint

_CLONE_NEWNET = 0x40000000
_CHILD_BOUND_S = 20.0
_TCP_ULP = 31
_UDP_ENCAP = 100


@dataclass(frozen=True, slots=True)
class Capability:
    """One line of ``gateway check``."""

    name: str
    ok: bool
    required: bool
    """Whether the gateway cannot run without it."""
    cost: str
    """What does not work without it."""
    remedy: str
    detail: str = ""
    """The kernel's answer where it refused."""


@dataclass(frozen=True, slots=True)
class _Trial:
    name: str
    required: bool
    cost: str
    remedy: str
    attempt: Callable[[], None]


def _kernel(option: str) -> str:
    return f"use a kernel with {option} (load its module, or rebuild)"


_PLAIN = (IPv4Address("192.0.2.1"), IPv4Address("198.51.100.1"))
_GCM = EspSuite(Encryption.AES_GCM_16, 128, Integrity.NONE, esn=True)
_CBC = EspSuite(Encryption.AES_CBC, 128, Integrity.HMAC_SHA2_256_128, esn=False)
_CHACHA = EspSuite(Encryption.CHACHA20_POLY1305, 256, Integrity.NONE, esn=True)


def _child(suite: EspSuite, *, encapsulated: bool = False) -> InstalledChild:
    salt = 4 if suite.encryption.is_aead else 0
    keys = EspKeys(bytes(suite.key_bits // 8 + salt), bytes(0 if salt else 32))
    local, remote = (Endpoint(address, 4500) for address in _PLAIN)
    return InstalledChild.of(
        ChildSa(
            spi_in=0x1000,
            spi_out=0x2000,
            reqid=1,
            suite=suite,
            keys_in=keys,
            keys_out=keys,
            local=local,
            remote=remote,
            udp_encapsulation=encapsulated,
            local_ts=(TrafficSelector.of_address(local.address),),
            remote_ts=(TrafficSelector.of_address(remote.address),),
        )
    )


def _try_xfrm(*requests: bytes) -> None:
    NetlinkSocket(NETLINK_XFRM).check("xfrm", requests)


def _try_state(suite: EspSuite, *, encapsulated: bool = False) -> None:
    one = _child(suite, encapsulated=encapsulated)
    _try_xfrm(one.inbound_state(), one.delete_inbound())


def try_link(kind: bytes, name: bytes, *data: bytes) -> None:
    """Make an interface. Raises OSError."""
    body = (
        struct.pack("=BxHiII", 0, 0, 0, 0, 0)
        + attribute(3, name + b"\0")
        + nested(18, attribute(1, kind), nested(2, *data))
    )
    NetlinkSocket(NETLINK_ROUTE).check(
        kind.decode(), [request(16, NLM_F_CREATE | NLM_F_EXCL, body)]
    )


XFRM_INTERFACE_DATA: Final = attribute(2, struct.pack("=I", 77))
IPIP_DATA: Final = attribute(19, b"")
"""Says "external": decapsulate whatever has a route."""
GRE_DATA: Final = attribute(18, b"")
"""The same."""


def try_aes_gcm() -> None:
    """Make a state and remove it. Raises OSError, as the next two do."""
    _try_state(_GCM)


def try_aes_cbc() -> None:
    """With HMAC-SHA2."""
    _try_state(_CBC)


def try_chacha20() -> None:
    """With Poly1305."""
    _try_state(_CHACHA)


def _try_fou() -> None:
    load_fou()
    Devices().add_port()


def _try_policy_rules() -> None:
    rule = routes.add_rule(constants.HOME_PRIORITY, constants.HOME_TABLE, constants.HOME)
    NetlinkSocket(NETLINK_ROUTE).check("rule", [rule])


def _try_nft(rules: str) -> None:
    import nftables  # noqa: PLC0415 - missing is one of the answers

    nft: Any = nftables.Nftables()
    code, _, problem = nft.cmd(
        f"table inet probe {{ chain c {{ type filter hook prerouting priority raw; {rules}; }}; }}"
    )
    if code:
        raise OSError(errno.EOPNOTSUPP, str(problem).splitlines()[0] if problem else "refused")


def _try_queue() -> None:
    _try_nft("ip protocol esp queue num 4757")
    Queue(4757, 16).close()


def _try_sets() -> None:
    import nftables  # noqa: PLC0415

    nft: Any = nftables.Nftables()
    code, _, problem = nft.cmd("table inet probe2 { set s { typeof ip saddr . esp spi; }; }")
    if code:
        raise OSError(errno.EOPNOTSUPP, str(problem).splitlines()[0])
    NetlinkSocket(NETLINK_NETFILTER).close()


def try_encapsulation() -> None:
    """ESP in UDP, of the socket and of a state. Raises OSError."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.setsockopt(socket.IPPROTO_UDP, _UDP_ENCAP, 2)
    _try_state(_GCM, encapsulated=True)


def _try_migrate() -> None:
    """Move a state and its policy with XFRM_MSG_MIGRATE, and see that it has moved."""
    one = _child(_GCM)
    xfrm = NetlinkSocket(NETLINK_XFRM)
    selector = one.selectors[0]
    template = encode.Template(_PLAIN[0], _PLAIN[1], one.reqid)
    body = struct.pack("=56sIB3x", selector.octets, 0, Direction.OUT) + attribute(
        XfrmAttribute.MIGRATE,
        struct.pack(
            "=16s16s16s16sBBHIHH",
            encode.packed(_PLAIN[1]),
            encode.packed(_PLAIN[0]),
            encode.packed(IPv4Address("203.0.113.1")),
            encode.packed(_PLAIN[0]),
            50,
            MODE_TUNNEL,
            0,
            one.reqid,
            2,
            2,
        ),
    )
    xfrm.check(
        "migrate",
        [
            one.outbound_state(),
            encode.policy(Direction.OUT, selector, template),
            request(XfrmMessage.MIGRATE, 0, body + attribute(31, struct.pack("=I", 0x47570001))),
            encode.delete_state(IPv4Address("203.0.113.1"), 0x2000),
        ],
    )


def _try_espintcp() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as server:
        Path("/proc/self/net/dev").read_text("ascii")
        server.bind(("127.0.0.1", 0))
        server.listen(1)
        with socket.create_connection(server.getsockname(), timeout=2) as client:
            client.setsockopt(socket.IPPROTO_TCP, _TCP_ULP, b"espintcp")


_TRIALS: Final = (
    _Trial(
        "xfrm",
        True,
        "no IPsec at all",
        _kernel("CONFIG_XFRM_USER"),
        lambda: _try_xfrm(encode.thresholds(0, 32)),
    ),
    _Trial(
        "esp-aes-gcm",
        True,
        "no tunnels with AES-GCM",
        _kernel("CONFIG_INET_ESP and CONFIG_CRYPTO_GCM"),
        try_aes_gcm,
    ),
    _Trial(
        "esp-aes-cbc",
        False,
        "no tunnels with AES-CBC and HMAC-SHA2",
        _kernel("CONFIG_CRYPTO_CBC and CONFIG_CRYPTO_SHA256"),
        try_aes_cbc,
    ),
    _Trial(
        "esp-chacha20",
        False,
        "no tunnels with ChaCha20-Poly1305",
        _kernel("CONFIG_CRYPTO_CHACHA20POLY1305"),
        try_chacha20,
    ),
    _Trial(
        "udp-encapsulation",
        True,
        "no clients behind NAT",
        _kernel("CONFIG_INET_ESP and CONFIG_XFRM"),
        try_encapsulation,
    ),
    _Trial(
        "xfrm-interface",
        True,
        "no tunnels: all of them end on one",
        _kernel("CONFIG_XFRM_INTERFACE"),
        lambda: try_link(b"xfrm", b"probe0", XFRM_INTERFACE_DATA),
    ),
    _Trial(
        "nftables-esp-sets",
        True,
        "no protection against spoofed inner addresses",
        "install libnftables1, and " + _kernel("CONFIG_NF_TABLES_INET"),
        _try_sets,
    ),
    _Trial(
        "nft-queue",
        True,
        "plain ESP does not follow a device to a new address",
        _kernel("CONFIG_NFT_QUEUE and CONFIG_NETFILTER_NETLINK_QUEUE"),
        _try_queue,
    ),
    _Trial(
        "ipip",
        False,
        "no IP-in-IP tunnels of Mobile IPv4",
        _kernel("CONFIG_NET_IPIP"),
        lambda: try_link(b"ipip", b"probe1", IPIP_DATA),
    ),
    _Trial(
        "gre",
        False,
        "no GRE and no UDP tunnels of Mobile IPv4",
        _kernel("CONFIG_NET_IPGRE"),
        lambda: try_link(b"gre", b"probe2", GRE_DATA),
    ),
    _Trial(
        "fou",
        False,
        "no mobile nodes behind NAT",
        _kernel("CONFIG_NET_FOU_IP_TUNNELS"),
        _try_fou,
    ),
    _Trial(
        "policy-rules",
        False,
        "no Mobile IPv4: home addresses have a route table of their own",
        _kernel("CONFIG_IP_MULTIPLE_TABLES"),
        _try_policy_rules,
    ),
    _Trial(
        "nftables-mobility",
        False,
        "no Mobile IPv4: tunnels are opened and addressed by nftables",
        "install libnftables1, and " + _kernel("CONFIG_NF_TABLES_IPV4 and CONFIG_NFT_FIB_IPV4"),
        lambda: ruleset.load(MobilitySettings()),
    ),
    _Trial(
        "xfrm-migrate", False, "nothing yet: SAs are moved without it", "none needed", _try_migrate
    ),
    _Trial(
        "esp-in-tcp",
        False,
        "no clients on networks that block UDP",
        _kernel("CONFIG_INET_ESPINTCP"),
        _try_espintcp,
    ),
)


def probe() -> list[Capability]:
    """Try everything in a child process. Takes some 50 ms; never raises.

    The first line says whether this process may do any of it; if not, nothing else is tried.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _in_child(writer)
    os.close(writer)
    with os.fdopen(reader, "rb") as answers:
        answer = answers.read()
    os.waitpid(child, 0)
    try:
        found = [Capability(**line) for line in json.loads(answer)]
    except (ValueError, TypeError):
        found = []
    return found or [_namespace("the trial ended without an answer")]


def _namespace(problem: str) -> Capability:
    return Capability(
        "net-admin",
        not problem,
        required=True,
        cost="nothing about the kernel could be tried",
        remedy="run the check as root with CAP_SYS_ADMIN: it tries in a namespace of its own",
        detail=problem,
    )


def _in_child(writer: int) -> None:
    """Unshare, try, write the answers as JSON, and end without the parent's cleanup."""
    found: list[Capability] = []
    try:
        found = _try_all()
    finally:
        os.write(writer, json.dumps([asdict(line) for line in found]).encode())
        os._exit(0)


def _try_all() -> list[Capability]:
    libc = ctypes.CDLL(None, use_errno=True)
    allowed = libc.unshare(_CLONE_NEWNET) == 0
    first = _namespace("" if allowed else os.strerror(ctypes.get_errno()))
    if not allowed:
        return [first]
    _loopback_up()
    more = (_Trial(one[0], False, *one[1:]) for one in presence.trials())
    portable = (_Trial(*one) for one in portable_probe.TRIALS)
    return [first, *(_attempt(trial) for trial in (*_TRIALS, *more, *portable))]


def _loopback_up() -> None:
    body = struct.pack("=BxHiII", 0, 0, 1, 1, 1)
    NetlinkSocket(NETLINK_ROUTE).check("loopback", [request(16, 0, body)])


def _attempt(trial: _Trial) -> Capability:
    detail = ""
    try:
        trial.attempt()
    except NetlinkError as error:
        detail = error.strerror or str(error)
    except (OSError, ImportError) as error:
        detail = str(error)
    return Capability(trial.name, not detail, trial.required, trial.cost, trial.remedy, detail)
