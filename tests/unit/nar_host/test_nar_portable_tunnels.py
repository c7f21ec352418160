"""Tunnels of NAR clients in user space: what the forwarder is told, and which SPIs it has."""

from collections.abc import Sequence
from ipaddress import IPv4Address
from pathlib import Path
from types import SimpleNamespace

import pytest

from gateway.dataplane.portable.forwarder import ForwarderUnavailableError
from gateway.dataplane.portable.tunnel_link import TunnelKind, TunnelLink
from gateway.domain.nar import Delivery, L2tpSession
from gateway.nar_host import spis
from gateway.nar_host.portable_tunnels import link_of
from gateway.nar_host.record import Tunnel

XA, NA, NB = IPv4Address("10.0.0.2"), IPv4Address("10.0.0.1"), IPv4Address("192.0.2.1")


@pytest.mark.parametrize(
    ("delivery", "kind"), [(Delivery.IP_IP, TunnelKind.IP_IP), (Delivery.GRE, TunnelKind.GRE)]
)
def test_a_tunnel_has_both_addresses(delivery: Delivery, kind: TunnelKind) -> None:
    wanted = TunnelLink("narc-t0", kind, local=XA, remote=NA)
    assert link_of("narc-t0", Tunnel(delivery, XA, NA, 1480)) == wanted


def test_an_l2tp_session_is_the_servers_seen_from_here() -> None:
    session = L2tpSession(XA, 1, 2, 3, 4, b"servers!", b"clients!")
    link = link_of("narc-t0", Tunnel(Delivery.L2TP, XA, NA, 1438, session))
    assert (link.session, link.peer_session) == (4, 3)
    assert (link.cookie, link.peer_cookie) == (b"clients!", b"servers!")
    assert (link.local_port, link.remote_port) == (1701, 1701)
    assert link.link_address == session.link_address


class Client:
    """A forwarder with two SAs; one that has ended, and one that is of another version."""

    def __init__(self, folder: Path) -> None:
        self._gone = folder.name == "gone"
        if folder.name == "other":
            raise ForwarderUnavailableError("another version")

    def held(self) -> Sequence[object]:
        if self._gone:
            raise ForwarderUnavailableError("it has ended")
        local = (SimpleNamespace(address=NB), SimpleNamespace(address=XA))
        return [
            SimpleNamespace(sa=SimpleNamespace(spi_in=number, local=one))
            for number, one in enumerate(local, 0x1000)
        ]

    def close(self, *, keep: bool) -> None:
        assert keep


def test_spis_of_forwarders_are_in_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spis, "ForwarderClient", Client)
    folders = [tmp_path / name for name in ("gone", "other", "runs")]
    for folder in folders:
        folder.mkdir()
    nowhere = tmp_path / "nowhere"
    assert spis._in_user_space(NB, [*folders, nowhere]) == {0x1000}
