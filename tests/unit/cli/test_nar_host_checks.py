"""What a host must have for NAR servers, judged from files, sockets and addresses."""

import json
import socket
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from gateway.cli.host_checks import forwarding
from gateway.cli.interface_addresses import address_of, addresses_in_use
from gateway.cli.nar_host_checks import HostView, nar_kernel_verdicts, nar_verdicts
from gateway.cli.nat_chains import foreign_chains, nat_chains
from gateway.cli.verdict import Verdict
from gateway.config import Config
from gateway.dataplane.kernel.nar import start_trial
from gateway.dataplane.kernel.nar.constants import TABLE
from gateway.dataplane.kernel.nar.start_trial import NarTrial
from gateway.dataplane.kernel.routes_in_use import Route
from gateway.dataplane.kernel.scratch import TrialFailedError

NB = IPv4Address("203.0.113.5")
LINK = Route(IPv4Network("203.0.113.0/24"), "lo")


def config(tmp_path: Path, **changes: object) -> Config:
    server: dict[str, object] = {
        "listen": ["127.0.0.1:10801"],
        "addresses": ["interface:lo"],
        "client_interfaces": ["lo"],
        "outside_interfaces": ["lo"],
        "ports": ["20000-20009"],
        "trusted": ["192.168.1.0/24"],
    }
    tables = {"nar": {"soho": {**server, **changes}}, "nar_settings": {"state_dir": str(tmp_path)}}
    return Config.model_validate(tables)


def view(tmp_path: Path, port_range: str = "32768 60999", chains: object = ()) -> HostView:
    folder = tmp_path / "sys/net/ipv4"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ip_local_port_range").write_text(port_range)
    found = None if chains is None else list(chains)  # type: ignore[call-overload]
    return HostView(
        sysctl=tmp_path / "sys",
        addresses=lambda: frozenset({NB}),
        address_of={"lo": NB}.get,
        chains=lambda: found,
    )


def by_name(verdicts: Iterable[Verdict]) -> dict[str, Verdict]:
    return {verdict.name: verdict for verdict in verdicts}


def found(
    tmp_path: Path,
    wanted: Config,
    routes: Iterable[Route] = (),
    *,
    ours: bool = False,
    host: HostView | None = None,
) -> dict[str, Verdict]:
    return by_name(nar_verdicts(wanted, routes, ours=ours, view=host or view(tmp_path)))


def test_nothing_without_servers() -> None:
    assert list(nar_verdicts(Config(), [], ours=False)) == []


def test_all_is_well(tmp_path: Path) -> None:
    verdicts = found(tmp_path, config(tmp_path))
    assert {one.state for one in verdicts.values()} == {"ok"}
    assert verdicts["lent interface:lo"].detail == "203.0.113.5 now, followed when it changes"
    assert verdicts["tcp 127.0.0.1:10801"].detail == "free"
    assert verdicts[f"folder {tmp_path}"].detail == "keeps leases and audit"


