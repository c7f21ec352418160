"""Why a registration is refused: one exception that the checks raise, answered in one place."""


class Denied(Exception):  # noqa: N818 - the RFC's word
    """A registration comes to nothing, and the mobile node is told so."""

    def __init__(self, code: int, reason: str, hint: str = "", lifetime_s: int = 0) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        """What was wrong, with the values, for the administrator."""
        self.hint = hint
        """What to do about it."""
        self.lifetime_s = lifetime_s
        """Of the reply: what would be granted, with code 69."""


class Discarded(Exception):  # noqa: N818 - the RFC's word
    """The message changes nothing and gets no answer (RFC 5944: silently discard)."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason
        """Names the counter."""
