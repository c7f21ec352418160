"""A remote-access gateway for the edge of a network: IPsec, Mobile IPv4 and NAR in one appliance."""

__version__ = "0.1.0"
