"""What the kernel is told about packets of NAR, and the adapter between it and the queue."""

from dataclasses import replace
from ipaddress import IPv4Address

import nar_packets as bed
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nar_packets import INSIDE, NA, NB, OUTSIDE, XA, XA_2, YB, incoming, judged, mapping, outgoing

from gateway.dataplane.kernel.mobility.raw_sender import PacketTooLongError
from gateway.dataplane.kernel.nar import constants, slow_path
from gateway.dataplane.kernel.nar.numbers import ClientKey, Numbers
from gateway.dataplane.kernel.nar.slow_path import SlowPath
from gateway.dataplane.kernel.nfqueue import LOCAL_OUT, PREROUTING, Conclusion, Waiting
from gateway.dataplane.packet import nar_marks
from gateway.dataplane.packet.outbound import Send
from gateway.domain.nar import Delivery, NarMapping, NarProtocol, NarTuple

INDEXES = {INSIDE: 2, OUTSIDE: 3, "nar-in-ipip": 4, "nar-l2tp-1": 5}
END_TO_END = (Delivery.IP_IP, Delivery.GRE, Delivery.L2TP)
each_end_to_end = pytest.mark.parametrize("delivery", END_TO_END)
each_tuple = pytest.mark.parametrize("key", bed.ALL, ids=str)
each_translatable = pytest.mark.parametrize("key", bed.TRANSLATABLE, ids=str)


class FakeQueue:
    overruns = 0

    def __init__(self) -> None:
        self.waiting: list[Waiting] = []
        self.concluded: list[Conclusion] = []
        self.works = True

    def fileno(self) -> int:
        return 7

    def close(self) -> None:
        self.works = False

    def receive(self, limit: int) -> list[Waiting]:
        now, self.waiting = self.waiting[:limit], self.waiting[limit:]
        return now

    def conclude(self, conclusions: list[Conclusion]) -> bool:
        self.concluded += conclusions
        return self.works


class FakeSender:
    def __init__(self, marks: range) -> None:
        self.marks = marks
        self.sent: list[Send] = []
        self.error: OSError | None = None

    def send(self, packet: Send) -> None:
        if self.error is not None:
            raise self.error
        assert packet.mark in self.marks
        self.sent.append(packet)

    def close(self) -> None:
        pass


class FakeNames:
    def of(self, index: int) -> str:
        return {number: name for name, number in INDEXES.items()}.get(index, "")

    def forget(self) -> None:
        pass

    def close(self) -> None:
        pass


class Bench:
    """A slow path with the kernel side's numbers, which it claims as the kernel side does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(slow_path, "RawSender", FakeSender)
        monkeypatch.setattr(slow_path, "InterfaceNames", FakeNames)
        self.queue = FakeQueue()
        self.numbers = Numbers()
        self.numbers.set_addresses(bed.SERVER.addresses)
        self.path = SlowPath(
            self.queue,  # type: ignore[arg-type]
            bed.SETTINGS,
            self.numbers,
            clock=lambda: 5.0,
        )
        self.sender: FakeSender = self.path._sender  # type: ignore[assignment]
        self.number = 0

    def set(self, one: NarMapping) -> int:
        """Its client's mark."""
        key = ClientKey(IPv4Address(NA), one.client, one.delivery)
        self.numbers.claim(key)
        mark = self.numbers.client_mark(key)
        if one.delivery is Delivery.L2TP:
            self.numbers.claim_alias(mark, one.tuple.address)
        self.path.set_mapping(one)
        return mark

    def judge(
        self, octets: bytes, interface: str, mark: int = 0, hook: int = PREROUTING
    ) -> tuple[int, bytes | None, int]:
        self.number += 1
        self.queue.waiting.append((self.number, hook, mark, INDEXES[interface], octets))
        self.path.poll()
        number, verdict, made, new_mark = self.queue.concluded.pop()
        assert number == self.number
        return verdict, made, new_mark

    def unaliased(self, made: bytes | None, packet: bytes, mark: int) -> bytes:
        """With Nb instead of what stands for it, which must fit where no checksum sees it."""
        assert made is not None
        judged(made)
        alias = self.numbers.alias(mark, IPv4Address(packet[16:20])).packed
        assert made[16:20] == alias
        return made[:16] + packet[16:20] + made[20:]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(monkeypatch)


@each_end_to_end
@each_tuple
def test_to_an_end_to_end_client(bench: Bench, key: NarTuple, delivery: Delivery) -> None:
    mark = bench.set(mapping(key, delivery))
    packet = incoming(key)
    verdict, made, new_mark = bench.judge(packet, OUTSIDE)
    assert (verdict, new_mark) == (1, mark)
    assert bench.unaliased(made, packet, mark) == packet


