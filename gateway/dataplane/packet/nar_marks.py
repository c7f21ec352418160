"""The fwmarks of the NAR dataplane that the functions on packets know of."""

from typing import Final

RANGE: Final = 0x4759_0000
"""The upper half of all of them; no other program may use it."""
SENT: Final = 0x4759_0020
"""Made by the slow path: whole, and to be left as it is."""
