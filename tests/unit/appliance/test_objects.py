from __future__ import annotations

import asyncio
import json
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from objects_bench import CONNECTION, FILE, POOL, PSK, opened, self_signed

from gateway.appliance.blocked_nodes import without_blocked
from gateway.control.protocol import ControlError, ErrorCode

MOBILITY = """
[home_networks.roaming]
network = "10.20.0.0/24"

[home_agents.office]
address = "10.20.0.1"
placement = "inside"
home_networks = ["roaming"]
"""
CREDENTIALS = """
[credentials]
ca_certificates = ["gw.pem"]
certificate = "gw.pem"
private_key = "gw.key"
"""


def run(work: Any) -> Any:
    return asyncio.run(work)


def text_of(value: object) -> str:
    return json.dumps(value, default=str)


def test_what_is_created_is_in_force_and_there_after_a_restart(tmp_path: Path) -> None:
    async def first() -> None:
        async with opened(tmp_path) as bench:
            made = await bench.ask("object-create", kind="pools", name="staff", document=POOL)
            assert made["object"]["version"] == 1
            assert [one["key"] for one in made["changes"]] == ["pools.staff"]
            await bench.ask("object-create", kind="connections", name="staff", document=CONNECTION)
            assert bench.config.connections["staff"].pool == "staff"
            assert bench.applied == 2

    async def second() -> None:
        async with opened(tmp_path) as bench:
            assert list(bench.config.connections) == ["staff"]
            psk = bench.config.connections["staff"].psk
            assert psk is not None
            assert psk.get_secret_value() == PSK

    run(first())
    run(second())


