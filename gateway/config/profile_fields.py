"""Kinds of values that only a mobile node's profile has."""

import re
from dataclasses import dataclass
from fnmatch import translate
from ipaddress import IPv4Address, IPv4Network, ip_address
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import PlainSerializer, PlainValidator

from gateway.config.fields import network, refused, text_of

_HOST = re.compile(r"(?=.{1,253}$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9-]{1,63})*")
_ACCEPT = re.compile(r"(tcp|udp)/([0-9]{1,5}) from ([0-9./]+)")
_HOW_ACCEPT = 'give a protocol, a port and a network, such as "tcp/22 from 10.0.0.0/8"'


@dataclass(frozen=True, slots=True)
class Acceptance:
    """What may be opened towards this host, through a tunnel or inside."""

    protocol: str
    """``tcp`` or ``udp``."""
    port: int
    source: IPv4Network

    def __str__(self) -> str:
        return f"{self.protocol}/{self.port} from {self.source}"


def _host(value: object) -> IPv4Address | str:
    if isinstance(value, IPv4Address):
        return value
    text = text_of(value, '"gw.example.com"').strip().rstrip(".").lower()
    try:
        found = ip_address(text)
    except ValueError:
        if _HOST.fullmatch(text) and not re.fullmatch(r"[0-9.]+", text):
            return text
        raise refused(
            'not an IPv4 address and not a host name; give one such as "192.0.2.1" or '
            '"gw.example.com"'
        ) from None
    if not isinstance(found, IPv4Address):
        raise refused("not an IPv4 address; the layers of a mobile node are IPv4")
    return found


def _acceptance(value: object) -> Acceptance:
    if isinstance(value, Acceptance):
        return value
    text = text_of(value, '"tcp/22 from 10.0.0.0/8"')
    found = _ACCEPT.fullmatch(" ".join(text.lower().split()))
    if found is None:
        raise refused(f"not understood; {_HOW_ACCEPT}")
    port = int(found[2])
    if not 1 <= port <= 65_535:
        raise refused(f"has no valid port; {_HOW_ACCEPT}")
    source = network(found[3] if "/" in found[3] else f"{found[3]}/32")
    if not isinstance(source, IPv4Network):
        raise refused(f"not an IPv4 network; {_HOW_ACCEPT}")
    return Acceptance(found[1], port, source)


def _pattern(value: object) -> str:
    text = text_of(value, '"wlan*"')
    if not 1 <= len(text) <= 64 or not text.isprintable() or "/" in text or " " in text:
        raise refused('not a pattern of interface names; give one such as "eth0" or "wl*"')
    re.compile(translate(text))
    return text


def _probe(value: object) -> str:
    text = text_of(value, '"http://connectivity.example.com/generate_204"')
    try:
        parts = urlsplit(text)
        usable = parts.scheme == "http" and bool(parts.hostname) and (parts.port or 80) > 0
    except ValueError:
        usable = False
    if not usable or not text.isascii() or not text.isprintable() or " " in text:
        raise refused(
            "not an http:// address (portals cannot intercept https without an error); give one "
            'that answers 204, such as "http://connectivity.example.com/generate_204"'
        )
    return text


def _link_address(value: object) -> bytes:
    if isinstance(value, bytes):
        return value
    text = text_of(value, '"00:16:3e:0a:1b:2c"')
    if not re.fullmatch(r"[0-9A-Fa-f]{2}([:-][0-9A-Fa-f]{2}){5}", text):
        raise refused('not a link-layer address; give one such as "00:16:3e:0a:1b:2c"')
    return bytes.fromhex(re.sub("[:-]", "", text))


def _word(value: object) -> str:
    text = text_of(value, '"udhcpc"')
    if not text or not text.isprintable() or len(text) > 256:
        raise refused("not a word of a command; give 1 to 256 printable characters")
    return text


HostOrAddress = Annotated[IPv4Address | str, PlainValidator(_host), PlainSerializer(str)]
AcceptanceText = Annotated[Acceptance, PlainValidator(_acceptance), PlainSerializer(str)]
InterfacePattern = Annotated[str, PlainValidator(_pattern)]
ProbeUrl = Annotated[str, PlainValidator(_probe)]
LinkAddress = Annotated[bytes, PlainValidator(_link_address), PlainSerializer(lambda v: v.hex(":"))]
CommandWord = Annotated[str, PlainValidator(_word)]
ModeWord = Literal["home", "c", "f", "vc", "vf", "cvc", "cvf", "fvc", "fvf", "mc", "v"]
"""Names of :class:`gateway.domain.access_mode.AccessMode`; HELD is always allowed."""
