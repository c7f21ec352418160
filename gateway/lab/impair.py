"""Faults for chosen IKE messages: dropped, duplicated, held back, corrupted.

The lab's internet router hands IKE messages (UDP 500, and 4500 with the non-ESP marker of RFC
3948) to `python -m gateway.lab.impair`, which counts them per direction and treats those that
were named; all others pass. It writes each message as a line of JSON, so it also tells how many
there were.
"""

from __future__ import annotations

import argparse
import json
import socket
import struct
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

from gateway.lab import plan
from gateway.lab.measured import Measured, start
from gateway.lab.topology import Lab

QUEUE = 77
READY_S = 30.0
IKE_PORTS = (500, 4500)
NON_ESP_MARKER = bytes(4)

Direction = Literal["to-gateway", "from-gateway"]
Action = Literal["drop", "duplicate", "hold", "corrupt"]

RULES = f"""
table ip lab_impair {{
    chain forward {{
        type filter hook forward priority filter
        udp dport 500 queue flags bypass to {QUEUE}
        udp sport 500 queue flags bypass to {QUEUE}
        udp dport 4500 @th,64,32 0 queue flags bypass to {QUEUE}
        udp sport 4500 @th,64,32 0 queue flags bypass to {QUEUE}
    }}
}}
"""


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


class Queued(Protocol):
    """A packet of the NetfilterQueue binding."""

    def get_payload(self) -> bytes:
        """The IP packet."""

    def set_payload(self, payload: bytes) -> None:
        """Replace the IP packet."""

    def accept(self) -> None:
        """Let it go on."""

    def drop(self) -> None:
        """Throw it away."""

    def retain(self) -> None:
        """Keep the payload after the callback."""


class Impairment:
    """Counts IKE messages and decides; the packets come from the binding or from a test."""

    def __init__(self, faults: Sequence[Fault], resend: socket.socket | None) -> None:
        self._faults = faults
        self._resend = resend
        self._counts: dict[tuple[str, int | None], int] = {}
        self._held: dict[str, list[Queued]] = {}

    def packet(self, packet: Queued) -> None:
        """Treat one packet."""
        octets = packet.get_payload()
        ihl = (octets[0] & 15) * 4
        ike = octets[ihl + 8 :]
        if 4500 in struct.unpack_from(">HH", octets, ihl):
            ike = ike.removeprefix(NON_ESP_MARKER)
        if len(ike) < 28:
            packet.accept()
            return
        exchange, flags, message_id = ike[18], ike[19], struct.unpack_from(">I", ike, 20)[0]
        direction = "to-gateway" if octets[16:20] == plan.GATEWAY_OUTSIDE.packed else "from-gateway"
        action = self._action(direction, exchange)
        self._apply(packet, octets, ihl, direction, action)
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

    def _apply(self, packet: Queued, octets: bytes, ihl: int, direction: str, action: str) -> None:
        if action == "drop":
            packet.drop()
            return
        if action == "hold":
            packet.retain()
            self._held.setdefault(direction, []).append(packet)
            return
        if action == "corrupt":
            changed = bytearray(octets)
            changed[-20] ^= (
                0x55  # inside the ciphertext or the checksum of every message that has one
            )
            changed[ihl + 6 : ihl + 8] = bytes(2)  # no UDP checksum: IKE itself has to notice
            packet.set_payload(bytes(changed))
        packet.accept()
        if action == "duplicate" and self._resend is not None:
            destination = socket.inet_ntoa(octets[16:20])
            self._resend.sendto(octets, (destination, 0))
        for held in self._held.pop(direction, []):
            held.accept()


def start_impairment(lab: Lab, faults: Sequence[Fault], name: str = "impair") -> Measured:
    """Put `faults` to work; `lines()` are the messages seen, `stop_impairment` ends it."""
    plan_text = json.dumps([asdict(fault) for fault in faults])
    running = start(lab, "internet", "impair", [plan_text], name)
    running.wait_for("ready", 1, READY_S)
    lab.nft("internet", "table ip lab_impair\ndelete table ip lab_impair\n" + RULES)
    return running


def stop_impairment(lab: Lab, running: Measured) -> list[dict[str, Any]]:
    """End it and return the messages it saw, in order."""
    lab.nft("internet", "table ip lab_impair\ndelete table ip lab_impair\n")
    running.process.stop()
    return [line for line in running.lines() if "exchange" in line]


def main() -> None:
    """Entry point of the process on the internet router."""
    from netfilterqueue import NetfilterQueue  # noqa: PLC0415 - only this process needs it

    parser = argparse.ArgumentParser()
    parser.add_argument("faults", help="JSON list of faults")
    faults = [Fault(**each) for each in json.loads(parser.parse_args().faults)]
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as resend:
        impairment = Impairment(faults, resend)
        queue = NetfilterQueue()
        queue.bind(QUEUE, impairment.packet)
        sys.stdout.write('{"ready": 1}\n')
        sys.stdout.flush()
        queue.run()


if __name__ == "__main__":
    main()
