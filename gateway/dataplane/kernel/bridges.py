"""Bridges of devices in the kernel: a port for each device, our ends, and what may pass.

Draft 000 section 1.1: GRE carries what is not IP through the tunnel. Here it carries Ethernet
frames, so that any such protocol works, to a bridge of the host. The ruleset keeps IP out: that
goes through the tunnel by itself and has rules of its own.
"""

import contextlib
import errno
from collections.abc import Collection, Iterable, Mapping
from importlib import resources
from ipaddress import IPv4Address
from string import Template
from typing import Final

from gateway.dataplane.kernel import bridge_links
from gateway.dataplane.kernel.bridge_links import BRIDGE_PREFIX, PORT_PREFIX, Interface, Port
from gateway.dataplane.kernel.netlink import (
    NETLINK_NETFILTER,
    NETLINK_ROUTE,
    NetlinkError,
    NetlinkSocket,
)
from gateway.dataplane.kernel.nft_elements import ElementChange, SetElements
from gateway.dataplane.kernel.ruleset import run_nft
from gateway.dataplane.kernel.ruleset_version import has_chain, version_chain

__all__ = ["KernelBridges", "Port"]

TABLE: Final = "gateway_bridges"
ENDS: Final = "ends"
_UNKNOWN = (errno.EOPNOTSUPP, errno.ENOENT, errno.EINVAL)


