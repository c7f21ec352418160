"""What a connection that we initiated tells its owner: it is up, its terms changed, it is down.

One record for each such connection names the IKE SA that counts: the attempt under way, then the
established one and its successors. What happens to any other SA of the connection is not reported.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gateway.ike.outputs import ClientDown, ClientUp
from gateway.ike.sa import ChildState, IkeSa

if TYPE_CHECKING:
    from gateway.ike.core import Core
    from gateway.ike.policy import ConnectionPolicy

_IN_USE = frozenset({ChildState.INSTALLED, ChildState.REKEYING})


@dataclass(slots=True)
class Client:
    """How far a connection of ours is."""

    local_spi: bytes
    """Of the IKE SA that counts."""
    up: ClientUp | None = None
    """What was last reported; None while it is being brought up."""


def began(core: "Core", connection: "ConnectionPolicy", sa: IkeSa) -> None:
    """An attempt to bring a connection up is under way; beside a session it is not its own."""
    known = core.clients.get(connection.name)
    if known is None or known.up is None:
        core.clients[connection.name] = Client(sa.local_spi)


def stands(core: "Core", name: str) -> bool:
    """Whether a connection of ours is up, or an attempt to bring it up is under way."""
    return current(core, name) is not None


def current(core: "Core", name: str) -> IkeSa | None:
    """The IKE SA that counts for a connection of ours."""
    known = core.clients.get(name)
    sa = core.sas.get(known.local_spi) if known is not None else None
    return None if sa is None or sa.closed else sa


def of_spi(core: "Core", ike_spi: bytes) -> IkeSa | None:
    """The IKE SA with our SPI, or what came of it: SPIs change with each rekeying."""
    sa = core.sas.get(ike_spi)
    if sa is not None and not sa.replaced:
        return sa
    for known in core.clients.values():
        if known.up is not None and known.up.ike_spi == ike_spi:
            return core.sas.get(known.local_spi)
    return sa


def tell(core: "Core", sa: IkeSa) -> None:
    """A child SA was made, or what the gateway told us of it changed: report new terms.

    The first child SA of a new login is always reported, rekeying alone never.
    """
    connection = sa.connection
    if not sa.session_initiator or connection is None or connection.remote is None:
        return
    terms = _terms(sa, connection)
    if terms is None:
        return
    known = core.clients.get(connection.name)
    if known is not None and known.up is not None and known.local_spi == sa.local_spi:
        same = replace(
            known.up,
            ike_spi=terms.ike_spi,
            outer=terms.outer,
            encapsulated=terms.encapsulated,
        )
        if same == terms:
            return
    core.clients[connection.name] = Client(sa.local_spi, terms)
    core.touch(sa)
    core.outputs.append(terms)


def _terms(sa: IkeSa, connection: "ConnectionPolicy") -> ClientUp | None:
    children = [child for child in sa.children.values() if child.state in _IN_USE]
    if not children:
        return None
    newest = children[-1]
    assigned = sa.assigned
    return ClientUp(
        connection=connection.name,
        ike_spi=sa.local_spi,
        outer=sa.path.local.address,
        inner=sa.inner_address or connection.asked_home_address(sa.peer_knows_vpn_fa),
        vpn_fa=newest.vpn_fa,
        endpoint_update=newest.endpoint_update,
        mobike=sa.mobike,
        encapsulated=newest.udp_encapsulation,
        advertisement=sa.fa_advertisement,
        dns=assigned.dns if assigned is not None else (),
        domains=assigned.domains if assigned is not None else (),
        subnets=assigned.subnets if assigned is not None else (),
        suite=str(newest.suite),
        credentials=sa.mobility_credentials,
        inner6=sa.inner_addresses[1] if len(sa.leases) > 1 else None,
        mtu=assigned.mtu if assigned is not None else None,
    )


def succeeded(core: "Core", old: IkeSa, new: IkeSa) -> None:
    """A successor carries the session on: nothing that needs a report."""
    known = core.clients.get(old.connection_name)
    if known is not None and known.local_spi == old.local_spi:
        known.local_spi = new.local_spi


def ended(core: "Core", sa: IkeSa, reason: str, *, refused: bool, hint: str = "") -> None:
    """An IKE SA is over, or about to be: report it if it is the one that counts.

    ``refused`` says that an attempt failed for another reason than silence.
    """
    known = core.clients.get(sa.connection_name)
    if known is None or known.local_spi != sa.local_spi:
        return
    del core.clients[sa.connection_name]
    was_up = known.up is not None
    core.outputs.append(
        ClientDown(sa.connection_name, reason, hint, was_up, refused and not was_up)
    )


def forget(core: "Core", name: str) -> None:
    """Whoever drives us gives the connection up: nothing more is reported of it."""
    core.clients.pop(name, None)
