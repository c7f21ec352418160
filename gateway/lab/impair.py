"""Faults for chosen IKE messages: dropped, duplicated, held back, corrupted.

The lab's internet router hands IKE messages (UDP 500, and 4500 with the non-ESP marker of RFC
3948) to `python -m gateway.lab.impair`, which counts them per direction and treats those that
were named; all others pass. It writes each message as a line of JSON, so it also tells how many
there were.
"""

from __future__ import annotations

import argparse
import json
import select
import struct
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from gateway.lab import plan, taken
from gateway.lab.measured import Measured, start
from gateway.lab.topology import Lab

GROUP = 77
READY_S = 30.0
IKE_PORTS = (500, 4500)
NON_ESP_MARKER = bytes(4)

Direction = Literal["to-gateway", "from-gateway"]
Action = Literal["drop", "duplicate", "hold", "corrupt"]

TABLE = "lab_impair"
MATCHES = (
    "udp dport 500",
    "udp sport 500",
    "udp dport 4500 @th,64,32 0",
    "udp sport 4500 @th,64,32 0",
)


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to the nth IKE message (from 1) of a direction.

    With `exchange` (RFC 7296 section 3.1: 34 IKE_SA_INIT, 35 IKE_AUTH, 36 CREATE_CHILD_SA,
    37 INFORMATIONAL) only messages of that exchange are counted. `hold` lets the next message
    of the direction overtake it.
    """

    action: Action
    direction: Direction
    nth: int
    exchange: int | None = None


class Impairment:
    """Counts IKE messages and decides; `send` lets a packet go on."""

    def __init__(self, faults: Sequence[Fault], send: Callable[[bytes], object]) -> None:
        self._faults = faults
        self._send = send
        self._counts: dict[tuple[str, int | None], int] = {}
        self._held: dict[str, list[bytes]] = {}

    def packet(self, octets: bytes) -> None:
        """Treat one packet."""
        ihl = (octets[0] & 15) * 4
        ike = octets[ihl + 8 :]
        if 4500 in struct.unpack_from(">HH", octets, ihl):
            ike = ike.removeprefix(NON_ESP_MARKER)
        if len(ike) < 28:
            self._send(octets)
            return
        exchange, flags, message_id = ike[18], ike[19], struct.unpack_from(">I", ike, 20)[0]
        direction = "to-gateway" if octets[16:20] == plan.GATEWAY_OUTSIDE.packed else "from-gateway"
        action = self._action(direction, exchange)
        self._apply(octets, ihl, direction, action)
        line = {
            "direction": direction, "exchange": exchange, "message_id": message_id,
            "response": bool(flags & 0x20), "length": len(ike), "action": action,
        }  # fmt: skip
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()

    def _action(self, direction: str, exchange: int) -> str:
        for kind in (None, exchange):
            self._counts[direction, kind] = self._counts.get((direction, kind), 0) + 1
        for fault in self._faults:
            counted = fault.direction == direction and fault.exchange in {None, exchange}
            if counted and self._counts[direction, fault.exchange] == fault.nth:
                return fault.action
        return "pass"

    def _apply(self, octets: bytes, ihl: int, direction: str, action: str) -> None:
        if action == "drop":
            return
        if action == "hold":
            self._held.setdefault(direction, []).append(octets)
            return
        if action == "corrupt":
            changed = bytearray(octets)
            changed[-20] ^= (
                0x55  # inside the ciphertext or the checksum of every message that has one
            )
            changed[ihl + 6 : ihl + 8] = bytes(2)  # no UDP checksum: IKE itself has to notice
            octets = bytes(changed)
        for _ in range(1 + (action == "duplicate")):
            self._send(octets)
        for held in self._held.pop(direction, []):
            self._send(held)


def start_impairment(lab: Lab, faults: Sequence[Fault], name: str = "impair") -> Measured:
    """Put `faults` to work; `lines()` are the messages seen, `stop_impairment` ends it."""
    plan_text = json.dumps([asdict(fault) for fault in faults])
    running = start(lab, "internet", "impair", [plan_text], name)
    running.wait_for("ready", 1, READY_S)
    lab.nft("internet", taken.rules(TABLE, GROUP, MATCHES))
    return running


def stop_impairment(lab: Lab, running: Measured) -> list[dict[str, Any]]:
    """End it and return the messages it saw, in order."""
    lab.nft("internet", taken.clear(TABLE))
    running.process.stop()
    return [line for line in running.lines() if "exchange" in line]


def main() -> None:
    """Entry point of the process on the internet router."""
    parser = argparse.ArgumentParser()
    parser.add_argument("faults", help="JSON list of faults")
    faults = [Fault(**each) for each in json.loads(parser.parse_args().faults)]
    packets = taken.Taken(GROUP)
    impairment = Impairment(faults, packets.send)
    sys.stdout.write('{"ready": 1}\n')
    sys.stdout.flush()
    while True:
        select.select([packets], [], [])
        for packet in packets.packets():
            impairment.packet(packet)


if __name__ == "__main__":
    main()
