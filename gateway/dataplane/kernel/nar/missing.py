"""What nftables of this kernel lacks, asked one by one when the ruleset was refused."""

from collections.abc import Mapping
from typing import Final

from gateway.dataplane.kernel.ruleset import RulesetRefusedError, run_nft

NFQUEUE: Final = "NFQUEUE (CONFIG_NFT_QUEUE, CONFIG_NETFILTER_NETLINK_QUEUE)"
_TABLE: Final = "gateway_nar_trial"
_CHAIN: Final = "type filter hook prerouting priority 0;"
_NEEDS: Final = {
    "nf_tables (CONFIG_NF_TABLES_IPV4)": (_CHAIN, ""),
    "the connection tracker (CONFIG_NFT_CT)": (_CHAIN, "notrack ct status snat"),
    "limits (CONFIG_NFT_LIMIT)": (_CHAIN, "limit rate 1000/second"),
    "NAT (CONFIG_NFT_NAT, CONFIG_NFT_MASQ)": (
        "type nat hook postrouting priority 100;",
        "meta l4proto tcp masquerade to :1024-2047",
    ),
    "MTU of routes (CONFIG_NF_TABLES)": (
        "type filter hook forward priority 0;",
        "tcp option maxseg size set rt mtu",
    ),
}


def missing(more: Mapping[str, str] | None = None) -> list[str]:
    """What of the kernel the ruleset needs and does not get. Leaves nothing behind.

    ``more`` are further rules for prerouting, by the words for what they need.
    """
    found = []
    needs = _NEEDS | {name: (_CHAIN, rule) for name, rule in (more or {}).items()}
    for name, (chain, rule) in needs.items():
        text = f"add table ip {_TABLE}\nadd chain ip {_TABLE} c {{ {chain} }}\n"
        if rule:
            text += f"add rule ip {_TABLE} c {rule}\n"
        try:
            run_nft(f"{text}delete table ip {_TABLE}")
        except RulesetRefusedError:
            found.append(name)
    return found
