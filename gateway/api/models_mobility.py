"""What the API answers about the mobility agents."""

from pydantic import Field

from gateway.api.models import Answer

_ANY_CODE = "Code of the last reply (RFC 5944 section 3.4); 0 and 1 accept."


class CareOfAddress(Answer):
    """A place where a mobile node is."""

    address: str = Field(description="The care-of address.", examples=["192.0.2.7"])
    tunnel: str = Field(
        description="How its packets travel.", examples=["ip-ip in UDP to 192.0.2.7:49152"]
    )
    flags: list[str] = Field(
        description="What it asked for: `simultaneous`, `broadcasts`, `co_located`, `minimal`,"
        " `gre`, `reverse`.",
        examples=[["co_located", "reverse"]],
    )
    lifetime_s: int | None = Field(description="As granted; null when it never ends.")
    expires_in_s: float | None = Field(description="Seconds until it ends; null for never.")
    nat: bool = Field(description="A NAT lies between it and the home agent.")
    via_foreign_agent: str | None = Field(
        description="Address of the foreign agent that relayed the registration."
    )


class Binding(Answer):
    """A mobile node that is away from home, and where."""

    home_agent: str = Field(description="Name of the home agent.")
    node: str = Field(description="Name of the mobile node in the configuration.")
    nai: str | None = Field(description="Its network access identifier.")
    home_address: str = Field(description="Names the binding.", examples=["10.20.0.10"])
    home_network: str | None = Field(description="Name of its home network.")
    dynamic: bool = Field(description="The home address is leased, not configured.")
    care_of_addresses: list[CareOfAddress] = Field(description="The latest last.")
    lifetime_s: int | None = Field(description="The longest of them; null when it never ends.")
    registered_for_s: float = Field(description="Seconds since the last registration.")
    expires_in_s: float | None = Field(description="Seconds until it ends; null for never.")
    zero_overhead: str | None = Field(
        description="Default destination whose packets travel without encapsulation."
    )
    registrations: int = Field(description="How many were accepted since the binding began.")
    last_code: int = Field(description=_ANY_CODE)


class Visitor(Answer):
    """A mobile node that is registered by way of a foreign agent of this gateway."""

    foreign_agent: str = Field(description="Name of the foreign agent.")
    home_address: str = Field(description="Home address of the node.", examples=["10.20.0.10"])
    home_agent: str = Field(description="Address of its home agent.")
    care_of_address: str = Field(description="Where the home agent sends its packets.")
    nai: str | None = Field(description="Its network access identifier.")
    interface: str = Field(description="Where it is: a link, or the interface of the tunnels.")
    link_address: str | None = Field(description="Its link-layer address; null behind the VPN.")
    tunnel: str | None = Field(description="Null when its care-of address is its own.")
    flags: list[str] = Field(
        description="`reverse`, `encapsulating`, `co-located`, `nar`, `vpn`, `revocable`."
    )
    lifetime_s: int | None = Field(description="As granted; null when it never ends.")
    expires_in_s: float | None = Field(description="Seconds until it ends; null for never.")
    installed: bool = Field(description="Its packets are carried.")
    registrations: int = Field(description="How many were accepted since it came.")
    last_code: int = Field(description=_ANY_CODE)


class HomeNetwork(Answer):
    """A network of home addresses."""

    name: str = Field(description="Name in the configuration.")
    network: str = Field(examples=["10.20.0.0/24"], description="Its addresses.")
    interface: str | None = Field(description="The link that it is; null when it is virtual.")
    home_agent: str = Field(description="Name of its home agent.")
    home_agent_address: str = Field(description="Address of its home agent.")
    placement: str = Field(description="`inside` or `outside`.", examples=["inside"])
    bindings: int = Field(description="How many of its nodes are away and registered.")
    dynamic_addresses: int = Field(description="How many it can lease.")
    dynamic_addresses_in_use: int = Field(description="How many are leased.")


class RegistrationFailure(Answer):
    """A registration that was denied, or as many as were in the same way."""

    id: str = Field(description="Names the record.", examples=["0000002a"])
    first_at: str = Field(description="Time of the first, UTC.")
    last_at: str = Field(description="Time of the last, UTC.")
    count: int = Field(description="How often.")
    node: str = Field(description="Who it was, as far as it said.")
    source: str = Field(description="Where the last came from.")
    agent: str = Field(description="Name of the agent that denied it.")
    denied_by: str = Field(description="`home agent` or `foreign agent`.")
    code: int = Field(description="Code of the reply.", examples=[131])
    reason: str = Field(description="What was wrong.")
    remedy: str = Field(description="What to do next; may be empty.")


class BindingPage(Answer):
    """A page of bindings."""

    items: list[Binding]
    next: str | None = Field(description="The `cursor` of the next page; null on the last.")
    total: int = Field(description="How many there are on all pages.")


class VisitorPage(Answer):
    """A page of visitors."""

    items: list[Visitor]
    next: str | None = Field(description="The `cursor` of the next page; null on the last.")
    total: int = Field(description="How many there are on all pages.")


class HomeNetworkPage(Answer):
    """All home networks."""

    items: list[HomeNetwork]
    next: str | None = Field(description="Always null.")
    total: int = Field(description="How many there are.")


class RegistrationFailurePage(Answer):
    """A page of denied registrations, the newest first."""

    items: list[RegistrationFailure]
    next: str | None = Field(description="The `cursor` of the next page; null on the last.")
    total: int = Field(description="How many there are on all pages.")
