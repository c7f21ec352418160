"""Whoever drives connections of ours hears of them, last in its round."""

from ipaddress import ip_address
from typing import Any

from appliance_fakes import FakeDataplane, FakeEngine

from gateway.appliance.ike_service import IkeService
from gateway.domain.endpoint import Endpoint, Path
from gateway.ike.outputs import ClientDown, ClientUp, Event, Transmit

PATH = Path(Endpoint(ip_address("192.0.2.1"), 4500), Endpoint(ip_address("192.0.2.2"), 4500))
UP = ClientUp(
    connection="office",
    ike_spi=b"12345678",
    outer=PATH.local.address,
    inner=None,
    vpn_fa=False,
    endpoint_update=True,
    mobike=True,
    encapsulated=False,
    advertisement=b"",
    dns=(),
    domains=(),
    subnets=(),
    suite="",
)
DOWN = ClientDown("office", "no answer", "", was_up=False, refused=False)


class Bed:
    def __init__(self, *, listening: bool) -> None:
        self.log: list[object] = []
        self.engine = FakeEngine()
        self.queued: list[Any] = []
        self.engine.take_outputs = self._take  # type: ignore[method-assign]
        self.service = IkeService(
            self.engine,
            FakeDataplane(),
            send=self._send,
            clock=lambda: 1.0,
            call_at=lambda at, action: _Handle(),
            emit=self.log.append,
            client=self if listening else None,
        )

    def _take(self) -> list[Any]:
        taken, self.queued = self.queued, []
        return taken

    def _send(self, message: bytes, path: Path, *, keepalive: bool = False) -> None:
        self.log.append(message)

    def client_up(self, up: ClientUp) -> None:
        self.log.append(up)
        if len(self.log) < 20:
            # It drives the engine at once, whose outputs go the same way.
            self.queued.append(Transmit(b"next", PATH))

    def client_down(self, down: ClientDown) -> None:
        self.log.append(down)


class _Handle:
    def cancel(self) -> None:
        pass


EVENT = Event("ike_sa_established", "connected")


def test_the_listener_comes_last_and_may_drive_the_engine() -> None:
    bed = Bed(listening=True)
    bed.queued = [UP, Transmit(b"first", PATH), EVENT, DOWN]
    bed.service.flush()
    assert bed.log == [b"first", EVENT, UP, DOWN, b"next"]


def test_nobody_listens() -> None:
    bed = Bed(listening=False)
    bed.queued = [UP, DOWN, EVENT]
    bed.service.flush()
    assert bed.log == [EVENT]
