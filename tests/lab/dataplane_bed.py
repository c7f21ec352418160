"""Three namespaces and static keys: a device, the gateway's kernel, and the intranet behind it.

    device 192.0.2.10 (.11, .12) -- 192.0.2.1 gateway 10.1.0.1 -- 10.1.0.2 intranet

The device is the kernel's own IPsec, set up with iproute2, or where the kernel has none a forwarder
in its namespace, or the ESP that the test makes itself.
"""

import contextlib
import ctypes
import dataclasses
import itertools
import os
import select
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any, Self

from gateway.dataplane.kernel.dataplane import KernelDataplane
from gateway.dataplane.kernel.settings import KernelSettings
from gateway.domain.checksum import internet_checksum
from gateway.domain.child_sa import (
    ChildSa,
    Encryption,
    EspKeys,
    EspSuite,
    Integrity,
    TrafficSelector,
)
from gateway.domain.endpoint import Endpoint, IpAddress
from gateway.lab import held, planes
from gateway.lab.kernel import has_esp

GATEWAY, DEVICE, INTRANET = "dpt-gw", "dpt-dev", "dpt-in"
NAMES = (GATEWAY, DEVICE, INTRANET)
GATEWAY_OUTER = ip_address("192.0.2.1")
DEVICE_OUTER = ip_address("192.0.2.10")
DEVICE_INNER = ip_address("10.9.0.1")
INTRANET_HOST = ip_address("10.1.0.2")
POOL = ip_network("10.9.0.0/16")
INTRANET_NET = ip_network("10.1.0.0/24")

GCM = EspSuite(Encryption.AES_GCM_16, 256, Integrity.NONE, esn=False)
GCM_ESN = EspSuite(Encryption.AES_GCM_16, 128, Integrity.NONE, esn=True)
CHACHA = EspSuite(Encryption.CHACHA20_POLY1305, 256, Integrity.NONE, esn=True)
CBC = EspSuite(Encryption.AES_CBC, 256, Integrity.HMAC_SHA2_256_128, esn=False)
CBC_384 = EspSuite(Encryption.AES_CBC, 128, Integrity.HMAC_SHA2_384_192, esn=True)
CBC_512 = EspSuite(Encryption.AES_CBC, 256, Integrity.HMAC_SHA2_512_256, esn=True)

ANSWER_S = 1.0
_MISMATCHES = {"XfrmInStateMismatch", "XfrmInTmplMismatch", "XfrmInNoPols"}
_CLONE_NEWNET = 0x40000000
_LIBC = ctypes.CDLL(None, use_errno=True)


def run(*argv: object, check: bool = True, stdin: str = "") -> str:
    words = [str(a) for a in argv]
    done = subprocess.run(words, capture_output=True, text=True, check=False, input=stdin)
    if check and done.returncode:
        raise AssertionError(f"{words}: {done.stderr or done.stdout}")
    return done.stdout + done.stderr


def inside(name: str, *argv: object, check: bool = True) -> str:
    """Run a command there; ip enters by itself, which is cheaper."""
    if argv[0] == "ip":
        return run("ip", "-n", name, *argv[1:], check=check)
    with entered(name):
        return run(*argv, check=check)


@contextlib.contextmanager
def entered(name: str) -> Iterator[None]:
    """This thread in another network namespace."""
    with (
        Path("/proc/thread-self/ns/net").open("rb") as home,
        Path(f"/run/netns/{name}").open("rb") as there,
    ):
        assert _LIBC.setns(there.fileno(), _CLONE_NEWNET) == 0
        try:
            yield
        finally:
            assert _LIBC.setns(home.fileno(), _CLONE_NEWNET) == 0


def wait_for(condition: Callable[[], Any], what: str, bound_s: float = 10.0) -> Any:
    end = time.monotonic() + bound_s
    while not (found := condition()):
        assert time.monotonic() < end, f"no {what} within {bound_s} s"
        time.sleep(0.01)
    return found


_numbers = itertools.count(os.getpid())


