"""What the control socket answers about bindings, visitors and home networks."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Protocol

from gateway.appliance.failures import Records
from gateway.appliance.mobility_views import (
    binding_view,
    home_network_view,
    registration_failure_view,
    visitor_view,
)
from gateway.appliance.paging import page
from gateway.control.protocol import ControlError, ErrorCode, Page, Request

if TYPE_CHECKING:  # most gateways have no mobility agents, and need not load them
    from gateway.mip_agents.foreign_agent.views import VisitorView
    from gateway.mip_agents.home_agent.views import BindingView
    from gateway.mip_agents.policy import ForeignAgentPolicy, HomeAgentPolicy

VIEWS_PER_TURN = 250
"""Bindings looked at before others get their turn."""

Handler = Callable[[Request], Awaitable[object]]


class HomeAgentSide(Protocol):
    """What queries need of :class:`gateway.mip_agents.home_agent.engine.HomeAgent`."""

    @property
    def policy(self) -> "HomeAgentPolicy":
        """Its policy."""

    def home_addresses(self) -> Sequence[IPv4Address]:
        """The home addresses that are bound."""

    def binding(self, home_address: IPv4Address, now: float) -> "BindingView | None":
        """The binding of one."""

    def revoke(self, home_address: IPv4Address, now: float) -> bool:
        """End it; whether there was one."""


class ForeignAgentSide(Protocol):
    """What queries need of :class:`gateway.mip_agents.foreign_agent.engine.ForeignAgent`."""

    @property
    def policy(self) -> "ForeignAgentPolicy":
        """Its policy."""

    def visitor_keys(self) -> Sequence[tuple[IPv4Address, IPv4Address]]:
        """Home agent and home address of each visitor."""

    def visitor(self, home_agent: IPv4Address, home_address: IPv4Address) -> "VisitorView | None":
        """One of them."""


class Flushing(Protocol):
    """Carries out what engines ask for."""

    def flush(self, now: float) -> None:
        """Do it now."""


class Agents(Protocol):
    """What queries need of :class:`gateway.appliance.mobility.Mobility`."""

    @property
    def home_agents(self) -> Mapping[str, HomeAgentSide]:
        """By name."""

    @property
    def foreign_agents(self) -> Mapping[str, ForeignAgentSide]:
        """By name."""

    @property
    def service(self) -> Flushing:
        """Joins them with the world."""


class MobilityQueries:
    """Carries checked requests out; without agents, every list is empty."""

    def __init__(
        self,
        agents: Callable[[], Agents | None],
        denials: Records,
        clock: Callable[[], float],
    ) -> None:
        self._agents = agents
        self._denials = denials
        self._clock = clock

    def handlers(self) -> dict[str, Handler]:
        """By name of the operation."""
        return {
            "bindings": self._bindings,
            "binding": self._binding,
            "visitors": self._visitors,
            "home-networks": self._home_networks,
            "registration-failures": self._registration_failures,
            "revoke-binding": self._revoke_binding,
        }

    def _homes(self, request: Request) -> Iterator[HomeAgentSide]:
        agents, wanted = self._agents(), request.text("home_agent")
        for name, agent in (agents.home_agents if agents else {}).items():
            if wanted in {None, name}:
                yield agent

    def _visited(self, request: Request) -> Iterator[ForeignAgentSide]:
        agents, wanted = self._agents(), request.text("foreign_agent")
        for name, agent in (agents.foreign_agents if agents else {}).items():
            if wanted in {None, name}:
                yield agent

    async def _bindings(self, request: Request) -> object:
        home_address = _address(request, "home_address")
        found = {
            f"{int(address):08x}": (agent, address)
            for agent in self._homes(request)
            for address in agent.home_addresses()
            if home_address in {None, address}
        }
        kept = await self._fitting(found, request)
        shown, following = page(kept, request)
        items = [
            binding_view(view)
            for view in (found[key][0].binding(found[key][1], self._clock()) for key in shown)
            if view is not None
        ]
        result: Page = {"items": items, "next": following, "total": len(kept)}
        return result

    async def _fitting(
        self, found: Mapping[str, tuple[HomeAgentSide, IPv4Address]], request: Request
    ) -> list[str]:
        """The keys of bindings that fit the filters which only their content answers."""
        node, care_of = request.text("node"), _address(request, "care_of_address")
        if node is None and care_of is None:
            return list(found)
        kept: list[str] = []
        for number, (key, (agent, address)) in enumerate(found.items()):
            if number % VIEWS_PER_TURN == VIEWS_PER_TURN - 1:
                await asyncio.sleep(0)
            view = agent.binding(address, self._clock())
            if view is not None and _fits(view, node, care_of):
                kept.append(key)
        return kept

    def _find(self, request: Request) -> tuple[HomeAgentSide, "BindingView"]:
        """The binding of the request's home address. Raises :class:`ControlError`."""
        address = _address(request, "home_address")
        for agent in self._homes(request):
            view = None if address is None else agent.binding(address, self._clock())
            if view is not None:
                return agent, view
        why = f"there is no binding of {address}: the device is at home, or not registered"
        raise ControlError(ErrorCode.NOT_FOUND, why, "home_address")

    async def _binding(self, request: Request) -> object:
        return binding_view(self._find(request)[1])

    async def _revoke_binding(self, request: Request) -> object:
        agent, view = self._find(request)
        now = self._clock()
        agent.revoke(IPv4Address(view.home_address), now)
        agents = self._agents()
        if agents is not None:
            agents.service.flush(now)
        return {"revoked": view.home_address, "home_agent": view.home_agent, "node": view.name}

    async def _visitors(self, request: Request) -> object:
        home_address = _address(request, "home_address")
        home_agent = _address(request, "home_agent_address")
        found = {
            f"{int(address):08x}_{int(home):08x}_{number:04x}": (agent, home, address)
            for number, agent in enumerate(self._visited(request))
            for home, address in agent.visitor_keys()
            if home_address in {None, address} and home_agent in {None, home}
        }
        shown, following = page(list(found), request)
        wanted = (found[key] for key in shown)
        views = (agent.visitor(home, address) for agent, home, address in wanted)
        items = [visitor_view(view) for view in views if view is not None]
        result: Page = {"items": items, "next": following, "total": len(found)}
        return result

    async def _home_networks(self, request: Request) -> object:
        items: list[dict[str, object]] = []
        for agent in self._homes(request):
            policy, addresses = agent.policy, agent.home_addresses()
            for network in policy.networks:
                first, last = int(network.network[0]), int(network.network[-1])
                away = sum(first <= int(address) <= last for address in addresses)
                items.append(home_network_view(policy, network, away))
        result: Page = {"items": items, "next": None, "total": len(items)}
        return result

    async def _registration_failures(self, request: Request) -> object:
        found = {
            one.cursor: one
            for one in self._denials.find(
                who=request.text("who"),
                connection=request.text("agent"),
                within_s=request.number("within_s") if "within_s" in request.arguments else None,
            )
        }
        shown, following = page(list(found), request)
        items = [registration_failure_view(found[cursor]) for cursor in shown]
        result: Page = {"items": items, "next": following, "total": len(found)}
        return result


def _address(request: Request, name: str) -> IPv4Address | None:
    text = request.text(name)
    if text is None:
        return None
    try:
        return IPv4Address(text)
    except ValueError:
        why = f'{name} = "{text}": not an IPv4 address; give one such as 192.0.2.1'
        raise ControlError(ErrorCode.INVALID, why, name) from None


def _fits(view: "BindingView", node: str | None, care_of: IPv4Address | None) -> bool:
    """Whether a part of the node's name or NAI, and a care-of address, are this binding's."""
    wanted = "" if node is None else node.casefold()
    known = wanted in view.name.casefold() or wanted in view.nai.casefold()
    return known and (care_of is None or str(care_of) in view.care_of_addresses)
