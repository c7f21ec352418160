"""UDP ports at which tunnels end on this host."""

from typing import Final

FOU_PORT: Final = 64949
"""Where UDP tunnels are decapsulated as GRE, after the ruleset has turned the header of RFC 3519
into one of GRE. With this port in the place of 434 the UDP checksum stays right: in ones'
complement 434 + 0x0404 + 0x0000 is 64949 + 0x0000 + 0x0800."""
