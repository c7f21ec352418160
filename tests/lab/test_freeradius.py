"""Debian's freeradius on loopback as judge of the RADIUS client, its keys and its accounting."""

# planes: portable

import asyncio
import os
import re
import socket
import subprocess
import time
from ipaddress import ip_address
from typing import Any

import pytest

from gateway.appliance.accounting import AccountingService
from gateway.appliance.users import UserService
from gateway.dataplane.interface import Usage
from gateway.domain.endpoint import Endpoint
from gateway.domain.user_auth import (
    Accepted,
    Asker,
    Challenged,
    EapQuestion,
    PasswordQuestion,
    Rejected,
    Session,
    Unavailable,
)
from gateway.eap.method import EapMethod
from gateway.eap.peer import EapPeer, Login
from gateway.eap.server import Outcome
from gateway.eap.tls import TlsParty
from gateway.ike.outputs import AskAboutUser
from gateway.lab.freeradius import CONFIGURATION, PROGRAM, RadiusUser
from gateway.lab.pki import Authority
from gateway.radius.settings import RadiusServer, RadiusSettings

pytestmark = pytest.mark.skipif(
    not PROGRAM.exists() and not os.environ.get("GATEWAY_LAB_REQUIRED"),
    reason="freeradius is missing, `scripts/setup test` installs it",
)

LOOPBACK = ip_address("127.0.0.1")
SECRET = "correct horse battery staple"
ASKER = Asker("road", Endpoint(LOOPBACK, 4500), Endpoint(ip_address("203.0.113.7"), 40000), "s1")
USERS = (
    RadiusUser(
        "anna",
        "s\u00fc\u00dfes Geheimnis",
        (
            "Framed-IP-Address := 10.9.0.4",
            'Filter-Id := "staff"',
            'Class := "accounting-code-7"',
            "Session-Timeout := 3600",
            "Acct-Interim-Interval := 120",
        ),
    ),
    RadiusUser("device-7", None, ('Filter-Id := "devices"',)),
    RadiusUser("admin", "x" * 100, ("Service-Type := Administrative-User",)),
)
READY_S = 40.0


class Running:
    """A freeradius of our own: its folder and its ports."""

    def __init__(self, folder: Any, authority: Any, authentication: Any, accounting: Any) -> None:
        self.folder = folder
        self.authority = authority
        self.server = RadiusServer(
            Endpoint(LOOPBACK, authentication), SECRET.encode(), Endpoint(LOOPBACK, accounting)
        )

    def records(self) -> Any:
        path = self.folder / "detail"
        text = path.read_text() if path.exists() else ""
        blocks = re.split(r"\n\s*\n", text)
        found = [
            dict(re.findall(r'^\t([\w-]+) = "?(.*?)"?$', block, re.MULTILINE)) for block in blocks
        ]
        return [record for record in found if record]