@each_end_to_end
@each_tuple
def test_from_an_end_to_end_client(bench: Bench, key: NarTuple, delivery: Delivery) -> None:
    mark = bench.set(mapping(key, delivery))
    other = bench.set(mapping(replace(bed.UDP_ANY, value=7), delivery, XA_2))
    packet = outgoing(key)
    leaves = (1, None, constants.FROM_CLIENT)
    assert bench.judge(packet, "nar-in-ipip", mark) == leaves
    assert bench.judge(packet, "nar-in-ipip", other)[0] == 0, "another's"
    assert bench.judge(packet, "nar-in-ipip", nar_marks.RANGE | 0x9999)[0] == 0, "nobody's"
    assert bench.path.counters["spoofed"] == 2


@each_translatable
def test_to_a_translated_client(bench: Bench, key: NarTuple) -> None:
    mark = bench.set(mapping(key, Delivery.TRANSLATED))
    verdict, made, new_mark = bench.judge(incoming(key), OUTSIDE)
    assert (verdict, new_mark) == (1, mark)
    assert made is not None
    seen = judged(made)
    assert (seen.ends, seen.ttl) == ((YB, XA), 61), "the rest is the ruleset's"


@each_translatable
def test_from_a_translated_client(bench: Bench, key: NarTuple) -> None:
    bench.set(mapping(key, Delivery.TRANSLATED))
    out = bench.numbers.out_mark(IPv4Address(NB))
    packet = outgoing(key, source=XA)
    assert bench.judge(packet, INSIDE) == (1, None, out)
    assert bench.judge(packet, OUTSIDE) == (1, None, 0)
    if key in bed.TUNNELS:
        by_na = outgoing(key, source=XA, destination=NA)
        assert bench.judge(by_na, INSIDE) == (1, packet, out)


@pytest.mark.parametrize("delivery", [Delivery.IP_IP, Delivery.GRE])
def test_a_tunnel_of_a_client_that_is_translated_too(bench: Bench, delivery: Delivery) -> None:
    """Its tunnel goes where the kernel opens it; what was in it comes again, with its mark."""
    bench.set(mapping(bed.IP_IP, Delivery.TRANSLATED))
    mark = bench.set(mapping(bed.UDP_ANY, delivery))
    packet = bed.tunnelled(outgoing(bed.UDP_ANY), delivery)
    verdict, made, new_mark = bench.judge(packet, INSIDE)
    assert (verdict, new_mark) == (1, mark)
    seen = judged(made or b"")
    assert seen.ends == (XA, str(constants.LOCAL))
    assert seen.payload == judged(packet).payload
    assert bench.judge(packet, OUTSIDE) == (1, None, 0)
    other = bed.tunnelled(outgoing(bed.UDP_ANY), delivery, XA_2)
    assert bench.judge(other, INSIDE) == (1, None, 0)
    if delivery is Delivery.GRE:
        keyed = bed.ip(47, XA, NA, bed.gre(outgoing(bed.UDP_ANY), 0x2000))
        assert bench.judge(keyed, INSIDE) == (1, None, 0)
    bench.path.remove_mapping(bed.UDP_ANY)
    assert bench.judge(packet, INSIDE) == (1, None, 0)


@pytest.mark.parametrize("key", [bed.TCP_ANY, bed.UDP_ANY])
def test_a_server_mapping(bench: Bench, key: NarTuple) -> None:
    mark = bench.set(mapping(key, Delivery.TRANSLATED, client_port=80))
    _, made, new_mark = bench.judge(incoming(key), OUTSIDE)
    assert (judged(made or b"").ports, new_mark) == ((4321, 80), mark)
    out = bench.numbers.out_mark(IPv4Address(NB)) + constants.WITH_PORT
    assert bench.judge(outgoing(key, source=XA, port=80), INSIDE) == (1, None, out)


@pytest.mark.parametrize("destination", ["127.0.0.1", "224.0.0.1", NA, NB, "169.254.169.254"])
def test_h76_where_no_client_sends_to(bench: Bench, destination: str) -> None:
    mark = bench.set(mapping(bed.UDP_ANY))
    packet = outgoing(bed.UDP_ANY, destination=destination)
    assert bench.judge(packet, "nar-in-ipip", mark)[0] == 0
    bench.set(mapping(bed.UDP_ANY, Delivery.TRANSLATED))
    packet = outgoing(bed.UDP_ANY, source=XA, destination=destination)
    ours = destination in (NA, NB)
    assert bench.judge(packet, INSIDE) == (int(ours), None, 0)
    told = bed.error_about(bed.ip(17, destination, XA, bed.udp(destination, XA, 5, 20001)))
    assert bench.judge(told, INSIDE)[0] == 0
    assert bench.path.counters == {"forbidden": 3 - ours}


