"""Message ids, the cached response and the outstanding request: a window of one each way.

RFC 7296 sections 2.1 to 2.3.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.ike.v2.exchange import Exchange

LAST_MESSAGE_ID = 0xFFFFFFFF
"""An SA whose ids reach this is closed, never wrapped (RFC 7296 section 2.2)."""


REPEATS_PER_S = 8
"""How often a second one response is sent again; peers that wait in earnest ask less often."""


class Outstanding:
    """A request of ours that waits for its response."""

    __slots__ = ("exchange", "messages", "sent_at", "tries")

    def __init__(self, exchange: "Exchange", messages: tuple[bytes, ...]) -> None:
        self.exchange = exchange
        self.messages = messages
        self.tries = 1
        self.sent_at: float | None = None
        """When it was sent, while it was sent once only: then its answer tells the path's time."""


class Window:
    """The requester's and the responder's side of one IKE SA."""

    __slots__ = (
        "_digest",
        "_repeats",
        "expected",
        "held",
        "next_request",
        "outstanding",
        "responses",
    )

    def __init__(self) -> None:
        self.next_request = 0
        """Id of our next request; the outstanding one has this minus one."""
        self.expected = 0
        """Id of the peer's next request."""
        self.outstanding: Outstanding | None = None
        self.responses: tuple[bytes, ...] = ()
        self._digest = b""
        self._repeats: tuple[float, int] | None = None
        self.held = False
        """The expected request came and is answered when somebody outside has answered us."""

    @classmethod
    def resumed(
        cls, next_request: int, expected: int, responses: tuple[bytes, ...], digest: bytes
    ) -> "Window":
        """The window of a former process, whose outstanding request the caller enters."""
        window = cls()
        window.next_request, window.expected = next_request, expected
        window.responses, window._digest = responses, digest
        return window

    @property
    def digest(self) -> bytes:
        """SHA-256 of the request that ``responses`` answer."""
        return self._digest

    def begin(self, outstanding: Outstanding) -> None:
        """Remember our request; its id was ``next_request``."""
        self.outstanding = outstanding
        self.next_request += 1

    def awaits(self, message_id: int) -> bool:
        """Whether a response with this id answers our outstanding request."""
        return self.outstanding is not None and message_id == self.next_request - 1

    def is_repeated(self, message_id: int, digest: bytes) -> bool:
        """Whether a request is the last one again, octet by octet.

        ``digest`` is the SHA-256 of the datagram; of a fragmented message only the first fragment
        counts, so one repetition is answered once (RFC 7383 section 2.6.1).
        """
        return message_id == self.expected - 1 and self._digest == digest

    def may_repeat(self, now: float) -> bool:
        """Whether the last response is sent again: a flood of repetitions is not answered."""
        begun, used = self._repeats or (now, 0)
        if now - begun >= 1.0:
            begun, used = now, 0
        self._repeats = (begun, used + 1)
        return used < REPEATS_PER_S

    def answer(self, digest: bytes, responses: tuple[bytes, ...]) -> None:
        """The expected request was answered: remember how, and expect the next."""
        self._digest = digest
        self.responses = responses
        self.expected += 1
        self.held = False
        self._repeats = None


def retransmission_delay(tries: int, first_s: float, factor: float) -> float:
    """Seconds to wait for an answer after the ``tries``-th transmission (1 is the first)."""
    return float(first_s * factor ** (tries - 1))
