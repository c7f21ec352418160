"""Mappings that come, change and go: what is queued keeps up with what is wanted."""

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.dataplane.kernel.nar.elements import IN_MAPS, Elements, tuple_of
from gateway.dataplane.kernel.nar.l2tp import L2tpLink, link_name
from gateway.dataplane.kernel.nar.mappings import Mappings, NotPossibleError, Owner, Session
from gateway.dataplane.kernel.nar.numbers import Numbers
from gateway.dataplane.kernel.nft_elements import ElementChange
from gateway.dataplane.kernel.owned_batch import OwnedBatch
from gateway.dataplane.nar import NarServerSettings
from gateway.domain.nar import Delivery, L2tpSession, NarMapping, NarProtocol, NarTuple

P = NarProtocol
NA, NB, NB2 = (IPv4Address(text) for text in ("10.0.0.1", "192.0.2.1", "192.0.2.2"))
XA, XA2, YB = (IPv4Address(text) for text in ("10.0.0.2", "10.0.0.3", "192.0.2.9"))
SOHO = NarServerSettings("soho", NA, (NB, NB2), ("lan0",), ("wan0",))


class Kernel(OwnedBatch[Owner]):
    """Takes changes as the kernel does, and complains as it would."""

    def __init__(self) -> None:
        super().__init__()
        self.state: Elements = {}
        self.routes = 0

    def elements(self, owner: Owner, changes: Any) -> None:
        for change in changes:
            key = change.name, change.key
            if change.add:
                assert key not in self.state, change
                self.state[key] = change.data
            else:
                del self.state[key]

    def request(self, owner: Owner, what: str, request: bytes, *ignore: int) -> None:
        self.routes += -1 if what == "a deletion" else 1


@pytest.fixture
def kernel() -> Kernel:
    return Kernel()


@pytest.fixture
def mappings(kernel: Kernel) -> Mappings:
    return make(kernel)


def make(kernel: Kernel) -> Mappings:
    numbers = Numbers()
    numbers.set_addresses(SOHO.addresses)
    made = Mappings(numbers, kernel)
    made.servers = {"soho": SOHO}
    for number, client in enumerate((XA, XA2)):
        session = L2tpSession(client, 1, 2, 3 + number, 4, b"12345678", b"87654321")
        link = L2tpLink(session, link_name(session), 20_000 + number)
        made.sessions[client] = Session("soho", link, 7 + number, 1438)
    made.begun = True
    return made


def everything() -> Iterator[NarMapping]:
    """Tuples that share ports, SPIs' peers and clients, with every delivery."""
    keys = [
        (NarTuple(P.UDP, NB, 500), None),
        (NarTuple(P.UDP, NB, 500, None, 53), YB),
        (NarTuple(P.TCP, NB2, 500, YB, 80), None),
        (NarTuple(P.TCP, NB, 500, YB, 80), None),
        (NarTuple(P.ESP, NB, 1000), YB),
        (NarTuple(P.ESP, NB, 1001), YB),
        (NarTuple(P.ESP, NB2, 1001), None),
        (NarTuple(P.IP_IP, NB, 9, YB), None),
        (NarTuple(P.IP_IP, NB2, 9, YB), None),
    ]
    for key, peer in keys:
        for delivery in Delivery:
            for client in (XA, XA2):
                yield NarMapping("soho", key, client, delivery, peer=peer)
                if delivery is Delivery.TRANSLATED and key.protocol.has_ports:
                    yield NarMapping("soho", key, client, delivery, 80, peer)


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.sampled_from(list(everything()))), max_size=40))
def test_the_kernel_has_what_is_wanted(steps: list[tuple[bool, NarMapping]]) -> None:
    kernel = Kernel()
    mappings = make(kernel)
    there: dict[NarTuple, NarMapping] = {}
    for add, mapping in steps:
        if add:
            mappings.put(mapping)
            there[mapping.tuple] = mapping
        else:
            mappings.remove(mapping.tuple)
            there.pop(mapping.tuple, None)
        assert kernel.state == mappings.wanted()
        assert {tuple_of(*one) for one in kernel.state if one[0] in IN_MAPS} == there.keys()
    for key in there:
        mappings.remove(key)
    assert kernel.state == {}
    assert kernel.routes == 0


def test_the_same_again_changes_nothing(mappings: Mappings, kernel: Kernel) -> None:
    mapping = NarMapping("soho", NarTuple(P.UDP, NB, 500), XA, Delivery.IP_IP)
    assert mappings.put(mapping)
    assert not mappings.put(replace(mapping))


def test_h70_what_cannot_be_leaves_what_is_there(mappings: Mappings, kernel: Kernel) -> None:
    mapping = NarMapping("soho", NarTuple(P.AH, NB, 500), XA, Delivery.IP_IP)
    mappings.put(mapping)
    before = dict(kernel.state)
    for bad in (
        replace(mapping, delivery=Delivery.TRANSLATED),
        replace(mapping, server="other"),
        replace(mapping, client_port=7),
        replace(mapping, client=YB, delivery=Delivery.L2TP),
    ):
        with pytest.raises(NotPossibleError):
            mappings.put(bad)
    assert kernel.state == before
    assert mappings.get(mapping.tuple) == mapping


def test_clients_move_with_their_servers_interfaces(mappings: Mappings, kernel: Kernel) -> None:
    for number, delivery in enumerate((Delivery.IP_IP, Delivery.GRE, Delivery.TRANSLATED)):
        key = NarTuple(P.UDP, NB, 500 + number)
        mappings.put(NarMapping("soho", key, XA, delivery))
    mappings.servers = {"soho": replace(SOHO, client_interfaces=("lan1", "lan2"))}
    mappings.move_clients()
    assert kernel.state == mappings.wanted()
    links = {key[8:12] for name, key in kernel.state if name in ("tunnels_ip_ip", "tunnels_gre")}
    assert links == {b"lan1", b"lan2"}


def test_before_the_first_commit_nothing_is_queued(kernel: Kernel) -> None:
    mappings = make(kernel)
    mappings.begun = False
    mappings.put(NarMapping("soho", NarTuple(P.UDP, NB, 500), XA, Delivery.IP_IP))
    assert kernel.state == {}
    assert len(mappings.wanted()) == 5


def test_a_refused_mappings_client_is_queued_again(kernel: Kernel) -> None:
    mappings = make(kernel)
    first = NarMapping("soho", NarTuple(P.UDP, NB, 500), XA, Delivery.IP_IP)
    second = replace(first, tuple=NarTuple(P.UDP, NB, 501))
    mappings.put(first)
    mappings.put(second)
    key = mappings.client_key(first)
    mappings.remove(first.tuple)
    client = {one for one in kernel.state if one[0].startswith(("client_", "tunnels_"))}
    for one in client:
        del kernel.state[one]
    mappings.repeat_clients({key})
    assert kernel.state == mappings.wanted()


def test_changes_of_one_element_stay_together(kernel: Kernel) -> None:
    seen: list[list[ElementChange]] = []
    kernel.elements = lambda owner, changes: seen.append(list(changes))  # type: ignore[method-assign]
    mappings = make(kernel)
    mappings.exchange("settings", {}, {("out_source", b"k"): b"1", ("lent", b"a"): None})
    mappings.exchange(
        "settings",
        {("out_source", b"k"): b"1", ("lent", b"a"): None},
        {("out_source", b"k"): b"2"},
    )
    assert [[(one.name, one.add) for one in part] for part in seen] == [
        [("out_source", True)],
        [("lent", True)],
        [("out_source", False), ("out_source", True)],
        [("lent", False)],
    ]
