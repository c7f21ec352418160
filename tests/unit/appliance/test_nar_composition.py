"""The joint of the NAR servers: order of things, refusals, restarts, reloads, address changes."""

import asyncio
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from nar_fakes import (
    CLIENT,
    LOOPBACK,
    NB,
    FakeAddresses,
    World,
    mapping,
    tcp,
    until,
)

from gateway.appliance.nar.listener import NarListenError
from gateway.dataplane.nar import NarServerSettings
from gateway.domain.endpoint import Endpoint
from gateway.domain.event import Event, Severity
from gateway.domain.nar import Delivery, L2tpSession, NarMapping, NarProtocol, NarTuple
from gateway.domain.user_auth import Accepted, Asker, PasswordQuestion
from gateway.nar.outputs import (
    AskPassword,
    Forget,
    FreePort,
    HoldPort,
    LeaseClosed,
    RemoveL2tp,
    RemoveMapping,
    Resolve,
    Send,
    SetL2tp,
    SetMapping,
)

NEW = IPv4Address("192.0.2.99")
HERE = Endpoint(LOOPBACK, 1080)


def run(test: Any) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(60):
            await test

    asyncio.run(bounded())


def now() -> float:
    return asyncio.get_running_loop().time()


def dynamic(folder: Path, **main: IPv4Address) -> World:
    world = World(folder)
    world.addresses = FakeAddresses(main)
    (soho,) = world.servers
    world.servers = [replace(soho, policy=replace(soho.policy, addresses=()), interfaces=("ppp0",))]
    return world


def test_mappings_are_in_the_kernel_before_the_reply_leaves(tmp_path: Path) -> None:
    async def main() -> None:
        async with World(tmp_path) as world:
            journal = world.dataplane.journal
            server = world.nar._fleet.running["soho"]
            server.connections.send = lambda _number, data: journal.append(("send", data))
            journal.clear()
            world.soho.waiting.append(Send(1, b"granted"))
            key = world.soho.lease(20010)
            world.nar.flush(now())
            assert journal == [("set", key), ("commit",), ("send", b"granted")]
            world.soho.waiting.append(RemoveMapping(key))
            world.nar.flush(now())
            assert journal[3:] == [("remove", key), ("commit",)]
            world.nar.flush(now())
            assert len(journal) == 5

    run(main())


def test_one_commit_for_all_that_came_in_a_turn(tmp_path: Path) -> None:
    async def main() -> None:
        async with World(tmp_path) as world:
            world.dataplane.journal.clear()
            service = world.nar._service
            for port in range(20_000, 20_100):
                world.soho.lease(port)
                service.touch()
            await until(lambda: len(service.held) == 100)
            assert world.dataplane.journal.count(("commit",)) == 1

    run(main())


def test_refusals_go_back_to_the_engine(tmp_path: Path) -> None:
    async def main() -> None:
        async with World(tmp_path) as world:
            key = world.soho.lease(20010)
            world.dataplane.refuse(key, "no room")
            world.dataplane.refuse(tcp(1), "of nobody")
            world.soho.waiting.append(HoldPort(tcp(80)))
            world.soho.waiting.append(HoldPort(tcp(81)))
            world.soho.waiting.append(FreePort(tcp(81)))
            world.dataplane.taken.add(80)
            world.nar.flush(now())
            refused = world.soho.called("mapping_refused")
            assert [(one[1], one[2]) for one in refused] == [
                (tcp(80), "port 80 is in use by the gateway's host"),
                (key, "no room"),
            ]
            assert ("hold", 81) in world.dataplane.journal
            assert ("free", 81) in world.dataplane.journal

    run(main())


def test_a_dataplane_that_fails_promises_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with World(tmp_path) as world:

            def fail() -> Any:
                raise OSError(105, "no buffer space")

            commit, world.dataplane.commit = world.dataplane.commit, fail
            key = world.soho.lease(20010)
            world.nar.flush(now())
            refused = world.soho.called("mapping_refused")
            assert refused == [("mapping_refused", key, "the dataplane failed: no buffer space")]
            world.dataplane.commit = commit

    run(main())


