"""What a process takes over: IKE SAs beside what the kernel has, accounting, the IKE sockets."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from appliance_fakes import FakeClock, FakeDataplane, FakeEngine

from gateway.appliance import accounting_records, socket_holder
from gateway.appliance.accounting_records import Account, RecordRefusedError
from gateway.appliance.held_sockets import NAME, HeldSockets
from gateway.appliance.ike_service import IkeService
from gateway.appliance.session_takeover import TakenOver
from gateway.appliance.systemd import ServiceManager
from gateway.domain.child_sa import (
    ChildSa,
    Encryption,
    EspKeys,
    EspSuite,
    Integrity,
    TrafficSelector,
)
from gateway.domain.endpoint import Endpoint
from gateway.domain.endpoint import Path as NetworkPath
from gateway.domain.event import Event
from gateway.domain.user_auth import Session
from gateway.ike.outputs import ForgetSa, InstallChildSa, RecordSa, Transmit
from gateway.ike.transport import IkeSockets
from gateway.ike.transport_esp import EspInUdp
from gateway.radius.accounting import Traffic
from gateway.store.sessions import Restored

HERE = Endpoint(ip_address("192.0.2.1"), 500)
THERE = Endpoint(ip_address("198.51.100.9"), 500)
GCM = EspSuite(Encryption.AES_GCM_16, 256, Integrity.NONE, esn=False)
NO_KEYS = EspKeys(b"")


def child(spi_in: int, *, vpn_fa: bool = False) -> InstallChildSa:
    inner = TrafficSelector.of_address(ip_address(f"10.9.0.{spi_in}"))
    sa = ChildSa(
        spi_in, spi_in + 100, spi_in, GCM, NO_KEYS, NO_KEYS, HERE, THERE,
        udp_encapsulation=False, local_ts=(inner,), remote_ts=(inner,), vpn_fa=vpn_fa,
    )  # fmt: skip
    return InstallChildSa(sa, outbound=True, session_id=f"s{spi_in}", peer="device")


class Records:
    """A session store in memory."""

    def __init__(
        self, records: dict[str, dict[str, bytes]], stale: tuple[tuple[str, str], ...] = ()
    ) -> None:
        self.found = Restored(records, frozenset(stale))
        self.journal: list[tuple[object, ...]] = []

    def open(self) -> Restored:
        return self.found

    def keep(self, kind: str, key: str, record: bytes) -> None:
        self.journal.append(("keep", kind, key, record))

    def forget(self, kind: str, key: str) -> None:
        self.journal.append(("forget", kind, key))


class Bed:
    """An engine, a kernel and a service that remember."""

    def __init__(self, store: Records) -> None:
        self.engine = FakeEngine()
        self.journal = store.journal
        self.dataplane = FakeDataplane(self.journal)
        self.events: list[Event] = []
        self.told: list[tuple[str, object]] = []
        self.clock = FakeClock()
        self.taken = TakenOver(store, self.events.append)  # type: ignore[arg-type]
        self.service = IkeService(
            self.engine,  # type: ignore[arg-type]
            self.dataplane,  # type: ignore[arg-type]
            send=self.send,
            clock=self.clock,
            call_at=self.clock.call_at,
            emit=self.events.append,
            outside=SimpleNamespace(  # type: ignore[arg-type]
                child_installed=lambda one: self.told.append(("outside", one.sa.spi_in)),
                child_removed=lambda one: self.told.append(("gone", one.spi_in)),
            ),
            watcher=SimpleNamespace(  # type: ignore[arg-type]
                child_installed=lambda sa, peer: self.told.append((peer, sa.spi_in)),
                child_removed=lambda spi_in: self.told.append(("unwatched", spi_in)),
            ),
            records=self.taken.records,
        )

    def send(self, message: bytes, path: Any, *, keepalive: bool = False) -> None:
        self.journal.append(("sent", message))

    def take_over(self) -> None:
        self.taken.ike_sas(self.engine, self.dataplane, self.service, 5.0)  # type: ignore[arg-type]


def test_what_records_and_kernel_agree_on_goes_on_and_the_rest_is_settled() -> None:
    bed = Bed(Records({"ike": {"a": b"1", "b": b"2"}}))
    bed.engine.restored = SimpleNamespace(ike_sas=2, children=(child(1), child(2), child(3)))
    bed.dataplane.lost = (2,)
    bed.engine.reconcile = lambda spis, now: {1} & spis  # type: ignore[method-assign]
    bed.take_over()
    assert ("restore", ("a", "b")) in bed.engine.calls
    assert ("adopt", (1, 2, 3)) in bed.journal
    assert bed.told == [("outside", 1), ("device", 1), ("outside", 3), ("device", 3)]
    # The engine did not know 3, which the kernel had.
    assert ("remove", 3) in bed.journal
    assert bed.journal.index(("remove", 3)) < bed.journal.index(("commit",))
    assert bed.taken.facts["lost_child_sas"] == 1
    assert [event.name for event in bed.events] == ["sessions_taken_over"]


def test_without_records_the_kernel_is_cleaned() -> None:
    bed = Bed(Records({}))
    bed.take_over()
    assert ("adopt", ()) in bed.journal
    assert not any(call[0] == "restore" for call in bed.engine.calls)
    assert bed.events == []


def test_records_of_an_earlier_boot_are_forgotten() -> None:
    store = Records({"ike": {"old": b"1", "new": b"2"}}, (("ike", "old"),))
    bed = Bed(store)
    bed.take_over()
    assert ("restore", ("new",)) in bed.engine.calls
    assert ("forget", "ike", "old") in store.journal


def test_a_record_is_kept_before_anything_is_sent() -> None:
    bed = Bed(Records({}))
    path = NetworkPath(HERE, THERE)
    bed.engine.outputs = [
        RecordSa("a", b"record"),
        ForgetSa("b"),
        Transmit(b"answer", path),
        RecordSa("c", b"late"),
    ]
    bed.service.flush(1.0)
    assert bed.journal == [
        ("keep", "ike", "a", b"record"),
        ("forget", "ike", "b"),
        ("keep", "ike", "c", b"late"),
        ("sent", b"answer"),
    ]


def test_without_a_store_nothing_is_kept_and_nothing_handed_over() -> None:
    taken = TakenOver(None, lambda _event: None)
    assert not taken.possible
    assert not taken.anything
    assert taken.of("ike") == {}
    taken.records.keep("ike", "a", b"1")
    taken.records.forget("ike", "a")


# -- accounting ---------------------------------------------------------------------------------

SESSION = Session(
    "s1", "radius", "ann", "road", HERE, THERE, ip_address("10.9.0.1"), (b"\x01",), 60.0
)


def test_records_of_accounting_are_as_they_were_written() -> None:
    account = Account(SESSION, 1_800_000_000.5, Traffic(1, 2, 3, 4))
    assert accounting_records.read(accounting_records.write(account)) == account


@pytest.mark.parametrize(
    "octets",
    [b"", b"\x02{}", b"\x01", b"\x01[]", b"\x01{}", b"\x01null", b"\x01" + b"[" * 5000],
)
def test_a_broken_record_of_accounting_is_refused(octets: bytes) -> None:
    with pytest.raises(RecordRefusedError):
        accounting_records.read(octets)


# -- the IKE sockets ----------------------------------------------------------------------------


def bound() -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.bind(("127.0.0.1", 0))
    return made


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def no_manager() -> ServiceManager:
    return ServiceManager({})


def test_a_holder_has_the_sockets_until_the_next_process_comes(tmp_path: Path) -> None:
    first = HeldSockets(tmp_path, no_manager(), {})
    assert first.take() == []
    ours = [bound(), bound()]
    ports = [one.getsockname()[1] for one in ours]
    assert first.keep(ours)
    for one in ours:
        one.close()
    first.close()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.sendto(b"meanwhile", ("127.0.0.1", ports[0]))
    second = HeldSockets(tmp_path, no_manager(), {})
    found = second.take()
    assert [one.getsockname()[1] for one in found] == ports
    assert found[0].recv(100) == b"meanwhile"
    assert not any(one.get_inheritable() for one in found)
    for one in found:
        one.close()
    second.end()
    wait_for(lambda: HeldSockets(tmp_path, no_manager(), {}).take() == [])
    assert not (tmp_path / "held.sock").exists()


def test_other_sockets_take_the_place_of_those_that_were_held(tmp_path: Path) -> None:
    held = HeldSockets(tmp_path, no_manager(), {})
    first, second = bound(), bound()
    held.keep([first])
    held.keep([second])
    port = second.getsockname()[1]
    first_port = first.getsockname()[1]
    first.close()
    second.close()
    held.close()
    again = HeldSockets(tmp_path, no_manager(), {})
    (found,) = again.take()
    with found:
        assert found.getsockname()[1] == port
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", first_port))
    again.end()


def test_a_holder_ends_when_nobody_comes(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(tmp_path / "x"))
        listener.listen(1)
        socket_holder.hold(listener, hold_s=0.0)


def test_a_holder_is_a_process_of_its_own(tmp_path: Path) -> None:
    held = HeldSockets(tmp_path, no_manager(), {})
    one = bound()
    held.keep([one])
    # It is nobody's child, and no signal of a terminal ends it.
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
    held.end()
    one.close()


def test_a_runtime_folder_that_cannot_be_written_costs_the_sockets_only(tmp_path: Path) -> None:
    held = HeldSockets(tmp_path / "absent", no_manager(), {})
    assert held.take() == []
    with bound() as one:
        assert not held.keep([one])
    held.end()


def test_a_service_manager_keeps_the_sockets(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager, bound() as one:
        manager.bind(str(tmp_path / "notify"))
        told = ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "notify")})
        held = HeldSockets(tmp_path, told, {})
        assert held.take() == []
        assert held.keep([one])
        assert manager.recv(1000) == f"FDSTOREREMOVE=1\nFDNAME={NAME}".encode()
        said, descriptors, _, _ = socket.recv_fds(manager, 1000, 4)
        assert said == f"FDSTORE=1\nFDNAME={NAME}".encode()
        with socket.socket(fileno=descriptors[0]) as copy:
            assert copy.getsockname() == one.getsockname()
        held.end()
        assert manager.recv(1000) == f"FDSTOREREMOVE=1\nFDNAME={NAME}".encode()
        assert not (tmp_path / "held.sock").exists()


def test_sockets_come_with_the_environment() -> None:
    program = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from gateway.appliance.held_sockets import HeldSockets\n"
        "from gateway.appliance.systemd import ServiceManager\n"
        "given = {**os.environ, 'LISTEN_PID': str(os.getpid())}\n"
        "found = HeldSockets(Path('/nowhere'), ServiceManager(given), given).take()\n"
        "print([one.getsockname()[1] for one in found])\n"
    )
    with bound() as one, bound() as other:
        environment = {
            **os.environ,
            "PYTHONPATH": str(Path(__file__).parents[3]),
            "NOTIFY_SOCKET": "/nowhere",
            "LISTEN_FDS": "2",
            "LISTEN_FDNAMES": f"other:{NAME}",
        }

        def place() -> None:
            os.dup2(other.fileno(), 90)
            os.dup2(one.fileno(), 3)
            os.dup2(90, 4)

        done = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True,
            check=True, close_fds=False, preexec_fn=place,
        )  # fmt: skip
        assert done.stdout.strip() == str([other.getsockname()[1]])


def test_ike_uses_held_sockets_that_fit_and_closes_the_others() -> None:
    fits, other = bound(), bound()
    port = fits.getsockname()[1]
    address = ip_address("127.0.0.1")
    sockets = IkeSockets(
        [address], ike_port=port, nat_port=0, esp=EspInUdp.NONE, held=[fits, other]
    )
    assert sockets.sockets[0] is fits
    assert other.fileno() == -1
    sockets.close()
