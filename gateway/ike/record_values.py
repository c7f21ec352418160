"""How the values of an IKE SA's record are written, and read back with every bound checked.

A record is JSON, and its values are what JSON has: an IPv4 address is its number, an IPv6 address
32 hexadecimal digits, octets are base64, an endpoint is ``[address, port]``, a path
``[local, port, remote, port]``. Readers raise ValueError, TypeError, KeyError or IndexError for
what cannot be; :data:`UNREADABLE` is all of them.
"""

import math
from binascii import a2b_base64, b2a_base64
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any

from gateway.domain.child_sa import Encryption, EspSuite, Integrity, IpNetwork, TrafficSelector
from gateway.domain.endpoint import Endpoint, IpAddress, Path
from gateway.ike.auth.identity import MAX_OCTETS, Identity
from gateway.ike.crypto.suites import IkeSuite
from gateway.ike.registry import DhGroup, EncrId, IntegId, PrfId

Json = Any
Record = dict[str, Json]
"""A JSON object that is being written."""

UNREADABLE = (
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    OverflowError,
    RecursionError,
)
"""What reading a broken record raises."""
MAX_ITEMS = 128
"""Of any list in a record."""
MAX_TEXT = 1024
MAX_RECORD_OCTETS = 64 * 1024
MAX_TIME_S = 1e12
"""Of a clock that began with the host."""


# -- writing --------------------------------------------------------------------------------


def octets(value: bytes) -> str:
    """Octets."""
    return b2a_base64(value, newline=False).decode("ascii")


def address(value: IpAddress) -> Json:
    """An address."""
    return int(value) if value.version == 4 else value.packed.hex()


def maybe_address(value: IpAddress | None) -> Json:
    """An address or None."""
    return None if value is None else address(value)


def network(value: IpNetwork) -> Json:
    """A network."""
    return [address(value.network_address), value.prefixlen]


def endpoint(value: Endpoint) -> Json:
    """An endpoint."""
    return [address(value.address), value.port]


def path(value: Path) -> Json:
    """Both ends."""
    local, remote = value.local, value.remote
    return [address(local.address), local.port, address(remote.address), remote.port]


def selector(value: TrafficSelector) -> Json:
    """A traffic selector."""
    return [
        address(value.start),
        address(value.end),
        value.protocol,
        value.start_port,
        value.end_port,
    ]


def identity(value: Identity | None) -> Json:
    """An identity or None."""
    return None if value is None else [int(value.type), octets(value.data)]


def esp_suite(value: EspSuite) -> Json:
    """A suite of ESP."""
    return [value.encryption.value, value.key_bits, value.integrity.value, value.esn]


def ike_suite(value: IkeSuite | None) -> Json:
    """A suite of IKE. Raises ValueError without one."""
    if value is None:
        raise ValueError("no suite")
    return [
        int(value.encr),
        value.key_bits,
        int(value.integ),
        int(value.prf),
        int(value.group),
        [int(group) for group in value.additional],
    ]


# -- reading --------------------------------------------------------------------------------


def number(value: Json, low: int, high: int) -> int:
    """A whole number from ``low`` to ``high``."""
    if type(value) is not int or not low <= value <= high:
        raise ValueError(f"a number from {low} to {high} is needed")
    return value


def time(value: Json) -> float:
    """A time of the host's clock."""
    if type(value) not in (int, float) or not math.isfinite(value) or abs(value) > MAX_TIME_S:
        raise ValueError("a time is needed")
    return float(value)


def text(value: Json, most: int = MAX_TEXT) -> str:
    """A text of at most ``most`` characters."""
    if type(value) is not str or len(value) > most:
        raise ValueError(f"a text of at most {most} characters is needed")
    return value


def flag(value: Json) -> bool:
    """A truth value."""
    if type(value) is not bool:
        raise ValueError("true or false is needed")
    return value


def items(value: Json, most: int = MAX_ITEMS) -> list[Json]:
    """A list of at most ``most`` items."""
    if type(value) is not list or len(value) > most:
        raise ValueError(f"a list of at most {most} items is needed")
    return value


def fields(value: Json) -> Record:
    """A JSON object."""
    if type(value) is not dict:
        raise ValueError("an object is needed")
    return value