def test_l2tp_and_events_pass(tmp_path: Path) -> None:
    async def main() -> None:
        async with World(tmp_path) as world:
            session = L2tpSession(CLIENT, 1, 2, 3, 4, bytes(8), bytes(8))
            event = Event("nar_session_opened", "x")
            world.soho.waiting += [SetL2tp(session), RemoveL2tp(session), event]
            world.nar.flush(now())
            assert ("set_l2tp", "soho") in world.dataplane.journal
            assert ("remove_l2tp", CLIENT) in world.dataplane.journal
            assert event in world.events

    run(main())


def test_a_fault_in_one_output_keeps_the_others(tmp_path: Path) -> None:
    async def main() -> None:
        async with World(tmp_path) as world:
            world.soho.waiting += [AskPassword(1, None), Event("after", "x")]
            world.nar._ask_user = lambda _question, _answered: 1 / 0
            world.nar.flush(now())
            assert [event.name for event in world.events] == ["internal_fault", "after"]

    run(main())


def test_restart_takes_leases_up_before_anybody_connects(tmp_path: Path) -> None:
    async def main() -> None:
        async with World(tmp_path) as world:
            world.soho.lease(20010)
            world.soho.lease(20011)
            world.nar.flush(now())
            world.soho.waiting.append(Forget("s20011"))
            world.nar.flush(now())
        assert world.soho.called("stopping")
        assert world.dataplane.journal[-2:] == [("alive",), ("close", True)]
        async with World(tmp_path) as again:
            assert again.soho.called("restore") == [("restore", [b"20010"])]
            assert again.dataplane.journal[:4] == [
                ("set", tcp(20010)),
                ("adopt",),
                ("commit",),
                ("alive",),
            ]
            rows = await again.nar.audit.find(value=20010)
            assert [(row.user, row.closed_s) for row in rows] == [("anna", None)]
            (ended,) = await again.nar.audit.find(value=20011)
            assert ended.closed_s is not None

    run(main())


def test_leases_are_in_the_stream_of_events(tmp_path: Path) -> None:
    async def main() -> None:
        async with World(tmp_path) as world:
            world.soho.lease(20010)
            closing = LeaseClosed("soho", "", Endpoint(CLIENT, 9), mapping(20010), 5.0, "released")
            world.soho.waiting.append(closing)
            world.nar.flush(now())
            (begun,), (over,) = world.named("nar_lease_opened"), world.named("nar_lease_closed")
            assert begun.text == "10.0.0.7 (anna) has TCP 192.0.2.1:20010 by ip-ip"
            assert over.text == "10.0.0.7 no longer has TCP 192.0.2.1:20010: released"
            assert begun.severity is over.severity is Severity.DEBUG
            assert begun.fields["lease"] == over.fields["lease"]
            assert over.fields["reason"] == "released"

    run(main())


def test_a_first_start_adopts_too(tmp_path: Path) -> None:
    async def main() -> None:
        async with World(tmp_path) as world:
            assert world.dataplane.journal[:3] == [("adopt",), ("commit",), ("alive",)]

    run(main())


def test_questions_come_back_with_their_own_tickets(tmp_path: Path) -> None:
    async def main() -> None:
        async with World(tmp_path) as world:
            question = PasswordQuestion("local", "anna", b"pw", Asker("nar", HERE, HERE, "s"))
            world.soho.waiting += [AskPassword(7, question), Resolve(7, "a.example", ipv6=False)]
            world.nar._resolver._look_up = lambda _name, _ipv6: [NB]
            world.nar.flush(now())
            ((asked, answered),) = world.questions
            assert asked is question
            answered(Accepted("anna"))
            await until(lambda: world.soho.called("resolved"))
            assert world.soho.called("user_answered") == [("user_answered", 7, Accepted("anna"))]
            assert world.soho.called("resolved") == [("resolved", 7, [NB])]

    run(main())


