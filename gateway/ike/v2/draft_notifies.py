"""The drafts' features in IKEv2: vendor ids and private notifies (draft 001, B.7 and C.5)."""

from gateway.ike.codec import Notify, Payload, VendorId
from gateway.ike.core import Core
from gateway.ike.draft_features import (
    Features,
    advertisement,
    take_advertisement,
    vendor_ids,
)
from gateway.ike.policy import ConnectionPolicy
from gateway.ike.registry import NotifyType
from gateway.ike.v2.sa import IkeSa
from gateway.ike.v2.view import Payloads


def vendor_id_payloads(connections: tuple[ConnectionPolicy, ...]) -> list[Payload]:
    """What an initiator says in IKE_SA_INIT."""
    return [VendorId(data) for data in vendor_ids(connections)]


def asked_in(view: Payloads) -> Features:
    """What the notifies beside an SA payload ask for, or grant."""
    return Features(
        endpoint_update=view.notify(NotifyType.USE_ENDPOINT_UPDATE) is not None,
        vpn_fa=view.notify(NotifyType.USE_VPN_FA) is not None,
    )


def notifies(features: Features) -> list[Payload]:
    """The notifies that ask for, or grant, these features."""
    return [
        *([Notify(NotifyType.USE_VPN_FA)] if features.vpn_fa else []),
        *([Notify(NotifyType.USE_ENDPOINT_UPDATE)] if features.endpoint_update else []),
    ]


def advertise(sa: IkeSa, connection: ConnectionPolicy) -> list[Payload]:
    """The foreign agent advertisement of the IKE_AUTH response that carries the SA."""
    octets = advertisement(sa, connection)
    return [Notify(NotifyType.VPN_FA_ADVERTISEMENT, octets)] if octets else []


def take_advertised(core: Core, sa: IkeSa, connection: ConnectionPolicy, view: Payloads) -> None:
    """Keep the advertisement of the gateway, if there is one."""
    for octets in view.notify_data(NotifyType.VPN_FA_ADVERTISEMENT)[:1]:
        if not take_advertisement(sa, connection, octets):
            core.count("advertisements_ignored")
