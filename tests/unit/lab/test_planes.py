"""Configurations of the lab name their dataplane where the environment says so, and only there."""

import random
import tomllib

import pytest

from gateway.lab import planes
from gateway.lab.impair import Fault, Impairment
from gateway.lab.processes import LabError
from gateway.lab.slow import Line


@pytest.mark.parametrize(
    "text",
    [
        '[gateway]\nname = "g"\n',
        "[dataplane]\nmtu = 1300\n\n[pools.road]\nkind = 3\n",
        "[dataplane]\n",
        '[gateway]\nname = "[dataplane]"\n',
    ],
)
def test_the_kind_is_named_beside_what_is_there(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(planes.VARIABLE, "portable")
    before, after = tomllib.loads(text), tomllib.loads(planes.with_kind(text))
    assert after.pop("dataplane") == {**before.pop("dataplane", {}), "kind": "portable"}
    assert after == before


def test_what_is_named_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    text = '[dataplane]\nmtu = 1300\nkind = "kernel"\n'
    monkeypatch.setenv(planes.VARIABLE, "portable")
    assert planes.with_kind(text) == text


def test_without_a_wish_nothing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(planes.VARIABLE, raising=False)
    assert planes.with_kind("[gateway]\n") == "[gateway]\n"
    assert planes.wanted() == "auto"


def test_another_word_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(planes.VARIABLE, "user-space")
    with pytest.raises(LabError, match="allowed are kernel, portable"):
        planes.wanted()


def test_a_line_delays_everything_by_as_much() -> None:
    line = Line(0.02, 0.0, 0.0, random.Random(1))
    for at in range(5):
        line.enters(bytes([at]), at / 100)
    assert line.leaves(0.0199) == []
    assert line.wait_s(0.01) == pytest.approx(0.01)
    assert line.leaves(0.035) == [b"\0", b"\1"]
    assert line.leaves(1.0) == [b"\2", b"\3", b"\4"]
    assert line.wait_s(1.0) is None


def test_a_line_loses_its_share() -> None:
    line = Line(0.0, 0.0, 0.2, random.Random(1))
    for _ in range(1000):
        line.enters(b"x", 0.0)
    assert 720 < len(line.leaves(1.0)) < 880


def message(exchange: int, last: int) -> bytes:
    """An IKE request to the lab's gateway."""
    ike = bytes(18) + bytes([exchange, 8]) + bytes(7) + bytes([last]) + bytes(40)
    udp = (500).to_bytes(2, "big") * 2 + (8 + len(ike)).to_bytes(2, "big") + b"\1\1"
    return bytes([0x45]) + bytes(8) + b"\x11" + bytes(6) + bytes((192, 0, 2, 1)) + udp + ike


@pytest.mark.parametrize(
    ("action", "arrived"), [("drop", [2]), ("hold", [2, 1]), ("duplicate", [1, 1, 2])]
)
def test_the_first_message_of_an_exchange_is_treated(action: str, arrived: list[int]) -> None:
    sent: list[bytes] = []
    impairment = Impairment([Fault(action, "to-gateway", 1, 35)], sent.append)  # type: ignore[arg-type]
    impairment.packet(message(34, 9))
    for last in (1, 2):
        impairment.packet(message(35, last))
    assert [packet[20 + 8 + 27] for packet in sent] == [9, *arrived]
