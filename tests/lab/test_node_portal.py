"""The way to a captive portal's page: one program gets there, and nothing else of the user's."""

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from ipaddress import IPv4Address
from typing import Self

import pytest
from node_bed import GATEWAY, I_HA, PORTAL_PROBES, SERVER, NodeBed, Watch, node_bed

from gateway.control.protocol import ControlError
from gateway.lab import netns
from gateway.lab.mobility.portal import LIE, CaptivePortal
from gateway.lab.processes import wait_until
from gateway.mobile_host.leases import Leases

pytestmark = pytest.mark.kernel

HOTEL = "access2"
LOGIN_PORT = 8002
LOGIN_ADDRESS = IPv4Address(LIE)
NAME_SERVERS = Leases().name_servers(0, HOTEL)
"""Those of the machine, which the portal answers for; a network without any has addresses."""
LOGIN_HOST = "login.portal.example" if NAME_SERVERS else str(LOGIN_ADDRESS)
ANY_HOST = "example.com" if NAME_SERVERS else str(LOGIN_ADDRESS)
SEEN = (
    (LOGIN_ADDRESS, LOGIN_PORT),
    (LOGIN_ADDRESS, 80),
    *((server, 53) for server in NAME_SERVERS),
)
RULES = f"""
table ip login {{
    chain page {{
        type nat hook prerouting priority dstnat; policy accept;
        iifname "device" tcp dport {LOGIN_PORT} redirect to :{LOGIN_PORT}
    }}
}}
"""


@pytest.fixture(scope="module")
def shared() -> Iterator[NodeBed]:
    with node_bed() as bed:
        yield bed


@pytest.fixture
def bed(shared: NodeBed) -> Iterator[NodeBed]:
    shared.go("home")
    yield shared
    shared.node.stop()


class LoginPage:
    """What the portal redirects to; a POST with the room's number lets the guest in."""

    def __init__(self, bed: NodeBed, portal: CaptivePortal) -> None:
        self._bed, self._portal = bed, portal
        self.requests: list[bytes] = []

    def __enter__(self) -> Self:
        namespace = self._bed.lab.namespace(HOTEL)
        self._socket = netns.socket_in(namespace, socket.AF_INET, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(("0.0.0.0", LOGIN_PORT))
        self._socket.listen(8)
        self._bed.lab.nft(HOTEL, RULES)
        # It is one of the device's own network, so somebody has to answer for it.
        self._bed.lab.run(HOTEL, ["ip", "address", "add", f"{LOGIN_ADDRESS}/32", "dev", "device"])
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bed.lab.nft(HOTEL, "add table ip login; delete table ip login")
        self._bed.lab.run(HOTEL, ["ip", "address", "del", f"{LOGIN_ADDRESS}/32", "dev", "device"])
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                self._answer(connection)

    def _answer(self, connection: socket.socket) -> None:
        connection.settimeout(5)
        request = connection.recv(4096)
        while request.startswith(b"POST") and not request.endswith(b"room=101"):
            request += connection.recv(4096)
        self.requests.append(request)
        text = b"welcome" if request.startswith(b"POST") else b"your room, please"
        size = str(len(text)).encode()
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: " + size + b"\r\n\r\n" + text)
        if text == b"welcome":
            self._portal.let_in()


def fetch(bed: NodeBed, port: int, request: str) -> bytes:
    """What a program on the device gets from the proxy, whole."""
    namespace = bed.lab.namespace("device")
    with netns.socket_in(namespace, socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.settimeout(20)
        sock.connect(("127.0.0.1", port))
        sock.sendall(request.encode())
        found = b""
        with contextlib.suppress(ConnectionResetError):
            while more := sock.recv(4096):
                found += more
        return found


def get(url: str) -> str:
    return f"GET {url} HTTP/1.1\r\nHost: x\r\n\r\n"


def closed(bed: NodeBed) -> str:
    """Why the way was closed the last time."""
    return str(bed.node.events("portal_way_closed")[-1]["reason"])


def refused_way(bed: NodeBed) -> str:
    with pytest.raises(ControlError) as refused:
        bed.node.call("node-portal", uid=0)
    return refused.value.message


def test_somebody_logs_in_and_the_node_goes_on(bed: NodeBed) -> None:
    bed.run_node("vf", "vc", "cvf", at="home")
    assert "no login is needed" in refused_way(bed)
    with (
        CaptivePortal(bed.lab, HOTEL) as portal,
        LoginPage(bed, portal) as page,
        Watch(bed, (*PORTAL_PROBES, *SEEN)) as watch,
    ):
        moved_at = time.time()
        bed.go(HOTEL)
        found = bed.node.wait_for(lambda one: "gateway mn portal" in one["why"], "the portal")
        assert found["mode"] == "held"
        way = bed.node.call("node-portal", uid=os.getuid())
        assert (way["open"], way["interface"]) == (True, HOTEL)
        port = int(way["port"])

        assert fetch(bed, port, get(f"http://{ANY_HOST}/")).startswith(b"HTTP/1.1 302 ")
        login = f"http://{LOGIN_HOST}:{LOGIN_PORT}/pay"
        assert fetch(bed, port, get(login)).endswith(b"your room, please")
        first = f"GET /pay HTTP/1.1\r\nHost: {LOGIN_HOST}:{LOGIN_PORT}\r\n"
        assert page.requests[0].startswith(first.encode())
        for elsewhere in (GATEWAY, I_HA, "127.0.0.1"):
            answer = fetch(bed, port, get(f"http://{elsewhere}/"))
            assert answer.startswith(b"HTTP/1.1 403 "), elsewhere
        assert fetch(bed, port, f"CONNECT {LOGIN_ADDRESS}:25 HTTP/1.1\r\n\r\n").startswith(
            b"HTTP/1.1 403 "
        )
        # Whose processes may use it is asked of the kernel.
        other = bed.node.call("node-portal", uid=os.getuid() + 1)
        assert fetch(bed, int(other["port"]), get(login)) == b""
        port = int(bed.node.call("node-portal", uid=os.getuid())["port"])

        watch.tries()  # the user's packets wait all the while
        posted = f"POST {login} HTTP/1.1\r\nHost: x\r\nContent-Length: 8\r\n\r\nroom=101"
        assert fetch(bed, port, posted).endswith(b"welcome")
        bed.node.wait_for_mode("vf", "vc", "cvf", timeout_s=60)
        assert watch.leaks_outside(moved_at) == []
        kept = bed.node.call("node-portal", uid=os.getuid(), keep=True)
        assert kept["open"] is False
        with pytest.raises(ConnectionRefusedError):
            fetch(bed, port, get(login))
    assert bed.ping("device", SERVER)


def test_the_way_ends_with_the_command(bed: NodeBed) -> None:
    """A command that was killed asks no more; one that stops says so."""
    bed.run_node("vf", "vc", "cvf", at="home")
    with CaptivePortal(bed.lab, HOTEL):
        bed.go(HOTEL)
        bed.node.wait_for(lambda one: "gateway mn portal" in one["why"], "the portal")
        port = int(bed.node.call("node-portal", uid=0)["port"])
        bed.node.call("node-portal-stop")
        with pytest.raises(ConnectionRefusedError):
            fetch(bed, port, get("http://example.com/"))
        bed.node.call("node-portal", uid=0)
        wait_until(lambda: "the command ended" in closed(bed), 30, "the end of the lease")
