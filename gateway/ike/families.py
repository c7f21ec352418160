"""Established IKE SAs by the login that they came of: what is recorded together, and when."""

from gateway.ike.sa import IkeSa


class Families:
    """A family is the IKE SA of a login and those that took its place by rekeying.

    Without ``recording`` nothing is remembered as touched.
    """

    __slots__ = ("members", "recorded", "recording", "touched")

    def __init__(self) -> None:
        self.recording = False
        self.members: dict[bytes, dict[bytes, IkeSa]] = {}
        """By family and our own SPI."""
        self.touched: dict[bytes, None] = {}
        """Families of which something may have changed since the last records."""
        self.recorded: dict[bytes, bytes] = {}
        """Digests of the last records, by family."""

    def touch(self, sa: IkeSa) -> None:
        """What is recorded of an IKE SA may have changed: it is looked at after this batch."""
        if self.recording:
            self.touched[sa.family] = None

    def enter(self, sa: IkeSa) -> None:
        """It is established."""
        self.members.setdefault(sa.family, {})[sa.local_spi] = sa
        self.touch(sa)

    def join(self, sa: IkeSa, other: IkeSa) -> None:
        """It carries the session of another one on."""
        if sa.family == other.family:
            return
        known = self.leave(sa)
        sa.family = other.family
        if known:
            self.enter(sa)

    def leave(self, sa: IkeSa) -> bool:
        """It is gone; whether it was there."""
        self.touch(sa)
        family = self.members.get(sa.family)
        if family is None or family.pop(sa.local_spi, None) is None:
            return False
        if not family:
            del self.members[sa.family]
        return True
