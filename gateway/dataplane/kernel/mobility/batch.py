"""What a commit sends, by home agent and home address."""

from ipaddress import IPv4Address

from gateway.dataplane.kernel.owned_batch import OwnedBatch

Owner = tuple[IPv4Address, IPv4Address]
"""(home agent, home address): whom a refusal is reported for."""


class Batch(OwnedBatch[Owner]):
    """Queued work. What an owner queues in one call is applied in one transaction."""