def test_timers_wake_the_engine(tmp_path: Path) -> None:
    async def main() -> None:
        async with World(tmp_path) as world:
            world.soho.timer = now() + 0.01
            world.nar.flush(now())
            await until(lambda: world.soho.called("timer"))

    run(main())


def test_h74_spis_of_the_ike_engine_and_of_clients_keep_apart(tmp_path: Path) -> None:
    async def main() -> None:
        async with World(tmp_path) as world:
            esp, ah = (NarTuple(one, NB, 300) for one in (NarProtocol.ESP, NarProtocol.AH))
            for key in (esp, ah):
                made = NarMapping("soho", key, CLIENT, Delivery.IP_IP)
                world.soho.waiting.append(SetMapping(made))
            world.nar.flush(now())
            assert world.nar.spi_taken(300)
            world.soho.waiting.append(RemoveMapping(esp))
            world.nar.flush(now())
            assert world.nar.spi_taken(300)
            world.soho.waiting.append(RemoveMapping(ah))
            world.nar.flush(now())
            assert not world.nar.spi_taken(300)
            assert world.nar.spi_taken(0x4000_0000)
            occupied = world.soho.occupied
            assert not occupied(NarProtocol.ESP, NB, 301)
            world.spis.add(301)
            assert occupied(NarProtocol.ESP, NB, 301)
            assert not occupied(NarProtocol.TCP, NB, 301)
            world.dataplane.taken.add(302)
            assert occupied(NarProtocol.TCP, NB, 302)

    run(main())


def test_mobile_nodes_without_negotiation_never_collide_with_leases(tmp_path: Path) -> None:
    async def main() -> None:
        async with World(tmp_path) as world:
            inner = int(IPv4Address("10.9.9.9"))
            key = NarTuple(NarProtocol.IP_IP, NB, inner, IPv4Address("198.51.100.1"))
            made = NarMapping("soho", key, CLIENT, Delivery.TRANSLATED)
            elsewhere = replace(made, tuple=replace(key, address=NEW))
            assert world.nar.set_foreign_mapping(elsewhere) == f"no NAR server lends {NEW}"
            assert "is no tunnel" in str(world.nar.set_foreign_mapping(mapping(20010)))
            assert world.nar.set_foreign_mapping(made) is None
            assert world.nar.set_foreign_mapping(made) is None
            other = replace(made, client=IPv4Address("10.0.0.9"))
            assert "belongs to the mobile node" in str(world.nar.set_foreign_mapping(other))
            world.soho.waiting.append(SetMapping(other))
            world.nar.flush(now())
            assert world.soho.called("mapping_refused")[0][1] == key
            world.nar.remove_foreign_mapping(key)
            world.nar.remove_foreign_mapping(key)
            assert world.dataplane.journal.count(("remove", key)) == 1
            world.soho.waiting.append(SetMapping(other))
            world.nar.flush(now())
            assert "is leased to 10.0.0.9" in str(world.nar.set_foreign_mapping(made))
            world.soho.waiting.append(RemoveMapping(key))
            world.nar.flush(now())
            world.dataplane.refuse(key, "no such device")
            assert world.nar.set_foreign_mapping(made) == "no such device"
            assert world.nar.facts()["foreign_mappings"] == 0

    run(main())


def test_no_address_at_start_the_server_waits_and_says_so(tmp_path: Path) -> None:
    async def main() -> None:
        async with dynamic(tmp_path) as world:
            assert world.engines == {}
            assert "ppp0 has no IPv4 address" in world.named("nar_waits")[0].text
            assert "without an address yet" in world.nar.summary()
            assert world.nar.facts()["servers"]["soho"]["state"] == "waiting for an address"
            assert world.nar._fleet.listeners["soho"].listening == []
            world.addresses.change(ppp0=NB)
            await until(lambda: world.nar._fleet.listeners["soho"].listening)
            assert world.soho.policy.addresses == (NB,)
            assert world.dataplane.settings.servers[0].addresses == (NB,)
            reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
            writer.write(b"\1x")
            assert await reader.readexactly(2) == b"\1x"
            writer.close()

    run(main())


