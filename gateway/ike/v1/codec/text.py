"""IKEv1 messages in words, for log lines. Nothing here raises, whatever came over the wire."""

from gateway.ike.v1.codec.registry import ExchangeType, NotifyType

_NOTIFY_NAMES: dict[int, str] = {member.value: member.name for member in NotifyType}
_EXCHANGE_NAMES: dict[int, str] = {
    ExchangeType.IDENTITY_PROTECTION: "main mode",
    ExchangeType.AGGRESSIVE: "aggressive mode",
    ExchangeType.INFORMATIONAL: "informational exchange",
    ExchangeType.TRANSACTION: "transaction exchange",
    ExchangeType.QUICK: "quick mode",
}


def describe_notify(type: int) -> str:  # noqa: A002 - the RFC's own name
    """Name a notify type, or its number if it has no name here."""
    return _NOTIFY_NAMES.get(type) or f"notify {type}"


def describe_exchange(exchange: int) -> str:
    """Name an exchange type as people do, or its number if it has no name here."""
    return _EXCHANGE_NAMES.get(exchange) or f"exchange {exchange}"
