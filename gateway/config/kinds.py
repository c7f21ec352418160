"""Kinds of objects that can be stored as well as written into the file."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import UnionType
from typing import Annotated, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr

from gateway.config.administration import DeviceSection, UserSection
from gateway.config.connection import ConnectionSection, ProfileSection
from gateway.config.mobility import (
    ForeignAgentSection,
    HomeAgentSection,
    HomeNetworkSection,
    MobileNodeSection,
)
from gateway.config.nar import NarServerSection
from gateway.config.remote_access import (
    BridgeSection,
    NaptSection,
    RedirectSection,
    RuleSection,
    TranslationSection,
)
from gateway.config.sections import PoolSection, RadiusSection

Path = tuple[str, ...]
"""Keys from the top of a document; ``*`` is any name of a table or any item of a list."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of object."""

    name: str
    """The section of the file, too."""
    title: str
    model: type[BaseModel]
    light: bool = False
    """There may be thousands: each is checked by itself, and not part of the configuration."""


KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("pools", "Address pools", PoolSection),
        Kind("radius", "RADIUS servers", RadiusSection),
        Kind("napt", "Addresses of NAPT", NaptSection),
        Kind("translations", "Networks under other addresses", TranslationSection),
        Kind("rules", "Rules", RuleSection),
        Kind("bridges", "Bridges for what is not IP", BridgeSection),
        Kind("profiles", "Profiles of user groups", ProfileSection),
        Kind("home_networks", "Home networks", HomeNetworkSection),
        Kind("home_agents", "Home agents", HomeAgentSection),
        Kind("nar", "NAR servers", NarServerSection),
        Kind("foreign_agents", "Foreign agents", ForeignAgentSection),
        Kind("connections", "Connections", ConnectionSection),
        Kind("mobile_nodes", "Mobile nodes", MobileNodeSection),
        Kind("redirects", "Port forwards", RedirectSection),
        Kind("devices", "Devices", DeviceSection, light=True),
        Kind("users", "Users", UserSection, light=True),
    )
}
"""What others refer to comes first."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A stored object as the configuration sees it."""

    kind: str
    name: str
    document: Mapping[str, object] = field(repr=False)
    """As its table in the file would be, its secrets included."""
    late: bool = False
    """Judged after the others of its kind, so that what does not fit is found here."""


def secret_paths(model: type[BaseModel]) -> tuple[Path, ...]:
    """Where documents of a kind have secrets."""
    return tuple(_secrets(model, ()))


def _secrets(annotation: object, above: Path) -> Iterator[Path]:
    origin = get_origin(annotation)
    if annotation is SecretStr:
        yield above
    elif origin is Annotated:
        yield from _secrets(get_args(annotation)[0], above)
    elif origin in (Union, UnionType):
        for one in get_args(annotation):
            yield from _secrets(one, above)
    elif origin is dict:
        yield from _secrets(get_args(annotation)[1], (*above, "*"))
    elif origin in (tuple, list):
        for one in get_args(annotation)[:1]:
            yield from _secrets(one, (*above, "*"))
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        for name, info in annotation.model_fields.items():
            yield from _secrets(info.annotation, (*above, name))
