"""A named on loopback, and messages for the forwarder."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_address
from pathlib import Path

import dns.message
import dns.rrset

from gateway.domain.endpoint import Endpoint, IpAddress
from gateway.lab import bind
from gateway.names.forwarder import Ask, Client, Forwarder, Output, Reply
from gateway.names.settings import ForwarderSettings, RegistrarSettings, Route, secret_of

ZONE = "devices.example.test"
REVERSE = "0.9.10.in-addr.arpa"
ADDRESS = "127.0.0.1"


def settings(port: int, **changes: object) -> RegistrarSettings:
    """A registrar's, for the named below."""
    given: dict[str, object] = {
        "server": ip_address(ADDRESS),
        "port": port,
        "zone": ZONE,
        "reverse": True,
        "key_name": bind.KEY_NAME,
        "algorithm": "hmac-sha256",
        "secret": secret_of(bind.SECRET),
        "ttl_s": 60,
    }
    return RegistrarSettings(**{**given, **changes})  # type: ignore[arg-type]


def free_port() -> int:
    """A port that nothing has, by UDP and TCP."""
    with socket.socket() as tcp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        tcp.bind((ADDRESS, 0))
        port: int = tcp.getsockname()[1]
        udp.bind((ADDRESS, port))
        return port


@contextlib.contextmanager
def named(
    folder: Path, zones: Sequence[bind.Zone] = (), *, algorithm: str = "hmac-sha256"
) -> Iterator[int]:
    """A named with the zones; gives its port."""
    port = free_port()
    zones = zones or (bind.Zone(ZONE, "printer IN A 10.1.0.99\n"), bind.Zone(REVERSE))
    argv = bind.write(folder, ADDRESS, port, zones, algorithm=algorithm)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(argv, stdout=log, stderr=log)
    try:
        until = time.monotonic() + 20
        while not bind.answers(zones[0].name, "SOA", ADDRESS, port):
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < until, (folder / "log").read_text()
        yield port
    finally:
        process.terminate()
        process.wait(10)


def look_up(name: str, rdtype: str, port: int) -> list[str]:
    """What named has now."""
    return sorted(bind.answers(name, rdtype, ADDRESS, port))


@dataclass
class Rig:
    """A forwarder with two servers for everything and one for ``corp.test``, in virtual time."""

    forwarder: Forwarder
    now: float = 100.0

    def ask(
        self,
        name: str = "www.example.test",
        rdtype: str = "A",
        *,
        source: str = "10.9.0.2",
        tcp: bool = False,
        message: dns.message.Message | None = None,
    ) -> list[Output]:
        """A client's question; what the forwarder does."""
        query = message or dns.message.make_query(name, rdtype, id=4711)
        self.forwarder.receive(query.to_wire(), client(source, tcp=tcp), self.now)
        return self.forwarder.take_outputs()

    def answer(self, ask: Ask, *records: str, rcode: int = 0, authority: str = "") -> list[Output]:
        """The server answers; what the forwarder does."""
        query = dns.message.from_wire(ask.wire)
        response = dns.message.make_response(query)
        response.set_rcode(rcode)
        for record in records:
            name, ttl, rdclass, rdtype, *data = record.split()
            rrset = dns.rrset.from_text(name, int(ttl), rdclass, rdtype, " ".join(data))
            response.answer.append(rrset)
        if authority:
            name, ttl, rdclass, rdtype, *data = authority.split()
            response.authority.append(
                dns.rrset.from_text(name, int(ttl), rdclass, rdtype, " ".join(data))
            )
        self.forwarder.answered(ask.ticket, response.to_wire(max_size=65_535), self.now)
        return self.forwarder.take_outputs()

    def pass_time(self, seconds: float) -> list[Output]:
        """Let time pass, with every timer at its time."""
        until, done = self.now + seconds, []
        while (when := self.forwarder.next_timer()) is not None and when <= until:
            self.now = when
            self.forwarder.handle_timer(self.now)
            done += self.forwarder.take_outputs()
        self.now = until
        return done


FIRST, SECOND, CORP = (IPv4Address(f"192.0.2.{last}") for last in (1, 2, 3))


def rig(**changes: object) -> Rig:
    """See :class:`Rig`."""
    routes = (Route(("corp.test",), (CORP,)), Route(("devices.corp.test",), (FIRST,), cached=False))
    given: dict[str, object] = {"servers": (FIRST, SECOND), "routes": routes, "cache_entries": 3}
    numbers = iter(range(1, 10_000))

    def random(octets: int) -> bytes:
        return next(numbers).to_bytes(octets)

    return Rig(Forwarder(ForwarderSettings(**{**given, **changes}), random))  # type: ignore[arg-type]


def client(source: str, *, tcp: bool = False) -> Client:
    """Somebody who asks."""
    return Client(ip_address(source), (source, 1234), tcp)


def asks(outputs: list[Output]) -> list[Ask]:
    """What servers are asked."""
    return [one for one in outputs if isinstance(one, Ask)]


def replies(outputs: list[Output]) -> list[dns.message.Message]:
    """What clients are told."""
    return [dns.message.from_wire(one.wire) for one in outputs if isinstance(one, Reply)]


def server(address: IpAddress) -> Endpoint:
    """At the usual port."""
    return Endpoint(address, 53)