def test_sessions_of_a_server_that_waits_are_taken_up_when_it_begins(tmp_path: Path) -> None:
    async def main() -> None:
        async with dynamic(tmp_path, ppp0=NB) as world:
            world.soho.lease(20010)
            world.nar.flush(now())
        async with dynamic(tmp_path) as again:
            again.addresses.change(ppp0=NB)
            await until(lambda: again.engines)
            await until(lambda: tcp(20010) in again.nar._service.held)
            assert again.soho.called("restore") == [("restore", [b"20010"])]

    run(main())


def test_address_change_reaches_the_dataplane_first(tmp_path: Path) -> None:
    async def main() -> None:
        async with dynamic(tmp_path, ppp0=NB) as world:
            world.soho.lease(20010)
            world.nar.flush(now())
            world.dataplane.journal.clear()
            world.soho.address_changed = lambda old, new, _now: world.soho.waiting.extend(
                [RemoveMapping(tcp(20010, old)), SetMapping(replace_address(new))]
            )
            world.addresses.change(ppp0=NEW)
            await until(lambda: ("commit",) in world.dataplane.journal)
            kinds = [entry[0] for entry in world.dataplane.journal]
            assert kinds == ["reconfigure", "remove", "set", "commit"]
            assert world.dataplane.settings.servers[0].addresses == (NEW,)
            assert set(world.nar._service.held) == {tcp(20010, NEW)}
            assert world.soho.policy.addresses == (NEW,)
            assert world.named("nar_address_changed")[0].fields["new"] == str(NEW)

    run(main())


def replace_address(new: IPv4Address) -> NarMapping:
    return replace(mapping(20010), tuple=tcp(20010, new))


def test_crowds_of_changes_are_followed_once(tmp_path: Path) -> None:
    async def main() -> None:
        async with dynamic(tmp_path, ppp0=NB) as world:
            looks = 0
            real = world.nar._planner

            def counted(*args: Any) -> Any:
                nonlocal looks
                looks += 1
                return real(*args)

            world.nar._planner = counted
            last = IPv4Address("192.0.2.77")
            for number in range(20):
                world.addresses.change(**{f"veth{number}": IPv4Address(number + 1)})
                world.nar._addresses_changed()
            world.addresses.change(ppp0=last)
            await until(lambda: world.soho.policy.addresses == (last,))
            assert looks <= 3

    run(main())


def test_an_address_that_is_gone_is_waited_for(tmp_path: Path) -> None:
    async def main() -> None:
        async with dynamic(tmp_path, ppp0=NB) as world:
            world.addresses.change(ppp0=None, eth9=NEW)
            await until(lambda: not world.addresses.fresh)
            await asyncio.sleep(0)
            async with world.nar._changing:
                assert world.soho.called("address_changed") == []
            world.addresses.change(ppp0=NEW)
            await until(lambda: world.soho.called("address_changed"))
            assert world.soho.called("address_changed") == [("address_changed", NB, NEW)]

    run(main())


def test_reload_ports_policies_and_servers(tmp_path: Path) -> None:
    async def main() -> None:
        async with World(tmp_path) as world:
            (soho,) = world.servers
            listener = world.nar._fleet.listeners["soho"]
            old_port = world.port
            reader, writer = await asyncio.open_connection("127.0.0.1", old_port)
            writer.write(b"\1a")
            await reader.readexactly(2)
            fire = replace(soho, policy=replace(soho.policy, name="fire"))
            wished = replace(soho.policy, lease_s=77.0)
            world.servers = [replace(soho, policy=wished), fire]
            await world.nar.reload(world.planner)
            assert world.soho.called("reconfigure")[0][1].lease_s == 77.0
            assert world.port == old_port
            assert set(world.nar.servers) == {"soho", "fire"}
            assert len(world.nar._fleet.listeners["fire"].listening) == 1
            assert [one.name for one in world.dataplane.settings.servers] == ["soho", "fire"]
            writer.write(b"\1b")
            assert await reader.readexactly(2) == b"\1b"
            gone = world.soho
            world.servers = [fire]
            await world.nar.reload(world.planner)
            assert await reader.read() == b""
            assert gone.called("reconfigure")[-1][1].rules == ()
            assert set(world.nar.servers) == {"fire"}
            assert listener.listening == []
            writer.close()
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", old_port)

    run(main())


