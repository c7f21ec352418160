"""Somebody who poses as the home agent inside, and does not have its key."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from ipaddress import IPv4Address
from typing import Self

from gateway.domain.wire import WireError
from gateway.lab import netns
from gateway.lab.mobility import plan
from gateway.lab.tap import ETH_P_IP, Frame
from gateway.lab.topology import Lab
from gateway.mip_agents.authentication import sign
from gateway.mip_agents.codec.codes import ReplyCode
from gateway.mip_agents.codec.extensions import AuthenticationKind
from gateway.mip_agents.codec.registration import RegistrationReply, RegistrationRequest
from gateway.mip_agents.policy import SecurityAssociation

MIP_PORT, UDP = 434, 17
REPLY = 3
PORT = 4340
POLL_S = 0.1
RULES = """
table ip rogue {{
    chain posing {{
        type nat hook prerouting priority dstnat; policy accept;
        iifname "{interface}" ip daddr {address} udp dport 434 redirect to :4340
    }}
}}
"""
"""The connection tracker writes the i-HA's address into what is answered."""
OTHERS = SecurityAssociation(plan.INSIDE_ASSOCIATION.spi, bytes(range(16)))
"""The right SPI and a key that nobody has."""


def replies(frames: Iterable[Frame]) -> list[bytes]:
    """Registration replies among frames, as the i-HA sent them to the device."""
    found = []
    for frame in frames:
        packet = frame.packet
        if frame.ethertype != ETH_P_IP or packet[9] != UDP or frame.arriving:
            continue
        at = (packet[0] & 15) * 4
        message = packet[at + 8 :]
        if packet[at : at + 2] == MIP_PORT.to_bytes(2, "big") and message[:1] == bytes([REPLY]):
            found.append(message)
    return found


class RogueHomeAgent:
    """Answers each registration to the i-HA that comes in by an interface; a context manager.

    To each request it sends an acceptance without an authenticator, one that is signed with
    another key, every reply of `recorded` as it was, and these with the request's own
    identification.
    """

    def __init__(
        self,
        lab: Lab,
        host: str,
        interface: str,
        recorded: Iterable[bytes] = (),
        address: IPv4Address = plan.INSIDE_HOME_AGENT,
    ) -> None:
        self._lab, self._host, self._interface, self._address = lab, host, interface, address
        self._recorded = list(recorded)
        self.answered: Counter[str] = Counter()
        self._open = True
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._socket = netns.socket_in(
            self._lab.namespace(self._host), socket.AF_INET, socket.SOCK_DGRAM
        )
        self._socket.bind(("0.0.0.0", PORT))
        self._socket.settimeout(POLL_S)
        rules = RULES.format(interface=self._interface, address=self._address)
        self._lab.nft(self._host, rules)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._open = False
        self._thread.join()
        self._socket.close()
        self._lab.nft(self._host, "add table ip rogue; delete table ip rogue")
        netns.flush_conntrack(self._lab.namespace(self._host))

    def _run(self) -> None:
        while self._open:
            with contextlib.suppress(TimeoutError, OSError, WireError):
                octets, sender = self._socket.recvfrom(65535)
                self._answer(RegistrationRequest.parse(octets), sender)

    def _answer(self, request: RegistrationRequest, sender: tuple[str, int]) -> None:
        accepted = RegistrationReply(
            ReplyCode.ACCEPTED,
            request.lifetime_s,
            request.home_address,
            request.home_agent,
            request.identification,
        )
        forged = sign(accepted.serialize(), AuthenticationKind.MOBILE_HOME, OTHERS)
        self._send("unsigned", accepted.serialize(), sender)
        self._send("forged", forged, sender)
        for octets in self._recorded:
            self._send("replayed", octets, sender)
            told = RegistrationReply.parse(octets)
            relabelled = replace(told, identification=request.identification).serialize()
            self._send("relabelled", relabelled, sender)

    def _send(self, what: str, octets: bytes, to: tuple[str, int]) -> None:
        with contextlib.suppress(OSError):
            self._socket.sendto(octets, to)
            self.answered[what] += 1