class KernelBridges:
    """Ports and rules in this network namespace. Methods raise OSError."""

    def __init__(self, xfrm_interface: str) -> None:
        self._tunnel = xfrm_interface
        self._route = NetlinkSocket(NETLINK_ROUTE)
        self._ports: dict[str, Port] = {}
        """In the kernel, as far as we know, by interface."""
        self._ends: dict[IPv4Address, None] = {}
        self._added: dict[IPv4Address, None] = {}
        """Those that no interface of the host had."""

    def open(self) -> None:
        """Load the rules and take over the ports that an earlier process left."""
        self._load()
        self._ports = {port.name: port for port in self._there()}

    def _rules(self, ends: Iterable[str] = ()) -> str:
        text = resources.files(__package__).joinpath("bridges.nft").read_text("ascii")
        rules = Template(text).safe_substitute(INTERFACE=self._tunnel)
        listed = ", ".join(ends)
        filled = Template(rules).substitute(ENDS=f"elements = {{ {listed} }}" if listed else "")
        return f"{filled}add chain inet {TABLE} {version_chain(rules)}\n"

    def _load(self) -> None:
        """Rules of the same version stay, with what their set holds."""
        with contextlib.closing(NetlinkSocket(NETLINK_NETFILTER)) as netfilter:
            same = has_chain(netfilter, TABLE, self._rules().split()[-1])
        known = self._known_ends()
        if not same:
            run_nft(self._rules(map(str, known)))
        self._ends = dict.fromkeys(known)

    def _known_ends(self) -> list[IPv4Address]:
        sets = SetElements(TABLE)
        try:
            return [IPv4Address(key[:4]) for key in sets.read(ENDS)]
        except OSError:
            return []
        finally:
            sets.close()

    def _there(self) -> list[Port]:
        every = {one.index: one for one in bridge_links.interfaces(self._route)}
        found = []
        for one in every.values():
            master = every.get(one.master)
            if one.ours and one.name.startswith(PORT_PREFIX) and one.ends and master is not None:
                found.append(Port(master.name, *one.ends, one.isolated))
        return found

    # -- bridges -----------------------------------------------------------------------------

    def bridge_of(self, interface: str) -> str:
        """The bridge that ``interface`` is, or is a port of; one of ours where it has to be made.

        An interface with addresses would lose them as a port: it is refused.
        """
        every = {one.name: one for one in bridge_links.interfaces(self._route)}
        named = every.get(interface)
        if named is None:
            raise OSError(errno.ENODEV, f"interface {interface} does not exist")
        if named.kind == "bridge":
            return interface
        if named.master:
            return next(one.name for one in every.values() if one.index == named.master)
        if any(index == named.index for index, _ in bridge_links.addresses(self._route)):
            raise OSError(
                errno.EBUSY,
                f"interface {interface} has addresses, which a port of a bridge cannot have;"
                " make a bridge of it, give that the addresses, and name the bridge",
            )
        return self._new_bridge(named, every)

    def _new_bridge(self, port: Interface, every: Mapping[str, Interface]) -> str:
        name = f"{BRIDGE_PREFIX}{port.index}"
        there = every.get(name)
        if there is not None and not there.ours:
            raise OSError(errno.EEXIST, f"interface {name} exists and is not ours; rename it")
        if there is None:
            self._explained(name, [bridge_links.make_bridge(name, port.mtu)], "CONFIG_BRIDGE")
        made = self._find(name)
        self._explained(name, [bridge_links.join(port.index, made.index)], "CONFIG_BRIDGE")
        return name

    def _find(self, name: str) -> Interface:
        return bridge_links.find(self._route, name)

    # -- our ends ----------------------------------------------------------------------------

    def set_ends(self, ends: Collection[IPv4Address]) -> None:
        """The addresses that devices' tunnels end at; those that nobody has become ours."""
        tunnel = self._find(self._tunnel).index
        owners: dict[IPv4Address, set[int]] = {}
        for index, address in bridge_links.addresses(self._route):
            owners.setdefault(address, set()).add(index)
        for address in ends:
            if owners.get(address, {tunnel}) == {tunnel}:
                self._added[address] = None
                added = bridge_links.add_address(tunnel, address)
                self._route.check(f"address {address}", [added], errno.EEXIST)
        for address in [one for one in self._added if one not in ends]:
            del self._added[address]
            gone = bridge_links.delete_address(tunnel, address)
            self._route.check(f"address {address}", [gone], errno.EADDRNOTAVAIL)
        changes = [ElementChange(ENDS, one.packed) for one in ends if one not in self._ends]
        changes += [
            ElementChange(ENDS, one.packed, add=False) for one in self._ends if one not in ends
        ]
        with contextlib.closing(SetElements(TABLE)) as sets:
            refusal = sets.apply(changes)
        if refusal is not None:
            raise NetlinkError(f"set {ENDS}", refusal)
        self._ends = dict.fromkeys(ends)

    # -- ports -------------------------------------------------------------------------------

    @property
    def ports(self) -> Collection[Port]:
        """That there are."""
        return self._ports.values()

    def add(self, port: Port) -> None:
        """Make a port, in the place of one for the same device."""
        there = self._ports.get(port.name)
        if there == port:
            return
        if there is not None:
            self.remove(there)
        master, tunnel = self._find(port.bridge), self._find(self._tunnel)
        self._explained(port.name, [port.make(master.mtu, tunnel.index)], "CONFIG_NET_IPGRE")
        try:
            self._explained(port.name, port.join(master.index), "CONFIG_BRIDGE")
        except OSError:
            self._delete(port.name)
            raise
        self._ports[port.name] = port

    def remove(self, port: Port) -> None:
        """Delete a port; it may be gone."""
        if self._ports.get(port.name) == port:
            del self._ports[port.name]
            self._delete(port.name)

    def _delete(self, name: str) -> None:
        self._route.check(name, [bridge_links.delete(name)], errno.ENODEV)

    def _explained(self, name: str, requests: list[bytes], option: str) -> None:
        try:
            self._route.check(name, requests)
        except NetlinkError as error:
            if error.errno in _UNKNOWN:
                text = f"{error.strerror}; use a kernel with {option}"
                raise OSError(error.errno, text) from error
            raise

    # -- the end -----------------------------------------------------------------------------

    def forget_bridges(self, wanted: Collection[str]) -> None:
        """Delete the bridges of ours that nobody wants; their ports stay, for themselves."""
        for one in list(bridge_links.interfaces(self._route)):
            if one.ours and one.kind == "bridge" and one.name not in wanted:
                self._route.check(one.name, [bridge_links.delete(one.name)], errno.ENODEV)

    def close(self, *, keep: bool = False) -> None:
        """Remove everything of ours, unless it is kept. Never raises."""
        if not keep:
            for port in list(self._ports.values()):
                with contextlib.suppress(OSError):
                    self.remove(port)
            with contextlib.suppress(OSError):
                self.set_ends(())
            with contextlib.suppress(OSError):
                self.forget_bridges(())
            with contextlib.suppress(OSError):
                run_nft(f"add table inet {TABLE}\ndelete table inet {TABLE}")
        self._route.close()
