"""The kinds of values that the configuration knows, each with a message that says what it takes."""

import re
from functools import partial
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    SecretStr,
    Strict,
    ValidationInfo,
)
from pydantic_core import PydanticCustomError

from gateway.domain.child_sa import IpNetwork
from gateway.domain.endpoint import Endpoint, IpAddress


class Section(BaseModel):
    """A table of the file: unknown keys are refused, values never change after loading."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


def refused(why: str) -> PydanticCustomError:
    """An error whose text reaches the administrator as it is."""
    return PydanticCustomError("refused", "{why}", {"why": why})


def text_of(value: object, example: str) -> str:
    """The value if it is a text; ``example`` is shown to who gave something else."""
    if not isinstance(value, str):
        raise refused(f"give a text in quotes, such as {example}")
    return value


def _address(value: object) -> IpAddress:
    if isinstance(value, IPv4Address | IPv6Address):
        return value
    text = text_of(value, '"192.0.2.1"')
    try:
        return ip_address(text)
    except ValueError:
        raise refused('not an IP address; give one such as "192.0.2.1" or "2001:db8::1"') from None


def address4(value: object) -> IPv4Address:
    """An IPv4 address of a text."""
    found = _address(value)
    if isinstance(found, IPv6Address):
        raise refused("not an IPv4 address; Mobile IPv4 knows no other")
    return found


def network(value: object) -> IpNetwork:
    """A network of a text, refused where bits are set behind the prefix."""
    text = text_of(value, '"10.9.0.0/24"')
    try:
        return ip_network(text)
    except ValueError:
        pass
    try:
        loose = ip_network(text, strict=False)
    except ValueError:
        raise refused(
            'not a network; give an address and prefix length such as "10.9.0.0/24"'
        ) from None
    raise refused(f'has bits set behind the prefix; write "{loose}"')


def _endpoint(value: object, default_port: int | None) -> Endpoint:
    text = text_of(value, '"192.0.2.1:500"')
    found = re.fullmatch(r"\[([^\]]+)\](?::(\d{1,5}))?|([^:]+)(?::(\d{1,5}))?", text)
    host, port = text, None
    if found:
        host, port = found[1] or found[3], found[2] or found[4]
    try:
        address = ip_address(host)
    except ValueError:
        raise refused(
            "not an IP address (host names are not looked up); "
            'give one such as "192.0.2.1" or "[2001:db8::1]:500"'
        ) from None
    if port is None and default_port is None:
        raise refused(f'lacks the port; give address and port such as "{text}:8443"')
    number = int(port) if port else default_port or 0
    if not 1 <= number <= 65535:
        raise refused("has no valid port; give one from 1 to 65535")
    return Endpoint(address, number)


def _path(value: object, info: ValidationInfo) -> Path:
    if isinstance(value, Path):
        return value
    text = text_of(value, '"/etc/gateway/gateway.pem"')
    if not text or "\0" in text:
        raise refused("not a file name")
    directory = (info.context or {}).get("directory")
    return Path(directory, text) if directory else Path(text)


def _name(value: object) -> str:
    text = text_of(value, '"staff"')
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}", text):
        raise refused("not a name; use 1 to 63 letters, digits, - and _")
    return text


def _interface(value: object) -> str:
    text = text_of(value, '"gateway0"')
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}", text):
        raise refused("not an interface name; use 1 to 15 letters, digits, - _ and .")
    return text


def _domain(value: object) -> str:
    text = text_of(value, '"corp.example.com"').rstrip(".").lower()
    label = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
    if len(text) > 253 or not re.fullmatch(rf"{label}(\.{label})*", text):
        raise refused('not a domain name; give one such as "corp.example.com"')
    return text


def _identity(value: object) -> str:
    text = text_of(value, '"gw.example.com"').strip()
    if not text or len(text) > 256 or not text.isprintable():
        raise refused(
            "not an identity; give a host name, user@host, an IP address, "
            'a subject such as "CN=gw, O=Example" or keyid:NAME'
        )
    return text


def _secret(value: object) -> object:
    text = text_of(value, '"a long random text"')
    if not text:
        raise refused("is empty; give a long random text, or use psk_file")
    return text


def _user(value: object) -> str:
    text = text_of(value, '"ann"')
    if not text or len(text.encode()) > 253 or not text.isprintable():
        raise refused("not a user name; give 1 to 253 printable characters")
    return text


def _feature(value: object) -> object:
    if isinstance(value, bool):
        raise refused('not one of the choices; choose one of: "off", "allowed", "required"')
    return value


def _url(value: object) -> str:
    text = text_of(value, '"http://ocsp.example.com/"')
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise refused('not the address of a responder; give one such as "http://ocsp.example.com/"')
    return text


def _whole(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int):
        raise refused("give a whole number without quotes")
    return value


def _seconds(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise refused("give a number without quotes")
    return value


Address = Annotated[IpAddress, PlainValidator(_address, json_schema_input_type=str)]
Address4 = Annotated[IPv4Address, PlainValidator(address4, json_schema_input_type=str)]
Network = Annotated[IpNetwork, PlainValidator(network, json_schema_input_type=str)]
PeerEndpoint = Annotated[
    Endpoint,
    PlainValidator(partial(_endpoint, default_port=500), json_schema_input_type=str),
    PlainSerializer(str),
]
ListenEndpoint = Annotated[
    Endpoint,
    PlainValidator(partial(_endpoint, default_port=None), json_schema_input_type=str),
    PlainSerializer(str),
]
FilePath = Annotated[Path, PlainValidator(_path, json_schema_input_type=str)]
Name = Annotated[str, PlainValidator(_name, json_schema_input_type=str)]
InterfaceName = Annotated[str, PlainValidator(_interface, json_schema_input_type=str)]
Domain = Annotated[str, PlainValidator(_domain, json_schema_input_type=str)]
IdentityText = Annotated[str, PlainValidator(_identity, json_schema_input_type=str)]
Secret = Annotated[SecretStr, BeforeValidator(_secret)]
UserName = Annotated[str, PlainValidator(_user, json_schema_input_type=str)]
FeatureWord = Annotated[Literal["off", "allowed", "required"], BeforeValidator(_feature)]
"""What policy says about a mechanism that both sides must agree on."""
Url = Annotated[str, PlainValidator(_url, json_schema_input_type=str)]
Flag = Annotated[bool, Strict()]
Whole = Annotated[int, BeforeValidator(_whole)]
Number = Annotated[float, BeforeValidator(_seconds), Field(allow_inf_nan=False)]
Port = Annotated[Whole, Field(ge=1, le=65535)]