def echoes(name: str, source: object, target: IpAddress, count: int = 3, size: int = 56) -> int:
    """How many echo requests are answered, the last one within :data:`ANSWER_S`.

    ping gives up on the last one after two round trips: too soon on a busy machine.
    """
    with entered(name):
        sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    number, answered = next(_numbers) & 0xFFFF, set()
    with sock:
        sock.bind((str(source), 0))
        for sequence in range(1, count + 1):
            body = struct.pack("!BBHHH", 8, 0, 0, number, sequence) + bytes(size)
            checksum = struct.pack("!H", internet_checksum(body))
            sock.sendto(body[:2] + checksum + body[4:], (str(target), 0))
            end = time.monotonic() + (ANSWER_S if sequence == count else 0.01)
            while len(answered) < count and (left := end - time.monotonic()) > 0:
                sock.settimeout(left)
                with contextlib.suppress(TimeoutError):
                    packet = sock.recv(65535)
                    kind, _, _, whose, which = struct.unpack_from("!BBHHH", packet, 20)
                    if (kind, whose) == (0, number) and packet[12:16] == target.packed:
                        answered.add(which)
    return len(answered)


def keys_for(suite: EspSuite, seed: int) -> EspKeys:
    octets = suite.key_bits // 8 + (4 if suite.encryption.is_aead else 0)
    sizes = {
        Integrity.NONE: 0,
        Integrity.HMAC_SHA2_256_128: 32,
        Integrity.HMAC_SHA2_384_192: 48,
        Integrity.HMAC_SHA2_512_256: 64,
    }
    return EspKeys(bytes([seed] * octets), bytes([seed + 1] * sizes[suite.integrity]))


def child_sa(suite: EspSuite = GCM, **changes: Any) -> ChildSa:
    fields: dict[str, Any] = {
        "spi_in": 0x1001,
        "spi_out": 0x2001,
        "reqid": 1,
        "suite": suite,
        "keys_in": keys_for(suite, 10),
        "keys_out": keys_for(suite, 20),
        "local": Endpoint(GATEWAY_OUTER, 4500),
        "remote": Endpoint(DEVICE_OUTER, 4500),
        "udp_encapsulation": False,
        "local_ts": (TrafficSelector.of_network(INTRANET_NET),),
        "remote_ts": (TrafficSelector.of_address(DEVICE_INNER),),
    }
    return ChildSa(**{**fields, **changes})


def algorithm_words(suite: EspSuite, keys: EspKeys) -> list[str]:
    """For ``ip xfrm state add``."""
    key = "0x" + keys.encryption.hex()
    if suite.encryption is Encryption.AES_GCM_16:
        return ["aead", "rfc4106(gcm(aes))", key, "128"]
    if suite.encryption is Encryption.CHACHA20_POLY1305:
        return ["aead", "rfc7539esp(chacha20,poly1305)", key, "128"]
    name, bits = {
        Integrity.HMAC_SHA2_256_128: ("hmac(sha256)", "128"),
        Integrity.HMAC_SHA2_384_192: ("hmac(sha384)", "192"),
        Integrity.HMAC_SHA2_512_256: ("hmac(sha512)", "256"),
    }[suite.integrity]
    integrity = "0x" + keys.integrity.hex()
    return ["auth-trunc", name, integrity, bits, "enc", "cbc(aes)", key]


class UserDevice:
    """The other end of child SAs, in a forwarder in a namespace whose kernel has no ESP."""

    def __init__(self, name: str, inner: IpAddress) -> None:
        """``inner`` is the source of what it sends to IPv4 networks."""
        self._name, self._inner = name, inner
        self._spis: list[int] = []
        with entered(name):
            self._forwarder = planes.plane().forwarder()

    def add(self, sa: ChildSa) -> None:
        """Its end of ``sa``, with routes to what is behind the gateway."""
        other = dataclasses.replace(
            sa,
            spi_in=sa.spi_out,
            spi_out=sa.spi_in,
            keys_in=sa.keys_out,
            keys_out=sa.keys_in,
            local=sa.remote,
            remote=sa.local,
            local_ts=sa.remote_ts,
            remote_ts=sa.local_ts,
            follow_endpoint=False,
            soft_packets=None,
            hard_packets=None,
            zone=0,
        )
        self._forwarder.install(other, outbound=True)
        self._commit()
        self._spis.append(other.spi_in)
        own = [one.start for one in other.local_ts if one.start == one.end] or [self._inner]
        for network in (network for one in other.remote_ts for network in one.networks()):
            sources = [f"src {one}" for one in own if one.version == network.version]
            source = sources[0] if sources else ""
            inside(self._name, "ip", *f"route replace {network} dev gw0 {source}".split())

    def move(self, sa: ChildSa, there: Endpoint) -> None:
        self._forwarder.move(sa.spi_out, there, sa.local, udp_encapsulation=sa.udp_encapsulation)
        self._commit()

    def clear(self) -> None:
        for spi in self._spis:
            self._forwarder.remove(spi)
        self._spis.clear()

    def close(self) -> None:
        with entered(self._name):
            self._forwarder.close(keep=False)

    def _commit(self) -> None:
        with entered(self._name):
            assert self._forwarder.commit() == ([], [])


