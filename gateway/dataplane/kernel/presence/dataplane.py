"""The inside presence of devices in this network namespace."""

import contextlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from gateway.dataplane.kernel.netlink import NETLINK_NETFILTER, NetlinkSocket
from gateway.dataplane.kernel.nft_elements import ElementChange, SetElements
from gateway.dataplane.kernel.presence import ruleset
from gateway.dataplane.kernel.presence.conntrack import Connections
from gateway.dataplane.kernel.presence.constants import TABLE
from gateway.dataplane.kernel.presence.probe import load_nat_helpers
from gateway.dataplane.kernel.presence.routes import Routes
from gateway.dataplane.kernel.presence.ruleset import CARRIED, Key
from gateway.dataplane.kernel.ruleset import RulesetRefusedError, run_nft
from gateway.dataplane.kernel.ruleset_version import has_chain
from gateway.dataplane.packet import marks
from gateway.dataplane.presence import Member, PresenceSettings, RedirectUse
from gateway.domain.endpoint import IpAddress

_PROTOCOL = {"tcp": 6, "udp": 17}


class KernelPresence:
    """Implements :class:`gateway.dataplane.presence.PresenceDataplane`."""

    def __init__(self, settings: PresenceSettings) -> None:
        self._settings = settings
        self._members: dict[str, Member] = {}
        self._leads: list[Member | None] = [None] * len(settings.redirects)
        self._changes: list[ElementChange] = []
        self._led: set[int] = set()
        self._forgotten: set[int] = set()
        self._settled = True

    def open(self, *, adopt: bool) -> None:
        """See :meth:`PresenceDataplane.open`."""
        with contextlib.ExitStack() as undo:
            self._routes = Routes()
            undo.callback(self._routes.close)
            self._connections = Connections()
            undo.callback(self._connections.close)
            self._sets = SetElements(TABLE)
            undo.callback(self._sets.close)
            load_nat_helpers(self._settings.helpers)
            if not adopt:
                undo.callback(self._remove)
            self._load(adopt=adopt)
            self._routes.build(self._settings.tunnel)
            if self._settings.forwards_ipv6:
                self._routes.forward_ipv6()
            self._routes.set_local(ruleset.local_networks(self._settings))
            undo.pop_all()

    def _load(self, *, adopt: bool) -> None:
        """Rules of another version take the place of what is there, with its members."""
        self._settled = not adopt
        with contextlib.closing(NetlinkSocket(NETLINK_NETFILTER)) as netfilter:
            if adopt and has_chain(netfilter, TABLE, ruleset.version(self._settings)):
                return
        there = self._there(CARRIED) if adopt else {}
        run_nft(ruleset.render(self._settings, there))

    def _there(self, names: Sequence[str]) -> dict[Key, bytes | None]:
        found: dict[Key, bytes | None] = {}
        for name in names:
            with contextlib.suppress(OSError):
                read = self._sets.read(name)
                found.update({(name, key): data for key, data in read.items()})
        return found

    def _sets_of_members(self) -> list[str]:
        names = [*CARRIED, *(f"napt_{place}" for place in range(len(self._settings.napts)))]
        for place in range(len(self._settings.translations)):
            names += [f"translated_{place}", f"shown_to_{place}"]
            names += [f"inner4_{place}", f"inner6_{place}"]
        return names

    def settle(self) -> list[str]:
        """See :meth:`PresenceDataplane.settle`."""
        if self._settled:
            return self.commit()
        self._settled = True
        wanted = self._wanted(self._members)
        there = self._there(self._sets_of_members())
        self._changes = _difference(there, wanted)
        self._led = set(range(len(self._leads)))
        return self.commit()

    @staticmethod
    def _wanted(members: Mapping[str, Member]) -> dict[Key, bytes | None]:
        wanted: dict[Key, bytes | None] = {}
        for member in members.values():
            wanted.update(ruleset.member_elements(member))
        return wanted

    def put(self, session: str, member: Member | None) -> None:
        """See :meth:`PresenceDataplane.put`."""
        before = self._members.pop(session, None)
        if member is not None:
            self._members[session] = member
            self._forgotten.discard(member.zone)
        if not self._settled or before == member:
            return
        old = ruleset.member_elements(before) if before is not None else {}
        new = ruleset.member_elements(member) if member is not None else {}
        self._changes += _difference(old, new)

    def lead(self, redirect: int, target: Member | None) -> None:
        """See :meth:`PresenceDataplane.lead`."""
        if self._leads[redirect] != target:
            self._leads[redirect] = target
            self._led.add(redirect)

    def forget(self, zone: int) -> None:
        """See :meth:`PresenceDataplane.forget`."""
        if zone:
            self._forgotten.add(zone)

    def commit(self) -> list[str]:
        """See :meth:`PresenceDataplane.commit`."""
        if not self._settled:
            return []
        refused = []
        changes, self._changes = self._changes, []
        if changes and (refusal := self._sets.apply(changes)) is not None:
            refused.append(f"nftables refused a set element: {refusal}")
        try:
            self._commit_leads()
            self._commit_forgotten()
        except OSError as error:
            refused.append(error.strerror or str(error))
        return refused

    def _commit_leads(self) -> None:
        led, self._led = self._led, set()
        redirects = self._settings.redirects
        texts = [
            ruleset.redirect_rules(place, redirects[place], self._leads[place])
            for place in sorted(led)
        ]
        if texts:
            run_nft("".join(texts))

    def _commit_forgotten(self) -> None:
        forgotten, self._forgotten = self._forgotten, set()
        if forgotten:
            self._connections.forget([marks.TO_DEVICE | zone for zone in sorted(forgotten)])

    def reconfigure(
        self,
        settings: PresenceSettings,
        members: Mapping[str, Member],
        leads: Sequence[Member | None],
    ) -> None:
        """See :meth:`PresenceDataplane.reconfigure`."""
        if settings.helpers != self._settings.helpers:
            load_nat_helpers(settings.helpers)
        if settings.forwards_ipv6:
            self._routes.forward_ipv6()
        # First what can fail: the caller goes on with the former settings then.
        self._routes.set_local(ruleset.local_networks(settings))
        if ruleset.version(settings) == ruleset.version(self._settings):
            for session in [one for one in self._members if one not in members]:
                self.put(session, None)
            for session, member in members.items():
                self.put(session, member)
            for place, target in enumerate(leads):
                self.lead(place, target)
        else:
            run_nft(ruleset.render(settings, self._wanted(members), leads))
            self._members, self._leads = dict(members), list(leads)
            self._changes, self._led = [], set()
        self._settings = settings

    def own_addresses(self) -> set[IpAddress]:
        """See :meth:`PresenceDataplane.own_addresses`."""
        return self._routes.addresses()

    def counters(self) -> dict[str, int]:
        """Packets by the comment of the rule; empty while the rules are not loaded."""
        counts: dict[str, int] = {}
        for rule in _listed("rule", f"list table inet {TABLE}"):
            for expression in rule.get("expr", ()):
                if rule.get("comment") and "counter" in expression:
                    packets = counts.get(rule["comment"], 0) + expression["counter"]["packets"]
                    counts[rule["comment"]] = packets
        return counts

    def uses(self) -> list[RedirectUse]:
        """See :meth:`PresenceDataplane.uses`."""
        connections = [0] * len(self._settings.redirects)
        for rule in _listed("rule", f"list table inet {TABLE}"):
            chain, _, number = str(rule.get("chain", "")).rpartition("_")
            if chain == "redirect" and number.isdigit() and int(number) < len(connections):
                for expression in rule.get("expr", ()):
                    if "counter" in expression:
                        connections[int(number)] = expression["counter"]["packets"]
        carried: dict[tuple[str, int, int], tuple[int, int]] = {}
        for name in ("use4", "use6", "use_any"):
            for found in _listed("set", f"list set inet {TABLE} {name}"):
                for element in found.get("elem", ()):
                    key, counts = _use(element.get("elem", {}))
                    carried[key] = counts
        uses = []
        for place, one in enumerate(self._settings.redirects):
            address = "" if one.address is None else str(one.address)
            counts = carried.get((address, one.protocol, one.ports[0]), (0, 0))
            uses.append(RedirectUse(connections[place], *counts))
        return uses

    def close(self, *, keep: bool) -> None:
        """See :meth:`PresenceDataplane.close`."""
        if not keep:
            self._remove()
        self._sets.close()
        self._connections.close()
        self._routes.close()

    def _remove(self) -> None:
        with contextlib.suppress(OSError):
            run_nft(f"add table inet {TABLE}\ndelete table inet {TABLE}")
        with contextlib.suppress(OSError):
            self._routes.clear()
        with contextlib.suppress(OSError):
            self._connections.forget([marks.TO_DEVICE], marks.ZONES)