def read_octets(value: Json, low: int = 0, high: int = MAX_RECORD_OCTETS) -> bytes:
    """Octets, from ``low`` to ``high`` of them."""
    if type(value) is not str:
        raise ValueError("octets are needed")
    found = a2b_base64(value)
    if not low <= len(found) <= high:
        raise ValueError(f"{low} to {high} octets are needed")
    return found


def read_address(value: Json) -> IpAddress:
    """An address."""
    if type(value) is int:
        return IPv4Address(value)
    if type(value) is str and len(value) == 32:
        return IPv6Address(bytes.fromhex(value))
    raise ValueError("an address is needed")


def read_maybe_address(value: Json) -> IpAddress | None:
    """An address or None."""
    return None if value is None else read_address(value)


def read_v4(value: Json) -> IPv4Address:
    """An IPv4 address."""
    if type(value) is not int:
        raise ValueError("an IPv4 address is needed")
    return IPv4Address(value)


def read_network(value: Json) -> IpNetwork:
    """A network."""
    base, length = items(value, 2)
    found = read_address(base)
    if found.version == 4:
        return IPv4Network((int(found), number(length, 0, 32)))
    return IPv6Network((int(found), number(length, 0, 128)))


def _port(value: Json) -> int:
    return number(value, 0, 65535)


def read_endpoint(value: Json) -> Endpoint:
    """An endpoint."""
    where, port = items(value, 2)
    return Endpoint(read_address(where), _port(port))


@lru_cache(maxsize=64)
def _own_end(where: int | str, port: int) -> Endpoint:
    return Endpoint(read_address(where), port)


def read_path(value: Json) -> Path:
    """Both ends. Our own are few and shared."""
    local, local_port, remote, remote_port = items(value, 4)
    if type(local) not in (int, str):
        raise ValueError("an address is needed")
    return Path(
        _own_end(local, _port(local_port)), Endpoint(read_address(remote), _port(remote_port))
    )


def read_selector(value: Json) -> TrafficSelector:
    """A traffic selector."""
    start, end, protocol, start_port, end_port = items(value, 5)
    found = TrafficSelector(
        read_address(start),
        read_address(end),
        number(protocol, 0, 255),
        _port(start_port),
        _port(end_port),
    )
    if found.start.version != found.end.version or int(found.start) > int(found.end):
        raise ValueError("a range of addresses is needed")
    return found


def read_selectors(value: Json) -> tuple[TrafficSelector, ...]:
    """Traffic selectors."""
    return tuple(map(read_selector, items(value, 256)))


def read_identity(value: Json) -> Identity | None:
    """An identity or None."""
    if value is None:
        return None
    kind, data = items(value, 2)
    return Identity(number(kind, 0, 255), read_octets(data, 0, 4 * MAX_OCTETS))


@lru_cache(maxsize=64)
def _esp_suite(encryption: str, key_bits: int, integrity: str, esn: bool) -> EspSuite:
    return EspSuite(
        Encryption(encryption), number(key_bits, 0, 512), Integrity(integrity), flag(esn)
    )


def read_esp_suite(value: Json) -> EspSuite:
    """A suite of ESP."""
    return _esp_suite(*items(value, 4))


@lru_cache(maxsize=64)
def _ike_suite(  # noqa: PLR0917 - in the order of the record
    encr: int, key_bits: int | None, integ: int, prf: int, group: int, additional: tuple[int, ...]
) -> IkeSuite:
    return IkeSuite(
        EncrId(encr),
        None if key_bits is None else number(key_bits, 0, 512),
        IntegId(integ),
        PrfId(prf),
        DhGroup(group),
        tuple(map(DhGroup, additional)),
    )


def read_ike_suite(value: Json) -> IkeSuite:
    """A suite of IKE."""
    *fixed, additional = items(value, 6)
    return _ike_suite(*fixed, tuple(items(additional, 7)))


def read_group(value: Json) -> DhGroup | None:
    """A key exchange method or None."""
    return None if value is None else DhGroup(value)


def messages(value: Json) -> tuple[bytes, ...]:
    """The datagrams of one message."""
    return tuple(read_octets(one, 1) for one in items(value))


def spi(value: Json) -> bytes:
    """An SPI of an IKE SA."""
    return read_octets(value, 8, 8)


def child_spi(value: Json) -> int:
    """An SPI of a child SA."""
    return number(value, 1, 0xFFFFFFFF)


def maybe_child_spi(value: Json) -> int | None:
    """An SPI of a child SA or None."""
    return None if value is None else child_spi(value)