def test_from_client_to_client(bench: Bench) -> None:
    mark = bench.set(mapping(bed.UDP_ANY))
    other = bench.set(mapping(bed.a_tuple(NarProtocol.UDP, 20009), client=XA_2))
    packet = outgoing(bed.UDP_ANY, destination=NB, far_port=20009)
    verdict, made, new_mark = bench.judge(packet, "nar-in-ipip", mark)
    assert (verdict, new_mark) == (1, other)
    assert bench.unaliased(made, packet, other) == packet
    told = bed.error_about(packet, source=NB, code=3)
    verdict, made, new_mark = bench.judge(told, "nar-in-ipip", other)
    assert (verdict, new_mark) == (1, mark)
    assert bench.unaliased(made, told, mark) == told


@each_end_to_end
@each_tuple
def test_errors_of_end_to_end_clients(bench: Bench, key: NarTuple, delivery: Delivery) -> None:
    mark = bench.set(mapping(key, delivery))
    told = bed.error_about(outgoing(key))
    verdict, made, new_mark = bench.judge(told, OUTSIDE)
    assert (verdict, new_mark) == (1, mark)
    assert bench.unaliased(made, told, mark) == told
    mine = bed.error_about(incoming(key), source=NB, code=3)
    leaves = (1, None, constants.FROM_CLIENT)
    assert bench.judge(mine, "nar-in-ipip", mark) == leaves
    foreign = bed.error_about(incoming(replace(bed.UDP_ANY, value=7)), source=NB)
    assert bench.judge(foreign, "nar-in-ipip", mark)[0] == 0


@each_translatable
def test_errors_of_translated_clients(bench: Bench, key: NarTuple) -> None:
    mark = bench.set(mapping(key, Delivery.TRANSLATED))
    verdict, made, new_mark = bench.judge(bed.error_about(outgoing(key)), OUTSIDE)
    assert (verdict, new_mark) == (1, mark)
    seen = judged(made or b"")
    assert seen.ends == (bed.ROUTER, XA)
    far = NA if key in bed.TUNNELS else YB
    assert seen.inner is not None
    assert seen.inner.octets == outgoing(key, source=XA, destination=far)
    path = bed.the_path(mapping(key, Delivery.TRANSLATED))
    path.arrived(incoming(key), OUTSIDE)
    told = bed.error_about(bed.sent(path)[0], source=bed.ROUTER_INSIDE)
    verdict, made, new_mark = bench.judge(told, INSIDE)
    assert (verdict, new_mark) == (1, bench.numbers.out_mark(IPv4Address(NB)))
    seen = judged(made or b"")
    assert seen.ends == (bed.ROUTER_INSIDE, YB), "the ruleset writes Nb"
    assert seen.inner is not None
    assert seen.inner.octets == bed.hop(incoming(key))


def test_our_own_errors(bench: Bench) -> None:
    mark = bench.set(mapping(bed.UDP_ANY))
    bench.set(mapping(bed.TCP_ANY, Delivery.TRANSLATED, client_port=80))
    told = bed.error_about(outgoing(bed.UDP_ANY), source=NA)
    verdict, made, new_mark = bench.judge(told, OUTSIDE, 0, LOCAL_OUT)
    assert (verdict, new_mark) == (1, mark)
    assert bench.unaliased(made, told, mark) == told
    from_nb = bed.error_about(outgoing(bed.UDP_ANY), source=NB)
    _, made, _ = bench.judge(from_nb, OUTSIDE, 0, LOCAL_OUT)
    assert bench.unaliased(made, told, mark) == told, "nobody believes an error of an own address"
    about = bed.ip(6, YB, XA, bed.tcp(YB, XA, 5, 80))
    verdict, made, new_mark = bench.judge(bed.error_about(about, source=NB), OUTSIDE, 0, LOCAL_OUT)
    assert (verdict, new_mark) == (1, 0)
    seen = judged(made or b"")
    assert seen.inner is not None
    assert seen.inner.octets == bed.ip(6, YB, NB, bed.tcp(YB, NB, 5, 20002))
    mine = bed.error_about(outgoing(replace(bed.UDP_ANY, value=7)), source=NA)
    assert bench.judge(mine, OUTSIDE, 0, LOCAL_OUT) == (1, None, 0)
    assert bench.judge(outgoing(bed.UDP_ANY), OUTSIDE, 0, LOCAL_OUT) == (1, None, 0)


