"""What the API answers about NAR servers."""

from pydantic import Field

from gateway.api.models import Answer

_SERVER = "Name of the NAR server."
_CLIENT = "The client's own address."
_USER = "Who logged in; null for clients that need no login."
_DELIVERY = (
    "How packets reach the client: `ip-ip`, `gre` and `l2tp` are end-to-end in tunnels, "
    "`translated` exchanges the address."
)
_PROTOCOL = "`tcp`, `udp`, `icmp`, `esp`, `ah`, `ip-ip` or `gre`."
_VALUE = (
    "What is leased of the address: a port, an ICMP identifier, an SPI, or for tunnels the inner "
    "destination address."
)
_REMOTE = "Whose packets match; null for anybody's."
_CLIENT_PORT = "The port that the client uses itself, where it is another one; else null."
_PEER = "Where the client may send to; null for anywhere."
_NEXT = "The `cursor` of the next page; null on the last."
_TOTAL = "How many there are on all pages."


class NarClient(Answer):
    """A control connection of a NAR or SOCKS5 client, or a session that lost its own."""

    server: str = Field(description=_SERVER)
    client: str = Field(description=_CLIENT, examples=["192.168.1.20"])
    port: int | None = Field(
        description="Its port of the connection; null: the connection is lost."
    )
    user: str | None = Field(description=_USER)
    rule: str | None = Field(description="Name of the rule that counts for it; null: it fits none.")
    state: str = Field(
        description="`negotiating`, `authenticating`, `ready`, `nar`, `proxying`, `relaying`, or "
        "`lost`: within its grace period.",
        examples=["nar"],
    )
    connected: bool = Field(description="False: lost, and within its grace period.")
    tls: bool | None = Field(description="The connection is in TLS.")
    address: str | None = Field(
        description="The address that it has parts of.", examples=["203.0.113.5"]
    )
    target: str | None = Field(description="Whom it named in NAR-MODE; null for anybody.")
    delivery: str | None = Field(description=_DELIVERY)
    session: str | None = Field(
        description="Names what it has; null: it has nothing.", examples=["90c1f2d30a774be5"]
    )
    resumable: bool | None = Field(
        description="It renews its leases, and can come back to them with its token."
    )
    leases: int = Field(description="How many it has.")
    since: str | None = Field(description="Time of its beginning, UTC.")
    expires_in_s: float | None = Field(
        description="Seconds until its leases end unless it renews or comes back; null: they last"
        " as long as the connection."
    )


class NarLease(Answer):
    """What a client has of an address."""

    id: str = Field(description="Names the lease.", examples=["esp,203.0.113.5,1106485959,any,any"])
    server: str = Field(description=_SERVER)
    protocol: str = Field(description=_PROTOCOL, examples=["esp"])
    address: str = Field(description="The address outside.", examples=["203.0.113.5"])
    value: str = Field(description=_VALUE, examples=["0x41f3a2c7"])
    remote: str | None = Field(description=_REMOTE)
    remote_port: int | None = Field(description="Source port of what matches; null for any.")
    client: str = Field(description=_CLIENT, examples=["192.168.1.20"])
    user: str | None = Field(description=_USER)
    rule: str | None = Field(description="Name of the rule that allows it.")
    session: str | None = Field(description="Name of the session that has it.")
    connected: bool | None = Field(description="Its control connection is there.")
    delivery: str = Field(description=_DELIVERY)
    client_port: int | None = Field(description=_CLIENT_PORT)
    peer: str | None = Field(description=_PEER)
    since: str | None = Field(description="Time of its beginning, UTC.")
    expires_in_s: float | None = Field(
        description="Seconds until it ends unless it is renewed; null while its connection lasts."
    )


class NarAuditEntry(Answer):
    """Who held what from when to when."""

    id: str = Field(description="Names the entry; rises with time.", examples=["000000000000002a"])
    server: str = Field(description=_SERVER)
    protocol: str = Field(description=_PROTOCOL, examples=["tcp"])
    address: str = Field(description="The address outside.", examples=["203.0.113.5"])
    value: str = Field(description=_VALUE, examples=["20010"])
    remote: str | None = Field(description=_REMOTE)
    remote_port: int | None = Field(description="Source port of what matched; null for any.")
    client: str = Field(description=_CLIENT, examples=["192.168.1.20"])
    user: str | None = Field(description=_USER)
    delivery: str = Field(description=_DELIVERY)
    client_port: int | None = Field(description=_CLIENT_PORT)
    peer: str | None = Field(description=_PEER)
    since: str = Field(description="From when, UTC.")
    until: str | None = Field(description="Until when, UTC; null: still.")
    ended_by: str | None = Field(description="Why it ended; null: it has not.")


class NarClientPage(Answer):
    """A page of NAR clients."""

    items: list[NarClient]
    next: str | None = Field(description=_NEXT)
    total: int = Field(description=_TOTAL)


class NarLeasePage(Answer):
    """A page of leases."""

    items: list[NarLease]
    next: str | None = Field(description=_NEXT)
    total: int = Field(description=_TOTAL)


class NarAuditPage(Answer):
    """A page of the audit, the newest first."""

    items: list[NarAuditEntry]
    next: str | None = Field(description=_NEXT)
    total: int = Field(description=_TOTAL)
