"""The load of the handshake benchmark, each method against our own engine in memory."""

import os
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from bench.handshake_setups import METHODS, NAME, PASSWORD, PSK, USER, Bed, Method
from bench.ike_initiators import INITIATORS, Credentials, Failed, Initiator
from gateway.config import to_policy
from gateway.config.loader import load
from gateway.domain.endpoint import Endpoint
from gateway.domain.endpoint import Path as NetworkPath
from gateway.ike.engine import IkeEngine
from gateway.ike.outputs import Transmit
from gateway.users.settings import UserBaseSettings
from gateway.users.store import UserBase

GATEWAY = Endpoint(ip_address("192.0.2.1"), 500)
LOAD = Endpoint(ip_address("198.51.100.9"), 500)
PATH = NetworkPath(GATEWAY, LOAD)
DEVICES = 4


def engine_of(bed: Bed, folder: Path) -> IkeEngine:
    path = folder / "gateway.toml"
    path.touch(mode=0o600)
    path.write_text(bed.toml(folder))
    config = load(path)
    users = UserBaseSettings(bed.folder / "users.toml", bed.folder / "users.key")
    return IkeEngine(
        to_policy.engine_settings(config),
        to_policy.connections(config),
        to_policy.pools(config),
        random=os.urandom,
        wall_clock=lambda: datetime.now(UTC),
        find_user=UserBase.load(users).find,
    )


@pytest.fixture(params=METHODS, ids=lambda one: str(one.name))
def method(request: pytest.FixtureRequest) -> Method:
    chosen: Method = request.param
    return replace(chosen, pairs=0, count=DEVICES)


def bed_of(method: Method, folder: Path) -> tuple[Bed, Credentials]:
    nowhere: Any = None
    bed = Bed.write(nowhere, folder, method)
    own = bed.folder if method.key is not None else None
    there = NetworkPath(LOAD, GATEWAY)
    return bed, replace(Credentials.load(own, NAME, PSK, USER, PASSWORD), path=there)


def exchange(engine: IkeEngine, one: Initiator, message: bytes) -> list[bytes]:
    """What the initiator says to the engine's answers."""
    engine.receive(message, PATH, 0.0)
    answers = [out.message for out in engine.take_outputs() if isinstance(out, Transmit)]
    said = [one.receive(answer) for answer in answers]
    return [message for message in said if message is not None]


def test_every_method_of_the_load_gets_an_sa(method: Method, tmp_path: Path) -> None:
    bed, credentials = bed_of(method, tmp_path)
    engine = engine_of(bed, tmp_path)
    for number in range(DEVICES):
        one = INITIATORS[method.name](number, credentials)
        waiting = [one.start()]
        while waiting:  # in IKEv1 the initiator has the last word
            waiting += exchange(engine, one, waiting.pop())
        assert one.done
    established = [sa for sa in engine.ike_sas(0.0) if sa.state == "established"]
    assert len(established) == DEVICES
    assert len(engine.child_sa_names()) == DEVICES
    assert len({sa.peer for sa in established}) == DEVICES


def test_a_refusal_is_told(tmp_path: Path) -> None:
    method = replace(METHODS[0], pairs=0, count=1)
    bed, _ = bed_of(method, tmp_path)
    engine = engine_of(bed, tmp_path)
    wrong = Credentials.load(None, NAME, PSK + "!", USER, PASSWORD)
    one = INITIATORS["psk"](0, wrong)
    (proof,) = exchange(engine, one, one.start())
    with pytest.raises(Failed, match="the response has"):
        exchange(engine, one, proof)
    assert not one.done
