"""tshark as the judge of what we send: its form, and the password as a server reads it."""

import itertools
import shutil
import subprocess
from ipaddress import ip_address
from typing import Any

import pytest
from radius_server import ASKER, ONE, SECRET, answer, attribute, eap

from gateway.domain.endpoint import Endpoint
from gateway.domain.user_auth import EapQuestion, PasswordQuestion, Session
from gateway.radius.accounting import Record, Traffic
from gateway.radius.accounting_client import AccountingClient
from gateway.radius.attributes import StatusType, TerminateCause
from gateway.radius.client import RadiusClient
from gateway.radius.settings import RadiusServer, RadiusSettings

pytestmark = pytest.mark.skipif(
    not (shutil.which("tshark") and shutil.which("text2pcap")), reason="needs tshark and text2pcap"
)

SETTINGS = RadiusSettings("office", (RadiusServer(ONE, SECRET, Endpoint(ONE.address, 1813)),))


def judge(tmp_path: Any, port: Any, packets: Any) -> Any:
    """What tshark shows of the packets, with the secret."""
    dump, capture = tmp_path / "dump.txt", tmp_path / "capture.pcap"
    lines = []
    for packet in packets:
        lines += [f"{at:06x} {packet[at : at + 16].hex(' ')}" for at in range(0, len(packet), 16)]
    dump.write_text("\n".join(lines) + "\n")
    subprocess.run(["text2pcap", "-q", "-u", f"40000,{port}", dump, capture], check=True)
    options = [
        f"radius.shared_secret:{SECRET.decode()}",
        "radius.validate_authenticator:TRUE",
        "radius.show_length:TRUE",
    ]
    command = ["tshark", "-n", "-V", "-r", str(capture)]
    command += [word for option in options for word in ("-o", option)]
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "LC_ALL": "C.UTF-8"}
    run = subprocess.run(
        command, check=True, capture_output=True, text=True, timeout=60, env=environment
    )
    shown = run.stdout
    print(shown)
    assert "Malformed" not in shown
    assert "Expert Info (Error" not in shown
    assert "incorrect" not in shown.lower()
    return shown


def test_access_requests(tmp_path: Any) -> None:
    numbers = itertools.count(1)
    client = RadiusClient(SETTINGS, lambda size: next(numbers).to_bytes(size))
    client.ask(1, PasswordQuestion("office", "anna", b"a long secret of 29 characters", ASKER), 0.0)
    response = eap(2, 5, b"\x1a" + bytes(range(256)) * 2)
    client.ask(2, EapQuestion("office", "anna", response, b"", ASKER), 0.0)
    asker = ASKER.__class__("road", Endpoint(ip_address("2001:db8::1"), 500), ASKER.remote, "s")
    client.ask(3, PasswordQuestion("office", "anna", b"pw", asker), 0.0)
    shown = judge(tmp_path, 1812, [output.data for output in client.take_outputs()])
    assert shown.count("Code: Access-Request (1)") == 3
    assert "Decrypted: a long secret of 29 characters" in shown
    assert "NAS-IPv6-Address: 2001:db8::1" in shown
    assert "Last Segment[3]" in shown
    assert "NAS-Port-Type: Virtual (5)" in shown


def test_accounting_requests(tmp_path: Any) -> None:
    client = AccountingClient(SETTINGS)
    session = Session(
        "s1", "office", "anna", "road", ASKER.local, ASKER.remote, ip_address("10.9.0.4"), (b"c",)
    )
    traffic = Traffic(2**33 + 1, 2, 3, 4)
    client.add(Record(StatusType.START, 0.0, 1_700_000_000, None, session), 0.0)
    cause = TerminateCause.USER_REQUEST
    other = session.__class__("s2", *[getattr(session, n) for n in session.__slots__[1:8]])
    client.add(Record(StatusType.STOP, 0.0, 1, None, other, traffic, 60, cause), 0.0)
    shown = judge(tmp_path, 1813, [output.data for output in client.take_outputs()])
    assert shown.count("Code: Accounting-Request (4)") == 2
    assert "Acct-Input-Gigawords" in shown
    assert "2023" in shown


def test_the_judge_sees_what_is_broken(tmp_path: Any) -> None:
    packet = bytes((1, 0, 0, 24)) + bytes(16) + bytes((1, 1, 0, 0))
    with pytest.raises(AssertionError):
        judge(tmp_path, 1812, [packet])


def test_the_server_of_our_tests_speaks_radius_too(tmp_path: Any) -> None:
    client = RadiusClient(SETTINGS, bytes)
    client.ask(1, PasswordQuestion("office", "anna", b"pw", ASKER), 0.0)
    (sent,) = client.take_outputs()
    made = answer(sent.data, 2, attribute(6, bytes((0, 0, 0, 2))) + attribute(11, b"staff"))
    assert "Access-Accept" in judge(tmp_path, 1812, [sent.data, made])
