"""Where peers really are whose packets come by TCP: what stands for them is for this host only."""

import re
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace
from ipaddress import ip_address

from gateway.domain.endpoint import Endpoint
from gateway.domain.event import Event

MAX_PAST = 4096
"""Endpoints whose true address is remembered after their connections have ended."""
_STANDS_IN = re.compile(
    r"\b127\.(?:6[4-9]|[7-9]\d|1[01]\d|12[0-7])\.\d{1,3}\.\d{1,3}(?::\d{1,5})?\b"
)


class TcpNames:
    """True addresses, as texts, by the endpoints of relays."""

    def __init__(self) -> None:
        self._open: dict[str, str] = {}
        self._past: OrderedDict[str, str] = OrderedDict()

    def add(self, endpoint: Endpoint, true: str, host: str) -> None:
        """A connection from ``true``, address and port; ``host`` is the address alone."""
        self._open[str(endpoint)] = true
        self._remember(str(endpoint.address), host)

    def ended(self, endpoint: Endpoint) -> None:
        """Its connection has ended; SAs and events may still be about it."""
        true = self._open.pop(str(endpoint), None)
        if true is not None:
            self._remember(str(endpoint), true)

    def _remember(self, endpoint: str, true: str) -> None:
        self._past[endpoint] = true
        self._past.move_to_end(endpoint)
        if len(self._past) > MAX_PAST:
            self._past.popitem(last=False)

    def _true(self, endpoint: str) -> str | None:
        return self._open.get(endpoint) or self._past.get(endpoint)

    def of(self, value: object) -> object:
        """A JSON-like value with the true addresses in its texts."""
        if isinstance(value, str):
            if "127." not in value:
                return value
            return _STANDS_IN.sub(lambda found: self._true(found[0]) or found[0], value)
        if isinstance(value, Mapping):
            return {key: self.of(one) for key, one in value.items()}
        if isinstance(value, list | tuple):
            return [self.of(one) for one in value]
        return value

    def in_view(self, view: dict[str, object]) -> dict[str, object]:
        """A view of the control socket with the true addresses."""
        return {key: self.of(one) for key, one in view.items()}

    def in_event(self, event: Event) -> Event:
        """An event with the true addresses."""
        text = self.of(event.text)
        fields = {key: self.of(one) for key, one in event.fields.items()}
        if text == event.text and fields == event.fields:
            return event
        return replace(event, text=str(text), fields=fields)

    def true_remote(self, endpoint: Endpoint) -> Endpoint:
        """Where a peer really is: address and port of its TCP connection."""
        known = self._true(str(endpoint)) if endpoint.stands_for_tcp else None
        if known is None:
            return endpoint
        host, _, port = known.rpartition(":")
        return Endpoint(ip_address(host.strip("[]")), int(port))
