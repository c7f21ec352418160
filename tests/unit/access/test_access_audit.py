"""What the audit has, what it never has, and requests that come twice."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from access_bed import Bed, bed_of, run

from gateway.appliance.access.audited import (
    KEEP_ANSWERS_S,
    arguments_without_secrets,
    blotted,
    fingerprint,
    without_audit,
)
from gateway.control.actor import Actor
from gateway.control.protocol import OPERATIONS, ControlError, ErrorCode, Role, check_request
from gateway.store.errors import UnavailableError

PASSWORD = "correct horse battery"
SA = "0" * 16 + "_" + "1" * 16
ANN = Actor("admin ann", Role.ADMINISTRATOR, "192.0.2.7", "00")


class Counting:
    """A handler of anything."""

    def __init__(self, answer: Any = None) -> None:
        self.answer = answer
        self.calls = 0
        self.gate: asyncio.Event | None = None

    async def __call__(self, request: Any) -> Any:
        self.calls += 1
        if self.gate is not None:
            await self.gate.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer if self.answer is not None else {"number": self.calls}


def around(bed: Bed, answer: Any = None) -> Counting:
    handler = Counting(answer)
    bed.handle = bed.side.around(handler)
    return handler


async def entries(bed: Bed, **filters: Any) -> list[dict[str, Any]]:
    page = await bed.side.handlers()["audit"](
        check_request({"op": "audit", "args": filters}, Role.ADMINISTRATOR, OPERATIONS)
    )
    assert isinstance(page, dict)
    return list(page["items"])


def test_a_change_is_written_with_who_what_before_and_after(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with bed_of(tmp_path) as bed:
            noted = {"target": "pools/staff", "before": {"network": "10.0.0.0/8"}, "after": {}}
            around(bed, {"object": 1, "_audit": noted})
            answer = await bed.ask("reload", actor=ANN)
            assert answer == {"object": 1}
            (entry,) = await entries(bed)
            assert entry["actor"] == "admin ann"
            assert entry["remote"] == "192.0.2.7"
            assert (entry["action"], entry["target"]) == ("reload", "pools/staff")
            assert (entry["outcome"], entry["before"]) == ("done", {"network": "10.0.0.0/8"})
            (event,) = bed.events
            assert (event.name, event.text) == (
                "administration",
                "admin ann: reload pools/staff",
            )
            assert "10.0.0.0/8" not in str(event)

    run(scenario())


@pytest.mark.parametrize(
    ("raised", "outcome", "detail"),
    [
        (ControlError(ErrorCode.NOT_FOUND, "there is none", "id"), "refused", "there is none"),
        (ZeroDivisionError("secret detail"), "failed", "ZeroDivisionError"),
    ],
)
def test_what_was_refused_or_failed_is_written_too(
    tmp_path: Path, raised: Exception, outcome: str, detail: str
) -> None:
    async def scenario() -> None:
        async with bed_of(tmp_path) as bed:
            around(bed, raised)
            with pytest.raises(type(raised)):
                await bed.ask("close-ike-sa", actor=ANN, id=SA)
            (entry,) = await entries(bed)
            assert (entry["outcome"], entry["detail"], entry["target"]) == (outcome, detail, SA)
            assert bed.events == []

    run(scenario())


def test_looking_and_trying_out_are_not_written(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with bed_of(tmp_path) as bed:
            around(bed)
            await bed.ask("ike-sas")
            await bed.ask("object-create", kind="pools", name="x", document={}, dry_run=True)
            assert await entries(bed) == []

    run(scenario())


def test_secrets_are_never_in_the_audit(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with bed_of(tmp_path) as bed:
            await bed.administrator("ann", PASSWORD)
            session = await bed.login("ann", PASSWORD)
            code = (await bed.ask("setup-code"))["code"]
            await bed.claim(code, "bob", PASSWORD)
            token = (await bed.ask("token-create", name="ci", role="admin"))["token"]
            document = {"servers": [{"secret": "radius-secret"}], "psk": "shared-psk"}
            around(bed, {"_audit": {"after": document}})
            await bed.ask("object-create", kind="radius", name="r", document=document)
            shown = json.dumps(await entries(bed))
            for secret in (PASSWORD, session, code, token, "radius-secret", "shared-psk"):
                assert secret not in shown
            assert {one["action"] for one in await entries(bed)} == {
                "administrator-create",
                "login",
                "setup-code",
                "setup-claim",
                "token-create",
                "object-create",
            }

    run(scenario())


def test_h78_who_is_nobody_cannot_fill_the_audit(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with bed_of(tmp_path) as bed:
            around(bed, ControlError(ErrorCode.NOT_FOUND, "no such link"))
            stranger = Actor("nobody", Role.NOBODY, "198.51.100.1")
            for _ in range(200):
                with pytest.raises(ControlError):
                    await bed.ask("link-take", actor=stranger, token="x" * 43)
            assert 0 < len(await entries(bed, limit=200)) <= 30

    run(scenario())


def test_entries_come_in_pages_the_newest_first_and_by_filters(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with bed_of(tmp_path) as bed:
            for number in range(7):
                bed.wall += 60
                await bed.ask("token-create", name=f"t{number}", role="read-only")
            first = await bed.ask("audit", limit=3)
            second = await bed.ask("audit", limit=3, cursor=first["next"])
            third = await bed.ask("audit", limit=3, cursor=second["next"])
            names = [one["target"] for page in (first, second, third) for one in page["items"]]
            assert names == [f"t{number}" for number in reversed(range(7))]
            assert (third["next"], first["total"]) == (None, 7)
            since = first["items"][1]["at"]
            assert (await bed.ask("audit", since=since))["total"] == 2
            assert (await bed.ask("audit", until=since))["total"] == 5
            assert (await bed.ask("audit", target="T3"))["total"] == 1
            assert (await bed.ask("audit", who="UID", outcome="done"))["total"] == 7
            assert (await bed.ask("audit", action="login"))["total"] == 0

    run(scenario())


@pytest.mark.parametrize("cursor", ["_", "f" * 40, "0_1"])
def test_a_cursor_that_is_none_is_refused(tmp_path: Path, cursor: str) -> None:
    async def scenario() -> None:
        async with bed_of(tmp_path) as bed:
            with pytest.raises(ControlError) as caught:
                await bed.ask("audit", cursor=cursor)
            assert (caught.value.code, caught.value.field) == (ErrorCode.INVALID, "cursor")

    run(scenario())


@pytest.mark.parametrize("time", ["2026-13-01", "2026-02-30T00:00:00Z"])
def test_a_time_that_is_none_is_refused(tmp_path: Path, time: str) -> None:
    async def scenario() -> None:
        async with bed_of(tmp_path) as bed:
            with pytest.raises(ControlError) as caught:
                await bed.ask("audit", since=time)
            assert caught.value.field == "since"

    run(scenario())


def test_a_disk_that_is_full_refuses_nothing_that_was_done_and_is_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with bed_of(tmp_path) as bed:
            handler = around(bed)

            async def full(*_args: Any, **_options: Any) -> None:
                raise UnavailableError("the disk is full")

            with monkeypatch.context() as patched:
                patched.setattr("gateway.store.database.Store.run", full)
                assert await bed.ask("reload", actor=ANN) == {"number": 1}
            assert handler.calls == 1
            assert bed.side.audited.counters["audit_failed"] == 1
            assert "the disk is full" in bed.stream.getvalue()
            assert "admin ann" in bed.stream.getvalue()

    run(scenario())


def test_a_disk_that_is_full_is_told_to_who_wants_to_store_something(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with bed_of(tmp_path) as bed:

            async def full(*_args: Any, **_options: Any) -> None:
                raise UnavailableError("the disk is full")

            with monkeypatch.context() as patched:
                patched.setattr("gateway.store.database.Store.run", full)
                for key in (None, "k1"):
                    with pytest.raises(ControlError, match="the disk is full") as caught:
                        await bed.ask("token-create", name="ci", role="admin", key=key)
                    assert caught.value.code == ErrorCode.BUSY
                with pytest.raises(ControlError, match="the disk is full"):
                    await bed.login("ann", PASSWORD)
            assert await bed.ask("token-create", name="ci", role="admin")

    run(scenario())


# -- idempotency ---------------------------------------------------------------------------


def test_the_same_request_with_the_same_key_is_carried_out_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with bed_of(tmp_path) as bed:
            handler = around(bed)
            first = await bed.ask("reload", actor=ANN, key="k1")
            assert await bed.ask("reload", actor=ANN, key="k1") == first
            assert handler.calls == 1
            assert await bed.ask("reload", actor=ANN, key="k2") != first
            assert len(await entries(bed)) == 2

    run(scenario())


def test_an_answer_is_kept_over_a_restart_and_for_a_day(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with bed_of(tmp_path) as bed:
            made = await bed.ask("token-create", name="ci", role="admin", key="k1")
        async with bed_of(tmp_path) as bed:
            assert await bed.ask("token-create", name="ci", role="admin", key="k1") == made
            assert bed.side.authenticate(made["token"], "::1")
            bed.wall += KEEP_ANSWERS_S + 1
            with pytest.raises(ControlError, match="there is a token of this name"):
                await bed.ask("token-create", name="ci", role="admin", key="k1")

    run(scenario())


def test_another_request_with_the_same_key_is_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with bed_of(tmp_path) as bed:
            await bed.ask("token-create", name="a", role="admin", key="k1")
            with pytest.raises(ControlError) as caught:
                await bed.ask("token-create", name="b", role="admin", key="k1")
            assert (caught.value.code, caught.value.field) == (ErrorCode.INVALID, "key")

    run(scenario())


def test_h78_keys_of_others_are_others(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with bed_of(tmp_path) as bed:
            handler = around(bed)
            eve = Actor("admin eve", Role.ADMINISTRATOR, "192.0.2.7", "01")
            token = Actor("token ci", Role.ADMINISTRATOR, "192.0.2.7", "02")
            again = Actor("token ci", Role.ADMINISTRATOR, "192.0.2.7", "03")
            for number, actor in enumerate((ANN, eve, token, again), 1):
                assert await bed.ask("reload", actor=actor, key="k1") == {"number": number}
            assert handler.calls == 4
            # The same administrator, logged in anew.
            ann = Actor("admin ann", Role.ADMINISTRATOR, "192.0.2.8", "99")
            assert await bed.ask("reload", actor=ann, key="k1") == {"number": 1}

    run(scenario())


def test_h78_strangers_share_no_keys(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with bed_of(tmp_path) as bed:
            handler = around(bed)
            for remote in ("198.51.100.1", "198.51.100.2"):
                stranger = Actor("nobody", Role.NOBODY, remote)
                await bed.ask("link-take", actor=stranger, key="k1", token="x" * 43)
            assert handler.calls == 2

    run(scenario())


def test_a_refusal_is_not_kept(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with bed_of(tmp_path) as bed:
            handler = around(bed, ControlError(ErrorCode.REFUSED, "not now"))
            with pytest.raises(ControlError):
                await bed.ask("reload", actor=ANN, key="k1")
            handler.answer = {"done": True}
            assert await bed.ask("reload", actor=ANN, key="k1") == {"done": True}

    run(scenario())


def test_while_the_first_request_runs_the_second_is_told_to_wait(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with bed_of(tmp_path) as bed:
            handler = around(bed)
            handler.gate = asyncio.Event()
            first = asyncio.create_task(bed.ask("reload", actor=ANN, key="k1"))
            while not handler.calls:
                await asyncio.sleep(0)
                await asyncio.sleep(0.001)
            with pytest.raises(ControlError, match="still being carried out"):
                await bed.ask("reload", actor=ANN, key="k1")
            handler.gate.set()
            assert await first == {"number": 1}
            assert handler.calls == 1

    run(scenario())


def test_an_answer_that_is_too_long_is_carried_out_once_all_the_same(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with bed_of(tmp_path) as bed:
            handler = around(bed, {"text": "x" * 300_000})
            assert await bed.ask("reload", actor=ANN, key="k1")
            with pytest.raises(ControlError, match="done already"):
                await bed.ask("reload", actor=ANN, key="k1")
            assert handler.calls == 1

    run(scenario())


# -- the parts -----------------------------------------------------------------------------


def test_arguments_are_written_without_secrets_and_documents() -> None:
    line = {
        "op": "administrator-create",
        "args": {"name": "ann", "role": "admin", "password": PASSWORD},
    }
    request = check_request(line, Role.ADMINISTRATOR)
    assert arguments_without_secrets(request) == {"name": "ann", "role": "admin"}
    assert fingerprint(request) == fingerprint(check_request(line, Role.ADMINISTRATOR))


def test_what_is_named_like_a_secret_is_blotted_out_at_any_depth() -> None:
    given = {"a": [{"Password": "x", "b": {"psk": "y"}}], "key_file": "/etc/key", "secret": True}
    assert blotted(given) == {
        "a": [{"Password": {"secret": True}, "b": {"psk": {"secret": True}}}],
        "key_file": "/etc/key",
        "secret": True,
    }


def test_an_answer_without_a_note_stays_as_it_is() -> None:
    assert without_audit([1]) == ([1], None)
    assert without_audit({"a": 1, "_audit": "nonsense"}) == ({"a": 1}, None)
