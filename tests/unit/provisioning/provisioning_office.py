"""Provisioning on a real store, with the rest of the gateway faked."""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from gateway.appliance.provisioning.first import prepare
from gateway.appliance.provisioning.side import ProvisioningSide
from gateway.config import load
from gateway.config.document import Config
from gateway.control.actor import Actor
from gateway.control.protocol import OPERATIONS, ControlError, ErrorCode, Request, Role
from gateway.store.database import Store, StoreSettings

ADMIN = Actor("admin root", Role.ADMINISTRATOR, "192.0.2.9")
BASIC = """
[gateway]
name = "gw.example.com"
[store]
state_dir = "{folder}"
[provisioning]
enabled = true
[pools.road]
network = "10.9.0.0/24"
dns = ["10.1.0.53"]
[connections.staff]
remote_id = "*@example.com"
pool = "road"
local_subnets = ["10.1.0.0/16"]
"""


class FakeObjects:
    """Devices in a dictionary."""

    def __init__(self) -> None:
        self.documents: dict[str, dict[str, object]] = {}
        self.gone: Any = None

    def handlers(self) -> Mapping[str, Any]:
        return {
            "object-create": self.create,
            "object-delete": self.delete,
            "object": self.get,
        }

    async def create(self, request: Request) -> object:
        name = str(request.text("name"))
        if name in self.documents:
            raise ControlError(ErrorCode.REFUSED, f"devices/{name} is there already", "name")
        self.documents[name] = dict(request.document("document"))
        return {"object": {}}

    async def delete(self, request: Request) -> object:
        name = str(request.text("name"))
        del self.documents[name]
        await self.gone(name)
        return {"object": None}

    async def get(self, request: Request) -> object:
        name = str(request.text("name"))
        if name not in self.documents:
            raise ControlError(ErrorCode.NOT_FOUND, f"there is no devices/{name}", "name")
        return {"name": name, "document": self.documents[name]}


@dataclass
class FakeEngine:
    """Sessions by name, and whom they are of."""

    peers: dict[str, str] = field(default_factory=dict)

    def ike_sa_names(self) -> list[tuple[str, str]]:
        return [(name, "staff") for name in self.peers]

    def ike_sas(self, _now: float, names: list[str]) -> list[Any]:
        return [SimpleNamespace(spis=name, peer=self.peers[name]) for name in names]

    def close_ike_sa(self, spis: str, _why: str, _now: float) -> bool:
        return self.peers.pop(spis, None) is not None


class Bench:
    """The side under test and what it sees."""

    def __init__(self, folder: Path, text: str) -> None:
        path = folder / "gateway.toml"
        path.touch(mode=0o600)
        path.write_text(text.format(folder=folder))
        self.folder = folder
        self.now = datetime.now(UTC).timestamp()
        self.store = Store(StoreSettings(state_dir=folder), lambda _event: None)
        self.store.open()
        self.config: Config = load(path, with_files=False)
        prepare(self.store, self.config)
        self.config = load(path)
        self.objects = FakeObjects()
        self.engine = FakeEngine()
        self.events: list[Any] = []
        self.applied = 0
        self.crls_read = 0
        surroundings: Any = SimpleNamespace(
            config=lambda: self.config,
            engine=self.engine,
            service=SimpleNamespace(flush=lambda: None),
            backends=SimpleNamespace(refresh_crls=self._refresh),
            emit=self.events.append,
            changing=asyncio.Lock(),
            prepare=self._prepare,
            apply=self._apply,
            clock=lambda: self.now,
            wall_clock=lambda: self.now,
            random=__import__("os").urandom,
        )
        administration: Any = SimpleNamespace(store=self.store, started=self._started)
        self.side = ProvisioningSide(administration, surroundings)
        self.objects.gone = self.side.device_gone

    async def _started(self, _name: str) -> FakeObjects:
        return self.objects

    async def _refresh(self) -> None:
        self.crls_read += 1

    async def _prepare(self, config: Config) -> Config:
        return config

    async def _apply(self, _prepared: object) -> list[object]:
        self.applied += 1
        return []

    async def call(
        self, operation: str, *, actor: Actor = ADMIN, key: str | None = None, **arguments: object
    ) -> Any:
        """The result, without what is for the audit."""
        found = OPERATIONS[operation]
        request = Request(found, found.check(arguments), actor=actor, key=key)
        answer: Any = await self.side.handlers()[operation](request)
        return {k: v for k, v in answer.items() if k != "_audit"}

    def file(self, name: str) -> Path:
        """One of the CA's files."""
        return self.folder / "ca" / name


@contextmanager
def bench(folder: Path, text: str = BASIC) -> Iterator[Bench]:
    """A bench that closes its store."""
    found = Bench(folder, text)
    try:
        yield found
    finally:
        found.store.close()