class Bed:
    def __init__(self) -> None:
        self.dataplane: KernelDataplane | None = None
        self._device: UserDevice | None = None

    def up(self) -> None:
        self.down()
        run("ip", "-batch", "-", stdin="".join(f"netns add {name}\n" for name in NAMES) + f"""
            link add out0 netns {DEVICE} type veth peer name out1 netns {GATEWAY}
            link add in0 netns {INTRANET} type veth peer name in1 netns {GATEWAY}
        """)  # fmt: skip
        run("ip", "-n", GATEWAY, "-batch", "-", stdin="""
            link set lo up
            address add 192.0.2.1/24 dev out1
            address add 10.1.0.1/24 dev in1
            link set out1 up
            link set in1 up
        """)  # fmt: skip
        run("ip", "-n", DEVICE, "-batch", "-", stdin="""
            link set lo up
            address add 192.0.2.10/24 dev out0
            address add 192.0.2.11/24 dev out0
            address add 192.0.2.12/24 dev out0
            address add 10.9.0.1/32 dev lo
            link set out0 up
            route add 10.1.0.0/24 via 192.0.2.1 src 10.9.0.1
        """)  # fmt: skip
        run("ip", "-n", INTRANET, "-batch", "-", stdin="""
            link set lo up
            address add 10.1.0.2/24 dev in0
            link set in0 up
            route add default via 10.1.0.1
        """)  # fmt: skip

    def down(self) -> None:
        if self.dataplane is not None:
            with entered(GATEWAY):
                self.dataplane.close()
            self.dataplane = None
        if self._device is not None:
            self._device.close()
            self._device = None
        there = [name for name in NAMES if Path(f"/run/netns/{name}").exists()]
        for name in there:
            with entered(name):
                planes.forget()
        if there:
            run("ip", "-batch", "-", stdin="".join(f"netns del {name}\n" for name in there))

    def start(self, **changes: Any) -> KernelDataplane:
        fields: dict[str, Any] = {
            "inner_networks": (POOL,),
            "protected_networks": (INTRANET_NET,),
            "outside_interfaces": ("out1",),
        }
        with entered(GATEWAY):
            self.dataplane = planes.dataplane(KernelSettings(**{**fields, **changes}))
            self.dataplane.start()
        return self.dataplane

    def device_states(
        self, sa: ChildSa, source: object = DEVICE_OUTER, *, port: int = 4500
    ) -> None:
        """The device's end of ``sa``, replacing what it had. Replay starts anew."""
        if not has_esp():
            remote = Endpoint(ip_address(str(source)), port)
            selectors = {"local_ts": (TrafficSelector.of_network(INTRANET_NET),)}
            selectors["remote_ts"] = (TrafficSelector.of_network(POOL),)
            self.user_device(dataclasses.replace(sa, remote=remote, **selectors))
            return
        lines = ["xfrm state flush", "xfrm policy flush"]
        window = "replay-window 128 flag esn" if sa.suite.esn else "replay-window 32"
        for src, dst, spi, keys, ports in (
            (source, GATEWAY_OUTER, sa.spi_in, sa.keys_in, f"{port} 4500"),
            (GATEWAY_OUTER, source, sa.spi_out, sa.keys_out, f"4500 {port}"),
        ):
            encap = f"encap espinudp {ports} 0.0.0.0" if sa.udp_encapsulation else ""
            words = " ".join(algorithm_words(sa.suite, keys))
            lines.append(
                f"xfrm state add src {src} dst {dst} proto esp spi {spi} reqid 7 mode tunnel "
                f"{window} {words} {encap}"
            )
        for direction, src, dst, outer_src, outer_dst in (
            ("out", "10.9.0.0/16", "10.1.0.0/24", source, GATEWAY_OUTER),
            ("in", "10.1.0.0/24", "10.9.0.0/16", GATEWAY_OUTER, source),
        ):
            lines.append(
                f"xfrm policy add src {src} dst {dst} dir {direction} tmpl src {outer_src} "
                f"dst {outer_dst} proto esp reqid 7 mode tunnel"
            )
        run("ip", "-n", DEVICE, "-batch", "-", stdin="\n".join(lines) + "\n")

    def user_device(self, sa: ChildSa) -> None:
        """The device's end of ``sa`` in a forwarder of its own."""
        if self._device is None:
            self._device = UserDevice(DEVICE, DEVICE_INNER)
        self._device.clear()
        self._device.add(sa)

    def device_moves(self, sa: ChildSa, address: str, port: int, sequence: int) -> None:
        """The device's end goes on elsewhere, after ``sequence`` packets sent, or more."""
        if self._device is not None:
            self._device.move(sa, Endpoint(ip_address(address), port))
            return
        self.device_states(sa, address, port=port)
        self._continue_at(sa, address, port, sequence)

    def _continue_at(self, sa: ChildSa, address: str, port: int, sequence: int) -> None:
        inside(DEVICE, "ip", "xfrm", "state", "delete", "src", address, "dst", "192.0.2.1",
               "proto", "esp", "spi", sa.spi_in)  # fmt: skip
        window = ["replay-window", "128", "flag", "esn"] if sa.suite.esn else []
        inside(DEVICE, "ip", "xfrm", "state", "add", "src", address, "dst", "192.0.2.1", "proto",
               "esp", "spi", sa.spi_in, "reqid", 7, "mode", "tunnel", *window, "replay-oseq",
               sequence, *algorithm_words(sa.suite, sa.keys_in), "encap", "espinudp", port, 4500,
               "0.0.0.0")  # fmt: skip

    def states(self) -> str:
        """The gateway's SAs as `ip xfrm state` writes them."""
        kernel = inside(GATEWAY, "ip", "xfrm", "state") if has_esp() else ""
        with entered(GATEWAY):
            return kernel + held.states(planes.held_here())

    def refused(self, *, late: bool = False) -> int:
        """Packets that came by an SA whose selectors, or replay window, did not let them in."""
        if planes.portable():
            return self.counters().get(f"forwarder_{'replayed' if late else 'selectors'}", 0)
        names = {"XfrmInStateSeqError"} if late else _MISMATCHES
        table = inside(GATEWAY, "cat", "/proc/net/xfrm_stat")
        counts = dict(line.split() for line in table.splitlines())
        return sum(int(counts[name]) for name in names)

    def udp_encap_socket(self, name: str, address: object, port: int) -> socket.socket:
        with entered(name):
            made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.bind((str(address), port))
        if has_esp():
            made.setsockopt(socket.IPPROTO_UDP, 100, 2)
        return made

    def ping(self, count: int = 3, *, source: str = "10.9.0.1", size: int = 56) -> bool:
        return echoes(DEVICE, source, INTRANET_HOST, count, size) == count

    def send_outer(
        self, esp: bytes, source: IpAddress, destination: IpAddress = GATEWAY_OUTER
    ) -> None:
        """Raw ESP from the device's namespace."""
        family = socket.AF_INET if source.version == 4 else socket.AF_INET6
        with entered(DEVICE):
            raw = socket.socket(family, socket.SOCK_RAW, 50)
        with raw:
            raw.bind((str(source), 0))
            raw.sendto(esp, (str(destination), 0))

    def counters(self) -> dict[str, int]:
        assert self.dataplane is not None
        with entered(GATEWAY):
            return self.dataplane.counters()

    def events(self, bound_s: float = 5.0) -> list[Any]:
        """The first events, waiting for them."""
        dataplane = self.dataplane
        assert dataplane is not None
        end = time.monotonic() + bound_s
        while time.monotonic() < end:
            select.select(dataplane.event_fds(), [], [], 0.05)
            if found := dataplane.read_events():
                return found
        return []

    def __enter__(self) -> Self:
        self.up()
        return self

    def __exit__(self, *_: object) -> None:
        self.down()
