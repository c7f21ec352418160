"""Bindings, visitors and home networks as clients of the control socket see them."""

from dataclasses import asdict
from typing import TYPE_CHECKING

from gateway.appliance.failures import Failure
from gateway.appliance.remedies import remedy_of_registration
from gateway.domain.mobility import HomeNetwork

if TYPE_CHECKING:  # most gateways have no mobility agents, and need not load them
    from gateway.mip_agents.foreign_agent.views import VisitorView
    from gateway.mip_agents.home_agent.views import BindingView
    from gateway.mip_agents.policy import HomeAgentPolicy


def binding_view(binding: "BindingView") -> dict[str, object]:
    """A binding as :class:`gateway.api.models_mobility.Binding` describes it."""
    return {
        "home_agent": binding.home_agent,
        "node": binding.name,
        "nai": binding.nai or None,
        "home_address": binding.home_address,
        "home_network": binding.home_network or None,
        "dynamic": binding.dynamic,
        "care_of_addresses": [asdict(one) for one in binding.each],
        "lifetime_s": binding.lifetime_s,
        "registered_for_s": round(binding.registered_for_s, 3),
        "expires_in_s": _rounded(binding.expires_in_s),
        "zero_overhead": binding.zero_overhead,
        "registrations": binding.registrations,
        "last_code": binding.last_code,
    }


def visitor_view(visitor: "VisitorView") -> dict[str, object]:
    """A visitor as :class:`gateway.api.models_mobility.Visitor` describes it."""
    return {
        "foreign_agent": visitor.foreign_agent,
        "home_address": str(visitor.home_address),
        "home_agent": str(visitor.home_agent),
        "care_of_address": str(visitor.care_of_address),
        "nai": visitor.nai or None,
        "interface": visitor.interface,
        "link_address": visitor.link_address or None,
        "tunnel": visitor.tunnel or None,
        "flags": list(visitor.flags),
        "lifetime_s": visitor.lifetime_s,
        "expires_in_s": _rounded(visitor.expires_in_s),
        "installed": visitor.installed,
        "registrations": visitor.registrations,
        "last_code": visitor.last_code,
    }


def home_network_view(
    policy: "HomeAgentPolicy", network: HomeNetwork, bindings: int
) -> dict[str, object]:
    """A home network as :class:`gateway.api.models_mobility.HomeNetwork` describes it."""
    pool = policy.pools.get(network.name)
    return {
        "name": network.name,
        "network": str(network.network),
        "interface": network.interface,
        "home_agent": policy.name,
        "home_agent_address": str(policy.address),
        "placement": policy.placement.value,
        "bindings": bindings,
        "dynamic_addresses": pool.size if pool else 0,
        "dynamic_addresses_in_use": pool.in_use if pool else 0,
    }


def registration_failure_view(failure: Failure) -> dict[str, object]:
    """As :class:`gateway.api.models_mobility.RegistrationFailure` describes it."""
    return {
        "id": failure.id,
        "first_at": failure.first_at.isoformat(timespec="milliseconds"),
        "last_at": failure.last_at.isoformat(timespec="milliseconds"),
        "count": failure.count,
        "node": failure.peer,
        "source": failure.remote,
        "agent": failure.connection,
        "denied_by": failure.step.replace("_", " "),
        "code": failure.code,
        "reason": failure.reason,
        "remedy": remedy_of_registration(failure.code, failure.remedy),
    }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)
