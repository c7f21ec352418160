"""What NAR stands on without the kernel's tunnels and queue: links, sessions, words, SPIs."""

from collections.abc import Sequence
from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from gateway.dataplane.interface import Refusal, Usage
from gateway.dataplane.kernel.nar import constants, ruleset
from gateway.dataplane.nar import NarServerSettings, NarSettings
from gateway.dataplane.packet.ipv4 import with_checksum
from gateway.dataplane.portable.forwarder import ForwarderUnavailableError, RefusedTunnel
from gateway.dataplane.portable.nar import below as below_module
from gateway.dataplane.portable.nar import l2tp as l2tp_module
from gateway.dataplane.portable.nar.below import ForwarderSas, PortableBelow
from gateway.dataplane.portable.nar.l2tp import PORTS, L2tpLinks, tunnel_link
from gateway.dataplane.portable.nar.links import NarLinks, serve, tunnel_links
from gateway.dataplane.portable.no_forwarder import NoForwarder
from gateway.dataplane.portable.tunnel_link import TunnelKind, TunnelLink
from gateway.dataplane.portable.tunnels.engine import TunnelEngine
from gateway.dataplane.portable.wire import links
from gateway.domain.nar import L2tpSession, NarProtocol

NA, NA2, XA, XA2 = (IPv4Address(f"10.0.0.{number}") for number in (1, 4, 2, 3))
NB = IPv4Address("192.0.2.1")
SOHO = NarServerSettings("soho", NA, (NB,), ("a0",), ("b0",), (range(20_000, 30_000),))
FIRST = L2tpSession(XA, 101, 201, 301, 401, b"server's", b"client's")
SECOND = L2tpSession(XA2, 102, 202, 302, 402, b"server 2", b"client 2")


class Forwarder(NoForwarder):
    """Serves links as the real one's engine does."""

    def __init__(self, *served: TunnelLink) -> None:
        self.engine = TunnelEngine()
        for link in served:
            assert self.engine.set_tunnel(link) is None
        self._refused: list[RefusedTunnel] = []
        self.spis: set[int] = set()
        self.gone = False

    def set_tunnel(self, link: TunnelLink) -> None:
        reason = self.engine.set_tunnel(link)
        if reason is not None:
            self._refused.append(RefusedTunnel(link.name, reason))

    def remove_tunnel(self, name: str) -> None:
        self.engine.remove_tunnel(name)

    def commit(self) -> tuple[list[Refusal], list[RefusedTunnel]]:
        refused, self._refused = self._refused, []
        return [], refused

    def tunnels(self) -> Sequence[TunnelLink]:
        return self.engine.held()

    def usage(self, spi_in: int) -> Usage | None:
        if self.gone:
            raise ForwarderUnavailableError("it has ended")
        return Usage(0, 0, 0, 0, None) if spi_in in self.spis else None

    def names(self) -> set[str]:
        return {one.name for one in self.engine.held()}


