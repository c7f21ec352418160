"""Leases, rules in effect, names, MTU, paths: what remote access is asked by the control socket."""

import re

from gateway.control.operation import NAME, PAGE, TEXT, Operation, Parameter, Role

DEVICE = re.compile(r"~[0-9a-f]{16}|[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
"""A device of the configuration, or ``~`` and 16 digits of one that was only seen."""

_ADDRESS_TEXT = re.compile(r"[0-9A-Fa-f:.]{2,45}")


def _device() -> Parameter:
    return Parameter(
        "device",
        str,
        required=True,
        maximum=63,
        pattern=DEVICE,
        allowed="a device's name, as `devices` lists it",
    )


def _address(*, required: bool = False) -> Parameter:
    return Parameter(
        "address",
        str,
        required=required,
        maximum=45,
        pattern=_ADDRESS_TEXT,
        allowed="an IP address",
    )


def _pool(*, required: bool = False) -> Parameter:
    return Parameter(
        "pool", str, required=required, maximum=63, pattern=NAME, allowed="a pool's name"
    )


_Q = Parameter("q", str, maximum=253, pattern=TEXT, allowed="a part of what is searched for")

REMOTE_ACCESS_OPERATIONS = (
    # -- inner addresses: gateway/appliance/remote_access/leases.py
    Operation(
        "leases",
        "Inner addresses that are held, and why each one is: in use, kept for its device, static"
        " or reserved. A page at a time.",
        (_pool(), _Q, *PAGE),
    ),
    Operation(
        "lease-history",
        "Who had which inner address when, the newest first, a page at a time.",
        (_pool(), _address(), _Q, *PAGE),
    ),
    Operation(
        "lease-release",
        "Give an address that is kept for an absent device free.",
        (_pool(required=True), _address(required=True)),
        role=Role.OPERATOR,
        changes=True,
    ),
    Operation(
        "reachability",
        "How the inside learns where each pool is, whether it does, and what to enter where not.",
    ),
    # -- inside presence: gateway/appliance/remote_access/presence.py
    Operation(
        "napt-sessions",
        "Sessions without inner addresses, and what they appear as. A page at a time.",
        (_Q, *PAGE),
    ),
    Operation(
        "redirects",
        "Port forwards, where each one leads now, and how much it has carried.",
        PAGE,
    ),
    # -- rules: gateway/appliance/remote_access/filtering.py
    Operation(
        "rules-of",
        "The rules that apply to a device now, in words, with their counters.",
        (_device(),),
    ),
    Operation(
        "rule-counters",
        "How much each rule has let through and refused, a page at a time.",
        (_Q, *PAGE),
    ),
    Operation(
        "rule-test",
        "Whether a device may reach something, or be reached, and which rule says so.",
        (
            _device(),
            Parameter(
                "direction",
                str,
                maximum=16,
                default="to-inside",
                pattern=re.compile("to-inside|from-inside|between-devices|to-gateway"),
                allowed="to-inside, from-inside, between-devices or to-gateway",
            ),
            _address(required=True),
            Parameter("protocol", int, required=True, minimum=1, maximum=255),
            Parameter("port", int, default=0, minimum=0, maximum=65_535),
        ),
    ),
    # -- names: gateway/appliance/remote_access/names.py
    Operation("names", "The forwarder, and the names that devices have inside."),
    Operation(
        "names-verify",
        "Whether public DNS leads devices to this gateway (KX, SRV and A records).",
    ),
    # -- MTU and paths: gateway/appliance/remote_access/paths.py
    Operation(
        "mtu",
        "Largest packet of a device, with the arithmetic layer by layer.",
        (_device(),),
    ),
    Operation(
        "path-test",
        "Send probes of growing size through a device's tunnel and tell which ones arrive.",
        (_device(),),
        role=Role.OPERATOR,
        changes=True,
    ),
)
