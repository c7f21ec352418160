"""The mobile node's end of a UDP tunnel (RFC 3519): a TUN device and a thread that pumps."""

from __future__ import annotations

import contextlib
import os
import select
import struct
import threading
from collections import Counter
from ipaddress import IPv4Address

from gateway.lab import netns
from gateway.lab.mobility.signalling import MIP_PORT, TUNNEL_DATA, SignallingSocket
from gateway.lab.topology import Lab
from gateway.lab.user_device import POLL_S, open_tun

HEADER = struct.Struct(">BBH")
IP_IN_UDP = 4
OVERHEAD_OCTETS = 20 + 8 + 4


class UdpTunnel:
    """IP-in-UDP between a device `name` on the host and port 434 of the home agent."""

    def __init__(
        self,
        lab: Lab,
        host: str,
        name: str,
        signalling: SignallingSocket,
        home_agent: IPv4Address,
        *,
        path_mtu: int = 1500,
    ) -> None:
        self._signalling = signalling
        self._home_agent = home_agent
        self.counters: Counter[str] = Counter()
        self._device = netns.made_inside(lab.namespace(host), lambda: open_tun(name))
        mtu = path_mtu - OVERHEAD_OCTETS
        lab.run(host, ["ip", "link", "set", name, "up", "mtu", str(mtu)])
        self._open = True
        signalling.on_data = self._deliver
        self._pump = threading.Thread(target=self._send_all, daemon=True)
        self._pump.start()

    def keepalive(self) -> None:
        """Keep the NAT's mapping: an ICMP echo request inside the tunnel (RFC 3519 section 4.9)."""
        self._signalling.send(HEADER.pack(TUNNEL_DATA, IP_IN_UDP, 0), self._home_agent, MIP_PORT)

    def close(self) -> None:
        """Take the device away."""
        self._open = False
        self._pump.join()
        self._signalling.on_data = None
        os.close(self._device)

    def _deliver(self, datagram: bytes) -> None:
        if len(datagram) < HEADER.size + 20:
            self.counters["short"] += 1
            return
        _, next_header, reserved = HEADER.unpack_from(datagram)
        if next_header != IP_IN_UDP or reserved:
            self.counters[f"next header {next_header} reserved {reserved}"] += 1
            return
        self.counters["received"] += 1
        with contextlib.suppress(OSError):
            os.write(self._device, datagram[HEADER.size :])

    def _send_all(self) -> None:
        while self._open:
            if not select.select([self._device], [], [], POLL_S)[0]:
                continue
            packet = os.read(self._device, 65535)
            if packet[0] >> 4 != 4:  # router solicitations of IPv6
                continue
            self.counters["sent"] += 1
            header = HEADER.pack(TUNNEL_DATA, IP_IN_UDP, 0)
            with contextlib.suppress(OSError):
                self._signalling.send(header + packet, self._home_agent, MIP_PORT)