def _difference(
    there: Mapping[Key, bytes | None], wanted: Mapping[Key, bytes | None]
) -> list[ElementChange]:
    """What makes ``there`` be ``wanted``; removals first, for keys that say something else."""
    gone = [
        ElementChange(name, key, add=False)
        for (name, key), data in there.items()
        if (name, key) not in wanted or _differs(data, wanted[name, key])
    ]
    new = [
        ElementChange(name, key, data=data)
        for (name, key), data in wanted.items()
        if (name, key) not in there or _differs(there[name, key], data)
    ]
    return gone + new


def _differs(left: bytes | None, right: bytes | None) -> bool:
    """The kernel pads what it reads to whole words."""
    if left is None or right is None:
        return left is not right
    return left.rstrip(b"\0") != right.rstrip(b"\0")


def _listed(kind: str, command: str) -> list[dict[str, Any]]:
    try:
        # With the rules of a table would come an element for each device.
        answer = json.loads(run_nft(command, as_json=True, terse=kind == "rule"))
    except (RulesetRefusedError, ValueError):
        return []
    return [item[kind] for item in answer["nftables"] if kind in item]


def _use(element: Mapping[str, Any]) -> tuple[tuple[str, int, int], tuple[int, int]]:
    """Address (empty: any), protocol and first port; packets and octets."""
    *address, protocol, port = element["val"]["concat"]
    first = port["range"][0] if isinstance(port, dict) else port
    number = _PROTOCOL.get(protocol, 0) if isinstance(protocol, str) else int(protocol)
    counter = element.get("counter", {})
    found = (str(address[0]) if address else "", number, int(first))
    return found, (counter.get("packets", 0), counter.get("bytes", 0))