def test_a_reload_that_cannot_have_its_port_keeps_the_old_one(tmp_path: Path) -> None:
    async def main() -> None:
        async with World(tmp_path) as world:
            (soho,) = world.servers
            taken = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
            port = taken.sockets[0].getsockname()[1]
            world.servers = [replace(soho, listen=(Endpoint(LOOPBACK, port),))]
            with pytest.raises(NarListenError, match="is in use"):
                await world.nar.reload(world.planner)
            reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
            writer.write(b"\5\1\0")
            assert await reader.readexactly(2) == b"\5\0"
            writer.close()
            taken.close()

    run(main())


def test_few_descriptors_mean_fewer_connections(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "gateway.appliance.nar.composition.descriptors_for", lambda wanted: (100, sum(wanted))
    )

    async def main() -> None:
        async with World(tmp_path) as world:
            assert world.soho.policy.max_connections == 100
            assert "LimitNOFILE" in world.named("nar_few_descriptors")[0].text

    run(main())


def test_what_is_built_is_closed_when_the_rest_fails(tmp_path: Path) -> None:
    async def main() -> None:
        world = World(tmp_path)

        def refuse(_settings: Any) -> Any:
            raise OSError(1, "not permitted")

        world.make_dataplane = refuse
        with pytest.raises(OSError, match="not permitted"):
            world.build()
        assert world.addresses._in == -1

    run(main())


def test_settings_name_every_server(tmp_path: Path) -> None:
    async def main() -> None:
        async with World(tmp_path) as world:
            assert world.dataplane.settings.servers == (
                NarServerSettings("soho", IPv4Address("10.0.0.1"), (NB,), (), ()),
            )
            assert world.nar.audit is not None
            facts = world.nar.facts()["servers"]["soho"]
            assert (facts["connections"], facts["relays"]) == (0, 0)
            assert facts["counters"]["nar_session_opened"] == 3
            assert facts["counters"]["proxy_opened"] == facts["counters"]["accepted"] == 0
        async with World(tmp_path, audit=False) as silent:
            assert silent.nar.audit is None
            silent.soho.lease(20010)
            silent.nar.flush(now())
            assert not silent.nar._store._audit

    run(main())


def test_stopping_still_sends_what_waits(tmp_path: Path) -> None:
    async def main() -> None:
        world = World(tmp_path)
        async with world:
            reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
            writer.write(b"\1x")
            await reader.readexactly(2)
            world.soho.stopping = lambda _now: world.soho.waiting.append(Send(1, b"notice"))
        assert await reader.read() == b"notice"
        writer.close()

    run(main())


def test_a_fault_with_one_mapping_is_that_lease_s_alone(tmp_path: Path) -> None:
    async def main() -> None:
        async with World(tmp_path) as world:
            set_mapping = world.dataplane.set_mapping

            def faulty(made: NarMapping) -> None:
                if made.tuple == tcp(20010):
                    raise KeyError("no number")
                set_mapping(made)

            world.dataplane.set_mapping = faulty
            world.soho.lease(20010)
            world.soho.lease(20011)
            world.nar.flush(now())
            refused = [one[1:] for one in world.soho.called("mapping_refused")]
            assert refused == [(tcp(20010), "internal fault")]
            assert ("commit",) in world.dataplane.journal
            assert len(world.named("internal_fault")) == 1

    run(main())
