"""Whether the kernel has exactly our rules already: a chain without rules is named after them."""

import hashlib
from typing import Final

from gateway.dataplane.kernel.netlink import NetlinkSocket, attribute, request
from gateway.dataplane.kernel.nft_elements import NFPROTO_INET

_GET_CHAIN: Final = 10 << 8 | 4
_CHAIN_TABLE, _CHAIN_NAME = 1, 3


def version_chain(rules: str) -> str:
    """Name of the chain that only these rules have."""
    return f"version_{hashlib.sha256(rules.encode()).hexdigest()[:16]}"


def has_chain(netfilter: NetlinkSocket, table: str, chain: str, family: int = NFPROTO_INET) -> bool:
    """Whether the table has a chain of this name."""
    body = (
        bytes((family, 0, 0, 0))
        + attribute(_CHAIN_TABLE, table.encode() + b"\0")
        + attribute(_CHAIN_NAME, chain.encode() + b"\0")
    )
    refusals, _ = netfilter.transact([request(_GET_CHAIN, 0, body)])
    return not refusals
