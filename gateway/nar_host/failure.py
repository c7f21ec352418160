"""What can go wrong for a user of NAR; every text says what, and what to do about it."""


class NarError(Exception):
    """The base of what :class:`~gateway.nar_host.session.NarSession` raises."""


class NarRefusedError(NarError):
    """The server said no."""


class NarUnavailableError(NarError, ConnectionError):
    """There is no such server, or the connection with it could not be made or kept."""


class NarHostError(NarError, OSError):
    """The host cannot do its part: not root, a kernel without IP-in-IP, an address in use."""

    def __init__(self, text: str, errno: int | None = None) -> None:
        super().__init__(text)
        self.errno = errno
        self.text = text

    def __str__(self) -> str:
        return self.text
