"""Child SAs: proposals, keys, selectors, installation. Shared by every exchange that makes one."""

from dataclasses import dataclass

from gateway.domain.child_sa import ANY_IPV4, ANY_IPV6, ChildSa, EspKeys, EspSuite, TrafficSelector
from gateway.domain.endpoint import Endpoint, Path
from gateway.ike.codec import Proposal, SecurityAssociation, UnknownSelector
from gateway.ike.crypto import keymat
from gateway.ike.crypto.proposals import EspSelection, NoProposalChosen, select_esp
from gateway.ike.outputs import InstallChildSa, Severity
from gateway.ike.policy import ConnectionPolicy, Feature
from gateway.ike.registry import DhGroup, NotifyType, ProtocolId
from gateway.ike.v2 import selectors
from gateway.ike.v2.core import Core, TimerKind
from gateway.ike.v2.refusal import Refused
from gateway.ike.v2.sa import Child, IkeSa

MAX_CHILDREN = 16
"""Child SAs of one IKE SA, those being rekeyed included."""


@dataclass(frozen=True, slots=True)
class Agreed:
    """What both sides agreed on for a child SA."""

    spi_in: int
    spi_out: int
    suite: EspSuite
    group: DhGroup | None
    local_ts: tuple[TrafficSelector, ...]
    remote_ts: tuple[TrafficSelector, ...]


def known(
    offered: tuple[TrafficSelector | UnknownSelector, ...],
) -> tuple[TrafficSelector, ...]:
    """The selectors of types that we know."""
    return tuple(one for one in offered if isinstance(one, TrafficSelector))


def allowed_selectors(
    sa: IkeSa, connection: ConnectionPolicy
) -> tuple[tuple[TrafficSelector, ...], tuple[TrafficSelector, ...]]:
    """(local, remote) selectors that the policy allows on this SA."""
    if connection.request_inner_address:
        mine: tuple[TrafficSelector, ...] = (
            (TrafficSelector.of_address(sa.inner_address),)
            if sa.inner_address is not None
            else (ANY_IPV4, ANY_IPV6)
        )
        return mine, connection.remote_ts or (ANY_IPV4, ANY_IPV6)
    if sa.inner_address is not None and sa.pool is not None:
        return connection.local_ts, (TrafficSelector.of_address(sa.inner_address),)
    if sa.session_initiator:
        mine = connection.local_ts or (TrafficSelector.of_address(sa.path.local.address),)
        return mine, connection.remote_ts or (ANY_IPV4, ANY_IPV6)
    return connection.local_ts, connection.remote_ts


def choose_esp(
    core: Core, connection: ConnectionPolicy, offered: SecurityAssociation, *, with_group: bool
) -> EspSelection:
    """Pick an ESP proposal. Raises Refused with NO_PROPOSAL_CHOSEN."""
    key = (offered_transforms(offered), connection.esp_offer, with_group)
    found = core.esp_selections.get(key)
    if found is None:
        try:
            found = select_esp(connection.esp_offer, offered, with_group=with_group)
        except NoProposalChosen as nothing:
            raise Refused(
                NotifyType.NO_PROPOSAL_CHOSEN,
                str(nothing),
                f"offer one of ours, or add one of theirs to esp_proposals of {connection.name}",
            ) from None
        if len(core.esp_selections) >= 256:
            core.esp_selections.clear()
        core.esp_selections[key] = found
    return found


def offered_transforms(offered: SecurityAssociation) -> tuple[object, ...]:
    """The offer without its SPIs, which differ every time."""
    return tuple((one.number, one.protocol, one.transforms) for one in offered.proposals)


def spi_of(offered: SecurityAssociation, number: int) -> int:
    """The peer's SPI in the proposal with this number. Raises Refused when it cannot be one."""
    for proposal in offered.proposals:
        if proposal.number == number and proposal.protocol == ProtocolId.ESP:
            spi = int.from_bytes(proposal.spi, "big")
            if len(proposal.spi) == 4 and spi >= 256:
                return spi
    raise Refused(NotifyType.INVALID_SYNTAX, "the ESP proposal has no usable SPI")


