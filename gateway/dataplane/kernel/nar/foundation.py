"""What is there before the first lease: devices, rules, constant routes, ruleset.

Of an earlier process everything that is the same is kept, so that packets pass while this one
starts.
"""

import contextlib
import errno
from ipaddress import IPv4Address, IPv4Network

from gateway.dataplane.kernel.mobility import counters
from gateway.dataplane.kernel.mobility.sysctls import Sysctls
from gateway.dataplane.kernel.nar import constants, elements, ports, routes, ruleset
from gateway.dataplane.kernel.nar.below import Below
from gateway.dataplane.kernel.nar.devices import GRE_OCTETS, LOOPBACK
from gateway.dataplane.kernel.nar.missing import missing
from gateway.dataplane.kernel.netlink import NETLINK_NETFILTER, NETLINK_ROUTE, NetlinkSocket
from gateway.dataplane.kernel.nft_elements import NFPROTO_IPV4, SetElements
from gateway.dataplane.kernel.ruleset import RulesetRefusedError
from gateway.dataplane.nar import NarSettings


class Foundation:
    """Sockets to the kernel and what stays constant. Raises :class:`OSError`."""

    def __init__(self, settings: NarSettings, below: Below) -> None:
        self._settings = settings
        self._below = below
        self._words = below.words(settings.queue_number)
        self._sysctls = Sysctls()
        self._owned = self._adopted = False
        self._reserved_before: list[range] = []
        self._reserved: list[range] = []
        self.found: elements.Elements = {}
        """What an earlier process left in the sets."""
        self.links: set[elements.Element] = set()
        """The same, in the sets whose elements have a timeout."""
        with contextlib.ExitStack() as undo:
            self._devices = below.devices()
            undo.callback(self._devices.close)
            self.l2tp = below.l2tp()
            undo.callback(self.l2tp.close)
            self.route = NetlinkSocket(NETLINK_ROUTE)
            undo.callback(self.route.close)
            self.sets = SetElements(constants.TABLE, NFPROTO_IPV4)
            undo.callback(self.sets.close)
            self._netfilter = NetlinkSocket(NETLINK_NETFILTER)
            undo.callback(self._netfilter.close)
            undo.pop_all()

    @property
    def devices(self) -> dict[str, int]:
        """Indexes of our tunnel devices by name."""
        return self._devices.indexes

    def build(self) -> None:
        """Keep what an earlier process left, make the rest. Raises OSError, saying what lacks."""
        settings = self._settings
        # Raises while nothing is ours yet: close() must not take what belongs to somebody else.
        self._devices.check_names()
        if ruleset.is_loaded(self._netfilter, settings, self._words):
            self._owned = self._adopted = True
            self._read()
            ruleset.update(settings, self._words)
        else:
            self._reserved_before = ports.read_reserved()
            self._load(settings)
            self._owned = True
        self._devices.make(settings.mtu)
        self._apply(settings)
        constant = [
            routes.add_mark_rule(
                constants.IP_IP_PRIORITY, constants.IP_IP_TABLE, constants.IP_IP_MARKS
            ),
            routes.add_mark_rule(constants.GRE_PRIORITY, constants.GRE_TABLE, constants.GRE_MARKS),
            routes.add_mark_rule(
                constants.L2TP_PRIORITY, constants.L2TP_TABLE, constants.L2TP_MARKS
            ),
            routes.add_address_rule(
                constants.DEVICE_PRIORITY, constants.DEVICE_TABLE, constants.REMOTE
            ),
        ]
        self.route.check("rules", constant, errno.EEXIST)

    def _load(self, settings: NarSettings) -> None:
        try:
            ruleset.load(settings, self._words, self._reserved_before)
        except RulesetRefusedError as error:
            lacking = missing(self._words.needs)
            if not lacking:
                raise
            text = f"nftables of this kernel lacks {', '.join(lacking)}"
            raise OSError(errno.EOPNOTSUPP, text) from error

    def _read(self) -> None:
        for name in elements.ALL_SETS:
            for key, data in self.sets.read(name).items():
                self.found[name, key] = data
        for name in ("addresses", "client_links"):
            self.links.update((name, key) for key in self.sets.read(name))
        for key in self.sets.read("reserved_before"):
            first, last = int.from_bytes(key[:2], "big"), int.from_bytes(key[4:6], "big")
            self._reserved_before.append(range(first, last + 1))

    def _apply(self, settings: NarSettings) -> None:
        """Sysctls, routes and addresses; all of it may be there already."""
        for device in self._devices.receiving:
            self._sysctls.receiving(device)
        if settings.forwarding:
            self._sysctls.forwarding()
        self._reserve([one for server in settings.servers for one in server.ports])
        device_of = self._devices.indexes
        everything = routes.EVERYTHING
        self.route.check(
            "routes and addresses",
            [
                *(routes.set_blackhole(table) for table in constants.TABLES),
                *(
                    routes.set_address(constants.LOCAL, device_of[name])
                    for name in self._devices.receiving
                ),
                routes.set_route(
                    constants.IP_IP_TABLE, everything, device_of[constants.SEND_IP_IP], settings.mtu
                ),
                routes.set_route(
                    constants.GRE_TABLE,
                    everything,
                    device_of[constants.SEND_GRE],
                    settings.mtu - GRE_OCTETS,
                ),
                routes.set_route(constants.DEVICE_TABLE, IPv4Network(constants.REMOTE), LOOPBACK),
            ],
            errno.EEXIST,
        )

    def _reserve(self, leased: list[range]) -> None:
        """Keep these ports from sockets of the box, beside those that others reserve."""
        self._hear_others()
        self._reserved = [*self._reserved_before, *leased]
        ports.write_reserved(self._reserved)

    def _hear_others(self) -> None:
        """What others reserved since is theirs, and stays."""
        if self._reserved:
            self._reserved_before += ports.without(ports.read_reserved(), self._reserved)

    def reconfigure(self, settings: NarSettings) -> None:
        """Use another MTU, other ports and networks. Raises OSError."""
        if settings.mtu != self._settings.mtu:
            self._devices.set_mtu(settings.mtu)
        self._apply(settings)
        ruleset.update(settings, self._words)
        self._settings = settings

    def index(self, interface: str) -> int:
        """Of an interface; 0 when there is none."""
        device = self._devices.every().get(interface)
        return 0 if device is None else device.index

    def prepare_link(self, interface: str) -> int:
        """A device that clients' packets come out of; its index. Raises OSError."""
        self._sysctls.receiving(interface)
        index = self.index(interface)
        message = routes.set_address(constants.LOCAL, index)
        self.route.check("the link's address", [message], errno.EEXIST)
        return index

    def forget_unused(self, tunnels: set[int], aliases: set[IPv4Address]) -> None:
        """Clear L2TP tunnels and routes of an earlier process that nobody wants.

        What cannot be cleared stays: without elements nothing comes that way.
        """
        with contextlib.suppress(OSError):
            self.l2tp.delete_unused(tunnels)
        kept = {IPv4Network(alias) for alias in aliases}
        old = [
            message
            for (table, network), message in routes.old_routes(self.route).items()
            if table == constants.L2TP_TABLE and network not in kept
        ]
        self.route.transact(old)

    def counters(self) -> dict[str, int]:
        """Packets by the ruleset's comments."""
        return counters.read(self._netfilter, constants.TABLE)

    def give_up(self) -> None:
        """The start failed: what an earlier process left goes on as it was."""
        self.close(keep=self._adopted)

    def close(self, *, keep: bool) -> None:
        """Remove everything that is ours, unless it is kept, and close the sockets."""
        if self._owned and not keep:
            with contextlib.suppress(OSError):
                ruleset.remove()
            with contextlib.suppress(OSError):
                self._clear_routes()
            with contextlib.suppress(OSError):
                self.l2tp.delete_all()
            with contextlib.suppress(OSError):
                self._devices.delete()
            with contextlib.suppress(OSError):
                self._hear_others()
                ports.write_reserved(self._reserved_before)
            self._sysctls.restore()
        self._netfilter.close()
        self.sets.close()
        self.route.close()
        self.l2tp.close()
        self._devices.close()
        self._below.close(keep=keep)

    def _clear_routes(self) -> None:
        old = [*routes.old_rules(self.route), *routes.old_routes(self.route).values()]
        old += routes.delete_blackholes()
        self.route.check("clearing routes", old, errno.ENOENT, errno.ESRCH, errno.ENODEV)
