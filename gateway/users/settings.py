"""Where the user base is, and what a password check costs."""

from dataclasses import dataclass, field
from pathlib import Path

MAX_SCRYPT_OCTETS = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class ScryptCost:
    """Parameters of scrypt (RFC 7914); the default takes 16 MB and about 50 ms.

    Raises ValueError, naming the parameter, when one is out of bounds.
    """

    log2_n: int = 14
    r: int = 8
    p: int = 1

    def __post_init__(self) -> None:
        if not 10 <= self.log2_n <= 22:
            raise ValueError(f"scrypt ln is {self.log2_n}; give 10 to 22")
        if not 1 <= self.r <= 32:
            raise ValueError(f"scrypt r is {self.r}; give 1 to 32")
        if not 1 <= self.p <= 16:
            raise ValueError(f"scrypt p is {self.p}; give 1 to 16")
        if self.memory_octets > MAX_SCRYPT_OCTETS:
            limit = MAX_SCRYPT_OCTETS // 1024**2
            raise ValueError(f"scrypt needs more than {limit} MB; give a smaller ln or r")

    @property
    def memory_octets(self) -> int:
        """What one check takes."""
        return 128 * self.r << self.log2_n


@dataclass(frozen=True, slots=True)
class UserBaseSettings:
    """The files of the user base."""

    path: Path
    """The user file, TOML."""
    key_path: Path
    """Holds the key that seals NT hashes; made at first use."""
    cost: ScryptCost = field(default_factory=ScryptCost)
    """For passwords that are set from now on."""
