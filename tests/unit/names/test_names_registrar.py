"""Dynamic updates, judged by BIND: what its zones have afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest
from names_bed import REVERSE, ZONE, look_up, named, settings

from gateway.lab import bind
from gateway.names.registering import Order, Registrar
from gateway.names.settings import RegistrarSettings, secret_of

pytestmark = pytest.mark.skipif(not bind.NAMED.exists(), reason="needs bind9")


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with named(tmp_path_factory.mktemp("named")) as port:
        yield port


def order(label: str, *addresses: str, there: bool = True, who: str = "ann@example.com") -> Order:
    """Register or withdraw a name."""
    return Order(there, f"{label}.{ZONE}", who, [ip_address(one) for one in addresses])


def carry_out(settings: RegistrarSettings, *orders: Order) -> list[tuple[str, str]]:
    """What became of orders that are given at once: state and detail of each."""

    async def run() -> list[tuple[str, str]]:
        told: list[dict[str, object]] = []
        enough = asyncio.Event()

        def hear(message: dict[str, object]) -> None:
            told.append(message)
            if len(told) >= len(orders):
                enough.set()

        registrar = Registrar(settings, hear)
        registrar.start()
        for one in orders:
            registrar.order(one)
        async with asyncio.timeout(60):
            await enough.wait()
        registrar.stop()
        return [(str(one["state"]), str(one["detail"])) for one in told]

    return asyncio.run(run())


def test_a_name_comes_changes_and_goes(port: int) -> None:
    there = settings(port)
    assert carry_out(there, order("phone", "10.9.0.2", "fd00::2")) == [
        ("without-reverse", "127.0.0.1 has no reverse zone for fd00::2")
    ]
    assert look_up(f"phone.{ZONE}", "A", port) == ["10.9.0.2"]
    assert look_up(f"phone.{ZONE}", "AAAA", port) == ["fd00::2"]
    assert look_up(f"2.{REVERSE}", "PTR", port) == [f"phone.{ZONE}."]
    assert len(look_up(f"phone.{ZONE}", "DHCID", port)) == 1
    assert carry_out(there, order("phone", "10.9.0.3")) == [("done", "")]
    assert look_up(f"phone.{ZONE}", "A", port) == ["10.9.0.3"]
    assert not look_up(f"phone.{ZONE}", "AAAA", port)
    assert carry_out(there, order("phone", "10.9.0.3", there=False)) == [("done", "")]
    for rdtype in ("A", "AAAA", "DHCID"):
        assert not look_up(f"phone.{ZONE}", rdtype, port)
    assert not look_up(f"3.{REVERSE}", "PTR", port)


def test_somebody_elses_name_is_not_touched(port: int) -> None:
    there = settings(port)
    ((state, _),) = carry_out(there, order("printer", "10.9.0.4"))
    assert state == "taken"
    ((state, _),) = carry_out(there, order("printer", "10.9.0.4", there=False))
    assert state == "done"
    assert look_up(f"printer.{ZONE}", "A", port) == ["10.1.0.99"]
    assert not look_up(f"4.{REVERSE}", "PTR", port)


def test_another_device_does_not_get_a_name_of_ours(port: int) -> None:
    there = settings(port)
    carry_out(there, order("tablet", "10.9.0.5"))
    ((state, _),) = carry_out(there, order("tablet", "10.9.0.6", who="eve@example.com"))
    assert state == "taken"
    carry_out(there, order("tablet", "10.9.0.5", there=False, who="eve@example.com"))
    assert look_up(f"tablet.{ZONE}", "A", port) == ["10.9.0.5"]


def test_what_another_gateway_registered_for_the_device_stays(port: int) -> None:
    there = settings(port)
    carry_out(there, order("watch", "10.9.0.7"))
    carry_out(there, order("watch", "10.9.0.8"))
    carry_out(there, order("watch", "10.9.0.7", there=False))
    assert look_up(f"watch.{ZONE}", "A", port) == ["10.9.0.8"]


def test_orders_of_a_name_are_carried_out_one_after_the_other(port: int) -> None:
    there = settings(port)
    carry_out(there, order("desk", "10.9.0.10", who="old@example.com"))
    states = carry_out(
        there,
        order("desk", "10.9.0.10", there=False, who="old@example.com"),
        order("desk", "10.9.0.11", who="new@example.com"),
    )
    assert [state for state, _ in states] == ["done", "done"]
    assert look_up(f"desk.{ZONE}", "A", port) == ["10.9.0.11"]


def test_many_names_at_once(port: int) -> None:
    there = settings(port)
    orders = [order(f"many{n}", f"10.9.0.{100 + n}", who=f"many{n}") for n in range(50)]
    assert {state for state, _ in carry_out(there, *orders)} == {"done"}
    assert look_up(f"many49.{ZONE}", "A", port) == ["10.9.0.149"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"key_name": "other-key"}, 'does not know the key "other-key" (BADKEY)'),
        ({"secret": secret_of("AAAAAAAAAAAAAAAAAAAAAA==")}, "another secret for its key (BADSIG)"),
        ({"zone": "elsewhere.test"}, "NOTAUTH"),
        ({"algorithm": "hmac-sha512"}, "BADKEY"),
    ],
)
def test_refusals_say_what_to_look_at(port: int, change: dict[str, object], words: str) -> None:
    there = replace(settings(port), **change)  # type: ignore[arg-type]
    zone = there.zone
    wanted = Order(True, f"phone.{zone}", "ann@example.com", [ip_address("10.9.0.2")])
    ((state, detail),) = carry_out(there, wanted)
    assert state == "refused"
    assert words in detail
    assert "AAAA" not in detail


def test_a_server_that_is_not_there(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.names.registering.TRY_S", 0.05)
    nobody = settings(9, server=ip_address("127.0.0.77"))
    ((state, detail),) = carry_out(nobody, order("phone", "10.9.0.2"))
    assert state == "refused"
    assert detail.startswith("127.0.0.77 port 9")


def test_what_was_refused_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.names.registering.FIRST_PAUSE_S", 0.05)
    monkeypatch.setattr("gateway.names.registering.TRY_S", 0.1)

    async def run() -> None:
        told: asyncio.Queue[dict[str, object]] = asyncio.Queue()
        with named(tmp_path) as port:
            registrar = Registrar(settings(port, key_name="unknown"), told.put_nowait)
            registrar.start()
            registrar.order(order("late", "10.9.0.12"))
            for _ in range(3):
                assert (await told.get())["state"] == "refused"
            registrar._settings = settings(port)
            while (await told.get())["state"] == "refused":
                pass
            registrar.stop()
            assert look_up(f"late.{ZONE}", "A", port) == ["10.9.0.12"]

    asyncio.run(asyncio.wait_for(run(), 60))


def test_secrets_stay_secret() -> None:
    assert bind.SECRET[:8] not in repr(settings(53))
    assert str(settings(53).secret) not in repr(settings(53))
    for text in ("not base64!", "AAAA", ""):
        with pytest.raises(ValueError, match=r"base64|octets"):
            secret_of(text)


def test_settings_survive_their_way_to_the_process() -> None:
    there = settings(5353)
    assert RegistrarSettings.from_json(there.to_json()) == there
