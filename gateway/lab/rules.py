"""The nft rules of the lab's routers: a NAT whose mapping can change, and a rewritten source."""

from __future__ import annotations

from ipaddress import IPv4Address

from gateway.lab import plan

MAPPINGS = 40


def nat_mapping(number: int) -> tuple[IPv4Address, tuple[int, int]]:
    """Public address and port range (first, last) of the NAT's mapping `number`, from 0."""
    first = plan.NAT_FIRST_PORT + (number % MAPPINGS) * plan.NAT_PORTS_PER_MAPPING
    public = plan.NAT_PUBLIC[number % len(plan.NAT_PUBLIC)]
    return public, (first, first + plan.NAT_PORTS_PER_MAPPING - 1)


def nat(number: int) -> str:
    """The NAT router's rules for a mapping, in place of any other."""
    public, (first, last) = nat_mapping(number)
    inside = f"oifname uplink ip saddr {plan.ACCESSES['nat'].device.network}"
    return f"""
        table ip lab_nat
        delete table ip lab_nat
        table ip lab_nat {{
            chain post {{
                type nat hook postrouting priority srcnat
                {inside} meta l4proto {{ tcp, udp }} snat to {public}:{first}-{last}
                {inside} snat to {public}
            }}
            chain input {{
                type filter hook input priority filter
                # A stranger's packet to a mapping that is gone is dropped in silence.
                iifname uplink ct state new ip protocol != icmp drop
            }}
        }}
    """


def rewritten_source(access: plan.Access, address: IPv4Address | None) -> str:
    """An access router's rules that replace the device's address outside, statelessly."""
    clear = "table ip rewrite_source\ndelete table ip rewrite_source\n"
    if address is None:
        return clear
    return f"""{clear}
        table ip rewrite_source {{
            chain pre {{
                type filter hook prerouting priority raw
                iifname uplink ip daddr {address} notrack ip daddr set {access.device.ip}
            }}
            chain post {{
                type filter hook postrouting priority 300
                oifname uplink ip saddr {access.device.ip} ip saddr set {address}
            }}
        }}
    """
