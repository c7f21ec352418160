"""Follows home agents, foreign agents and what they say of mobile nodes."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from ipaddress import AddressValueError, IPv4Address
from typing import TYPE_CHECKING

from gateway.appliance.mobility_queries import Agents
from gateway.appliance.observation.device import BindingFacts, Device, VisitorFacts
from gateway.appliance.observation.telling import MESSAGE_PRECISION_S, Telling, only
from gateway.domain.event import Event

if TYPE_CHECKING:
    from gateway.mip_agents.home_agent.views import BindingView


class MobilityFollowing(Telling):
    """The part of the follower that is about Mobile IP."""

    _agents: Callable[[], Agents | None]

    def restore_mobility(self) -> None:
        """Bindings and visitors that were there before us."""
        agents = self._agents()
        if agents is None:
            return
        for name, home in agents.home_agents.items():
            for address in home.home_addresses():
                self._set_binding(name, str(address), quietly=True)
        for name, foreign in agents.foreign_agents.items():
            for home_agent, address in foreign.visitor_keys():
                view = foreign.visitor(home_agent, address)
                if view is not None:
                    fields: dict[str, object] = {
                        "nai": view.nai,
                        "through_vpn": "vpn" in view.flags,
                        "link_address": view.link_address,
                    }
                    self._register.set_visitor(
                        self._visitor(name, str(home_agent), str(address), fields)
                    )

    def _registered(self, event: Event) -> Device | None:
        fields = event.fields
        agent, home = str(fields.get("home_agent", "")), str(fields.get("home_address", ""))
        device = self._register.of_binding(agent, home)
        care_of = str(fields.get("care_of_address", ""))
        renewed = device is not None and fields.get("renewed") is True
        if device is not None and renewed and care_of in device.bindings[agent, home].care_of:
            device.last_seen_s = self._wall_clock()
            return device
        return self._set_binding(agent, home, event=event)

    def _set_binding(
        self, agent: str, home: str, *, event: Event | None = None, quietly: bool = False
    ) -> Device | None:
        view = self._binding(agent, home)
        if view is None:
            return None
        agents = self._agents()
        outside = (
            agents is not None and agents.home_agents[agent].policy.placement.value == "outside"
        )
        before = self._register.of_binding(agent, home)
        known = before.bindings[agent, home] if before is not None else None
        wall_s = self._wall_clock()
        since_s = wall_s if known is None else known.since_s
        binding = _binding_facts(view, agent, since_s, outside=outside)
        device = self._register.set_binding(binding)
        seen_s = device.last_seen_s
        device.last_seen_s = wall_s
        if quietly or event is None:
            return device
        session = self._session_of(event, device)
        if known is None:
            fields = only(event, "home_agent", "home_address", "care_of_address", "lifetime_s")
            self._happened(device, session, "connected", event.text, fields)
        elif known.care_of[-1:] != binding.care_of[-1:]:
            old, new = " ".join(known.care_of[-1:]), " ".join(binding.care_of[-1:])
            told = replace(
                event, fields={**event.fields, "old": old, "new": new, "proof": "registration"}
            )
            gap_s = None if seen_s is None else max(0.0, wall_s - seen_s)
            silent = [one.heard_at for one in device.sessions.values() if one.heard_at >= 0]
            if silent:
                gap_s = min(gap_s or 1e9, max(0.0, self._clock() - max(silent)))
            self._note_move(device, session, told, "care-of", gap_s, MESSAGE_PRECISION_S)
        return device

    def _binding(self, agent: str, home: str) -> "BindingView | None":
        agents = self._agents()
        side = agents.home_agents.get(agent) if agents is not None else None
        try:
            return None if side is None else side.binding(IPv4Address(home), self._clock())
        except AddressValueError:
            return None

    def _unbound(self, event: Event) -> Device | None:
        fields = event.fields
        agent, home = str(fields.get("home_agent", "")), str(fields.get("home_address", ""))
        device = self._register.of_binding(agent, home)
        if device is None:
            return None
        session = self._session_of(event, device)
        if self._binding(agent, home) is not None:
            self._set_binding(agent, home, quietly=True)
            return device
        self._ended = session
        self._register.drop_binding(agent, home)
        told = only(event, "home_agent", "home_address", "care_of_address", "reason")
        self._happened(device, session, "disconnected", event.text, told)
        return device

    def _denied(self, event: Event) -> Device | None:
        device = self._find(event)
        if device is None:
            return None
        names = ("home_agent", "source", "code", "code_name", "reason", "hint")
        self._fail(device, self._session_of(event, device), event, *names)
        return device

    def _visiting(self, event: Event) -> Device | None:
        fields = event.fields
        agent, home_agent, home = (
            str(fields.get(name, "")) for name in ("foreign_agent", "home_agent", "home_address")
        )
        known = self._register.of_visitor((agent, home_agent, home))
        device = self._register.set_visitor(self._visitor(agent, home_agent, home, fields))
        device.last_seen_s = self._wall_clock()
        if known is None:
            told = only(event, "foreign_agent", "home_agent", "home_address", "interface")
            session = self._session_of(event, device)
            self._happened(device, session, "connected", event.text, told)
        return device

    def _visitor(
        self, agent: str, home_agent: str, home: str, fields: Mapping[str, object]
    ) -> VisitorFacts:
        device = self._register.of_visitor((agent, home_agent, home))
        known = device.visitors[agent, home_agent, home] if device is not None else None
        return VisitorFacts(
            agent,
            home_agent,
            home,
            str(fields.get("nai") or ""),
            fields.get("through_vpn") is True,
            str(fields.get("link_address") or ""),
            self._wall_clock() if known is None else known.since_s,
        )

    def _left(self, event: Event) -> Device | None:
        fields = event.fields
        agent, home_agent, home = (
            str(fields.get(name, "")) for name in ("foreign_agent", "home_agent", "home_address")
        )
        device = self._register.of_visitor((agent, home_agent, home))
        if device is None:
            return None
        session = self._ended = self._session_of(event, device)
        self._register.drop_visitor((agent, home_agent, home))
        told = only(event, "foreign_agent", "home_agent", "home_address", "reason")
        self._happened(device, session, "disconnected", event.text, told)
        return device


def _binding_facts(
    view: "BindingView", agent: str, since_s: float, *, outside: bool
) -> BindingFacts:
    return BindingFacts(
        agent,
        outside,
        view.home_address,
        view.care_of_addresses,
        view.tunnels,
        view.name,
        view.nai,
        "co_located" in view.flags,
        bool(view.zero_overhead),
        view.via_foreign_agent or "",
        since_s,
    )
