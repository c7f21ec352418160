"""The objects side on a real store, file and engine; only sockets and kernel are missing."""

from __future__ import annotations

import asyncio
import datetime
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from gateway.appliance.administration.composition import Administration
from gateway.appliance.administration.objects_side import ObjectsSide, build
from gateway.appliance.administration.side import Surroundings
from gateway.appliance.backends import Backends, BackendSettings
from gateway.appliance.parts import Parts
from gateway.appliance.reloading import Prepared, prepare
from gateway.config.difference import difference, in_force
from gateway.config.document import Config
from gateway.control.protocol import Request, Role, check_request

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from gateway.control.operation import Document

PSK = "a long random text that nobody guesses"
FILE = """
[gateway]
name = "gw.example.com"
runtime_dir = "run"

[store]
state_dir = "state"
"""
POOL: Document = {"network": "10.83.112.0/22"}
CONNECTION: Document = {
    "remote_id": "*@example.com",
    "local_auth": "psk",
    "remote_auth": "psk",
    "psk": PSK,
    "pool": "staff",
    "local_subnets": ["10.1.0.0/16"],
}


class Bench:
    """One gateway's administration. Make it by :func:`opened`."""

    def __init__(self, directory: Path, text: str = FILE) -> None:
        self.directory = directory
        self.path = directory / "gateway.toml"
        if not self.path.exists():
            self.path.write_text(text)
            self.path.chmod(0o600)
        self.administration = Administration(sides=())
        self.parts = Parts()
        self.config = self.administration.begin(self.path, self.parts.load)
        self.events: list[Any] = []
        self.applied = 0
        self.changing = asyncio.Lock()
        dataplane: Any = SimpleNamespace(usage=lambda _spi: None)
        self.engine = self.parts.engine(
            self.config,
            self.parts.connections(self.config),
            dataplane,
            lambda _name: None,
            debug=False,
        )
        emit: Any = self.events.append
        self.backends = Backends(BackendSettings(), usage=lambda _spi: None, emit=emit)
        loop = asyncio.get_running_loop()
        service: Any = SimpleNamespace(flush=lambda _now: None)
        nothing: Any = None
        self.stopped = asyncio.Event()
        self.surroundings = Surroundings(
            config=lambda: self.config,
            engine=self.engine,
            service=service,
            dataplane=dataplane,
            backends=self.backends,
            sessions=nothing,
            failures=nothing,
            emit=emit,
            mobility=lambda: None,
            nar=lambda: None,
            facts=dict,
            reload=self.reload,
            changing=self.changing,
            prepare=self.prepare,
            apply=self.apply,
            ended_by=lambda prepared: [
                {"session": name, "peer": peer}
                for name, peer in self.engine.ended_by(
                    prepared.connections, self.parts.pools(prepared.config)
                )
            ],
            call_later=loop.call_later,
            stop=self.stop,
            clock=loop.time,
        )
        self.administration.join(self.surroundings)
        self.side: ObjectsSide = build(self.administration, self.surroundings)
        self.objects = self.side.objects

    def stop(self) -> None:
        self.stopped.set()

    async def prepare(self, config: Config) -> Prepared:
        parts: Any = self.parts
        return await prepare(parts, config)

    async def apply(self, prepared: Prepared) -> list[Any]:
        changes = difference(self.config, prepared.config)
        self.config = in_force(self.config, prepared.config)
        self.engine.reconfigure(prepared.connections, 0.0, self.parts.pools(self.config))
        self.applied += 1
        self.side.configured(self.config)
        return changes

    async def reload(self) -> tuple[list[str], list[str]]:
        async with self.changing:
            load: Any = self.parts.load
            config = await asyncio.to_thread(self.administration.load, load, self.config)
            changes = await self.apply(await self.prepare(config))
        return [], [str(change) for change in changes]

    async def ask(self, op: str, **arguments: object) -> Any:
        """What a client of the control socket gets."""
        request: Request = check_request({"op": op, "args": arguments}, Role.ADMINISTRATOR)
        return await self.side.handlers()[op](request)

    async def close(self) -> None:
        await self.backends.stop()
        self.administration.close()


def self_signed(directory: Path) -> None:
    """``gw.pem`` and ``gw.key`` of gw.example.com."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "gw.example.com")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=365))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName("gw.example.com")]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    (directory / "gw.pem").write_bytes(made.public_bytes(Encoding.PEM))
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (directory / "gw.key").write_bytes(private)
    (directory / "gw.key").chmod(0o600)


@asynccontextmanager
async def opened(directory: Path, text: str = FILE) -> AsyncIterator[Bench]:
    bench = Bench(directory, text)
    try:
        yield bench
    finally:
        await bench.close()
