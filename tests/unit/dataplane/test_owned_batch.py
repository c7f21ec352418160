"""What a commit sends when the kernel refuses some of it: nothing that was released stays open."""

import errno
from collections.abc import Sequence
from typing import Any

from gateway.dataplane.kernel.netlink import NetlinkRefusal
from gateway.dataplane.kernel.nft_elements import ElementChange
from gateway.dataplane.kernel.owned_batch import OwnedBatch


class Kernel:
    """Sets in memory; ``no`` are keys whose changes are refused, ``full`` refuses everything."""

    def __init__(self) -> None:
        self.there: set[bytes] = set()
        self.no: set[bytes] = set()
        self.full = False

    def apply(self, changes: Sequence[ElementChange]) -> NetlinkRefusal | None:
        if self.full:
            return NetlinkRefusal(-1, errno.ENOMEM, "")
        for index, change in enumerate(changes):
            if change.key in self.no:
                return NetlinkRefusal(index, errno.EINVAL, "")
        for change in changes:
            (self.there.add if change.add else self.there.discard)(change.key)
        return None


def add(key: bytes) -> ElementChange:
    return ElementChange("tcp_any", key)


def remove(key: bytes) -> ElementChange:
    return ElementChange("tcp_any", key, add=False)


def flush(batch: OwnedBatch[str], kernel: Any) -> set[str]:
    route: Any = None
    return set(batch.flush(kernel, route))


def test_a_refused_removal_is_tried_again() -> None:
    kernel, batch = Kernel(), OwnedBatch[str]()
    kernel.there = {b"old"}
    kernel.full = True
    batch.elements("anna", [remove(b"old")])
    assert flush(batch, kernel) == {"anna"}
    assert batch
    assert flush(batch, kernel) == set()
    assert kernel.there == {b"old"}
    kernel.full = False
    batch.elements("otto", [add(b"new")])
    assert flush(batch, kernel) == set()
    assert kernel.there == {b"new"}
    assert not batch


def test_what_is_wanted_again_is_not_removed() -> None:
    kernel, batch = Kernel(), OwnedBatch[str]()
    kernel.there, kernel.no = {b"shared"}, {b"bad"}
    batch.elements("anna", [remove(b"shared"), add(b"bad")])
    batch.elements("otto", [add(b"shared")])
    assert flush(batch, kernel) == {"anna"}
    flush(batch, kernel)
    assert kernel.there == {b"shared"}
    kernel.full = True
    batch.elements("anna", [remove(b"shared")])
    flush(batch, kernel)
    kernel.full = False
    batch.elements("otto", [add(b"shared")])
    assert flush(batch, kernel) == set()
    assert kernel.there == {b"shared"}
    assert not batch


def test_one_that_cannot_be_removed_is_in_nobody_s_way() -> None:
    kernel, batch = Kernel(), OwnedBatch[str]()
    kernel.there, kernel.full = {b"one", b"two"}, True
    batch.elements("anna", [remove(b"one")])
    batch.elements("otto", [remove(b"two")])
    assert flush(batch, kernel) == {"anna", "otto"}
    kernel.full, kernel.no = False, {b"one"}
    batch.elements("carl", [add(b"three")])
    assert flush(batch, kernel) == set()
    assert kernel.there == {b"one", b"three"}
    kernel.no = set()
    flush(batch, kernel)
    assert kernel.there == {b"three"}
    assert not batch
