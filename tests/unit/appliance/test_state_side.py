"""Export, import and backup by operations, with the real store and the real objects side."""

import asyncio
import base64
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from objects_bench import CONNECTION, POOL, PSK, Bench

from gateway.appliance.administration.side import Side
from gateway.appliance.state import transfers as transfers_module
from gateway.appliance.state.side import StateSide
from gateway.appliance.state.transfers import Transfers
from gateway.control.protocol import ControlError, ErrorCode, Role, check_request
from gateway.control.store_operations import MAX_PART_OCTETS


class Access(Side):
    """Counts how often logins and tokens were read again."""

    def __init__(self) -> None:
        self.read = 0

    async def read_again(self) -> None:
        self.read += 1


class State:
    """One gateway, as its control socket shows it."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.bench = Bench(folder)
        self.access = Access()
        built: Any = {"objects": self.bench.side, "access": self.access}
        self.bench.administration._built = built
        self.side = StateSide(self.bench.administration, self.bench.surroundings)

    async def ask(self, op: str, **arguments: object) -> Any:
        request = check_request({"op": op, "args": arguments}, Role.ADMINISTRATOR)
        return await self.side.handlers()[op](request)

    async def refused(self, op: str, **arguments: object) -> ControlError:
        with pytest.raises(ControlError) as refused:
            await self.ask(op, **arguments)
        return refused.value

    async def export(self, **arguments: object) -> bytes:
        made = await self.ask("export", **arguments)
        octets, offset = b"", 0
        while offset is not None:
            part = await self.ask("export-read", id=made["id"], offset=offset)
            octets += base64.b64decode(part["content"])
            offset = part["next"]
        assert hashlib.sha256(octets).hexdigest() == made["sha256"]
        assert len(octets) == made["octets"]
        return octets

    async def give(self, octets: bytes, part: int = MAX_PART_OCTETS) -> str:
        name = None
        for offset in range(0, len(octets), part):
            content = base64.b64encode(octets[offset : offset + part]).decode()
            known = {} if name is None else {"id": name}
            taken = await self.ask("import-part", offset=offset, content=content, **known)
            assert taken["octets"] == min(len(octets), offset + part)
            name = taken["id"]
        assert name is not None
        return name

    async def names(self) -> list[str]:
        found = []
        for kind in ("pools", "connections", "users"):
            page = await self.bench.ask("objects", kind=kind)
            found += [f"{kind}/{one['name']}" for one in page["items"]]
        return found


Run = Callable[[Any], None]


def run(test: Any) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(120):
            await test

    asyncio.run(bounded())


async def opened(folder: Path) -> State:
    state = State(folder)
    await state.side.start()
    return state


async def closed(state: State) -> None:
    await state.side.stop()
    await state.bench.close()
    state.bench.administration.close()


async def fill(state: State) -> None:
    await state.bench.ask("object-create", kind="pools", name="staff", document=POOL)
    await state.bench.ask("object-create", kind="connections", name="office", document=CONNECTION)


def test_what_one_gateway_exports_another_one_imports(tmp_path: Path) -> None:
    async def main() -> None:
        first = await opened(tmp_path / "first")
        await fill(first)
        octets = await first.export(passphrase="correct horse")
        assert PSK.encode() not in octets
        await closed(first)

        second = await opened(tmp_path / "second")
        name = await second.give(octets, part=500)
        tried = await second.ask("import", id=name, passphrase="correct horse", dry_run=True)
        assert tried["created"] == ["connections/office", "pools/staff"]
        assert "connections.office" in {one["key"] for one in tried["changes"]}
        assert await second.names() == []
        assert second.access.read == 0
        wrong = await second.refused("import", id=name, passphrase="wrong")
        assert (wrong.code, wrong.field) == (ErrorCode.INVALID, "passphrase")
        assert "wrong" in wrong.message
        missing = await second.refused("import", id=name)
        assert missing.field == "passphrase"
        done = await second.ask("import", id=name, passphrase="correct horse")
        assert (done["dry_run"], done["problems"]) == (False, [])
        assert await second.names() == ["pools/staff", "connections/office"]
        assert "office" in second.bench.config.connections, "it is in force"
        assert second.access.read == 1
        gone = await second.refused("import", id=name, passphrase="correct horse")
        assert gone.code is ErrorCode.NOT_FOUND
        await closed(second)

        third = await opened(tmp_path / "second")
        assert await third.names() == ["pools/staff", "connections/office"]
        assert "office" in third.bench.config.connections
        await closed(third)

    run(main())


def test_a_device_that_an_import_blocks_loses_its_sessions(tmp_path: Path) -> None:
    async def main() -> None:
        state = await opened(tmp_path / "one")
        for name in ("ann", "bob"):
            document = {"identity": f"{name}@example.com"}
            await state.bench.ask("object-create", kind="devices", name=name, document=document)
        await state.bench.ask("device-block", name="ann")
        octets = await state.export()
        await state.bench.ask("device-unblock", name="ann")
        ended: list[str] = []
        await state.bench.side.start()
        state.bench.side.sessions.end = (  # type: ignore[method-assign,assignment]
            lambda identity, _node, _why: ended.append(identity)
        )
        for _ in range(2):
            await state.ask("import", id=await state.give(octets))
            assert ended == ["ann@example.com"], "once"
        assert state.bench.side.devices.refusal("ann@example.com")
        await closed(state)

    run(main())


def test_a_file_that_would_be_no_configuration_changes_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        first = await opened(tmp_path / "first")
        await fill(first)
        octets = await first.export()
        again = await first.ask("import", id=await first.give(octets), dry_run=True)
        assert again["changed"] == again["removed"] == [], "secrets that are there stay"
        await closed(first)
        second = await opened(tmp_path / "second")
        refused = await second.refused("import", id=await second.give(octets))
        assert refused.code is ErrorCode.INVALID
        assert "psk" in f"{refused.message} {refused.errors}"
        assert await second.names() == []
        await closed(second)

    run(main())


def test_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    async def main() -> None:
        state = await opened(tmp_path / "first")
        row = {"kind": "x", "name": "a", "version": 1, "document": {}, "secrets": None}
        row |= {"created_at": 1.0, "changed_at": 1.0}
        head = {"format": "gateway-export", "version": 1, "made_at": 1e300, "program": "1"}
        lines: list[Any] = [{**head, "secrets": {"how": "none"}}, {"table": "object", "row": row}]
        octets = b"".join(json.dumps(one).encode() + b"\n" for one in lines)
        end = {"end": True, "rows": 1, "sha256": hashlib.sha256(octets).hexdigest()}
        name = await state.give(octets + json.dumps(end).encode() + b"\n")
        refused = await state.refused("import", id=name)
        assert (refused.code, refused.field) == (ErrorCode.INVALID, "x/a")
        await closed(state)

    run(main())


def test_h78_a_backup_stays_in_its_folder(tmp_path: Path) -> None:
    async def main() -> None:
        state = await opened(tmp_path / "first")
        await fill(state)
        for file in ("../x", "/etc/passwd", "a/b", "", ".hidden", "x\0y", "x" * 64):
            assert (await state.refused("backup", file=file)).field == "file"
        made = await state.ask("backup", file="monday")
        folder = tmp_path / "first" / "state" / "backups"
        assert Path(made["file"]) == folder / "monday.sqlite"
        assert made["octets"] == (folder / "monday.sqlite").stat().st_size
        taken = await state.refused("backup", file="monday.sqlite")
        assert taken.code is ErrorCode.REFUSED
        unnamed = await state.ask("backup")
        facts = await state.ask("store")
        assert (facts["state"], facts["reason"]) == ("good", None)
        assert {one["file"] for one in facts["backups"]} == {made["file"], unnamed["file"]}
        await closed(state)

    run(main())


def test_h78_transfers_are_few_bounded_and_short_lived(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfers_module, "MAX_FILE_OCTETS", 1000)
    now = [0.0]
    transfers = Transfers(tmp_path, lambda: now[0])
    names = [transfers.begin(incoming=True)[0] for _ in range(transfers_module.MAX_TRANSFERS)]
    with pytest.raises(ControlError) as busy:
        transfers.begin(incoming=False)
    assert busy.value.code is ErrorCode.TOO_MANY
    assert transfers.append(names[0], 0, b"x" * 600) == 600
    for offset, part in ((0, b"x"), (601, b"x"), (600, b"x" * 401), (600, bytes(200_000))):
        with pytest.raises(ControlError) as refused:
            transfers.append(names[0], offset, part)
        assert refused.value.code is ErrorCode.INVALID
    with pytest.raises(ControlError):
        transfers.read(names[0], 0)
    for name in ("0" * 32, "../../etc/passwd"):
        for call in (
            lambda n=name: transfers.read(n, 0),
            lambda n=name: transfers.append(n, 0, b""),
            lambda n=name: transfers.incoming(n),
        ):
            with pytest.raises(ControlError) as missing:
                call()
            assert missing.value.code is ErrorCode.NOT_FOUND
    files = list((tmp_path / "transfer").iterdir())
    assert len(files) == 4
    assert all(one.stat().st_mode & 0o077 == 0 for one in files)
    now[0] = transfers_module.IDLE_S + 1
    assert transfers.append(names[0], 600, b"x") == 601
    transfers.begin(incoming=False)  # in the room of those that nobody touches any more
    assert transfers.append(names[0], 601, b"x") == 602
    with pytest.raises(ControlError):
        transfers.append(names[1], 0, b"x")
    now[0] += transfers_module.LIFE_S + 1
    transfers.begin(incoming=True)
    assert len(list((tmp_path / "transfer").iterdir())) == 1
    Transfers(tmp_path, lambda: 0.0).clear()
    assert list((tmp_path / "transfer").iterdir()) == []


def test_an_empty_passphrase_is_no_passphrase(tmp_path: Path) -> None:
    async def main() -> None:
        state = await opened(tmp_path / "first")
        assert (await state.refused("export", passphrase="")).field == "passphrase"
        part = await state.refused("import-part", content="A===")
        assert part.field == "content"
        later = await state.refused("import-part", content="AAAA", offset=5)
        assert later.field == "offset"
        await closed(state)

    run(main())


def test_a_database_that_is_there_again_comes_into_force(tmp_path: Path) -> None:
    async def main() -> None:
        state = await opened(tmp_path / "first")
        event = {"name": "store_recovered", "fields": {"reopened": True}}
        state.side.hear({"name": "store_recovered", "fields": {"reopened": False}}, debug=False)
        assert state.access.read == 0
        state.side.hear(event, debug=False)
        state.side.hear(event, debug=False)
        assert state.side._reading is not None
        await state.side._reading
        assert state.access.read == 1
        await closed(state)

    run(main())
