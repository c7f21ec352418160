"""Where the client is with its server, and which way it may go from there."""

import enum
from typing import Final


class Phase(enum.Enum):
    """What is waited for."""

    AWAY = "a connection"
    METHODS = "the choice of a method"
    LOGIN = "the answer to the login"
    MODE = "the answer to NAR-MODE"
    SESSION = "the answer to SESSION"
    L2TP = "the answer to L2TP-ASSOCIATE"
    READY = "nothing: leases can be asked for"
    FAILED = "the end of the connection"


CLOSED: Final = (Phase.AWAY, Phase.FAILED)
"""Nothing is said or read."""
_AGREED: Final = frozenset({Phase.SESSION, Phase.L2TP, Phase.READY})
_NEXT: Final = {
    Phase.AWAY: frozenset({Phase.METHODS}),
    Phase.METHODS: frozenset({Phase.LOGIN, Phase.MODE}),
    Phase.LOGIN: frozenset({Phase.MODE}),
    Phase.MODE: _AGREED,
    Phase.SESSION: _AGREED,
    Phase.L2TP: frozenset({Phase.READY}),
    Phase.READY: frozenset({Phase.MODE}),
    Phase.FAILED: frozenset({Phase.METHODS}),
}


def may_follow(before: Phase, after: Phase) -> bool:
    """Whether ``after`` may come next. A connection may end or fail at any time."""
    return after in CLOSED or after in _NEXT[before]
