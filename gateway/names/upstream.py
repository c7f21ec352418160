"""Which servers know a name, and in which order they are asked."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from gateway.domain.endpoint import Endpoint, IpAddress
from gateway.names.settings import ForwarderSettings

FAILURES: Final = 3
"""So many in a row, and others are asked first."""
PENALTY_S: Final = 30.0


@dataclass(slots=True)
class Server:
    """One that is asked."""

    endpoint: Endpoint
    asked: int = 0
    answered: int = 0
    failed: int = 0
    failures: int = 0
    """In a row."""
    avoided_until: float = 0.0

    def succeeded(self) -> None:
        """It answered."""
        self.answered += 1
        self.failures = 0
        self.avoided_until = 0.0

    def did_not_answer(self, now: float) -> None:
        """It did not, or not usefully."""
        self.failed += 1
        self.failures += 1
        if self.failures >= FAILURES:
            self.avoided_until = now + PENALTY_S


@dataclass(frozen=True, slots=True)
class Servers:
    """Those of a domain."""

    servers: tuple[Server, ...]
    cached: bool = True

    def in_order(self, now: float) -> list[Server]:
        """As they are asked: as configured, those that fail last."""
        return sorted(self.servers, key=lambda one: one.avoided_until > now)


@dataclass(slots=True)
class Upstream:
    """All servers."""

    everything: Servers
    domains: dict[str, Servers]
    known: dict[Endpoint, Server] = field(default_factory=dict)

    @classmethod
    def of(cls, settings: ForwarderSettings, before: "Upstream | None" = None) -> "Upstream":
        """Servers that were there ``before`` keep their counters."""
        known: dict[Endpoint, Server] = {}

        def server(address: IpAddress, port: int) -> Server:
            endpoint = Endpoint(address, port)
            if endpoint not in known:
                former = before.known.get(endpoint) if before is not None else None
                known[endpoint] = former or Server(endpoint)
            return known[endpoint]

        def servers(addresses: Iterable[IpAddress], port: int, *, cached: bool) -> Servers:
            return Servers(tuple(server(one, port) for one in addresses), cached)

        everything = servers(settings.servers, 53, cached=True)
        domains: dict[str, Servers] = {}
        for route in settings.routes:
            found = servers(route.servers, route.port, cached=route.cached)
            for domain in route.domains:
                domains.setdefault(domain.rstrip(".").lower(), found)
        return cls(everything, domains, known)

    def servers_of(self, name: str) -> Servers:
        """Those of the longest domain that a name, in lower case, is in."""
        while name:
            found = self.domains.get(name)
            if found is not None:
                return found
            name = name.partition(".")[2]
        return self.everything
