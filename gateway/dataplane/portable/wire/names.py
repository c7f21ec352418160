"""Names of link pairs."""

from typing import Final

FAR_END: Final = "-io"
"""How the name of the forwarder's end of a pair ends."""
