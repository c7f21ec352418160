"""``gateway mn check``: what it looks at, and the remedies it names."""

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from gateway.cli import exits, mn_check, mn_host_checks
from gateway.cli.commands import app
from gateway.cli.verdict import Verdict
from gateway.config.profile import Profile, load_profile
from gateway.dataplane.kernel.probe import Capability

PROFILE = """
[gateway]
address = "192.0.2.1"
[login]
method = "psk"
identity = "ann@example.com"
psk = "a secret of sufficient length"
"""
TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 100 1 0
   1: 0100007F:0277 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 101 1 0
   2: 0A00A8C0:9C40 01020304:01BB 01 00000000:00000000 00:00000000 00000000     0        0 102 1 0
"""
ROUTES = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"


class Release:
    """The kernel part that the check asks."""

    def __init__(self, *, left: bool = False, problem: str | None = None) -> None:
        self.left = left
        self.problem = problem

    def is_left(self) -> bool:
        return self.left

    def try_start(self) -> str | None:
        return self.problem


def capability(name: str, *, ok: bool = True) -> Capability:
    return Capability(name, ok, False, "cost of a gateway", "load it")


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Release:
    fake = Release()
    monkeypatch.setitem(sys.modules, "gateway.dataplane.kernel.node.release", fake)
    names = ("net-admin", "xfrm", "esp-in-tcp", "policy-rules")
    monkeypatch.setattr(
        "gateway.dataplane.kernel.probe.probe", lambda: [capability(name) for name in names]
    )
    fine = Verdict("host", "privileges", "ok")
    monkeypatch.setattr(mn_check, "privileges", lambda _: fine)
    monkeypatch.setattr(mn_check, "port_verdicts", lambda *, ours: iter(()))
    monkeypatch.setattr(mn_check, "other_tunnels", lambda: iter(()))
    monkeypatch.setattr(mn_check, "service_verdicts", lambda _: iter(()))
    monkeypatch.setattr(mn_check, "network_manager", lambda: iter(()))
    return fake


def profile_of(tmp_path: Path, more: str = "", text: str = PROFILE) -> Path:
    path = tmp_path / "profile.toml"
    path.write_text(f'{text}{more}\n[profile]\nruntime_dir = "{tmp_path}"\n')
    path.chmod(0o600)
    return path


def check(path: Path, *more: str) -> Result:
    return CliRunner().invoke(app, ["mn", "check", "--profile", str(path), *more])


def verdicts(path: Path) -> dict[str, dict[str, str]]:
    found = json.loads(check(path, "--json").stdout)
    return {one["name"]: one for one in found["verdicts"]}


def test_ready(tmp_path: Path, host: Release) -> None:
    found = check(profile_of(tmp_path))
    assert found.exit_code == exits.OK, found.stdout
    assert "Ready: 0 missing" in found.stdout
    assert "gateway 192.0.2.1, home agents by login" in found.stdout
    assert "esp-in-tcp" not in found.stdout


def test_a_wrong_profile(tmp_path: Path, host: Release) -> None:
    found = check(profile_of(tmp_path, "[detection]\nidle_after_s = -1"))
    assert found.exit_code == exits.BAD_CONFIG
    assert "detection.idle_after_s" in found.stdout
    assert "The configuration cannot be used" in found.stdout


def test_a_switch_that_was_left(tmp_path: Path, host: Release) -> None:
    host.left = True
    one = verdicts(profile_of(tmp_path))["kill switch"]
    assert one["state"] == "warn"
    assert "gateway mn release" in one["remedy"]


def test_a_kernel_that_cannot(tmp_path: Path, host: Release) -> None:
    host.problem = "no tun device\nmore"
    path = profile_of(tmp_path)
    assert check(path).exit_code == exits.FAILED
    one = verdicts(path)["mobile node"]
    assert one["detail"] == "cannot be started: no tun device"
    assert "CONFIG_TUN" in one["remedy"]


def test_costs_are_those_of_a_node(
    tmp_path: Path, host: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    lacking = [capability("policy-rules", ok=False), capability("esp-chacha20", ok=False)]
    monkeypatch.setattr("gateway.dataplane.kernel.probe.probe", lambda: lacking)
    found = verdicts(profile_of(tmp_path))
    assert found["policy-rules"]["state"] == "missing"
    assert found["policy-rules"]["detail"].startswith("no layers")
    assert found["esp-chacha20"]["state"] == "warn"


PORTABLE = ("portable-sockets", "portable-links", "portable-marks", "portable-rules")


@pytest.fixture
def without_ipsec(host: Release, monkeypatch: pytest.MonkeyPatch) -> Release:
    """A kernel without IPsec and tunnels, with what a forwarder needs; its trial."""
    lacking = [capability(name, ok=False) for name in ("xfrm", "xfrm-interface", "ipip")]
    there = [capability(name) for name in ("net-admin", "policy-rules", *PORTABLE)]
    monkeypatch.setattr("gateway.dataplane.kernel.probe.probe", lambda: lacking + there)
    trial = Release()
    monkeypatch.setitem(sys.modules, "gateway.dataplane.portable.node.release", trial)
    host.problem = "the kernel's is not tried"
    return trial


def test_without_ipsec_a_forwarder_is_taken(tmp_path: Path, without_ipsec: Release) -> None:
    found = check(profile_of(tmp_path))
    assert found.exit_code == exits.OK, found.stdout
    told = verdicts(profile_of(tmp_path))
    assert told["choice"]["detail"].startswith("portable: the kernel lacks xfrm, xfrm-interface")
    assert told["xfrm"]["state"] == "ok"
    assert told["xfrm"]["detail"] == "in user space"
    assert told["mobile node"]["state"] == "ok"


def test_a_forwarder_that_cannot_start(tmp_path: Path, without_ipsec: Release) -> None:
    without_ipsec.problem = "no raw sockets"
    one = verdicts(profile_of(tmp_path))["mobile node"]
    assert (one["state"], one["detail"]) == ("missing", "cannot be started: no raw sockets")
    assert "CONFIG_VETH" in one["remedy"]


def test_the_kernel_is_forced_where_it_cannot(tmp_path: Path, without_ipsec: Release) -> None:
    path = profile_of(tmp_path, '[dataplane]\nkind = "kernel"')
    assert check(path).exit_code == exits.FAILED
    one = verdicts(path)["choice"]
    assert one["state"] == "missing"
    assert 'kind = "auto"' in one["remedy"]


def test_warnings_of_the_profile_and_the_split_tunnel(tmp_path: Path, host: Release) -> None:
    more = '[detection]\nmonitor_interval_s = 50\n[network]\ndirect_networks = ["192.168.0.0/16"]'
    found = verdicts(profile_of(tmp_path, more))
    assert found["detection.monitor_interval_s"]["state"] == "warn"
    assert "192.168.0.0/16 in the clear" in found["split tunnel"]["detail"]


# -- of the host ----------------------------------------------------------------------------------


def loaded(tmp_path: Path, more: str = "") -> Profile:
    return load_profile(profile_of(tmp_path, more))


def services(tmp_path: Path, more: str = "") -> list[Verdict]:
    net = tmp_path / "root/proc/net"
    net.mkdir(parents=True, exist_ok=True)
    (net / "tcp").write_text(TCP)
    return list(mn_host_checks.service_verdicts(loaded(tmp_path, more), tmp_path / "root"))


def test_services_are_closed_unless_accepted(tmp_path: Path) -> None:
    (one,) = services(tmp_path)
    assert (one.name, one.state) == ("tcp 22", "ok")
    assert "closed while the node runs" in one.detail
    accept = '[network]\naccept_inside = ["tcp/22 from 10.0.0.0/8", "tcp/80 from 10.0.0.0/8"]'
    ssh, web = services(tmp_path, accept)
    assert "open to 10.0.0.0/8 inside" in ssh.detail
    assert (web.name, web.state) == ("tcp 80", "warn")
    (ssh,) = services(tmp_path, '[network]\naccept_inside = ["tcp/22 from 0.0.0.0/0"]')
    assert ssh.state == "warn"


def route(interface: str, destination: str, mask: str) -> str:
    return f"{interface}\t{destination}\t0100A8C0\t0003\t0\t0\t100\t{mask}\t0\t0\t0\n"


@pytest.mark.parametrize(
    ("lines", "missing"),
    [
        (route("eth0", "00000000", "00000000"), []),
        (route("wg0", "00000000", "00000000"), ["interface wg0"]),
        (
            route("tun0", "00000000", "00000080") + route("tun0", "00000080", "00000080"),
            ["interface tun0"],
        ),
        (route("tun0", "0000000A", "000000FF"), []),
        (route("mn0", "00000000", "00000000"), []),
    ],
)
def test_other_vpns(tmp_path: Path, lines: str, missing: list[str]) -> None:
    (tmp_path / "route").write_text(ROUTES + lines)
    found = list(mn_host_checks.other_tunnels(tmp_path))
    assert [one.name for one in found if one.state == "missing"] == missing
    assert found


def test_forwarding(tmp_path: Path) -> None:
    switch = tmp_path / "proc/sys/net/ipv4/ip_forward"
    assert mn_host_checks.forwarding_verdict(runs=False, root=tmp_path).state == "ok"
    switch.parent.mkdir(parents=True)
    switch.write_text("1\n")
    before = mn_host_checks.forwarding_verdict(runs=False, root=tmp_path)
    assert before.state == "warn"
    assert "turns it off" in before.detail
    during = mn_host_checks.forwarding_verdict(runs=True, root=tmp_path)
    assert "sysctl -w" in during.remedy


def test_network_manager(tmp_path: Path) -> None:
    assert not list(mn_host_checks.network_manager(tmp_path))
    (tmp_path / "run/NetworkManager").mkdir(parents=True)
    (one,) = mn_host_checks.network_manager(tmp_path)
    assert one.state == "warn"
    assert "unmanaged-devices=interface-name:mn*" in one.remedy
    folder = tmp_path / "etc/NetworkManager/conf.d"
    folder.mkdir(parents=True)
    (folder / "x.conf").write_text("[keyfile]\nunmanaged-devices=interface-name:mn*\n")
    (one,) = mn_host_checks.network_manager(tmp_path)
    assert one.state == "ok"


@pytest.mark.parametrize(
    ("how", "resolved", "state"),
    [
        ("auto", True, "ok"),
        ("auto", False, "ok"),
        ("resolvectl", False, "missing"),
        ("resolvectl", True, "ok"),
        ("resolv.conf", True, "ok"),
        ("off", False, "ok"),
    ],
)
def test_name_servers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, resolved: bool, state: str
) -> None:
    monkeypatch.setattr(mn_host_checks.shutil, "which", lambda _: "/usr/bin/resolvectl")
    if resolved:
        (tmp_path / "run/systemd/resolve").mkdir(parents=True)
    profile = loaded(tmp_path, f'[network]\ndns = "{how}"')
    assert mn_host_checks.name_servers(profile, tmp_path).state == state


def test_split_names_need_a_resolver_that_knows_them(tmp_path: Path) -> None:
    profile = loaded(tmp_path, '[network]\nsplit_domains = ["corp.example.com"]')
    found = mn_host_checks.name_servers(profile, tmp_path)
    assert found.state == "warn"
    assert "systemd-resolved" in found.remedy


@pytest.mark.parametrize(
    ("left", "runs", "state"),
    [(True, True, "ok"), (False, True, "missing"), (True, False, "warn"), (False, False, "ok")],
)
def test_kill_switch(left: bool, runs: bool, state: str) -> None:
    found = mn_host_checks.switch_verdict(left=left, runs=runs, kill_switch="always")
    assert found.state == state
    assert bool(found.remedy) == (state != "ok")


def test_a_name_that_leads_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object) -> list[object]:
        raise OSError(-2, "Name or service not known")

    path = profile_of(tmp_path, text=PROFILE.replace("192.0.2.1", "gw.example.com"))
    profile = load_profile(path)
    monkeypatch.setattr(mn_host_checks.socket, "getaddrinfo", unknown)
    (one,) = mn_host_checks.gateway_name(profile)
    assert one.state == "missing"
    found = [(2, 2, 17, "", ("192.0.2.9", 0))]
    monkeypatch.setattr(mn_host_checks.socket, "getaddrinfo", lambda *_: found)
    (one,) = mn_host_checks.gateway_name(profile)
    assert (one.state, one.detail) == ("ok", "192.0.2.9")
