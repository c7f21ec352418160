"""What the sets hold whoever is a client: lent addresses, interfaces, ways out."""

from gateway.dataplane.kernel.nar import constants, elements
from gateway.dataplane.kernel.nar.elements import Element, Elements, interface, mark
from gateway.dataplane.kernel.nar.numbers import Numbers
from gateway.dataplane.nar import NarSettings


def constant_elements(settings: NarSettings, numbers: Numbers) -> Elements:
    """Elements that settings make; ``numbers`` knows the addresses already."""
    found: Elements = {}
    for server in settings.servers:
        found["servers", server.tunnel_address.packed] = None
        found["box", server.tunnel_address.packed] = None
        for address in server.addresses:
            packed, out = address.packed, numbers.out_mark(address)
            found["lent", packed] = None
            found["box", packed] = None
            found |= elements.of_alias(address, numbers.alias(0, address))
            for name in server.outside_interfaces:
                found["ways", packed + interface(name)] = None
                for one in (out, out + constants.WITH_PORT):
                    found["out_ways", mark(one) + interface(name)] = None
                    found["out_source", mark(one) + interface(name)] = packed
            for name in server.client_interfaces:
                for one in (out, out + constants.WITH_PORT):
                    found["out_links", mark(one) + interface(name)] = None
    return found


def living_elements(settings: NarSettings) -> set[Element]:
    """Elements that last only as long as somebody says so."""
    found: set[Element] = set()
    for server in settings.servers:
        for address in server.addresses:
            for name in server.outside_interfaces:
                found.add(("addresses", address.packed + interface(name)))
        for name in server.client_interfaces:
            found.add(("client_links", interface(name)))
    return found
