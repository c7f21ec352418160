"""From a wish to a bundle: choose, issue, make. Nothing is stored here."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from gateway.appliance.provisioning.choosing import Choice, Wish, choose
from gateway.appliance.provisioning.derive import (
    DeviceCredential,
    needs_certificate,
    setup_of,
)
from gateway.appliance.provisioning.keeping import Kept
from gateway.appliance.provisioning.peers import peer_name
from gateway.config.document import Config
from gateway.ike.auth.identity import Identity
from gateway.provisioning import bundle, ca
from gateway.provisioning.problem import ProvisioningRefusedError
from gateway.provisioning.setup import Bundle, Platform

_RSA = frozenset({Platform.WINDOWS, Platform.ANDROID, Platform.APPLE})
"""Their key stores do not take ECDSA keys in every version, or beside a gateway with RSA."""


@dataclass(frozen=True, slots=True)
class Order:
    """A wish and how it is to be carried out."""

    wish: Wish
    days: int
    request: str | None = None
    """PEM of a certificate request."""
    certificate: str | None = None
    """PEM of a certificate that was issued elsewhere."""


@dataclass(frozen=True, slots=True)
class Made:
    """A bundle and what it was made of."""

    choice: Choice
    bundle: Bundle
    credential: DeviceCredential | None

    @property
    def identity(self) -> str:
        """As the configuration writes it."""
        return peer_name(self.choice.identity).text

    @property
    def session_identity(self) -> str:
        """As sessions show it."""
        return str(self.choice.identity)


def make(
    config: Config,
    order: Order,
    authorities: Sequence[Kept],
    now: datetime,
    random: Callable[[int], bytes],
) -> Made:
    """Takes up to a second where a key has to be RSA: call it in a thread.

    Raises :class:`ProvisioningRefusedError` and :class:`gateway.config.ConfigError`.
    """
    choice = choose(config, order.wish)
    credential = None
    if needs_certificate(choice.section):
        credential = _credential(order, choice.identity, authorities, now)
    elif order.request is not None or order.certificate is not None:
        field_name = "request" if order.request is not None else "certificate"
        why = f"connections.{choice.connection} takes no certificates of devices; leave it out"
        raise ProvisioningRefusedError(field_name, why)
    setup = setup_of(config, order.wish, choice, credential)
    return Made(choice, bundle.make(order.wish.platform, setup, random), credential)


def _credential(
    order: Order, identity: Identity, authorities: Sequence[Kept], now: datetime
) -> DeviceCredential:
    name = peer_name(identity)
    if order.certificate is not None:
        return _uploaded(order.certificate, identity, authorities, now)
    issuer = next((one.authority for one in authorities if one.issues), None)
    if issuer is None:
        why = "no CA's key is here; upload a certificate that was issued for the device"
        raise ProvisioningRefusedError("certificate", why)
    device = order.wish.device
    if order.request is not None:
        public = ca.read_request(order.request.encode())
        return DeviceCredential(issuer.issue_device(public, name, device, now, order.days), issuer)
    key = ca.new_key(ca.KeyKind.RSA3072 if order.wish.platform in _RSA else ca.KeyKind.P256)
    certificate = issuer.issue_device(key.public_key(), name, device, now, order.days)
    return DeviceCredential(certificate, issuer, ca.key_pem(key))


def _uploaded(
    pem: str, identity: Identity, authorities: Sequence[Kept], now: datetime
) -> DeviceCredential:
    certificate = ca.read_certificate("certificate", pem.encode())
    issuer = next((one for one in authorities if one.issued(certificate)), None)
    if issuer is None:
        why = "was issued by no CA of this gateway; import its CA first"
        raise ProvisioningRefusedError("certificate", why)
    ca.check_uploaded(issuer.authority, certificate, peer_name(identity), now)
    return DeviceCredential(certificate, issuer.authority)