@pytest.fixture
def pairs(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The interfaces that there are."""
    there: set[str] = set()

    class Devices:
        def every(self) -> dict[str, object]:
            return {name: _Device(name) for name in there}

        def close(self) -> None:
            pass

    monkeypatch.setattr(links, "make_pair", lambda name, *_: there.add(name))
    monkeypatch.setattr(links, "exists", lambda name: name in there)
    monkeypatch.setattr(links, "delete", there.discard)
    monkeypatch.setattr(l2tp_module, "Devices", Devices)
    return there


class _Device:
    def __init__(self, name: str) -> None:
        self.name, self.group = name, constants.DEVICE_GROUP


# -- devices -----------------------------------------------------------------------------------


def test_the_forwarder_takes_all_devices() -> None:
    forwarder = Forwarder()
    serve(forwarder, *tunnel_links())
    assert forwarder.names() == {*constants.SENDING, *constants.RECEIVING}


def test_devices_receive_at_the_address_that_the_rules_write() -> None:
    engine = Forwarder(*tunnel_links()).engine
    inner = with_checksum(bytes.fromhex("45000014000000003ffd00000a0000010a000002"))
    head = bytes.fromhex("450000280000000040040000")
    engine.arrived([(head + XA.packed + constants.LOCAL.packed + inner, 0x4759_8005)])
    assert engine.delivers == [(constants.RECEIVE_IP_IP, inner, 0x4759_8005)]
    engine.delivers.clear()
    engine.arrived([(head + XA.packed + NA.packed + inner, 0x4759_8005)])
    assert engine.delivers == []


def test_what_devices_send_has_the_clients_mark_and_its_own_df() -> None:
    engine = Forwarder(*tunnel_links()).engine
    inner = bytes.fromhex("45000014000040003ffd35e70a0000010a000002")
    engine.leaving(constants.SEND_IP_IP, [(inner, 0x4759_8005)])
    [(outer, mark)] = engine.sends
    assert mark == 0x4759_8005
    assert outer[12:20] == constants.LOCAL.packed + constants.REMOTE.packed
    assert outer[6:8] == b"\x40\0"


def test_a_refused_link_is_an_error_with_the_reason() -> None:
    with pytest.raises(OSError, match="t0: say where it sends to"):
        serve(Forwarder(), TunnelLink("t0", TunnelKind.IP_IP))


def test_only_what_is_sent_into_has_the_tunnels_mtu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(NarLinks, "__init__", lambda *_: None)
    sizes = NarLinks(Forwarder()).sizes(1480)
    assert sizes.pop(constants.SEND_IP_IP) == 1480
    assert sizes.pop(constants.SEND_GRE) == 1476
    assert set(sizes.values()) == {65_535}


# -- L2TP --------------------------------------------------------------------------------------


def test_clients_of_one_server_share_a_port(pairs: set[str]) -> None:
    forwarder = Forwarder()
    sessions = L2tpLinks(forwarder)
    first, second = (sessions.open(one, NA, 1438) for one in (FIRST, SECOND))
    other = sessions.open(replace(SECOND, tunnel_id=9, session_id=9), NA2, 1438)
    assert first.port == second.port
    assert other.port not in (first.port, second.port)
    assert pairs == forwarder.names() == {first.interface, second.interface, other.interface}
    sessions.delete(FIRST.tunnel_id)
    sessions.delete(77)
    assert pairs == forwarder.names() == {second.interface, other.interface}


def test_what_is_sent_is_not_routed_by_the_clients_mark() -> None:
    assert tunnel_link(FIRST, 64_950).mark == 0


def test_a_session_that_clashes_is_refused(pairs: set[str]) -> None:
    sessions = L2tpLinks(Forwarder())
    sessions.open(FIRST, NA, 1438)
    with pytest.raises(OSError, match="of another session"):
        sessions.open(replace(SECOND, session_id=FIRST.session_id), NA, 1438)


def test_what_the_forwarder_refuses_leaves_no_interface(pairs: set[str]) -> None:
    sessions = L2tpLinks(Forwarder())
    with pytest.raises(OSError, match="cookies"):
        sessions.open(replace(FIRST, cookie=b"short"), NA, 1438)
    assert pairs == set()


def test_sessions_of_an_earlier_process_keep_their_ports(pairs: set[str]) -> None:
    before = [tunnel_link(FIRST, PORTS[7]), tunnel_link(SECOND, PORTS[0])]
    pairs |= {one.name for one in before}
    forwarder = Forwarder(*before)
    sessions = L2tpLinks(forwarder)
    third = replace(FIRST, tunnel_id=3, session_id=3, client=NB)
    assert sessions.open(third, NA2, 1438).port == PORTS[1], "nobody's"
    assert sessions.open(FIRST, NA, 1438).port == PORTS[7]
    sessions.delete_unused({FIRST.tunnel_id, 3})
    assert pairs == forwarder.names() == {"nar-l2tp-00012d", "nar-l2tp-000003"}
    sessions.delete_all()
    assert pairs == forwarder.names() == set()


def test_there_is_an_end_to_the_ports(pairs: set[str]) -> None:
    sessions = L2tpLinks(Forwarder())
    for number in range(len(PORTS)):
        one = replace(FIRST, tunnel_id=number, session_id=number + 1)
        sessions.open(one, IPv4Address(number), 1438)
    with pytest.raises(OSError, match="no port left"):
        sessions.open(FIRST, IPv4Address("10.1.1.1"), 1438)


# -- words -------------------------------------------------------------------------------------


class _Ways:
    judged_in_rules = "02:11:22:33:44:55"

    def __init__(self, *_: object) -> None:
        pass


@pytest.mark.parametrize("offload", [True, False])
def test_rules_log_and_know_what_was_decided(
    offload: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(below_module, "WaysBack", _Ways)
    words = PortableBelow(Forwarder()).words(4759)
    settings = NarSettings((SOHO,), offload=offload)
    rules = ruleset.render(settings, words)
    assert "$" not in rules
    assert "queue num" not in rules
    assert rules.count("log group 4759 drop") == (5 + 3 if offload else 5 + 3 + 2)
    # The secret is not part of the version: another process takes the rules over.
    assert _Ways.judged_in_rules not in rules
    changed = ruleset.settings_rules(settings, words)
    assert f"add rule ip gateway_nar decided ether saddr {_Ways.judged_in_rules} accept" in changed


def test_without_offload_only_mappings_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(below_module, "WaysBack", _Ways)
    words = PortableBelow(Forwarder()).words(4759)
    rules = ruleset.render(NarSettings((SOHO,), offload=False), words)
    # The lookups come first: strangers' packets to the box, and clients' own, stay where they are.
    assert "@addresses jump arriving\n" in rules
    assert "tcp : goto out_tcp," in rules
    deliver = rules[rules.index("chain deliver {") :]
    assert deliver.split("\n")[1].strip() == (
        'meta mark set 0 counter log group 4759 drop comment "queued_in"'
    )


# -- SPIs --------------------------------------------------------------------------------------


def test_spis_of_the_forwarder_are_occupied(monkeypatch: pytest.MonkeyPatch) -> None:
    class NoSas:
        def has(self, *_: object) -> bool:
            return False

    monkeypatch.setattr(below_module, "KernelSas", NoSas)
    forwarder = Forwarder()
    forwarder.spis.add(0x4000_0001)
    sas = ForwarderSas(forwarder)
    assert sas.has(NarProtocol.ESP, NB, 0x4000_0001)
    assert not sas.has(NarProtocol.ESP, NB, 0x4000_0002)
    assert not sas.has(NarProtocol.AH, NB, 0x4000_0001)
    forwarder.gone = True
    assert not sas.has(NarProtocol.ESP, NB, 0x4000_0001)
