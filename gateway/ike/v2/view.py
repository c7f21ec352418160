"""The payloads of one message, by kind."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

from gateway.domain.endpoint import Path
from gateway.domain.wire import WireError
from gateway.ike.codec import (
    Authentication,
    Certificate,
    CertificateRequest,
    Configuration,
    Delete,
    Eap,
    IdInitiator,
    IdResponder,
    KeyExchange,
    Nonce,
    Notify,
    Payload,
    SecurityAssociation,
    TrafficSelectorsInitiator,
    TrafficSelectorsResponder,
    VendorId,
)
from gateway.ike.registry import FIRST_STATUS_NOTIFY

_SINGLE = frozenset(
    {
        Authentication,
        Configuration,
        Eap,
        IdInitiator,
        IdResponder,
        KeyExchange,
        Nonce,
        SecurityAssociation,
        TrafficSelectorsInitiator,
        TrafficSelectorsResponder,
    }
)
_OFFERS = (
    Configuration,
    SecurityAssociation,
    TrafficSelectorsInitiator,
    TrafficSelectorsResponder,
)
P = TypeVar("P")


@dataclass(frozen=True, slots=True)
class Request:
    """An authenticated request that is the next one of its IKE SA."""

    view: "Payloads"
    exchange_type: int
    digest: bytes
    """SHA-256 of the datagram (of the first fragment), to know it again."""
    path: Path
    now: float


class Payloads:
    """Gives payloads by class; those that RFC 7296 allows once may not repeat."""

    __slots__ = (
        "_single",
        "authorities",
        "certificates",
        "deletes",
        "inner",
        "notifies",
        "vendor_ids",
    )

    def __init__(self, payloads: Iterable[Payload]) -> None:
        """Sort the payloads. Raises WireError when one that must be single repeats."""
        self._single: dict[type, Payload] = {}
        self.notifies: list[Notify] = []
        self.deletes: list[Delete] = []
        self.certificates: list[Certificate] = []
        self.authorities: list[CertificateRequest] = []
        self.vendor_ids: list[bytes] = []
        self.inner: tuple[int, bytes] | None = None
        """(type of the first payload, octets) of what was inside the encrypted part."""
        for payload in payloads:
            kind = type(payload)
            if kind is Notify:
                self.notifies.append(payload)  # type: ignore[arg-type]
            elif kind in _SINGLE:
                if kind in self._single:
                    raise WireError(f"{kind.__name__} payload twice")
                self._single[kind] = payload
            elif isinstance(payload, Certificate):
                self.certificates.append(payload)
            elif isinstance(payload, CertificateRequest):
                self.authorities.append(payload)
            elif isinstance(payload, Delete):
                self.deletes.append(payload)
            elif isinstance(payload, VendorId):
                self.vendor_ids.append(payload.data)

    def get(self, kind: type[P]) -> P | None:
        """The payload of a kind, or None."""
        return self._single.get(kind)  # type: ignore[return-value]

    def need(self, kind: type[P]) -> P:
        """The payload of a kind. Raises WireError when it is missing."""
        payload: P | None = self.get(kind)
        if payload is None:
            raise WireError(f"{kind.__name__} payload is missing")
        return payload

    def notify(self, notify_type: int) -> Notify | None:
        """The first notify of a type, or None."""
        for notify in self.notifies:
            if notify.type == notify_type:
                return notify
        return None

    def notify_data(self, notify_type: int) -> list[bytes]:
        """The data of every notify of a type."""
        return [notify.data for notify in self.notifies if notify.type == notify_type]

    def offers(self) -> list[Payload]:
        """What a first IKE_AUTH request asks for, without any proof: CP, SA, TSi, TSr, notifies."""
        kept = [one for one in map(self._single.get, _OFFERS) if one is not None]
        return [*kept, *self.notifies]

    def error(self) -> Notify | None:
        """The first notify that is an error, or None."""
        for notify in self.notifies:
            if notify.type < FIRST_STATUS_NOTIFY:
                return notify
        return None
