"""What a host must have for mobility agents, judged from files and sockets."""

import os
import socket
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from gateway.cli import mobility_host_checks
from gateway.cli.mobility_host_checks import (
    kernel_verdicts,
    mobility_verdicts,
    outside_verdict,
    outside_verdicts,
    reverse_path,
    tcp_loose,
)
from gateway.cli.verdict import Verdict
from gateway.config import Config
from gateway.dataplane.kernel.mobility import outside_trial, start_trial
from gateway.dataplane.kernel.mobility.outside_trial import OutsideTrial
from gateway.dataplane.kernel.routes_in_use import Route
from gateway.dataplane.kernel.scratch import TrialFailedError, in_scratch_namespace

AGENT = {"address": "127.0.0.1", "placement": "inside", "home_networks": ["roaming"]}
ROAMING = IPv4Network("10.20.0.0/24")


def config(tmp_path: Path, **tables: object) -> Config:
    given: dict[str, object] = {
        "dataplane": {"outside_interfaces": ["eth0"]},
        "home_networks": {"roaming": {"network": str(ROAMING)}},
        "home_agents": {"office": AGENT},
        "mobility": {"state_dir": str(tmp_path)},
    }
    return Config.model_validate({**given, **tables})


def by_name(verdicts: Iterable[Verdict]) -> dict[str, Verdict]:
    return {verdict.name: verdict for verdict in verdicts}


def test_nothing_without_agents() -> None:
    assert list(mobility_verdicts(Config(), [], ours=False)) == []
    assert list(outside_verdicts(Config())) == []


def test_all_is_well(tmp_path: Path) -> None:
    found = by_name(mobility_verdicts(config(tmp_path), [], ours=True))
    assert found["udp 0.0.0.0:434"].state == "ok"
    assert found["address 127.0.0.1"].state == "ok"
    assert found[f"folder {tmp_path}"].state == "ok"
    assert found["home network roaming 10.20.0.0/24"].detail == "virtual"


def test_addresses_links_and_folders_that_are_not_there(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    wanted = config(
        tmp_path,
        home_networks={"roaming": {"network": str(ROAMING), "interface": "nosuch0"}},
        home_agents={"office": {**AGENT, "address": "192.0.2.77"}},
        foreign_agents={
            "hall": {"care_of_address": "192.0.2.78", "interface": "nosuch1"},
            "vpn": {"care_of_address": "127.0.0.1", "through_vpn": True},
        },
        mobility={"state_dir": str(file / "state")},
    )
    found = by_name(mobility_verdicts(wanted, [], ours=True))
    lacking = {name: verdict for name, verdict in found.items() if verdict.state == "missing"}
    assert set(lacking) == {
        "address 192.0.2.77",
        "address 192.0.2.78",
        "interface nosuch0",
        "interface nosuch1",
        f"folder {file / 'state'}",
        "home network roaming 10.20.0.0/24",
    }
    assert "change home_agents.office.address" in lacking["address 192.0.2.77"].remedy
    assert "correct foreign_agents.hall.interface" in lacking["interface nosuch1"].remedy
    assert "install -d -m 700" in lacking[f"folder {file / 'state'}"].remedy
    assert "lo" in lacking["interface nosuch0"].remedy


def test_relays_need_their_public_address() -> None:
    relay = {"public_address": "192.0.2.79", "public_port": 4434, "home_agent": "10.1.0.8"}
    found = list(
        mobility_verdicts(Config.model_validate({"mobility": {"relays": [relay]}}), [], ours=True)
    )
    assert [one.name for one in found] == ["address 192.0.2.79"]
    assert "change mobility.relays[0].public_address" in found[0].remedy


def test_an_address_is_told_once(tmp_path: Path) -> None:
    listening = config(tmp_path, ike={"listen": ["127.0.0.1"]})
    names = [one.name for one in mobility_verdicts(listening, [], ours=True)]
    assert "address 127.0.0.1" not in names


def test_port_in_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        monkeypatch.setattr(mobility_host_checks, "MIP_PORT", port)
        found = by_name(mobility_verdicts(config(tmp_path), [], ours=False))
        assert found[f"udp 0.0.0.0:{port}"].state == "missing"
        assert "in use by" in found[f"udp 0.0.0.0:{port}"].detail
        assert found[f"udp 0.0.0.0:{port}"].remedy.startswith("stop it: ")


def test_home_networks_and_routes(tmp_path: Path) -> None:
    on_lo = [Route(ROAMING, "lo")]
    virtual = by_name(mobility_verdicts(config(tmp_path), on_lo, ours=True))
    verdict = virtual["home network roaming 10.20.0.0/24"]
    assert verdict.state == "warn"
    assert 'set home_networks.roaming.interface = "lo"' in verdict.remedy
    physical = config(
        tmp_path, home_networks={"roaming": {"network": str(ROAMING), "interface": "lo"}}
    )
    found = by_name(mobility_verdicts(physical, on_lo, ours=True))
    assert found["home network roaming 10.20.0.0/24"].detail == "on lo"


def filters(root: Path, **values: str) -> Path:
    for name, value in values.items():
        folder = root / "net/ipv4/conf" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "rp_filter").write_text(f"{value}\n")
    return root


