"""What the control socket of the mobile node does when it is asked."""

from collections.abc import Awaitable, Callable
from typing import Protocol

from gateway.control.node_operations import status_json
from gateway.control.protocol import ControlError, ErrorCode, Request
from gateway.mobile_host.portal_door import PortalDoor
from gateway.mobile_node.status import NodeStatus


class Node(Protocol):
    """What can be asked of the node: :class:`gateway.mobile_host.running.RunningNode`."""

    def status(self) -> NodeStatus:
        """Where it is, and why."""

    async def unlock(self, password: str) -> None:
        """Raises :class:`ControlError`."""

    def lock(self) -> None:
        """Raises :class:`ControlError`."""

    def reconnect(self) -> None:
        """Begin anew on every link."""

    @property
    def portal_door(self) -> PortalDoor:
        """The way to a captive portal's page."""


class NodeControl:
    """Answers requests that the server has checked."""

    def __init__(self, node: Node, clock: Callable[[], float]) -> None:
        self._node = node
        self._clock = clock
        self._operations: dict[str, Callable[[Request], Awaitable[object]]] = {
            "health": self._health,
            "node-status": self._status,
            "node-unlock": self._unlock,
            "node-lock": self._lock,
            "node-reconnect": self._reconnect,
            "node-portal": self._portal,
            "node-portal-stop": self._portal_stop,
        }

    async def handle(self, request: Request) -> object:
        """See :data:`gateway.control.server.Handler`."""
        operation = self._operations.get(request.operation.name)
        if operation is None:
            name = request.operation.name
            raise ControlError(ErrorCode.UNKNOWN_OPERATION, f"{name}: is for a gateway", "op")
        return await operation(request)

    async def _health(self, _request: Request) -> object:
        return {"status": "ok"}

    async def _status(self, _request: Request) -> object:
        return status_json(self._node.status(), self._clock())

    async def _unlock(self, request: Request) -> object:
        await self._node.unlock(request.text("password") or "")
        return {"locked": False}

    async def _lock(self, _request: Request) -> object:
        self._node.lock()
        return {"locked": True}

    async def _reconnect(self, _request: Request) -> object:
        self._node.reconnect()
        return {"reconnecting": True}

    async def _portal(self, request: Request) -> object:
        uid = request.number("uid") or 0
        door = self._node.portal_door
        return door.keep(uid) if request.arguments["keep"] is True else door.ask(uid)

    async def _portal_stop(self, _request: Request) -> object:
        self._node.portal_door.end("it was told to")
        return {"open": False}
