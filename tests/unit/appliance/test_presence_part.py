"""Which sessions are members, and where redirects lead; the kernel is a list here."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from ipaddress import ip_address
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.appliance.remote_access.presence import InsidePresence
from gateway.appliance.remote_access.presence_plan import Plan, needed
from gateway.config.document import Config
from gateway.control.protocol import Request
from gateway.dataplane.presence import Member, PresenceSettings, RedirectUse
from gateway.domain.remote_access import Grant, Presence

R = ip_address("192.168.1.5")
ADA = Grant(
    "s1", "ada@example.com", connection="road", addresses=(R,), presence=Presence.NAPT, zone=5
)
BOB = Grant("s2", "bob@example.com", connection="office", addresses=(ip_address("10.9.0.2"),))


class Kernel:
    def __init__(self, settings: PresenceSettings) -> None:
        self.settings = settings
        self.members: dict[str, Member] = {}
        self.leads: dict[int, Member | None] = {}
        self.forgotten: list[int] = []
        self.adopted: bool | None = None
        self.settled = False
        self.refusals: list[str] = []
        self.closed: bool | None = None

    def open(self, *, adopt: bool) -> None:
        self.adopted = adopt

    def settle(self) -> list[str]:
        self.settled = True
        return []

    def put(self, session: str, member: Member | None) -> None:
        if member is None:
            self.members.pop(session, None)
        else:
            self.members[session] = member

    def lead(self, redirect: int, target: Member | None) -> None:
        self.leads[redirect] = target

    def forget(self, zone: int) -> None:
        self.forgotten.append(zone)

    def commit(self) -> list[str]:
        refusals, self.refusals = self.refusals, []
        return refusals

    def reconfigure(
        self,
        settings: PresenceSettings,
        members: Mapping[str, Member],
        leads: Sequence[Member | None],
    ) -> None:
        self.settings, self.members, self.leads = settings, dict(members), dict(enumerate(leads))

    def uses(self) -> list[RedirectUse]:
        return [RedirectUse(1, 2, 3)] * len(self.settings.redirects)

    def own_addresses(self) -> set[Any]:
        return {ip_address("10.1.0.1")}

    def close(self, *, keep: bool) -> None:
        self.closed = keep


def config(**tables: Any) -> Config:
    return Config.model_validate(
        {
            "pools": {"road": {"network": "10.9.0.0/24"}},
            "napt": {"few": {"addresses": ["10.1.0.20-10.1.0.29"]}},
            "translations": {"lan": {"network": "10.1.0.0/24", "shown_as": "10.99.0.0/24"}},
            "redirects": {
                "web": {"ports": 8080, "to_port": 80, "device": "laptop"},
                "more": {"ports": "9000-9009", "device": "bob@example.com"},
            },
            "connections": {
                "road": {"presence": "napt", "napt": "few"},
                "office": {"pool": "road", "translations": ["lan"]},
            },
            "profiles": {
                "plain": {"groups": ["staff"], "translations": [], "presence": "address"},
                "lan": {"groups": ["chemists"], "translations": ["lan"]},
            },
            **tables,
        }
    )


class House:
    def __init__(self) -> None:
        self.config = config()
        self.events: list[Any] = []
        self.grants: dict[str, Grant] = {}
        self.names = {"ada@example.com": SimpleNamespace(name="laptop")}
        joint: Any = SimpleNamespace(
            config=lambda: self.config,
            grants=lambda: self.grants,
            emit=self.events.append,
            configured_device=self.names.get,
            wall_clock=lambda: 1_000_000.0,
            taken_over=True,
        )
        self.part = InsidePresence(joint, Kernel)
        self.part.open()
        self.kernel: Any = self.part._kernel

    def grant(self, one: Grant) -> None:
        self.grants[one.session] = one
        self.part.granted(one)

    def end(self, session: str) -> None:
        self.part.ended(self.grants.pop(session))

    def ask(self, operation: str, **arguments: object) -> Any:
        request = Request(operation, {"limit": 10, **arguments}, None)
        return asyncio.run(self.part.handlers()[operation](request))  # type: ignore[arg-type]


@pytest.fixture
def house() -> House:
    return House()


def test_it_is_needed_only_where_something_is_configured() -> None:
    assert needed(config())
    assert not needed(Config())
    plain = config(
        redirects={}, translations={}, profiles={}, connections={"office": {"pool": "road"}}
    )
    assert not needed(plain)


def test_members_know_their_addresses_and_translations(house: House) -> None:
    house.grant(ADA)
    house.grant(BOB)
    assert house.kernel.members == {
        "s1": Member((R,), 5, napt=1),
        "s2": Member((ip_address("10.9.0.2"),), translations=0),
    }
    house.grant(replace(BOB, profile="plain"))
    assert house.kernel.settings.translations[0][0].shown_as.prefixlen == 24
    house.grant(replace(ADA, profile="lan"))
    assert house.kernel.members["s1"] == Member((R,), 5, napt=1, translations=0)


def test_ipv6_is_routed_where_devices_behind_napt_are_offered_it() -> None:
    assert not Plan.of(config()).settings.forwards_ipv6
    offered = {"road": {"presence": "napt", "local_subnets": ["10.1.0.0/16", "fd01::/48"]}}
    assert Plan.of(config(connections=offered)).settings.forwards_ipv6
    off = config(connections=offered, dataplane={"forwarding": False})
    assert not Plan.of(off).settings.forwards_ipv6


def test_without_a_part_in_anything_a_session_is_no_member(house: House) -> None:
    plan = Plan.of(config())
    assert plan.member(replace(BOB, profile="plain")) is None
    assert plan.member(Grant("s3", "x", connection="gone")) is None


def test_redirects_follow_the_device_by_name_and_by_identity(house: House) -> None:
    house.grant(ADA)
    house.grant(BOB)
    assert house.kernel.leads == {
        0: Member((R,), 5),
        1: Member((ip_address("10.9.0.2"),)),
    }
    moved = replace(ADA, session="s9", addresses=(ip_address("10.7.0.1"),), zone=6)
    house.grant(moved)
    assert house.kernel.leads[0] == Member(moved.addresses, 6), "the newest session counts"
    house.end("s9")
    assert house.kernel.leads[0] == Member((R,), 5)
    house.end("s1")
    assert house.kernel.leads[0] is None
    assert house.kernel.forgotten == [6, 5]


def test_redirects_do_not_lead_to_who_only_claims_to_be_the_device(house: House) -> None:
    house.grant(ADA)
    house.grant(replace(ADA, session="s9", user="mallory", zone=6, proven=False))
    assert house.kernel.leads == {0: Member((R,), 5)}


def test_a_device_that_gets_another_name_is_followed_no_longer(house: House) -> None:
    house.grant(ADA)
    house.grant(BOB)
    del house.names["ada@example.com"]
    house.part.device_changed("laptop", None)
    assert house.kernel.leads[0] is None
    house.names["bob@example.com"] = SimpleNamespace(name="laptop")
    house.part.device_changed("laptop", "bob@example.com")
    assert house.kernel.leads[0] == Member((ip_address("10.9.0.2"),))


def test_connections_of_a_former_own_address_are_forgotten(house: House) -> None:
    house.grant(ADA)
    house.grant(ADA)
    assert not house.kernel.forgotten
    moved = replace(ADA, addresses=(ip_address("192.168.7.7"),))
    house.grant(moved)
    assert house.kernel.forgotten == [5]
    assert house.kernel.members["s1"].addresses == moved.addresses
    assert house.kernel.leads[0] == Member(moved.addresses, 5)


def test_a_device_with_an_address_of_ours_is_told_of(house: House) -> None:
    house.grant(replace(ADA, addresses=(ip_address("10.1.0.1"),)))
    (event,) = house.events
    assert event.name == "presence_conflict"
    assert "10.1.0.1" in event.text
    assert "ada@example.com" in event.text


def test_refusals_of_the_kernel_are_told_and_end_nobody(house: House) -> None:
    house.kernel.refusals = ["nftables refused a set element: ENOSPC"]
    house.grant(ADA)
    house.part.commit()
    (event,) = house.events
    assert "ENOSPC" in event.text


def test_a_reload_gives_the_dataplane_everything_anew(house: House) -> None:
    house.grant(ADA)
    house.grant(BOB)
    house.config = config(redirects={"only": {"ports": 22, "device": "laptop"}})
    house.part.reconfigure(house.config)
    assert house.kernel.leads == {0: Member((R,), 5)}
    assert set(house.kernel.members) == {"s1", "s2"}
    house.end("s2")
    house.end("s1")
    assert house.kernel.leads == {0: None}


def test_a_reload_that_the_kernel_refuses_changes_nothing(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.grant(ADA)
    before = dict(house.kernel.leads)

    def refuse(*_: object) -> None:
        raise OSError("no such helper")

    monkeypatch.setattr(house.kernel, "reconfigure", refuse)
    ports = {name: {"ports": 22 + n, "device": "laptop"} for n, name in enumerate("abcd")}
    with pytest.raises(OSError, match="no such helper"):
        house.part.reconfigure(config(redirects=ports))
    assert house.kernel.leads == before
    house.grant(replace(ADA, session="s9", zone=6))
    assert house.kernel.leads == {0: Member((R,), 6)}, "the redirects that the kernel has"
    house.end("s9")
    house.end("s1")
    assert house.kernel.leads == {0: None}


def test_what_is_there_is_adopted_and_kept(house: House) -> None:
    assert house.kernel.adopted is True
    asyncio.run(house.part.start())
    assert house.kernel.settled
    asyncio.run(house.part.stop(keep=True))
    assert house.kernel.closed is True


def test_answers(house: House) -> None:
    house.grant(ADA)
    sessions = house.ask("napt-sessions")
    assert sessions["total"] == 1
    (session,) = sessions["items"]
    assert session["identity"] == "ada@example.com"
    assert session["device"] == "laptop"
    assert session["addresses"] == ["192.168.1.5"]
    assert session["zone"] == 5
    assert session["napt"] == "few"
    assert session["seen_as"] == ["10.1.0.20-10.1.0.29"]
    assert house.ask("napt-sessions", q="bob")["items"] == []
    web, more = sorted(house.ask("redirects")["items"], key=lambda one: one["name"], reverse=True)
    assert (web["state"], web["leads_to"], web["session"]) == ("active", "192.168.1.5:80", "s1")
    assert (web["connections"], web["packets"], web["bytes"]) == (1, 2, 3)
    assert (more["state"], more["leads_to"], more["ports"]) == ("waiting", None, "9000-9009")
    assert house.part.facts() == {"redirects": 2, "redirects_active": 1}
