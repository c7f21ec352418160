"""The tunnels' interface: which of the two it is, and a TUN device's packets."""

import errno
import os
import socket
from collections.abc import Callable, Iterator

import pytest

from gateway.dataplane.interface import DataplaneUnavailableError
from gateway.dataplane.packet import marks
from gateway.dataplane.portable import probe
from gateway.dataplane.portable.wire import inside, links, tun
from gateway.dataplane.portable.wire.batches import BATCH, ReceiveBatch
from gateway.dataplane.portable.wire.tun import TunLink


def failing(number: int, text: str = "") -> Callable[..., object]:
    def fail(*_: object, **__: object) -> object:
        raise OSError(number, text or os.strerror(number))

    return fail


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, int]]:
    """What is made of a kernel that has both."""
    done: list[tuple[str, str, int]] = []
    monkeypatch.delenv(inside.VARIABLE, raising=False)
    monkeypatch.setattr(links, "make_pair", lambda name, mtu: done.append(("pair", name, mtu)))
    monkeypatch.setattr(tun, "make_device", lambda name, mtu: done.append(("tun", name, mtu)))
    return done


def test_a_pair_where_there_are_pairs(made: list[tuple[str, str, int]]) -> None:
    inside.make("gw0", 1400)
    assert made == [("pair", "gw0", 1400)]


def test_a_tun_device_where_there_are_none(
    made: list[tuple[str, str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links, "make_pair", failing(errno.EOPNOTSUPP))
    inside.make("gw0", 1400)
    assert made == [("tun", "gw0", 1400)]


@pytest.mark.parametrize("number", [errno.EPERM, errno.EEXIST, errno.ENOMEM])
def test_what_else_goes_wrong_is_said(
    made: list[tuple[str, str, int]], monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(links, "make_pair", failing(number))
    with pytest.raises(OSError, match=os.strerror(number)):
        inside.make("gw0", 1400)
    assert made == []


def test_tests_may_ask_for_it(
    made: list[tuple[str, str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(inside.VARIABLE, "tun")
    inside.make("gw0", 1400)
    assert made == [("tun", "gw0", 1400)]


def test_a_tun_device_has_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tun, "exists", lambda name: name == "gw0")
    assert inside.processes("gw0", 4) == 1
    assert inside.processes("gw1", 4) == 4
    assert inside.processes("", 4) == 4
    with pytest.raises(OSError, match="one process"):
        inside.opened("gw0", ReceiveBatch(), 2)


# -- what the kernel has --------------------------------------------------------------------------


@pytest.fixture
def tries(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Nothing but links is tried, and what is tried works."""
    names = ("portable-links", "portable-pairs")
    trials = tuple(one for one in probe.TRIALS if one[0] in names)
    monkeypatch.setattr(probe, "TRIALS", trials)
    monkeypatch.setattr(probe.tun, "try_device", lambda _: None)
    return monkeypatch


def test_without_veth_only_what_goes_by_marks_is_missing(tries: pytest.MonkeyPatch) -> None:
    tries.setenv(inside.VARIABLE, "tun")
    assert probe.missing(()) == {}
    assert set(probe.missing(("ipip",))) == {"portable-pairs"}
    costs = {name: cost for name, _, cost, _, _ in probe.TRIALS}
    for lost in ("NAPT", "VPN/FA", "Mobile IPv4", "NAR"):
        assert lost in costs["portable-pairs"]


def test_without_either_all_is_missing(tries: pytest.MonkeyPatch) -> None:
    tries.setenv(inside.VARIABLE, "tun")
    tries.setattr(probe.tun, "try_device", failing(errno.ENODEV, "/dev/net/tun: not there"))
    said = probe.missing(())["portable-links"]
    assert "no veth" in said
    assert "/dev/net/tun: not there" in said
    remedies = {name: remedy for name, _, _, remedy, _ in probe.TRIALS}
    assert "CONFIG_VETH" in remedies["portable-links"]
    assert "CONFIG_TUN" in remedies["portable-links"]
    assert "/dev/net/tun" in remedies["portable-links"]


def test_a_device_file_that_is_kept_from_us_is_no_lack_of_privileges(
    tries: pytest.MonkeyPatch,
) -> None:
    tries.setenv(inside.VARIABLE, "tun")
    tries.undo()
    tries.setattr(tun, "DEVICE", "/dev/null/net/tun")
    with pytest.raises(OSError, match="/dev/null/net/tun") as caught:
        tun.try_device("gw-trial")
    assert caught.value.errno == errno.ENODEV
    assert not isinstance(caught.value, DataplaneUnavailableError)


# -- packets --------------------------------------------------------------------------------------


@pytest.fixture
def stack(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[TunLink, socket.socket]]:
    """A link whose device is a pair of sockets, and the stack's end of it."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    monkeypatch.setattr(tun, "_attached", lambda *_: ours.detach())
    monkeypatch.setattr(socket, "if_nametoindex", lambda _: 7)
    link = TunLink("gw0")
    with theirs:
        theirs.setblocking(False)
        yield link, theirs
        link.close()
        link.close()


def test_a_batch_at_a_time(stack: tuple[TunLink, socket.socket]) -> None:
    link, theirs = stack
    assert link.receive() == []
    sent = [bytes([0x45, number]) * (1 + number) for number in range(BATCH + 3)]
    for packet in sent:
        theirs.send(packet)
    assert link.receive() + link.receive() == [(packet, 0) for packet in sent]
    assert link.receive() == []


def test_what_comes_out_is_whole_whatever_its_size(stack: tuple[TunLink, socket.socket]) -> None:
    link, theirs = stack
    link.send([(b"\x45" * 20, 0), (b"\x60" * 9000, 0x77)])
    assert [len(theirs.recv(65536)) for _ in range(2)] == [20, 9000]
    assert link.unsent == 0


def test_a_packet_of_a_zone_is_dropped(stack: tuple[TunLink, socket.socket]) -> None:
    link, theirs = stack
    link.send([(b"\x45" * 20, marks.FROM_DEVICE | 5), (b"\x45" * 21, 0)])
    assert theirs.recv(65536) == b"\x45" * 21
    assert link.unsent == 1


def test_what_the_device_does_not_take_is_counted(stack: tuple[TunLink, socket.socket]) -> None:
    link, theirs = stack
    theirs.close()
    link.send([(b"\x45" * 20, 0)] * 3)
    assert link.unsent == 3


def test_a_device_that_was_deleted_meanwhile(
    stack: tuple[TunLink, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    link, _ = stack
    assert not link.gone
    monkeypatch.setattr(socket, "if_nametoindex", lambda _: 8)
    assert link.gone
    monkeypatch.setattr(socket, "if_nametoindex", failing(errno.ENODEV))
    assert link.gone


def test_one_that_is_let_go_of_in_a_moment(
    stack: tuple[TunLink, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A forwarder that has just ended may still have it."""
    answers: list[Callable[..., object]] = [failing(errno.EBUSY), failing(errno.EBUSY)]
    fd = os.open("/dev/null", os.O_RDWR)
    answers.append(lambda *_: fd)
    monkeypatch.setattr(tun, "_attached", lambda *_: answers.pop(0)())
    monkeypatch.setattr(tun.time, "sleep", lambda _: None)
    again = TunLink("gw0")
    assert again.fileno() == fd
    again.close()
