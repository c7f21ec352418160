"""Child SAs of IKEv2: proposals, keys, selectors. Shared by every exchange that makes one."""

from gateway.domain.child_sa import EspKeys, EspSuite, Mode, TrafficSelector
from gateway.ike import child_sas, selectors, transport_mode
from gateway.ike.codec import Proposal, SecurityAssociation, UnknownSelector
from gateway.ike.core import Core
from gateway.ike.crypto import keymat
from gateway.ike.crypto.proposals import EspSelection, NoProposalChosen, select_esp
from gateway.ike.policy import ConnectionPolicy
from gateway.ike.refusal import Refused
from gateway.ike.registry import NotifyType, ProtocolId
from gateway.ike.v2.sa import IkeSa
from gateway.ike.v2.transport_mode import Sides


def known(
    offered: tuple[TrafficSelector | UnknownSelector, ...],
) -> tuple[TrafficSelector, ...]:
    """The selectors of types that we know."""
    return tuple(one for one in offered if isinstance(one, TrafficSelector))


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
                theirs=nothing.theirs,
                ours=nothing.ours,
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
    core: Core, sa: IkeSa, connection: ConnectionPolicy, sides: Sides
) -> tuple[tuple[TrafficSelector, ...], tuple[TrafficSelector, ...]]:
    """(local, remote) selectors: what was offered for each side and is allowed.

    Raises:
        Refused: TS_UNACCEPTABLE, with theirs and ours.
    """
    local, remote = child_sas.allowed_selectors(sa, connection)
    theirs, ours = known(sides.theirs), known(sides.ours)
    local_ts = selectors.narrow(ours, local)
    remote_ts = selectors.narrow(theirs, remote)
    versions = {one.start.version for one in local_ts} & {one.start.version for one in remote_ts}
    if not versions:
        raise Refused(
            NotifyType.TS_UNACCEPTABLE,
            "the traffic selectors have nothing in common",
            f"check local_ts and remote_ts of {connection.name} and of the peer",
            theirs=f"{selectors.describe(theirs)} === {selectors.describe(ours)}",
            ours=f"{selectors.describe(remote)} === {selectors.describe(local)}",
        )
    if connection.mode is Mode.TRANSPORT:
        transport_mode.refuse_held(core, sa, local_ts, remote_ts)
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
