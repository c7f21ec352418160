"""Reverse zones of networks."""

from gateway.domain.child_sa import IpNetwork

MAX_ZONES = 256


def reverse_domains(network: IpNetwork) -> list[str]:
    """The domains that hold the reverse names of a network, and nothing else's if possible.

    A network that is not whole octets (whole digits with IPv6) needs several.
    """
    bits = 8 if network.version == 4 else 4
    length = -(-network.prefixlen // bits) * bits
    if length == 0:
        length = bits
    if 2 ** (length - network.prefixlen) > MAX_ZONES:
        length -= bits
    parts = length // bits
    found = []
    networks = [network] if length <= network.prefixlen else network.subnets(new_prefix=length)
    for one in networks:
        address = one.network_address
        if address.version == 4:
            digits = str(address).split(".")[:parts]
            found.append(".".join(reversed(digits)) + ".in-addr.arpa")
        else:
            digits = list(address.exploded.replace(":", ""))[:parts]
            found.append(".".join(reversed(digits)) + ".ip6.arpa")
    return found