def test_what_is_not_there(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    wanted = config(
        tmp_path,
        listen=["192.0.2.77"],
        tls_listen=["192.0.2.77:1081"],
        tunnel_address="192.0.2.78",
        addresses=["interface:nosuch0"],
        client_interfaces=["nosuch1"],
        outside_interfaces=["nosuch0"],
    )
    wanted = wanted.model_copy(
        update={"nar_settings": wanted.nar_settings.model_copy(update={"state_dir": file / "x"})}
    )
    verdicts = found(tmp_path, wanted)
    lacking = {name for name, one in verdicts.items() if one.state == "missing"}
    assert lacking == {
        "address 192.0.2.77",
        "address 192.0.2.78",
        "interface nosuch0",
        "interface nosuch1",
        f"folder {file / 'x'}",
    }
    assert verdicts["lent interface:nosuch0"].state == "warn"
    assert all(one.remedy for one in verdicts.values() if one.state != "ok")


def test_a_port_that_somebody_listens_on(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        wanted = config(tmp_path, listen=[f"127.0.0.1:{port}"])
        verdict = found(tmp_path, wanted)[f"tcp 127.0.0.1:{port}"]
        assert (verdict.state, verdict.remedy) == ("missing", "stop it, or change nar.soho.listen")
        assert found(tmp_path, wanted, ours=True)[f"tcp 127.0.0.1:{port}"].state == "ok"


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_h74_a_socket_in_the_leased_ranges(tmp_path: Path, kind: socket.SocketKind) -> None:
    with socket.socket(type=kind) as other:
        other.bind(("127.0.0.1", 0))
        if kind == socket.SOCK_STREAM:
            other.listen()
        port = other.getsockname()[1]
        wanted = config(tmp_path, ports=[f"{port - 2}-{port + 2}"])
        protocol = "tcp" if kind == socket.SOCK_STREAM else "udp"
        verdict = found(tmp_path, wanted)[f"{protocol} ports {port - 2}-{port + 2}"]
        assert verdict.state == "warn"
        assert f"{port}" in verdict.detail
        assert "not leased while" in verdict.detail


@pytest.mark.parametrize(
    ("addresses", "routes", "state", "words"),
    [
        (["203.0.113.5"], [], "ok", "on this host"),
        (["198.51.100.8/30"], [], "ok", "no interface has 198.51.100.8: it has to be routed"),
        (["203.0.113.5-203.0.113.6"], [LINK], "warn", "203.0.113.6 is on the link of lo, and no"),
    ],
)
def test_lent_addresses(
    tmp_path: Path, addresses: list[str], routes: list[Route], state: str, words: str
) -> None:
    wanted = config(tmp_path, addresses=addresses)
    (verdict,) = (
        one for name, one in found(tmp_path, wanted, routes).items() if name.startswith("lent ")
    )
    assert verdict.state == state
    assert verdict.detail.startswith(words)


@pytest.mark.parametrize(
    ("text", "state", "words"),
    [
        ("32768 60999", "ok", "nothing of it is leased"),
        ("20005 60999", "ok", "40990 are left; gateway run reserves the others"),
        ("20000 20500", "warn", "only 491 are left beside what is leased"),
    ],
)
def test_ports_of_own_connections(tmp_path: Path, text: str, state: str, words: str) -> None:
    host = view(tmp_path, port_range=text)
    verdict = found(tmp_path, config(tmp_path), host=host)["ports of own connections"]
    assert verdict.state == state
    assert words in verdict.detail


def test_another_translation_is_named(tmp_path: Path) -> None:
    host = view(tmp_path, chains=["ip nat POSTROUTING"])
    verdict = found(tmp_path, config(tmp_path), host=host)["other address translation"]
    assert (verdict.state, verdict.detail.split(":")[0]) == ("warn", "ip nat POSTROUTING")
    assert "let nar.NAME.masquerade do it" in verdict.remedy
    wanted = config(tmp_path, masquerade=["192.168.1.0/24"])
    verdict = found(tmp_path, wanted, host=host)["other address translation"]
    assert verdict.remedy == "remove it: nar.NAME.masquerade translates already"
    verdict = found(tmp_path, wanted, host=view(tmp_path, chains=None))["other address translation"]
    assert verdict.state == "warn"


def chain(**given: str) -> dict[str, object]:
    usual = {"family": "ip", "table": "nat", "name": "POST", "type": "nat", "hook": "postrouting"}
    return {"chain": {**usual, **given}}


def test_chains_that_translate_sources() -> None:
    items = [
        {"metainfo": {"version": "1.0"}},
        chain(),
        chain(table=TABLE),
        chain(family="ip6"),
        chain(family="inet", table="fw4", name="srcnat"),
        chain(hook="prerouting"),
        chain(type="filter"),
        {"chain": {"family": "ip", "table": "filter", "name": "plain"}},
    ]
    assert foreign_chains(json.dumps({"nftables": items})) == ["ip nat POST", "inet fw4 srcnat"]
    assert foreign_chains("") is None
    assert foreign_chains('{"nftables": 3}') is None


def test_the_old_iptables_counts_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ip_tables_names").write_text("filter\nnat\n")
    tool = tmp_path / "nft"
    tool.write_text("#!/bin/sh\necho '{\"nftables\": []}'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert nat_chains(tmp_path) == ["iptables-legacy nat"]
    tool.write_text("#!/bin/sh\nexit 1\n")
    assert nat_chains(tmp_path) is None
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    assert nat_chains(tmp_path) is None


def test_addresses_of_this_host(tmp_path: Path) -> None:
    assert address_of("lo") == IPv4Address("127.0.0.1")
    assert address_of("nosuch0") is None
    assert address_of("much-too-long-for-an-interface") is None
    assert IPv4Address("127.0.0.1") in addresses_in_use()
    assert addresses_in_use(tmp_path) == frozenset()


@pytest.mark.parametrize(
    ("trial", "states"),
    [
        (NarTrial(None, None), {"NAR servers": "ok", "NAR by L2TP": "ok"}),
        (NarTrial(None, "no L2TP"), {"NAR servers": "ok", "NAR by L2TP": "warn"}),
        (NarTrial("no queue\nat all", None), {"NAR servers": "missing"}),
    ],
)
def test_what_the_kernel_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trial: NarTrial, states: dict[str, str]
) -> None:
    monkeypatch.setattr(start_trial, "try_start", lambda _settings: trial)
    verdicts = by_name(nar_kernel_verdicts(config(tmp_path)))
    assert {name: one.state for name, one in verdicts.items()} == states
    assert all(one.remedy for one in verdicts.values() if one.state != "ok")
    assert list(nar_kernel_verdicts(Config())) == []


def test_l2tp_does_not_matter_to_who_does_not_want_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(start_trial, "try_start", lambda _settings: NarTrial(None, "no L2TP"))
    wanted = config(tmp_path, deliveries=["ip-ip", "translated"])
    assert list(by_name(nar_kernel_verdicts(wanted))) == ["NAR servers"]


def test_a_trial_that_cannot_be_made_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_namespace(_trial: object) -> object:
        raise TrialFailedError("no network namespace of its own: run as root")

    monkeypatch.setattr(start_trial, "in_scratch_namespace", no_namespace)
    (verdict,) = nar_kernel_verdicts(config(tmp_path))
    assert "run as root" in verdict.detail


def test_forwarding_is_needed(tmp_path: Path) -> None:
    wanted = config(tmp_path)
    (verdict,) = forwarding(wanted, tmp_path)
    assert (verdict.name, verdict.state) == ("forwarding IPv4", "ok")