def test_h83_secrets_go_in_and_never_come_out(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(tmp_path) as bench:
            await bench.ask("object-create", kind="pools", name="staff", document=POOL)
            made = await bench.ask(
                "object-create", kind="connections", name="staff", document=CONNECTION
            )
            shown = await bench.ask("object", kind="connections", name="staff")
            listed = await bench.ask("objects", kind="connections", q="staff")
            changed = await bench.ask(
                "object-merge", kind="connections", name="staff", document={"psk": PSK + "2"}
            )
            for answer in (made, shown, listed, changed):
                assert PSK not in text_of(answer)
            assert shown["document"]["psk"] == {"secret": True}
            assert (await bench.ask("objects", kind="connections", q="nobody"))["total"] == 0
        everything = b"".join(one.read_bytes() for one in (tmp_path / "state").glob("*.sqlite*"))
        assert PSK.encode() not in everything

    run(work())


def test_a_mask_keeps_the_secret(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(tmp_path) as bench:
            await bench.objects.create("pools", "staff", POOL)
            await bench.objects.create("connections", "staff", CONNECTION)
            shown = (await bench.ask("object", kind="connections", name="staff"))["document"]
            await bench.objects.replace("connections", "staff", {**shown, "liveness_s": 60})
            section = bench.config.connections["staff"]
            assert section.psk is not None
            assert section.psk.get_secret_value() == PSK
            assert section.liveness_s == 60
            await bench.objects.merge("connections", "staff", {"mobike": False})
            section = bench.config.connections["staff"]
            assert section.psk is not None
            assert section.psk.get_secret_value() == PSK
            with pytest.raises(ControlError, match="psk: no secret is stored here") as refused:
                await bench.objects.create("connections", "other", shown)
            assert refused.value.field == "psk"

    run(work())


def test_a_bad_document_changes_nothing_and_names_its_field(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(tmp_path) as bench:
            await bench.objects.create("pools", "staff", POOL)
            with pytest.raises(ControlError) as refused:
                await bench.objects.create("pools", "other", {"network": "10.83.112.0/24"})
            error = refused.value
            assert error.code == ErrorCode.INVALID
            assert error.field == "network"
            assert "pools/other.network" in error.message
            with pytest.raises(ControlError) as refused:
                await bench.objects.create(
                    "connections", "staff", {**CONNECTION, "poool": 1, "x": 2}
                )
            assert [one.field for one in refused.value.errors] == ["poool", "x"]
            with pytest.raises(ControlError) as refused:
                await bench.objects.create("connections", "staff", {**CONNECTION, "pool": "none"})
            assert refused.value.field == "pool"
            assert list(bench.config.pools) == ["staff"]
            assert bench.applied == 1
            assert len(bench.administration.known) == 1

    run(work())


def test_what_others_need_stays(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(tmp_path) as bench:
            await bench.objects.create("pools", "staff", POOL)
            await bench.objects.create("connections", "staff", CONNECTION)
            with pytest.raises(ControlError, match=r"connections/staff\.pool"):
                await bench.objects.delete("pools", "staff")
            document: Any = {"identity": "ann@example.com", "connection": "staff"}
            await bench.objects.create("devices", "ann", document)
            with pytest.raises(ControlError, match="devices/ann has it as its connection"):
                await bench.objects.delete("connections", "staff")
            await bench.objects.delete("devices", "ann")
            await bench.objects.delete("connections", "staff")
            await bench.objects.delete("pools", "staff")
            assert not bench.config.pools

    run(work())


def test_a_dry_run_says_what_would_be_and_changes_nothing(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(tmp_path) as bench:
            await bench.objects.create("pools", "staff", POOL)
            tried = await bench.ask(
                "object-merge",
                kind="pools",
                name="staff",
                document={"dns": ["10.1.0.53"]},
                dry_run=True,
            )
            assert tried["dry_run"] is True
            assert tried["object"]["version"] == 2
            assert [one["key"] for one in tried["changes"]] == ["pools.staff.dns"]
            assert bench.config.pools["staff"].dns == ()
            assert (await bench.ask("object", kind="pools", name="staff"))["version"] == 1

    run(work())


def test_h80_a_lost_update_is_refused(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(tmp_path) as bench:
            await bench.objects.create("pools", "staff", POOL)

            async def change(dns: str) -> object:
                return await bench.objects.merge("pools", "staff", {"dns": [dns]}, version=1)

            results = await asyncio.gather(
                *(change(f"10.1.0.{number}") for number in range(1, 6)), return_exceptions=True
            )
            errors = [one for one in results if isinstance(one, ControlError)]
            assert len(errors) == 4
            assert {one.code for one in errors} == {ErrorCode.STALE}
            assert (await bench.ask("object", kind="pools", name="staff"))["version"] == 2
            with pytest.raises(ControlError) as refused:
                await bench.objects.delete("pools", "staff", version=1)
            assert refused.value.code == ErrorCode.STALE

    run(work())


def test_two_administrators_at_once_never_make_what_neither_may(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(tmp_path) as bench:
            results = await asyncio.gather(
                bench.objects.create("pools", "one", {"network": "10.83.112.0/22"}),
                bench.objects.create("pools", "two", {"network": "10.83.114.0/24"}),
                return_exceptions=True,
            )
            assert sum(isinstance(one, ControlError) for one in results) == 1
            assert len(bench.config.pools) == 1

    run(work())


def test_whoever_goes_away_does_not_leave_half_a_change(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(tmp_path) as bench:
            task = asyncio.create_task(bench.objects.create("pools", "staff", POOL))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.gather(*bench.objects.running)
            assert list(bench.config.pools) == ["staff"]
            assert bench.administration.known.get("pools", "staff") is not None

    run(work())


def test_what_cannot_be_written_is_not_in_force(tmp_path: Path, monkeypatch: Any) -> None:
    async def work() -> None:
        async with opened(tmp_path) as bench:
            from gateway.store.errors import UnavailableError

            async def full(*_args: object, **_more: object) -> None:
                raise UnavailableError("the disk is full")

            monkeypatch.setattr(bench.administration.store, "run", full)
            with pytest.raises(ControlError, match="not stored, so nothing was changed"):
                await bench.objects.create("pools", "staff", POOL)
            document: Any = {"identity": "ann@example.com"}
            with pytest.raises(ControlError, match="the disk is full"):
                await bench.objects.create("devices", "ann", document)
            assert not bench.config.pools
            assert bench.side.devices.get("ann") is None
            assert not len(bench.administration.known)

    run(work())


IN_FILE = FILE + '\n[pools.staff]\nnetwork = "10.90.0.0/22"\n'


def test_the_file_counts_and_is_changed_in_the_file_alone(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(tmp_path, IN_FILE) as bench:
            for change in (
                bench.objects.create("pools", "staff", POOL),
                bench.objects.replace("pools", "staff", POOL),
                bench.objects.delete("pools", "staff"),
            ):
                with pytest.raises(ControlError, match=r"gateway\.toml") as refused:
                    await change
                assert refused.value.code == ErrorCode.REFUSED
            shown = await bench.ask("object", kind="pools", name="staff")
            assert (shown["source"], shown["version"]) == ("file", 0)

    run(work())


def test_a_table_that_comes_into_the_file_hides_the_stored_one(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(tmp_path) as bench:
            await bench.objects.create("pools", "staff", POOL)
            bench.path.write_text(IN_FILE)
            await bench.reload()
            assert str(bench.config.pools["staff"].network) == "10.90.0.0/22"
            assert any("pools/staff: is in gateway.toml" in str(w) for w in bench.config.warnings)
            listed = await bench.ask("objects", kind="pools")
            assert [one["source"] for one in listed["items"]] == ["file"]

    run(work())


def test_an_object_that_fits_no_more_is_left_out_and_named(tmp_path: Path) -> None:
    async def first() -> None:
        async with opened(tmp_path, IN_FILE) as bench:
            document: Any = {**CONNECTION}
            await bench.objects.create("connections", "staff", document)
            await bench.objects.create("pools", "other", POOL)

    async def second() -> None:
        async with opened(tmp_path) as bench:
            assert not bench.config.connections
            assert list(bench.config.pools) == ["other"]
            shown = await bench.ask("object", kind="connections", name="staff")
            assert "connections/staff.pool" in shown["broken"][0]
            # The others can be changed all the same, and this one be mended.
            await bench.objects.merge("pools", "other", {"dns": ["10.1.0.53"]})
            await bench.objects.merge("connections", "staff", {"pool": "other"})
            assert list(bench.config.connections) == ["staff"]

    run(first())
    (tmp_path / "gateway.toml").write_text(FILE)
    run(second())


def test_users_of_the_store_log_in(tmp_path: Path) -> None:
    document: Any = {"groups": ["staff"], "password": "correct horse", "mschapv2": True}

    async def work() -> None:
        async with opened(tmp_path) as bench:
            made = await bench.ask("object-create", kind="users", name="ann", document=document)
            assert "correct horse" not in text_of(made)
            assert "scrypt" not in text_of(made)
            users = bench.backends.stored_users
            assert type(users.verify("ann", b"correct horse")).__name__ == "Accepted"
            assert type(users.verify("ann", b"wrong")).__name__ == "Rejected"
            found = bench.backends.find_user("ann")
            assert found is not None
            assert found.nt_hash is not None
            assert found.groups == ("staff",)
            await bench.objects.merge("users", "ann", {"groups": ["admins"]})
            assert type(users.verify("ann", b"correct horse")).__name__ == "Accepted"
            await bench.objects.merge("users", "ann", {"enabled": False})
            assert bench.backends.find_user("ann") is None

    async def again() -> None:
        async with opened(tmp_path) as bench:
            await bench.objects.merge("users", "ann", {"enabled": True})
            users = bench.backends.stored_users
            assert type(users.verify("ann", b"correct horse")).__name__ == "Accepted"
            await bench.objects.merge("users", "ann", {"password": "battery staple"})
            assert type(users.verify("ann", b"correct horse")).__name__ == "Rejected"
            await bench.objects.delete("users", "ann")
            assert not len(users)
            with pytest.raises(ControlError) as refused:
                await bench.objects.create("users", "bob", {})
            assert refused.value.field == "password"

    run(work())
    run(again())


def test_a_blocked_device_is_refused_by_identity_and_by_user(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(tmp_path) as bench:
            document: Any = {"identity": "ann@example.com"}
            await bench.objects.create("devices", "ann", document)
            refusal = bench.engine.refuse_login
            assert refusal is not None
            assert refusal("ann@example.com", "") is None
            answer = await bench.ask("device-block", name="ann")
            assert answer["blocked"] is True
            assert refusal("ann@example.com", "") == "device ann is blocked"
            assert refusal("somebody", "ann@example.com") == "device ann is blocked"
            assert refusal("ANN@Example.COM", "") == "device ann is blocked"
            assert refusal("somebody", "Ann@example.com.") == "device ann is blocked"
            assert refusal("bob@example.com", "bob") is None
            await bench.ask("device-unblock", name="ann")
            assert refusal("ann@example.com", "") is None

    async def again() -> None:
        async with opened(tmp_path) as bench:
            refusal = bench.engine.refuse_login
            assert refusal is not None
            assert refusal("ann@example.com", "") is None
            await bench.ask("device-block", name="ann")

    run(work())
    run(again())


def test_the_mobile_node_of_a_blocked_device_registers_no_more(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(tmp_path, FILE + MOBILITY) as bench:
            key = "0f1d03c6a94e57b2e06f7c12d5983ba4"
            node: Any = {"home_address": "10.20.0.7", "spi": 256, "key": key}
            await bench.objects.create("mobile_nodes", "ann", node)
            document: Any = {"identity": "ann@example.com", "mobile_node": "ann"}
            await bench.objects.create("devices", "ann", document)
            plan = bench.parts.mobility(bench.config)
            assert plan is not None
            (home,) = without_blocked(plan.home_agents, bench.side.node_refusal)
            assert home.nodes.by_home_address(IPv4Address("10.20.0.7")) is not None
            await bench.ask("device-block", name="ann")
            assert home.nodes.by_home_address(IPv4Address("10.20.0.7")) is None
            await bench.ask("device-unblock", name="ann")
            assert home.nodes.by_home_address(IPv4Address("10.20.0.7")) is not None
            other: Any = {"identity": "ann2@example.com", "mobile_node": "ann"}
            await bench.objects.create("devices", "ann2", other)
            for name in ("ann", "ann2"):
                await bench.ask("device-block", name=name)
            for name in ("ann2", "ann"):  # either of them blocks the node
                assert home.nodes.by_home_address(IPv4Address("10.20.0.7")) is None
                await bench.ask("device-unblock", name=name)
            assert home.nodes.by_home_address(IPv4Address("10.20.0.7")) is not None

    run(work())


BOB = {"identity": "bob@example.com"}


def test_sessions_of_a_device_that_the_file_blocks_end(tmp_path: Path) -> None:
    device = '\n[devices.ann]\nidentity = "ann@example.com"\n'

    async def work() -> None:
        async with opened(tmp_path, FILE + device) as bench:
            ended: list[str] = []
            bench.side.sessions.end = (  # type: ignore[method-assign,assignment]
                lambda identity, _node, _why: ended.append(identity)
            )
            await bench.ask("object-create", kind="devices", name="bob", document=BOB)
            await bench.side.start()
            assert ended == []
            blocked = {"ann": bench.config.devices["ann"].model_copy(update={"blocked": True})}
            for _ in range(2):
                bench.side.configured(bench.config.model_copy(update={"devices": blocked}))
                assert ended == ["ann@example.com"], "once"
            await bench.ask("device-block", name="bob")
            ended.clear()
            await bench.side.start()  # as after a restart that took sessions over
            assert sorted(ended) == ["ann@example.com", "bob@example.com"]

    run(work())


def test_identities_are_one_device_each(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(tmp_path) as bench:
            document: Any = {"identity": "ann@example.com"}
            await bench.objects.create("devices", "ann", document)
            again: Any = {"identity": " email:ann@example.com"}
            with pytest.raises(ControlError, match="that of devices/ann") as refused:
                await bench.objects.create("devices", "other", again)
            assert refused.value.field == "identity"
            other: Any = {"identity": "bob@example.com"}
            await bench.objects.replace("devices", "ann", other)
            await bench.objects.create("devices", "other", document)

    run(work())


@pytest.mark.parametrize(
    ("kind", "name"),
    [("pools", "a.b"), ("pools", "-x"), ("devices", "~0123"), ("devices", "a b"), ("users", " x")],
)
def test_h79_names_that_could_mean_something_else_are_refused(
    tmp_path: Path, kind: str, name: str
) -> None:
    async def work() -> None:
        async with opened(tmp_path) as bench:
            with pytest.raises(ControlError) as refused:
                await bench.ask("object-create", kind=kind, name=name, document={})
            assert refused.value.field == "name"

    run(work())


def test_h79_documents_nested_without_end_are_refused(tmp_path: Path) -> None:
    document: dict[str, object] = {}
    for _ in range(500):
        document = {"a": document}

    async def work() -> None:
        async with opened(tmp_path) as bench:
            for op in ("object-create", "object-merge"):
                with pytest.raises(ControlError, match="nested deeper"):
                    await bench.ask(op, kind="pools", name="staff", document=document)

    run(work())


def test_lists_have_pages_and_filters(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(tmp_path) as bench:
            for number in range(25):
                document: Any = {"identity": f"dev{number}@example.com", "user": f"u{number % 3}"}
                await bench.objects.create("devices", f"d{number:02}", document)
            for sort in ("name", "-name", "created_at", "-changed_at"):
                seen: list[str] = []
                cursor: dict[str, object] = {}
                while True:
                    answer = await bench.ask(
                        "objects", kind="devices", sort=sort, limit=7, **cursor
                    )
                    seen += [one["name"] for one in answer["items"]]
                    assert answer["total"] == 25
                    if answer["next"] is None:
                        break
                    cursor = {"cursor": answer["next"]}
                assert seen == sorted(seen, reverse=sort.startswith("-"))
                assert len(set(seen)) == 25
            found = await bench.ask("objects", kind="devices", q="DEV1@")
            assert [one["name"] for one in found["items"]] == ["d01"]
            assert (await bench.ask("objects", kind="devices", q="u2"))["total"] == 8
            with pytest.raises(ControlError, match="cursor"):
                await bench.ask("objects", kind="devices", cursor="AAAA")

    run(work())


def test_every_kind_says_what_its_documents_are(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(tmp_path) as bench:
            kinds = (await bench.ask("object-kinds"))["kinds"]
            by_name = {one["kind"]: one for one in kinds}
            assert by_name["connections"]["secret_fields"] == ["psk", "password"]
            assert "network" in by_name["pools"]["document_schema"]["properties"]
            json.dumps(kinds)

    run(work())


def test_the_first_setup_makes_what_devices_need(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(tmp_path) as bench:
            state = await bench.ask("setup-state")
            assert state["needed"] is True
            assert state["proposed_pool"].startswith("10.")
            with pytest.raises(ControlError, match="certificate"):
                await bench.ask("setup-basics", subnets="10.1.0.0/16")
            assert not bench.config.pools


def test_the_first_setup_with_a_certificate(tmp_path: Path) -> None:
    self_signed(tmp_path)
    text = FILE + CREDENTIALS

    async def work() -> None:
        async with opened(tmp_path, text) as bench:
            for wrong, field in (
                ({"pool": "nonsense"}, "pool"),
                ({"subnets": "10.1.0.0/16, what"}, "subnets"),
                ({"dns": "here"}, "dns"),
            ):
                for dry_run in (True, False):
                    with pytest.raises(ControlError) as refused:
                        await bench.ask("setup-basics", **wrong, dry_run=dry_run)
                    assert refused.value.field == field
            await bench.ask("setup-basics", dry_run=True)
            assert not bench.config.pools
            await bench.ask("setup-basics", dns="10.1.0.53", subnets="10.1.0.0/16")
            assert list(bench.config.connections) == ["devices"]
            state = await bench.ask("setup-state")
            assert state["needed"] is False
            assert state["proposed_pool"] is None, "strangers do not make us read every route"
            with pytest.raises(ControlError, match="already"):
                await bench.ask("setup-basics")

    run(work())


def test_stop_answers_first(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(tmp_path) as bench:
            assert await bench.ask("stop") == {"stopping": True}
            await asyncio.wait_for(bench.stopped.wait(), 10)

    run(work())