def test_an_error_about_a_tunnel_is_told_on_by_us(bench: Bench) -> None:
    bench.set(mapping(bed.UDP_ANY))
    packet = bed.ip(17, YB, NB, bed.udp(YB, NB, 5, 20001, bytes(1200)), flags=bed.DF)
    carried = bed.ip(4, NA, XA, packet, flags=bed.DF)
    told = bed.error_about(carried, source=bed.ROUTER_INSIDE, code=4, mtu=1000)
    assert bench.judge(told, INSIDE) == (1, None, 0), "the host hears of it too"
    (one,) = bench.sender.sent
    seen = judged(one.octets)
    assert (seen.ends, int.from_bytes(seen.payload[6:8], "big")) == ((NB, YB), 980)
    own = bed.error_about(carried, source=NA, code=4, mtu=1000)
    assert bench.judge(own, INSIDE, 0, LOCAL_OUT) == (1, None, 0)
    assert bench.sender.sent.pop().octets == one.octets, "our own kernel may say it"
    for trouble in (OSError(101, "unreachable"), PacketTooLongError(68)):
        bench.sender.error = trouble
        bench.judge(told, INSIDE)
    assert bench.path.counters["send_failed"] == 2
    bench.sender.error = None
    assert bench.judge(told, OUTSIDE) == (1, None, 0), "from a wrong side"
    assert len(bench.sender.sent) == 1


def test_errors_of_ours_are_limited(bench: Bench) -> None:
    bench.set(mapping(bed.UDP_ANY))
    carried = bed.ip(4, NA, XA, incoming(bed.UDP_ANY))
    told = bed.error_about(carried, source=bed.ROUTER_INSIDE)
    for _ in range(300):
        bench.judge(told, INSIDE)
    assert len(bench.sender.sent) == 200


def test_a_turn_is_bounded(bench: Bench) -> None:
    waiting = (1, PREROUTING, 0, INDEXES[OUTSIDE], incoming(bed.UDP_ANY))
    bench.queue.waiting = [waiting] * 100
    bench.path.poll()
    assert len(bench.queue.concluded) == slow_path.PACKETS_PER_TURN


def test_lost_verdicts_are_counted_and_closing_closes(bench: Bench) -> None:
    bench.path.close()
    bench.judge(incoming(bed.UDP_ANY), OUTSIDE)
    assert bench.path.counters["verdicts_lost"] == 1
    assert (bench.path.fileno(), bench.path.overruns) == (7, 0)


def test_removing_and_reloading(bench: Bench) -> None:
    packet = incoming(bed.UDP_ANY)
    bench.set(mapping(bed.UDP_ANY))
    bench.path.remove_mapping(bed.UDP_ANY)
    bench.path.remove_mapping(bed.UDP_ANY)
    assert bench.judge(packet, OUTSIDE) == (1, None, 0)
    bench.set(mapping(bed.UDP_ANY))
    mark = bench.set(mapping(bed.UDP_ANY, client=XA_2))
    assert bench.judge(packet, OUTSIDE)[2] == mark
    moved = replace(bed.SERVER, outside_interfaces=("ppp0",))
    bench.path.reconfigure(replace(bed.SETTINGS, servers=(moved,)))
    assert bench.judge(packet, OUTSIDE) == (1, None, 0)
    bench.path.reconfigure(replace(bed.SETTINGS, servers=()))
    bench.path.reconfigure(bed.SETTINGS)
    assert bench.judge(packet, OUTSIDE) == (1, None, 0)
    with pytest.raises(ValueError, match="no NAR server"):
        bench.path.set_mapping(replace(mapping(bed.UDP_ANY), server="other"))
    with pytest.raises(KeyError):
        bench.path.set_mapping(mapping(bed.UDP_ANY, client="10.1.0.99"))
    assert bench.judge(packet, OUTSIDE) == (1, None, 0), "what was refused leaves nothing"


def test_marks_of_others_are_no_clients(bench: Bench) -> None:
    bench.set(mapping(bed.UDP_ANY))
    assert bench.judge(incoming(bed.UDP_ANY), OUTSIDE, 0x1234)[0] == 1


@settings(max_examples=300)
@given(
    st.binary(max_size=120),
    st.sampled_from((0, 1, nar_marks.RANGE | 0x8000, nar_marks.RANGE | 0x4000)),
    st.sampled_from((INSIDE, OUTSIDE, "nar-in-ipip")),
    st.sampled_from((PREROUTING, LOCAL_OUT)),
)
def test_h72_random_octets_never_raise(octets: bytes, mark: int, interface: str, hook: int) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        bench = Bench(monkeypatch)
        for key in bed.ALL:
            bench.set(mapping(key))
        bench.judge(octets, interface, mark, hook)
