"""The raw sockets that ESP comes to, plain and in UDP, those of flooded SPIs apart."""

from collections.abc import Iterator
from typing import Final

from gateway.dataplane.portable.wire import filters
from gateway.dataplane.portable.wire.filters import Program, Share
from gateway.dataplane.portable.wire.receive import Batches, RawReceiver

ESP: Final = 50
UDP: Final = 17
ASIDE_AT_ONCE: Final = 8
"""Packets of flooded SPIs for each batch of others."""
ASIDE_OCTETS: Final = 1 << 18


class EspSockets:
    """Of one process. Raises OSError from the constructor."""

    def __init__(self, worker: int, workers: int, batches: Batches) -> None:
        self._share = Share(worker, workers)
        self._ports: list[int] = []
        self._open: list[tuple[int, int, RawReceiver, RawReceiver]] = []
        """IP version, protocol, the socket for most packets, and the one for what is set aside."""
        for version in (4, 6):
            for protocol in (ESP, UDP):
                try:
                    others = RawReceiver(version, protocol, filters.NOTHING, batches)
                    aside = RawReceiver(
                        version, protocol, filters.NOTHING, batches,
                        most=ASIDE_AT_ONCE, room=ASIDE_OCTETS,
                    )  # fmt: skip
                except OSError:
                    if version == 4:
                        raise
                    continue  # A kernel without IPv6.
                self._open.append((version, protocol, others, aside))
        self._attach()

    def __iter__(self) -> Iterator[RawReceiver]:
        for _, _, others, aside in self._open:
            yield others
            yield aside

    def listen(self, port: int) -> None:
        """Receive ESP in UDP at this port as well. Raises OSError."""
        if port not in self._ports and len(self._ports) < filters.MAX_PORTS:
            self._ports = sorted((*self._ports, port))
            self._attach()

    def set_aside(self, spis: tuple[int, ...], known: tuple[int, ...] | None) -> None:
        """Give these SPIs sockets of their own; see :class:`Share`. Raises OSError."""
        share, before = Share(self._share.worker, self._share.workers, spis, known), self._share
        if share != before:
            self._share = share
            try:
                self._attach()
            except OSError:
                self._share = before
                self._attach()
                raise

    def close(self) -> None:
        """Close the sockets."""
        for receiver in self:
            receiver.close()

    def _attach(self) -> None:
        share = self._share
        for version, protocol, others, aside in self._open:
            # In this order nothing that is set aside now is lost in between.
            aside.change(self._program(version, protocol, share.set_aside()))
            others.change(self._program(version, protocol, share.others()))

    def _program(self, version: int, protocol: int, spis: Program) -> Program:
        if protocol == ESP:
            return filters.esp(version, spis)
        return filters.esp_in_udp(version, self._ports, spis) if self._ports else filters.NOTHING
