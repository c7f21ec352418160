"""Answers that are still good, the least recently used of them forgotten first."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

import dns.flags
import dns.message
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset

MAX_TTL_S: Final = 86_400
MAX_NEGATIVE_TTL_S: Final = 3600
"""RFC 2308 section 5 allows up to three hours."""
MAX_ANSWER_OCTETS: Final = 4096
"""Larger answers are passed on and not kept."""
MEAN_ANSWER_OCTETS: Final = 512
"""A cache is full, too, when its answers have more than this on average: who asks for large ones
must not get the memory of all."""

Question = tuple[str, int, bool, bool]
"""Name in lower case, type, whether DNSSEC's records are wanted, and whether unchecked ones do."""
Sections = tuple[list[tuple[dns.rrset.RRset, int]], ...]


@dataclass(slots=True)
class Kept:
    """An answer, and how long it is good."""

    rcode: dns.rcode.Rcode
    authentic: bool
    """The AD flag (RFC 4035)."""
    sections: Sections
    """Answer, authority and additional, with their TTLs at ``since``."""
    since: float
    until: float


def kept_of(message: dns.message.Message, now: float) -> Kept:
    """An answer of a server as it may be kept; good until ``now`` when it may not."""
    sections: Sections = tuple(
        [(rrset, int(rrset.ttl)) for rrset in section]
        for section in (message.answer, message.authority, message.additional)
    )
    return Kept(
        message.rcode(),
        bool(message.flags & dns.flags.AD),
        sections,
        now,
        now + _ttl_s(message),
    )


def _ttl_s(message: dns.message.Message) -> int:
    if message.rcode() not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
        return 0
    if message.rcode() == dns.rcode.NOERROR and message.answer:
        everything = (*message.answer, *message.authority)
        return min(MAX_TTL_S, *(int(rrset.ttl) for rrset in everything))
    for rrset in message.authority:
        if rrset.rdtype == dns.rdatatype.SOA:
            return min(MAX_NEGATIVE_TTL_S, int(rrset.ttl), *(int(one.minimum) for one in rrset))
    return 0  # RFC 2308 section 5: without SOA it must not be kept


class Cache:
    """At most ``entries`` answers."""

    def __init__(self, entries: int) -> None:
        self._entries = entries
        self._kept: OrderedDict[Question, tuple[Kept, int]] = OrderedDict()
        """With their octets."""
        self._octets = 0

    def __len__(self) -> int:
        return len(self._kept)

    def find(self, question: Question, now: float) -> Kept | None:
        """A good answer."""
        kept, _ = self._kept.get(question, (None, 0))
        if kept is None:
            return None
        if kept.until <= now:
            self._drop(question)
            return None
        self._kept.move_to_end(question)
        return kept

    def keep(self, question: Question, kept: Kept, octets: int) -> None:
        """Remember an answer that had so many octets, if it is worth it."""
        if kept.until <= kept.since or octets > MAX_ANSWER_OCTETS or not self._entries:
            return
        self._drop(question)
        self._kept[question] = kept, octets
        self._octets += octets
        most = max(MAX_ANSWER_OCTETS, self._entries * MEAN_ANSWER_OCTETS)
        while len(self._kept) > self._entries or self._octets > most:
            self._drop(next(iter(self._kept)))

    def _drop(self, question: Question) -> None:
        _, octets = self._kept.pop(question, (None, 0))
        self._octets -= octets


def fill(reply: dns.message.Message, kept: Kept, now: float) -> None:
    """Put an answer into a reply, its TTLs lower by its age."""
    age = max(0, int(now - kept.since))
    for target, section in zip(
        (reply.answer, reply.authority, reply.additional), kept.sections, strict=True
    ):
        for rrset, ttl in section:
            rrset.ttl = max(0, ttl - age)
            target.append(rrset)
    reply.set_rcode(kept.rcode)
    reply.flags |= dns.flags.RA
    if kept.authentic:
        reply.flags |= dns.flags.AD
