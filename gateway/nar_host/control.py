"""The control socket of a session: `gateway nar list` and `release` speak to it."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final

from gateway.control.client import ControlClient, ControlUnavailableError, Service
from gateway.control.peer import Access
from gateway.control.protocol import OPERATIONS, ControlError, ErrorCode, Operation, Request, Role
from gateway.control.server import ControlServer
from gateway.nar_host.registry import Registry
from gateway.nar_host.session import NarSession
from gateway.nar_host.status import session_json

NAR_SESSION: Final = Service("NAR session", "`gateway nar lease` or `gateway nar run`")
SESSION_OPERATIONS: Final[dict[str, Operation]] = {
    operation.name: operation
    for operation in (
        OPERATIONS["health"],
        Operation("nar-session", "Server, address, delivery, leases, and what happened last."),
        Operation("nar-session-end", "Give everything back and end.", role=Role.ADMINISTRATOR),
    )
}
TIMEOUT_S: Final = 5.0


class _Silent:
    """Faults of the control socket concern who uses it, and they are told."""

    def debug(self, event: str, **fields: object) -> object:
        return event, fields

    info = warning = error = debug


class SessionControl:
    """Answers for one session, as long as it is open."""

    def __init__(self, session: NarSession, end: Callable[[], None]) -> None:
        self._session = session
        self._end = end
        self._server: ControlServer | None = None

    async def open(self) -> None:
        """Listen. Raises OSError."""
        path = self._session.attachment.control_socket
        self._server = ControlServer(
            path, access=Access(), log=_Silent(), mode=0o600, operations=SESSION_OPERATIONS
        )
        await self._server.start(self._handle)

    async def close(self) -> None:
        """Stop answering."""
        if self._server is not None:
            await self._server.stop()

    async def _handle(self, request: Request) -> object:
        match request.operation.name:
            case "health":
                return {"status": "ok"}
            case "nar-session":
                return {**session_json(self._session), "events": list(self._session.events)}
            case "nar-session-end":
                # After the answer.
                asyncio.get_running_loop().call_soon(self._end)
                return {"ending": True}
        raise ControlError(ErrorCode.UNKNOWN_OPERATION, f"{request.operation.name}: unknown", "op")


def ask(path: Path, operation: str) -> dict[str, object] | None:
    """What a session answers; None when it is no more. Raises ControlError, ConnectionError."""
    try:
        with ControlClient(path, timeout_s=TIMEOUT_S, service=NAR_SESSION) as client:
            return client.call(operation)
    except ControlUnavailableError as error:
        if isinstance(error.__cause__, FileNotFoundError | ConnectionRefusedError):
            return None
        raise


def sessions(registry: Registry) -> list[dict[str, object]]:
    """All sessions of this host that answer. Raises ControlError, ConnectionError."""
    found = (ask(registry.socket(number), "nar-session") for number in registry.numbers())
    return [one for one in found if one is not None]
