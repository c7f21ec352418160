"""What the kernel is told of addresses that are answered for."""

import struct
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from gateway.dataplane.kernel import neighbour_proxies
from gateway.dataplane.kernel.neighbour_proxies import PROTOCOL, NeighbourProxies
from gateway.dataplane.kernel.netlink import NetlinkRefusal, attributes

A = ip_address
LINKS = {"eth1": 7, "eth2": 8}


class FakeKernel:
    """Entries by interface, address and protocol."""

    def __init__(self, *_arguments: Any) -> None:
        self.entries: set[tuple[int, Any, int]] = set()
        self.bodies: dict[tuple[int, Any, int], bytes] = {}
        self.refuse: int | None = None
        self.sent = 0
        self.closed = False

    def transact(self, requests: Any) -> Any:
        refusals = []
        for number, message in enumerate(requests):
            self.sent += 1
            kind = struct.unpack_from("=IHH", message)[1]
            body = message[16:]
            index, flags = struct.unpack_from("=BxHiHB", body)[2], body[10]
            assert flags & 0x08
            values = attributes(body, 12)
            entry = index, A(values[1]), values[12][0]
            if self.refuse is not None:
                refusals.append(NetlinkRefusal(number, self.refuse, ""))
            elif kind == 28:
                self.entries.add(entry)
                self.bodies[entry] = body
            elif entry in self.entries:
                self.entries.discard(entry)
            else:
                refusals.append(NetlinkRefusal(number, 2, ""))
        return refusals, []

    def check(self, _what: str, requests: Any, *ignore: int) -> None:
        assert all(one.errno in ignore for one in self.transact(requests)[0])

    def dump(self, _kind: int, asked: bytes) -> Any:
        for entry in sorted(self.entries, key=str):
            if self.bodies[entry][0] == asked[0]:
                yield 28, self.bodies[entry]

    def close(self) -> None:
        self.closed = True


class FakeAnnouncer:
    def __init__(self) -> None:
        self.said: list[tuple[str, str]] = []

    def announce(self, address: Any, interface: str, _link_address: bytes) -> None:
        self.said.append((str(address), interface))

    def close(self) -> None:
        pass


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> FakeKernel:
    one = FakeKernel()
    monkeypatch.setattr(neighbour_proxies, "NetlinkSocket", lambda *_a: one)
    monkeypatch.setattr(neighbour_proxies, "Announcer", FakeAnnouncer)
    monkeypatch.setattr(neighbour_proxies, "_link_address", lambda _name: b"\2\0\0\0\0\1")

    def index(name: str) -> int:
        if name not in LINKS:
            raise OSError(19, "no such device")
        return LINKS[name]

    monkeypatch.setattr(neighbour_proxies.socket, "if_nametoindex", index)
    return one


def shown(kernel: FakeKernel) -> list[str]:
    return sorted(f"{index} {address}" for index, address, _ in kernel.entries)


def test_entries_come_and_go_with_a_commit(kernel: FakeKernel) -> None:
    proxies = NeighbourProxies()
    proxies.add(("eth1", A("10.1.0.130")))
    proxies.add(("eth1", A("10.1.0.130")))
    proxies.add(("eth2", A("fd01::8001")))
    assert kernel.sent == 0
    proxies.commit()
    assert shown(kernel) == ["7 10.1.0.130", "8 fd01::8001"]
    assert {protocol for _, _, protocol in kernel.entries} == {PROTOCOL}
    assert proxies._announcer.said == [("10.1.0.130", "eth1")]  # type: ignore[union-attr]
    proxies.remove(("eth1", A("10.1.0.130")))
    proxies.remove(("eth1", A("10.1.0.131")))
    proxies.commit()
    proxies.commit()
    assert shown(kernel) == ["8 fd01::8001"]
    assert kernel.sent == 3


def test_who_leaves_and_comes_back_before_the_commit_stays(kernel: FakeKernel) -> None:
    proxies = NeighbourProxies()
    place = ("eth1", A("10.1.0.130"))
    proxies.add(place)
    proxies.commit()
    proxies.remove(place)
    proxies.add(place)
    proxies.commit()
    assert shown(kernel) == ["7 10.1.0.130"]


def test_what_an_earlier_process_left_is_settled(kernel: FakeKernel) -> None:
    earlier = NeighbourProxies()
    for last in (130, 131):
        earlier.add(("eth1", A(f"10.1.0.{last}")))
    earlier.commit()
    earlier.close(keep=True)
    others = (7, A("10.1.0.200"), 71)
    kernel.entries.add(others)
    kernel.bodies[others] = neighbour_proxies._entry(7, others[1], 0).replace(
        bytes([PROTOCOL]), b"\x47"
    )
    proxies = NeighbourProxies()
    proxies.add(("eth1", A("10.1.0.131")))
    proxies.add(("eth1", A("10.1.0.132")))
    assert proxies.settle() == 2
    assert shown(kernel) == ["7 10.1.0.131", "7 10.1.0.132", "7 10.1.0.200"]
    assert proxies.settle() == 0
    proxies.close(keep=False)
    assert shown(kernel) == ["7 10.1.0.200"]
    assert kernel.closed


def test_an_interface_that_comes_later_is_found(
    kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxies = NeighbourProxies()
    proxies.add(("eth9", A("10.1.0.130")))
    proxies.commit()
    assert proxies.missing == {"eth9": "there is no such interface"}
    monkeypatch.setitem(LINKS, "eth9", 9)
    proxies.settle()
    assert (proxies.missing, shown(kernel)) == ({}, ["9 10.1.0.130"])
    kernel.refuse = 1
    proxies.add(("eth9", A("10.1.0.131")))
    proxies.commit()
    assert "refused" in proxies.missing["eth9"]


def test_the_kernel_answers_at_once(kernel: FakeKernel, tmp_path: Path) -> None:
    del kernel
    for file in ("ipv4/neigh/eth1/proxy_delay", "ipv6/conf/eth1/proxy_ndp"):
        (tmp_path / file).parent.mkdir(parents=True)
        (tmp_path / file).write_text("80")
    NeighbourProxies(tmp_path).prepare({"eth1", "eth9"})
    assert (tmp_path / "ipv4/neigh/eth1/proxy_delay").read_text() == "0"
    assert (tmp_path / "ipv6/conf/eth1/proxy_ndp").read_text() == "1"