def narrow(
    sa: IkeSa,
    connection: ConnectionPolicy,
    theirs: tuple[TrafficSelector | UnknownSelector, ...],
    ours: tuple[TrafficSelector | UnknownSelector, ...],
) -> tuple[tuple[TrafficSelector, ...], tuple[TrafficSelector, ...]]:
    """(local, remote) selectors: what was offered for each side and is allowed.

    Raises:
        Refused: TS_UNACCEPTABLE, with theirs and ours.
    """
    local, remote = allowed_selectors(sa, connection)
    local_ts = selectors.narrow(known(ours), local)
    remote_ts = selectors.narrow(known(theirs), remote)
    versions = {one.start.version for one in local_ts} & {one.start.version for one in remote_ts}
    if not versions:
        raise Refused(
            NotifyType.TS_UNACCEPTABLE,
            "the traffic selectors have nothing in common",
            f"check local_ts and remote_ts of {connection.name} and of the peer",
            theirs=f"{selectors.describe(known(theirs))} === {selectors.describe(known(ours))}",
            ours=f"{selectors.describe(remote)} === {selectors.describe(local)}",
        )
    return (
        tuple(one for one in local_ts if one.start.version in versions),
        tuple(one for one in remote_ts if one.start.version in versions),
    )


def answer_payload(selection: EspSelection, spi_in: int) -> SecurityAssociation:
    """The SA payload that answers with the chosen ESP proposal and our SPI."""
    return SecurityAssociation(
        (
            Proposal(
                selection.proposal_number,
                ProtocolId.ESP,
                spi_in.to_bytes(4, "big"),
                tuple(selection.transforms),
            ),
        )
    )


def keys(
    sa: IkeSa, suite: EspSuite, nonce_i: bytes, nonce_r: bytes, shared: bytes
) -> tuple[EspKeys, EspKeys]:
    """(initiator's, responder's) keys of a child SA; roles are those of the exchange."""
    if sa.suite is None:
        raise ValueError("no IKE keys")
    return keymat.child_keymat(suite, sa.suite.prf, sa.sk_d, nonce_i, nonce_r, shared)


def endpoints(sa: IkeSa, path: Path) -> tuple[Endpoint, Endpoint, bool]:
    """(local, remote, whether encapsulated in UDP) of the SA's ESP packets on a path."""
    return path.local, path.remote, sa.encapsulate


def install(  # noqa: PLR0917 - one fact each
    core: Core,
    sa: IkeSa,
    agreed: Agreed,
    keys_in: EspKeys,
    keys_out: EspKeys,
    now: float,
    *,
    reqid: int | None = None,
    outbound: bool = True,
) -> Child:
    """Hand a child SA to the dataplane and start its timers."""
    connection = sa.connection
    if connection is None:
        raise ValueError("no connection")
    life = connection.lifetimes
    local, remote, encapsulated = endpoints(sa, sa.path)
    child = Child(
        agreed.spi_in,
        agreed.spi_out,
        reqid if reqid is not None else core.take_reqid(connection.name),
        agreed.suite,
        agreed.group,
        agreed.local_ts,
        agreed.remote_ts,
        encapsulated,
        now,
    )
    child.outbound_active = outbound
    core.add_child(sa, child)
    core.timers.cancel((TimerKind.CHILDLESS, sa.local_spi))
    early = life.child_rekey_s * (1 - life.jitter * core.fraction())
    core.timers.set((TimerKind.REKEY_CHILD, child.spi_in), now + early)
    end = now + life.child_rekey_s + life.child_over_s
    core.timers.set((TimerKind.EXPIRE_CHILD, child.spi_in), end)
    described = ChildSa(
        spi_in=child.spi_in,
        spi_out=child.spi_out,
        reqid=child.reqid,
        suite=child.suite,
        keys_in=keys_in,
        keys_out=keys_out,
        local=local,
        remote=remote,
        udp_encapsulation=encapsulated,
        local_ts=child.local_ts,
        remote_ts=child.remote_ts,
        replay_window=connection.replay_window,
        follow_endpoint=connection.endpoint_update is not Feature.OFF and not sa.local_natted,
        soft_bytes=life.child_soft_bytes,
        hard_bytes=life.child_hard_bytes,
        soft_packets=life.child_soft_packets,
        hard_packets=life.child_hard_packets,
    )
    core.outputs.append(InstallChildSa(described, outbound))
    core.count("child_sas_installed")
    summary = f"{selectors.describe(child.local_ts)} === {selectors.describe(child.remote_ts)}"
    core.emit(
        "child_sa_installed",
        f"child SA {child.spi_in:08x}/{child.spi_out:08x} of {sa.peer_name}: {summary},"
        f" {child.suite}",
        Severity.DEBUG,
        peer=sa.peer_name,
        connection=connection.name,
        spi_in=f"{child.spi_in:08x}",
        spi_out=f"{child.spi_out:08x}",
        reqid=child.reqid,
        suite=str(child.suite),
    )
    return child