@pytest.mark.parametrize(
    ("every", "eth0", "strict"),
    [("0", "0", False), ("0", "1", True), ("1", "0", True), ("1", "2", False), ("2", "1", False)],
)
def test_reverse_path_filters(tmp_path: Path, every: str, eth0: str, strict: bool) -> None:
    root = filters(tmp_path, all=every, eth0=eth0, eth1="1", lo="1", default="1")
    outside = {"office": {**AGENT, "placement": "outside"}}
    (verdict,) = reverse_path(config(tmp_path, home_agents=outside), root)
    assert (verdict.state == "warn") is strict
    if strict:
        assert 'write "net.ipv4.conf.eth0.rp_filter = 2" into /etc/sysctl.d/' in verdict.remedy
        assert "eth1" not in verdict.remedy


def test_tunnels_of_inside_agents_come_by_any_interface(tmp_path: Path) -> None:
    root = filters(
        tmp_path, **{"all": "0", "eth0": "1", "eth1": "1", "eth2": "0", "mob-in-gre": "1"}
    )
    (verdict,) = reverse_path(config(tmp_path), root)
    assert verdict.detail.startswith("strict (1) on eth0, eth1: ")
    assert '"net.ipv4.conf.eth1.rp_filter = 2" into' in verdict.remedy
    assert list(reverse_path(Config(), root)) == []


def test_without_offload_strict_filters_drop_everything(tmp_path: Path) -> None:
    root = filters(tmp_path, all="0", eth0="1")
    (some,) = reverse_path(config(tmp_path), root)
    assert "zero-overhead packets, and those of tunnels with minimal" in some.detail
    slow = config(tmp_path, mobility={"state_dir": str(tmp_path), "offload": False})
    (everything,) = reverse_path(slow, root)
    assert "drops everything" in everything.detail


@pytest.mark.parametrize(("value", "state"), [("0", "warn"), ("1", "ok"), (None, "ok")])
def test_sessions_that_moved(tmp_path: Path, value: str | None, state: str) -> None:
    if value is not None:
        folder = tmp_path / "net/netfilter"
        folder.mkdir(parents=True)
        (folder / "nf_conntrack_tcp_loose").write_text(f"{value}\n")
    (verdict,) = tcp_loose(tmp_path)
    assert verdict.state == state
    assert ("nf_conntrack_tcp_loose=1" in verdict.remedy) is (state == "warn")


def test_the_folder_may_still_have_to_be_made(tmp_path: Path) -> None:
    wanted = config(tmp_path, mobility={"state_dir": str(tmp_path / "a" / "b")})
    found = by_name(mobility_verdicts(wanted, [], ours=True))
    assert found[f"folder {tmp_path / 'a' / 'b'}"].detail == "to be made"


@pytest.mark.parametrize(
    ("problem", "state"), [(None, "ok"), ("mob-udp: use a kernel with x\nand more", "missing")]
)
def test_what_the_kernel_can_do_is_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, problem: str | None, state: str
) -> None:
    monkeypatch.setattr(start_trial, "try_start", lambda _settings: problem)
    (verdict,) = kernel_verdicts(config(tmp_path))
    assert verdict.state == state
    assert (verdict.detail == "cannot be started: mob-udp: use a kernel with x") is bool(problem)
    assert list(kernel_verdicts(Config())) == []


HOME_AGENT = IPv4Address("10.20.0.1")


@pytest.mark.parametrize(
    ("trial", "state", "said"),
    [
        (OutsideTrial(HOME_AGENT, (), reachable=True), "ok", "tried: dropped from eth0, ppp0"),
        (OutsideTrial(HOME_AGENT, ("ppp0",), reachable=True), "missing", "from outside, by ppp0"),
        (OutsideTrial(HOME_AGENT, (), reachable=False), "missing", "do not even arrive from ins"),
    ],
)
def test_what_a_trial_means(trial: OutsideTrial, state: str, said: str) -> None:
    verdict = outside_verdict(trial, ("eth0", "ppp0"))
    assert verdict.state == state
    assert said in verdict.detail


def test_the_trial_needs_outside_interfaces(tmp_path: Path) -> None:
    (verdict,) = outside_verdicts(config(tmp_path, dataplane={}))
    assert verdict.state == "warn"
    assert "dataplane.outside_interfaces" in verdict.remedy


def test_a_trial_that_cannot_be_made_is_no_proof(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_settings: object, _wordings: object) -> list[OutsideTrial]:
        raise TrialFailedError("no network namespace of its own: run as root\nmore")

    monkeypatch.setattr(outside_trial, "try_from_outside", fails)
    (verdict,) = outside_verdicts(config(tmp_path))
    assert verdict.state == "warn"
    assert verdict.detail == "could not be tried: no network namespace of its own: run as root"


def test_the_trial_is_made_for_every_inside_home_agent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        outside_trial,
        "try_from_outside",
        lambda s, _: [OutsideTrial(one, (), reachable=True) for one in s.inside_home_agents],
    )
    others = {"state_dir": str(tmp_path), "inside_home_agents": ["10.1.0.7"]}
    found = list(outside_verdicts(config(tmp_path, mobility=others)))
    assert [one.name for one in found] == [
        "registrations to 127.0.0.1",
        "registrations to 10.1.0.7",
    ]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_scratch_namespace_is_empty_and_leaves_nothing() -> None:
    before = socket.if_nameindex()
    found = in_scratch_namespace(lambda: [name for _, name in socket.if_nameindex()])
    assert isinstance(found, list)
    assert "lo" in found
    assert "eth0" not in found
    assert socket.if_nameindex() == before


def test_a_trial_that_fails_says_why() -> None:
    def trial() -> object:
        raise ValueError("a reason")

    with pytest.raises(TrialFailedError, match=r"a reason|run as root"):
        in_scratch_namespace(trial)
