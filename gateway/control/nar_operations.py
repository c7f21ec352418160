"""What can be asked about NAR servers."""

import re

from gateway.control.operation import NAME, PAGE, TEXT, Operation, Parameter, Role, ipv4

_NAR_SERVER = Parameter(
    "server", str, maximum=63, pattern=NAME, allowed="a NAR server's name as in the configuration"
)
_NAR_PROTOCOLS = "tcp, udp, icmp, esp, ah, ip-ip or gre"
_NAR_PROTOCOL = Parameter(
    "protocol",
    str,
    maximum=5,
    pattern=re.compile(r"tcp|udp|icmp|esp|ah|ip-ip|gre"),
    allowed=f"one of {_NAR_PROTOCOLS}",
)
_NAR_VALUE = Parameter(
    "value",
    str,
    maximum=15,
    pattern=re.compile(r"\d{1,10}|0[xX][0-9A-Fa-f]{1,8}|\d{1,3}(\.\d{1,3}){3}", re.ASCII),
    allowed="a port, an identifier, an SPI (0x with hexadecimal digits) or an inner address",
)
NAR_LEASE_ID = re.compile(
    r"(tcp|udp|icmp|esp|ah|ip-ip|gre),[0-9.]{7,15},[0-9.]{1,15},(any|[0-9.]{7,15}),(any|[0-9]{1,5})"
)
"""As :func:`gateway.nar.server.views.tuple_id` writes it."""
_TIME = re.compile(
    r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}(\.\d{1,6})?)?(Z|[+-]\d{2}:\d{2})?", re.ASCII
)
_USER = Parameter("user", str, maximum=253, pattern=TEXT, allowed="a user's name")


NAR_OPERATIONS = (
    Operation(
        "nar-clients",
        "Who has parts of our addresses: sessions of NAR clients, a page at a time.",
        (_NAR_SERVER, ipv4("client"), _USER, *PAGE),
    ),
    Operation(
        "nar-mappings",
        "What is leased to NAR clients, a page at a time.",
        (
            _NAR_SERVER,
            ipv4("client"),
            _USER,
            _NAR_PROTOCOL,
            ipv4("address"),
            _NAR_VALUE,
            *PAGE,
        ),
    ),
    Operation(
        "nar-audit",
        "Who held what, or holds it at a time, the newest first, a page at a time.",
        (
            _NAR_SERVER,
            ipv4("address"),
            _NAR_PROTOCOL,
            _NAR_VALUE,
            Parameter(
                "at",
                str,
                maximum=35,
                pattern=_TIME,
                allowed="a time such as 2026-01-31T12:00:00Z; without Z or offset it is UTC",
            ),
            _USER,
            ipv4("client"),
            *PAGE,
        ),
    ),
    Operation(
        "nar-end-lease",
        "End one lease; its client is told if it knows leases.",
        (
            Parameter(
                "id",
                str,
                required=True,
                maximum=64,
                pattern=NAR_LEASE_ID,
                allowed="the id of a lease, as `nar-mappings` lists it",
            ),
        ),
        Role.OPERATOR,
        changes=True,
    ),
    Operation(
        "nar-end-client",
        "End everything that a NAR client has.",
        (ipv4("client", required=True), _NAR_SERVER),
        Role.OPERATOR,
        changes=True,
    ),
)
