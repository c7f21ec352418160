"""A remote-access gateway for the edge of a network: IPsec, Mobile IPv4 and NAR."""

__version__ = "0.1.0"
