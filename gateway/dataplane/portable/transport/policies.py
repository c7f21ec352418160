"""Which traffic of this host is for child SAs in transport mode: kept in step with them."""

import contextlib
from collections import Counter
from collections.abc import Iterable, Mapping
from importlib import resources
from string import Template
from typing import Final

from gateway.dataplane.interface import Refusal
from gateway.dataplane.kernel import ruleset
from gateway.dataplane.kernel.mobility import counters
from gateway.dataplane.kernel.netlink import NETLINK_NETFILTER, NetlinkSocket
from gateway.dataplane.kernel.nft_elements import NFPROTO_INET
from gateway.dataplane.kernel.selectors import SelectorRefusedError
from gateway.dataplane.portable.transport import constants, routes
from gateway.dataplane.portable.transport.elements import SETS, Element, elements_of
from gateway.domain.child_sa import ChildSa, Mode

IKE_PORTS: Final = (500, 4500)
Owner = tuple[str, int]
"""("spi", of an SA) or ("trap", a reqid)."""


def render(interface: str, held: Iterable[Element], ports: Iterable[int] = IKE_PORTS) -> str:
    """The table with these elements."""
    text = resources.files(__package__).joinpath("ruleset.nft").read_text("ascii")
    by_set: dict[str, list[str]] = {name: [] for name in SETS}
    for name, words in sorted(held):
        by_set[name].append(words)
    return Template(text).substitute(
        {name.upper(): _listed(found) for name, found in by_set.items()},
        INTERFACE=interface,
        MARK=f"{constants.MARK:#x}",
        IKE_PORTS=", ".join(map(str, sorted(ports))),
    )


def _listed(words: list[str]) -> str:
    return f"elements = {{ {', '.join(words)} }}" if words else ""


class TransportPolicies:
    """Verbs queue work; :meth:`flush` does it. SAs in tunnel mode are none of its business.

    The table is there while there is an element. What an earlier process left is replaced, or
    removed, by the first :meth:`flush`.
    """

    def __init__(self, interface: str) -> None:
        """``interface`` is the tunnel interface, which has to be there with the first SA."""
        self._interface = interface
        self._owned: dict[Owner, frozenset[Element]] = {}
        self._count: Counter[Element] = Counter()
        self._ports: set[int] = set(IKE_PORTS)
        self._loaded: set[Element] | None = None
        """What the kernel's table holds; None: nobody knows."""
        self._loaded_ports: set[int] = set()
        self._new: list[tuple[Owner, int]] = []
        """Claimed since the last flush, and whom a refusal names."""

    def claim(self, sa: ChildSa) -> str | None:
        """Traffic for its selectors goes by SAs only, from the next flush on; why not, or None."""
        return self._claim(("spi", sa.spi_in), sa)

    def trap(self, sa: ChildSa) -> str | None:
        """The same without an SA yet; only selectors and ``reqid`` count."""
        return self._claim(("trap", sa.reqid), sa)

    def _claim(self, owner: Owner, sa: ChildSa) -> str | None:
        if sa.mode is not Mode.TRANSPORT:
            return None
        try:
            elements = elements_of(sa)
        except SelectorRefusedError as error:
            return str(error)
        self._give_up(owner)
        self._owned[owner] = elements
        self._count.update(elements)
        if sa.local.port:
            self._ports.add(sa.local.port)
        self._new.append((owner, sa.spi_in))
        return None

    def release(self, spi_in: int) -> None:
        """The SA is gone. Unknown ones are fine."""
        self._give_up(("spi", spi_in))

    def untrap(self, reqid: int) -> None:
        """Reverse of :meth:`trap`."""
        self._give_up(("trap", reqid))

    def _give_up(self, owner: Owner) -> None:
        for element in self._owned.pop(owner, frozenset()):
            self._count[element] -= 1
            if not self._count[element]:
                del self._count[element]

    def flush(self) -> list[Refusal]:
        """Make the table what it should be. After a refusal what was claimed since is not."""
        new, self._new = self._new, []
        wanted = set(self._count)
        if wanted == self._loaded and (not wanted or self._ports == self._loaded_ports):
            return []
        try:
            self._settle(wanted)
        except OSError as error:
            reason = error.strerror or str(error)
            for owner, _ in new:
                self._give_up(owner)
            return [Refusal(spi_in, f"transport mode: {reason}") for _, spi_in in new]
        self._loaded, self._loaded_ports = wanted, set(self._ports)
        return []

    def _settle(self, wanted: set[Element]) -> None:
        if not wanted:
            remove()
        elif not self._loaded:
            routes.build(self._interface)
            ruleset.run_nft(render(self._interface, wanted, self._ports))
        else:
            changes = {"add": wanted - self._loaded, "delete": self._loaded - wanted}
            lines = [
                f"{verb} element inet {constants.TABLE} {name} {{ {words} }}"
                for verb, elements in changes.items()
                for name, words in sorted(elements)
            ]
            lines += [
                f"add element inet {constants.TABLE} ike {{ {port} }}"
                for port in sorted(self._ports - self._loaded_ports)
            ]
            ruleset.run_nft("\n".join(lines))

    def rebuild(self) -> None:
        """The tunnel interface was made again. Raises OSError."""
        if self._loaded:
            routes.build(self._interface)

    def counters(self) -> Mapping[str, int]:
        """Packets by the comment of the rule; empty without any SA."""
        if not self._loaded:
            return {}
        with contextlib.closing(NetlinkSocket(NETLINK_NETFILTER)) as netfilter:
            return counters.read(netfilter, constants.TABLE, NFPROTO_INET)

    def close(self, *, keep: bool) -> None:
        """Take everything away, or leave it to the next process. Never raises."""
        if not keep and self._loaded:
            with contextlib.suppress(OSError):
                remove()


def remove() -> None:
    """Take everything away; it may be gone already. Raises OSError."""
    ruleset.run_nft(f"add table inet {constants.TABLE}\ndelete table inet {constants.TABLE}")
    routes.clear()
