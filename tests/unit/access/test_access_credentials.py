"""Who is recognised by what: tokens, logins, the file, addresses that guess."""

import asyncio
import hashlib
from pathlib import Path
from typing import Any

import pytest
from access_bed import Bed, bed_of, run
from sqlalchemy import update

from gateway.appliance.access.attempts import FREE_ATTEMPTS, WrongCredentials, address_of
from gateway.appliance.access.logins import ABSOLUTE_S, IDLE_S, MAX_LOGINS_OF_ONE
from gateway.control.protocol import ControlError, ErrorCode, Role
from gateway.store.schema import ADMINISTRATORS, TOKENS

PASSWORD = "correct horse battery"


def refused(bed: Bed, credential: str, remote: str = "192.0.2.7") -> ControlError:
    with pytest.raises(ControlError) as caught:
        bed.side.authenticate(credential, remote)
    return caught.value


def everything_in(folder: Path) -> bytes:
    return b"".join(one.read_bytes() for one in folder.iterdir() if one.is_file())


def test_a_token_is_shown_once_and_counts_until_it_is_deleted(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with bed_of(tmp_path) as bed:
            made = await bed.ask("token-create", name="ci", role="operator")
            assert made["token"].startswith("gw_")
            assert len(made["token"]) == 46
            actor = bed.side.authenticate(made["token"], "192.0.2.7")
            assert (actor.name, actor.role, actor.remote) == (
                "token ci",
                Role.OPERATOR,
                "192.0.2.7",
            )
            listed = (await bed.ask("tokens"))["items"]
            assert made["token"] not in str(listed)
            assert made["token"] not in str(await bed.ask("audit"))
            await bed.ask("token-delete", id=made["id"])
            assert refused(bed, made["token"]).code == ErrorCode.UNAUTHENTICATED

    run(scenario())


def test_a_token_ends_at_its_time(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with bed_of(tmp_path) as bed:
            made = await bed.ask("token-create", name="ci", role="admin", expires_in_s=3600)
            assert bed.side.authenticate(made["token"], "192.0.2.7")
            bed.wall += 3601
            assert refused(bed, made["token"]).code == ErrorCode.UNAUTHENTICATED
            assert (await bed.ask("tokens"))["items"][0]["expired"] is True

    run(scenario())


def test_tokens_and_their_last_use_survive_a_restart(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with bed_of(tmp_path) as bed:
            made = await bed.ask("token-create", name="ci", role="read-only")
            await bed.as_who(made["token"], "whoami")
        async with bed_of(tmp_path) as bed:
            assert bed.side.authenticate(made["token"], "::1").role is Role.READ_ONLY
            found = (await bed.ask("tokens"))["items"][0]
            assert found["last_used_from"] == "192.0.2.9"
            assert found["last_used_at"] is not None

    run(scenario())


def test_the_store_has_hashes_only(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with bed_of(tmp_path) as bed:
            made = await bed.ask("token-create", name="ci", role="admin")
            await bed.administrator("ann", PASSWORD)
            session = await bed.login("ann", PASSWORD)
            code = (await bed.ask("setup-code"))["code"]
        content = everything_in(tmp_path)
        for secret in (made["token"], PASSWORD, session, code, code.replace("-", "")):
            assert secret.encode() not in content
        assert hashlib.sha256(made["token"].encode()).digest() in content

    run(scenario())


def test_a_login_ends_when_it_is_not_used_and_at_last_in_any_case(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with bed_of(tmp_path) as bed:
            await bed.administrator("ann", PASSWORD)
            session = await bed.login("ann", PASSWORD)
            used = 0.0
            while used + IDLE_S - 60 < ABSOLUTE_S:  # in use all the time
                bed.wall += IDLE_S - 60
                used += IDLE_S - 60
                await bed.as_who(session, "whoami")
            bed.wall += IDLE_S - 60
            assert refused(bed, session).code == ErrorCode.UNAUTHENTICATED
            idle = await bed.login("ann", PASSWORD)
            bed.wall += IDLE_S + 1
            assert refused(bed, idle).code == ErrorCode.UNAUTHENTICATED

    run(scenario())


def test_asking_whether_a_login_counts_does_not_keep_it_alive(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with bed_of(tmp_path) as bed:
            await bed.administrator("ann", PASSWORD)
            session = await bed.login("ann", PASSWORD)
            for _ in range(3):
                bed.wall += IDLE_S / 4
                await bed.as_who(session, "health")
            bed.wall += IDLE_S / 4 + 1
            assert refused(bed, session).code == ErrorCode.UNAUTHENTICATED

    run(scenario())


def test_logins_survive_a_restart_and_logging_out_ends_one(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with bed_of(tmp_path) as bed:
            await bed.administrator("ann", PASSWORD)
            first, second = await bed.login("ann", PASSWORD), await bed.login("ann", PASSWORD)
            assert first != second
        async with bed_of(tmp_path) as bed:
            assert bed.side.authenticate(first, "192.0.2.9").name == "admin ann"
            await bed.as_who(first, "logout")
            assert refused(bed, first).code == ErrorCode.UNAUTHENTICATED
            assert bed.side.authenticate(second, "192.0.2.9")
        async with bed_of(tmp_path) as bed:
            assert refused(bed, first).code == ErrorCode.UNAUTHENTICATED

    run(scenario())


def test_logins_of_one_administrator_are_bounded_and_the_oldest_ends(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with bed_of(tmp_path) as bed:
            await bed.administrator("ann", PASSWORD)
            opened = []
            for _ in range(MAX_LOGINS_OF_ONE + 1):
                bed.wall += 1
                opened.append((await bed.side.logins.open("ann", "::1", bed.wall))[0])
            refused(bed, opened[0])
            assert all(bed.side.authenticate(one, "::1") for one in opened[1:])

    run(scenario())


def test_a_new_role_counts_at_once_and_a_new_password_ends_logins(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with bed_of(tmp_path) as bed:
            await bed.administrator("root", PASSWORD)
            await bed.administrator("ann", PASSWORD, role="operator")
            session = await bed.login("ann", PASSWORD)
            assert bed.side.authenticate(session, "::1").role is Role.OPERATOR
            await bed.ask("administrator-change", name="ann", role="read-only")
            refused(bed, session)
            session = await bed.login("ann", PASSWORD)
            assert bed.side.authenticate(session, "::1").role is Role.READ_ONLY
            await bed.ask("administrator-change", name="ann", password="another password")
            refused(bed, session)
            assert await bed.login("ann", "another password")
            await bed.ask("administrator-delete", name="ann")
            with pytest.raises(ControlError, match="name or the password is wrong"):
                await bed.login("ann", "another password")

    run(scenario())


def test_ones_own_password_keeps_this_login_and_ends_the_others(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with bed_of(tmp_path) as bed:
            await bed.administrator("ann", PASSWORD, role="read-only")
            here, there = await bed.login("ann", PASSWORD), await bed.login("ann", PASSWORD)
            with pytest.raises(ControlError, match="not your password"):
                await bed.as_who(here, "own-password", current="x", password="a new password")
            await bed.as_who(here, "own-password", current=PASSWORD, password="a new password")
            assert bed.side.authenticate(here, "::1")
            refused(bed, there)
            token = (await bed.ask("token-create", name="ci", role="admin"))["token"]
            with pytest.raises(ControlError, match="logged in"):
                await bed.as_who(token, "own-password", current="x", password="a new password")

    run(scenario())


def test_somebody_can_always_administer(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with bed_of(tmp_path) as bed:
            await bed.administrator("ann", PASSWORD)
            await bed.administrator("bob", PASSWORD, role="operator")
            for op, args in (
                ("administrator-delete", {}),
                ("administrator-change", {"role": "operator"}),
            ):
                with pytest.raises(ControlError, match="last administrator") as caught:
                    await bed.ask(op, name="ann", **args)
                assert caught.value.code == ErrorCode.REFUSED
            await bed.ask("administrator-change", name="bob", role="admin")
            await bed.ask("administrator-delete", name="ann")

    run(scenario())


def test_two_who_remove_each_other_at_once_leave_one_who_can_administer(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with bed_of(tmp_path) as bed:
            await bed.administrator("ann", PASSWORD)
            await bed.administrator("bob", PASSWORD)
            done = await asyncio.gather(
                bed.ask("administrator-delete", name="ann"),
                bed.ask("administrator-change", name="bob", role="operator"),
                return_exceptions=True,
            )
            (refused,) = [one for one in done if isinstance(one, ControlError)]
            assert "last administrator" in refused.message
            assert bed.side.has_administrator

    run(scenario())


@pytest.mark.parametrize(
    ("op", "args"),
    [
        ("administrator-change", {"password": "another password"}),
        ("administrator-change", {"role": "read-only"}),
        ("administrator-delete", {}),
    ],
)
def test_a_login_that_meets_a_change_of_its_administrator_is_none(
    tmp_path: Path, op: str, args: dict[str, str]
) -> None:
    async def scenario() -> None:
        async with bed_of(tmp_path) as bed:
            await bed.administrator("root", PASSWORD)
            await bed.administrator("ann", PASSWORD)
            matches = bed.side.persons.has_password

            async def slow(name: str, password: str) -> bool:
                right = await matches(name, password)
                await bed.ask(op, name="ann", **args)
                return right

            bed.side.persons.has_password = slow  # type: ignore[method-assign]
            with pytest.raises(ControlError) as caught:
                await bed.login("ann", PASSWORD)
            assert caught.value.code == ErrorCode.UNAUTHENTICATED
            assert not bed.side.logins._open

    run(scenario())


def test_a_role_of_another_version_lets_nobody_in_and_keeps_nobody_out(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with bed_of(tmp_path) as bed:
            await bed.administrator("ann", PASSWORD)
            await bed.administrator("bob", PASSWORD)
            made = await bed.ask("token-create", name="portal", role="operator")
            store = bed.side._administration.store

            def of_later(connection: Any) -> None:
                connection.execute(
                    update(ADMINISTRATORS)
                    .where(ADMINISTRATORS.c.name == "bob")
                    .values(role="auditor")
                )
                connection.execute(update(TOKENS).values(role="auditor"))

            await store.run(of_later)
        async with bed_of(tmp_path) as bed:
            assert await bed.login("ann", PASSWORD)
            with pytest.raises(ControlError):
                await bed.login("bob", PASSWORD)
            assert refused(bed, str(made["token"])).code == ErrorCode.UNAUTHENTICATED

    run(scenario())


def test_a_stale_version_changes_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with bed_of(tmp_path) as bed:
            await bed.administrator("ann", PASSWORD)
            await bed.administrator("bob", PASSWORD)
            await bed.ask("administrator-change", name="bob", role="operator", version=1)
            for op, args in (
                ("administrator-change", {"role": "admin"}),
                ("administrator-delete", {}),
            ):
                with pytest.raises(ControlError) as caught:
                    await bed.ask(op, name="bob", version=1, **args)
                assert (caught.value.code, caught.value.field) == (ErrorCode.STALE, "version")

    run(scenario())


@pytest.mark.parametrize("password", ["", "short", "aaaaaaaaaaaaaaaa", "with\x00control chars"])
def test_a_password_that_protects_nothing_is_refused_and_not_repeated(
    tmp_path: Path, password: str
) -> None:
    async def scenario() -> None:
        async with bed_of(tmp_path) as bed:
            with pytest.raises(ControlError) as caught:
                await bed.administrator("ann", password)
            assert (caught.value.code, caught.value.field) == (ErrorCode.INVALID, "password")
            assert not password or password not in caught.value.message

    run(scenario())


# -- guessing ----------------------------------------------------------------------------


def test_h78_a_wrong_name_and_a_wrong_password_are_the_same_to_who_guesses(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with bed_of(tmp_path) as bed:
            await bed.administrator("ann", PASSWORD)
            hashed = []
            checks = bed.side.persons._checks
            in_turn = checks._in_turn

            async def counted(work: Any) -> Any:
                hashed.append(1)
                return await in_turn(work)

            checks._in_turn = counted  # type: ignore[method-assign]
            said = []
            for name in ("ann", "nobody-of-this-name"):
                with pytest.raises(ControlError) as caught:
                    await bed.login(name, "a wrong password")
                said.append((caught.value.code, caught.value.message, caught.value.field))
            assert said[0] == said[1]
            assert len(hashed) == 2  # a password was hashed for the one that does not exist, too

    run(scenario())


def test_h78_guessing_passwords_is_slowed_down_and_refused_by_name(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with bed_of(tmp_path) as bed:
            await bed.administrator("ann", PASSWORD)
            codes = []
            for number in range(16):
                with pytest.raises(ControlError) as caught:
                    await bed.login("ann", "wrong", remote=f"198.51.100.{number}")
                codes.append(caught.value)
            assert codes[-1].code == ErrorCode.TOO_MANY
            assert (codes[-1].retry_after_s or 0) >= 1
            assert bed.slept  # delays come before refusals
            assert max(bed.slept) <= 3.0

    run(scenario())


def test_h78_an_address_from_which_an_administrator_comes_is_not_locked_out(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        async with bed_of(tmp_path) as bed:
            await bed.administrator("ann", PASSWORD)
            assert await bed.login("ann", PASSWORD, remote="203.0.113.5")
            for number in range(16):
                with pytest.raises(ControlError):
                    await bed.login("ann", "wrong", remote=f"198.51.100.{number}")
            assert await bed.login("ann", PASSWORD, remote="203.0.113.5")

    run(scenario())


def test_h78_wrong_tokens_are_limited_by_address_and_right_ones_are_not(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with bed_of(tmp_path) as bed:
            made = await bed.ask("token-create", name="ci", role="admin")
            for number in range(FREE_ATTEMPTS):
                assert refused(bed, f"gw_{number}").code == ErrorCode.UNAUTHENTICATED
            error = refused(bed, "gw_once_more")
            assert error.code == ErrorCode.TOO_MANY
            assert (error.retry_after_s or 0) >= 1
            assert bed.side.authenticate(made["token"], "192.0.2.7")
            assert refused(bed, "gw_other", "203.0.113.1").code == ErrorCode.UNAUTHENTICATED
            bed.now += 3600
            assert refused(bed, "gw_later").code == ErrorCode.UNAUTHENTICATED

    run(scenario())


def test_h78_a_network_of_version_6_has_no_more_attempts_than_one_address() -> None:
    limit = WrongCredentials(free=2)
    limit.note("2001:db8::1", 0.0)
    limit.note("2001:db8::ffff:2", 0.0)
    with pytest.raises(ControlError):
        limit.note("2001:db8::3", 0.0)
    limit.note("2001:db8:0:1::3", 0.0)


def test_an_address_in_the_clothes_of_version_6_is_the_same_address() -> None:
    assert address_of("::ffff:192.0.2.7") == address_of("192.0.2.7")
    assert str(address_of("local")) == "127.0.0.1"


def test_too_many_logins_at_once_are_refused_before_they_take_memory(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with bed_of(tmp_path) as bed:
            checks = bed.side.persons._checks
            answers = await asyncio.gather(
                *(checks.matches(None, "x") for _ in range(40)), return_exceptions=True
            )
            refusals = [one for one in answers if isinstance(one, ControlError)]
            assert len(refusals) >= 30
            assert {one.code for one in refusals} == {ErrorCode.TOO_MANY}

    run(scenario())


# -- the first administrator ---------------------------------------------------------------


def test_the_setup_code_makes_one_administrator_and_logs_in(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with bed_of(tmp_path) as bed:
            assert not bed.side.has_administrator
            code = (await bed.ask("setup-code"))["code"]
            made = await bed.claim(code.lower(), "ann", PASSWORD)
            assert made["role"] == "admin"
            assert bed.side.has_administrator
            assert bed.side.authenticate(made["session"], "::1").role is Role.ADMINISTRATOR
            with pytest.raises(ControlError, match="not the setup code"):
                await bed.claim(code, "eve", PASSWORD)

    run(scenario())


def test_the_setup_code_ends_and_a_new_one_replaces_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with bed_of(tmp_path) as bed:
            old = (await bed.ask("setup-code"))["code"]
            new = (await bed.ask("setup-code"))["code"]
            with pytest.raises(ControlError, match="not the setup code"):
                await bed.claim(old, "ann", PASSWORD)
            bed.wall += 3601
            with pytest.raises(ControlError, match="not the setup code"):
                await bed.claim(new, "ann", PASSWORD)

    run(scenario())


def test_a_bad_password_does_not_use_the_setup_code_up(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with bed_of(tmp_path) as bed:
            code = (await bed.ask("setup-code"))["code"]
            with pytest.raises(ControlError) as caught:
                await bed.claim(code, "ann", "short")
            assert caught.value.field == "password"
            assert await bed.claim(code, "ann", PASSWORD)

    run(scenario())


def test_of_two_who_bring_the_code_at_once_one_becomes_administrator(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with bed_of(tmp_path) as bed:
            code = (await bed.ask("setup-code"))["code"]
            made = await asyncio.gather(
                *(bed.claim(code, f"a{number}", PASSWORD) for number in range(4)),
                return_exceptions=True,
            )
            assert sum(1 for one in made if isinstance(one, dict)) == 1
            assert len(bed.side.persons.all()) == 1

    run(scenario())


def test_h78_guessing_the_setup_code_is_slowed_down(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with bed_of(tmp_path) as bed:
            await bed.ask("setup-code")
            codes = []
            for _ in range(12):
                with pytest.raises(ControlError) as caught:
                    await bed.claim("AAAAA-AAAAA-AAAAA-AAAAA", "eve", PASSWORD)
                codes.append(caught.value.code)
            assert codes[-1] == ErrorCode.TOO_MANY

    run(scenario())


# -- without a store -----------------------------------------------------------------------


def test_without_a_store_the_file_still_opens_and_the_rest_says_so(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with bed_of(tmp_path, with_store=False) as bed:
            file = tmp_path / "token"
            file.write_text("a token of a file\n")
            file.chmod(0o600)
            bed.use_file(file)
            actor = bed.side.authenticate("a token of a file", "::1")
            assert (actor.name, actor.role) == ("token-file", Role.ADMINISTRATOR)
            with pytest.raises(ControlError, match="store"):
                await bed.ask("token-create", name="ci", role="admin")
            assert (await bed.ask("tokens"))["items"] == []

    run(scenario())


def test_networks_of_the_configuration_read_metrics_without_a_token(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with bed_of(tmp_path, metrics_open=["10.0.0.0/8", "2001:db8::/32"]) as bed:
            assert bed.side.authenticate("", "10.1.2.3").also == {"metrics"}
            assert bed.side.authenticate("", "::ffff:10.1.2.3").also == {"metrics"}
            assert bed.side.authenticate("", "192.0.2.1").also == frozenset()
            assert bed.side.authenticate("", "10.1.2.3").role is Role.NOBODY

    run(scenario())


def test_nothing_of_a_secret_is_in_a_repr(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with bed_of(tmp_path) as bed:
            await bed.administrator("ann", PASSWORD)
            session = await bed.login("ann", PASSWORD)
            made = await bed.ask("token-create", name="ci", role="admin")
            shown = repr((bed.side.tokens.all(), bed.side.persons.all(), vars(bed.side.logins)))
            assert session not in shown
            assert made["token"] not in shown
            assert "$scrypt$" not in shown

    run(scenario())
