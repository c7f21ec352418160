"""The access side with a real store, without a core around it."""

import asyncio
import contextlib
import io
import os
from collections.abc import AsyncIterator
from ipaddress import ip_address, ip_network
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from gateway.appliance.access.side import AccessSide
from gateway.appliance.access.token_file import TokenFile
from gateway.control.actor import Actor
from gateway.control.protocol import (
    OPERATIONS,
    ControlError,
    ErrorCode,
    Request,
    Role,
    check_request,
)
from gateway.domain.endpoint import Endpoint
from gateway.domain.log import configure
from gateway.store.database import Store, StoreSettings

LOCAL = Actor("uid 0", Role.ADMINISTRATOR)


class Administration:
    """What the side sees of the whole."""

    def __init__(self, store: Store | None) -> None:
        self._store = store

    @property
    def store(self) -> Store:
        if self._store is None:
            raise ControlError(ErrorCode.REFUSED, "this gateway runs without a store")
        return self._store


class Emit:
    """Remembers events."""

    def __init__(self, log: Any, events: list[Any]) -> None:
        self.log = log
        self._events = events

    def __call__(self, event: Any) -> None:
        self._events.append(event)


class Bed:
    """Time stands still until a test moves it."""

    def __init__(self, folder: Path, store: Store | None, metrics_open: list[str]) -> None:
        self.now, self.wall = 1000.0, 1_800_000_000.0
        self.slept: list[float] = []
        self.events: list[Any] = []
        self.stream = io.StringIO()
        log = configure(style="json", stream=self.stream)
        api = SimpleNamespace(
            metrics_open=[ip_network(one) for one in metrics_open],
            tls=True,
            certificate=None,
            names=("gateway.example.com",),
            listen=Endpoint(ip_address("0.0.0.0"), 8443),
        )
        config = SimpleNamespace(
            api=api,
            store=SimpleNamespace(audit_days=30, state_dir=folder),
            gateway=SimpleNamespace(name="gateway.example.com"),
        )

        surroundings: Any = SimpleNamespace(
            config=lambda: config,
            clock=lambda: self.now,
            wall_clock=lambda: self.wall,
            random=os.urandom,
            emit=Emit(log, self.events),
        )
        self.side = AccessSide(Administration(store), surroundings)  # type: ignore[arg-type]
        self.side._entrance._sleep = self._sleep
        self.handlers = dict(self.side.handlers())
        self.handle = self.side.around(self._dispatch)

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    async def _dispatch(self, request: Request) -> object:
        if request.operation.name == "health":
            return {"status": "ok"}
        return await self.handlers[request.operation.name](request)

    def use_file(self, path: Path) -> None:
        self.side.token_file = TokenFile(path)

    async def ask(
        self, op: str, *, actor: Actor = LOCAL, key: str | None = None, **args: Any
    ) -> Any:
        """By the control socket, as root."""
        line = {"op": op, "args": args, **({"key": key} if key else {})}
        return await self.handle(check_request(line, actor, OPERATIONS))

    async def as_who(self, credential: str, op: str, **args: Any) -> Any:
        """By the REST interface."""
        return await self.ask(op, actor=self.side.authenticate(credential, "192.0.2.9"), **args)

    async def administrator(self, name: str, password: str, role: str = "admin") -> Any:
        return await self.ask("administrator-create", name=name, role=role, password=password)

    async def login(self, name: str, password: str, remote: str = "192.0.2.9") -> str:
        actor = self.side.authenticate("", remote)
        made = await self.ask("login", actor=actor, name=name, password=password)
        return str(made["session"])

    async def claim(self, code: str, name: str, password: str) -> Any:
        actor = self.side.authenticate("", "192.0.2.9")
        return await self.ask("setup-claim", actor=actor, code=code, name=name, password=password)


@contextlib.asynccontextmanager
async def bed_of(
    folder: Path, *, with_store: bool = True, metrics_open: Any = ()
) -> AsyncIterator[Bed]:
    """A bed on the store in ``folder``; leaving it stops the side and closes the store."""
    store = None
    if with_store:
        store = Store(StoreSettings(folder), lambda _event: None)
        store.open()
    bed = Bed(folder, store, list(metrics_open))
    await bed.side.start()
    try:
        yield bed
    finally:
        await bed.side.stop()
        if store is not None:
            store.close()


def run(coroutine: Any) -> Any:
    async def bounded() -> Any:
        async with asyncio.timeout(60):
            return await coroutine

    return asyncio.run(bounded())
