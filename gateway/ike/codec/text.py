"""Messages in words, for log lines. Nothing here raises, whatever came over the wire."""

from collections.abc import Iterable

from gateway.ike.codec.notify import Notify
from gateway.ike.codec.payload import Payload
from gateway.ike.registry import ExchangeType, NotifyType, PayloadType

_NOTIFY_NAMES: dict[int, str] = {member.value: member.name for member in NotifyType}
_PAYLOAD_NAMES: dict[int, str] = {member.value: member.name for member in PayloadType}
_EXCHANGE_NAMES: dict[int, str] = {member.value: member.name for member in ExchangeType}


def describe_notify(type: int) -> str:  # noqa: A002 - the RFC's own name
    """Name a notify type, or its number if it has no name here."""
    return _NOTIFY_NAMES.get(type) or f"notify {type}"


def describe_exchange(exchange: int) -> str:
    """Name an exchange type, or its number if it has no name here."""
    return _EXCHANGE_NAMES.get(exchange) or f"exchange {exchange}"


def describe_payload_type(payload_type: int) -> str:
    """Name a payload type, or its number if it has no name here."""
    return _PAYLOAD_NAMES.get(payload_type) or f"payload {payload_type}"


def describe_payloads(payloads: Iterable[Payload]) -> str:
    """List payloads in a line: ``SA KE NONCE N(COOKIE)``."""
    return " ".join(
        f"N({describe_notify(payload.type)})"
        if isinstance(payload, Notify)
        else describe_payload_type(payload.payload_type)
        for payload in payloads
    )
