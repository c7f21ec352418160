"""What is there before the first registration: devices, rules, constant routes, ruleset."""

import contextlib
import errno
from collections.abc import Collection
from ipaddress import IPv4Address, IPv4Network

from gateway.dataplane.kernel.mobility import constants, counters, routes, ruleset, texts
from gateway.dataplane.kernel.mobility.devices import LOOPBACK, Device
from gateway.dataplane.kernel.mobility.means import KernelMeans, Means
from gateway.dataplane.kernel.mobility.neighbours import Announcer
from gateway.dataplane.kernel.mobility.sysctls import Sysctls, filtered
from gateway.dataplane.kernel.netlink import NETLINK_NETFILTER, NETLINK_ROUTE, NetlinkSocket
from gateway.dataplane.kernel.nft_elements import NFPROTO_IPV4, SetElements
from gateway.dataplane.mobility import MobilitySettings


class Foundation:
    """Sockets to the kernel and what stays constant. Raises :class:`OSError`."""

    def __init__(self, settings: MobilitySettings, means: Means | None = None) -> None:
        self._settings = settings
        self._means: Means = means or KernelMeans()
        self._sysctls = Sysctls()
        self._known: dict[str, Device] = {}
        self._owned = self._adopted = False
        self.found: dict[tuple[str, bytes], bytes | None] = {}
        """Elements of bindings and visitors that an earlier process left."""
        self.leftovers = 0
        """Devices, rules, routes and neighbours of an earlier run that were cleared."""
        with contextlib.ExitStack() as undo:
            self._devices = self._means.devices()
            undo.callback(self._devices.close)
            self.route = NetlinkSocket(NETLINK_ROUTE)
            undo.callback(self.route.close)
            self.sets = SetElements(constants.TABLE, NFPROTO_IPV4)
            undo.callback(self.sets.close)
            self._netfilter = NetlinkSocket(NETLINK_NETFILTER)
            undo.callback(self._netfilter.close)
            self.announcer = Announcer()
            undo.pop_all()

    @property
    def devices(self) -> dict[str, int]:
        """Indexes of our devices by name."""
        return self._devices.indexes

    def build(self, *, adopt: bool = False) -> None:
        """Clear leftovers and make everything; or keep what is there and make the rest.

        Raises OSError saying what is missing.
        """
        settings = self._settings
        # Raises while nothing is ours yet: close() must not take what belongs to somebody else.
        if adopt:
            self._devices.check_names()
            self._owned = True
            self._adopt(settings)
        else:
            self.leftovers = self._devices.clear()
            self._owned = True
            self.leftovers += self._clear()
            ruleset.load(settings, (), self._means.wording)
        self._devices.make(settings.mtu)
        self._switch(settings)
        self.route.check("rules and routes", self._constant(settings), errno.EEXIST)
        self.refresh()

    def _adopt(self, settings: MobilitySettings) -> None:
        """Other rules, of another version, take the place of what is there with its elements."""
        for name in texts.SETS:
            try:
                elements = self.sets.read(name)
            except OSError:
                continue
            self.found.update(((name, key), data) for key, data in elements.items())
        self._adopted = bool(self.found)
        if ruleset.is_loaded(self._netfilter, settings, self._means.wording):
            self._adopted = True
            ruleset.update(settings, self._means.wording)
            return
        carried = [(name, key, data) for (name, key), data in self.found.items()]
        ruleset.load(settings, carried, self._means.wording)
        self.found = {
            (name, key): data
            for name, key, data in carried
            if texts.words(name, key, data) is not None
        }

    def reverse_tables(self) -> dict[int, tuple[int, int]]:
        """Those of an earlier process: by table, device and packet size."""
        return routes.reverse_tables(self.route)

    def forget_unwanted(self, wanted: Collection[routes.Entry]) -> None:
        """Remove routes, neighbours and proxy entries that nobody wants. Raises OSError."""
        old = [
            gone for entry, gone in routes.own_entries(self.route).items() if entry not in wanted
        ]
        virtual = routes.own_unreachable(self.route) - set(_virtual(self._settings))
        old += [routes.delete_unreachable(network) for network in virtual]
        if old:
            gone = errno.ENOENT, errno.ESRCH, errno.ENODEV
            self.route.check("clearing what nobody has", old, *gone)

    def _constant(self, settings: MobilitySettings) -> list[bytes]:
        return [
            routes.set_host(constants.HOME_TABLE, constants.DUMMY, LOOPBACK),
            routes.set_blackhole(constants.DELIVER_TABLE),
            *(routes.set_unreachable(network) for network in _virtual(settings)),
            *(
                routes.set_address(constants.DUMMY, self.devices[name])
                for name in self._devices.receiving
                if filtered()
            ),
            routes.add_rule(constants.DELIVER_PRIORITY, constants.DELIVER_TABLE, constants.DELIVER),
            routes.add_rule(constants.HOME_PRIORITY, constants.HOME_TABLE),
            *self._means.constant(),
        ]

    def _switch(self, settings: MobilitySettings) -> None:
        for device in self._devices.receiving:
            self._sysctls.receiving(device)
        for interface in settings.visited_interfaces:
            self._sysctls.visited(interface)
        for home in settings.home_networks:
            if home.interface is not None:
                self._sysctls.home(home.interface)
        if settings.forwarding:
            self._sysctls.forwarding()

    def _clear(self) -> int:
        old = routes.leftovers(self.route)
        if old:
            gone = errno.ENOENT, errno.ESRCH, errno.ENODEV
            self.route.check("clearing leftovers", old, *gone)
        return len(old)

    def reconfigure(self, settings: MobilitySettings) -> None:
        """Use other addresses and networks. Raises OSError."""
        before, after = _virtual(self._settings), _virtual(settings)
        self.refresh()
        self._means.reconfigure(settings)
        self._switch(settings)
        if settings.mtu != self._settings.mtu:
            self._devices.set_mtu(settings.mtu)
        fresh = [routes.set_unreachable(network) for network in after if network not in before]
        self.route.check("virtual home networks", fresh)
        ruleset.update(settings, self._means.wording)
        gone = [routes.delete_unreachable(network) for network in before if network not in after]
        self.route.check("virtual home networks", gone, errno.ESRCH)
        self._settings = settings

    def refresh(self) -> None:
        """Look at the interfaces again. Raises OSError."""
        self._known = self._devices.every()

    def index(self, interface: str) -> int | None:
        """Index of an interface; None when there is none."""
        device = self._known.get(interface)
        if device is None:
            self.refresh()
            device = self._known.get(interface)
        return None if device is None else device.index

    def counters(self) -> dict[str, int]:
        """Packets by the ruleset's comments."""
        return counters.read(self._netfilter)

    def announce(self, address: IPv4Address, interface: str) -> None:
        """Gratuitous ARP for a mobile node that is away. Never raises OSError."""
        device = self._known.get(interface)
        if device is not None:
            self.announcer.announce(address, interface, device.link_address)

    def give_up(self) -> None:
        """The start failed: what an earlier process left goes on as it was."""
        self.close(keep=self._adopted)

    def close(self, *, keep: bool = False) -> None:
        """Remove everything that carries our marks, unless it is kept, and close the sockets."""
        if self._owned and not keep:
            with contextlib.suppress(OSError):
                self._devices.clear()
            with contextlib.suppress(OSError):
                self._clear()
            with contextlib.suppress(OSError):
                ruleset.remove()
            self._sysctls.restore()
        self.announcer.close()
        self._netfilter.close()
        self.sets.close()
        self.route.close()
        self._devices.close(keep=keep)


def _virtual(settings: MobilitySettings) -> list[IPv4Network]:
    virtual = [home.network for home in settings.home_networks if home.interface is None]
    return list(dict.fromkeys(virtual))
