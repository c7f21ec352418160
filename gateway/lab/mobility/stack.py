"""A mobile node's end of things, made with plain `ip` and `nft` on its host.

The home address lives on a dummy interface for good, so that connections survive every move;
what changes is where packets from it go. Packets from a care-of address always take its access
network's router, whatever the default route says.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable
from ipaddress import IPv4Address

from gateway.domain.mobility import MIP_PORT, Encapsulation
from gateway.lab import netns
from gateway.lab.kernel import place_for_addresses
from gateway.lab.mobility.discovery import Discovered
from gateway.lab.mobility.user_tunnel import KINDS, make_tunnel
from gateway.lab.plan import Access
from gateway.lab.processes import LabError
from gateway.lab.topology import Lab

FROM_HOME_ADDRESS, FROM_CARE_OF = 100, 150
"""Priorities of the rules, before those of an IKE daemon; the layer's number is added."""
FIRST_TABLE = 1000
PATH_MTU = 1500
"""Longer packets are fragmented, and so never switched."""


class Stack:
    """The routes and devices of one layer (`number` 1 or 2, `name` for its devices) on a host.

    With `default_route` whatever has no source yet gets the home address and takes this layer.
    """

    def __init__(
        self,
        lab: Lab,
        host: str,
        name: str,
        number: int,
        home_address: IPv4Address,
        *,
        default_route: bool = False,
    ) -> None:
        self._lab, self._host = lab, host
        self._home_address = home_address
        self._default_route = default_route
        self._end_tunnel: Callable[[], None] | None = None
        self._table, self._care_of_table = FIRST_TABLE + 2 * number, FIRST_TABLE + 2 * number + 1
        self.home_device, self.tunnel_device = f"{name}hoa", f"{name}tun"
        self._nft_table = f"mn_{name}"
        self._priority, self._care_of_priority = FROM_HOME_ADDRESS + number, FROM_CARE_OF + number
        self.ip(
            *place_for_addresses(self.home_device),
            f"address add {home_address}/32 dev {self.home_device}",
            f"rule add pref {self._priority} from {home_address} lookup {self._table}",
        )
        self.unreachable()

    # -- where packets from the home address go ------------------------------------------------

    def unreachable(self) -> None:
        """Nowhere: it is not registered."""
        self.clear()
        self.ip(f"route replace blackhole default table {self._table}")

    def at_home(self, access: Access) -> None:
        """On the home link, without Mobile IP."""
        self.clear()
        self._way_out(
            f"via {access.router} dev {access.name}",
            local=f"{access.device.network} dev {access.name}",
        )

    def through_router(self, access: Access) -> None:
        """Straight out of the access network, home address as source: no reverse tunnel."""
        self.clear(keep_devices=True)
        self._way_out(f"via {access.router} dev {access.name}")

    def through_agent(self, agent: Discovered) -> None:
        """To a foreign agent, whose link-layer address comes from its advertisement."""
        self.clear()
        mac = agent.link_address.hex(":")
        self.ip(
            f"neighbour replace {agent.address} lladdr {mac} dev {agent.link} nud permanent",
            f"route replace {agent.address} dev {agent.link} src {self._home_address}",
        )
        self._way_out(
            f"via {agent.address} dev {agent.link} onlink",
            local=f"{agent.address} dev {agent.link}",
        )

    def through_device(self, device: str) -> None:
        """Into an interface that somebody else made: the VPN's, when the home address is inner."""
        self.clear()
        self._way_out(f"dev {device}")

    def through_vpn(self) -> None:
        """By the policies of an IKE daemon, whose selectors hold the home address itself."""
        self.clear()
        self.ip(f"route flush table {self._table}")

    def through_tunnel(
        self,
        care_of: IPv4Address,
        home_agent: IPv4Address,
        encapsulation: Encapsulation,
        *,
        reverse: bool = True,
    ) -> None:
        """Into a tunnel of the kernel's or our own; without `reverse` it only receives."""
        self.clear()
        if encapsulation not in KINDS:
            raise LabError(f"the kernel has no device for encapsulation {encapsulation.value}")
        device = self.tunnel_device
        ends = care_of, home_agent
        self._end_tunnel = make_tunnel(self._lab, self._host, device, ends, encapsulation)
        if reverse:
            self._way_out(f"dev {device}")

    def through_tun(self) -> None:
        """Into the device that a :class:`~gateway.lab.mobility.udp_tunnel.UdpTunnel` has made."""
        self._way_out(f"dev {self.tunnel_device}")

    def switch_addresses(
        self, care_of: IPv4Address, home_agent: IPv4Address, destination: IPv4Address
    ) -> None:
        """Zero overhead to and from `destination` (draft 001, appendix D), beside the tunnel.

        Neither fragments nor anything of port 434 nor tunnels are switched.
        """
        switched_out = f"ip saddr {self._home_address} ip daddr {destination}"
        switched_back = f"ip saddr {home_agent} ip daddr {care_of}"
        # One match a line: nft 1.0.6 takes two unequal ports in one for a single comparison.
        never = f"""
            ip protocol {{ 4, 47, 55 }} accept
            udp dport {MIP_PORT} accept
            udp sport {MIP_PORT} accept
            ip frag-off & 0x3fff != 0 accept
        """
        self._lab.nft(
            self._host,
            f"""
            table ip {self._nft_table} {{
                chain out {{
                    type route hook output priority raw
                    {never}
                    ip frag-off & 0x4000 == 0 ip length > {PATH_MTU} accept
                    {switched_out} notrack ip saddr set {care_of} ip daddr set {home_agent}
                }}
                chain pre {{
                    type filter hook prerouting priority raw
                    {never}
                    {switched_back} notrack ip saddr set {destination} \
                        ip daddr set {self._home_address}
                }}
            }}
            """,
        )

    def clear(self, *, keep_devices: bool = False) -> None:
        """Forget where packets went, tunnels included."""
        self._lab.run(self._host, ["nft", "delete", "table", "ip", self._nft_table], check=False)
        if not keep_devices:
            if self._end_tunnel is not None:
                self._end_tunnel()
                self._end_tunnel = None
            self._lab.run(self._host, ["ip", "link", "delete", self.tunnel_device], check=False)
        self._lab.run(self._host, ["ip", "route", "flush", "table", str(self._table)], check=False)

    # -- care-of addresses -----------------------------------------------------------------------

    def use_care_of(self, access: Access) -> None:
        """Let packets from the access network's address take its router."""
        self.forget_care_of()
        self.ip(
            f"rule add pref {self._care_of_priority} from {access.device.ip}"
            f" lookup {self._care_of_table}",
            f"route replace {access.device.network} dev {access.name} table {self._care_of_table}",
            f"route replace default via {access.router} dev {access.name}"
            f" table {self._care_of_table}",
        )

    def forget_care_of(self) -> None:
        """The access network is left."""
        argv = ["ip", "rule", "delete", "pref", str(self._care_of_priority)]
        while not self._lab.run(self._host, argv, check=False).returncode:
            pass
        table = str(self._care_of_table)
        self._lab.run(self._host, ["ip", "route", "flush", "table", table], check=False)

    # -- the end ---------------------------------------------------------------------------------

    def remove(self) -> None:
        """Take everything away; what is gone already is fine."""
        self.clear()
        self.forget_care_of()
        with contextlib.suppress(LabError):
            self.ip(f"rule delete pref {self._priority}", f"link delete {self.home_device}")

    def device_mtu(self) -> int:
        """The MTU of the tunnel device."""
        argv = ["ip", "-n", self._lab.namespace(self._host), "-j", "link", "show"]
        (link,) = json.loads(netns.command([*argv, "dev", self.tunnel_device]))
        return int(link["mtu"])

    def ip(self, *lines: str) -> None:
        """Run lines of `ip -batch` on the host."""
        self._batch(lines)

    def _batch(self, lines: Iterable[str]) -> None:
        argv = ["ip", "-n", self._lab.namespace(self._host), "-batch", "-"]
        netns.command(argv, "\n".join(lines) + "\n")

    def _way_out(self, way: str, *, local: str = "") -> None:
        source = f"src {self._home_address}"
        if local:
            self.ip(f"route replace {local} {source} table {self._table}")
        self.ip(f"route replace default {way} {source} table {self._table}")
        if self._default_route:
            self.ip(f"route replace default {way} {source}")