def free_ports() -> Any:
    """Two UDP ports that nobody uses now."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as two,
    ):
        one.bind(("127.0.0.1", 0))
        two.bind(("127.0.0.1", 0))
        return one.getsockname()[1], two.getsockname()[1]


@pytest.fixture(scope="module")
def freeradius(tmp_path_factory: Any) -> Any:
    folder = tmp_path_factory.mktemp("freeradius")
    authority = Authority()
    authority.issue("radius.example.org").write(folder, "own")
    (folder / "ca.crt").write_bytes(authority.root.certificate_pem())
    (folder / "users").write_text("".join(user.entry() for user in USERS))
    (folder / "dictionary").write_text("")
    authentication, accounting = free_ports()
    text = CONFIGURATION.format(
        folder=folder,
        address=LOOPBACK,
        client=LOOPBACK,
        secret=SECRET,
        authentication_port=authentication,
        accounting_port=accounting,
    )
    (folder / "radiusd.conf").write_text(text)
    log = folder / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [str(PROGRAM), "-f", "-l", "stdout", "-d", str(folder), "-n", "radiusd"],
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    end = time.monotonic() + READY_S
    while "Ready to process requests" not in log.read_text(errors="replace"):
        assert process.poll() is None, log.read_text(errors="replace")[-2000:]
        assert time.monotonic() < end, log.read_text(errors="replace")[-2000:]
        time.sleep(0.05)
    yield Running(folder, authority, authentication, accounting)
    process.terminate()
    process.wait(20)
    print(log.read_text(errors="replace")[-4000:])


class Bench:
    """The service with its answers."""

    def __init__(self, *servers: Any) -> None:
        self.settings = RadiusSettings(
            "office", servers, retransmit_first_s=0.5, tries=2, deadline_s=20.0
        )
        self.events = []
        self.waiting = {}
        self.ticket = 0
        self.service = UserService(
            None, {"office": self.settings}, answer=self._answered, emit=self.events.append
        )

    def _answered(self, ticket: Any, answer: Any) -> None:
        self.waiting.pop(ticket).set_result(answer)

    async def ask(self, question: Any) -> Any:
        self.ticket += 1
        future = self.waiting[self.ticket] = asyncio.get_running_loop().create_future()
        self.service.ask(AskAboutUser(self.ticket, question))
        async with asyncio.timeout(60):
            return await future

    async def password(self, user: Any, password: Any) -> Any:
        return await self.ask(PasswordQuestion("office", user, password.encode(), ASKER))

    async def eap(self, login: Any) -> Any:
        """The client speaks through us with the server; returns its last step and our answer."""
        peer = EapPeer(login, os.urandom)
        packet, state = peer.receive(b"\1\0\0\5\1").send, b""
        while True:
            question = EapQuestion("office", login.name, packet, state, ASKER)
            answer = await self.ask(question)
            if not isinstance(answer, Challenged):
                return peer.receive(answer.eap) if getattr(answer, "eap", b"") else None, answer
            step = peer.receive(answer.eap)
            assert step.send is not None, step.reason
            packet, state = step.send, answer.state


def test_passwords(freeradius: Any) -> None:
    async def main() -> None:
        bench = Bench(freeradius.server)
        assert await bench.password("anna", "s\u00fc\u00dfes Geheimnis") == Accepted(
            "anna",
            groups=("staff", "accounting-code-7"),
            inner_address=ip_address("10.9.0.4"),
            radius_class=(b"accounting-code-7",),
            session_timeout_s=3600,
            interim_interval_s=120.0,
        )
        assert isinstance(await bench.password("anna", "wrong"), Rejected)
        assert isinstance(await bench.password("zoe", "wrong"), Rejected)
        admin = await bench.password("admin", "x" * 100)
        assert isinstance(admin, Rejected)
        assert "Service-Type 6" in admin.reason
        assert bench.events == []
        bench.service.stop()

    asyncio.run(main())


@pytest.mark.parametrize("method", [EapMethod.MSCHAPV2, EapMethod.GTC])
def test_eap_methods_and_their_keys(freeradius: Any, method: Any) -> None:
    async def main() -> None:
        bench = Bench(freeradius.server)
        right = Login("anna", (method,), "s\u00fc\u00dfes Geheimnis".encode())
        step, answer = await bench.eap(right)
        assert isinstance(answer, Accepted), answer
        assert step.outcome is Outcome.SUCCESS
        assert answer.msk == step.msk
        assert len(answer.msk) == (64 if method.makes_msk else 0)
        assert answer.groups == ("staff", "accounting-code-7")
        step, answer = await bench.eap(Login("anna", (method,), b"wrong"))
        assert isinstance(answer, Rejected)
        assert step is None or step.outcome is Outcome.FAILURE
        bench.service.stop()

    asyncio.run(main())


def test_eap_tls_with_its_fragments_and_key(freeradius: Any) -> None:
    async def main() -> None:
        bench = Bench(freeradius.server)
        root = freeradius.authority.root.certificate
        device = freeradius.authority.issue("device-7")
        party = TlsParty([device.certificate], device.key, [root])
        step, answer = await bench.eap(Login("device-7", (EapMethod.TLS,), tls=party))
        assert isinstance(answer, Accepted), answer
        assert step.outcome is Outcome.SUCCESS
        assert answer.msk == step.msk
        assert len(answer.msk) == 64
        stranger = Authority().issue("device-7")
        party = TlsParty([stranger.certificate], stranger.key, [root])
        step, answer = await bench.eap(Login("device-7", (EapMethod.TLS,), tls=party))
        assert isinstance(answer, Rejected)
        bench.service.stop()

    asyncio.run(main())


def test_another_secret_lets_nobody_in_and_says_why(freeradius: Any) -> None:
    async def main() -> None:
        own = RadiusServer(freeradius.server.authentication, b"another secret")
        bench = Bench(own)
        answer = await bench.password("anna", "s\u00fc\u00dfes Geheimnis")
        assert isinstance(answer, Unavailable)
        (down,) = [event for event in bench.events if event.name == "radius_server_down"]
        assert "same secret" in down.text
        bench.service.stop()

    asyncio.run(main())


def test_failover_to_the_server_that_runs(freeradius: Any) -> None:
    async def main() -> None:
        dead = RadiusServer(Endpoint(LOOPBACK, free_ports()[0]), b"secret")
        bench = Bench(dead, freeradius.server)
        _, answer = await bench.eap(
            Login("anna", (EapMethod.MSCHAPV2,), "s\u00fc\u00dfes Geheimnis".encode())
        )
        assert isinstance(answer, Accepted)
        bench.service.stop()

    asyncio.run(main())


def test_accounting(freeradius: Any) -> None:
    async def main() -> None:
        events = []
        settings = RadiusSettings("office", (freeradius.server,), nas_identifier="gw-1")
        usage = {7: Usage(2**32 + 5, 10, 20, 30, None)}
        service = AccountingService(
            {"office": settings}, usage=usage.get, emit=events.append, local=LOOPBACK
        )
        service.start()
        service.child_installed(7, "s1")
        service.session_opened(
            Session(
                "s1",
                "office",
                "anna",
                "road",
                ASKER.local,
                ASKER.remote,
                ip_address("10.9.0.4"),
                (b"accounting-code-7",),
            )
        )
        service.child_removed(7)
        service.session_closed("s1", "the peer deleted it")
        await service.stop(wait_s=20.0)
        assert events == []

    asyncio.run(main())
    on, start, stop, off = freeradius.records()
    assert [r["Acct-Status-Type"] for r in (on, start, stop, off)] == [
        "Accounting-On",
        "Start",
        "Stop",
        "Accounting-Off",
    ]
    assert start["User-Name"] == "anna"
    assert start["NAS-Identifier"] == "gw-1"
    assert start["NAS-Port-Type"] == "Virtual"
    assert start["Calling-Station-Id"] == "203.0.113.7"
    assert start["Framed-IP-Address"] == "10.9.0.4"
    assert bytes.fromhex(start["Class"][2:]) == b"accounting-code-7"
    assert start["Acct-Session-Id"] == stop["Acct-Session-Id"] == "s1"
    assert stop["Acct-Input-Octets"] == "5"
    assert stop["Acct-Input-Gigawords"] == "1"
    assert stop["Acct-Output-Packets"] == "30"
    assert stop["Acct-Terminate-Cause"] == "User-Request"
    assert start["Acct-Delay-Time"] == "0"
