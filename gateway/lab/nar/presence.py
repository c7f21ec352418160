"""What a client does with what was lent: Nb as an address of its own, by plain `ip link` tunnels.

Nothing of the product is in it: the tunnel's form is the draft's (section 2.5), the L2TP session's
that of RFC 3931 with the identifiers of the negotiation. Where the kernel has no such devices, a
TUN device is one.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network
from typing import Self

from gateway.domain.mobility import Encapsulation
from gateway.lab import netns
from gateway.lab.kernel import has_tunnels
from gateway.lab.mobility.user_tunnel import UserTunnel
from gateway.lab.nar import plan
from gateway.lab.nar.instrument import L2tpIds
from gateway.lab.nar.topology import NarLab
from gateway.lab.nar.user_l2tp import UserL2tp
from gateway.lab.processes import LabError

DEVICE = "nb"
FLAGS = {"ip-ip": 0x00, "gre": 0x02, "l2tp": 0x04, "translated": 0x01}
"""What NAR-MODE asks for to get a delivery."""
L2TP_PORT = 1701
L2TP_MTU = 1438
"""1500 without IP, UDP, L2TPv3 over UDP, cookie, L2-specific sublayer and Ethernet."""
YS_NETWORK = IPv4Network((int(plan.Y) & 0xFFFFFF00, 24))


class Presence:
    """A client's host while it is present at Nb; with translated delivery it stays what it is.

    A context manager. `source` is what its packets have as source address.
    """

    def __init__(
        self,
        lab: NarLab,
        host: str,
        delivery: str,
        shared: IPv4Address = plan.NB,
        *,
        server: IPv4Address = plan.NA,
        l2tp: L2tpIds | None = None,
        networks: Sequence[object] = (YS_NETWORK, plan.HOME_NETWORK),
    ) -> None:
        self.lab, self.host, self.delivery, self.shared = lab, host, delivery, shared
        self.client = plan.ADDRESSES[host]
        self._in_user_space = self._user_tunnel(server, l2tp)
        lines = [] if self._in_user_space else self._tunnel(server, l2tp)
        if lines or self._in_user_space:
            lines += [f"address add {shared}/32 dev {DEVICE}", f"link set {DEVICE} up"]
            lines += [f"route add {network} dev {DEVICE} src {shared}" for network in networks]
            self._ip(lines)

    @property
    def source(self) -> IPv4Address:
        """Nb, or Xa where the server translates."""
        return self.client if self.delivery == "translated" else self.shared

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """Give the address back."""
        if self.delivery == "translated":
            return
        if self._in_user_space is not None:
            self._in_user_space.close()
        elif self.delivery == "l2tp":  # its device goes with it
            self._ip([f"l2tp delete tunnel tunnel_id {self._tunnel_id}"])
        else:
            self._ip([f"link delete {DEVICE}"])

    def _user_tunnel(
        self, server: IPv4Address, l2tp: L2tpIds | None
    ) -> UserTunnel | UserL2tp | None:
        if self.delivery == "translated" or has_tunnels():
            return None
        ends = self.client, server
        if self.delivery == "l2tp":
            if l2tp is None:
                raise LabError("an L2TP presence needs the session's identifiers")
            return UserL2tp(self.lab, self.host, DEVICE, ends, ids=l2tp, mtu=L2TP_MTU)
        kind = Encapsulation.GRE if self.delivery == "gre" else Encapsulation.IP_IP
        return UserTunnel(self.lab, self.host, DEVICE, ends, kind)

    def _tunnel(self, server: IPv4Address, l2tp: L2tpIds | None) -> list[str]:
        if self.delivery in {"ip-ip", "gre"}:
            kind = "ipip" if self.delivery == "ip-ip" else "gre"
            return [f"link add {DEVICE} type {kind} local {self.client} remote {server} ttl 64"]
        if self.delivery != "l2tp":
            return []
        if l2tp is None:
            raise LabError("an L2TP presence needs the session's identifiers")
        self._tunnel_id = l2tp.tunnel_id
        link_address = b"\x02\x4e\x41" + (l2tp.peer_session_id & 0xFFFFFF).to_bytes(3, "big")
        tunnel = f"tunnel_id {l2tp.tunnel_id} peer_tunnel_id {l2tp.peer_tunnel_id}"
        session = f"session_id {l2tp.session_id} peer_session_id {l2tp.peer_session_id}"
        # To ip-l2tp(8) "cookie" is what we send, "peer_cookie" what we expect.
        cookies = f"cookie {l2tp.peer_cookie.hex()} peer_cookie {l2tp.cookie.hex()}"
        ends = f"local {self.client} remote {server}"
        ports = f"udp_sport {L2TP_PORT} udp_dport {L2TP_PORT}"
        return [
            f"l2tp add tunnel {tunnel} encap udp {ends} {ports}",
            f"l2tp add session name {DEVICE} tunnel_id {l2tp.tunnel_id} {session} {cookies}",
            f"link set {DEVICE} address {link_address.hex(':')} arp off mtu {L2TP_MTU}",
        ]

    def _ip(self, lines: Sequence[str]) -> None:
        netns.command(
            ["ip", "-n", self.lab.namespace(self.host), "-batch", "-"], "\n".join(lines) + "\n"
        )
