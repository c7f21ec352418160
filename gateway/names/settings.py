"""What the process of names is told, as JSON."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Final, Self

from gateway.domain.endpoint import IpAddress

MIN_SECRET_OCTETS: Final = 16
"""RFC 8945 section 8: as long as the output of the hash, and more than half of it."""
Json = Mapping[str, object]


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


@dataclass(frozen=True, slots=True)
class Route:
    """Where names below some domains are looked up."""

    domains: tuple[str, ...]
    servers: tuple[IpAddress, ...]
    port: int = 53
    cached: bool = True
    """False where names change under our hands: those of devices."""


@dataclass(frozen=True, slots=True)
class ForwarderSettings:
    """``[names]``, as far as the forwarder goes."""

    servers: tuple[IpAddress, ...] = ()
    """For everything that no route names; none: such questions are refused."""
    routes: tuple[Route, ...] = ()
    """The longest domain counts."""
    cache_entries: int = 4096

    def to_json(self) -> dict[str, object]:
        """As :meth:`from_json` takes it."""
        return {
            "servers": [str(one) for one in self.servers],
            "routes": [
                [list(one.domains), [str(s) for s in one.servers], one.port, one.cached]
                for one in self.routes
            ],
            "cache_entries": self.cache_entries,
        }

    @classmethod
    def from_json(cls, given: Json) -> Self:
        """Raises ValueError."""
        routes = []
        for one in _list(given.get("routes")):
            domains, servers, port, cached = _list(one)
            routes.append(
                Route(
                    tuple(str(name) for name in _list(domains)),
                    tuple(ip_address(str(server)) for server in _list(servers)),
                    int(str(port)),
                    bool(cached),
                )
            )
        return cls(
            tuple(ip_address(str(one)) for one in _list(given.get("servers"))),
            tuple(routes),
            int(str(given.get("cache_entries", 0))),
        )


@dataclass(frozen=True, slots=True)
class RegistrarSettings:
    """``[names.registration]``."""

    server: IpAddress
    port: int
    zone: str
    reverse: bool
    key_name: str
    algorithm: str
    """``hmac-sha256`` and the like."""
    secret: bytes = field(repr=False)
    ttl_s: int

    def to_json(self) -> dict[str, object]:
        """As :meth:`from_json` takes it: with the secret."""
        return {
            "server": str(self.server),
            "port": self.port,
            "zone": self.zone,
            "reverse": self.reverse,
            "key_name": self.key_name,
            "algorithm": self.algorithm,
            "secret": base64.b64encode(self.secret).decode(),
            "ttl_s": self.ttl_s,
        }

    @classmethod
    def from_json(cls, given: Json) -> Self:
        """Raises ValueError or KeyError."""
        return cls(
            ip_address(str(given["server"])),
            int(str(given["port"])),
            str(given["zone"]),
            bool(given["reverse"]),
            str(given["key_name"]),
            str(given["algorithm"]),
            base64.b64decode(str(given["secret"]), validate=True),
            int(str(given["ttl_s"])),
        )


def secret_of(text: str) -> bytes:
    """A TSIG key's octets from base64, as ``tsig-keygen`` prints them.

    Raises ValueError, without the text.
    """
    try:
        found = base64.b64decode("".join(text.split()).encode("ascii"), validate=True)
    except ValueError:
        raise ValueError(
            "not base64; give the secret of the key, as tsig-keygen prints it"
        ) from None
    if len(found) < MIN_SECRET_OCTETS:
        raise ValueError(f"has {len(found)} octets; give a key of {MIN_SECRET_OCTETS} or more")
    return found
