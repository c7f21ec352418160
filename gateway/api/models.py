"""What the API answers. The descriptions are the OpenAPI document's."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class Answer(BaseModel):
    """Base of all answers: fields that a newer core adds are left out."""

    model_config = ConfigDict(extra="ignore")


class Health(Answer):
    """Whether the gateway works."""

    status: str = Field(description="`ok` when the core answers.", examples=["ok"])


class Problem(Answer):
    """What went wrong (RFC 9457)."""

    type: str = Field(description="A stable name of the kind of problem, as a URN.")
    title: str = Field(description="The kind of problem in words.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="What happened, and what to do about it.")
    field: str | None = Field(default=None, description="The part of the request that is meant.")


class Move(Answer):
    """The last time that the device's outer address changed."""

    old: str = Field(description="Outer address and port before.", examples=["192.0.2.7:4500"])
    new: str = Field(description="Outer address and port after.", examples=["198.51.100.9:1024"])
    proof: str = Field(
        description="What proved it: MOBIKE, an authenticated ESP packet, a NAT mapping.",
        examples=["esp-in-udp mapping"],
    )
    age_s: float = Field(description="Seconds since.")


class Nat(Answer):
    """Which ends are behind a NAT."""

    local: bool = Field(description="The gateway is.")
    remote: bool = Field(description="The device is.")


class Knows(Answer):
    """What both sides said by vendor id that they know (draft 001, appendices B.1 and C.1)."""

    endpoint_update: bool = Field(description="SA endpoint update.")
    vpn_fa: bool = Field(description="The foreign agent in the gateway.")


Hex = Annotated[str, Field(pattern=r"^[0-9a-f]{8}$", examples=["c0ffee01"])]


class IkeSa(Answer):
    """An IKE security association: a connected peer."""

    id: str = Field(
        description="Both SPIs in hexadecimal, initiator's first.",
        examples=["0123456789abcdef_fedcba9876543210"],
    )
    version: int = Field(description="Version of IKE, 1 or 2.", examples=[2])
    connection: str = Field(description="Connection of the configuration, once known.")
    state: str = Field(description="State of the SA.", examples=["established"])
    initiator: bool = Field(description="We initiated it.")
    local_id: str = Field(description="Our identity, once used.")
    remote_id: str = Field(description="Identity of the peer, once known.")
    auth: str = Field(description="How the peer proved itself.", examples=["EAP-MSCHAPv2"])
    user: str | None = Field(description="The user that logged in, where one had to.")
    profile: str | None = Field(description="The profile that the user's groups gave.")
    local: str = Field(description="Our outer address and port.")
    remote: str = Field(description="The peer's outer address and port now.")
    nat: Nat
    suite: str = Field(description="Negotiated algorithms.")
    age_s: float = Field(description="Seconds since it began.")
    idle_s: float = Field(description="Seconds since the last authenticated IKE message.")
    rekey_in_s: float | None = Field(description="Seconds until the gateway rekeys it.")
    inner_addresses: list[str] = Field(description="Addresses leased to the peer.")
    mobike: bool = Field(description="MOBIKE was negotiated (RFC 4555).")
    fragmentation: bool = Field(description="IKE fragmentation was negotiated (RFC 7383).")
    knows: Knows
    children: list[Hex] = Field(description="Inbound SPIs of its child SAs.")
    last_move: Move | None = Field(description="The last endpoint move, if any.")


class ChildSa(Answer):
    """A child SA: a pair of ESP SAs that carries traffic."""

    spi_in: Hex = Field(description="SPI of the packets to us; names the child SA.")
    spi_out: Hex = Field(description="SPI of the packets to the peer.")
    reqid: int = Field(description="Shared by a child SA and those that replace it.")
    ike_sa: str = Field(description="The IKE SA it belongs to.")
    connection: str = Field(description="Connection of the configuration.")
    state: str = Field(description="State of the SA.", examples=["installed"])
    remote_id: str = Field(description="Identity of the peer.")
    suite: str = Field(description="Negotiated algorithms.")
    local_ts: list[str] = Field(description="What the peer may reach.")
    remote_ts: list[str] = Field(description="The peer's side.")
    local: str = Field(description="Our outer address and port.")
    remote: str = Field(description="The peer's outer address and port now.")
    encapsulation: str = Field(description="`esp` or `esp-in-udp`.", examples=["esp-in-udp"])
    endpoint_update: bool = Field(description="Both sides agreed on SA endpoint update.")
    vpn_fa: bool = Field(description="Both sides agreed on the foreign agent in the gateway.")
    age_s: float = Field(description="Seconds since it was installed.")
    bytes_in: int | None = Field(description="Octets from the peer; null when not known.")
    packets_in: int | None = Field(description="Packets from the peer; null when not known.")
    bytes_out: int | None = Field(description="Octets to the peer; null when not known.")
    packets_out: int | None = Field(description="Packets to the peer; null when not known.")
    last_in_age_s: float | None = Field(description="Seconds since the peer's last packet.")
    last_move: Move | None = Field(description="The last endpoint move, if any.")


class IkeSaPage(Answer):
    """A page of IKE SAs."""

    items: list[IkeSa]
    next: str | None = Field(description="The `cursor` of the next page; null on the last.")
    total: int = Field(description="How many there are on all pages.")


class ChildSaPage(Answer):
    """A page of child SAs."""

    items: list[ChildSa]
    next: str | None = Field(description="The `cursor` of the next page; null on the last.")
    total: int = Field(description="How many there are on all pages.")


class IkeFailure(Answer):
    """A login that failed, or as many as failed in the same way."""

    id: str = Field(description="Names the record.", examples=["0000002a"])
    first_at: str = Field(description="Time of the first, UTC.")
    last_at: str = Field(description="Time of the last, UTC.")
    count: int = Field(description="How often it failed in this way.")
    remote: str = Field(description="Outer address and port of the last.")
    peer: str = Field(description="Who it was, as far as it said.")
    connection: str | None = Field(description="Connection of the configuration, once known.")
    step: str = Field(description="How far it came.", examples=["IKE_SA_INIT"])
    reason: str = Field(description="What was wrong.")
    theirs: str | None = Field(description="What the peer offered or claimed.")
    ours: str | None = Field(description="What the gateway would have taken.")
    remedy: str = Field(description="What to do next.")


class IkeFailurePage(Answer):
    """A page of failed logins, the newest first."""

    items: list[IkeFailure]
    next: str | None = Field(description="The `cursor` of the next page; null on the last.")
    total: int = Field(description="How many there are on all pages.")
