"""A bundle for a bug report has no secret in it, wherever one was."""

import asyncio
import base64
import io
import json
import tarfile
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, SecretStr

from gateway.appliance.failures import Failures
from gateway.appliance.observation import support
from gateway.appliance.observation.redaction import (
    HIDDEN,
    document_without_secrets,
    without_secrets,
)
from gateway.appliance.observation.register import Register
from gateway.control.protocol import OPERATIONS, ControlError, Request
from gateway.domain.event import Event, Severity

PSK = "a shared secret, with spaces"
PASSWORD = "hunter2-hunter2"
TOKEN = "gw_" + "Ab3-_x" * 7 + "Z"
KEY = "0x" + "5e" * 36
PEM = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC\n-----END PRIVATE KEY-----"
SCRYPT = "$scrypt$ln=14,r=8,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNo"
LINK = "/d/9Zk3_TTaa11bb22cc33dd"
SECRETS = (PSK, PASSWORD, TOKEN, KEY, KEY[2:], "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC", LINK[3:])


class Section(BaseModel):
    psk: SecretStr = SecretStr(PSK)
    password: SecretStr = SecretStr(PASSWORD)
    url: str = f"postgresql://gateway:{PASSWORD}@db.example.com/gateway?password={PASSWORD}"
    mtu: int = 1400
    note: str = f"do not lose {PSK}"


class Config(BaseModel):
    connections: dict[str, Section] = {"staff": Section()}
    keys: bytes = bytes.fromhex(KEY[2:])


@pytest.fixture
def side(monkeypatch: pytest.MonkeyPatch) -> support.Support:
    outputs = {
        "xfrm-states": f"src 192.0.2.1\n\tauth-trunc hmac(sha256) {KEY} 128\n\tenc cbc(aes) {KEY}",
        "nft": f"# token={TOKEN}\n{PEM}\n",
    }
    commands = {name: (name,) for name in outputs}
    monkeypatch.setattr(support, "COMMANDS", commands)
    monkeypatch.setattr(support, "_output_of", lambda command: outputs[command[0]])
    monkeypatch.setattr(support, "READ", ("/proc/version",))
    failures = Failures()
    fields = {"peer": "ann", "remote": "x:1", "step": "IKE_AUTH", "reason": f"{PASSWORD} is wrong"}
    failures(Event("handshake_failed", "", Severity.WARNING, fields))
    register = Register()
    register.see("ann@example.com")
    events = [
        {"text": f"Authorization: Bearer {TOKEN}", "fields": {"token": TOKEN, "psk": PSK}},
        {
            "text": f"GET {LINK} password={PASSWORD}",
            "fields": {"cookie": f"__Host-session={TOKEN}"},
        },
        {
            "text": PEM,
            "fields": {"hash": SCRYPT, "deep": [{"private_key": PEM, "spi": "0x12345678"}]},
        },
    ]

    async def answer(**_: Any) -> dict[str, str]:
        return {"text": f'gateway_up 1\ngateway_x{{name="{TOKEN}"}} 1\n'}

    observed = SimpleNamespace(
        register=register, metrics=SimpleNamespace(answer=answer), last_events=events
    )
    around = SimpleNamespace(
        config=Config,
        dataplane=None,
        facts=lambda: {"name": "gw", "api": {"token": TOKEN}, "log": [f"secret: {PASSWORD}"]},
        failures=failures,
        wall_clock=lambda: 1_700_000_000.0,
        random=bytes,
    )
    return support.Support(observed, around)  # type: ignore[arg-type]


def _request(**arguments: Any) -> Request:
    operation = OPERATIONS["support"]
    return Request(operation, operation.check(arguments))


def _files(side: support.Support) -> dict[str, str]:
    piece: Any = asyncio.run(side.answer(_request()))
    octets = base64.b64decode(piece["content"])
    assert piece["next"] is None
    assert piece["octets"] == len(octets)
    with tarfile.open(fileobj=io.BytesIO(octets)) as tar:
        return {
            one.name.partition("/")[2]: tar.extractfile(one).read().decode()  # type: ignore[union-attr]
            for one in tar.getmembers()
        }


def test_secrets_planted_everywhere_are_nowhere_in_the_bundle(side: support.Support) -> None:
    files = _files(side)
    for name, text in files.items():
        for secret in (*SECRETS, SCRYPT):
            assert secret not in text, f"{secret} in {name}"
    assert set(files) == {
        "README.txt",
        "versions.json",
        "config.json",
        "status.json",
        "devices.json",
        "failures.json",
        "events.json",
        "metrics.txt",
        "kernel/xfrm-states.txt",
        "kernel/nft.txt",
        "host/proc-version",
    }
    config = json.loads(files["config.json"])
    assert config["connections"]["staff"]["mtu"] == 1400
    assert "db.example.com" in config["connections"]["staff"]["url"]
    assert json.loads(files["devices.json"])[0]["identity"] == "ann@example.com"
    events = json.loads(files["events.json"])
    assert events[2]["fields"]["deep"][0] == {"private_key": HIDDEN, "spi": "0x12345678"}
    assert "gateway_up 1" in files["metrics.txt"]


def test_a_bundle_is_read_in_pieces_and_then_forgotten(
    side: support.Support, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(support, "CHUNK_OCTETS", 100)

    async def read() -> None:
        first: Any = await side.answer(_request())
        octets, following = base64.b64decode(first["content"]), first["next"]
        while following is not None:
            piece: Any = await side.answer(_request(id=first["id"], offset=following))
            octets += base64.b64decode(piece["content"])
            following = piece["next"]
        assert len(octets) == first["octets"] > 100
        with pytest.raises(ControlError):
            await side.answer(_request(id="f" * 16, offset=0))

    asyncio.run(read())


@given(st.text(min_size=8, max_size=60, alphabet=st.characters(codec="ascii")), st.text())
def test_a_known_secret_never_gets_through(secret: str, around: str) -> None:
    text = without_secrets(f"{around}{secret}{around}", [secret])
    assert secret not in text or secret in HIDDEN


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=10,
    )
)
def test_any_document_goes_through(value: object) -> None:
    json.dumps(document_without_secrets(value))


def test_what_is_no_secret_stays() -> None:
    text = "ESP SPI 0xc0ffee12, 10.9.0.1/32, certificate CN=ann, key_file /etc/gateway/key.pem"
    assert without_secrets(text) == text
    assert document_without_secrets({"key_file": "/a", "key_exchanges_per_s": 5, "psk": "x"}) == {
        "key_file": "/a",
        "key_exchanges_per_s": 5,
        "psk": HIDDEN,
    }
