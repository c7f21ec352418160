"""Kinds of values that only the mobility agents' tables have."""

import base64
import binascii
import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, summarize_address_range
from typing import Annotated, Literal

from pydantic import (
    BeforeValidator,
    Field,
    PlainSerializer,
    PlainValidator,
    SecretStr,
    ValidatorFunctionWrapHandler,
)

from gateway.config.fields import Whole, address4, network, refused, text_of
from gateway.domain.child_sa import IpNetwork

MIN_KEY_OCTETS = 16
"""RFC 5944 section 5.1 wants 128 bits; shorter keys can be found by trying."""
MAX_KEY_OCTETS = 512
MAX_NAI_OCTETS = 253
MIN_DIFFERENT_OCTETS = 6
"""Of a key. Sixteen random octets have less with a probability below 10^-14."""
_HOW = "use the output of: openssl rand -hex 16"
WHY_STRONG = (
    "whoever finds it forges registrations, and replies that make the device believe it is "
    "inside, where it needs no IPsec"
)


@dataclass(frozen=True, slots=True)
class AddressRange:
    """IPv4 addresses from ``first`` to ``last``, both included."""

    first: IPv4Address
    last: IPv4Address

    def __str__(self) -> str:
        if self.first == self.last:
            return str(self.first)
        networks = list(summarize_address_range(self.first, self.last))
        return str(networks[0]) if len(networks) == 1 else f"{self.first}-{self.last}"

    def overlaps(self, other: "AddressRange") -> bool:
        """Whether they have an address in common."""
        return self.first <= other.last and other.first <= self.last


def decode_key(text: str) -> bytes:
    """The octets of a key as it is written: hexadecimal, or ``base64:`` and that.

    The text of the ValueError says what is allowed, never what was given.
    """
    text = text.strip()
    if text.lower().startswith("base64:"):
        try:
            key = base64.b64decode(text[7:].strip(), validate=True)
        except (binascii.Error, ValueError):
            raise ValueError(f"is not base64 behind base64:; {_HOW}") from None
    elif re.fullmatch(r"([0-9A-Fa-f]{2})*", text):
        key = bytes.fromhex(text)
    else:
        raise ValueError(
            "is not a key; give pairs of hexadecimal digits, or base64: and base64 behind it. "
            f"Words that people think of are no keys: {WHY_STRONG}; {_HOW}"
        )
    if len(key) < MIN_KEY_OCTETS:
        raise ValueError(
            f"has {len(key)} octets; give {MIN_KEY_OCTETS} to {MAX_KEY_OCTETS}, because "
            f"{WHY_STRONG}; {_HOW}"
        )
    if len(key) > MAX_KEY_OCTETS:
        raise ValueError(f"has {len(key)} octets; give {MIN_KEY_OCTETS} to {MAX_KEY_OCTETS}")
    if len(set(key)) < MIN_DIFFERENT_OCTETS:
        raise ValueError(f"repeats {len(set(key))} octets and can be guessed: {WHY_STRONG}; {_HOW}")
    return key


def is_text_in_disguise(key: bytes) -> bool:
    """Whether a key is a text written in hexadecimal: no random key is printable."""
    return all(0x20 <= octet < 0x7F for octet in key)


def _key(value: object) -> object:
    text = value.get_secret_value() if isinstance(value, SecretStr) else text_of(value, '"5f0c..."')
    try:
        decode_key(text)
    except ValueError as error:
        raise refused(str(error)) from None
    return text


def _network4(value: object) -> IPv4Network:
    found: IpNetwork = network(value)
    if not isinstance(found, IPv4Network):
        raise refused("not an IPv4 network; Mobile IPv4 knows no other")
    return found


def _networks(value: object) -> tuple[IPv4Network, ...]:
    """Networks, or single addresses, which are networks of one."""
    if not isinstance(value, list | tuple):
        raise refused('give a list in brackets, such as ["10.1.0.0/24", "192.0.2.7"]')
    return tuple(_network4(_with_prefix(item)) for item in value)


def _with_prefix(value: object) -> object:
    return f"{value}/32" if isinstance(value, str) and "/" not in value else value


def _range(value: object) -> AddressRange:
    if isinstance(value, AddressRange):
        return value
    text = text_of(value, '"10.20.0.128/25"')
    first, dash, last = text.partition("-")
    if dash:
        found = AddressRange(address4(first.strip()), address4(last.strip()))
        if found.first > found.last:
            raise refused("ends before it begins; give the lower address first")
        return found
    whole = _network4(_with_prefix(text))
    return AddressRange(whole[0], whole[-1])


def _ranges(value: object) -> tuple[AddressRange, ...]:
    if isinstance(value, list | tuple):
        return tuple(map(_range, value))
    return (_range(value),)


def _texts(values: tuple[object, ...]) -> list[str]:
    return list(map(str, values))


def _nai(value: object) -> str:
    text = text_of(value, '"ann@example.com"')
    good = text.isprintable() and " " not in text and "\\" not in text
    if not good or not 1 <= len(text.encode()) <= MAX_NAI_OCTETS or text.count("@") > 1:
        raise refused('not a network access identifier; give one such as "ann@example.com"')
    user, at, realm = text.partition("@")
    if not user or (at and not realm):
        raise refused("not a network access identifier; it needs a name, and a realm behind @")
    return text


class LoginKeys(tuple[object, ...]):
    """``keys = "login"``: no key here, each comes with the ticket of a login."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        """It is not the same as having no keys."""
        return isinstance(other, LoginKeys)

    def __hash__(self) -> int:
        return hash(LoginKeys)

    def __repr__(self) -> str:
        return LOGIN


LOGIN = "login"
"""What says so in the file."""


def keys_or_login(value: object, tables: ValidatorFunctionWrapHandler) -> object:
    """Tables of keys, or the word for keys that come with a login."""
    if value == LOGIN or isinstance(value, LoginKeys):
        return LoginKeys()
    if isinstance(value, str):
        raise refused('give tables with spi and key_file, or "login" for keys that a login brings')
    return tables(value)


Network4 = Annotated[IPv4Network, PlainValidator(_network4, json_schema_input_type=str)]
Networks4 = Annotated[
    tuple[IPv4Network, ...],
    PlainValidator(_networks, json_schema_input_type=list[str]),
    PlainSerializer(_texts),
]
AddressRanges = Annotated[
    tuple[AddressRange, ...],
    PlainValidator(_ranges, json_schema_input_type=list[str]),
    PlainSerializer(_texts),
]
KeyText = Annotated[SecretStr, BeforeValidator(_key)]
Nai = Annotated[str, PlainValidator(_nai, json_schema_input_type=str)]
"""A network access identifier (RFC 4282)."""
Spi = Annotated[Whole, Field(ge=256, le=0xFFFF_FFFF)]
"""0 to 255 are reserved (RFC 5944 section 1.6)."""
PacketOctets = Annotated[Whole, Field(ge=576, le=65_000)]
LifetimeSeconds = Annotated[Whole, Field(ge=1, le=65_535)]
"""65535 never ends (RFC 5944 section 3.3)."""
AlgorithmWord = Literal["hmac-md5", "hmac-sha256", "keyed-md5"]
ReplayWord = Literal["timestamps", "nonces"]
EncapsulationWord = Literal["ip-ip", "minimal", "gre"]
