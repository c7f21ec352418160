"""Which sessions get ports of which bridges; the kernel is a list here."""

import asyncio
from dataclasses import replace
from ipaddress import IPv4Address, ip_address
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.appliance.remote_access import bridges
from gateway.config.document import Config
from gateway.dataplane.kernel.bridges import Port
from gateway.domain.remote_access import Grant, Presence

END, OTHER_END = IPv4Address("10.1.0.1"), IPv4Address("10.2.0.1")
ADA = Grant("s1", "ada@example.com", connection="road", addresses=(ip_address("10.9.0.1"),))


class Kernel:
    """Remembers."""

    def __init__(self, interface: str) -> None:
        self.interface = interface
        self.there: dict[str, Port] = {}
        self.ends: tuple[IPv4Address, ...] = ()
        self.log: list[tuple[str, object]] = []
        self.broken = False
        self.closed: bool | None = None

    def open(self) -> None:
        left = Port("br-plant", END, IPv4Address("10.9.0.77"))
        self.there[left.name] = left

    def bridge_of(self, interface: str) -> str:
        return interface

    def set_ends(self, ends: tuple[IPv4Address, ...]) -> None:
        self.ends = ends

    @property
    def ports(self) -> Any:
        return self.there.values()

    def add(self, port: Port) -> None:
        if self.broken:
            raise OSError(95, "no such device kind")
        self.log.append(("add", port))
        self.there[port.name] = port

    def remove(self, port: Port) -> None:
        self.log.append(("remove", port))
        self.there.pop(port.name, None)

    def forget_bridges(self, wanted: object) -> None:
        self.log.append(("forget all but", tuple(wanted)))  # type: ignore[call-overload]

    def close(self, *, keep: bool = False) -> None:
        self.closed = keep


class House:
    def __init__(self, config: Config) -> None:
        self.config = config
        self.events: list[Any] = []
        self.grants: dict[str, Grant] = {}
        joint: Any = SimpleNamespace(
            config=lambda: self.config, grants=lambda: self.grants, emit=self.events.append
        )
        self.part = bridges.build(joint)
        self.part.open()
        self.kernel: Any = self.part._kernel  # type: ignore[attr-defined]

    def grant(self, one: Grant) -> None:
        self.grants[one.session] = one
        self.part.granted(one)

    def end(self, session: str) -> None:
        self.part.ended(self.grants.pop(session))


def config(**profile: object) -> Config:
    return Config.model_validate(
        {
            "bridges": {
                "plant": {"interface": "br-plant", "address": str(END)},
                "lab": {"interface": "br-lab", "address": str(OTHER_END)},
            },
            "pools": {"road": {"network": "10.9.0.0/24"}},
            "connections": {"road": {"pool": "road", "bridge": "plant"}},
            "profiles": {"chemists": {"groups": ["chemists"], "bridge": "lab", **profile}},
        }
    )


@pytest.fixture
def house(monkeypatch: pytest.MonkeyPatch) -> House:
    monkeypatch.setattr(bridges, "KernelBridges", Kernel)
    return House(config())


def devices(house: House) -> list[str]:
    return [str(port.device) for port in house.kernel.ports]


def test_ports_come_and_go_with_sessions(house: House) -> None:
    asyncio.run(house.part.start())
    house.grant(ADA)
    house.part.commit()
    assert list(house.kernel.ports) == [Port("br-plant", END, IPv4Address("10.9.0.1"))]
    house.end("s1")
    house.part.commit()
    assert not house.kernel.ports
    assert house.part.facts() == {"ports": 0}


def test_what_an_earlier_process_left_stays_until_everybody_has_been_granted_again(
    house: House,
) -> None:
    house.grant(ADA)
    house.part.commit()
    assert sorted(devices(house)) == ["10.9.0.1", "10.9.0.77"]
    asyncio.run(house.part.start())
    assert devices(house) == ["10.9.0.1"]


def test_the_profile_counts_before_the_connection(house: House) -> None:
    house.grant(replace(ADA, profile="chemists"))
    house.part.commit()
    assert house.kernel.there["gwp0a090001"].bridge == "br-lab"


def test_a_new_login_with_the_same_address_touches_no_port(house: House) -> None:
    asyncio.run(house.part.start())
    house.grant(ADA)
    house.part.commit()
    house.kernel.log.clear()
    house.end("s1")
    house.grant(replace(ADA, session="s2"))
    house.part.commit()
    assert not house.kernel.log


def test_sessions_without_an_address_of_their_own_get_none(house: House) -> None:
    house.grant(replace(ADA, presence=Presence.NAPT, zone=7))
    house.grant(replace(ADA, session="s2", addresses=(ip_address("fd00::1"),)))
    house.grant(replace(ADA, session="s3", connection="site"))
    house.part.commit()
    assert devices(house) == ["10.9.0.77"]
    assert [event.name for event in house.events] == ["bridge_failed", "bridge_failed"]


def test_a_refusal_of_the_kernel_is_one_line_and_ends_nobody(house: House) -> None:
    house.kernel.broken = True
    house.grant(ADA)
    house.part.commit()
    (event,) = house.events
    assert "10.9.0.1" in event.text
    assert "no such device kind" in event.text


def test_a_reload_moves_ports_and_leaves_the_others_alone(house: House) -> None:
    house.grant(ADA)
    house.grant(replace(ADA, session="s2", addresses=(ip_address("10.9.0.2"),), profile="chemists"))
    asyncio.run(house.part.start())
    house.kernel.log.clear()
    house.config = config(bridge="plant")
    house.part.reconfigure(house.config)
    moved = Port("br-plant", END, IPv4Address("10.9.0.2"))
    assert house.kernel.log == [("add", moved), ("forget all but", ("br-plant", "br-lab"))]


def test_the_next_process_finds_the_ports_and_the_last_leaves_none(house: House) -> None:
    asyncio.run(house.part.stop(keep=True))
    assert house.kernel.closed is True
