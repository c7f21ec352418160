"""Ends of tunnels and SAs in user space, for the mobile node's beds: the node's and its peers'."""

import tempfile
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path

from gateway.dataplane.kernel.node import constants
from gateway.dataplane.portable.forwarder import Forwarder
from gateway.dataplane.portable.launch import open_forwarder
from gateway.dataplane.portable.tunnel_link import TunnelKind, TunnelLink
from gateway.dataplane.portable.wire import links
from gateway.domain.child_sa import ANY_IPV4, ChildSa, Encryption, EspKeys, EspSuite, Integrity
from gateway.domain.endpoint import Endpoint
from gateway.domain.mobility import Encapsulation
from gateway.lab import planes

KEY = bytes(range(20))
NODE_SPI, PEER_SPI = 0x1002, 0x1001
"""Inbound at each."""
_SUITE = EspSuite(Encryption.AES_GCM_16, 128, Integrity.NONE, esn=False)
_KINDS = {
    Encapsulation.IP_IP: TunnelKind.IP_IP,
    Encapsulation.GRE: TunnelKind.GRE,
    Encapsulation.MINIMAL: TunnelKind.MINIMAL,
}


def _child(spi_in: int, spi_out: int, local: IPv4Address, remote: IPv4Address) -> ChildSa:
    return ChildSa(
        spi_in=spi_in,
        spi_out=spi_out,
        reqid=1,
        suite=_SUITE,
        keys_in=EspKeys(KEY),
        keys_out=EspKeys(KEY),
        local=Endpoint(local, 0),
        remote=Endpoint(remote, 0),
        udp_encapsulation=False,
        local_ts=(ANY_IPV4,),
        remote_ts=(ANY_IPV4,),
    )


def _give(forwarder: Forwarder, sa: ChildSa, output_mark: int) -> None:
    forwarder.remove(sa.spi_in)
    forwarder.install(sa, outbound=True, output_mark=output_mark)
    refused, _ = forwarder.commit()
    assert refused == []


def node_end(outer: IPv4Address, gateway: IPv4Address) -> None:
    """The VPN layer of the node in this network namespace, as its IPsec dataplane makes it."""
    view = planes.plane(constants.XFRM_INTERFACE).forwarder()
    _give(view, _child(NODE_SPI, PEER_SPI, outer, gateway), constants.NODE_VPN)
    view.close(keep=True)


@dataclass
class UserPeers:
    """A forwarder of the home agents and the gateway, in the network namespace of the caller."""

    _forwarder: Forwarder | None = None
    _links: list[str] = field(default_factory=list)

    def _open(self) -> Forwarder:
        if self._forwarder is None:
            links.make_pair("vg", 1400)
            folder = Path(tempfile.mkdtemp(prefix="peers-"))
            self._forwarder = open_forwarder(
                folder, interface="vg", adopt=False, workers=1, lasting=False
            )
        return self._forwarder

    def tunnel(
        self,
        name: str,
        local: IPv4Address,
        remote: IPv4Address,
        encapsulation: Encapsulation,
        *,
        udp: bool,
    ) -> None:
        """A home agent's; in UDP the ruleset of the bed exchanges the header."""
        forwarder = self._open()
        if name in self._links:
            links.delete(name)
        else:
            self._links.append(name)
        links.make_pair(name, 1300 if name == "it" else 1400)
        kind = TunnelKind.GRE_UDP if udp else _KINDS[encapsulation]
        ports = 434 if udp else 0
        forwarder.remove_tunnel(name)
        forwarder.set_tunnel(
            TunnelLink(
                name,
                kind,
                local=local,
                remote=remote,
                mark=0,
                local_port=ports,
                remote_port=ports,
            )
        )
        assert forwarder.commit() == ([], [])

    def vpn(self, gateway: IPv4Address, outer: IPv4Address) -> None:
        """The gateway's end of the VPN layer."""
        _give(self._open(), _child(PEER_SPI, NODE_SPI, gateway, outer), 0)

    def end(self) -> None:
        """Everything is gone."""
        if self._forwarder is not None:
            self._forwarder.close(keep=False)
            self._forwarder = None
            for name in ("vg", *self._links):
                links.delete(name)
            self._links.clear()
